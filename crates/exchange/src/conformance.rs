//! What every exchange must do, whatever carries its frames.
//!
//! A transport's test calls [`all`] with a way to make groups. Each case runs every rank of a group
//! as a thread, through several steps and layers, and compares bit by bit with what follows from
//! the inputs of all ranks. Outputs are marked by expert, so that one in the wrong place is seen.

use std::thread;
use std::time::{Duration, Instant};

use kernels::{Dispatch, Exchange, ExchangeError, Moment, Received};
use spec::{Epoch, ExpertId, Fence, Rank, StepNumber};

/// Within what time ranks must notice that a peer is gone or the lead has given up.
const NOTICE_LIMIT: Duration = Duration::from_secs(5);

/// A group of ranks under test.
pub trait Group: Sync {
    /// The epoch it is in.
    fn fence(&self) -> Fence;

    /// Hands over the exchanges, in rank order. Called once.
    fn exchanges(&mut self) -> Vec<Box<dyn Exchange>>;

    /// Whom a rank waits for at this moment.
    fn waiting_for(&self, rank: Rank) -> Option<Rank>;

    /// Gives the epoch up on all ranks.
    fn abort(&self);

    /// Makes the process of a rank vanish, and returns the ranks that went with it.
    fn kill(&self, rank: Rank) -> Vec<Rank>;
}

/// Runs every case.
///
/// # Panics
///
/// If a case fails, naming it.
pub fn all<G: Group>(make_group: impl Fn(usize) -> G) {
    for case in CASES {
        let mut group = make_group(case.ranks);
        let fence = group.fence();
        let mut exchanges = group.exchanges();
        assert_eq!(
            exchanges.len(),
            case.ranks,
            "{}: one exchange for each rank",
            case.name
        );
        thread::scope(|scope| {
            for (rank, exchange) in (0..).map(Rank).zip(&mut exchanges) {
                scope.spawn(move || {
                    for (step, layer) in case.schedule() {
                        case.run_layer(rank, Moment { fence, step, layer }, &mut **exchange);
                    }
                });
            }
        });
        drop(exchanges);
    }
    wakes_all_when_the_lead_gives_up(make_group(3));
    names_a_lost_peer(make_group(3));
    refuses_a_moment_of_another_epoch(make_group(2));
    refuses_a_moment_that_has_been(1, make_group(1));
    refuses_a_moment_that_has_been(2, make_group(2));
}

/// One shape of group, model and batch.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    ranks: usize,
    experts: usize,
    hidden: usize,
    k: usize,
    rows: Rows,
    steps: u64,
    layers: u32,
}

/// How many rows each rank has, and where they go.
#[derive(Clone, Copy, Debug)]
enum Rows {
    /// 0 to 6 by rank and step, anywhere.
    Mixed,
    /// This many on every rank, anywhere.
    Each(usize),
    /// Some on the first rank only, anywhere.
    First,
    /// Some on every rank, to the experts of the last.
    ToLast,
    /// None at all.
    None,
}

const BASE: Case = Case {
    name: "mixed rows",
    ranks: 3,
    experts: 8,
    hidden: 16,
    k: 2,
    rows: Rows::Mixed,
    steps: 3,
    layers: 3,
};

const CASES: [Case; 14] = [
    BASE,
    Case {
        name: "one rank",
        ranks: 1,
        ..BASE
    },
    Case {
        name: "two ranks, wide rows",
        ranks: 2,
        hidden: 2880,
        k: 4,
        ..BASE
    },
    Case {
        name: "many steps",
        ranks: 2,
        steps: 50,
        ..BASE
    },
    Case {
        name: "experts do not divide evenly",
        experts: 7,
        k: 3,
        ..BASE
    },
    Case {
        name: "more ranks than experts",
        ranks: 5,
        experts: 3,
        ..BASE
    },
    Case {
        name: "one expert",
        ranks: 4,
        experts: 1,
        k: 1,
        ..BASE
    },
    Case {
        name: "rows of one number",
        hidden: 1,
        k: 1,
        ..BASE
    },
    Case {
        name: "every expert of every row",
        experts: 4,
        k: 4,
        ..BASE
    },
    Case {
        name: "one row each",
        ranks: 4,
        rows: Rows::Each(1),
        ..BASE
    },
    Case {
        name: "many rows",
        ranks: 4,
        hidden: 65,
        k: 4,
        rows: Rows::Each(150),
        ..BASE
    },
    Case {
        name: "only the first rank has rows",
        rows: Rows::First,
        ..BASE
    },
    Case {
        name: "all rows go to one rank",
        experts: 9,
        k: 3,
        rows: Rows::ToLast,
        ..BASE
    },
    Case {
        name: "no rows at all",
        ranks: 4,
        rows: Rows::None,
        ..BASE
    },
];

/// What one rank puts into a dispatch.
struct Input {
    rows: Vec<f32>,
    experts: Vec<u32>,
}

impl Case {
    fn schedule(&self) -> impl Iterator<Item = (StepNumber, u32)> + use<> {
        let layers = self.layers;
        (1..=self.steps).flat_map(move |step| (0..layers).map(move |l| (StepNumber(step), l)))
    }

    /// Spreads the experts over the ranks, differently in each layer; the last rank always has the
    /// same ones, so that [`Rows::ToLast`] can aim at them.
    fn owners(&self, layer: u32) -> Vec<Rank> {
        let owner = |expert: usize| match (self.rows, expert < self.k) {
            (Rows::ToLast, true) => self.ranks - 1,
            _ => (expert + layer as usize) % self.ranks,
        };
        (0..self.experts)
            .map(|expert| Rank(owner(expert) as u32))
            .collect()
    }

    fn input(&self, rank: Rank, moment: Moment) -> Input {
        let mut random = Random(
            u64::from(rank.0) << 40 | moment.step.0 << 20 | u64::from(moment.layer) << 8 | 1,
        );
        let rows = match self.rows {
            Rows::Mixed => random.below(7),
            Rows::Each(rows) => rows,
            Rows::First if rank == Rank(0) => 5,
            Rows::ToLast => 4,
            Rows::First | Rows::None => 0,
        };
        let aim = if matches!(self.rows, Rows::ToLast) {
            self.k
        } else {
            self.experts
        };
        let mut experts = Vec::new();
        for _ in 0..rows {
            let mut all: Vec<u32> = (0..aim as u32).collect();
            experts.extend((0..self.k).map(|_| all.swap_remove(random.below(all.len()))));
        }
        let mut value = || match random.below(64) {
            0 => f32::NAN,
            1 => -0.0,
            n => n as f32 + random.below(1 << 20) as f32 / (1 << 20) as f32,
        };
        Input {
            rows: (0..rows * self.hidden).map(|_| value()).collect(),
            experts,
        }
    }

    /// What must come to `rank`, by the contract's words: by sending rank, then in its order.
    fn expected(&self, rank: Rank, moment: Moment) -> Received {
        let owners = self.owners(moment.layer);
        let mut expected = Received::default();
        for from in (0..self.ranks as u32).map(Rank) {
            let input = self.input(from, moment);
            let before = expected.work.len();
            for (row, chosen) in input
                .rows
                .chunks_exact(self.hidden)
                .zip(input.experts.chunks_exact(self.k))
            {
                let here: Vec<u32> = chosen
                    .iter()
                    .copied()
                    .filter(|&e| owners[e as usize] == rank)
                    .collect();
                let index = (expected.rows.len() / self.hidden) as u32;
                let pair = |&expert: &u32| kernels::Work {
                    expert: ExpertId(expert),
                    row: index,
                };
                expected.work.extend(here.iter().map(pair));
                if !here.is_empty() {
                    expected.rows.extend(row);
                }
            }
            expected.counts.push(expected.work.len() - before);
        }
        expected
    }

    /// One dispatch and combine of one rank, with all checks.
    fn run_layer(&self, rank: Rank, moment: Moment, exchange: &mut dyn Exchange) {
        let what = format!("{}: rank {rank} at {moment}", self.name);
        let input = self.input(rank, moment);
        let received = self.dispatch(rank, moment, exchange);
        let received = received.unwrap_or_else(|error| panic!("{what}: {error}"));
        let expected = self.expected(rank, moment);
        assert_eq!(bits(&received.rows), bits(&expected.rows), "{what}: rows");
        assert_eq!(received.work, expected.work, "{what}: work");
        assert_eq!(received.counts, expected.counts, "{what}: counts");

        let row = |row: u32| &received.rows[row as usize * self.hidden..][..self.hidden];
        let outputs = received
            .work
            .iter()
            .flat_map(|work| marked(row(work.row), work.expert.0));
        let outputs: Vec<f32> = outputs.collect();
        let returned = exchange.combine(&received, &outputs);
        let returned = returned.unwrap_or_else(|error| panic!("{what}: {error}"));
        let pairs = input
            .experts
            .iter()
            .enumerate()
            .flat_map(|(place, &expert)| {
                marked(
                    &input.rows[place / self.k * self.hidden..][..self.hidden],
                    expert,
                )
            });
        assert_eq!(
            bits(&returned.outputs),
            bits(&pairs.collect::<Vec<_>>()),
            "{what}: outputs"
        );
    }

    fn dispatch(
        &self,
        rank: Rank,
        moment: Moment,
        exchange: &mut dyn Exchange,
    ) -> Result<Received, ExchangeError> {
        let Input { rows, experts } = self.input(rank, moment);
        exchange.dispatch(Dispatch {
            moment,
            hidden: self.hidden,
            k: self.k,
            rows: &rows,
            experts: &experts,
            owners: &self.owners(moment.layer),
        })
    }
}

/// The output of a pair: the row, with the expert in it.
fn marked(row: &[f32], expert: u32) -> impl Iterator<Item = f32> + '_ {
    row.iter().map(move |value| value * (expert + 1) as f32)
}

/// Bits, so that NaN and the sign of zero count.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn wakes_all_when_the_lead_gives_up<G: Group>(mut group: G) {
    // The last rank never comes: the others wait for it until the lead gives up.
    let (mut exchanges, moment) = (group.exchanges(), first_moment(&group));
    let _absent = exchanges.pop();
    let absent = Rank(exchanges.len() as u32);
    let errors = errors(&group, &mut exchanges, moment, || group.abort());
    for error in errors {
        assert!(
            matches!(error, ExchangeError::Aborted { peer, moment: at, .. } if peer == absent && at == moment),
            "aborted while waiting for rank {absent}, but got: {error}"
        );
    }
    // It stays so, until the next epoch.
    for (rank, exchange) in (0..).map(Rank).zip(&mut exchanges) {
        let later = Moment {
            step: StepNumber(moment.step.0 + 1),
            ..moment
        };
        let error = BASE
            .dispatch(rank, later, &mut **exchange)
            .expect_err("the epoch is over");
        assert!(
            matches!(error, ExchangeError::Aborted { .. }),
            "aborted, but got: {error}"
        );
    }
}

fn names_a_lost_peer<G: Group>(mut group: G) {
    let (mut exchanges, moment) = (group.exchanges(), first_moment(&group));
    let _absent = exchanges.pop();
    let absent = Rank(exchanges.len() as u32);
    let mut gone = Vec::new();
    let errors = errors(&group, &mut exchanges, moment, || gone = group.kill(absent));
    for (rank, error) in (0..)
        .map(Rank)
        .zip(errors)
        .filter(|(rank, _)| !gone.contains(rank))
    {
        assert!(
            matches!(&error, ExchangeError::PeerLost { peer, .. } if gone.contains(peer)),
            "rank {rank} names one of {gone:?} as lost, but got: {error}"
        );
    }
}

/// Lets ranks dispatch while the last is absent, does `act` as soon as all wait, and returns what
/// they got.
fn errors<G: Group>(
    group: &G,
    exchanges: &mut [Box<dyn Exchange>],
    moment: Moment,
    act: impl FnOnce(),
) -> Vec<ExchangeError> {
    let ranks = (0..exchanges.len() as u32).map(Rank);
    thread::scope(|scope| {
        let threads: Vec<_> = ranks
            .clone()
            .zip(exchanges)
            .map(|(rank, exchange)| {
                scope.spawn(move || BASE.dispatch(rank, moment, &mut **exchange))
            })
            .collect();
        let absent = Some(Rank(threads.len() as u32));
        for rank in ranks {
            let since = Instant::now();
            while group.waiting_for(rank) != absent {
                assert!(
                    since.elapsed() < NOTICE_LIMIT,
                    "rank {rank} waits for the absent one"
                );
                thread::yield_now();
            }
        }
        let since = Instant::now();
        act();
        let outcomes = threads
            .into_iter()
            .map(|thread| thread.join().expect("no rank panics"));
        let errors = outcomes.map(|got| got.expect_err("an exchange without one rank fails"));
        let errors = errors.collect();
        assert!(
            since.elapsed() < NOTICE_LIMIT,
            "noticed after {:?}",
            since.elapsed()
        );
        errors
    })
}

fn refuses_a_moment_of_another_epoch<G: Group>(mut group: G) {
    let (mut exchanges, moment) = (group.exchanges(), first_moment(&group));
    let other = Epoch(moment.fence.epoch.0.wrapping_sub(1));
    let old = Moment {
        fence: Fence {
            epoch: other,
            ..moment.fence
        },
        ..moment
    };
    let error = BASE
        .dispatch(Rank(0), old, &mut *exchanges[0])
        .expect_err("of another epoch");
    assert!(
        matches!(error, ExchangeError::BadFrame { .. }),
        "refused, but got: {error}"
    );
}

fn refuses_a_moment_that_has_been<G: Group>(ranks: usize, mut group: G) {
    let case = Case { ranks, ..BASE };
    let (mut exchanges, moment) = (group.exchanges(), first_moment(&group));
    thread::scope(|scope| {
        for (rank, exchange) in (0..).map(Rank).zip(&mut exchanges) {
            scope.spawn(move || case.run_layer(rank, moment, &mut **exchange));
        }
    });
    let error = case
        .dispatch(Rank(0), moment, &mut *exchanges[0])
        .expect_err("has been");
    assert!(
        matches!(error, ExchangeError::BadFrame { .. }),
        "refused, but got: {error}"
    );
}

fn first_moment<G: Group>(group: &G) -> Moment {
    Moment {
        fence: group.fence(),
        step: StepNumber(1),
        layer: 0,
    }
}

/// SplitMix64: the same inputs in every run. Steele, Lea and Flood, OOPSLA 2014.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}
