//! `AdminService`: what operators ask of whoever leads a group in this process, and order.

use std::collections::BTreeMap;

use cluster::LeadRecord;
use proto::internal as wire;
use proto::internal::CoordinatorRecord;
use proto::internal::admin_service_server::AdminService;
use spec::{SequenceId, Term};
use store::{Entry, LeaseId, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Lead;
use super::follow::ending;
use super::leads::Leads;
use super::message::Message;
use super::step_loop::Inquiry;
use crate::limits;

/// An order to a group's election: another coordinator shall lead.
#[derive(Clone, Debug)]
pub(crate) struct HandOver {
    /// Its term does not matter.
    pub(crate) to: LeadRecord,
    /// Its own.
    pub(crate) lease: LeaseId,
}

/// Serves operators.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    /// Name of this coordinator.
    pub(crate) name: String,
    /// This start of it.
    pub(crate) incarnation: u64,
    /// Ends it in good order.
    pub(crate) shutdown: CancellationToken,
    pub(crate) leads: Leads,
    pub(crate) store: Store,
    /// Where each group's election takes orders.
    pub(crate) elections: BTreeMap<String, mpsc::Sender<HandOver>>,
}

impl Lead {
    /// Asks the step loop, and waits for its answer.
    async fn inquire<T>(
        &self,
        inquiry: impl FnOnce(oneshot::Sender<T>) -> Inquiry,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let sent = self.messages.send(Message::Inquiry(inquiry(reply))).await;
        sent.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }
}

impl Admin {
    /// Finds the coordinator that shall lead a group: the one of this name or, without a name, the
    /// first that can.
    async fn successor(&self, group: &str, name: &str) -> Result<HandOver, Status> {
        let found = self.store.list(records::COORDINATORS).await;
        let found = found.map_err(|error| Status::unavailable(error.to_string()))?;
        let records = found.entries.iter().filter_map(|entry| {
            let record = records::read_coordinator(&entry.key, &entry.value).ok()?;
            Some((record, entry))
        });
        let mut others = records.filter(|(record, _)| record.name != self.name);
        let fault = |record: &CoordinatorRecord| {
            if record.draining {
                return Some("is about to end");
            }
            let leads = record.groups.iter().any(|its| its == group);
            (!leads).then_some("may not lead this group")
        };
        if name.is_empty() {
            let next = others.find(|(record, _)| fault(record).is_none());
            return next.and_then(hand_over).ok_or_else(|| {
                let why = format!("no other coordinator could lead group '{group}'");
                Status::failed_precondition(why)
            });
        }
        let (record, entry) = others
            .find(|(record, _)| record.name == name)
            .ok_or_else(|| {
                Status::not_found(format!("no coordinator named '{name}' is in the cluster"))
            })?;
        if let Some(why) = fault(&record) {
            let why = format!("coordinator '{name}' {why}");
            return Err(Status::failed_precondition(why));
        }
        hand_over((record, entry))
            .ok_or_else(|| Status::aborted(format!("the record of '{name}' is about to end")))
    }

    /// Waits until the lead that was here is over, and returns the term of the next one.
    async fn handed_over(&self, group: &str, to: &LeadRecord) -> Result<Term, Status> {
        let left = timeout(limits::HAND_OVER, self.leads.until_left(group)).await;
        let key = records::lead_key(group);
        let lead = self.store.get(&key).await.ok().flatten();
        let lead = lead.and_then(|entry| records::read_lead(&key, &entry.value).ok());
        match lead.filter(|lead| left.is_ok() && lead.name == to.name) {
            Some(lead) => Ok(Term(lead.term)),
            None => Err(Status::aborted(
                "the membership store did not take the change; look who leads, and try again",
            )),
        }
    }
}

/// Reads whom a record makes a successor; one without a lease is about to go.
fn hand_over((record, entry): (CoordinatorRecord, &Entry)) -> Option<HandOver> {
    Some(HandOver {
        to: LeadRecord {
            name: record.name,
            incarnation: record.incarnation,
            address: record.address,
            term: Term(0),
        },
        lease: entry.lease?,
    })
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn describe(
        &self,
        request: Request<wire::DescribeRequest>,
    ) -> Result<Response<wire::DescribeResponse>, Status> {
        let group = request.into_inner().group;
        let lead = self.leads.of(&group).await?;
        let mut described = lead.inquire(Inquiry::Describe).await?;
        for member in &mut described.members {
            if let Some(registration) = &mut member.registration {
                registration.group.clone_from(&group);
            }
        }
        Ok(Response::new(described))
    }

    async fn list_sequences(
        &self,
        request: Request<wire::ListSequencesRequest>,
    ) -> Result<Response<wire::ListSequencesResponse>, Status> {
        let request = request.into_inner();
        let lead = self.leads.of(&request.group).await?;
        let (after, most) = (SequenceId(request.after), request.page_size as usize);
        let listed = lead.inquire(|reply| Inquiry::Sequences { after, most, reply });
        Ok(Response::new(listed.await?))
    }

    async fn drain(
        &self,
        request: Request<wire::DrainRequest>,
    ) -> Result<Response<wire::DrainResponse>, Status> {
        let wire::DrainRequest { group, name } = request.into_inner();
        let lead = self.leads.of(&group).await?;
        let ordered = lead.inquire(|reply| Inquiry::Drain { name, reply });
        let incarnation = ordered.await??;
        Ok(Response::new(wire::DrainResponse { incarnation }))
    }

    async fn drain_coordinator(
        &self,
        request: Request<wire::DrainCoordinatorRequest>,
    ) -> Result<Response<wire::DrainCoordinatorResponse>, Status> {
        let asked = request.into_inner();
        if (asked.name.as_str(), asked.incarnation) != (self.name.as_str(), self.incarnation) {
            let why = format!(
                "coordinator '{}' is here now, and not the one that was asked for; look again",
                self.name
            );
            return Err(Status::not_found(why));
        }
        tracing::info!("an operator has ordered this coordinator to end");
        self.shutdown.cancel();
        Ok(Response::new(wire::DrainCoordinatorResponse {}))
    }

    async fn move_lead(
        &self,
        request: Request<wire::MoveLeadRequest>,
    ) -> Result<Response<wire::MoveLeadResponse>, Status> {
        let wire::MoveLeadRequest { group, to } = request.into_inner();
        self.leads.of(&group).await?;
        if to == self.name {
            let why = format!("coordinator '{to}' leads group '{group}' already");
            return Err(Status::invalid_argument(why));
        }
        let order = self.successor(&group, &to).await?;
        let election = self.elections.get(&group).ok_or_else(ending)?;
        let sent = election.send(order.clone()).await;
        sent.map_err(|_| ending())?;
        let term = self.handed_over(&group, &order.to).await?;
        Ok(Response::new(wire::MoveLeadResponse {
            name: order.to.name,
            term: term.0,
        }))
    }
}
