//! What a frame carries: parts on the way out, bytes on the way in.
//!
//! A transport may write the parts from where they lie, and read the bytes to where they belong: then a
//! row is copied twice between two processes, into the system and out of it.

use std::io::IoSliceMut;

use bytes::Bytes;
use kernels::ExchangeError;

#[cfg(target_endian = "big")]
compile_error!("numbers in frames are little-endian, and travel as they lie in memory");

/// The bytes of a frame, before they are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts<'a> {
    /// Header and lists.
    head: Vec<u32>,
    /// The rows, in pieces that lie together; none is empty.
    rows: Vec<&'a [f32]>,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(head: Vec<u32>) -> Self {
        Self {
            head,
            rows: Vec::new(),
        }
    }

    /// Appends rows.
    pub(crate) fn push(&mut self, rows: &'a [f32]) {
        if !rows.is_empty() {
            self.rows.push(rows);
        }
    }

    /// Returns the pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let head = bytemuck::cast_slice(&self.head);
        let rows = self.rows.iter().map(|rows| bytemuck::cast_slice(rows));
        std::iter::once(head).chain(rows)
    }

    /// Returns how many bytes all pieces have.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    /// Returns the pieces as one.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.num_bytes());
        self.pieces()
            .for_each(|piece| bytes.extend_from_slice(piece));
        bytes.into()
    }
}

/// The bytes of a frame that has come, or is coming.
pub trait Payload {
    /// Returns how many bytes are left to read.
    fn num_bytes(&self) -> usize;

    /// Fills these with the next bytes; there are as many left.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`] if the rest does not come.
    fn fill(&mut self, parts: &mut [IoSliceMut<'_>]) -> Result<(), ExchangeError>;
}

/// A frame that is there from beginning to end.
#[derive(Clone, Debug)]
pub struct Whole {
    bytes: Bytes,
}

impl From<Bytes> for Whole {
    fn from(bytes: Bytes) -> Self {
        Self { bytes }
    }
}

impl Payload for Whole {
    fn num_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn fill(&mut self, parts: &mut [IoSliceMut<'_>]) -> Result<(), ExchangeError> {
        for part in parts {
            let next = self.bytes.split_to(part.len());
            part.copy_from_slice(&next);
        }
        Ok(())
    }
}
