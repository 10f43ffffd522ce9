//! What those who run a cluster see: probes and metrics of real processes.

use std::time::Duration;

use e2e::{Cluster, Killed, Setup, free_address, get, post_stream, signal, wait_until};
use rustix::process::Signal;
use serde_json::json;

use crate::streams::{greedy, stream};

const LIMIT: Duration = Duration::from_secs(60);

/// What a process shows at one moment.
struct Scrape(String);

impl Scrape {
    fn of(admin: &str) -> Self {
        let answer = get(&format!("http://{admin}/metrics"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        Self(answer.text)
    }

    /// Adds up the series of a metric that have all these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter(|line| {
            let of = line.split(['{', ' ']).next();
            of == Some(name) && labels.iter().all(|label| line.contains(label))
        });
        let values = series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
        values.sum()
    }
}

/// Returns where the workers of a cluster show theirs; their logs say it.
fn admins_of_workers(cluster: &Cluster) -> Vec<String> {
    let log = cluster.log();
    let said = log
        .lines()
        .filter(|line| line.contains("its state and metrics are shown"));
    let admins = said.filter_map(|line| line.split_once("admin=")?.1.split_whitespace().next());
    admins.map(str::to_owned).collect()
}

/// Looks at what a coordinator and its workers say of themselves once they serve.
fn have_started(cluster: &Cluster, workers: &[String]) {
    let coordinator = cluster.admin();
    for admin in workers.iter().map(String::as_str).chain([coordinator]) {
        for path in ["startupz", "livez", "readyz"] {
            let answer = get(&format!("http://{admin}/{path}"));
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        }
        let startup = get(&format!("http://{admin}/startupz")).json;
        assert_eq!(startup["phase"], "serving", "{startup}");
        assert_eq!(Scrape::of(admin).sum("conclave_build_info", &[]), 1.0);
        let shown = Scrape::of(admin);
        assert_eq!(shown.sum("conclave_store_up", &[]), 1.0);
        assert!(shown.sum("conclave_store_lease_remaining_seconds", &[]) > 0.0);
        for op in ["read", "transaction", "lease_grant", "watch"] {
            let answered = [&*format!("op=\"{op}\""), "outcome=\"ok\""];
            let requests = "conclave_store_request_duration_seconds_count";
            assert!(shown.sum(requests, &answered) >= 1.0, "{op}");
        }
        assert!(shown.sum("conclave_tokio_busy_seconds_total", &[]) > 0.0);
        let lag = "conclave_event_loop_lag_seconds_count";
        wait_until("lateness is observed", LIMIT, || {
            Scrape::of(admin).sum(lag, &[]) >= 1.0
        });
    }
    // One line for each process, with the seconds of each phase of its start.
    let log = cluster.log();
    let started = log.lines().filter(|line| {
        let phases = [
            "opening_model=",
            "waiting_for_store=",
            "waiting_for_lead=",
            "loading=",
        ];
        phases.iter().all(|phase| line.contains(phase))
    });
    assert_eq!(started.count(), 3, "{log}");
    for admin in workers {
        let startup = get(&format!("http://{admin}/startupz")).json;
        let bytes = (&startup["bytes_done"], &startup["bytes_total"]);
        assert!(
            bytes.0 == bytes.1 && bytes.0.as_u64() > Some(0),
            "{startup}"
        );
    }
}

#[test]
fn a_generation_shows_in_the_metrics_of_every_process_while_it_runs() {
    let cluster = Cluster::start(&Setup::mini(2));
    let workers = admins_of_workers(&cluster);
    assert_eq!(workers.len(), 2, "{}", cluster.log());
    let coordinator = cluster.admin();
    have_started(&cluster, &workers);

    let before: Vec<Scrape> = workers.iter().map(|admin| Scrape::of(admin)).collect();
    let body = json!({
        "prompt": "x", "max_tokens": 64, "temperature": 0, "ignore_eos": true, "stream": true,
    });
    let mut during = None;
    post_stream(&cluster.url("/v1/completions"), &body, |_| {
        during.get_or_insert_with(|| Scrape::of(coordinator));
    });
    let in_flight = during.unwrap();
    assert_eq!(
        in_flight.sum("conclave_requests_in_flight", &["api=\"completions\""]),
        1.0
    );
    assert!(in_flight.sum("conclave_generated_tokens_total", &[]) >= 1.0);

    let ended = [
        "api=\"completions\"",
        "outcome=\"ok\"",
        "finish_reason=\"length\"",
    ];
    wait_until("the generation is counted", LIMIT, || {
        Scrape::of(coordinator).sum("conclave_requests_total", &ended) == 1.0
    });
    let after = Scrape::of(coordinator);
    assert_eq!(after.sum("conclave_generated_tokens_total", &[]), 64.0);
    let streamed = ["api=\"completions\"", "stream=\"true\""];
    assert_eq!(
        after.sum("conclave_request_duration_seconds_count", &streamed),
        1.0
    );
    let answered = [
        "route=\"/v1/completions\"",
        "method=\"POST\"",
        "code=\"200\"",
    ];
    assert_eq!(after.sum("conclave_http_requests_total", &answered), 1.0);
    assert_eq!(after.sum("conclave_requests_in_flight", &[]), 0.0);
    for phase in ["plan", "send", "settle"] {
        let labels = [&*format!("phase=\"{phase}\"")];
        let spent = after.sum("conclave_step_phase_seconds_total", &labels);
        assert!(spent > 0.0, "{phase}");
    }
    let compared = "conclave_ep_load_imbalance_ratio";
    let (count, sum) = (format!("{compared}_count"), format!("{compared}_sum"));
    let steps = after.sum(&count, &[]);
    assert!(steps >= 64.0, "{steps}");
    // Between even, and all rows at one of two ranks.
    assert!((steps..=2.0 * steps).contains(&after.sum(&sum, &[])));
    for (admin, before) in workers.iter().zip(before) {
        let after = Scrape::of(admin);
        let steps = |scrape: &Scrape| scrape.sum("conclave_steps_total", &[]);
        assert!(steps(&after) >= steps(&before) + 64.0, "{}", after.0);
        let sent = ["transport=\"unix\""];
        assert!(after.sum("conclave_ep_all_to_all_bytes_total", &sent) > 0.0);
        for phase in ["attention", "dispatch", "experts", "combine", "sample"] {
            let labels = [&*format!("phase=\"{phase}\"")];
            let spent = after.sum("conclave_step_phase_seconds_total", &labels);
            assert!(spent > 0.0, "{phase}");
        }
        assert!(after.sum("conclave_log_events_total", &["level=\"info\""]) > 0.0);
    }
}

#[test]
fn what_a_lead_does_shows_in_its_metrics_through_the_loss_of_a_worker() {
    let cluster = Cluster::start(&Setup::mini(2));
    let victim = cluster.workers()[0];
    stream(&cluster, &greedy(), 20, || signal(victim, Signal::KILL));
    stream(&cluster, &greedy(), 20, || {});
    let shows = |name: &str, labels: &[&str]| {
        let group = ["group=\"0\""];
        Scrape::of(cluster.admin()).sum(name, &[&group, labels].concat())
    };
    // Gauges are shown as they were at the last tick.
    wait_until("all ranks are shown as ready", LIMIT, || {
        shows("conclave_ep_ranks_ready", &[]) == 2.0 && shows("conclave_epoch", &[]) >= 2.0
    });
    assert_eq!(shows("conclave_leader", &[]), 1.0);
    assert!(shows("conclave_term", &[]) >= 1.0);
    assert_eq!(shows("conclave_ep_size", &[]), 2.0);
    wait_until("both workers are shown as active", LIMIT, || {
        shows("conclave_worker_state", &["state=\"active\""]) == 2.0
    });
    assert_eq!(shows("conclave_worker_state", &[]), 2.0);
    assert!(shows("conclave_kv_blocks", &["pool=\"full\"", "rank=\"1\""]) > 0.0);
    let won = ["outcome=\"won\""];
    assert_eq!(shows("conclave_leader_elections_total", &won), 1.0);
    for counter in [
        "conclave_epoch_changes_total",
        "conclave_epoch_change_seconds_count",
        "conclave_requests_replayed_total",
        "conclave_step_duration_seconds_count",
        "conclave_batch_sequences_count",
        "conclave_batch_tokens_count",
        "conclave_prefix_cache_tokens_total",
    ] {
        assert!(shows(counter, &[]) >= 1.0, "{counter} is not counted");
    }
    let by_epoch = ["cause=\"epoch\""];
    assert!(shows("conclave_preemptions_total", &by_epoch) >= 1.0);
}

/// Waits until a process says that it waits for the membership store, and whom it asks.
fn waits_for_store(admin: &str, store: &str) {
    // Nothing listens until the process does.
    wait_until("it says what it waits for", LIMIT, || {
        std::net::TcpStream::connect(admin).is_ok() && {
            let startup = get(&format!("http://{admin}/startupz"));
            let detail = startup.json["detail"].as_str().unwrap_or_default();
            let is_told = startup.json["phase"] == "waiting for store" && detail.contains(store);
            startup.status == 503 && is_told
        }
    });
    let ready = get(&format!("http://{admin}/readyz"));
    assert_eq!(ready.status, 503, "{}", ready.text);
    assert_eq!(get(&format!("http://{admin}/livez")).status, 200);
    assert_eq!(Scrape::of(admin).sum("conclave_store_up", &[]), 0.0);
}

#[test]
fn processes_without_a_store_say_that_they_wait_for_it() {
    let [store, first, second] = [free_address(), free_address(), free_address()];
    let model = "synth:tiny,seed=7";
    let _worker = Killed::start(&[
        "worker", "--model", model, "--store", &store, "--admin", &first,
    ]);
    let any = "127.0.0.1:0";
    let listeners = [
        "--internal",
        any,
        "--grpc",
        any,
        "--http",
        any,
        "--admin",
        &second,
    ];
    let asked = [
        "coordinator",
        "--model",
        model,
        "--ranks",
        "1",
        "--store",
        &store,
    ];
    let _coordinator = Killed::start(&[&asked[..], &listeners].concat());
    waits_for_store(&first, &store);
    waits_for_store(&second, &store);
}

#[test]
fn the_dump_of_metrics_needs_no_command() {
    let output = std::process::Command::new(e2e::binary())
        .arg("--dump-metrics")
        .output()
        .unwrap();
    let dump = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(dump.starts_with("name\ttype\t"), "{dump}");
    assert!(dump.contains("\nconclave_steps_total\tcounter\t"), "{dump}");
}
