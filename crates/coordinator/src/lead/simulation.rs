//! A whole cluster under made-up failures, in one thread and with a clock of its own.
//!
//! What is simulated is the real control plane: candidates, leaders, step loops with their engines and
//! ledgers, and what workers keep of epochs and sequences. Processes crash, stand still and drain, links
//! are cut, messages are late or come twice, the store goes or forgets everything. Ranks compute nothing,
//! but check all they are told, and say what an undisturbed run says ([`engine::stub`]). After every
//! event the [`rules`] hold; in the end, once nothing fails any more, every request has ended.

mod client;
mod coordinator;
mod counts;
mod dice;
mod faults;
mod lead;
mod net;
mod orders;
mod packet;
mod peers;
mod replay;
mod rules;
mod run;
mod store;
mod views;
mod worker;

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::stub::Model;

use self::client::Client;
use self::coordinator::Coordinator;
use self::counts::{Counts, Thing};
use self::dice::Dice;
use self::faults::{Fault, TURMOIL};
use self::net::{Event, Net, Node};
use self::replay::{replay, seeds};
use self::rules::Rules;
use self::store::Store;
use self::worker::Worker;

const SEEDS: u64 = 1000;
const VOCABULARY: u32 = 50;
const MAX_CONTEXT: usize = 80;
const MODEL: Model = Model {
    block_size: 4,
    window: 8,
    vocab: VOCABULARY,
};

/// Most ranks of a group.
const MAX_RANKS: usize = 4;

const COORDINATORS: usize = 3;
const CLIENTS: usize = 6;

/// The ranks of a group, and those of each worker.
const GROUPS: [(usize, &[usize]); 5] = [
    (2, &[1, 1, 1]),
    (2, &[1, 1]),
    (2, &[1, 1, 1, 1]),
    (3, &[1, 2, 1]),
    (4, &[2, 2, 2]),
];

/// How long generations wait for their group to serve: as long as by default, or much shorter.
const HOLDS: [Duration; 3] = [
    Duration::from_secs(120),
    Duration::from_secs(120),
    Duration::from_secs(4),
];

/// How long workers have in the end to hear of the last that has ended.
const REST: Duration = Duration::from_secs(6);

/// How long everything may take once nothing fails any more.
const CALM: Duration = Duration::from_secs(200);

/// What all leads of a group know of it.
#[derive(Clone, Copy)]
struct Group {
    num_ranks: usize,
    /// How long a generation waits for the group to serve.
    hold: Duration,
}

struct World {
    net: Net,
    rules: Rules,
    store: Store,
    setting: Group,
    coordinators: Vec<Coordinator>,
    workers: Vec<Worker>,
    clients: Vec<Client>,
    /// Longest pause between two faults, in milliseconds.
    calm: u64,
    /// Until when something is wrong with nodes.
    troubled: BTreeMap<Node, Duration>,
    /// Whether it tells what happens.
    is_told: bool,
}

impl World {
    fn new(seed: u64, is_told: bool) -> Self {
        let mut net = Net::new(Dice::new(seed));
        let (num_ranks, sizes) = GROUPS[net.dice.below(GROUPS.len())];
        let hold = HOLDS[net.dice.below(HOLDS.len())];
        let setting = Group { num_ranks, hold };
        let coordinator = |index| Coordinator::new(index, 1, setting);
        let mut coordinators: Vec<_> = (0..COORDINATORS).map(coordinator).collect();
        let workers = sizes.iter().enumerate();
        let workers = workers.map(|(index, ranks)| Worker::new(index, 1, *ranks, MODEL));
        let mut workers: Vec<_> = workers.collect();
        let mut store = Store::default();
        net.start(Node::Store, 1);
        store.begin(&mut net);
        coordinators.iter_mut().for_each(|one| one.begin(&mut net));
        workers.iter_mut().for_each(|one| one.begin(&mut net));
        let clients = (0..CLIENTS).map(|index| Client::new(&mut net, index, (0, 30_000)));
        let clients = clients.collect();
        net.after(Duration::from_secs(2), Event::Fault(Fault::Next));
        let calm = [1000, 3000, 8000, 20_000][net.dice.below(4)];
        Self {
            calm,
            net,
            rules: Rules::default(),
            store,
            setting,
            troubled: BTreeMap::new(),
            coordinators,
            workers,
            clients,
            is_told,
        }
    }

    /// Runs it to its end; returns how often things happened.
    fn run(mut self) -> Counts {
        let (mut is_calm, mut over) = (false, None);
        while over.is_none_or(|over| self.net.now < over + REST) {
            let event = self.net.next().expect("something always happens");
            if !is_calm && self.net.now >= TURMOIL {
                is_calm = true;
                self.settle();
            }
            let waits: Vec<String> = match self.net.now > TURMOIL + CALM {
                true => self.unfinished().map(Client::waits).collect(),
                false => Vec::new(),
            };
            assert!(waits.is_empty(), "not ended: {waits:#?}");
            self.tell(&event);
            self.play(event);
            self.look_at_seats();
            if is_calm && over.is_none() && self.unfinished().next().is_none() {
                over = Some(self.net.now);
            }
        }
        self.search();
        for _ in 0..self.net.late_bids {
            self.rules.note(Thing::LateBid);
        }
        self.rules.counts
    }

    fn play(&mut self, event: Event) {
        let (net, rules) = (&mut self.net, &mut self.rules);
        match event {
            Event::Packet(port, packet) => match net.node(port) {
                Node::Store => self.store.hear(net, port, packet),
                Node::Coordinator(index) => self.coordinators[index].hear(net, rules, port, packet),
                Node::Client(index) => self.clients[index].hear(net, rules, port, packet),
                node @ Node::Worker(index) => {
                    if self.workers[index].hear(net, rules, port, packet) {
                        self.crash(node, 5000);
                    }
                }
            },
            Event::Closed(port) | Event::Expired(port) => match net.node(port) {
                Node::Store => {}
                Node::Coordinator(index) => self.coordinators[index].closed(net, rules, port),
                Node::Worker(index) => self.workers[index].closed(net, rules, port),
                Node::Client(index) => self.clients[index].closed(net, port),
            },
            Event::Tick(node) => {
                let is_over = match node {
                    Node::Store => {
                        self.store.tick(net);
                        false
                    }
                    Node::Coordinator(index) => self.coordinators[index].tick(net, rules),
                    Node::Worker(index) => self.workers[index].tick(net),
                    Node::Client(index) => {
                        self.clients[index].tick(net, rules);
                        false
                    }
                };
                if is_over {
                    self.crash(node, 5000);
                }
            }
            Event::Done(index, number) => self.workers[index].done(net, rules, number),
            Event::Fault(fault) => self.fault(fault),
        }
    }
}

#[test]
fn a_thousand_clusters_keep_the_rules_whatever_fails() {
    let (first, end) = seeds();
    let is_told = end == first + 1;
    let next = AtomicU64::new(first);
    let all = Mutex::new((Counts::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let run = catch_unwind(|| World::new(seed, is_told).run());
                    let mut all = all.lock().expect("nobody panics with it");
                    match run {
                        Ok(counts) => all.0 += counts,
                        Err(_) => {
                            eprintln!("seed {seed} broke a rule; replay it: {}", replay(seed));
                            all.1.push(seed);
                        }
                    }
                }
            });
        }
    });
    let (counts, broken) = all.into_inner().expect("nobody panics with it");
    println!("{counts:?}");
    let replay: Vec<String> = broken.iter().map(|seed| replay(*seed)).collect();
    assert!(
        broken.is_empty(),
        "seeds {broken:?} broke a rule; replay each alone, to be told all that happens:\n{}",
        replay.join("\n")
    );
    if (first, end) == (0, SEEDS) {
        let rare = counts.rare();
        assert!(rare.is_empty(), "hardly anything happens: {rare:#?}");
    }
}
