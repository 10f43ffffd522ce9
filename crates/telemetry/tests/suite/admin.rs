//! The listener, by hand-written HTTP.

use std::time::Duration;

use sockets::Listener;
use telemetry::{Phase, WorkerTelemetry, admin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::worker;

/// Longest that a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    telemetry: WorkerTelemetry,
    address: std::net::SocketAddr,
    end: CancellationToken,
    ended: JoinHandle<()>,
}

async fn serve() -> Served {
    let telemetry = worker(2);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let (address, end) = (listener.local_addr(), CancellationToken::new());
    let ended = tokio::spawn(admin::serve(listener, telemetry.clone(), end.clone()));
    Served {
        telemetry,
        address,
        end,
        ended,
    }
}

impl Served {
    /// Returns status, head and body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }
}

#[tokio::test]
async fn startupz_shows_phase_and_bytes_until_the_process_has_started() {
    let served = serve().await;
    let vitals = served.telemetry.vitals();
    vitals.enter(Phase::Loading, "epoch 1.1");
    vitals.loaded(10, 40);
    let (status, head, body) = served.ask("GET", "/startupz").await;
    assert_eq!(status, 503);
    assert!(head.contains("content-type: application/json"), "{head}");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["phase"], "loading");
    assert_eq!(json["detail"], "epoch 1.1");
    assert_eq!(
        (&json["bytes_done"], &json["bytes_total"]),
        (&10.into(), &40.into())
    );
    assert!(
        json["eta_seconds"].is_number() && json["started"] == false,
        "{body}"
    );
    vitals.enter(Phase::Serving, "");
    assert_eq!(served.ask("GET", "/startupz").await.0, 200);
    vitals.enter(Phase::Draining, "");
    assert_eq!(served.ask("GET", "/startupz").await.0, 200);
}

#[tokio::test]
async fn readyz_says_why_not() {
    let served = serve().await;
    assert_eq!(served.ask("GET", "/readyz").await.0, 503);
    served.telemetry.vitals().ready(Ok(()));
    let (status, _, body) = served.ask("GET", "/readyz").await;
    assert_eq!((status, &*body), (200, "ready\n"));
    served.telemetry.vitals().ready(Err("nobody leads".into()));
    let (status, _, body) = served.ask("GET", "/readyz").await;
    assert_eq!((status, &*body), (503, "nobody leads\n"));
}

#[tokio::test]
async fn livez_fails_with_a_loop_that_stands_still() {
    let served = serve().await;
    let (status, _, body) = served.ask("GET", "/livez").await;
    assert_eq!((status, &*body), (200, "alive\n"));
    let still = served.telemetry.vitals().pulse("step loop", Duration::ZERO);
    let began = Instant::now();
    while served.ask("GET", "/livez").await.0 == 200 {
        assert!(began.elapsed() < PATIENCE);
    }
    let (_, _, body) = served.ask("GET", "/livez").await;
    assert!(body.contains("the step loop has not moved"), "{body}");
    drop(still);
    assert_eq!(served.ask("GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn metrics_are_text_of_the_version_that_prometheus_asks_for() {
    let served = serve().await;
    let (status, head, body) = served.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(body.contains("\nconclave_build_info{"), "{body}");
}

/// Returns the value of the only series of a metric that has these labels.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(series));
    let line = line.unwrap_or_else(|| panic!("no {series} in {text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn a_runtime_that_is_kept_from_its_tasks_shows_it() {
    let served = serve().await;
    let (_, _, before) = served.ask("GET", "/metrics").await;
    assert!(value(&before, "conclave_tokio_threads{") >= 1.0);
    assert!(value(&before, "conclave_tokio_tasks{") >= 2.0);
    // There is but one thread, and here it does nothing else for longer than a few periods.
    std::thread::sleep(Duration::from_millis(600));
    let late = |text: &str| {
        let all = value(text, "conclave_event_loop_lag_seconds_count{");
        let labels = "model=\"tiny\",group=\"blue\",le=\"0.25\"";
        let in_time = format!("conclave_event_loop_lag_seconds_bucket{{{labels}}}");
        all - value(text, &in_time)
    };
    let began = Instant::now();
    let after = loop {
        let (_, _, text) = served.ask("GET", "/metrics").await;
        if late(&text) > late(&before) {
            break text;
        }
        assert!(began.elapsed() < PATIENCE, "{text}");
    };
    let busy = |text: &str| value(text, "conclave_tokio_busy_seconds_total{");
    assert!(busy(&after) > busy(&before) + 0.3, "{after}");
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let served = serve().await;
    for path in ["/startupz", "/livez", "/readyz", "/metrics"] {
        let (get, ..) = served.ask("GET", path).await;
        let (status, head, body) = served.ask("HEAD", path).await;
        assert_eq!((status, &*body), (get, ""), "{path}");
        assert!(head.contains("content-length: "), "{head}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let served = serve().await;
    assert_eq!(served.ask("GET", "/").await.0, 404);
    assert_eq!(served.ask("GET", "/metrics/").await.0, 404);
    let (status, head, _) = served.ask("POST", "/metrics").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: get,head"), "{head}");
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed_and_keep_nobody_out() {
    let served = serve().await;
    let mut silent = Vec::new();
    for _ in 0..admin::MAX_CONNECTIONS {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let began = Instant::now();
    let status = timeout(2 * PATIENCE, served.ask("GET", "/livez"))
        .await
        .unwrap()
        .0;
    assert_eq!(status, 200);
    assert!(
        began.elapsed() >= admin::HEAD_LIMIT / 2,
        "they had no place"
    );
    let mut rest = Vec::new();
    for mut stream in silent {
        timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn ends_with_the_process_whoever_is_connected() {
    let served = serve().await;
    let mut kept = TcpStream::connect(served.address).await.unwrap();
    let request = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    kept.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 15];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    served.end.cancel();
    timeout(PATIENCE, served.ended).await.unwrap().unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, kept.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}
