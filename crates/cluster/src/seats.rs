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

    /// Seats live members, each on as many ranks as it has; `members` come in order of preference.
    ///
    /// If some of them fill the group exactly, these are seated, on the ranks they hold already
    /// where they hold as many. Otherwise nobody loses a seat: newcomers take only what is empty, so
    /// that an absent member finds its own when it returns.
    pub(crate) fn assign(&mut self, members: &[(String, usize)]) {
        for (name, count) in members {
            // It came back with another number of ranks.
            if self.of(name).len() != *count {
                self.vacate(|holder| holder == name);
            }
        }
        let counts: Vec<usize> = members.iter().map(|(_, count)| *count).collect();
        let Some(chosen) = exactly(&counts, self.holders.len()) else {
            for (name, count) in members {
                let empty = self.empty();
                if self.of(name).is_empty() && empty.len() >= *count {
                    self.give(name, &empty[..*count]);
                }
            }
            return;
        };
        let chosen: Vec<&(String, usize)> = chosen.iter().map(|index| &members[*index]).collect();
        self.vacate(|holder| chosen.iter().all(|(name, _)| name != holder));
        for (name, count) in chosen {
            if self.of(name).is_empty() {
                let empty = self.empty();
                self.give(name, &empty[..*count]);
            }
        }
    }

    /// Returns whether some of these members fill the group exactly.
    pub(crate) fn can_be_filled(&self, members: &[(String, usize)]) -> bool {
        let counts: Vec<usize> = members.iter().map(|(_, count)| *count).collect();
        exactly(&counts, self.holders.len()).is_some()
    }

    fn vacate(&mut self, of: impl Fn(&str) -> bool) {
        for holder in &mut self.holders {
            if holder.as_deref().is_some_and(&of) {
                *holder = None;
            }
        }
    }

    fn empty(&self) -> Vec<usize> {
        let holders = self.holders.iter().enumerate();
        let empty = holders.filter(|(_, holder)| holder.is_none());
        empty.map(|(rank, _)| rank).collect()
    }

    fn give(&mut self, name: &str, ranks: &[usize]) {
        for rank in ranks {
            self.holders[*rank] = Some(name.into());
        }
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

/// Finds numbers that sum to `total`, of all such choices the one that takes the first number it can,
/// then the next it can, and so on; returns their indices.
fn exactly(counts: &[usize], total: usize) -> Option<Vec<usize>> {
    // reachable[i][sum]: whether some of the numbers from i on have this sum.
    let mut reachable = vec![vec![false; total + 1]; counts.len() + 1];
    reachable[counts.len()][0] = true;
    for (index, &count) in counts.iter().enumerate().rev() {
        for sum in 0..=total {
            let rest = &reachable[index + 1];
            let with = sum.checked_sub(count).is_some_and(|left| rest[left]);
            reachable[index][sum] = rest[sum] || with;
        }
    }
    if !reachable[0][total] {
        return None;
    }
    let (mut chosen, mut left) = (Vec::new(), total);
    for (index, &count) in counts.iter().enumerate() {
        if left
            .checked_sub(count)
            .is_some_and(|left| reachable[index + 1][left])
        {
            chosen.push(index);
            left -= count;
        }
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(all: &[(&str, usize)]) -> Vec<(String, usize)> {
        let named = all.iter().map(|(name, count)| ((*name).to_owned(), *count));
        named.collect()
    }

    #[test]
    fn a_member_that_returns_finds_its_seats() {
        let mut seats = Seats::new(3);
        seats.assign(&members(&[("a", 1), ("b", 1), ("c", 1)]));
        let before = seats.of("b");
        seats.assign(&members(&[("a", 1), ("c", 1)]));
        assert_eq!(seats.missing(|name| name != "b"), ["b"]);
        seats.assign(&members(&[("c", 1), ("b", 1), ("a", 1)]));
        assert_eq!(seats.of("b"), before);
    }

    #[test]
    fn a_newcomer_takes_the_seat_of_one_who_left() {
        let mut seats = Seats::new(2);
        seats.assign(&members(&[("a", 1), ("b", 1)]));
        let (of_a, of_b) = (seats.of("a"), seats.of("b"));
        seats.assign(&members(&[("a", 1), ("b", 1), ("c", 1)]));
        assert!(seats.of("c").is_empty(), "all seats are taken");
        seats.assign(&members(&[("b", 1), ("c", 1)]));
        assert_eq!((seats.of("c"), seats.of("b")), (of_a, of_b));
        assert!(seats.complete(|name| name != "a"));
    }

    #[test]
    fn whoever_sits_stays_where_others_can_fill_the_rest() {
        let mut seats = Seats::new(4);
        seats.assign(&members(&[("a", 1), ("b", 2), ("c", 1)]));
        let before = (seats.of("a"), seats.of("b"));
        seats.assign(&members(&[("a", 1), ("b", 2), ("d", 3), ("e", 1)]));
        assert_eq!((seats.of("a"), seats.of("b")), before);
        assert!(seats.complete(|name| name != "d"));
    }

    #[test]
    fn whoever_fills_the_group_is_seated_whatever_came_in_between() {
        let mut seats = Seats::new(4);
        seats.assign(&members(&[("a", 2), ("b", 2)]));
        seats.assign(&members(&[("a", 2), ("c", 1)]));
        seats.assign(&members(&[("a", 2), ("c", 1), ("b", 2)]));
        assert!(seats.complete(|name| name != "c"));
        seats.assign(&members(&[("c", 1), ("d", 3), ("a", 2)]));
        assert!(seats.complete(|name| ["c", "d"].contains(&name)));
    }
}
