//! Which cores threads run on.

use std::str::FromStr;
use std::{fmt, io};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One more than the largest number of a core.
pub(crate) const MAX: usize = CpuSet::MAX_CPU;

/// Cores in the order in which ranks take them, each once: at least one.
///
/// They are written as in the kernel's lists, without strides: `0-3,8` (cpuset(7), list format).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(Vec<usize>);

/// Why a text is no list of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoresFault {
    /// A part that is neither a number nor a range of them, the smaller first.
    Form(String),
    /// A number that is too large for any core.
    TooLarge(usize),
    /// A core that is named more than once.
    Twice(usize),
}

impl fmt::Display for CoresFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(part) => write!(
                f,
                "'{part}' is no core: write numbers and ranges, for instance 0-3,8"
            ),
            Self::TooLarge(core) => write!(f, "core {core}: the largest number is {}", MAX - 1),
            Self::Twice(core) => write!(f, "core {core} is named twice"),
        }
    }
}

impl std::error::Error for CoresFault {}

impl FromStr for Cores {
    type Err = CoresFault;

    fn from_str(text: &str) -> Result<Self, CoresFault> {
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let form = |_| CoresFault::Form(part.to_owned());
            let (first, last) = (
                first.parse::<usize>().map_err(form)?,
                last.parse::<usize>().map_err(form)?,
            );
            if first > last {
                return Err(CoresFault::Form(part.to_owned()));
            }
            if last >= MAX {
                return Err(CoresFault::TooLarge(last));
            }
            for core in first..=last {
                if cores.contains(&core) {
                    return Err(CoresFault::Twice(core));
                }
                cores.push(core);
            }
        }
        Ok(Self(cores))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.0.chunk_by(|core, next| core + 1 == *next);
        for (place, range) in ranges.enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match range {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                one => write!(f, "{comma}{}", one[0])?,
            }
        }
        Ok(())
    }
}

impl Cores {
    /// Lists those that the calling thread may run on, in ascending order: those of the process, unless it was
    /// bound.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn of_this_thread() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        Ok(Self(
            (0..MAX).filter(|core| allowed.is_set(*core)).collect(),
        ))
    }

    /// Returns them, in order.
    #[must_use]
    pub fn list(&self) -> &[usize] {
        &self.0
    }

    /// Returns those that are among others, in their own order; `None` if none is.
    #[must_use]
    pub fn among(&self, others: &Self) -> Option<Self> {
        let both = self
            .0
            .iter()
            .copied()
            .filter(|core| others.0.contains(core));
        let both: Vec<usize> = both.collect();
        (!both.is_empty()).then_some(Self(both))
    }

    /// Cuts them into equal parts, in order; `None` where they do not divide so.
    #[must_use]
    pub fn parts(&self, count: usize) -> Option<Vec<Self>> {
        let len = self.0.len().checked_div(count)?;
        let divides = len > 0 && len * count == self.0.len();
        divides.then(|| self.0.chunks(len).map(|part| Self(part.to_vec())).collect())
    }

    /// Finds one that the calling thread may not run on.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn forbidden(&self) -> io::Result<Option<usize>> {
        let allowed = sched_getaffinity(None)?;
        Ok(self.0.iter().copied().find(|core| !allowed.is_set(*core)))
    }

    /// Keeps the calling thread, and all that it starts, on these cores: the memory that they touch first is
    /// near them.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn keep_to(&self) -> io::Result<()> {
        bind(&self.0)
    }
}

/// Lets the calling thread run on these cores alone.
pub(crate) fn bind(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Vec<usize>, CoresFault> {
        text.parse().map(|cores: Cores| cores.list().to_vec())
    }

    #[test]
    fn a_list_keeps_its_order() {
        assert_eq!(list("0"), Ok(vec![0]));
        assert_eq!(list("8,0-3"), Ok(vec![8, 0, 1, 2, 3]));
        let cores: Cores = "2-3,1".parse().unwrap();
        assert_eq!(cores.to_string(), "2-3,1");
        assert_eq!(cores.to_string().parse(), Ok(cores));
    }

    #[test]
    fn what_is_wrong_with_a_list_is_named() {
        for part in ["", "x", "-1", "1-", "3-1", "1-2-3", " 1"] {
            let fault = list(&format!("0,{part}")).unwrap_err();
            assert_eq!(fault, CoresFault::Form(part.into()));
            assert!(fault.to_string().contains(part));
        }
        assert_eq!(list("0-5000"), Err(CoresFault::TooLarge(5000)));
        assert_eq!(list("0-3,2"), Err(CoresFault::Twice(2)));
    }

    #[test]
    fn parts_are_equal_or_none() {
        let cores: Cores = "4-7".parse().unwrap();
        let parts = cores.parts(2).unwrap();
        let parts: Vec<_> = parts.iter().map(Cores::list).collect();
        assert_eq!(parts, [[4, 5], [6, 7]]);
        for count in [0, 3, 8] {
            assert_eq!(cores.parts(count), None);
        }
    }

    #[test]
    fn a_core_that_is_not_there_is_found() {
        let own = Cores::of_this_thread().unwrap();
        assert_eq!(own.forbidden().unwrap(), None);
        let last = MAX - 1;
        let far: Cores = format!("{},{last}", own.list()[0]).parse().unwrap();
        assert_eq!(far.forbidden().unwrap(), Some(last));
    }
}
