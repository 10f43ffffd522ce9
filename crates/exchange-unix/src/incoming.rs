//! The end of a lane that is read from.

use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, ioctl_fionread, readv, retry_on_intr};

use crate::header::Header;
use crate::limits::MAX_PIECES;

/// A lane from another rank.
#[derive(Debug)]
pub(crate) struct Incoming {
    socket: OwnedFd,
    /// The header that is being read.
    header: [u8; Header::BYTES],
    /// How many bytes of it have come.
    have: usize,
    /// Something has come, ever.
    pub(crate) is_used: bool,
    /// The other end is closed: nothing more comes than has come.
    pub(crate) is_closed: bool,
}

impl Incoming {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            header: [0; Header::BYTES],
            have: 0,
            is_used: false,
            is_closed: false,
        }
    }

    /// Reads the next header; `None` while it has not come.
    pub(crate) fn header(&mut self) -> io::Result<Option<Header>> {
        while self.have < Header::BYTES {
            let rest = IoSliceMut::new(&mut self.header[self.have..]);
            match read(&self.socket, &mut [rest])? {
                Some(bytes) => (self.have, self.is_used) = (self.have + bytes, true),
                None => return Ok(None),
            }
        }
        self.have = 0;
        Ok(Some(Header::from_bytes(self.header)))
    }

    /// Reads as much as has come, and returns how much; `None` if nothing has.
    pub(crate) fn read(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        read(&self.socket, parts)
    }

    /// Whether something has come that was not read.
    pub(crate) fn has_more(&self) -> bool {
        ioctl_fionread(&self.socket).is_ok_and(|bytes| bytes > 0)
    }
}

impl AsFd for Incoming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn read(socket: &OwnedFd, parts: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
    let next = parts.len().min(MAX_PIECES);
    match retry_on_intr(|| readv(socket, &mut parts[..next])) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(bytes) => Ok(Some(bytes)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
