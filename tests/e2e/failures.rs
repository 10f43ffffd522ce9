//! Failures of every kind of process and of the network, each under 16 streams: none fails, nothing is
//! lost, nothing comes twice, and every answer is that of the undisturbed run.

mod hosts;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use e2e::{Fleet, Network, Received, generate};
use proto::v1::generation_service_client::GenerationServiceClient;
use proto::v1::{GenerationState, GetGenerationRequest};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

/// Streams at a time.
const STREAMS: usize = 16;

/// Most calls that are repeated where one of two fronts goes: each client of it finds out once, and once more
/// where it comes back with its next request before the front does.
const OF_ONE_FRONT: usize = STREAMS;

/// Tokens of each.
const TOKENS: u32 = 160;

/// How long etcd stays away.
const WITHOUT_ETCD: Duration = Duration::from_secs(60);

/// When all leases have run out that nobody could renew: they last for ten seconds.
const PAST_LEASES: Duration = Duration::from_secs(15);

/// How long a short request may take while the streams go on.
const SOON: Duration = Duration::from_secs(20);

/// One fleet at a time: each is a machine's worth of processes.
static ONE: Mutex<()> = Mutex::new(());

/// Where `cargo xtask test` says that etcd's program is.
const ETCD: &str = "CONCLAVE_TEST_ETCD";

/// Returns etcd's program, or says why these tests cannot run.
fn etcd() -> Option<PathBuf> {
    let program = std::env::var_os(ETCD).map(PathBuf::from);
    let missing = match &program {
        Some(_) => Network::hindrance(),
        None => Some(format!("{ETCD} is not set")),
    };
    let Some(why) = missing else {
        return program;
    };
    let why = format!("{why}; run 'cargo xtask test --only cluster' as root");
    assert!(std::env::var_os("CI").is_none(), "{why}");
    let mut errors = std::io::stderr();
    writeln!(errors, "SKIPPED failures in a network of hosts: {why}").unwrap();
    None
}

/// What is done to a fleet while it serves.
type Hurt = fn(&mut Fleet);

/// What one client was answered, request after request.
type Answers = Result<Vec<Received>, String>;

/// Runs all streams, one after another on each client, until `hurt` has happened and one more has
/// ended; `hurt` begins once each has had some tokens, on the average.
fn streams(fleet: &mut Fleet, name: &str, hurt: impl FnOnce(&mut Fleet)) -> Vec<Vec<Received>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fronts = Arc::new(fleet.fronts());
    let seen = Arc::new(AtomicUsize::new(0));
    let (over, is_over) = watch::channel(false);
    let clients = (0..STREAMS).map(|index| {
        let (fronts, seen, is_over) = (Arc::clone(&fronts), Arc::clone(&seen), is_over.clone());
        let name = name.replace(' ', "-");
        runtime.spawn(client(index, name, fronts, seen, is_over))
    });
    let clients: Vec<JoinHandle<Answers>> = clients.collect();
    e2e::wait_until("the streams have begun", Duration::from_secs(100), || {
        // What has ended by now has failed, and says so below.
        let failed = clients.iter().any(JoinHandle::is_finished);
        failed || seen.load(Ordering::Relaxed) >= STREAMS * 20
    });
    hurt(fleet);
    over.send(true).unwrap();
    let answers = clients.into_iter().map(|client| {
        let answers = runtime.block_on(client).unwrap();
        answers.unwrap_or_else(|why| panic!("{why}"))
    });
    answers.collect()
}

/// Asks for the same again and again.
async fn client(
    index: usize,
    name: String,
    fronts: Arc<Vec<String>>,
    seen: Arc<AtomicUsize>,
    is_over: watch::Receiver<bool>,
) -> Answers {
    let prompt = format!("story number {index}");
    let count = || {
        seen.fetch_add(1, Ordering::Relaxed);
    };
    let mut answers = Vec::new();
    loop {
        let is_last = *is_over.borrow();
        let id = format!("{name}-{index}-{}", answers.len());
        answers.push(generate(&fronts, index, (&id, &prompt, TOKENS), count).await?);
        if is_last {
            return Ok(answers);
        }
    }
}

/// Demands that a failure changes no answer, and that no more calls have to be repeated than this.
fn check(
    fleet: &mut Fleet,
    expected: &[Received],
    (name, most_repeated, hurt): (&str, usize, Hurt),
) {
    let received = streams(fleet, name, hurt);
    for (index, (answers, expected)) in received.iter().zip(expected).enumerate() {
        for answer in answers {
            assert_eq!(answer.tokens, expected.tokens, "stream {index}: {name}");
            assert_eq!(text(answer), text(expected), "stream {index}: {name}");
        }
    }
    let answers = received.iter().flatten();
    let repeated: usize = answers.clone().map(|answer| answer.calls - 1).sum();
    let (answers, mut errors) = (answers.count(), std::io::stderr());
    writeln!(
        errors,
        "{name}: {answers} answers, {repeated} calls were repeated"
    )
    .unwrap();
    assert!(
        repeated <= most_repeated,
        "{name}: {repeated} calls had to be repeated, not at most {most_repeated}"
    );
}

/// Returns the text that a client was sent, to be read where it is another than it should be.
fn text(received: &Received) -> String {
    received.text.escape_ascii().to_string()
}

/// Asks a front that does not lead for something short, which has to come by the first call and soon.
fn fresh(fleet: &Fleet, id: &str) -> Received {
    let front = fleet.fronts().swap_remove(1 - fleet.lead_of("0"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let answer = runtime.unwrap().block_on(async {
        let fronts = [front];
        let answer = generate(&fronts, 0, (id, "a short story", 24), || {});
        tokio::time::timeout(SOON, answer).await
    });
    let answer = answer.unwrap_or_else(|_| panic!("{id}: not served within {SOON:?}"));
    let answer = answer.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(answer.calls, 1, "{id}: its call had to be repeated");
    answer
}

/// Takes etcd away for a minute. Who comes when all leases have run out is served as before.
fn without_etcd(fleet: &mut Fleet) {
    let expected = fresh(fleet, "with-etcd");
    assert_eq!(expected.tokens.len(), 24);
    fleet.stores.iter_mut().for_each(e2e::Node::kill);
    let gone = Instant::now();
    std::thread::sleep(PAST_LEASES);
    assert_eq!(fresh(fleet, "without-etcd"), expected);
    std::thread::sleep(WITHOUT_ETCD.saturating_sub(gone.elapsed()));
    fleet.stores.iter_mut().for_each(e2e::Node::start);
}

#[test]
fn no_failure_costs_a_request() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(etcd) = etcd() else { return };
    let mut fleet = Fleet::start(&etcd, 3, 2, &[("0", 3)], 2);
    let undisturbed = streams(&mut fleet, "undisturbed", |_| {});
    let first = |answers: Vec<Received>| answers.into_iter().next();
    let expected: Vec<Received> = undisturbed.into_iter().filter_map(first).collect();
    assert!(
        expected
            .iter()
            .all(|received| received.tokens.len() == TOKENS as usize)
    );
    let hurts: [(&str, usize, Hurt); 9] = [
        ("a worker is killed", 0, |fleet| {
            let seated = fleet.seated();
            fleet.workers[seated].kill();
            fleet.workers[seated].start();
        }),
        ("a worker is stopped", 0, |fleet| {
            let seated = fleet.seated();
            fleet.workers[seated].signal(Signal::STOP);
            std::thread::sleep(Duration::from_secs(8));
            fleet.workers[seated].signal(Signal::CONT);
        }),
        ("a worker's cable is pulled", 0, |fleet| {
            let seated = fleet.seated();
            fleet.workers[seated].host().cut();
            std::thread::sleep(Duration::from_secs(8));
            fleet.workers[seated].host().mend();
        }),
        ("the lead is killed", OF_ONE_FRONT, |fleet| {
            let lead = fleet.lead_of("0");
            fleet.coordinators[lead].kill();
            fleet.coordinators[lead].start();
        }),
        ("a front is killed", OF_ONE_FRONT, |fleet| {
            let other = 1 - fleet.lead_of("0");
            fleet.coordinators[other].kill();
            fleet.coordinators[other].start();
        }),
        ("the lead's cable is pulled", OF_ONE_FRONT, |fleet| {
            let lead = fleet.lead_of("0");
            fleet.coordinators[lead].host().cut();
            std::thread::sleep(Duration::from_secs(15));
            fleet.coordinators[lead].host().mend();
        }),
        ("etcd is down for a minute", 0, without_etcd),
        ("etcd loses everything", 0, |fleet| {
            fleet.stores.iter_mut().for_each(e2e::Node::kill);
            fleet.wipe_stores();
            fleet.stores.iter_mut().for_each(e2e::Node::start);
            std::thread::sleep(Duration::from_secs(8));
        }),
        ("all are restarted in turn", 2 * OF_ONE_FRONT, |fleet| {
            let Fleet {
                coordinators,
                workers,
                ..
            } = fleet;
            for node in coordinators.iter_mut().chain(workers) {
                assert_eq!(node.end(), Some(0), "{}", node.said());
                node.start();
            }
        }),
    ];
    for hurt in hurts {
        check(&mut fleet, &expected, hurt);
    }
}

#[test]
fn two_groups_share_the_requests_and_one_is_enough() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(etcd) = etcd() else { return };
    let mut fleet = Fleet::start(&etcd, 1, 2, &[("a", 2), ("b", 2)], 2);
    let undisturbed = streams(&mut fleet, "both", |_| {});
    let work = fleet.workers.iter().map(e2e::Node::cpu_time);
    let work: Vec<u64> = work.collect();
    let least = work.iter().sum::<u64>() / 20;
    assert!(
        work.iter().all(|its| *its > least),
        "one group has done it all: {work:?}"
    );
    let expected: Vec<Received> = undisturbed
        .into_iter()
        .map(|mut a| a.swap_remove(0))
        .collect();
    // Whoever waits for a worker of the other group waits until it is back, and loses nothing.
    check(
        &mut fleet,
        &expected,
        ("a worker of one group is killed", 0, |fleet| {
            fleet.workers[2].kill();
            std::thread::sleep(Duration::from_secs(2));
            fleet.workers[2].start();
        }),
    );
}

/// How a generation stands, asked for at a front; `None` while it cannot say.
fn state_of(front: &str, id: &str) -> Option<GenerationState> {
    let asked = async {
        let endpoint = Endpoint::from_shared(front.to_owned()).unwrap();
        let channel = endpoint.connect().await.ok()?;
        let get = GetGenerationRequest {
            generation_id: id.to_owned(),
        };
        let found = GenerationServiceClient::new(channel)
            .get_generation(get)
            .await;
        Some(found.ok()?.into_inner().state())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(asked)
}

#[test]
fn a_generation_goes_on_when_its_lead_dies_and_its_client_is_away() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(etcd) = etcd() else { return };
    let mut fleet = Fleet::start(&etcd, 1, 2, &[("0", 2)], 2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let (runtime, fronts) = (runtime.unwrap(), fleet.fronts());
    let long = 2_000;
    let calm = generate(&fronts, 0, ("calm", "a story", long), || {});
    let expected = runtime.block_on(calm).unwrap();

    let lead = fleet.lead_of("0");
    let (theirs, other) = (fronts[lead].clone(), fronts[1 - lead].clone());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let client = runtime.spawn(async move {
        let progress = || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        generate(&[theirs], 0, ("left", "a story", long), progress).await
    });
    e2e::wait_until("the generation has begun", Duration::from_secs(60), || {
        count.load(Ordering::Relaxed) >= 100
    });
    client.abort();
    fleet.coordinators[lead].kill();
    assert!(
        count.load(Ordering::Relaxed) < long as usize,
        "it was too fast to be left"
    );
    // Nobody follows it: only what the home rank has kept can make it go on.
    e2e::wait_until(
        "it has ended without a client",
        Duration::from_secs(60),
        || state_of(&other, "left") == Some(GenerationState::Succeeded),
    );
    let fronts = [other];
    let found = generate(&fronts, 0, ("left", "a story", long), || {});
    let found = runtime.block_on(found).unwrap();
    assert_eq!(found.tokens, expected.tokens);
    assert_eq!(text(&found), text(&expected));
    let said = fleet.coordinators[1 - lead].said();
    assert!(said.contains("sequences of the last lead go on"), "{said}");
}
