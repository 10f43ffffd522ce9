//! Registers the worker with the coordinator and stays registered, for as long as it lives.
//!
//! The coordinator may start after the workers, go away and come back: the worker dials for ever.
//! Only a refusal that another try cannot change ends it.

use std::sync::Arc;
use std::time::Duration;

use proto::internal as wire;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use wire::attend_request::Message;
use wire::cluster_service_client::ClusterServiceClient;

use crate::error::{Error, Result, chain};
use crate::limits::{
    ATTEND_SILENCE, BACKOFF_MAX, BACKOFF_MIN, CONNECT_TIMEOUT, HEARTBEAT_INTERVAL,
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, NAME_TAKEN_PATIENCE,
};

/// A worker's side of `ClusterService.Attend`.
pub(crate) struct Membership {
    /// Address of the coordinator.
    pub(crate) coordinator: String,
    /// What the worker says about itself; its term is filled in at every try.
    pub(crate) registration: wire::Registration,
    /// Returns the highest term the worker has obeyed.
    pub(crate) term: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Membership {
    /// Stays registered until `shutdown`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] and [`Error::NameTaken`]; every other failure is tried again.
    pub(crate) async fn attend(self, shutdown: CancellationToken) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            let status = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                status = self.attend_once(&mut patience) => status,
            };
            match patience.after(status.code(), Instant::now()) {
                Next::Retry(pause) => {
                    let reason = status.message();
                    // One warning for an outage, not one for every try.
                    if pause == BACKOFF_MIN {
                        tracing::warn!(coordinator = self.coordinator, reason, "not registered");
                    } else {
                        tracing::debug!(coordinator = self.coordinator, reason, "not registered");
                    }
                    tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        () = sleep(pause) => {}
                    }
                }
                next => return Err(self.refusal(&next, status.message())),
            }
        }
    }

    fn refusal(&self, next: &Next, reason: &str) -> Error {
        let (coordinator, reason) = (self.coordinator.clone(), reason.to_owned());
        let name = self.registration.name.clone();
        match next {
            Next::NameTaken(waited) => Error::NameTaken {
                coordinator,
                name,
                waited: *waited,
                reason,
            },
            Next::Refused | Next::Retry(_) => Error::Refused {
                coordinator,
                name,
                reason,
            },
        }
    }

    /// Registers once and sends heartbeats until the stream ends; returns how it ended.
    async fn attend_once(&self, patience: &mut Patience) -> Status {
        match self.stream(patience).await {
            Ok(()) => Status::unavailable("the coordinator ended the stream"),
            Err(status) => status,
        }
    }

    async fn stream(&self, patience: &mut Patience) -> std::result::Result<(), Status> {
        let mut client = self.connect().await?;
        // One place for the registration and one for a heartbeat: a coordinator that reads
        // nothing is not sent more.
        let (sender, requests) = mpsc::channel(2);
        let mut registration = self.registration.clone();
        registration.term = (self.term)();
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
        loop {
            tokio::select! {
                answer = answers.message() => {
                    let Some(answer) = answer? else { return Ok(()) };
                    if patience.accepted() {
                        tracing::info!(coordinator = self.coordinator, term = answer.term, "registered");
                    }
                    deadline = Instant::now() + ATTEND_SILENCE;
                }
                _ = heartbeat.tick() => {
                    let message = Some(Message::Heartbeat(wire::Heartbeat {}));
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

    async fn connect(
        &self,
    ) -> std::result::Result<ClusterServiceClient<tonic::transport::Channel>, Status> {
        let unreachable = |error: tonic::transport::Error| Status::unavailable(chain(&error));
        let endpoint = Endpoint::from_shared(self.coordinator.clone()).map_err(unreachable)?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(unreachable)?;
        Ok(ClusterServiceClient::new(channel))
    }
}

/// What follows the end of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Try again after this pause.
    Retry(Duration),
    /// Another try would be refused too.
    Refused,
    /// The name has been taken for this long.
    NameTaken(Duration),
}

/// Decides how often and how long to try.
#[derive(Debug, Default)]
struct Patience {
    /// Whether the coordinator has answered since the last failure.
    registered: bool,
    /// Failures since it last answered.
    failures: u32,
    /// When it first said that the name is taken.
    taken_since: Option<Instant>,
}

impl Patience {
    /// The coordinator answered; returns whether this is news.
    fn accepted(&mut self) -> bool {
        let news = !self.registered;
        *self = Self {
            registered: true,
            ..Self::default()
        };
        news
    }

    /// The stream ended with `code` (`Unavailable` for anything but a refusal).
    fn after(&mut self, code: Code, now: Instant) -> Next {
        self.registered = false;
        match code {
            Code::FailedPrecondition | Code::InvalidArgument => return Next::Refused,
            Code::AlreadyExists => {
                let waited = now - *self.taken_since.get_or_insert(now);
                if waited >= NAME_TAKEN_PATIENCE {
                    return Next::NameTaken(waited);
                }
            }
            _ => self.taken_since = None,
        }
        let pause = BACKOFF_MIN * 2u32.saturating_pow(self.failures);
        self.failures = (self.failures + 1).min(16);
        Next::Retry(pause.min(BACKOFF_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_start_again_after_success() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..40 {
            match patience.after(Code::Unavailable, now) {
                Next::Retry(pause) => pauses.push(pause),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pauses[0], BACKOFF_MIN);
        assert_eq!(pauses[1], 2 * BACKOFF_MIN);
        assert!(pauses[5..].iter().all(|pause| *pause == BACKOFF_MAX));
        assert!(patience.accepted(), "the first answer is news");
        assert!(!patience.accepted(), "the second is not");
        assert_eq!(
            patience.after(Code::Unavailable, now),
            Next::Retry(BACKOFF_MIN)
        );
    }

    #[test]
    fn ends_on_a_refusal_that_stays() {
        for code in [Code::FailedPrecondition, Code::InvalidArgument] {
            let next = Patience::default().after(code, Instant::now());
            assert_eq!(next, Next::Refused);
        }
    }

    #[test]
    fn waits_for_its_own_old_lease_but_not_for_ever() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        assert!(matches!(
            patience.after(Code::AlreadyExists, start),
            Next::Retry(_)
        ));
        let almost = start + NAME_TAKEN_PATIENCE - Duration::from_millis(1);
        assert!(matches!(
            patience.after(Code::AlreadyExists, almost),
            Next::Retry(_)
        ));
        let late = start + NAME_TAKEN_PATIENCE;
        assert_eq!(
            patience.after(Code::AlreadyExists, late),
            Next::NameTaken(NAME_TAKEN_PATIENCE)
        );
    }
}
