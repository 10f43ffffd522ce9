//! The end of a lane that is written to.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use exchange::Parts;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::header::Header;
use crate::limits::MAX_PIECES;

/// A frame on its way into a lane, and how much of it was written.
///
/// What a lane has no room for is not waited for here: a rank that waited for another, which waits for it in
/// turn, would wait for ever.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    header: [u8; Header::BYTES],
    parts: Parts<'a>,
    /// Pieces that were written whole, the header first.
    pieces: usize,
    /// Bytes of the next one that were written.
    bytes: usize,
}

impl<'a> Letter<'a> {
    pub(crate) fn new(header: Header, parts: Parts<'a>) -> Self {
        Self {
            header: header.to_bytes(),
            parts,
            pieces: 0,
            bytes: 0,
        }
    }

    /// Writes as much as there is room for, and returns whether that was all.
    pub(crate) fn write(&mut self, lane: &OwnedFd) -> io::Result<bool> {
        loop {
            let mut next = self.rest();
            if next.is_empty() {
                return Ok(true);
            }
            let sent = retry_on_intr(|| {
                let control = &mut SendAncillaryBuffer::default();
                sendmsg(lane, &next, control, SendFlags::NOSIGNAL)
            });
            match sent {
                Ok(bytes) => {
                    let mut left = &mut next[..];
                    let before = left.len();
                    IoSlice::advance_slices(&mut left, bytes);
                    let (whole, to_come) =
                        (before - left.len(), left.first().map(|left| left.len()));
                    self.pieces += whole;
                    self.bytes = match (self.length(self.pieces), to_come) {
                        (Some(length), Some(to_come)) => length - to_come,
                        _ => 0,
                    };
                }
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the next pieces that are not written.
    fn rest(&self) -> Vec<IoSlice<'_>> {
        let pieces = self.all().skip(self.pieces).take(MAX_PIECES);
        let mut pieces: Vec<_> = pieces.map(IoSlice::new).collect();
        if let Some(first) = pieces.first_mut() {
            first.advance(self.bytes);
        }
        pieces
    }

    fn length(&self, piece: usize) -> Option<usize> {
        self.all().nth(piece).map(<[u8]>::len)
    }

    /// Returns all pieces; none is empty.
    fn all(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.header[..]).chain(self.parts.pieces())
    }
}

/// What leads from this rank to another.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Frames go another way.
    None,
    /// A lane.
    Lane(OwnedFd),
    /// A lane with a frame that was begun and given up: what came next would be read as its rest. It stays open,
    /// since this rank is not lost.
    Spoiled(OwnedFd),
    /// A lane that has ended.
    Ended,
}

impl Exit {
    /// Makes a lane one that nothing is written to any more.
    pub(crate) fn spoil(&mut self) {
        *self = match std::mem::replace(self, Self::Ended) {
            Self::Lane(lane) => Self::Spoiled(lane),
            other => other,
        };
    }

    /// Returns the lane, if it has not ended.
    pub(crate) fn lane(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Lane(lane) | Self::Spoiled(lane) => Some(lane.as_fd()),
            Self::None | Self::Ended => None,
        }
    }
}
