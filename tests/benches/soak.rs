//! Many clients for minutes on a model of real width, if asked for with workers being killed:
//!
//! `cargo build --release -p cli && cargo bench -p e2e --bench soak -- [MODEL] [SECONDS] [KILL_EVERY]`
//!
//! Every greedy answer must be the one that was given alone. Prints throughput, latencies and the
//! workers' resident memory; ends with an error if an answer failed or differed, or if a worker
//! ever held more than its share of the weights, its KV budget and [`SLACK`].
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use checkpoint::{Checkpoint, ModelName, Report};
use e2e::{Cluster, Setup, post_within, signal};
use rustix::process::Signal;
use serde_json::{Value, json};

const MODEL: &str = "synth:20b,layers=4,vocab=32768,seed=1";
const CLIENTS: usize = 16;
const PROMPTS: usize = 24;
const MAX_TOKENS: usize = 32;
const WORKERS: usize = 3;
/// KV budget of a rank.
const KV_MEMORY: &str = "256MiB";
const KV_BYTES: u64 = 256 << 20;
/// Bytes that a worker may hold beside its weights and its KV.
const SLACK: u64 = 400_000_000;
/// Longest wait for an answer: sixteen clients queue on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(600);

/// A prompt of its own for each number, of tokens that the model has.
fn body(prompt: usize, vocab_size: usize) -> Value {
    let len = 8 + prompt * 7;
    let tokens: Vec<usize> = (0..len)
        .map(|i| (i * 7919 + prompt * 104_729) % vocab_size.min(32_000))
        .collect();
    json!({"prompt": tokens, "max_tokens": MAX_TOKENS, "temperature": 0, "ignore_eos": true})
}

/// What is put under load.
struct Subject {
    cluster: Cluster,
    vocab_size: usize,
    /// Bytes that a worker of one rank may hold.
    allowed: u64,
}

fn ask(subject: &Subject, prompt: usize) -> Result<String, String> {
    let (url, body) = (
        subject.cluster.url("/v1/completions"),
        body(prompt, subject.vocab_size),
    );
    let answer = post_within(&url, &body, PATIENCE);
    if answer.status != 200 {
        return Err(format!("status {}: {}", answer.status, answer.text));
    }
    Ok(answer.json["choices"][0]["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Resident bytes of a process.
struct Resident {
    /// Private memory.
    private: u64,
    /// Mapped files.
    file: u64,
    /// The most that both together ever were.
    peak: u64,
}

fn resident(pid: u32) -> Result<Resident, String> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| format!("{path} has no {name}"))
    };
    Ok(Resident {
        private: field("RssAnon:")?,
        file: field("RssFile:")?,
        peak: field("VmHWM:")?,
    })
}

/// Says what a worker holds and ever held; returns a fault if that is too much.
fn weigh(subject: &Subject, worker: u32, held: &Resident) -> Option<String> {
    let Resident {
        private,
        file,
        peak,
    } = held;
    println!(
        "worker {worker}: resident {} MB private, {} MB of files, at most {} MB; allowed {} MB",
        private / 1_000_000,
        file / 1_000_000,
        peak / 1_000_000,
        subject.allowed / 1_000_000,
    );
    let most = *peak.max(&(private + file));
    (most > subject.allowed).then(|| format!("worker {worker} holds too much"))
}

/// Starts the cluster and says how long that took.
fn start(model: &str) -> Result<Subject, String> {
    let name = model.parse::<ModelName>().map_err(|e| e.to_string())?;
    let checkpoint = Checkpoint::named(&name).map_err(|e| e.to_string())?;
    let report = Report::new(&checkpoint, &[WORKERS]).map_err(|e| e.to_string())?;
    let start = Instant::now();
    let cluster = Cluster::start(&Setup {
        model: Some(model.into()),
        kv_memory: KV_MEMORY,
        ..Setup::mini(WORKERS)
    });
    println!(
        "{model}, {WORKERS} workers: ready after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(Subject {
        cluster,
        vocab_size: checkpoint.geometry().vocab_size,
        allowed: report.groups[0].most + KV_BYTES + SLACK,
    })
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

struct Tally {
    answers: Mutex<Vec<f64>>,
    faults: Mutex<Vec<String>>,
    kills: AtomicUsize,
}

fn client(subject: &Subject, expected: &[String], first: usize, end: Instant, tally: &Tally) {
    for prompt in (0..PROMPTS).cycle().skip(first) {
        if Instant::now() >= end {
            return;
        }
        let start = Instant::now();
        let fault = match ask(subject, prompt) {
            Ok(text) if text == expected[prompt] => None,
            Ok(text) => Some(format!(
                "prompt {prompt}: {text:?} is not {:?}",
                expected[prompt]
            )),
            Err(why) => Some(format!("prompt {prompt}: {why}")),
        };
        match fault {
            None => tally
                .answers
                .lock()
                .expect("no client panics")
                .push(start.elapsed().as_secs_f64()),
            Some(fault) => tally.faults.lock().expect("no client panics").push(fault),
        }
    }
}

/// Kills the next worker, after a look at what it holds. None is counted where none was there.
fn kill_next(subject: &Subject, tally: &Tally) {
    let workers = subject.cluster.workers();
    let next = tally.kills.load(Ordering::Relaxed) % workers.len().max(1);
    // One that has just ended by itself has nothing to be read.
    let victim = workers.get(next).copied();
    let Some((victim, held)) = victim.and_then(|pid| Some((pid, resident(pid).ok()?))) else {
        return;
    };
    let fault = weigh(subject, victim, &held);
    let mut faults = tally.faults.lock().expect("no client panics");
    faults.extend(fault);
    signal(victim, Signal::KILL);
    tally.kills.fetch_add(1, Ordering::Relaxed);
}

fn main() -> Result<(), String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = words.iter().filter_map(|word| word.parse::<u64>().ok());
    let seconds = numbers.next().unwrap_or(60);
    let kill_every = numbers.next().map(Duration::from_secs);
    let named = words
        .iter()
        .find(|word| word.parse::<u64>().is_err() && !word.starts_with('-'));
    let model = named.map_or(MODEL, String::as_str);
    let subject = start(model)?;
    let start = Instant::now();
    let expected: Vec<String> = (0..PROMPTS)
        .map(|prompt| ask(&subject, prompt))
        .collect::<Result<_, _>>()?;
    let alone = (PROMPTS * MAX_TOKENS) as f64 / start.elapsed().as_secs_f64();
    println!("one client: {alone:.1} tokens/s, prompts included");

    let tally = Tally {
        answers: Mutex::default(),
        faults: Mutex::default(),
        kills: AtomicUsize::new(0),
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for index in 0..CLIENTS {
            let (subject, expected, tally) = (&subject, &expected, &tally);
            scope.spawn(move || client(subject, expected, index, end, tally));
        }
        if let Some(every) = kill_every {
            while Instant::now() + every < end {
                std::thread::park_timeout(every);
                kill_next(&subject, &tally);
            }
        }
    });
    report(&subject, tally, seconds)
}

fn report(subject: &Subject, tally: Tally, seconds: u64) -> Result<(), String> {
    let mut answers = tally.answers.into_inner().expect("no client panics");
    let mut faults = tally.faults.into_inner().expect("no client panics");
    answers.sort_by(f64::total_cmp);
    let rate = (answers.len() * MAX_TOKENS) as f64 / seconds as f64;
    println!(
        "{CLIENTS} clients, {seconds} s, {} workers killed: {} answers equal to those given alone, \
         {} faults; {rate:.1} tokens/s; an answer takes p50 {:.1} s, p99 {:.1} s",
        tally.kills.into_inner(),
        answers.len(),
        faults.len(),
        percentile(&answers, 0.5),
        percentile(&answers, 0.99),
    );
    for worker in subject.cluster.workers() {
        faults.extend(weigh(subject, worker, &resident(worker)?));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n"))
    }
}
