//! Registers the worker with its group's lead and stays registered, for as long as it lives.
//!
//! The lead may start after the workers, go away and come back, or be another one: the worker dials
//! whoever leads, for ever. Only a refusal that another try cannot change ends it.

use std::sync::Arc;
use std::time::Duration;

use proto::internal as wire;
use sockets::Dialer;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use wire::LeadRecord;
use wire::attend_request::Message;
use wire::cluster_service_client::ClusterServiceClient;

use crate::error::{Error, Result, chain};
use crate::limits::{
    ATTEND_SILENCE, BACKOFF_MAX, BACKOFF_MIN, CONNECT_TIMEOUT, HEARTBEAT_INTERVAL,
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, LIVENESS,
};
use crate::standing::Standing;

/// A worker's side of `ClusterService.Attend`.
pub(crate) struct Membership {
    /// Who leads the group.
    pub(crate) leads: watch::Receiver<Option<LeadRecord>>,
    /// Connects to them.
    pub(crate) dialer: Dialer,
    /// What the worker says about itself; whom it obeys is filled in at every try.
    pub(crate) registration: wire::Registration,
    /// Fills in whom the worker has obeyed, and of which epoch its last step was.
    pub(crate) obeyed: Arc<dyn Fn(&mut wire::Registration) + Send + Sync>,
    /// Told whether the worker is registered.
    pub(crate) standing: Arc<Standing>,
    /// Cancelled when the worker is to end; also by the lead, which passes on an operator's order.
    pub(crate) draining: CancellationToken,
    /// Whether anybody may need the worker: it is registered, and not released.
    pub(crate) needed: watch::Sender<bool>,
}

impl Membership {
    /// Stays registered until `shutdown`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; every other failure is tried again.
    pub(crate) async fn attend(mut self, shutdown: CancellationToken) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            let lead = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                lead = self.lead() => lead,
            };
            let status = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                // The next lead has the group now; this one hears that the stream has ended.
                () = other_than(self.leads.clone(), &lead) => {
                    tracing::info!(lead = lead.address, "another coordinator leads");
                    self.needed.send_replace(false);
                    patience = Patience::default();
                    continue;
                }
                status = self.attend_once(&lead, &mut patience) => status,
            };
            self.needed.send_replace(false);
            let (reason, address) = (status.message(), &lead.address);
            let pause = patience.after(status.code());
            self.standing.unregistered(reason, pause.is_none());
            let Some(pause) = pause else {
                let name = self.registration.name.clone();
                let reason = reason.to_owned();
                let lead = address.clone();
                return Err(Error::Refused { lead, name, reason });
            };
            // One warning for an outage, not one for every try.
            if pause == BACKOFF_MIN {
                tracing::warn!(lead = address, reason, "not registered");
            } else {
                tracing::debug!(lead = address, reason, "not registered");
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = rest(pause, self.leads.clone(), &lead) => {}
            }
        }
    }

    /// Waits until somebody leads.
    async fn lead(&mut self) -> LeadRecord {
        let known = self.leads.wait_for(Option::is_some).await;
        let lead = known.ok().and_then(|lead| lead.clone());
        match lead {
            Some(lead) => lead,
            // Whoever follows the leads has ended, and so is the worker about to.
            None => std::future::pending().await,
        }
    }

    /// Registers once and sends heartbeats until the stream ends; returns how it ended.
    async fn attend_once(&self, lead: &LeadRecord, patience: &mut Patience) -> Status {
        match self.stream(lead, patience).await {
            Ok(()) => Status::unavailable("the lead ended the stream"),
            Err(status) => status,
        }
    }

    async fn stream(
        &self,
        lead: &LeadRecord,
        patience: &mut Patience,
    ) -> std::result::Result<(), Status> {
        let mut client = connect(&self.dialer, lead).await?;
        // One place for the registration and one for a heartbeat: a coordinator that reads
        // nothing is not sent more.
        let (sender, requests) = mpsc::channel(2);
        let mut registration = self.registration.clone();
        (self.obeyed)(&mut registration);
        registration.draining = self.draining.is_cancelled();
        let registration_drains = registration.draining;
        let message = Message::Registration(registration);
        let queued = sender.try_send(wire::AttendRequest {
            message: Some(message),
        });
        queued.map_err(|_| Status::internal("a new queue has no place"))?;
        let silent = || Status::unavailable(format!("no answer within {ATTEND_SILENCE:?}"));
        let answers = client.attend(ReceiverStream::new(requests));
        let answers = timeout(ATTEND_SILENCE, answers)
            .await
            .map_err(|_| silent())?;
        let mut answers = answers?.into_inner();

        let mut heartbeat = interval(HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deadline = Instant::now() + ATTEND_SILENCE;
        let mut drains = registration_drains;
        let vitals = self.standing.telemetry().vitals();
        let pulse = vitals.pulse("attendance", LIVENESS);
        loop {
            pulse.beat();
            tokio::select! {
                // Told at once, and not with the next heartbeat only.
                () = self.draining.cancelled(), if !drains => {
                    drains = true;
                    heartbeat.reset_immediately();
                }
                answer = answers.message() => {
                    let Some(answer) = answer? else { return Ok(()) };
                    if patience.accepted() {
                        self.standing.registered();
                        tracing::info!(lead = lead.address, term = answer.term, "registered");
                    }
                    self.needed.send_replace(!answer.released);
                    if answer.drain && !self.draining.is_cancelled() {
                        tracing::info!(lead = lead.address, "ordered to end");
                        self.draining.cancel();
                    }
                    deadline = Instant::now() + ATTEND_SILENCE;
                }
                _ = heartbeat.tick() => {
                    let message = Some(Message::Heartbeat(wire::Heartbeat { draining: drains }));
                    // A full queue means that the one before is still unread: it says the same.
                    if let Err(mpsc::error::TrySendError::Closed(_)) =
                        sender.try_send(wire::AttendRequest { message })
                    {
                        // The stream is gone; the next answer says why.
                        heartbeat.reset_after(ATTEND_SILENCE);
                    }
                }
                () = sleep_until(deadline) => return Err(silent()),
            }
        }
    }
}

async fn connect(
    dialer: &Dialer,
    lead: &LeadRecord,
) -> std::result::Result<ClusterServiceClient<tonic::transport::Channel>, Status> {
    let unreachable = |error: tonic::transport::Error| Status::unavailable(chain(&error));
    let endpoint = Endpoint::from_shared(lead.address.clone()).map_err(unreachable)?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .tcp_nodelay(true);
    let channel = dialer.connect(&endpoint).await.map_err(unreachable)?;
    Ok(ClusterServiceClient::new(channel))
}

/// Waits until another coordinator leads, or the same one after a new start. A lead that has only
/// raised its term is still the one.
async fn other_than(mut leads: watch::Receiver<Option<LeadRecord>>, lead: &LeadRecord) {
    let is_other = |known: &Option<LeadRecord>| {
        known
            .as_ref()
            .is_some_and(|known| (&known.name, known.incarnation) != (&lead.name, lead.incarnation))
    };
    if leads.wait_for(is_other).await.is_err() {
        std::future::pending().await
    }
}

/// Waits for a pause, but not when another coordinator leads: it waits for its workers before it takes
/// others.
async fn rest(pause: Duration, leads: watch::Receiver<Option<LeadRecord>>, lead: &LeadRecord) {
    tokio::select! {
        () = other_than(leads, lead) => {}
        () = sleep(pause) => {}
    }
}

/// Decides how often to try.
#[derive(Debug, Default)]
struct Patience {
    /// Whether the lead has answered since the last failure.
    registered: bool,
    /// Failures since it last answered.
    failures: u32,
}

impl Patience {
    /// The lead answered; returns whether this is news.
    fn accepted(&mut self) -> bool {
        let news = !self.registered;
        *self = Self {
            registered: true,
            failures: 0,
        };
        news
    }

    /// The stream ended with `code` (`Unavailable` for anything but a refusal); returns the pause
    /// before the next try, if another would not be refused too. A name that the lead still knows of
    /// an earlier start will be free once that one's stream has ended.
    fn after(&mut self, code: Code) -> Option<Duration> {
        self.registered = false;
        if matches!(code, Code::FailedPrecondition | Code::InvalidArgument) {
            return None;
        }
        let pause = BACKOFF_MIN * 2u32.saturating_pow(self.failures);
        self.failures = (self.failures + 1).min(16);
        Some(pause.min(BACKOFF_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_start_again_after_success() {
        let mut patience = Patience::default();
        let pauses: Vec<Duration> = (0..40)
            .map(|_| patience.after(Code::Unavailable).unwrap())
            .collect();
        assert_eq!(pauses[0], BACKOFF_MIN);
        assert_eq!(pauses[1], 2 * BACKOFF_MIN);
        assert!(pauses[5..].iter().all(|pause| *pause == BACKOFF_MAX));
        assert!(patience.accepted(), "the first answer is news");
        assert!(!patience.accepted(), "the second is not");
        assert_eq!(patience.after(Code::AlreadyExists), Some(BACKOFF_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn another_lead_is_registered_with_at_once() {
        let lead = |incarnation, term| LeadRecord {
            name: "c".into(),
            incarnation,
            address: "http://c:1".into(),
            term,
        };
        let (first, began) = (lead(1, 1), Instant::now());
        let (sender, leads) = watch::channel(Some(first.clone()));
        let changes = async {
            sender.send(Some(lead(1, 2))).unwrap();
            sleep(BACKOFF_MIN).await;
            sender.send(Some(lead(2, 3))).unwrap();
        };
        tokio::join!(rest(BACKOFF_MAX, leads.clone(), &first), changes);
        assert_eq!(began.elapsed(), BACKOFF_MIN, "a new term is no other lead");
        rest(BACKOFF_MAX, leads, &lead(2, 3)).await;
        assert_eq!(began.elapsed(), BACKOFF_MIN + BACKOFF_MAX);
    }

    #[test]
    fn ends_on_a_refusal_that_stays() {
        for code in [Code::FailedPrecondition, Code::InvalidArgument] {
            assert_eq!(Patience::default().after(code), None);
        }
    }
}
