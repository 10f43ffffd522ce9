//! What a worker is told at its start.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use checkpoint::ModelName;
use kernels_cpu::{Numerics, Threads};
use sockets::Dialer;
use store::Store;
use telemetry::WorkerTelemetry;

use crate::address::address_fault;
use crate::error::{Error, Result};
use crate::limits::{MAX_RANKS, MAX_THREADS_PER_RANK};

/// A worker's configuration. Nothing is chosen silently; see [`Config::check`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the worker, unique within the cluster; keeps its ranks over restarts.
    pub name: String,
    /// The model: a directory of the published layout, or `synth:…`.
    pub model: ModelName,
    /// Fingerprint of the model's tokenizer; empty if it brings none.
    pub tokenizer_fingerprint: String,
    /// Ranks it holds, at most [`MAX_RANKS`].
    pub ranks: NonZeroU32,
    /// Threads that compute, shared out evenly among the ranks: at most [`MAX_THREADS_PER_RANK`] for each.
    pub threads: Threads,
    /// How its ranks compute.
    pub numerics: Numerics,
    /// Where packed weights are kept from one start to the next, and shared with other processes; absent,
    /// they are packed at each start.
    pub packed_cache: Option<PathBuf>,
    /// The membership store.
    pub store: Store,
    /// Connects to leads and other workers.
    pub dialer: Dialer,
    /// The group it belongs to.
    pub group: String,
    /// Where other members reach this worker, `http://HOST:PORT`; absent, the listener's own
    /// address or, where that is on all interfaces, the name of the machine.
    pub advertise: Option<String>,
    /// Where operators reach its probes and metrics, `http://HOST:PORT` or with `https`; absent where
    /// there are none, or nobody knows.
    pub admin: Option<String>,
    /// Bytes that the KV of all its ranks together may take.
    pub max_kv_bytes: NonZeroU64,
    /// How long it waits for its lead to release it, once it was told to end.
    pub drain: Duration,
    /// Whether rows for workers of this machine travel as those for others do.
    pub tcp_exchange: bool,
    /// Whether operators see the rows of every single expert.
    pub expert_metrics: bool,
    /// What shows operators the worker; absent, nobody looks.
    pub telemetry: Option<WorkerTelemetry>,
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the first field that cannot be used.
    pub fn check(&self) -> Result<()> {
        let refuse = |field, why| Err(Error::Config { field, why });
        if let Some(why) = records::name_fault(&self.name) {
            return refuse("name", why);
        }
        if self.ranks.get() > MAX_RANKS {
            return refuse("ranks", format!("{} is more than {MAX_RANKS}", self.ranks));
        }
        self.threads_of_ranks()?;
        if let Some(why) = records::name_fault(&self.group) {
            return refuse("group", why);
        }
        if let Some(why) = self.advertise.as_deref().and_then(address_fault) {
            return refuse("advertise", why);
        }
        if let Some(why) = self.admin.as_deref().and_then(records::shown_fault) {
            return refuse("advertise_admin", why);
        }
        Ok(())
    }

    /// Returns the threads of each rank.
    pub(crate) fn threads_of_ranks(&self) -> Result<Vec<Threads>> {
        let refuse = |field, why| Err(Error::Config { field, why });
        let Some(parts) = self.threads.parts(self.ranks.get() as usize) else {
            let (threads, ranks) = (&self.threads, self.ranks);
            let why = format!("{threads} are not as many for each of {ranks} ranks");
            return refuse("cores", why);
        };
        match parts.iter().map(Threads::count).max() {
            Some(threads) if threads > MAX_THREADS_PER_RANK => {
                let why = format!("{threads} for a rank is more than {MAX_THREADS_PER_RANK}");
                refuse("threads", why)
            }
            _ => Ok(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn config() -> Config {
        Config {
            name: "worker-0".into(),
            model: ModelName::parse("synth:tiny").unwrap(),
            tokenizer_fingerprint: String::new(),
            ranks: NonZeroU32::MIN,
            threads: Threads::Any(NonZeroUsize::MIN),
            numerics: Numerics::Exact,
            packed_cache: None,
            store: Store::new(store::Config {
                endpoints: vec!["127.0.0.1:2379".into()],
                cluster: "test".into(),
                dialer: Dialer::default(),
            })
            .unwrap(),
            dialer: Dialer::default(),
            group: "0".into(),
            advertise: None,
            admin: None,
            max_kv_bytes: NonZeroU64::new(1 << 30).unwrap(),
            drain: Duration::from_secs(10),
            tcp_exchange: true,
            expert_metrics: false,
            telemetry: None,
        }
    }

    fn refused(change: impl FnOnce(&mut Config)) -> &'static str {
        let mut config = config();
        change(&mut config);
        match config.check().unwrap_err() {
            Error::Config { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn names_the_field_that_cannot_be_used() {
        config().check().unwrap();
        assert_eq!(refused(|config| config.name = String::new()), "name");
        assert_eq!(refused(|config| config.name = "a b".into()), "name");
        assert_eq!(
            refused(|config| config.ranks = NonZeroU32::new(65).unwrap()),
            "ranks"
        );
        let many = NonZeroUsize::new(1 << 20).unwrap();
        assert_eq!(
            refused(|config| config.threads = Threads::Any(many)),
            "threads"
        );
        assert_eq!(
            refused(|config| {
                config.threads = Threads::On("0-2".parse().unwrap());
                config.ranks = NonZeroU32::new(2).unwrap();
            }),
            "cores"
        );
        assert_eq!(refused(|config| config.group = "a/b".into()), "group");
        assert_eq!(
            refused(|config| config.advertise = Some("x".into())),
            "advertise"
        );
        assert_eq!(
            refused(|config| config.admin = Some("http://ops:pw@gw:9100".into())),
            "advertise_admin"
        );
        // The lead and operators could not name it.
        assert_eq!(refused(|config| config.name = "a/b".into()), "name");
        let mut shown = config();
        shown.admin = Some("https://gw:9100".into());
        shown.check().unwrap();
    }
}
