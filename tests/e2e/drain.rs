//! Workers and coordinators that are told to end lose nobody's work: they end once they are not needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::{Killed, free_address, get, post_stream, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// A group of two ranks, whose processes are started one by one.
struct Group {
    internal: String,
    http: String,
    _coordinator: Killed,
}

/// An answer that is on its way.
struct Answer {
    chunks: Arc<AtomicUsize>,
    text: JoinHandle<String>,
}

fn start(arguments: &[&str]) -> Killed {
    Killed::start(&[arguments, &["--model", "synth:tiny,seed=7"]].concat())
}

impl Group {
    fn start() -> Self {
        let [internal, grpc, http] = [free_address(), free_address(), free_address()];
        let addresses = ["--internal", &internal, "--grpc", &grpc, "--http", &http];
        let coordinator = start(&[&["coordinator", "--ranks", "2"], &addresses[..]].concat());
        Self {
            internal,
            http,
            _coordinator: coordinator,
        }
    }

    fn worker(&self, name: &str) -> Killed {
        self.worker_with(name, &[])
    }

    fn worker_with(&self, name: &str, more: &[&str]) -> Killed {
        start(&[&["worker", "--store", &self.internal, "--name", name], more].concat())
    }

    fn says(&self, words: &str) {
        let url = format!("http://{}/readyz", self.http);
        wait_until(words, LIMIT, || {
            // Nothing listens until the coordinator does.
            std::net::TcpStream::connect(&self.http).is_ok() && get(&url).text.contains(words)
        });
    }

    fn ask(&self, tokens: u32) -> Answer {
        Answer::of(&self.http, tokens)
    }
}

impl Answer {
    fn of(http: &str, tokens: u32) -> Self {
        let url = format!("http://{http}/v1/completions");
        let body = json!({
            "prompt": "x", "max_tokens": tokens, "temperature": 0, "ignore_eos": true,
            "stream": true,
        });
        let chunks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&chunks);
        let text = std::thread::spawn(move || {
            let mut text = String::new();
            post_stream(&url, &body, |chunk| {
                let chunk: Value = serde_json::from_str(chunk).unwrap_or_default();
                text += chunk["choices"][0]["text"].as_str().unwrap_or_default();
                counted.fetch_add(1, Ordering::Relaxed);
            });
            text
        });
        Self { chunks, text }
    }

    fn has_begun(&self) {
        let begun = || self.chunks.load(Ordering::Relaxed) >= 10;
        wait_until("the answer has begun", LIMIT, begun);
    }
}

#[test]
fn without_a_spare_what_runs_ends_first_and_what_comes_waits() {
    let group = Group::start();
    // Longer than any answer takes on a busy machine.
    let (_a, b) = (
        group.worker("a"),
        group.worker_with("b", &["--drain", "35"]),
    );
    group.says("serving");
    let expected = group.ask(800).text.join().unwrap();

    let running = group.ask(800);
    running.has_begun();
    b.signal_end();
    group.says("worker 'b' drains");
    let waiting = group.ask(8);
    assert_eq!(b.ended(), Some(0));
    assert_eq!(running.text.join().unwrap(), expected);
    assert!(!waiting.text.is_finished());
    let _again = group.worker("b");
    let text = waiting.text.join().unwrap();
    assert!(!text.is_empty() && expected.starts_with(&text), "{text}");
}

#[test]
fn a_spare_takes_the_ranks_of_a_worker_that_ends() {
    let group = Group::start();
    let (a, _b) = (group.worker("a"), group.worker("b"));
    group.says("serving");
    let expected = group.ask(2_000).text.join().unwrap();
    let _spare = group.worker("c");

    let running = group.ask(2_000);
    running.has_begun();
    a.signal_end();
    assert_eq!(a.ended(), Some(0));
    assert!(!running.text.is_finished(), "it was waited for");
    assert_eq!(running.text.join().unwrap(), expected);
    group.says("serving");
}

#[test]
fn what_outlasts_the_grace_of_its_worker_goes_on_at_the_next() {
    let group = Group::start();
    let (_a, b) = (group.worker("a"), group.worker_with("b", &["--drain", "0"]));
    group.says("serving");
    let expected = group.ask(2_000).text.join().unwrap();

    let running = group.ask(2_000);
    running.has_begun();
    b.signal_end();
    assert_eq!(b.ended(), Some(0));
    assert!(!running.text.is_finished(), "it was waited for");
    let _again = group.worker("b");
    assert_eq!(running.text.join().unwrap(), expected);
}

#[test]
fn coordinators_that_are_told_to_end_at_once_let_streams_end() {
    let store = free_address();
    let coordinator = |name: &str, [internal, http]: [&str; 2], more: &[&str]| {
        let own = ["coordinator", "--ranks", "1", "--name", name];
        let at = [
            "--internal",
            internal,
            "--http",
            http,
            "--grpc",
            "127.0.0.1:0",
        ];
        // Longer than any answer takes on a busy machine.
        start(&[&own[..], &at, &["--drain", "35"], more].concat())
    };
    // Of another group; it holds the membership store, and stays.
    let others = ["--store", "memory", "--groups", "other"];
    let _other = coordinator("other", [&store, &free_address()], &others);
    let fronts = [free_address(), free_address()];
    let both = ["a", "b"].map(|name| {
        let http = &fronts[usize::from(name == "b")];
        coordinator(
            name,
            [&free_address(), http],
            &["--store", &store, "--groups", "0"],
        )
    });
    let _worker = start(&["worker", "--store", &store]);
    for http in &fronts {
        wait_until("both serve", LIMIT, || {
            std::net::TcpStream::connect(http).is_ok()
                && get(&format!("http://{http}/readyz")).status == 200
        });
    }
    let expected = Answer::of(&fronts[0], 800).text.join().unwrap();

    let running = fronts.each_ref().map(|http| Answer::of(http, 800));
    running.iter().for_each(Answer::has_begun);
    both.iter().for_each(Killed::signal_end);
    for answer in running {
        assert_eq!(answer.text.join().unwrap(), expected);
    }
    for coordinator in both {
        assert_eq!(coordinator.ended(), Some(0));
    }
}
