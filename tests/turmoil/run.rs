//! One run: a cluster, its clients, and what goes wrong meanwhile.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Received, generate_by};
use sockets::Dialer;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use turmoil::{Builder, Sim};

use crate::hosts::{self, COORDINATORS, Model, STORE, WORKERS};
use crate::network::dialer;
use crate::pace::Pace;
use crate::schedule::{self, Failure, LATENCY};

/// Simulated time that one look at a host takes it forward.
const TICK: Duration = Duration::from_millis(5);

/// Clients, each of which asks for the same again and again.
const CLIENTS: usize = 4;

/// Tokens of an answer.
const TOKENS: u32 = 64;

/// How long a cluster may take to serve again after the last failure, and its clients to be answered:
/// a lease, and generations that begin from the start.
const RECOVERY: Duration = Duration::from_secs(45);

/// The service of coordinators that serve clients.
const FRONT: &str = "conclave.v1.GenerationService";

/// The service of workers whose ranks are ready.
const RANKS: &str = "conclave.internal.v1.StepService";

/// What all clients have been answered so far, each its own.
type Answers = Rc<RefCell<Vec<(usize, Received)>>>;

/// Answers a client's question without any failure.
pub(crate) fn undisturbed() -> Vec<Received> {
    let answers = run(0, &[]).unwrap();
    let first = |client| {
        let mut its = answers.iter().filter(|(whose, _)| *whose == client);
        its.next().unwrap().1.clone()
    };
    (0..CLIENTS).map(first).collect()
}

/// Runs a cluster through the failures of a seed.
///
/// # Errors
///
/// In words: what was promised and not kept.
pub(crate) fn seeded(seed: u64, expected: &[Received]) -> Result<(), String> {
    let failures = schedule::draw(seed);
    let began = Instant::now();
    let in_words = |why| {
        let shown: Vec<String> = failures.iter().map(|f| format!("  {f:?}")).collect();
        format!("{why}, in the course of\n{}", shown.join("\n"))
    };
    let answers = run(seed, &failures).map_err(in_words)?;
    for (client, answer) in &answers {
        let wanted = &expected[*client];
        if (&answer.tokens, &answer.text) != (&wanted.tokens, &wanted.text) {
            return Err(in_words(format!("client {client} got another text")));
        }
    }
    let calls: usize = answers.iter().map(|(_, answer)| answer.calls).sum();
    let (number, took) = (answers.len(), began.elapsed());
    crate::say(&format!(
        "seed {seed}: {number} answers in {calls} calls, {took:.1?}"
    ));
    Ok(())
}

fn run(seed: u64, failures: &[Failure]) -> Result<Vec<(usize, Received)>, String> {
    let (model, over) = (Arc::new(Model::tiny()), Arc::new(AtomicBool::new(false)));
    let answers = Answers::default();
    let mut sim = Builder::new()
        .rng_seed(seed)
        .enable_random_order()
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LATENCY)
        .tcp_capacity(1024)
        .build();
    sim.host(STORE, hosts::store);
    for name in COORDINATORS {
        let model = Arc::clone(&model);
        sim.host(name, move || {
            let model = Arc::clone(&model);
            async move { hosts::coordinator(name, &model).await }
        });
    }
    for name in WORKERS {
        let model = Arc::clone(&model);
        sim.host(name, move || {
            let model = Arc::clone(&model);
            async move { hosts::worker(name, &model).await }
        });
    }
    for index in 0..CLIENTS {
        let (over, answers) = (Arc::clone(&over), Rc::clone(&answers));
        sim.client(format!("client-{index}"), client(index, over, answers));
    }
    drive(&mut sim, failures, &over)?;
    let answered = answers.borrow().len();
    sim.client("operator", all_serve());
    let end = sim.elapsed() + RECOVERY;
    step_until_done(&mut sim, end, answered)?;
    drop(sim);
    let answers = answers.take();
    Ok(answers)
}

/// Lets failures begin and end, and the clients come to their ends after them.
fn drive(sim: &mut Sim<'_>, failures: &[Failure], over: &AtomicBool) -> Result<(), String> {
    let mut due: Vec<(Duration, bool, &Failure)> = Vec::new();
    for failure in failures {
        due.push((failure.begins(), true, failure));
        due.push((failure.ends(), false, failure));
    }
    due.sort_by_key(|(at, begins, _)| (*at, *begins));
    let mut pace = Pace::default();
    for (at, begins, failure) in due {
        while sim.elapsed() < at {
            pace.wait();
            sim.step().map_err(|error| error.to_string())?;
        }
        if begins {
            failure.begin(sim);
        } else {
            failure.end(sim);
        }
    }
    over.store(true, Ordering::Relaxed);
    let end = sim.elapsed() + RECOVERY;
    step_until_done(sim, end, 0)
}

/// Goes on until every client has ended.
fn step_until_done(sim: &mut Sim<'_>, end: Duration, answered: usize) -> Result<(), String> {
    let mut pace = Pace::default();
    loop {
        pace.wait();
        if sim.step().map_err(|error| error.to_string())? {
            return Ok(());
        }
        if sim.elapsed() > end {
            return Err(format!(
                "still waiting {RECOVERY:?} after the last failure, with {answered} answers"
            ));
        }
    }
}

/// Asks for the same until all failures are over, and then once more.
async fn client(index: usize, over: Arc<AtomicBool>, answers: Answers) -> turmoil::Result {
    let (dialer, fronts) = (dialer(), hosts::fronts());
    let prompt = format!("story number {index}");
    for number in 0.. {
        let is_last = over.load(Ordering::Relaxed);
        let name = format!("client-{index}-{number}");
        let asked = (name.as_str(), prompt.as_str(), TOKENS);
        let answer = generate_by(&dialer, &fronts, index + number, asked, || {}).await?;
        answers.borrow_mut().push((index, answer));
        if is_last {
            break;
        }
    }
    Ok(())
}

/// Waits until every coordinator serves, as many workers as the group needs, and the store knows all.
async fn all_serve() -> turmoil::Result {
    let (dialer, store) = (dialer(), hosts::client_of_store());
    loop {
        let mut serving = 0;
        for front in hosts::fronts() {
            serving += usize::from(serves(&dialer, &front, FRONT).await);
        }
        let mut ready = 0;
        for worker in WORKERS {
            ready += usize::from(serves(&dialer, &hosts::internal(worker), RANKS).await);
        }
        let all_serve = serving == COORDINATORS.len() && ready >= WORKERS.len() - 1;
        if all_serve && hosts::all_present(&store).await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Asks for a service by its name: a process that lives but does not serve it says so.
async fn serves(dialer: &Dialer, address: &str, service: &str) -> bool {
    let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
    let endpoint = endpoint.connect_timeout(Duration::from_secs(2));
    let Ok(channel) = dialer.connect(&endpoint).await else {
        return false;
    };
    let service = service.to_owned();
    let check = HealthCheckRequest { service };
    let mut client = HealthClient::new(channel);
    let answer = tokio::time::timeout(Duration::from_secs(2), client.check(check)).await;
    matches!(answer, Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving)
}
