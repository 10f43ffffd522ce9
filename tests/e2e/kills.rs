//! A killed worker costs a pause and nothing else, whatever it was doing.

use e2e::{Cluster, Setup, signal};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::streams::{Streamed, greedy, stream};

/// Streams `body` undisturbed, and again for each of `victims`, of which that one dies after the
/// event numbered `at`; demands the same answer each time, of which the end comes from a later epoch,
/// and returns it.
fn kill_each(cluster: &Cluster, body: &Value, at: usize, victims: &[usize]) -> Streamed {
    let expected = stream(cluster, body, at, || {});
    let epochs = || {
        let log = cluster.log();
        log.lines()
            .filter(|line| line.contains("serving epoch="))
            .count()
    };
    for &victim in victims {
        let before = cluster.workers();
        let victim = before[victim];
        let epochs_before = epochs();
        let found = stream(cluster, body, at, || signal(victim, Signal::KILL));
        // The lead logs an epoch before it plans its first step.
        assert!(epochs() > epochs_before, "the answer ended before the kill");
        assert_eq!(found, expected, "after one of {before:?} was killed");
        let after = cluster.workers();
        assert_eq!(after.len(), before.len(), "{before:?} became {after:?}");
        assert!(!after.contains(&victim), "{victim} was not killed");
    }
    expected
}

#[test]
fn a_killed_worker_costs_a_pause_and_nothing_else() {
    let cluster = Cluster::start(&Setup::mini(3));
    kill_each(&cluster, &greedy(), 20, &[1, 0]);
    assert_eq!(cluster.end(), Some(0));
}

#[test]
fn a_killed_worker_of_two_ranks_costs_no_more() {
    let cluster = Cluster::start(&Setup {
        ranks_per_worker: 2,
        ..Setup::mini(2)
    });
    kill_each(&cluster, &greedy(), 20, &[1, 0]);
    assert_eq!(cluster.end(), Some(0));
}

#[test]
fn a_kill_does_not_change_what_a_seed_draws() {
    let cluster = Cluster::start(&Setup::mini(2));
    let sampled = |seed: u32| {
        let mut body = greedy();
        body["temperature"] = json!(1.0);
        body["seed"] = json!(seed);
        body
    };
    let drawn = kill_each(&cluster, &sampled(5), 20, &[0, 1]);
    let other = stream(&cluster, &sampled(6), 20, || {});
    assert_ne!(drawn.text, other.text, "the seed decides");
}

#[test]
fn a_kill_while_a_prompt_is_echoed_changes_no_number() {
    // The prompt takes dozens of steps; a quarter of it makes the first event.
    let prompt: Vec<usize> = (0..2048).map(|i| (i * 37 + 5) % 256).collect();
    let tokens = prompt.len() + 20;
    let body = json!({
        "prompt": prompt, "echo": true, "logprobs": 3, "max_tokens": 20, "temperature": 0,
        "ignore_eos": true,
    });
    let cluster = Cluster::start(&Setup {
        arguments: vec!["--max-step-rows".into(), "32".into()],
        ..Setup::mini(2)
    });
    let streamed = kill_each(&cluster, &body, 1, &[0, 1]);
    assert_eq!(streamed.logprobs.each_ref().map(Vec::len), [tokens; 4]);
    let numbers = streamed.logprobs[2].iter().filter(|it| it.is_f64()).count();
    assert_eq!(numbers, tokens - 1, "all but the first token's");
}
