//! How a process is: what it is doing as it starts, whether it can serve, whether it can go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::labels::Serving;

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It opens and checks the model's files.
    OpeningModel,
    /// It needs the membership store, which does not answer yet.
    WaitingForStore,
    /// It waits for a lead to tell it what to do.
    WaitingForLead,
    /// It loads weights.
    Loading,
    /// It has started.
    Serving,
    /// It ends.
    Draining,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: &[Self] = &[
        Self::OpeningModel,
        Self::WaitingForStore,
        Self::WaitingForLead,
        Self::Loading,
        Self::Serving,
        Self::Draining,
    ];

    /// Returns the phase in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpeningModel => "opening model",
            Self::WaitingForStore => "waiting for store",
            Self::WaitingForLead => "waiting for lead",
            Self::Loading => "loading",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// What `/startupz` says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StartupState {
    /// What the process is doing, as [`Phase::as_str`].
    pub phase: &'static str,
    /// Whether it has served, or could have.
    pub started: bool,
    /// More about the phase, in words; what is waited for and why.
    pub detail: String,
    /// Seconds since the process began.
    pub elapsed_seconds: f64,
    /// Seconds since the phase began.
    pub phase_seconds: f64,
    /// Bytes of weights in memory, of those that are loaded now or were loaded last.
    pub bytes_done: u64,
    /// Bytes of weights to load; 0 until they are known.
    pub bytes_total: u64,
    /// Seconds that loading will go on at this rate; absent unless it is known.
    pub eta_seconds: Option<f64>,
}

/// How a process is. Set by the parts of the process, asked by probes.
#[derive(Debug)]
pub struct Vitals {
    began: Instant,
    state: Mutex<State>,
    pulses: Mutex<Vec<Weak<Heart>>>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    detail: String,
    /// Time spent in each phase before this one, until the process had started.
    spent: [Duration; Phase::ALL.len()],
    started: bool,
    bytes: (u64, u64),
    /// Why it cannot serve; `None` if it can.
    not_ready: Option<String>,
}

/// What a pulse and the probe share.
#[derive(Debug)]
struct Heart {
    of: &'static str,
    limit: Duration,
    began: Instant,
    /// Milliseconds from `began` to the last beat.
    last: AtomicU64,
}

/// The watchdog of one loop: it is to beat more often than its limit, for as long as it exists.
#[derive(Debug)]
pub struct Pulse(Arc<Heart>);

impl Vitals {
    pub(crate) fn new() -> Self {
        let began = Instant::now();
        let state = State {
            phase: Phase::OpeningModel,
            since: began,
            detail: String::new(),
            spent: Default::default(),
            started: false,
            bytes: (0, 0),
            not_ready: Some("starting".into()),
        };
        Self {
            began,
            state: Mutex::new(state),
            pulses: Mutex::default(),
        }
    }

    /// Begins a phase, or says more about the one it is in; after draining there is none.
    pub fn enter(&self, phase: Phase, detail: impl Into<String>) {
        let mut state = self.state();
        if state.phase == Phase::Draining {
            return;
        }
        state.detail = detail.into();
        if state.phase != phase {
            let now = Instant::now();
            let (before, since) = (state.phase, state.since);
            if !state.started {
                state.spent[before as usize] += now - since;
            }
            (state.phase, state.since) = (phase, now);
        }
        let has_started = phase == Phase::Serving && !state.started;
        state.started |= has_started;
        if phase == Phase::Draining {
            state.not_ready = Some("draining".into());
        }
        let spent = state.spent;
        drop(state);
        if has_started {
            self.log_start(&spent);
        }
    }

    /// Says once how long each phase of the start took.
    fn log_start(&self, spent: &[Duration; Phase::ALL.len()]) {
        let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
        let took = |phase: Phase| seconds(spent[phase as usize]);
        tracing::info!(
            seconds = seconds(self.began.elapsed()),
            opening_model = took(Phase::OpeningModel),
            waiting_for_store = took(Phase::WaitingForStore),
            waiting_for_lead = took(Phase::WaitingForLead),
            loading = took(Phase::Loading),
            "started; seconds of each phase"
        );
    }

    /// Says how many bytes of weights are in memory, of how many.
    pub fn loaded(&self, done: u64, total: u64) {
        self.state().bytes = (done, total);
    }

    /// Says whether the process can serve now or, in words, why not. A process that drains cannot.
    pub fn ready(&self, ready: Result<(), String>) {
        let mut state = self.state();
        if state.phase != Phase::Draining {
            state.not_ready = ready.err();
        }
    }

    /// Watches a loop from now on, until the pulse is dropped; it is to beat within `limit` each time.
    #[must_use]
    pub fn pulse(&self, of: &'static str, limit: Duration) -> Pulse {
        let heart = Arc::new(Heart {
            of,
            limit,
            began: Instant::now(),
            last: AtomicU64::new(0),
        });
        let mut pulses = self.pulses();
        pulses.retain(|pulse| pulse.strong_count() > 0);
        pulses.push(Arc::downgrade(&heart));
        Pulse(heart)
    }

    /// Returns how the start goes.
    #[must_use]
    pub fn startup(&self) -> StartupState {
        let state = self.state();
        let in_phase = state.since.elapsed();
        let (done, total) = state.bytes;
        let is_loading = state.phase == Phase::Loading && (1..=total).contains(&done);
        let rest = is_loading.then(|| (total - done) as f64 / done as f64);
        StartupState {
            phase: state.phase.as_str(),
            started: state.started,
            detail: state.detail.clone(),
            elapsed_seconds: self.began.elapsed().as_secs_f64(),
            phase_seconds: in_phase.as_secs_f64(),
            bytes_done: done,
            bytes_total: total,
            eta_seconds: rest.map(|rest| in_phase.as_secs_f64() * rest),
        }
    }

    /// Returns whether the process can serve.
    ///
    /// # Errors
    ///
    /// Why it cannot, in words.
    pub fn readiness(&self) -> Result<(), String> {
        self.state().not_ready.clone().map_or(Ok(()), Err)
    }

    /// Returns whether all loops that are watched go on.
    ///
    /// # Errors
    ///
    /// Which does not and for how long, in words.
    pub fn liveness(&self) -> Result<(), String> {
        let hearts = self
            .pulses()
            .iter()
            .filter_map(Weak::upgrade)
            .collect::<Vec<_>>();
        let stopped = hearts.iter().find_map(|heart| {
            let silent = heart.silent();
            (silent > heart.limit).then(|| {
                let seconds = silent.as_secs_f64();
                format!("the {} has not moved for {seconds:.1} s", heart.of)
            })
        });
        stopped.map_or(Ok(()), Err)
    }

    /// Returns how long a phase of the start took, or has taken so far.
    pub(crate) fn spent(&self, phase: Phase) -> Duration {
        let state = self.state();
        let now = match state.phase == phase && !state.started {
            true => state.since.elapsed(),
            false => Duration::ZERO,
        };
        state.spent[phase as usize] + now
    }

    /// Returns what balancers and alerts need to know.
    pub(crate) fn serving(&self) -> Serving {
        let state = self.state();
        match (state.phase, state.started, &state.not_ready) {
            (Phase::Draining, ..) => Serving::Draining,
            (_, false, _) => Serving::Starting,
            (_, true, None) => Serving::Serving,
            (_, true, Some(_)) => Serving::Paused,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pulses(&self) -> MutexGuard<'_, Vec<Weak<Heart>>> {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heart {
    fn silent(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }
}

impl Pulse {
    /// Says that the loop goes on.
    pub fn beat(&self) {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
