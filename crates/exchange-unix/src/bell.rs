//! What wakes a rank that sleeps over files of the system.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use exchange::Alarm;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

/// Wakes who waits for files of the system, a rank's sockets, with one more of them: see poll(2) and
/// eventfd(2).
#[derive(Debug)]
pub struct Bell {
    file: OwnedFd,
}

impl Bell {
    /// Returns a bell that has not been rung.
    ///
    /// # Errors
    ///
    /// If the process may open no more files.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            file: eventfd(0, flags)?,
        })
    }

    /// Makes the bell wait for being rung again.
    pub(crate) fn silence(&self) {
        // It fails where it was not rung: then it is silent.
        read(&self.file, &mut [0; 8]).ok();
    }
}

impl Alarm for Bell {
    /// Makes the bell readable, until it is silenced.
    fn ring(&self) {
        // It fails only where it has been rung 2^64 times: then it rings.
        write(&self.file, &1u64.to_ne_bytes()).ok();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
