//! What the sequences that are open here are called, for the log.
//!
//! A rank knows a sequence by its slot, fronts and leads by its request's name: the lead says it with each
//! [`wire::Open`], and the lines here say both.

use std::collections::BTreeMap;

use proto::internal as wire;
use spec::SequenceId;

/// The sequences that a run has opened, by rank and slot: no more than the ranks have slots.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<(u32, u32), Named>);

#[derive(Clone, Debug)]
struct Named {
    sequence: u64,
    request_id: String,
}

/// What a step changes.
#[derive(Debug)]
pub(crate) struct Changes {
    closed: Vec<(u32, u32)>,
    opened: Vec<((u32, u32), Named)>,
}

impl Changes {
    /// Reads what a request closes and opens; it counts once the request has been checked.
    pub(crate) fn of(parts: &[wire::Part]) -> Self {
        let closed = parts.iter().flat_map(|part| {
            let slots = part.closes.iter();
            slots.map(|slot| (part.rank, *slot))
        });
        let opened = parts.iter().flat_map(|part| {
            part.opens.iter().map(|open| {
                let named = Named {
                    sequence: open.sequence,
                    request_id: open.request_id.clone(),
                };
                ((part.rank, open.slot), named)
            })
        });
        Self {
            closed: closed.collect(),
            opened: opened.collect(),
        }
    }
}

impl Names {
    /// Takes in what a step changes.
    pub(crate) fn apply(&mut self, changes: Changes) {
        for place in changes.closed {
            // What another epoch has opened, it has named.
            if let Some(named) = self.0.remove(&place) {
                tell_closed(place, &named);
            }
        }
        for (place, named) in changes.opened {
            let ((rank, slot), sequence) = (place, named.sequence);
            // A sequence that takes the slot of another closes that one.
            if let Some(old) = self.0.get(&place).filter(|old| old.sequence != sequence) {
                tell_closed(place, old);
            }
            let request_id = &*named.request_id;
            tracing::debug!(request_id, sequence, rank, slot, "sequence opened");
            self.0.insert(place, named);
        }
    }

    /// Returns what a sequence's request is called.
    pub(crate) fn of(&self, sequence: SequenceId) -> Option<&str> {
        let mut all = self.0.values();
        let found = all.find(|named| named.sequence == sequence.0);
        found.map(|named| &*named.request_id)
    }
}

fn tell_closed((rank, slot): (u32, u32), named: &Named) {
    let (request_id, sequence) = (&*named.request_id, named.sequence);
    tracing::debug!(request_id, sequence, rank, slot, "sequence closed");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(closes: &[u32], opens: &[(u32, u64, &str)]) -> wire::Part {
        let open = |(slot, sequence, request_id): &(u32, u64, &str)| wire::Open {
            slot: *slot,
            sequence: *sequence,
            request_id: (*request_id).to_owned(),
            ..Default::default()
        };
        wire::Part {
            rank: 1,
            closes: closes.to_vec(),
            opens: opens.iter().map(open).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_sequence_is_known_by_name_while_it_is_open() {
        let mut names = Names::default();
        let first = [part(&[], &[(0, 7, "a"), (1, 8, "b")])];
        names.apply(Changes::of(&first));
        assert_eq!(names.of(SequenceId(7)), Some("a"));
        // A slot that is closed may be opened in the same step.
        names.apply(Changes::of(&[part(&[0, 3], &[(0, 9, "c")])]));
        let known = [7, 8, 9].map(|sequence| names.of(SequenceId(sequence)));
        assert_eq!(known, [None, Some("b"), Some("c")]);
    }
}
