//! The public gRPC listener, by HTTP/2.
//!
//! Its connections have places (see [`Listener::bounded`]); here they are kept from staying in them for
//! nothing, and for ever.

use sockets::Listener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Error, Server};

use crate::limits;

/// Serves clients until `drained`, and then what they have asked for to its end.
///
/// # Errors
///
/// If the server fails.
pub(super) async fn serve(
    listener: Listener,
    routes: Routes,
    drained: CancellationToken,
) -> Result<(), Error> {
    let listener = listener.bounded(sockets::public_connections(), limits::HTTP2_PREFACE);
    // Without a grace: it would cut what still runs, and never ask anybody to go.
    Server::builder()
        .tcp_nodelay(true)
        .max_connection_age(limits::CLIENT_CONNECTION_AGE)
        .http2_keepalive_interval(Some(limits::CLIENT_KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::CLIENT_KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(limits::MAX_CALLS)
        .add_routes(routes)
        .serve_with_incoming_shutdown(listener, drained.cancelled_owned())
        .await
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sockets::{Connection, Dialer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::{Duration, Instant, sleep, timeout};
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::transport::Endpoint;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::server::{HealthReporter, health_reporter};
    use tonic_health::{ServingStatus, pb};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// Settings without any.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    type Arrive = mpsc::Sender<io::Result<Connection>>;

    /// Serves health; returns where connections come, and who says how it is.
    fn served() -> (Arrive, HealthReporter) {
        let (arrive, arrivals) = mpsc::channel(4);
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let listener = Listener::new(local, ReceiverStream::new(arrivals));
        let (reporter, health) = health_reporter();
        let routes = Routes::new(health);
        tokio::spawn(serve(listener, routes, CancellationToken::new()));
        (arrive, reporter)
    }

    async fn arrives(arrive: &Arrive) -> DuplexStream {
        let (near, far) = duplex(1 << 16);
        let far = Connection::new(far, (None, None));
        arrive.send(Ok(far)).await.unwrap();
        near
    }

    /// Says this much and then nothing; returns how long the connection lasts.
    async fn lasts(said: &[u8]) -> Duration {
        let (arrive, _reporter) = served();
        let (mut client, began) = (arrives(&arrive).await, Instant::now());
        client.write_all(said).await.unwrap();
        let day = Duration::from_secs(86_400);
        let ended = timeout(day, client.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "it keeps its place for ever");
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_begins_no_conversation_is_let_go() {
        assert_eq!(PREFACE.len(), limits::HTTP2_PREFACE);
        for said in [0, 1, PREFACE.len() - 1] {
            let lasted = lasts(&PREFACE[..said]).await;
            assert!(lasted < limits::CLIENT_KEEPALIVE, "{said}: {lasted:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_vanishes_from_a_conversation_is_let_go() {
        let limit = limits::CLIENT_KEEPALIVE + limits::CLIENT_KEEPALIVE_TIMEOUT;
        for said in [PREFACE.to_vec(), [PREFACE, &SETTINGS].concat()] {
            let lasted = lasts(&said).await;
            assert!(lasted <= limit + Duration::from_secs(1), "{lasted:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_connection_is_left_for_a_new_one_and_its_streams_go_on() {
        let (arrive, reporter) = served();
        let dials = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&dials);
        let dialer = Dialer::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let arrive = arrive.clone();
            async move { Ok(Connection::new(arrives(&arrive).await, (None, None))) }
        });
        let endpoint = Endpoint::from_static("http://front.invalid:1");
        let mut client = HealthClient::new(dialer.connect_lazy(&endpoint));
        let asked = HealthCheckRequest::default;
        let mut stream = client.watch(asked()).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        client.check(asked()).await.unwrap();
        assert_eq!(dials.load(Ordering::SeqCst), 1);

        sleep(limits::CLIENT_CONNECTION_AGE + Duration::from_secs(1)).await;
        // This client library finds out with a call that it does not send; others send it elsewhere.
        if client.check(asked()).await.is_err() {
            client.check(asked()).await.unwrap();
        }
        assert_eq!(dials.load(Ordering::SeqCst), 2, "connections made");
        let now = ServingStatus::NotServing;
        reporter.set_service_status("", now).await;
        let told = stream.message().await.unwrap().unwrap();
        let expected = pb::health_check_response::ServingStatus::NotServing;
        assert_eq!(told.status(), expected);
    }
}
