//! The public HTTP listener, by HTTP/1.1.
//!
//! Its connections have places (see [`Listener::bounded`]); here they are kept from staying in them
//! for nothing. How long an answer takes is the front's matter.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sockets::{Connection, Listener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits;

/// Serves clients until `drained`, and then what they have asked for to its end.
pub(super) async fn serve(mut listener: Listener, router: Router, drained: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = drained.cancelled() => break,
        };
        connections.spawn(answer(connection, router.clone(), drained.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Answers the requests of one connection.
async fn answer(connection: Connection, router: Router, drained: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_SILENCE)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drained.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection broke");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::time::{Duration, Instant, sleep};

    use super::*;

    /// Longer than a silent connection may last.
    const SLOW: Duration = limits::HTTP_SILENCE.saturating_mul(3);

    /// Serves one connection; returns the client's end, and the token that closes the server.
    fn served() -> (DuplexStream, CancellationToken) {
        let (near, far) = tokio::io::duplex(1 << 10);
        let come = tokio_stream::iter([Ok(Connection::new(far, (None, None)))]);
        let listener = Listener::new(SocketAddr::from(([127, 0, 0, 1], 1)), come);
        let slow = || async {
            sleep(SLOW).await;
            "done"
        };
        let (router, drained) = (
            Router::new().route("/", get(slow)),
            CancellationToken::new(),
        );
        tokio::spawn(serve(listener, router, drained.clone()));
        (near, drained)
    }

    async fn answered(client: &mut DuplexStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"done") {
            assert!(client.read_buf(&mut text).await.unwrap() > 0, "it ended");
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sends_no_request_is_let_go() {
        for begun in [&b""[..], b"GET / HTTP/1.1\r\nhost:"] {
            let (mut client, _drained) = served();
            let began = Instant::now();
            client.write_all(begun).await.unwrap();
            client.read_to_end(&mut Vec::new()).await.unwrap();
            let took = began.elapsed();
            assert!(
                took >= limits::HTTP_SILENCE && took < SLOW,
                "{begun:?}: {took:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_long_and_the_connection_is_let_go_after_it() {
        let (mut client, _drained) = served();
        let request = b"GET / HTTP/1.1\r\nhost: c\r\n\r\n";
        for _ in 0..2 {
            client.write_all(request).await.unwrap();
            assert!(answered(&mut client).await.contains("200 OK"));
        }
        let began = Instant::now();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        let took = began.elapsed();
        assert!(took >= limits::HTTP_SILENCE && took < SLOW, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_what_was_asked_for_is_answered() {
        let (mut client, drained) = served();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n")
            .await
            .unwrap();
        sleep(SLOW / 2).await;
        drained.cancel();
        assert!(answered(&mut client).await.contains("200 OK"));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
