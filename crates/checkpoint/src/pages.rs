//! Large memory of this process that is read again and again.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Memory in large pages where the system gives them: with small ones a processor looks each 4 KiB up anew.
#[derive(Debug)]
pub struct Pages {
    map: MmapMut,
    len: usize,
}

impl Pages {
    /// Takes `len` bytes. They are zero, and cost no memory until something near them is written: then the whole page,
    /// 2 MiB where pages are large.
    ///
    /// # Errors
    ///
    /// If the system has no memory left.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        // A map of nothing is refused.
        let map = MmapMut::map_anon(len.max(1))?;
        // Refused advice costs speed, never correctness.
        #[cfg(target_os = "linux")]
        drop(map.advise(memmap2::Advice::HugePage));
        Ok(Self { map, len })
    }

    /// Returns the memory as numbers; bytes that are no whole one at its end are left out.
    #[must_use]
    pub fn floats(&self) -> &[f32] {
        bytemuck::cast_slice(self.as_chunks::<{ size_of::<f32>() }>().0)
    }

    /// The same, to be written.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.as_chunks_mut::<{ size_of::<f32>() }>().0)
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::Pages;

    #[test]
    fn all_of_it_is_zero_and_can_be_written() {
        for (len, floats) in [(0, 0), (3, 0), (10, 2), (4 << 20, 1 << 20)] {
            let mut pages = Pages::zeroed(len).expect("memory");
            assert!(pages.len() == len && pages.iter().all(|byte| *byte == 0));
            assert!(pages.floats().len() == floats);
            pages.floats_mut().fill(0.5);
            assert!(pages.floats().iter().all(|number| *number == 0.5));
            assert!(pages[4 * floats..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn more_than_any_machine_has_is_an_error() {
        assert!(Pages::zeroed(isize::MAX as usize).is_err());
    }
}
