//! The way to the store: one endpoint at a time, another one when it fails.
//!
//! etcd's members are equal, so any endpoint will do, and one that answers is kept. Requests are not
//! spread over all of them: a balancer that counts requests under way gives most of them to the
//! member that is dead, because it is done with each at once.

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, KvClient, LeaseClient, WatchClient};
use sockets::Dialer;
use telemetry::labels::StoreOp;
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::client::ConfigError;
use crate::error::Error;
use crate::limits::{
    ATTEMPT_LIMIT, CONNECT_LIMIT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_ANSWER_BYTES,
    OPERATION_LIMIT,
};
use crate::observer::Observer;

/// Whether the store is there, as its last use showed.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether the last operation was answered. False until the first one is.
    pub connected: bool,
    /// Since when that is so.
    pub since: std::time::Instant,
    /// The endpoint that answered last.
    pub endpoint: Option<String>,
    /// What went wrong last, in words; gone when the store answers.
    pub last_error: Option<String>,
}

/// The parts of etcd's API that are used, at one endpoint.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) kv: KvClient,
    pub(crate) lease: LeaseClient,
    pub(crate) watch: WatchClient,
}

/// An endpoint in use.
pub(crate) struct Peer {
    pub(crate) index: usize,
    pub(crate) address: String,
    pub(crate) services: Services,
}

struct Address {
    endpoint: Endpoint,
    shown: String,
    services: OnceCell<Services>,
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or nothing that matters.
    Harmless,
    /// Only if it was certainly not sent.
    Never,
}

/// What a member of etcd says that has lost the others, before it begins with anything (v3.5,
/// api/v3rpc/rpctypes/error.go).
const NO_LEADER: &str = "etcdserver: no leader";

/// Why an attempt has no result.
pub(crate) enum Failure {
    /// Nobody has taken the request.
    Unsent(String),
    /// The connection, the server or its time ended.
    Broken(String),
    /// An answer.
    Refused(Code, String),
}

pub(crate) struct Link {
    addresses: Vec<Address>,
    /// Position of the endpoint in use.
    current: AtomicUsize,
    dialer: Dialer,
    health: watch::Sender<Health>,
    observer: Observer,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("endpoints", &self.endpoints())
            .field("health", &*self.health.borrow())
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(endpoints: &[String], dialer: Dialer) -> Result<Self, ConfigError> {
        if endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        let addresses: Result<_, _> = endpoints.iter().map(|text| address(text)).collect();
        let health = Health {
            connected: false,
            since: std::time::Instant::now(),
            endpoint: None,
            last_error: None,
        };
        Ok(Self {
            addresses: addresses?,
            current: AtomicUsize::new(0),
            dialer,
            health: watch::Sender::new(health),
            observer: Observer::default(),
        })
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Returns the endpoint to use now.
    ///
    /// # Errors
    ///
    /// If its client cannot be made.
    pub(crate) async fn peer(&self) -> Result<Peer, Failure> {
        let index = self.current.load(Ordering::Relaxed);
        let address = &self.addresses[index];
        let make = || services(self.dialer.connect_lazy(&address.endpoint));
        match address.services.get_or_try_init(make).await {
            Ok(services) => Ok(Peer {
                index,
                address: address.shown.clone(),
                services: services.clone(),
            }),
            Err(error) => {
                self.leave(index);
                Err(Failure::Unsent(in_words(&error)))
            }
        }
    }

    /// Turns to the next endpoint, unless somebody has already left this one.
    pub(crate) fn leave(&self, index: usize) {
        let next = (index + 1) % self.addresses.len();
        // Whoever was faster went to the same place.
        _ = (self.current).compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Says that an endpoint answered.
    pub(crate) fn up(&self, endpoint: &str) {
        self.health.send_if_modified(|health| {
            if health.connected && health.endpoint.as_deref() == Some(endpoint) {
                return false;
            }
            if !health.connected {
                info!(endpoint, "the membership store answers");
                health.since = std::time::Instant::now();
            }
            health.connected = true;
            health.endpoint = Some(endpoint.to_owned());
            health.last_error = None;
            true
        });
    }

    /// Says that no endpoint does.
    fn down(&self, why: &str) {
        let why = &format!("{}: {why}", self.endpoints());
        self.health.send_if_modified(|health| {
            let is_news = health.connected || health.last_error.is_none();
            if is_news {
                warn!(why, "the membership store does not answer");
                health.since = std::time::Instant::now();
            }
            health.connected = false;
            let is_other = health.last_error.as_deref() != Some(why);
            if is_other {
                health.last_error = Some(why.to_owned());
            }
            is_news || is_other
        });
    }

    fn endpoints(&self) -> String {
        let shown: Vec<&str> = self.addresses.iter().map(|a| a.shown.as_str()).collect();
        shown.join(", ")
    }

    /// Carries out one operation within [`OPERATION_LIMIT`]; `what` completes "cannot …".
    ///
    /// # Errors
    ///
    /// If the store refuses, cannot be reached, or does not say what it did.
    pub(crate) async fn call<T, F>(
        &self,
        op: StoreOp,
        what: &str,
        repeat: Repeat,
        call: impl Fn(Services) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let end = Instant::now() + OPERATION_LIMIT;
        let mut attempts = Attempts::new(Backoff::new());
        loop {
            let why = match self.attempt((op, what), repeat, end, &call).await {
                Ok(result) => return result,
                Err(why) => why,
            };
            let pause = attempts.failed(self, &why);
            if Instant::now() + pause < end {
                tokio::time::sleep(pause).await;
            } else {
                self.down(&why);
                return Err(Error::Unreachable {
                    what: what.to_owned(),
                    endpoints: self.endpoints(),
                    why,
                });
            }
        }
    }

    /// Asks one endpoint. The error of the outer result says why to try the next one.
    async fn attempt<T, F>(
        &self,
        (op, what): (StoreOp, &str),
        repeat: Repeat,
        end: Instant,
        call: impl Fn(Services) -> F,
    ) -> Result<Result<T, Error>, String>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let peer = self.peer().await.map_err(Failure::why)?;
        let limit = match repeat {
            Repeat::Harmless => end.min(Instant::now() + ATTEMPT_LIMIT),
            Repeat::Never => end,
        };
        let failure = match self.observer.within(op, limit, call(peer.services)).await {
            Ok(done) => {
                self.up(&peer.address);
                return Ok(Ok(done));
            }
            Err(failure) => failure,
        };
        let (what, endpoint) = (what.to_owned(), peer.address);
        match failure {
            Failure::Refused(code, why) => {
                self.up(&endpoint);
                Ok(Err(Error::Refused {
                    what,
                    endpoint,
                    code,
                    why,
                }))
            }
            Failure::Broken(why) if repeat == Repeat::Never => {
                self.leave(peer.index);
                self.down(&why);
                Ok(Err(Error::Unknown {
                    what,
                    endpoint,
                    why,
                }))
            }
            failure => {
                self.leave(peer.index);
                Err(failure.why())
            }
        }
    }
}

/// Attempts in a row that have failed.
pub(crate) struct Attempts {
    failed: usize,
    backoff: Backoff,
}

impl Attempts {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { failed: 0, backoff }
    }

    /// Counts a failure. Returns how long to wait before the next attempt: not at all if there are
    /// endpoints that have not failed since the last success.
    pub(crate) fn failed(&mut self, link: &Link, why: &str) -> Duration {
        self.failed += 1;
        if !self.failed.is_multiple_of(link.addresses.len()) {
            return Duration::ZERO;
        }
        link.down(why);
        self.pause()
    }

    /// Returns how long to wait before the next attempt, where no endpoint is to blame.
    pub(crate) fn pause(&mut self) -> Duration {
        self.backoff.pause()
    }

    /// Starts over, after a success.
    pub(crate) fn succeeded(&mut self) {
        self.failed = 0;
        self.backoff.reset();
    }
}

impl Failure {
    /// Why, in words.
    pub(crate) fn why(self) -> String {
        match self {
            Self::Unsent(why) | Self::Broken(why) => why,
            Self::Refused(code, why) => format!("{why} ({code:?})"),
        }
    }
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        let etcd_client::Error::GRpcStatus(status) = &error else {
            return Self::Broken(in_words(&error));
        };
        let mut sources = std::iter::successors(status.source(), |error| (*error).source());
        if sources.any(|error| error.is::<tonic::ConnectError>()) || status.message() == NO_LEADER {
            return Self::Unsent(in_words(status));
        }
        // A connection that breaks has many codes, and so has a member of etcd that has no leader.
        match status.code() {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown => Self::Broken(in_words(status)),
            code => Self::Refused(code, status.message().to_owned()),
        }
    }
}

/// An error and its causes, each said once.
fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = match error.downcast_ref::<tonic::Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        source = error.source();
    }
    said
}

/// Reads `host:port` or `http://host:port`.
fn address(text: &str) -> Result<Address, ConfigError> {
    let refused = |why: &str| ConfigError::Endpoint {
        endpoint: text.to_owned(),
        why: why.to_owned(),
    };
    if text.starts_with("https://") {
        return Err(refused("TLS to the store is not supported"));
    }
    let shown = text.trim_start_matches("http://").trim_end_matches('/');
    let uri: tonic::transport::Uri =
        (format!("http://{shown}").parse()).map_err(|_| refused("it is not a host and a port"))?;
    if uri.port_u16().is_none() || uri.path() != "/" {
        return Err(refused("it is not a host and a port"));
    }
    Ok(Address {
        endpoint: settings(uri.into()),
        shown: shown.to_owned(),
        services: OnceCell::new(),
    })
}

/// The one place where the sockets of this crate get their settings. A name is looked up each time
/// that a connection is made.
fn settings(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

async fn services(channel: Channel) -> Result<Services, etcd_client::Error> {
    // A member of etcd that has lost the others then says so, instead of waiting for them.
    let options = ConnectOptions::new().with_require_leader(true);
    let client = Client::from_channel(etcd_client::Channel::Tonic(channel), Some(options)).await?;
    Ok(Services {
        kv: client
            .kv_client()
            .max_decoding_message_size(MAX_ANSWER_BYTES),
        lease: client.lease_client(),
        watch: client
            .watch_client()
            .max_decoding_message_size(MAX_ANSWER_BYTES),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for good in [
            "etcd-0.etcd:2379",
            "http://127.0.0.1:1",
            "http://[::1]:2379/",
        ] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "etcd",
            "https://etcd:2379",
            "a b:1",
            "etcd:99999",
            "etcd:1/x",
        ] {
            let Err(error) = address(bad) else {
                panic!("{bad} is taken");
            };
            assert!(error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn a_code_tells_a_broken_connection_from_a_refusal() {
        let failure = |code| Failure::from(etcd_client::Error::from(tonic::Status::new(code, "x")));
        assert!(matches!(failure(Code::Unknown), Failure::Broken(_)));
        assert!(matches!(failure(Code::Unavailable), Failure::Broken(_)));
        assert!(matches!(
            failure(Code::NotFound),
            Failure::Refused(Code::NotFound, _)
        ));
        assert!(matches!(failure(Code::OutOfRange), Failure::Refused(..)));
        let leaderless = tonic::Status::unavailable(NO_LEADER);
        let failure = Failure::from(etcd_client::Error::from(leaderless));
        assert!(matches!(failure, Failure::Unsent(_)));
    }
}
