//! One exchange over lanes, and the one place where a rank waits for any of them.

use std::io::IoSliceMut;

use bytes::Bytes;
use exchange::{
    ExchangeError, Inbox, MAX_FRAME_BYTES, Moment, Pause, Payload, Phase, SendError, Whole,
};
use rustix::event::{PollFd, PollFlags, poll};
use spec::Rank;

use crate::header::Header;
use crate::lanes::Lanes;
use crate::outgoing::{Exit, Letter};

/// An exchange that has begun.
#[derive(Debug)]
pub struct Round<'a> {
    lanes: &'a mut Lanes,
    inbox: &'a Inbox,
    exchange: (Moment, Phase),
    /// What the lanes had no room for, one at most for each.
    letters: Vec<(Rank, Letter<'a>)>,
}

/// A frame that has come.
#[derive(Debug)]
pub enum Arrived<'r, 'a> {
    /// Into the inbox.
    Whole(Whole),
    /// By a lane; only its header is known to be here.
    Coming(Coming<'r, 'a>),
}

/// A frame in a lane.
#[derive(Debug)]
pub struct Coming<'r, 'a> {
    round: &'r mut Round<'a>,
    from: Rank,
    /// Bytes to read.
    left: usize,
}

impl<'a> Round<'a> {
    pub(crate) fn new(lanes: &'a mut Lanes, inbox: &'a Inbox, exchange: (Moment, Phase)) -> Self {
        Self {
            lanes,
            inbox,
            exchange,
            letters: Vec::new(),
        }
    }

    /// Writes a frame, and keeps what its lane has no room for.
    pub(crate) fn send(&mut self, to: Rank, mut letter: Letter<'a>) -> Result<(), SendError> {
        if !self.lanes.write(to, &mut letter)? {
            self.letters.push((to, letter));
        }
        Ok(())
    }

    /// Reads the next header of the lane from a rank; `None` while it has not come.
    fn header(&mut self, from: Rank) -> Option<Header> {
        self.lanes.welcome();
        let header = self.lanes.with(from, self.inbox, |lane| lane.header())?;
        if header.is_goodbye() {
            self.lanes.part(from);
            return None;
        }
        Some(header)
    }

    /// Checks a header, and returns how many bytes follow it.
    fn check(&self, header: Header, from: Rank) -> Result<usize, ExchangeError> {
        let (moment, phase) = self.exchange;
        let bad = |why| ExchangeError::BadFrame {
            peer: from,
            why,
            phase,
            moment,
        };
        let found = header.exchange(moment.fence);
        let (at, of) = found.ok_or_else(|| bad(format!("it names phase {}", header.phase)))?;
        if (at, of) != self.exchange {
            return Err(bad(format!("it is at {of} of {at} instead")));
        }
        let bytes = usize::try_from(header.bytes).ok();
        bytes
            .filter(|bytes| *bytes <= MAX_FRAME_BYTES)
            .ok_or_else(|| {
                let bytes = header.bytes;
                bad(format!(
                    "it has {bytes} bytes; the limit is {MAX_FRAME_BYTES}"
                ))
            })
    }

    /// Writes what there is room for.
    fn push(&mut self) {
        let (lanes, inbox) = (&mut self.lanes, self.inbox);
        self.letters
            .retain_mut(|(to, letter)| match lanes.write(*to, letter) {
                Ok(is_done) => !is_done,
                Err(SendError::Gone(why)) => {
                    inbox.peer_lost(*to, &why);
                    false
                }
                Err(_) => false,
            });
    }

    /// Lets a moment pass, or sleeps until something has happened; `from` is whose frame is waited for.
    fn pause(&mut self, from: Rank, pause: Pause) {
        self.push();
        if !pause.look_again() {
            self.sleep(Some(from));
        }
    }

    /// Sleeps until the frame has come, there is room for a letter, a rank is gone, or the bell rings.
    fn sleep(&mut self, from: Option<Rank>) {
        self.lanes.welcome();
        self.lanes.bury(self.inbox);
        let lanes = &*self.lanes;
        let mut files = vec![PollFd::new(lanes.arrivals.bell(), PollFlags::IN)];
        let (mut entries, mut exits) = (Vec::new(), Vec::new());
        for (rank, lane) in (0..).map(Rank).zip(&lanes.incoming) {
            // A closed one would end every sleep at once.
            let Some(lane) = lane.as_ref().filter(|lane| !lane.is_closed) else {
                continue;
            };
            let awaited = if Some(rank) == from {
                PollFlags::IN
            } else {
                PollFlags::empty()
            };
            files.push(PollFd::new(lane, awaited));
            entries.push(rank);
        }
        for (rank, lane) in (0..).map(Rank).zip(lanes.exits.iter().map(Exit::lane)) {
            let Some(lane) = lane else { continue };
            let is_full = self.letters.iter().any(|(to, _)| *to == rank);
            let awaited = if is_full {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            files.push(PollFd::from_borrowed_fd(lane, awaited));
            exits.push(rank);
        }
        // A sleep that fails, because a signal came, is as one that ended.
        poll(&mut files, None).ok();
        let is_closed =
            |file: &PollFd<'_>| file.revents().intersects(PollFlags::HUP | PollFlags::ERR);
        let closed: Vec<bool> = files.iter().skip(1).map(is_closed).collect();
        lanes.arrivals.bell().silence();
        let (closed_entries, closed_exits) = closed.split_at(entries.len());
        for (rank, _) in entries
            .iter()
            .zip(closed_entries)
            .filter(|(_, closed)| **closed)
        {
            let lane = self.lanes.incoming[rank.index()].as_mut();
            lane.expect("it was there before the sleep").is_closed = true;
        }
        for (rank, _) in exits
            .iter()
            .zip(closed_exits)
            .filter(|(_, closed)| **closed)
        {
            self.lanes.close_exit(*rank, self.inbox);
        }
        self.lanes.bury(self.inbox);
    }
}

impl<'a> exchange::Round for Round<'a> {
    type Payload<'r>
        = Arrived<'r, 'a>
    where
        Self: 'r;

    fn receive(&mut self, from: Rank) -> Result<Arrived<'_, 'a>, ExchangeError> {
        let inbox = self.inbox;
        let mut waiting = None;
        let header = loop {
            if let Some(header) = self.header(from) {
                break header;
            }
            if let Some(frame) = inbox.poll(self.exchange, from) {
                return frame.map(Arrived::from);
            }
            let waiting = waiting.get_or_insert_with(|| inbox.waits_for(from));
            self.pause(from, waiting.pause);
        };
        let left = self.check(header, from)?;
        let round = self;
        Ok(Arrived::Coming(Coming { round, from, left }))
    }

    fn finish(mut self) -> Result<(), ExchangeError> {
        let inbox = self.inbox;
        self.push();
        while let Some(to) = self.letters.first().map(|(to, _)| *to) {
            let waiting = inbox.waits_for(to);
            while self.letters.first().is_some_and(|(first, _)| *first == to) {
                if let Some(error) = inbox.failure(self.exchange, to) {
                    return Err(error);
                }
                if !waiting.pause.look_again() {
                    self.sleep(None);
                }
                self.push();
            }
        }
        Ok(())
    }
}

impl Drop for Round<'_> {
    /// A frame that was begun and is given up spoils its lane.
    fn drop(&mut self) {
        for (to, _) in self.letters.drain(..) {
            self.lanes.exits[to.index()].spoil();
        }
    }
}

impl From<Bytes> for Arrived<'_, '_> {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes.into())
    }
}

impl Payload for Arrived<'_, '_> {
    fn num_bytes(&self) -> usize {
        match self {
            Self::Whole(whole) => whole.num_bytes(),
            Self::Coming(coming) => coming.left,
        }
    }

    fn fill(&mut self, parts: &mut [IoSliceMut<'_>]) -> Result<(), ExchangeError> {
        match self {
            Self::Whole(whole) => whole.fill(parts),
            Self::Coming(coming) => coming.fill(parts),
        }
    }
}

impl Coming<'_, '_> {
    fn fill(&mut self, mut parts: &mut [IoSliceMut<'_>]) -> Result<(), ExchangeError> {
        let (from, inbox, exchange) = (self.from, self.round.inbox, self.round.exchange);
        let mut waiting = None;
        // Empty ones would read as the end of the lane.
        IoSliceMut::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let read = self.round.lanes.with(from, inbox, |lane| lane.read(parts));
            if let Some(bytes) = read {
                IoSliceMut::advance_slices(&mut parts, bytes);
                self.left -= bytes;
                if self.left == 0 {
                    inbox.passes(exchange, from);
                }
                continue;
            }
            // Without its rest the frame is none, whatever has come of it.
            if let Some(error) = inbox.failure(exchange, from) {
                return Err(error);
            }
            let waiting = waiting.get_or_insert_with(|| inbox.waits_for(from));
            self.round.pause(from, waiting.pause);
        }
        Ok(())
    }
}
