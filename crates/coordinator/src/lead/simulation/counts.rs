//! How often things happened, so that a simulation in which nothing does is noticed.

use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Something that a simulation is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    /// A coordinator leads in a term.
    Term,
    /// Two coordinators lead in one term, as the store has lost everything.
    SharedTerm,
    /// A lead takes a higher term, for a worker has obeyed it or another lead in ours.
    Raised,
    /// A worker refuses to get ready, as it obeys another lead or epoch.
    Stale,
    /// A lead hears of that while it still waits for the worker.
    Overtaken,
    /// A bid came seconds late.
    LateBid,
    Epoch,
    /// A worker could not get ready.
    PrepareFailed,
    /// A worker has computed a step.
    Step,
    /// A worker could not compute one for want of rows.
    Void,
    /// A worker has told of a sequence that another lead has left.
    Collected,
    /// Such a one goes on, whoever asks for it.
    WentOn,
    /// A sequence comes back that had ended, or was cancelled, before its home rank could be told.
    Revived,
    /// A client has its end.
    Ended,
    /// A client follows again what it has a part of.
    Resumed,
    /// One does that after it was away, and its generation has gone on meanwhile.
    Kept,
    Cancelled,
    Forced,
    /// What was to be forced came too late.
    Unforced,
    Settled,
    /// A question was answered with how it stands.
    Told,
    /// A deadline has passed: the client's own clock says so, or the lead does.
    Deadline,
    /// A lead says that a deadline has passed.
    DeadlineByLead,
    /// The group did not serve for too long.
    HeldOut,
    /// An answer says no, for any reason.
    Refused,
    /// In the end, what a worker keeps was looked through.
    Searched,
}

/// How often a thousand simulations together must show a thing at least: about a third of what they do.
const LEAST: [(Thing, usize); 23] = [
    (Thing::Term, 2000),
    (Thing::SharedTerm, 500),
    (Thing::Raised, 250),
    (Thing::Stale, 25),
    (Thing::LateBid, 150),
    (Thing::Epoch, 2000),
    (Thing::PrepareFailed, 300),
    (Thing::Step, 50_000),
    (Thing::Void, 50),
    (Thing::Collected, 400),
    (Thing::WentOn, 100),
    (Thing::Ended, 4000),
    (Thing::Resumed, 2000),
    (Thing::Kept, 60),
    (Thing::Cancelled, 25),
    (Thing::Forced, 900),
    (Thing::Unforced, 20),
    (Thing::Settled, 300),
    (Thing::Told, 100),
    (Thing::Deadline, 200),
    (Thing::DeadlineByLead, 40),
    (Thing::HeldOut, 150),
    (Thing::Searched, 600),
];

/// How often each thing happened.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<Thing, usize>);

impl Counts {
    pub(super) fn note(&mut self, thing: Thing) {
        *self.0.entry(thing).or_default() += 1;
    }

    /// Lists what has happened too rarely in a thousand simulations.
    pub(super) fn rare(&self) -> Vec<String> {
        let count = |thing| self.0.get(&thing).copied().unwrap_or_default();
        let rare = LEAST.iter().filter(|(thing, least)| count(*thing) < *least);
        let rare = rare.map(|(thing, least)| format!("{thing:?}: {} of {least}", count(*thing)));
        rare.collect()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (thing, count) in other.0 {
            *self.0.entry(thing).or_default() += count;
        }
    }
}
