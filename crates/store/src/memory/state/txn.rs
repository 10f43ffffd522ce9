//! Transactions: compare, then one branch or the other, at one revision.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{MAX_BYTES, Pair, Refusal, Span, State, cost};
use crate::client::Revision;

/// A condition on a key.
#[derive(Clone, Debug)]
pub(crate) struct Compare {
    pub(crate) key: Vec<u8>,
    pub(crate) target: Target,
    pub(crate) is: Is,
}

/// What of the key is compared, and with what. A key that is not there has zero everywhere, and no
/// value.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Version(i64),
    Created(Revision),
    Modified(Revision),
    Lease(i64),
    Value(Vec<u8>),
}

/// How the key's has to be to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    Equal,
    Unequal,
    Greater,
    Less,
}

/// A step of a branch.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Reads up to a number of pairs.
    Range(Span, usize),
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        lease: i64,
    },
    Delete(Span),
}

/// What became of an operation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Range(Vec<Arc<Pair>>, usize),
    Put,
    /// How many keys there were.
    Deleted(usize),
}

/// What became of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) done: Vec<Done>,
}

impl State {
    /// Carries out one of two branches.
    pub(crate) fn txn(
        &mut self,
        compares: &[Compare],
        then: Vec<Operation>,
        otherwise: Vec<Operation>,
    ) -> Result<Outcome, Refusal> {
        for branch in [&then, &otherwise] {
            if writes_twice(branch) {
                return Err(Refusal::DuplicateKey);
            }
        }
        let succeeded = compares.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { then } else { otherwise };
        self.check(&branch)?;
        let done = (branch.into_iter())
            .map(|operation| self.carry_out(operation))
            .collect();
        self.commit();
        Ok(Outcome { succeeded, done })
    }

    pub(super) fn holds(&self, compare: &Compare) -> bool {
        let pair = self.pairs.get(&compare.key);
        let number = |of: fn(&Pair) -> i64| pair.map_or(0, |pair| of(pair));
        let order = match &compare.target {
            Target::Version(other) => number(|pair| pair.version).cmp(other),
            Target::Created(other) => number(|pair| pair.create_revision).cmp(other),
            Target::Modified(other) => number(|pair| pair.mod_revision).cmp(other),
            Target::Lease(other) => number(|pair| pair.lease).cmp(other),
            Target::Value(other) => match pair {
                Some(pair) => pair.value.cmp(other),
                None => return false,
            },
        };
        match compare.is {
            Is::Equal => order == Ordering::Equal,
            Is::Unequal => order != Ordering::Equal,
            Is::Greater => order == Ordering::Greater,
            Is::Less => order == Ordering::Less,
        }
    }

    /// Whatever could stop a branch in its middle is looked at before.
    fn check(&self, branch: &[Operation]) -> Result<(), Refusal> {
        let mut bytes = self.bytes;
        for operation in branch {
            let Operation::Put { key, value, lease } = operation else {
                continue;
            };
            if *lease != 0 && !self.has_lease(*lease) {
                return Err(Refusal::LeaseNotFound);
            }
            bytes += cost(key, value);
            if bytes > MAX_BYTES {
                return Err(Refusal::NoSpace);
            }
        }
        Ok(())
    }

    /// Carries out an operation; it sees what those before it have done.
    fn carry_out(&mut self, operation: Operation) -> Done {
        match operation {
            Operation::Range(span, limit) => {
                let (pairs, count) = self.range(&span, limit);
                Done::Range(pairs, count)
            }
            Operation::Put { key, value, lease } => {
                self.put(key, value, lease);
                Done::Put
            }
            Operation::Delete(span) => {
                let found = span.within(&self.pairs);
                let keys: Vec<Vec<u8>> = found.map(|(key, _)| key.clone()).collect();
                for key in &keys {
                    self.delete(key);
                }
                Done::Deleted(keys.len())
            }
        }
    }
}

/// Whether a branch would change a key twice.
fn writes_twice(branch: &[Operation]) -> bool {
    let mut put = BTreeSet::new();
    for operation in branch {
        if let Operation::Put { key, .. } = operation
            && !put.insert(key)
        {
            return true;
        }
    }
    branch.iter().any(|operation| match operation {
        Operation::Delete(span) => put.iter().any(|key| span.contains(key)),
        _ => false,
    })
}
