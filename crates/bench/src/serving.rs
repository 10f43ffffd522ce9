//! A service as its clients see it: when requests are sent, what became of each, and all in figures.
//!
//! Words, definitions and the names in JSON are those of `vllm bench serve`
//! (<https://docs.vllm.ai/en/latest/cli/bench/serve.html>).

mod chart;

pub use chart::chart;

use serde_json::{Map, Value, json};

use crate::samples::Samples;

/// Returns when requests are sent, in seconds: a Poisson process of so many a second, or all at once if
/// that is infinite. Nobody waits for an answer.
#[must_use]
pub fn arrivals(rate: f64, count: usize, seed: u64) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut now = 0.0;
    let times = (0..count).map(|_| {
        let this = now;
        // Times between are exponential; the logarithm of zero is not asked for.
        now += -(1.0 - random.f64()).ln() / rate;
        this
    });
    times.collect()
}

/// What became of a request.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Seconds from the beginning until it was sent.
    pub sent: f64,
    /// Tokens of its prompt.
    pub input: usize,
    /// Tokens that came.
    pub output: usize,
    /// Seconds from when it was sent to the first token.
    pub first: f64,
    /// Seconds between what came and what came before.
    pub gaps: Vec<f64>,
    /// Seconds from when it was sent to its end.
    pub total: f64,
    /// Why it failed.
    pub error: Option<String>,
}

impl Record {
    /// Seconds for each token after the first.
    fn per_token(&self) -> Option<f64> {
        let after_first = self.output.checked_sub(1).filter(|count| *count > 0)?;
        Some((self.total - self.first) / after_first as f64)
    }
}

/// All requests in figures.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Seconds from the first request to the last answer.
    pub duration: f64,
    /// Requests that were answered.
    pub completed: usize,
    /// Requests that were not.
    pub failed: usize,
    /// Tokens of the prompts that were answered.
    pub input: usize,
    /// Tokens of the answers.
    pub output: usize,
    /// Times in milliseconds, by name: to the first token, for each token after it, between what came, to
    /// the end.
    pub times: [(&'static str, Samples); 4],
}

impl Summary {
    /// Sums up.
    #[must_use]
    pub fn of(records: &[Record]) -> Self {
        let done: Vec<&Record> = records.iter().filter(|r| r.error.is_none()).collect();
        let ends = records.iter().map(|record| record.sent + record.total);
        let millis =
            |seconds: &mut dyn Iterator<Item = f64>| Samples(seconds.map(|s| 1e3 * s).collect());
        let answered = || done.iter().filter(|record| record.output > 0);
        Self {
            duration: ends.fold(0.0, f64::max),
            completed: done.len(),
            failed: records.len() - done.len(),
            input: done.iter().map(|record| record.input).sum(),
            output: done.iter().map(|record| record.output).sum(),
            times: [
                ("ttft", millis(&mut answered().map(|record| record.first))),
                (
                    "tpot",
                    millis(&mut done.iter().filter_map(|record| record.per_token())),
                ),
                (
                    "itl",
                    millis(&mut done.iter().flat_map(|record| record.gaps.iter().copied())),
                ),
                ("e2el", millis(&mut done.iter().map(|record| record.total))),
            ],
        }
    }

    /// Returns requests, tokens of answers and all tokens a second.
    #[must_use]
    pub fn rates(&self) -> [f64; 3] {
        let all = self.input + self.output;
        [self.completed, self.output, all].map(|count| count as f64 / self.duration)
    }

    /// Returns all figures under the names that vLLM gives them.
    #[must_use]
    pub fn figures(&self) -> Map<String, Value> {
        let [requests, output, all] = self.rates();
        let mut figures = Map::new();
        for (name, value) in [
            ("duration", json!(self.duration)),
            ("completed", json!(self.completed)),
            ("failed", json!(self.failed)),
            ("total_input_tokens", json!(self.input)),
            ("total_output_tokens", json!(self.output)),
            ("request_throughput", json!(requests)),
            ("output_throughput", json!(output)),
            ("total_token_throughput", json!(all)),
        ] {
            figures.insert(name.to_owned(), value);
        }
        for (name, times) in &self.times {
            for (which, value) in [
                ("mean", times.mean()),
                ("median", times.median()),
                ("std", times.deviation()),
                ("p50", times.percentile(50.0)),
                ("p90", times.percentile(90.0)),
                ("p95", times.percentile(95.0)),
                ("p99", times.percentile(99.0)),
            ] {
                figures.insert(format!("{which}_{name}_ms"), json!(value));
            }
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_at_the_rate_and_independently() {
        let times = arrivals(5.0, 20_000, 1);
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let gaps = Samples(gaps);
        // Of an exponential distribution mean and deviation are equal, and the median is ln 2 of them.
        assert!((gaps.mean() - 0.2).abs() < 0.005, "{}", gaps.mean());
        assert!((gaps.deviation() - 0.2).abs() < 0.01);
        assert!((gaps.median() - 0.2 * 2_f64.ln()).abs() < 0.005);
        assert_eq!(times[0], 0.0);
        assert_eq!(arrivals(f64::INFINITY, 3, 1), [0.0; 3]);
        assert_ne!(arrivals(1.0, 3, 1), arrivals(1.0, 3, 2));
    }

    #[test]
    fn a_failed_request_counts_as_that_alone() {
        let good = Record {
            sent: 1.0,
            input: 10,
            output: 3,
            first: 0.5,
            gaps: vec![0.25, 0.25],
            total: 1.0,
            error: None,
        };
        let failed = Record {
            sent: 0.5,
            total: 2.5,
            error: Some("full".into()),
            ..Record::default()
        };
        let summary = Summary::of(&[good, failed]);
        assert_eq!((summary.completed, summary.failed), (1, 1));
        assert_eq!(summary.duration, 3.0);
        let figures = summary.figures();
        for (name, value) in [
            ("mean_ttft_ms", 500.0),
            ("median_tpot_ms", 250.0),
            ("p99_itl_ms", 250.0),
            ("std_e2el_ms", 0.0),
            ("output_throughput", 1.0),
        ] {
            assert_eq!(figures[name], value, "{name}");
        }
    }
}
