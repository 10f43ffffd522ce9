//! Phases, readiness and pulses.

use std::time::Duration;

use super::{Phase, Vitals};
use crate::labels::{Serving, Start};

#[test]
fn the_phases_of_the_start_are_the_first_of_all_phases() {
    for (start, phase) in Start::ALL.iter().zip(Phase::ALL) {
        assert_eq!(start.as_str(), phase.as_str());
    }
    assert_eq!(Phase::ALL[Start::ALL.len()], Phase::Serving);
}

#[test]
fn has_started_once_it_has_served() {
    let vitals = Vitals::new();
    for phase in &Phase::ALL[..Start::ALL.len()] {
        vitals.enter(*phase, "");
        assert!(!vitals.startup().started, "{phase:?}");
        assert_eq!(vitals.serving(), Serving::Starting);
    }
    vitals.enter(Phase::Serving, "");
    vitals.ready(Ok(()));
    assert!(vitals.startup().started);
    assert_eq!(vitals.serving(), Serving::Serving);
    // It waits for another lead: it need not be started again for that.
    vitals.enter(Phase::WaitingForLead, "nobody leads");
    vitals.ready(Err("nobody leads".into()));
    let startup = vitals.startup();
    assert!(startup.started);
    assert_eq!(
        (startup.phase, &*startup.detail),
        ("waiting for lead", "nobody leads")
    );
    assert_eq!(vitals.serving(), Serving::Paused);
    assert_eq!(vitals.readiness(), Err("nobody leads".into()));
}

#[test]
fn nothing_follows_draining() {
    let vitals = Vitals::new();
    vitals.enter(Phase::Serving, "");
    vitals.ready(Ok(()));
    vitals.enter(Phase::Draining, "");
    vitals.enter(Phase::Serving, "");
    vitals.ready(Ok(()));
    assert_eq!(vitals.startup().phase, "draining");
    assert_eq!(vitals.readiness(), Err("draining".into()));
    assert_eq!(vitals.serving(), Serving::Draining);
}

#[test]
fn the_time_left_is_known_once_something_is_loaded() {
    let vitals = Vitals::new();
    vitals.enter(Phase::Loading, "");
    assert_eq!(vitals.startup().eta_seconds, None);
    vitals.loaded(0, 100);
    assert_eq!(vitals.startup().eta_seconds, None);
    vitals.loaded(25, 100);
    let startup = vitals.startup();
    assert_eq!((startup.bytes_done, startup.bytes_total), (25, 100));
    let left = startup.eta_seconds.unwrap();
    assert!((left - 3.0 * startup.phase_seconds).abs() <= f64::EPSILON * left);
    vitals.loaded(100, 100);
    assert_eq!(vitals.startup().eta_seconds, Some(0.0));
    vitals.enter(Phase::Serving, "");
    assert_eq!(vitals.startup().eta_seconds, None);
}

#[test]
fn the_start_alone_is_timed() {
    let vitals = Vitals::new();
    assert!(vitals.spent(Phase::OpeningModel) <= vitals.began.elapsed());
    vitals.enter(Phase::Loading, "");
    let opening = vitals.spent(Phase::OpeningModel);
    assert!(opening > Duration::ZERO);
    vitals.enter(Phase::Serving, "");
    let loading = vitals.spent(Phase::Loading);
    vitals.enter(Phase::Loading, "another epoch");
    assert_eq!(vitals.spent(Phase::OpeningModel), opening);
    assert_eq!(vitals.spent(Phase::Loading), loading);
    assert_eq!(vitals.spent(Phase::Serving), Duration::ZERO);
}

#[test]
fn a_loop_that_stands_still_is_named_until_it_beats_or_ends() {
    let vitals = Vitals::new();
    assert_eq!(vitals.liveness(), Ok(()));
    let lively = vitals.pulse("election", Duration::from_secs(3600));
    // At its first look a millisecond has passed for sure.
    let still = vitals.pulse("step loop", Duration::ZERO);
    while still.0.silent() < Duration::from_millis(1) {}
    let why = vitals.liveness().unwrap_err();
    assert!(why.contains("the step loop has not moved for"), "{why}");
    drop(still);
    assert_eq!(vitals.liveness(), Ok(()));
    lively.beat();
    assert_eq!(vitals.liveness(), Ok(()));
}

#[test]
fn a_beat_is_heard() {
    let vitals = Vitals::new();
    let pulse = vitals.pulse("step loop", Duration::from_secs(3600));
    while pulse.0.silent() < Duration::from_millis(2) {}
    let before = pulse.0.silent();
    pulse.beat();
    assert!(pulse.0.silent() < before);
}
