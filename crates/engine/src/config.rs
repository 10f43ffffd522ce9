//! The numbers an engine is made with, and what must hold between them.

use spec::KvPlan;

/// Most steps that may be in flight at a time.
pub const MAX_IN_FLIGHT: usize = 4;

/// What an engine needs to know about its group and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Ranks in the group.
    pub num_ranks: usize,
    /// KV memory of each rank.
    pub kv: KvPlan,
    /// Positions a row of a sliding layer sees, its own among them.
    pub sliding_window: usize,
    /// Most rows a rank computes in one step. At least `kv.num_slots`, so that every sequence that
    /// decodes gets its row in every step and a prompt always gets one beside them.
    pub max_step_rows: usize,
    /// Most steps in flight, `1..=4`.
    pub max_in_flight: usize,
    /// Most sequences that wait for their first admission.
    pub max_waiting: usize,
    /// Most tokens of a sequence, prompt and output together.
    pub max_context: usize,
    /// Distance of the positions whose window blocks the prefix cache prefers to keep; a multiple
    /// of `kv.block_size`.
    pub checkpoint_interval: usize,
}

/// A number of the configuration that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("engine configuration: {field}: {why}")]
pub struct ConfigError {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl EngineConfig {
    /// Checks every number, and those that depend on one another.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`] found.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, why: String| Err(ConfigError { field, why });
        let positive = [
            ("num_ranks", self.num_ranks),
            ("kv.block_size", self.kv.block_size),
            ("kv.full_blocks", self.kv.full_blocks),
            ("kv.num_slots", self.kv.num_slots),
            ("sliding_window", self.sliding_window),
            ("max_waiting", self.max_waiting),
            ("max_context", self.max_context),
            ("checkpoint_interval", self.checkpoint_interval),
        ];
        // Half the range leaves room for sums of two such numbers in the wire's `u32`.
        let most = u32::MAX as usize / 2;
        let all = positive.into_iter().chain([
            ("kv.window_blocks", self.kv.window_blocks),
            ("max_step_rows", self.max_step_rows),
        ]);
        for (field, value) in all {
            if value > most {
                return refuse(field, format!("{value} is more than {most}"));
            }
        }
        for (field, value) in positive {
            if value == 0 {
                return refuse(field, "0 leaves nothing to run with".into());
            }
        }
        if !(1..=MAX_IN_FLIGHT).contains(&self.max_in_flight) {
            let why = format!("{} is not within 1 to {MAX_IN_FLIGHT}", self.max_in_flight);
            return refuse("max_in_flight", why);
        }
        if self.max_step_rows < self.kv.num_slots {
            let (rows, slots) = (self.max_step_rows, self.kv.num_slots);
            let why = format!("{rows} rows do not give each of {slots} slots one");
            return refuse("max_step_rows", why);
        }
        let needed = self.window_need();
        if self.kv.window_blocks < needed {
            let have = self.kv.window_blocks;
            let why = format!("{have} blocks do not hold one window, which takes {needed}");
            return refuse("kv.window_blocks", why);
        }
        if !self.checkpoint_interval.is_multiple_of(self.kv.block_size) {
            let (interval, size) = (self.checkpoint_interval, self.kv.block_size);
            let why = format!("{interval} is not a multiple of the block size {size}");
            return refuse("checkpoint_interval", why);
        }
        Ok(())
    }

    /// Returns how many blocks hold that many positions.
    pub(crate) fn blocks_for(&self, positions: usize) -> usize {
        positions.div_ceil(self.kv.block_size)
    }

    /// Returns how many window blocks a row needs at worst, its own among them.
    pub(crate) fn window_need(&self) -> usize {
        (self.sliding_window - 1).div_ceil(self.kv.block_size) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EngineConfig {
        EngineConfig {
            num_ranks: 2,
            kv: KvPlan {
                block_size: 16,
                full_blocks: 64,
                window_blocks: 9,
                num_slots: 4,
            },
            sliding_window: 128,
            max_step_rows: 64,
            max_in_flight: 2,
            max_waiting: 16,
            max_context: 1024,
            checkpoint_interval: 1024,
        }
    }

    #[test]
    fn accepts_a_window_pool_of_exactly_one_window() {
        config().check().unwrap();
    }

    #[test]
    fn names_the_field_that_cannot_be() {
        type Break = fn(&mut EngineConfig);
        let breaks: [(&str, Break); 7] = [
            ("num_ranks", |c| c.num_ranks = 0),
            ("kv.block_size", |c| c.kv.block_size = 0),
            ("kv.window_blocks", |c| c.kv.window_blocks = 8),
            ("max_step_rows", |c| c.max_step_rows = 3),
            ("max_in_flight", |c| c.max_in_flight = 5),
            ("max_context", |c| c.max_context = usize::MAX),
            ("checkpoint_interval", |c| c.checkpoint_interval = 1000),
        ];
        for (field, change) in breaks {
            let mut broken = config();
            change(&mut broken);
            assert_eq!(broken.check().unwrap_err().field, field);
        }
    }
}
