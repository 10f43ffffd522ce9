//! A group's lead in this process, for as long as this coordinator is elected.

use proto::internal::LeadRecord;
use sockets::Dialer;
use spec::Term;
use telemetry::CoordinatorTelemetry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::lead::{Lead, LeadConfig, Leads, Start};

/// That this coordinator leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Office {
    /// Tells one tenure from the next: who reads late may not have seen the end between them.
    pub(crate) tenure: u64,
    /// The term, which may rise while it leads.
    pub(crate) term: Term,
}

impl Office {
    /// Returns the term that is led in now, if the tenure is still this one.
    fn goes_on(self, now: Option<Self>) -> Option<Term> {
        let same = now.filter(|now| now.tenure == self.tenure);
        same.map(|now| now.term)
    }
}

/// Starts and ends one group's lead as its election says.
pub(crate) struct Tenure {
    pub(crate) group: String,
    pub(crate) config: LeadConfig,
    /// This start of the coordinator.
    pub(crate) incarnation: u64,
    /// What shows operators the lead, and the group's place in it.
    pub(crate) shown: (CoordinatorTelemetry, usize),
    /// Connects to the workers.
    pub(crate) dialer: Dialer,
    pub(crate) office: watch::Receiver<Option<Office>>,
    /// Told of the terms that workers have obeyed.
    pub(crate) outranked: watch::Sender<Term>,
    pub(crate) leads: Leads,
    pub(crate) tasks: TaskTracker,
}

impl Tenure {
    /// Runs until `stop`.
    ///
    /// # Errors
    ///
    /// In words, if no cluster can serve with this configuration.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        loop {
            let elected = tokio::select! {
                elected = self.elected() => elected,
                () = stop.cancelled() => return Ok(()),
            };
            let Some(office) = elected else {
                return Ok(());
            };
            self.lead(office, &stop).await?;
        }
    }

    /// Waits for an election that is won; `None` if there will be no more.
    async fn elected(&mut self) -> Option<Office> {
        *self.office.wait_for(Option::is_some).await.ok()?
    }

    /// Leads from this term on until another coordinator does.
    async fn lead(&mut self, office: Office, stop: &CancellationToken) -> Result<(), String> {
        let end = CancellationToken::new();
        // However this ends, by a panic too, the lead goes with it.
        let _end = end.clone().drop_guard();
        let start = Start {
            term: office.term,
            incarnation: self.incarnation,
            group: self.group.clone(),
            dialer: self.dialer.clone(),
            shown: self.shown.clone(),
            outranked: self.outranked.clone(),
            tasks: self.tasks.clone(),
            end: end.clone(),
        };
        let (lead, mut ended) = Lead::start(&self.config, start)?;
        self.leads.enter(&self.group, lead.clone());
        let mut held = office.term;
        let outcome = loop {
            tokio::select! {
                ended = &mut ended => break ended,
                () = stop.cancelled() => end.cancel(),
                changed = self.office.changed(), if !end.is_cancelled() => {
                    let now = *self.office.borrow_and_update();
                    match office.goes_on(now).filter(|_| changed.is_ok()) {
                        Some(term) if term > held => {
                            held = term;
                            lead.raise(term).await;
                        }
                        Some(_) => {}
                        None => end.cancel(),
                    }
                }
            }
            if end.is_cancelled() {
                // Nothing new comes to a lead that is over.
                self.leads.leave(&self.group);
                break (&mut ended).await;
            }
        };
        self.leads.leave(&self.group);
        outcome.map_err(|error| error.to_string())?
    }
}

/// Returns what the store knows a lead by.
pub(crate) fn to_record(lead: &cluster::LeadRecord) -> LeadRecord {
    LeadRecord {
        name: lead.name.clone(),
        incarnation: lead.incarnation,
        address: lead.address.clone(),
        term: lead.term.0,
    }
}

/// Reads what [`to_record`] has written.
pub(crate) fn from_record(lead: LeadRecord) -> cluster::LeadRecord {
    cluster::LeadRecord {
        name: lead.name,
        incarnation: lead.incarnation,
        address: lead.address,
        term: Term(lead.term),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenure_ends_though_the_next_one_has_begun_when_it_is_read() {
        let office = |tenure, term| Office {
            tenure,
            term: Term(term),
        };
        let held = office(1, 5);
        assert_eq!(held.goes_on(Some(office(1, 6))), Some(Term(6)));
        assert_eq!(held.goes_on(Some(office(2, 7))), None);
        assert_eq!(held.goes_on(None), None);
    }
}
