//! What goes wrong in a run, and when: a function of its seed alone.

use std::time::Duration;

use turmoil::Sim;

use crate::hosts::{COORDINATORS, STORE, WORKERS};

/// When the first failure may come: the cluster serves by then.
const FIRST: u64 = 3_000;

/// Failures of a run.
const FAILURES: usize = 12;

/// Tries to find hosts that nothing else is done to at the time.
const TRIES: usize = 16;

/// Latency of a message where nothing is wrong, at most.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);

/// How something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The host's process dies, and another one starts. A store has lost everything.
    Crash,
    /// No message comes to the host or from it.
    Isolate,
    /// No message comes from one host to the other, nor back.
    Partition,
    /// Messages come from the second to the first, and not back.
    OneWay,
    /// Messages are held back, and come all at once.
    Hold,
    /// Messages are lost everywhere.
    Loss,
    /// Messages are slow everywhere.
    Slow,
}

const KINDS: [Kind; 7] = [
    Kind::Crash,
    Kind::Isolate,
    Kind::Partition,
    Kind::OneWay,
    Kind::Hold,
    Kind::Loss,
    Kind::Slow,
];

/// One failure, in milliseconds of simulated time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    kind: Kind,
    hosts: [&'static str; 2],
    begins: u64,
    ends: u64,
}

/// Draws numbers: splitmix64, as its authors publish it.
struct Draws(u64);

impl Draws {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn millis(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(usize::try_from(to - from).unwrap()) as u64
    }
}

/// Every host that can fail.
fn servers() -> Vec<&'static str> {
    let all = [STORE].into_iter().chain(COORDINATORS).chain(WORKERS);
    all.collect()
}

/// Draws the failures of a run, by the time they begin.
pub(crate) fn draw(seed: u64) -> Vec<Failure> {
    let (mut draws, servers) = (Draws(seed), servers());
    let (mut failures, mut begins): (Vec<Failure>, u64) = (Vec::new(), FIRST);
    for _ in 0..FAILURES {
        begins += draws.millis(500, 4_000);
        let ends = begins + draws.millis(500, 11_000);
        let fitting = (0..TRIES).find_map(|_| {
            let failure = Failure {
                kind: draws.of(&KINDS),
                hosts: [draws.of(&servers), draws.of(&servers)],
                begins,
                ends,
            };
            let clashes = failures.iter().any(|other| other.clashes(&failure));
            let is_pair = failure.hosts[0] != failure.hosts[1];
            (is_pair && !clashes).then_some(failure)
        });
        failures.extend(fitting);
    }
    failures
}

impl Failure {
    /// Whether both cannot be told apart when one ends: turmoil knows one state of a link.
    fn clashes(&self, other: &Self) -> bool {
        let is_global = |failure: &Self| matches!(failure.kind, Kind::Loss | Kind::Slow);
        if self.ends < other.begins {
            return false;
        }
        if is_global(self) || is_global(other) {
            return self.kind == other.kind;
        }
        other.hosts.iter().any(|host| self.hosts.contains(host))
    }

    /// When it is over.
    pub(crate) fn ends(&self) -> Duration {
        Duration::from_millis(self.ends)
    }

    /// When it begins.
    pub(crate) fn begins(&self) -> Duration {
        Duration::from_millis(self.begins)
    }

    /// Lets it begin.
    pub(crate) fn begin(&self, sim: &mut Sim<'_>) {
        let [host, other] = self.hosts;
        match self.kind {
            Kind::Crash => sim.crash(host),
            Kind::Isolate => each_link(host, |peer| sim.partition(host, peer)),
            Kind::Partition => sim.partition(host, other),
            Kind::OneWay => sim.partition_oneway(host, other),
            Kind::Hold => sim.hold(host, other),
            Kind::Loss => sim.set_fail_rate(0.003),
            Kind::Slow => sim.set_max_message_latency(LATENCY * 20),
        }
    }

    /// Ends it.
    pub(crate) fn end(&self, sim: &mut Sim<'_>) {
        let [host, other] = self.hosts;
        match self.kind {
            Kind::Crash => sim.bounce(host),
            Kind::Isolate => each_link(host, |peer| sim.repair(host, peer)),
            Kind::Partition => sim.repair(host, other),
            Kind::OneWay => sim.repair_oneway(host, other),
            Kind::Hold => sim.release(host, other),
            Kind::Loss => sim.set_fail_rate(0.0),
            Kind::Slow => sim.set_max_message_latency(LATENCY),
        }
    }
}

/// Calls for every other server; clients keep their way to a host that has lost the others.
fn each_link(host: &str, call: impl FnMut(&'static str)) {
    let others = servers().into_iter().filter(|other| *other != host);
    others.for_each(call);
}
