//! A file mapped into memory, and the tensors that lie in it or on the heap.
//!
//! The only unsafe code of this crate. It assumes what every reader of a mapped file must: that
//! nobody writes to or shortens a checkpoint while it is served. A write would change weights
//! under our hands, a truncation ends the process with SIGBUS on the next touch. Checkpoints are
//! replaced by renaming a new folder into place, as `synth` does, which leaves a map untouched.
#![expect(
    unsafe_code,
    reason = "mapping a file, and dropping the pages of a map"
)]

use std::fmt;
use std::fs::File;
use std::hint;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::{Advice, Mmap, UncheckedAdvice};

use crate::pages::Pages;

#[cfg(target_endian = "big")]
compile_error!("tensors are read in place, and the files are little-endian");

/// Smallest page of the systems we run on; larger pages are touched more often than needed.
const PAGE: usize = 4096;

/// A whole file, mapped read-only and shared with the page cache.
#[derive(Debug)]
pub(crate) struct Map {
    bytes: Mmap,
}

impl Map {
    /// Maps all of `file`; reads nothing yet.
    pub(crate) fn open(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read-only, and nobody changes the file while it is served (see the
        // head of this file); it stays valid when the `File` is closed.
        let bytes = unsafe { Mmap::map(file) }?;
        Ok(Self { bytes })
    }

    /// The same, in large pages where the system gives them for files.
    pub(crate) fn open_large(file: &File) -> io::Result<Self> {
        let map = Self::open(file)?;
        // Refused advice costs speed, never correctness.
        #[cfg(target_os = "linux")]
        drop(map.bytes.advise(Advice::HugePage));
        Ok(map)
    }

    /// Returns the bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Brings a range into memory, so that computing does not wait for the disk later. Asks for
    /// exactly this range ahead, then touches its pages.
    pub(crate) fn fetch(&self, range: &Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.bytes
            .advise_range(Advice::WillNeed, range.start, range.len())?;
        let bytes = &self.bytes[range.clone()];
        for page in bytes.chunks(PAGE) {
            hint::black_box(page[0]);
        }
        // Where the range begins inside a page, the last touch may still be in the last page but one.
        hint::black_box(bytes[bytes.len() - 1]);
        Ok(())
    }

    /// Gives the pages that lie wholly inside a range back to the system; they are read again
    /// from the file if they are touched after all.
    fn release(&self, range: &Range<usize>) {
        let first = range.start.next_multiple_of(PAGE);
        let end = range.end / PAGE * PAGE;
        if first >= end {
            return;
        }
        // SAFETY: dropping the pages of a shared, read-only map of a file changes no byte that
        // anyone can see: the next touch reads the same bytes from the file.
        let released = unsafe {
            self.bytes
                .unchecked_advise_range(UncheckedAdvice::DontNeed, first, end - first)
        };
        // Refused advice costs memory, never correctness.
        drop(released);
    }
}

/// Memory on the heap, aligned for any element type.
#[derive(Debug)]
pub(crate) struct Heap {
    words: Vec<u128>,
    len: usize,
}

impl Heap {
    /// Takes `len` zeros, which cost no memory until they are written.
    pub(crate) fn zeroed(len: usize) -> Self {
        let words = vec![0; len.div_ceil(size_of::<u128>())];
        Self { words, len }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

/// Where a tensor's bytes lie.
#[derive(Debug)]
pub(crate) enum Region {
    /// In a mapped file.
    Mapped {
        map: Arc<Map>,
        range: Range<usize>,
    },
    Heap(Heap),
    /// Memory of its own, in large pages where the system gives them.
    Pages(Pages),
}

impl Region {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped { map, range } => &map.bytes()[range.clone()],
            Self::Heap(heap) => heap.bytes(),
            Self::Pages(pages) => pages,
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // An expert that moved to another rank should leave the resident set as well.
        if let Self::Mapped { map, range } = self {
            map.release(range);
        }
    }
}

/// The elements of a tensor, or of one expert's slice of it.
///
/// A clone shares them. They lie in the checkpoint's file, mapped, or in memory; who reads them cannot
/// tell. Their address is a multiple of the element's size and of nothing more: in the
/// published files not even of 16.
pub struct Tensor<T> {
    region: Arc<Region>,
    element: PhantomData<fn() -> T>,
}

impl<T: Pod> Tensor<T> {
    /// Takes over a region whose length and place suit the element type.
    pub(crate) fn new(region: Region) -> Self {
        let bytes = region.bytes();
        assert!(
            bytemuck::try_cast_slice::<u8, T>(bytes).is_ok(),
            "alignment and length are checked when a checkpoint is opened"
        );
        Self {
            region: Arc::new(region),
            element: PhantomData,
        }
    }
}

impl<T> Clone for Tensor<T> {
    fn clone(&self) -> Self {
        Self {
            region: Arc::clone(&self.region),
            element: PhantomData,
        }
    }
}

impl<T: Pod> Deref for Tensor<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(self.region.bytes())
    }
}

impl<T: Pod> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &*self.region {
            Region::Mapped { .. } => "mapped",
            Region::Heap(_) | Region::Pages(_) => "in memory",
        };
        write!(f, "Tensor({} elements, {place})", self.len())
    }
}
