//! How many threads compute, and where.

use std::fmt;
use std::num::NonZeroUsize;

use crate::cores::Cores;

/// The threads of one rank, or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Threads {
    /// So many, on cores that the system chooses and changes.
    Any(NonZeroUsize),
    /// One on each core, and nowhere else.
    On(Cores),
}

impl Threads {
    /// Counts them.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Any(count) => count.get(),
            Self::On(cores) => cores.list().len(),
        }
    }

    /// Shares them out among ranks: each gets as many, and at least one. `None` where cores do not
    /// divide so, or there are no ranks.
    #[must_use]
    pub fn parts(&self, ranks: usize) -> Option<Vec<Self>> {
        match self {
            Self::Any(count) => {
                let each = count.get().checked_div(ranks)?;
                let each = NonZeroUsize::new(each).unwrap_or(NonZeroUsize::MIN);
                Some(vec![Self::Any(each); ranks])
            }
            Self::On(cores) => Some(cores.parts(ranks)?.into_iter().map(Self::On).collect()),
        }
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(count) => write!(f, "{count} threads"),
            Self::On(cores) => write!(f, "cores {cores}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_gets_as_many() {
        let any = |count| Threads::Any(NonZeroUsize::new(count).unwrap());
        assert_eq!(any(5).parts(2), Some(vec![any(2); 2]));
        assert_eq!(any(1).parts(3), Some(vec![any(1); 3]));
        assert_eq!(any(1).parts(0), None);
        let on = |text: &str| Threads::On(text.parse().unwrap());
        assert_eq!(on("0-3").parts(2), Some(vec![on("0,1"), on("2,3")]));
        assert_eq!(on("0-3").parts(3), None);
        assert_eq!((any(5).count(), on("0-3").count()), (5, 4));
        assert_eq!(on("3,0-2").to_string(), "cores 3,0-2");
    }
}
