//! Which member holds which rank. A member that comes back finds its seats; one that is gone loses
//! them only to somebody who needs them.

use spec::Rank;

/// The ranks of a group and the names that hold them.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    holders: Vec<Option<String>>,
}

impl Seats {
    pub(crate) fn new(num_ranks: usize) -> Self {
        Self {
            holders: vec![None; num_ranks],
        }
    }

    /// Returns the ranks that `name` holds, ascending.
    pub(crate) fn of(&self, name: &str) -> Vec<Rank> {
        let holders = self.holders.iter().enumerate();
        let own = holders.filter(|(_, holder)| holder.as_deref() == Some(name));
        own.map(|(rank, _)| Rank(rank as u32)).collect()
    }

    /// Returns who holds a rank.
    pub(crate) fn holder(&self, rank: Rank) -> Option<&str> {
        self.holders.get(rank.index())?.as_deref()
    }

    /// Seats `name` on `count` ranks: its own if it has as many, else the lowest that are free or
    /// held by somebody who is not `live`. Returns false, and takes none, if there are too few.
    pub(crate) fn seat(&mut self, name: &str, count: usize, live: impl Fn(&str) -> bool) -> bool {
        if self.of(name).len() == count {
            return true;
        }
        let open = |holder: &Option<String>| match holder {
            None => true,
            Some(other) => other == name || !live(other),
        };
        // Empty seats first, so that an absent member finds its own when it returns.
        let mut chosen: Vec<usize> = Vec::new();
        for empty in [true, false] {
            let seats = self.holders.iter().enumerate();
            let fitting = seats.filter(|(_, holder)| open(holder) && holder.is_none() == empty);
            chosen.extend(fitting.map(|(rank, _)| rank).take(count - chosen.len()));
        }
        // Also of seats that are too few: who cannot have all it needs keeps none from others.
        for holder in &mut self.holders {
            if holder.as_deref() == Some(name) {
                *holder = None;
            }
        }
        if chosen.len() < count {
            return false;
        }
        for rank in chosen {
            self.holders[rank] = Some(name.into());
        }
        true
    }

    /// Returns whether every rank is held by somebody who is `live`.
    pub(crate) fn complete(&self, live: impl Fn(&str) -> bool) -> bool {
        self.holders
            .iter()
            .all(|holder| holder.as_deref().is_some_and(&live))
    }

    /// Lists the names that hold a rank without being `live`, each once.
    pub(crate) fn missing(&self, live: impl Fn(&str) -> bool) -> Vec<String> {
        let mut names: Vec<String> = self.holders.iter().flatten().cloned().collect();
        names.retain(|name| !live(name));
        names.sort();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_returns_finds_its_seats() {
        let mut seats = Seats::new(3);
        for name in ["a", "b", "c"] {
            assert!(seats.seat(name, 1, |_| true));
        }
        assert!(seats.seat("b", 1, |name| name != "b"));
        assert_eq!(seats.of("b"), [Rank(1)]);
    }

    #[test]
    fn a_newcomer_takes_the_seat_of_one_who_left() {
        let mut seats = Seats::new(2);
        assert!(seats.seat("a", 1, |_| true));
        assert!(seats.seat("b", 1, |_| true));
        assert!(!seats.seat("c", 1, |_| true), "all seats are taken");
        assert!(seats.seat("c", 1, |name| name != "a"));
        assert_eq!(seats.of("c"), [Rank(0)]);
        assert_eq!(seats.missing(|name| name != "a"), Vec::<String>::new());
    }
}
