//! Sharding changes nothing: the same numbers, bit by bit, whatever the ranks and processes.

use e2e::{Cluster, Setup, post};
use serde_json::{Value, json};

/// Prompts around the model's window of 128, and long enough for several chunks.
fn prompts() -> Vec<Vec<u32>> {
    let lengths = [1, 40, 127, 128, 129, 300];
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

/// A cluster that computes so; `--max-step-rows` is how long its chunks are.
fn cluster(numerics: &str, (workers, ranks_per_worker, rows): (usize, usize, usize)) -> Cluster {
    let rows = rows.to_string();
    let arguments = ["--numerics", numerics, "--max-step-rows", &rows];
    Cluster::start(&Setup {
        ranks_per_worker,
        arguments: arguments.map(str::to_owned).to_vec(),
        ..Setup::mini(workers)
    })
}

/// Demands the same of every layout: workers, ranks of each, rows of a step.
fn demand_equal(numerics: &str, layouts: &[(usize, usize, usize)]) -> Vec<Value> {
    let expected = logprobs(&cluster(numerics, (1, 1, 128)));
    for layout in layouts {
        let found = logprobs(&cluster(numerics, *layout));
        assert_eq!(found, expected, "{numerics} on {layout:?}");
    }
    expected
}

#[test]
fn any_number_of_ranks_and_processes_gives_the_same_bits() {
    // Uneven shares, ranks in one process, small chunks.
    let layouts = [
        (2, 1, 128),
        (3, 1, 64),
        (4, 1, 128),
        (8, 1, 64),
        (2, 2, 64),
        (1, 8, 128),
    ];
    let exact = demand_equal("exact", &layouts);
    let fast = demand_equal("fast", &[(2, 1, 64), (3, 2, 128)]);
    assert_ne!(exact, fast, "they compute otherwise");
}

#[test]
fn a_batch_gives_what_each_gives_alone() {
    let cluster = Cluster::start(&Setup::mini(2));
    let alone = logprobs(&cluster);
    std::thread::scope(|scope| {
        let together: Vec<_> = (0..4).map(|_| scope.spawn(|| logprobs(&cluster))).collect();
        for answers in together {
            assert_eq!(answers.join().unwrap(), alone);
        }
    });
}
