//! Sharding changes nothing: the same numbers, bit by bit, whatever the ranks and processes.

use e2e::{Cluster, Setup, post};
use serde_json::{Value, json};

/// Prompts around the tiny model's window, and long enough for several chunks.
fn prompts() -> Vec<Vec<u32>> {
    let lengths = [1, 7, 8, 9, 40, 300];
    let prompt = |len: u32| (0..len).map(|i| (i * 37 + len) % 256).collect();
    lengths.into_iter().map(prompt).collect()
}

/// Everything numeric that the API tells of each prompt and of a sampled continuation.
fn logprobs(cluster: &Cluster) -> Vec<Value> {
    let ask = |prompt: &Vec<u32>| {
        let body = json!({
            "prompt": prompt, "echo": true, "logprobs": 5, "max_tokens": 12,
            "temperature": 0.8, "seed": 11, "ignore_eos": true,
        });
        let answer = post(&cluster.url("/v1/completions"), &body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let choice = &answer.json["choices"][0];
        assert!(
            choice["logprobs"]["token_logprobs"]
                .as_array()
                .unwrap()
                .len()
                >= 12
        );
        json!([choice["text"], choice["logprobs"]])
    };
    prompts().iter().map(ask).collect()
}

#[test]
fn any_number_of_ranks_and_processes_gives_the_same_bits() {
    let alone = Cluster::start(&Setup::tiny(1));
    let expected = logprobs(&alone);
    drop(alone);
    // (workers, ranks of each, rows a step): uneven shares, ranks in one process, small chunks.
    let layouts = [
        (2, 1, 128),
        (3, 1, 64),
        (4, 1, 128),
        (8, 1, 64),
        (2, 2, 64),
        (1, 8, 128),
    ];
    for (workers, ranks_per_worker, rows) in layouts {
        let arguments = vec!["--max-step-rows".into(), rows.to_string()];
        let setup = Setup {
            ranks_per_worker,
            arguments,
            ..Setup::tiny(workers)
        };
        let cluster = Cluster::start(&setup);
        assert_eq!(
            logprobs(&cluster),
            expected,
            "{workers} workers of {ranks_per_worker} ranks"
        );
    }
}

#[test]
fn a_batch_gives_what_each_gives_alone() {
    let cluster = Cluster::start(&Setup::tiny(2));
    let alone = logprobs(&cluster);
    std::thread::scope(|scope| {
        let together: Vec<_> = (0..4).map(|_| scope.spawn(|| logprobs(&cluster))).collect();
        for answers in together {
            assert_eq!(answers.join().unwrap(), alone);
        }
    });
}
