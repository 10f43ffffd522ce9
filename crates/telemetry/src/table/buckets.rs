//! Upper bounds of histograms' buckets, ascending.

/// A step, from a few rows of a small model to a long prompt on few cores.
pub(super) const STEP_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25,
    0.5, 1.0, 5.0,
];

/// One exchange: from memory to a slow network with a slow peer.
pub(super) const EXCHANGE_SECONDS: &[f64] = &[
    0.000005, 0.00001, 0.00002, 0.00004, 0.00008, 0.00016, 0.00032, 0.00064, 0.0013, 0.0026, 0.005,
    0.01, 0.05, 0.1, 1.0,
];

/// A whole request.
pub(super) const REQUEST_SECONDS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0,
];

/// The first token of a request, which may have waited in the queue.
pub(super) const TTFT_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0,
];

/// A token after the first: single milliseconds on good machines, so the bounds are close there.
pub(super) const TOKEN_SECONDS: &[f64] = &[
    0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04,
    0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5,
];

/// A wait, or a prompt.
pub(super) const WAIT_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// A change of epoch: from a table flip to the loading of weights.
pub(super) const CHANGE_SECONDS: &[f64] = &[
    0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
];

/// A request to the membership store: a healthy one answers in milliseconds, and none waits for longer
/// than five seconds.
pub(super) const STORE_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0,
];

/// How late a task runs. The runtime's timers have ticks of a millisecond, so less is no lateness.
pub(super) const LAG_SECONDS: &[f64] = &[0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Work on text, from a word to megabytes.
pub(super) const TEXT_SECONDS: &[f64] =
    &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Tokens of a request, up to the longest context.
pub(super) const TOKEN_COUNTS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0,
    50000.0, 100000.0, 131072.0,
];

/// A largest share by the mean one: 1 where all are equal, the number of ranks where one has all.
pub(super) const IMBALANCE: &[f64] = &[
    1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 16.0,
];

/// Sequences of a step.
pub(super) const SEQUENCES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// Rows of a step.
pub(super) const ROWS: &[f64] = &[
    1.0, 4.0, 16.0, 64.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0,
];
