//! One coordinator's bid for the lead of a group.
//!
//! The store holds two keys a group: who leads, under a lease, and the highest term, for ever. A bid
//! writes both in one transaction, on condition that neither has changed since it was seen. So two
//! leads never share a term, whatever is lost or delayed; workers see to the rest, because they obey
//! the higher term. A lead whose store is gone goes on leading: nobody can have replaced it there.

use std::time::Duration;

use spec::Term;

/// Counts the changes of a store's key; 0 where there is no key.
pub type Revision = i64;

/// Who leads a group, as the store says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadRecord {
    /// Name of the coordinator.
    pub name: String,
    /// Which start of it.
    pub incarnation: u64,
    /// Where fronts and workers reach it: `http://HOST:PORT`.
    pub address: String,
    /// Its term.
    pub term: Term,
}

/// A group's two keys at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Who leads, and when that was written.
    pub lead: Option<(LeadRecord, Revision)>,
    /// The lease the lead's key hangs on; 0 for none.
    pub lease: i64,
    /// Who has taken the highest term, and when that was written; stays when the lead is gone.
    pub last: Option<(LeadRecord, Revision)>,
}

/// Something a candidate is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// What the store says now.
    Seat(Seat),
    /// The store cannot be reached.
    Disconnected,
    /// The coordinator's own lease; none if it was lost.
    Lease(Option<i64>),
    /// A bid was decided, or may have been: where the answer is lost the next [`Seat`] tells.
    Decided,
    /// A worker has obeyed a term that is not below ours.
    Outranked(Term),
    /// Another coordinator shall lead: its term does not matter, `lease` is its own. Not heard where
    /// we do not lead.
    HandOver {
        /// Who shall lead.
        to: LeadRecord,
        /// The lease that its key shall hang on.
        lease: i64,
    },
    /// The coordinator is about to end.
    Draining,
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Write `record` as lead, under `lease`, and as the last one, if both keys are as they were.
    Bid {
        /// What to write.
        record: LeadRecord,
        /// Under which lease.
        lease: i64,
        /// Revision of the lead's key, 0 for none.
        lead: Revision,
        /// Revision of the last lead's key, 0 for none.
        last: Revision,
    },
    /// Lead in this term; where one leads already, go on in the new one.
    Lead(Term),
    /// Lead no longer.
    StepDown {
        /// Why, in words.
        why: String,
    },
    /// Delete the lead's key, if it is as it was, so that others need not wait for the lease's end.
    Leave {
        /// Revision of the lead's key.
        lead: Revision,
    },
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Candidate {
    me: LeadRecord,
    /// How long a seat must have been empty before we bid, so that not all coordinators bid at once.
    patience: Duration,
    /// Since when the seat is empty.
    empty_since: Option<Duration>,
    seat: Option<Seat>,
    lease: Option<i64>,
    leading: Option<Term>,
    /// Since when a bid is on its way.
    bidding: Option<Duration>,
    /// No bid before this, unless the seat is seen anew.
    rest_until: Duration,
    /// Highest term that a worker has reported.
    outranked: Term,
    /// Highest term that the store has shown: one that has lost everything shows lower ones.
    seen: Term,
    /// Whether the term that the seat gives us had been seen before: somebody has led in it, and be it us.
    is_spent: bool,
    /// Who shall lead instead of us, under which lease, and when that was said.
    order: Option<(LeadRecord, i64, Duration)>,
    draining: bool,
}

/// How long a lead may take to hand over as it was told, with its last attempt.
pub const HAND_OVER: Duration = Duration::from_secs(8);

/// For how long it begins attempts: the store takes 5 s at most for one.
const ATTEMPTS: Duration = Duration::from_secs(3);

/// A bid whose answer has not come for this long is taken for lost; the store's transactions have a
/// lower limit of their own.
const BID_LIMIT: Duration = Duration::from_secs(10);

/// Rest after a bid whose outcome the store does not show.
const REST: Duration = Duration::from_secs(1);

impl Candidate {
    /// Starts as `me`, whose term does not matter.
    #[must_use]
    pub fn new(me: LeadRecord, patience: Duration) -> Self {
        Self {
            me,
            patience,
            empty_since: None,
            seat: None,
            lease: None,
            leading: None,
            bidding: None,
            rest_until: Duration::ZERO,
            outranked: Term(0),
            seen: Term(0),
            is_spent: false,
            order: None,
            draining: false,
        }
    }

    /// Returns the term in which this coordinator leads, if it does.
    #[must_use]
    pub fn leading(&self) -> Option<Term> {
        self.leading
    }

    /// Changes how long a seat must have been empty before a bid.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Takes in what happened and says what to do about it.
    pub fn on(&mut self, heard: Heard, now: Duration) -> Vec<Ask> {
        match heard {
            Heard::Seat(seat) => {
                self.rest_until = Duration::ZERO;
                if seat.lead.is_some() {
                    self.empty_since = None;
                } else {
                    self.empty_since.get_or_insert(now);
                }
                let lead = seat.lead.as_ref().map(|(lead, _)| lead.term);
                self.is_spent = lead != self.leading && lead.is_some_and(|term| term <= self.seen);
                let records = [&seat.lead, &seat.last].into_iter().flatten();
                let terms = records.map(|(record, _)| record.term);
                self.seen = terms.fold(self.seen, Term::max);
                self.seat = Some(seat);
            }
            Heard::Disconnected => self.seat = None,
            Heard::Lease(lease) => self.lease = lease,
            Heard::Decided => {
                self.bidding = None;
                // Won or lost, the seat has changed, and we are about to see how.
                self.rest_until = now + REST;
            }
            Heard::Outranked(term) => self.outranked = self.outranked.max(term),
            Heard::HandOver { to, lease } => {
                self.order = Some((to, lease, now));
                // We rest after a bid until we see the seat, which a lead has.
                self.rest_until = Duration::ZERO;
            }
            Heard::Draining => self.draining = true,
            Heard::Tick => {}
        }
        if self.bidding.is_some_and(|since| now >= since + BID_LIMIT) {
            self.bidding = None;
        }
        let mut asks = self.decide(now);
        asks.extend(self.hand_over(now));
        asks
    }

    fn decide(&mut self, now: Duration) -> Vec<Ask> {
        let Some(seat) = self.seat.clone() else {
            return self.end_if(self.draining, "it is ending");
        };
        let Some((lead, revision)) = &seat.lead else {
            return self.on_empty(&seat, now);
        };
        if !self.is_me(lead) {
            return self.end_if(
                true,
                &format!("'{}' leads in term {}", lead.name, lead.term),
            );
        }
        if self.draining {
            let mut asks = self.end_if(true, "it is ending");
            asks.push(Ask::Leave { lead: *revision });
            // The answer is the seat without us; until then there is nothing to say again.
            self.seat = None;
            return asks;
        }
        let mut asks = Vec::new();
        if self.is_spent {
            let term = Term(self.seen.max(self.outranked).0 + 1);
            return self.bid(term, &seat, now).into_iter().collect();
        }
        if self.leading != Some(lead.term) {
            // A bid was won, or its answer was lost and we see it now.
            self.leading = Some(lead.term);
            asks.push(Ask::Lead(lead.term));
        }
        let renewed = self.lease.is_some_and(|lease| lease != seat.lease);
        if self.outranked >= lead.term {
            asks.extend(self.bid(Term(self.outranked.0 + 1), &seat, now));
        } else if renewed {
            asks.extend(self.bid(lead.term, &seat, now));
        }
        asks
    }

    /// Nobody leads, as far as the store knows.
    fn on_empty(&mut self, seat: &Seat, now: Duration) -> Vec<Ask> {
        if self.draining {
            return self.end_if(true, "it is ending");
        }
        let last = seat.last.as_ref().map(|(last, _)| last);
        let highest = last.map_or(Term(0), |last| last.term);
        if let Some(term) = self.leading {
            // The store was gone, or has lost everything: what we lead is ours unless somebody has
            // taken the term, or a higher one, since.
            if highest < term || last.is_some_and(|last| self.is_me(last)) {
                return self.bid(term.max(highest), seat, now).into_iter().collect();
            }
            return self.end_if(true, &format!("term {highest} has been taken since"));
        }
        let since = self.empty_since.unwrap_or(now);
        if now < since + self.patience {
            return Vec::new();
        }
        let term = Term(self.seen.max(self.outranked).0 + 1);
        self.bid(term, seat, now).into_iter().collect()
    }

    fn bid(&mut self, term: Term, seat: &Seat, now: Duration) -> Option<Ask> {
        let lease = self.lease?;
        if self.bidding.is_some() || now < self.rest_until {
            return None;
        }
        self.bidding = Some(now);
        let revision = |key: &Option<(LeadRecord, Revision)>| key.as_ref().map_or(0, |key| key.1);
        Some(Ask::Bid {
            record: LeadRecord {
                term,
                ..self.me.clone()
            },
            lease,
            lead: revision(&seat.lead),
            last: revision(&seat.last),
        })
    }

    /// Writes another into our seat, one term above ours: nobody else can come in between, and we lead
    /// until the store says that it was done. Tried again until then: a bid of our own may be on its way, or
    /// has just changed the seat.
    fn hand_over(&mut self, now: Duration) -> Option<Ask> {
        let (to, lease, since) = self.order.take()?;
        if self.is_me(&to) || now >= since + ATTEMPTS {
            return None;
        }
        // While the store is away for a moment nobody knows whose the seat is: the order stands.
        let ours = self.seat.clone().map(|seat| (self.ours(&seat), seat));
        let Some((led, seat)) = ours else {
            self.order = Some((to, lease, since));
            return None;
        };
        let term = Term(led?.max(self.outranked).0 + 1);
        let bid = self.bid(term, &seat, now);
        let record = LeadRecord { term, ..to.clone() };
        self.order = Some((to, lease, since));
        match bid? {
            Ask::Bid { lead, last, .. } => Some(Ask::Bid {
                record,
                lease,
                lead,
                last,
            }),
            other => Some(other),
        }
    }

    /// Returns the term in which we lead, if the seat says so too.
    fn ours(&self, seat: &Seat) -> Option<Term> {
        let (lead, _) = seat.lead.as_ref().filter(|(lead, _)| self.is_me(lead))?;
        self.leading.filter(|term| *term == lead.term)
    }

    fn end_if(&mut self, ends: bool, why: &str) -> Vec<Ask> {
        if !ends || self.leading.take().is_none() {
            return Vec::new();
        }
        vec![Ask::StepDown { why: why.into() }]
    }

    fn is_me(&self, record: &LeadRecord) -> bool {
        (&record.name, record.incarnation) == (&self.me.name, self.me.incarnation)
    }
}

#[cfg(test)]
mod tests;
