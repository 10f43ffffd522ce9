//! What a lead shows of its group.

use std::sync::Arc;

use engine::{Engine, EngineConfig, Stop, Submit};
use spec::{Fence, KvPlan, Sampling, SequenceId, TokenId};
use telemetry::{About, Telemetry};

use super::*;

fn telemetry(ranks: usize) -> CoordinatorTelemetry {
    Telemetry::coordinator(About::default(), vec!["0".into()], ranks)
}

fn value(telemetry: &CoordinatorTelemetry, name: &str, labels: &str) -> f64 {
    let labels = [r#"model="",group="0""#, labels].join(if labels.is_empty() { "" } else { "," });
    let series = format!("{name}{{{labels}}} ");
    let text = telemetry.render();
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series}"))
        .parse()
        .unwrap()
}

fn status(serving: bool) -> Status {
    Status {
        fence: Fence::default(),
        serving,
        ranks_present: 1,
        missing: Vec::new(),
        draining: Vec::new(),
        text: String::new(),
    }
}

/// An engine with one slot and few blocks, and so many generations.
fn engine_of(slots: usize, full_blocks: usize, generations: u64) -> Engine {
    let config = EngineConfig {
        num_ranks: 1,
        kv: KvPlan {
            block_size: 4,
            full_blocks,
            window_blocks: 64,
            num_slots: slots,
        },
        sliding_window: 8,
        max_step_rows: 64,
        max_in_flight: 1,
        max_waiting: 8,
        max_context: 64,
        checkpoint_interval: 64,
    };
    let mut engine = Engine::new(config, Fence::default()).unwrap();
    for sequence in 1..=generations {
        let submit = Submit {
            sequence: SequenceId(sequence),
            tokens: (0..16)
                .map(|n| TokenId(100 * sequence as u32 + n))
                .collect(),
            prompt_len: 16,
            stop: Stop {
                max_tokens: 8,
                stop_tokens: Vec::new(),
            },
            sampling: Arc::new(Sampling::default()),
            principal: 0,
            cache_salt: 0,
            was_accepted: false,
            priority: 0,
        };
        engine.submit(submit).unwrap();
    }
    engine
}

#[test]
fn generations_that_wait_are_shown_with_what_the_first_waits_for() {
    let telemetry = telemetry(1);
    let meter = LeadMeter::new(telemetry.clone(), 0, (5, 1));
    let waiting = |reason: &str| {
        let labels = format!("reason=\"{reason}\"");
        value(&telemetry, "conclave_requests_waiting", &labels)
    };
    let show = |engine: &Engine, serving| {
        meter.show(&status(serving), std::iter::empty(), &engine.load());
    };
    let mut engine = engine_of(1, 64, 3);
    show(&engine, false);
    assert_eq!((waiting("epoch_change"), waiting("capacity")), (3.0, 0.0));
    engine.next_step().unwrap();
    show(&engine, true);
    assert_eq!((waiting("epoch_change"), waiting("capacity")), (0.0, 2.0));
    let mut engine = engine_of(4, 7, 3);
    engine.next_step().unwrap();
    show(&engine, true);
    assert_eq!((waiting("capacity"), waiting("kv")), (0.0, 2.0));
    let mut engine = engine_of(4, 64, 3);
    engine.pause_admission(true);
    assert!(engine.next_step().is_none());
    show(&engine, true);
    assert_eq!((waiting("kv"), waiting("draining")), (0.0, 3.0));
    drop(meter);
    assert_eq!(waiting("draining"), 0.0);
}

#[test]
fn the_worker_of_a_rank_is_in_one_state() {
    let telemetry = telemetry(2);
    let meter = LeadMeter::new(telemetry.clone(), 0, (5, 2));
    let state = |rank: u32, state: &str| {
        let labels = format!("rank=\"{rank}\",state=\"{state}\"");
        value(&telemetry, "conclave_worker_state", &labels)
    };
    let show = |standings: [Standing; 2]| {
        meter.show(&status(true), standings.into_iter(), &Load::default());
    };
    let missing = || value(&telemetry, "conclave_ep_missing_experts", "");
    show([Standing::Active, Standing::Draining]);
    assert_eq!((state(0, "active"), state(1, "draining")), (1.0, 1.0));
    assert_eq!(missing(), 0.0);
    show([Standing::Standby, Standing::Lost]);
    assert_eq!((state(0, "standby"), state(1, "lost")), (1.0, 1.0));
    assert_eq!((state(0, "active"), state(1, "draining")), (0.0, 0.0));
    assert_eq!(missing(), 2.0, "of five, the lower rank holds three");
    drop(meter);
    assert_eq!(missing(), 0.0);
    assert_eq!((state(0, "standby"), state(1, "lost")), (0.0, 0.0));
}

#[test]
fn the_load_of_experts_is_compared_layer_by_layer() {
    // Even in sum, but each layer waits for a rank that has all of it.
    assert_eq!(imbalance(&[vec![8, 0], vec![0, 8]]), Some(2.0));
    assert_eq!(imbalance(&[vec![4, 4], vec![4, 4]]), Some(1.0));
    assert_eq!(imbalance(&[vec![6, 4], vec![2, 4]]), Some(1.25));
    assert_eq!(imbalance(&[vec![0, 0], vec![0, 0]]), None);
    assert_eq!(imbalance(&[vec![4, 4], vec![]]), None, "an earlier build");
    assert_eq!(imbalance(&[]), None);
}

#[test]
fn each_layer_shows_how_uneven_it_has_been() {
    let telemetry = telemetry(2);
    telemetry.layers(2);
    let mut meter = LeadMeter::new(telemetry.clone(), 0, (5, 2));
    let layer = |layer: u32| {
        let labels = format!("layer=\"{layer}\"");
        value(
            &telemetry,
            "conclave_ep_layer_load_imbalance_ratio",
            &labels,
        )
    };
    meter.show_layers(&[vec![8, 4], vec![0, 4]]);
    assert!((layer(0) - 1.05).abs() < 1e-9, "{}", layer(0));
    assert!((layer(1) - 1.0).abs() < 1e-9);
    for _ in 0..200 {
        meter.show_layers(&[vec![8, 0], vec![0, 0]]);
    }
    assert!((layer(0) - 2.0).abs() < 0.01);
    assert!((layer(1) - 1.0).abs() < 1e-9, "nothing was computed there");
    drop(meter);
    assert!(layer(0).abs() < 1e-9);
}
