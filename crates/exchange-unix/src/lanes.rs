//! All lanes of one rank.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use exchange::{Inbox, Moment, Outgoing, Phase, SendError, Unsent};
use rustix::io::{read, write};
use spec::Rank;

use crate::arrivals::Arrivals;
use crate::header::Header;
use crate::incoming::Incoming;
use crate::outgoing::{Exit, Letter};
use crate::round::Round;

/// Why a lane that has ended is said to have.
const CLOSED: &str = "its end of the socket is closed";

/// The lanes of one rank in one epoch. Frames of other ranks come into its inbox as ever; whoever holds
/// the lanes waits for both.
#[derive(Debug)]
pub struct Lanes {
    /// By receiver.
    pub(crate) exits: Vec<Exit>,
    /// By sender; `None` before the lane has come, and after it has ended.
    pub(crate) incoming: Vec<Option<Incoming>>,
    /// By rank: whether it has left the epoch in order.
    left: Vec<bool>,
    pub(crate) arrivals: Arc<Arrivals>,
    /// How many arrivals there were when they were looked at.
    seen: usize,
}

impl Lanes {
    /// Returns the lanes of a rank in a group: none yet but those that arrive.
    #[must_use]
    pub fn new(num_ranks: usize, arrivals: Arc<Arrivals>) -> Self {
        Self {
            exits: (0..num_ranks).map(|_| Exit::None).collect(),
            incoming: (0..num_ranks).map(|_| None).collect(),
            left: vec![false; num_ranks],
            arrivals,
            seen: 0,
        }
    }

    /// Sends what is for `to` by this lane from now on: a stream socket that waits for nothing, whose other
    /// end has taken it up.
    pub fn lead(&mut self, to: Rank, lane: OwnedFd) {
        self.exits[to.index()] = Exit::Lane(lane);
    }

    /// Whether frames for a rank go by a lane.
    #[must_use]
    pub fn lead_to(&self, rank: Rank) -> bool {
        let exit = self.exits.get(rank.index());
        exit.is_some_and(|exit| !matches!(exit, Exit::None))
    }

    /// Begins an exchange: sends the frames of ranks that lanes lead to.
    ///
    /// # Errors
    ///
    /// [`Unsent`] if a lane has ended.
    pub fn begin<'a>(
        &'a mut self,
        inbox: &'a Inbox,
        exchange: (Moment, Phase),
        frames: Vec<Outgoing<'a>>,
    ) -> Result<Round<'a>, Unsent> {
        let mut round = Round::new(self, inbox, exchange);
        for Outgoing { to, parts } in frames {
            let header = Header::new(exchange, parts.num_bytes());
            let letter = Letter::new(header, parts);
            round
                .send(to, letter)
                .map_err(|error| Unsent { to, error })?;
        }
        Ok(round)
    }

    /// Writes as much of a letter as its lane has room for, and returns whether it is done with.
    pub(crate) fn write(&mut self, to: Rank, letter: &mut Letter<'_>) -> Result<bool, SendError> {
        match &self.exits[to.index()] {
            Exit::Lane(lane) => match letter.write(lane) {
                Ok(is_done) => return Ok(is_done),
                Err(_) => self.end_exit(to),
            },
            // An exchange has failed here, so that this rank is out of the epoch.
            Exit::Spoiled(_) => return Err(SendError::Left),
            Exit::None | Exit::Ended => {}
        }
        self.welcome();
        match (self.incoming[to.index()].is_some(), self.left[to.index()]) {
            // The lane from there tells, at the latest after its last frame, why it has ended.
            (true, _) => Ok(true),
            (false, true) => Err(SendError::Left),
            (false, false) => Err(SendError::Gone(CLOSED.to_owned())),
        }
    }

    /// Takes up the lanes that have come.
    pub(crate) fn welcome(&mut self) {
        let count = self.arrivals.count();
        if count == self.seen {
            return;
        }
        self.seen = count;
        for (from, lane) in self.arrivals.take() {
            self.incoming[from.index()] = Some(Incoming::new(lane));
        }
    }

    /// Does something with the lane from a rank; `None` if there is nothing to do it with. The end of the
    /// lane is told to the inbox.
    pub(crate) fn with<T>(
        &mut self,
        from: Rank,
        inbox: &Inbox,
        act: impl FnOnce(&mut Incoming) -> io::Result<Option<T>>,
    ) -> Option<T> {
        let lane = self.incoming[from.index()].as_mut()?;
        act(lane).unwrap_or_else(|error| {
            let why = match error.kind() {
                io::ErrorKind::UnexpectedEof => CLOSED.to_owned(),
                _ => error.to_string(),
            };
            self.end(from, inbox, &why);
            None
        })
    }

    /// Notes that a rank has said goodbye: it is not lost, and sends no more.
    pub(crate) fn part(&mut self, from: Rank) {
        self.incoming[from.index()] = None;
        self.left[from.index()] = true;
    }

    /// Notes that the other end of the lane to a rank is closed.
    pub(crate) fn close_exit(&mut self, to: Rank, inbox: &Inbox) {
        self.end_exit(to);
        self.welcome();
        // Otherwise the lane from there tells what was sent before the end, and when that is read.
        if self.incoming[to.index()].is_none() && !self.left[to.index()] {
            inbox.peer_lost(to, CLOSED);
        }
    }

    /// Ends the lane to a rank.
    fn end_exit(&mut self, to: Rank) {
        self.hear(to);
        self.exits[to.index()] = Exit::Ended;
    }

    /// Hears whether a rank has said goodbye in the lane to it.
    fn hear(&mut self, to: Rank) {
        if let Some(lane) = self.exits[to.index()].lane() {
            self.left[to.index()] |= read(lane, &mut [0]) == Ok(1);
        }
    }

    /// Notes the end of closed lanes from which all has been read.
    pub(crate) fn bury(&mut self, inbox: &Inbox) {
        for rank in (0..self.incoming.len() as u32).map(Rank) {
            let lane = self.incoming[rank.index()].as_ref();
            if lane.is_some_and(|lane| lane.is_closed && !lane.has_more()) {
                self.end(rank, inbox, CLOSED);
            }
        }
    }

    /// Ends the lane from a rank, which is lost then. Not where nothing ever came and the lane to it is open:
    /// there the other side sends another way, since it did not wait for this one to take the lane up.
    fn end(&mut self, from: Rank, inbox: &Inbox, why: &str) {
        let lane = self.incoming[from.index()].take();
        let is_used = lane.is_some_and(|lane| lane.is_used);
        self.hear(from);
        let is_known = is_used || matches!(self.exits[from.index()], Exit::Ended);
        if is_known && !self.left[from.index()] {
            inbox.peer_lost(from, why);
        }
    }

    /// Tells all that this rank leaves the epoch in order, so that nobody takes it for lost.
    pub fn say_goodbye(&mut self) {
        self.welcome();
        // Who has gone, or has no room for a word, finds out otherwise.
        for exit in &self.exits {
            if let Exit::Lane(lane) = exit {
                write(lane, &Header::goodbye().to_bytes()).ok();
            }
        }
        for lane in self.incoming.iter().flatten() {
            write(lane, &[0]).ok();
        }
    }
}

impl Drop for Lanes {
    /// Closes the lanes too that nobody will take up.
    fn drop(&mut self) {
        self.arrivals.close();
    }
}

#[cfg(test)]
mod tests;
