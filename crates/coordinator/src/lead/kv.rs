//! How a rank's KV memory is divided between the two pools.

use spec::{Attention, Geometry, KvPlan};

/// Positions in a block. A hit of the prefix cache is a whole number of blocks.
pub(crate) const BLOCK_SIZE: usize = 16;

/// Bytes of one KV element: exact numerics keep `f32`.
const ELEMENT: usize = 4;

/// Most sequences of a rank that anybody has a use for; also what a worker accepts.
const MAX_SLOTS: usize = 65_536;

/// Window blocks a sequence may keep in the prefix cache beside its window.
const CACHED_WINDOWS: usize = 1;

/// Divides `budget` bytes: room for as many sequences' windows as half of it holds, at most
/// `max_sequences`, and the rest for the full-attention layers.
///
/// # Errors
///
/// In words, with numbers, if not even one sequence of `max_step_rows` fits.
pub(crate) fn plan_kv(
    geometry: &Geometry,
    budget: u64,
    max_sequences: usize,
    max_step_rows: usize,
) -> Result<KvPlan, String> {
    let row = 2 * geometry.kv_width() * ELEMENT * BLOCK_SIZE;
    let full_block = row * geometry.count(Attention::Full);
    let window_block = row * geometry.count(Attention::Sliding);
    let budget = usize::try_from(budget).unwrap_or(usize::MAX);

    // A window that does not start at a block's edge touches one block more; another is written.
    let window = geometry.sliding_window.div_ceil(BLOCK_SIZE) + 2;
    let chunk = max_step_rows.div_ceil(BLOCK_SIZE) + 1;
    let windows = |slots: usize| slots * window * (1 + CACHED_WINDOWS) + chunk;
    let fitting = |slots: &usize| windows(*slots) * window_block <= budget / 2;
    // The engine gives every sequence that decodes its row in every step.
    let num_slots = (1..=max_sequences.min(max_step_rows).min(MAX_SLOTS))
        .rev()
        .find(fitting);
    let too_small = |needed: usize| {
        format!(
            "a KV budget of {budget} bytes a rank is too small: one sequence needs {needed} bytes; \
             raise --kv-memory"
        )
    };
    let smallest = 2 * windows(1) * window_block + chunk * full_block;
    let num_slots = num_slots.ok_or_else(|| too_small(smallest))?;
    let window_blocks = windows(num_slots);

    let longest = geometry.max_positions.div_ceil(BLOCK_SIZE);
    let rest = budget - window_blocks * window_block;
    // A model without full-attention layers still has a table of them, of no bytes.
    let affordable = rest.checked_div(full_block).unwrap_or(usize::MAX);
    let full_blocks = affordable.min(num_slots * longest);
    if full_blocks < chunk {
        return Err(too_small(smallest));
    }
    Ok(KvPlan {
        block_size: BLOCK_SIZE,
        full_blocks,
        window_blocks,
        num_slots,
    })
}

#[cfg(test)]
mod tests {
    use spec::Rope;

    use super::*;

    fn geometry() -> Geometry {
        Geometry {
            layers: vec![
                Attention::Sliding,
                Attention::Full,
                Attention::Sliding,
                Attention::Full,
            ],
            hidden: 2880,
            intermediate: 2880,
            num_experts: 32,
            experts_per_token: 4,
            num_heads: 64,
            num_kv_heads: 8,
            head_dim: 64,
            vocab_size: 201_088,
            sliding_window: 128,
            max_positions: 131_072,
            rope: Rope::GPT_OSS,
            rms_norm_eps: 1e-5,
            swiglu_limit: 7.0,
        }
    }

    #[test]
    fn stays_within_the_budget_and_gives_most_of_it_to_long_contexts() {
        let geometry = geometry();
        for budget in [64 << 20, 512 << 20, 4 << 30_u64] {
            let plan = plan_kv(&geometry, budget, 64, 256).unwrap();
            let row = 2 * 512 * 4 * 2;
            let bytes = (plan.full_blocks + plan.window_blocks) * BLOCK_SIZE * row;
            assert!(bytes as u64 <= budget, "{plan:?}");
            assert!(plan.full_blocks > plan.window_blocks / 2, "{plan:?}");
        }
    }

    #[test]
    fn says_how_much_one_sequence_needs() {
        let error = plan_kv(&geometry(), 1 << 20, 64, 256).unwrap_err();
        assert!(
            error.contains("--kv-memory") && error.contains("1048576"),
            "{error}"
        );
    }
}
