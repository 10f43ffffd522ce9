//! What goes wrong, when, and for how long.

use std::time::Duration;

use super::World;
use super::client::Client;
use super::coordinator::Coordinator;
use super::net::{Event, Net, Node};
use super::worker::Worker;

/// Faults come until then.
pub(super) const TURMOIL: Duration = Duration::from_secs(45);

#[derive(Debug)]
pub(super) enum Fault {
    /// The next fault is drawn.
    Next,
    Restart(Node),
    Repair(Node, Node),
}

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Next => {
                if self.net.now < TURMOIL {
                    self.draw();
                    let pause = self.net.dice.millis(100, self.calm);
                    self.net.after(pause, Event::Fault(Fault::Next));
                }
            }
            Fault::Restart(node) => self.restart(node),
            Fault::Repair(one, other) => self.net.repair(one, other),
        }
    }

    fn draw(&mut self) {
        let (worker, coordinator) = (self.any_worker(), self.any_coordinator());
        let client = self.net.dice.below(self.clients.len());
        let all = self.nodes();
        let dice = &mut self.net.dice;
        match dice.below(20) {
            0 | 1 => self.crash(worker, 8000),
            2 => self.pause(worker, 9000),
            3 | 4 => self.crash(coordinator, 12_000),
            // Longer than a lease, at times.
            5 => self.pause(coordinator, 15_000),
            6 => self.drain(worker),
            7 => self.drain(coordinator),
            8 => {
                let (one, other) = (dice.below(all.len()), dice.below(all.len()));
                self.part(all[one], &[all[other]]);
            }
            9 => {
                let one = all[dice.below(all.len())];
                self.part(one, &all);
            }
            10 => self.crash(Node::Store, 15_000),
            11 => self.wipe(),
            12 => self.clients[client].lose_front(&mut self.net),
            13 => self.forget(),
            14 | 15 => self.sicken(worker),
            16 | 17 => self.clients[client].leave(&mut self.net),
            18 => self.clients[client].ask(&mut self.net),
            _ if dice.chance(300) => self.clients[client].cancel(&mut self.net),
            _ => self.hand_over(),
        }
    }

    /// The store loses everything.
    fn wipe(&mut self) {
        self.store.wipe();
        self.rules.is_lost = true;
        self.crash(Node::Store, 5000);
    }

    /// So do all coordinators but the one that leads, which stands still meanwhile, or does not see it:
    /// another one will lead in terms that were its own.
    fn forget(&mut self) {
        let all = 0..self.coordinators.len();
        let (leading, others): (Vec<_>, Vec<_>) =
            all.partition(|index| self.coordinators[*index].leading().is_some());
        for node in leading.into_iter().map(Node::Coordinator) {
            match self.net.dice.chance(500) {
                true if self.net.lives(node) => self.pause(node, 20_000),
                _ => {
                    self.part(node, &[Node::Store]);
                    // It has something to prepare then.
                    let worker = self.any_worker();
                    self.crash(worker, 300);
                }
            }
        }
        for index in others {
            self.crash(Node::Coordinator(index), 500);
        }
        self.wipe();
    }

    fn pause(&mut self, node: Node, most: u64) {
        let time = self.net.dice.millis(300, most);
        self.net.pause(node, time);
        self.trouble(node, time);
    }

    /// A worker cannot get ready for a while.
    fn sicken(&mut self, node: Node) {
        let Node::Worker(index) = node else {
            return;
        };
        let time = self.net.dice.millis(500, 8000);
        self.workers[index].sicken(self.net.now + time);
        self.trouble(node, time);
    }

    /// Notes that a node is not to be relied on for this long.
    fn trouble(&mut self, node: Node, time: Duration) {
        let until = self.troubled.entry(node).or_default();
        *until = (*until).max(self.net.now + time);
    }

    fn any_worker(&mut self) -> Node {
        Node::Worker(self.net.dice.below(self.workers.len()))
    }

    fn any_coordinator(&mut self) -> Node {
        Node::Coordinator(self.net.dice.below(self.coordinators.len()))
    }

    fn nodes(&self) -> Vec<Node> {
        let workers = (0..self.workers.len()).map(Node::Worker);
        let coordinators = (0..self.coordinators.len()).map(Node::Coordinator);
        let clients = (0..self.clients.len()).map(Node::Client);
        let all = workers.chain(coordinators).chain(clients);
        all.chain([Node::Store]).collect()
    }

    /// Cuts a node off from others for a while.
    fn part(&mut self, one: Node, others: &[Node]) {
        let time = self.net.dice.millis(300, 15_000);
        for other in others.iter().copied().filter(|other| *other != one) {
            self.net.cut(one, other);
            let repair = Event::Fault(Fault::Repair(one, other));
            self.net.after(time, repair);
            self.trouble(one, time);
            self.trouble(other, time);
        }
    }

    /// Ends a process, to be started again within so many milliseconds.
    pub(super) fn crash(&mut self, node: Node, most: u64) {
        if self.net.lives(node) {
            self.net.kill(node);
            if let Node::Worker(index) = node {
                self.rules.forgets(self.workers[index].start());
            }
            let time = self.net.dice.millis(50, most);
            self.net.after(time, Event::Fault(Fault::Restart(node)));
            self.trouble(node, time);
        }
    }

    fn drain(&mut self, node: Node) {
        let (net, rules) = (&mut self.net, &mut self.rules);
        match node {
            Node::Worker(index) if net.lives(node) => self.workers[index].drain(net),
            Node::Coordinator(index) if net.lives(node) => {
                self.coordinators[index].drain(net, rules);
            }
            _ => {}
        }
    }

    fn hand_over(&mut self) {
        let to = self.net.dice.below(self.coordinators.len());
        let lives = |index: usize, net: &Net| net.lives(Node::Coordinator(index));
        let mut all = 0..self.coordinators.len();
        let leading = all.find(|index| self.coordinators[*index].leading().is_some());
        let Some(from) = leading.filter(|from| lives(*from, &self.net) && *from != to) else {
            return;
        };
        let [from, to] = self
            .coordinators
            .get_disjoint_mut([from, to])
            .expect("they are two");
        from.hand_over(&mut self.net, &mut self.rules, to);
    }

    /// Starts a process again, which knows nothing of what it was.
    fn restart(&mut self, node: Node) {
        if self.net.lives(node) {
            return;
        }
        let net = &mut self.net;
        match node {
            Node::Store => {
                net.start(node, 1);
                self.store.begin(net);
            }
            Node::Worker(index) => {
                let old = &self.workers[index];
                let (incarnation, num_ranks) = (old.incarnation + 1, old.num_ranks);
                self.workers[index] = Worker::new(index, incarnation, num_ranks, super::MODEL);
                self.workers[index].begin(net);
            }
            Node::Coordinator(index) => {
                let incarnation = self.coordinators[index].incarnation + 1;
                self.coordinators[index] = Coordinator::new(index, incarnation, self.setting);
                self.coordinators[index].begin(net);
            }
            Node::Client(_) => unreachable!("clients do not die, their fronts do"),
        }
    }

    /// Ends all that goes wrong.
    ///
    /// Everybody asks for something more, so that what comes after is seen to work.
    pub(super) fn settle(&mut self) {
        for _ in 0..self.clients.len() {
            let (index, soon) = (self.clients.len(), (0, 5000));
            self.clients.push(Client::new(&mut self.net, index, soon));
        }
        self.net.heal();
        for node in self.nodes() {
            if !matches!(node, Node::Client(_)) {
                self.restart(node);
            }
        }
    }

    pub(super) fn unfinished(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter(|client| !client.is_over())
    }
}
