//! Who is in the group, for those who look at it.

use spec::Rank;

use super::Leader;
use crate::member::Registration;

impl Leader {
    /// Lists the live members by name, each with the ranks that it holds; none for a spare.
    pub fn members(&self) -> impl Iterator<Item = (&Registration, Vec<Rank>)> {
        let members = self.members.values();
        members.map(|member| (member, self.seats.of(&member.name)))
    }
}
