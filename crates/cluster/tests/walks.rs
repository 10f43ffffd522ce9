//! Random walks of the leader: whatever comes, in whatever order, its rules hold.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::{Action, EpochPlan, Event, Leader, LeaderConfig, Registration};
use spec::{Fence, Rank, Term};

const SEEDS: u64 = 500;
const MOVES: usize = 400;
const NUM_RANKS: usize = 4;
/// Which start of a coordinator leads.
const LEAD: u64 = 7;

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

/// A name and incarnation.
type Start = (String, u64);

struct World {
    leader: Leader,
    dice: Dice,
    now: Duration,
    /// Live members: incarnation and ranks.
    live: BTreeMap<String, (u64, usize)>,
    /// Starts that obeyed this leader: its term then, and their ranks.
    obeyed: BTreeMap<Start, (Term, usize)>,
    last: Fence,
    plan: Option<EpochPlan>,
    /// What members of the plan have said of their KV.
    said: BTreeMap<String, Vec<bool>>,
    serving: bool,
    /// Who held each rank in the last epoch that served.
    served: Vec<Option<Start>>,
    incarnations: u64,
    /// A term that the leader has to get above before it may plan.
    outranked: Option<Term>,
    /// The leader's term, also while an epoch of a lower one goes on.
    term: Term,
}

impl World {
    fn new(seed: u64) -> Self {
        let config = LeaderConfig {
            lead: LEAD,
            num_ranks: NUM_RANKS,
            num_layers: 2,
            num_experts: 8,
            weights: "w".into(),
            tokenizer: "t".into(),
            numerics: "exact".into(),
            wire: 1,
        };
        Self {
            leader: Leader::new(config, Term(1)),
            dice: Dice(seed),
            now: Duration::ZERO,
            live: BTreeMap::new(),
            obeyed: BTreeMap::new(),
            last: Fence::default(),
            plan: None,
            said: BTreeMap::new(),
            serving: false,
            served: vec![None; NUM_RANKS],
            incarnations: 0,
            outranked: None,
            term: Term(1),
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.dice.below(300) as u64);
        let actions = match self.dice.below(11) {
            0 | 1 => self.register(),
            2 => self.leave(),
            3..=6 => self.prepared(),
            7 => self.prepare_failed(),
            8 => self.step_failed(),
            9 => self.raised(),
            _ => self.leader.on(Event::Tick, self.now),
        };
        self.obey(actions);
    }

    fn register(&mut self) -> Vec<Action> {
        let name = ["a", "b", "c", "d", "e"][self.dice.below(5)].to_owned();
        let again = self.live.get(&name).copied();
        let start = again.unwrap_or_else(|| {
            self.incarnations += 1;
            (self.incarnations, 1 + self.dice.below(3))
        });
        // Sometimes the very process that was away for a while, which obeyed us before.
        let mut known = self.obeyed.iter().filter(|((known, _), _)| *known == name);
        let back = known.next_back();
        let back = back.map(|((_, incarnation), (_, num_ranks))| (*incarnation, *num_ranks));
        let (incarnation, num_ranks) = match back {
            Some(back) if again.is_none() && self.dice.below(2) == 0 => back,
            _ => start,
        };
        let term = self.obeyed.get(&(name.clone(), incarnation));
        let term = term.map_or(Term(0), |(term, _)| *term);
        let foreign = self.dice.below(40) == 0;
        let registration = Registration {
            name: name.clone(),
            incarnation,
            address: format!("http://{name}:1"),
            wire: (1, 1),
            build: "test".into(),
            weights: "w".into(),
            tokenizer: "t".into(),
            numerics: "exact".into(),
            num_ranks,
            term: if foreign { Term(self.term.0 + 3) } else { term },
            lead: if foreign || term == Term(0) { 0 } else { LEAD },
            stepped: None,
            draining: false,
        };
        let actions = self.leader.register(registration, self.now).unwrap();
        self.live.insert(name, (incarnation, num_ranks));
        let raises = actions
            .iter()
            .any(|action| matches!(action, Action::Raise { .. }));
        assert_eq!(raises, foreign, "only who obeyed another moves the term");
        actions
    }

    fn leave(&mut self) -> Vec<Action> {
        let Some(name) = self.any_live() else {
            return Vec::new();
        };
        let (incarnation, _) = self.live.remove(&name).unwrap();
        self.leader.on(Event::Left { name, incarnation }, self.now)
    }

    fn any_live(&mut self) -> Option<String> {
        let names: Vec<&String> = self.live.keys().collect();
        let index = self.dice.below(names.len().max(1));
        names.get(index).map(|name| (*name).clone())
    }

    /// A member of the plan is ready; it claims whatever it likes of its KV.
    fn prepared(&mut self) -> Vec<Action> {
        let Some(plan) = self.plan.clone() else {
            return Vec::new();
        };
        let index = self.dice.below(plan.members.len());
        let (member, ranks) = &plan.members[index];
        let kept_kv: Vec<bool> = ranks.iter().map(|_| self.dice.below(2) == 0).collect();
        self.said.insert(member.name.clone(), kept_kv.clone());
        let event = Event::Prepared {
            fence: plan.fence,
            name: member.name.clone(),
            kept_kv,
        };
        self.leader.on(event, self.now)
    }

    fn prepare_failed(&mut self) -> Vec<Action> {
        let Some(name) = self.any_live() else {
            return Vec::new();
        };
        let event = Event::PrepareFailed {
            fence: self.last,
            name,
            why: "disk".into(),
        };
        self.leader.on(event, self.now)
    }

    fn step_failed(&mut self) -> Vec<Action> {
        let silent = (self.dice.below(2) == 0).then(|| Rank(self.dice.below(NUM_RANKS + 1) as u32));
        let event = Event::StepFailed {
            fence: self.last,
            why: "reset".into(),
            silent,
        };
        self.leader.on(event, self.now)
    }

    /// The store has given the leader the term it asked for.
    fn raised(&mut self) -> Vec<Action> {
        let Some(above) = self.outranked.take() else {
            return Vec::new();
        };
        self.term = Term(above.0 + 1);
        self.leader.on(Event::Raised(self.term), self.now)
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare(plan) => self.check_plan(plan),
                Action::Serve { fence, kept_kv } => self.check_serve(fence, &kept_kv),
                Action::Stop { fence, .. } => {
                    assert_eq!(fence, self.last);
                    self.plan = None;
                    self.serving = false;
                }
                Action::Evict {
                    name, incarnation, ..
                } => assert_eq!(self.live.remove(&name).unwrap().0, incarnation),
                Action::Raise { above } => self.outranked = self.outranked.max(Some(above)),
            }
        }
        assert_eq!(self.leader.status().serving, self.serving);
    }

    fn check_plan(&mut self, plan: EpochPlan) {
        assert_eq!(self.outranked, None, "a worker has obeyed a higher term");
        assert!(plan.fence > self.last, "fences ascend");
        let mut ranks = BTreeSet::new();
        for (member, own) in &plan.members {
            assert_eq!(self.live[&member.name], (member.incarnation, own.len()));
            assert!(
                own.iter().all(|rank| ranks.insert(*rank)),
                "one holder a rank"
            );
            let start = (member.name.clone(), member.incarnation);
            self.obeyed.insert(start, (plan.fence.term, own.len()));
        }
        let all: Vec<Rank> = (0..NUM_RANKS as u32).map(Rank).collect();
        assert_eq!(ranks.into_iter().collect::<Vec<_>>(), all);
        self.last = plan.fence;
        self.said.clear();
        self.plan = Some(plan);
    }

    fn check_serve(&mut self, fence: Fence, kept_kv: &[bool]) {
        let plan = self.plan.clone().unwrap();
        assert_eq!(fence, plan.fence);
        for (member, ranks) in &plan.members {
            let holder = Some((member.name.clone(), member.incarnation));
            let said = &self.said[&member.name];
            for (rank, said) in ranks.iter().zip(said) {
                let same = self.served[rank.index()] == holder;
                assert_eq!(kept_kv[rank.index()], *said && same, "{rank}");
                self.served[rank.index()] = holder.clone();
            }
        }
        self.serving = true;
    }

    /// Whether some of the live members fill the group, by trying all of them.
    fn could_serve(&self) -> bool {
        let sizes: Vec<usize> = self.live.values().map(|(_, ranks)| *ranks).collect();
        (0..1_usize << sizes.len()).any(|chosen| {
            let picked = sizes
                .iter()
                .enumerate()
                .filter(|(i, _)| chosen >> i & 1 == 1);
            picked.map(|(_, size)| size).sum::<usize>() == NUM_RANKS
        })
    }

    /// Once nothing fails any more the group serves, if it can.
    fn settle(&mut self) {
        self.now += Duration::from_secs(10);
        let actions = self.raised();
        self.obey(actions);
        let actions = self.leader.on(Event::Tick, self.now);
        self.obey(actions);
        for (member, ranks) in self
            .plan
            .clone()
            .map(|plan| plan.members)
            .unwrap_or_default()
        {
            let event = Event::Prepared {
                fence: self.last,
                name: member.name.clone(),
                kept_kv: vec![true; ranks.len()],
            };
            self.said.insert(member.name, vec![true; ranks.len()]);
            let actions = self.leader.on(event, self.now);
            self.obey(actions);
        }
        assert_eq!(self.leader.status().serving, self.could_serve());
    }
}

#[test]
fn whatever_comes_the_rules_hold_and_a_group_that_can_serve_does() {
    let mut served = 0;
    for seed in 0..SEEDS {
        let walk = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            let mut served = 0;
            for number in 0..MOVES {
                world.step();
                served += usize::from(world.serving);
                if number % 50 == 49 {
                    world.settle();
                }
            }
            served
        });
        assert!(walk.is_ok(), "the walk of seed {seed} broke a rule");
        served += walk.unwrap_or_default();
    }
    assert!(
        served > MOVES * SEEDS as usize / 20,
        "the walks hardly ever serve: {served}"
    );
}
