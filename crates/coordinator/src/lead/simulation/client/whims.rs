//! What befalls a client, and what comes to its mind.

use super::{Client, Forcing, Net, Node, Packet, Wish};
use crate::lead::simulation::coordinator;

impl Client {
    /// Its front dies: another one knows nothing.
    pub(in crate::lead::simulation) fn lose_front(&mut self, net: &mut Net) {
        self.drop_stream(net);
        self.front.clear();
        self.forcing = Forcing::No;
        self.submits = true;
    }

    /// It goes away for a while.
    pub(in crate::lead::simulation) fn leave(&mut self, net: &mut Net) {
        if self.stream.is_some() && matches!(self.wish, Wish::Text | Wish::Again) {
            self.lose_front(net);
            self.was_away = true;
            self.retry = net.now + net.dice.millis(500, 25_000);
        }
    }

    /// It wants no more of it.
    pub(in crate::lead::simulation) fn cancel(&mut self, net: &mut Net) {
        if self.wish == Wish::Text && net.now > self.begins {
            self.drop_stream(net);
            self.wish = Wish::Cancel;
        }
    }

    /// It asks how its generation stands.
    pub(in crate::lead::simulation) fn ask(&mut self, net: &mut Net) {
        let Some(lead) = &self.lead else {
            return;
        };
        let to = coordinator::at(&lead.address);
        let followed = self.stream.filter(|_| self.accepted);
        let followed = followed.filter(|stream| net.peer(*stream) == to);
        let port = net.dial(Node::Client(self.index), to);
        net.send(port, Packet::Get(self.name()));
        self.question = Some((port, followed));
    }
}
