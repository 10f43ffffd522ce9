//! Random walks of several candidates over one store whose answers come late or never.

use std::time::Duration;

use cluster::{Ask, Candidate, Heard, LeadRecord, Revision, Seat};
use spec::Term;

const SEEDS: u64 = 1000;
const MOVES: usize = 600;
const CANDIDATES: usize = 3;

/// Pseudorandom numbers, the same for a seed: SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// The two keys, as a real store keeps them.
#[derive(Default)]
struct Keys {
    seat: Seat,
    revision: Revision,
}

impl Keys {
    fn bid(&mut self, record: &LeadRecord, lease: i64, lead: Revision, last: Revision) {
        let revision = |key: &Option<(LeadRecord, Revision)>| key.as_ref().map_or(0, |key| key.1);
        if revision(&self.seat.lead) != lead || revision(&self.seat.last) != last {
            return;
        }
        self.revision += 1;
        let written = Some((record.clone(), self.revision));
        self.seat = Seat {
            lead: written.clone(),
            lease,
            last: written,
        };
    }

    fn leave(&mut self, lead: Revision) {
        if self.seat.lead.as_ref().is_some_and(|key| key.1 == lead) {
            self.empty();
        }
    }

    fn empty(&mut self) {
        self.revision += 1;
        (self.seat.lead, self.seat.lease) = (None, 0);
    }
}

struct World {
    candidates: Vec<Candidate>,
    /// The lease of each, as the store knows it.
    leases: Vec<i64>,
    /// What each has been told of the seat last, and whether it reaches the store.
    told: Vec<Revision>,
    reach: Vec<bool>,
    /// Transactions on their way to the store, in no order.
    bids: Vec<(usize, Ask)>,
    keys: Keys,
    /// Who led in which term.
    terms: Vec<(Term, usize)>,
    /// The highest term that any worker has obeyed.
    obeyed: Term,
    dice: Dice,
    now: Duration,
    next_lease: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let candidate = |index: usize| {
            let me = LeadRecord {
                name: format!("c{index}"),
                incarnation: 1,
                address: format!("http://c{index}:1"),
                term: Term(0),
            };
            Candidate::new(me, Duration::from_millis(200 * index as u64))
        };
        Self {
            candidates: (0..CANDIDATES).map(candidate).collect(),
            leases: vec![0; CANDIDATES],
            told: vec![-1; CANDIDATES],
            reach: vec![true; CANDIDATES],
            bids: Vec::new(),
            keys: Keys::default(),
            terms: Vec::new(),
            obeyed: Term(0),
            dice: Dice(seed),
            now: Duration::ZERO,
            next_lease: 1,
        }
    }

    fn tell(&mut self, who: usize, heard: Heard) {
        let asks = self.candidates[who].on(heard, self.now);
        for ask in asks {
            match ask {
                Ask::Bid { .. } | Ask::Leave { .. } => self.bids.push((who, ask)),
                Ask::Lead(term) => self.lead(who, term),
                Ask::StepDown { .. } => assert_eq!(self.candidates[who].leading(), None),
            }
        }
    }

    fn lead(&mut self, who: usize, term: Term) {
        let other = self.terms.iter().find(|(taken, _)| *taken == term);
        assert!(
            other.is_none_or(|(_, other)| *other == who),
            "c{who} leads in {term:?}, as {other:?} did"
        );
        self.terms.push((term, who));
        assert_eq!(self.candidates[who].leading(), Some(term));
        self.obeyed = self.obeyed.max(term);
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.dice.below(400) as u64);
        let who = self.dice.below(CANDIDATES);
        match self.dice.below(12) {
            0..=3 => self.look(who),
            4..=6 => self.decide(),
            7 => self.lose_lease(who),
            8 => self.cut(who),
            9 if self.dice.below(4) == 0 => {
                let above = Term(self.obeyed.0 + self.dice.below(3) as u64);
                self.tell(who, Heard::Outranked(above));
            }
            _ => self.tell(who, Heard::Tick),
        }
    }

    /// A candidate that reaches the store gets a lease and sees the seat.
    fn look(&mut self, who: usize) {
        if !self.reach[who] {
            return;
        }
        if self.leases[who] == 0 {
            self.leases[who] = self.next_lease;
            self.next_lease += 1;
            self.tell(who, Heard::Lease(Some(self.leases[who])));
        }
        self.told[who] = self.keys.revision;
        self.tell(who, Heard::Seat(self.keys.seat.clone()));
    }

    /// A transaction arrives, sometimes twice, and its answer sometimes not.
    fn decide(&mut self) {
        if self.bids.is_empty() {
            return;
        }
        let index = self.dice.below(self.bids.len());
        let (who, ask) = match self.dice.below(5) {
            0 => self.bids[index].clone(),
            _ => self.bids.swap_remove(index),
        };
        match &ask {
            Ask::Bid {
                record,
                lease,
                lead,
                last,
            } if *lease == self.leases[who] => self.keys.bid(record, *lease, *lead, *last),
            Ask::Leave { lead } => self.keys.leave(*lead),
            _ => {}
        }
        if self.reach[who] && self.dice.below(3) > 0 {
            self.tell(who, Heard::Decided);
        }
    }

    /// The store lets a lease run out; its holder may hear of it later, or never.
    fn lose_lease(&mut self, who: usize) {
        let lease = std::mem::take(&mut self.leases[who]);
        if lease != 0 && self.keys.seat.lease == lease {
            self.keys.empty();
        }
        if self.dice.below(2) == 0 {
            self.tell(who, Heard::Lease(None));
        }
    }

    fn cut(&mut self, who: usize) {
        self.reach[who] = !self.reach[who];
        if !self.reach[who] {
            self.tell(who, Heard::Disconnected);
        }
    }

    /// Once nothing fails any more exactly one leads, and all see the same.
    fn settle(&mut self) {
        self.bids.clear();
        for round in 0..40 {
            self.now += Duration::from_secs(1);
            for who in 0..CANDIDATES {
                self.reach[who] = true;
                self.look(who);
                self.tell(who, Heard::Tick);
                while let Some((who, ask)) = self.bids.pop() {
                    if let Ask::Bid {
                        record,
                        lease,
                        lead,
                        last,
                    } = &ask
                    {
                        self.keys.bid(record, *lease, *lead, *last);
                    }
                    self.tell(who, Heard::Decided);
                }
            }
            let leading: Vec<Option<Term>> =
                self.candidates.iter().map(Candidate::leading).collect();
            let seat = self.keys.seat.lead.as_ref().map(|(record, _)| record.term);
            if round >= 30 {
                let terms: Vec<Term> = leading.iter().copied().flatten().collect();
                assert_eq!(terms, seat.into_iter().collect::<Vec<_>>(), "{leading:?}");
            }
        }
    }
}

#[test]
fn no_term_has_two_leads_and_in_the_end_there_is_one() {
    let mut led = 0;
    for seed in 0..SEEDS {
        let walk = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..MOVES {
                world.step();
            }
            world.settle();
            world.terms.len()
        });
        assert!(walk.is_ok(), "the walk of seed {seed} broke a rule");
        led += walk.unwrap_or_default();
    }
    assert!(led > 4 * SEEDS as usize, "hardly anybody ever leads: {led}");
}
