//! Counts what ranks do, a step or an exchange at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exchange::{HostExchange, Inbox};
use exchange_grpc::{Sent, Way, Wire};
use kernels::{Dispatch, Exchange, ExchangeError, Phase, Received, Returned, Work};
use spec::{Line, Part, StepNumber};
use telemetry::WorkerTelemetry;
use telemetry::labels::{self, Expert, Fenced, Kind, Layer, Seat, StepPhase, Transport};

use crate::chosen::Chosen;
use crate::compute::Gauge;
use crate::effort::Effort;
use crate::standing::Standing;

/// Counts the steps of a run.
#[derive(Debug)]
pub(crate) struct StepMeter {
    telemetry: WorkerTelemetry,
    /// Steps in flight.
    begun: BTreeMap<StepNumber, Begun>,
}

#[derive(Debug)]
struct Begun {
    at: Instant,
    /// What each rank of the worker computes.
    kinds: Vec<Kind>,
    /// What all of them compute.
    kind: Kind,
}

impl StepMeter {
    pub(crate) fn new(telemetry: WorkerTelemetry) -> Self {
        Self {
            telemetry,
            begun: BTreeMap::new(),
        }
    }

    /// A step has come, with these parts for the worker's ranks.
    pub(crate) fn begin(&mut self, step: StepNumber, parts: &[Part]) {
        let begun = Begun {
            at: Instant::now(),
            kinds: parts.iter().map(|part| kind(&part.lines)).collect(),
            kind: kind(parts.iter().flat_map(|part| &part.lines)),
        };
        self.begun.insert(step, begun);
    }

    /// A step of another epoch has come.
    pub(crate) fn stale(&self) {
        self.telemetry.metrics().stale_messages.add(Fenced::Step, 1);
    }

    /// A rank has completed its part; `seat` is its place among the worker's ranks.
    pub(crate) fn completed(&self, step: StepNumber, seat: usize, effort: &Effort) {
        let begun = self.begun.get(&step);
        let Some(kind) = begun.and_then(|begun| begun.kinds.get(seat)) else {
            return;
        };
        let metrics = self.telemetry.metrics();
        metrics.steps.add((Seat(seat), *kind), 1);
        for (phase, spent) in StepPhase::ALL.iter().zip(effort.spent) {
            metrics.step_phases.add((Seat(seat), *phase), spent);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        metrics.step_completed.set(Seat(seat), now);
    }

    /// All ranks have completed theirs.
    pub(crate) fn answered(&mut self, step: StepNumber) {
        if let Some(begun) = self.begun.remove(&step) {
            let durations = &self.telemetry.metrics().step_duration;
            durations.observe_time(begun.kind, begun.at.elapsed());
        }
    }
}

/// Tells lines that only bring the next token from those of prompts, and of tokens that are computed
/// again.
fn kind<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Kind {
    let (mut has_prefill, mut has_decode) = (false, false);
    for line in lines {
        match line.len == 1 && line.samples {
            true => has_decode = true,
            false => has_prefill = true,
        }
    }
    Kind::of(has_prefill, has_decode)
}

/// A rank's exchange, counted.
pub(crate) struct Metered {
    exchange: HostExchange<Wire>,
    inbox: Arc<Inbox>,
    sent: Arc<Sent>,
    telemetry: WorkerTelemetry,
    chosen: Chosen,
    gauge: Arc<Gauge>,
    seat: Seat,
    /// How much of the exchange's own sums was counted.
    waited: Duration,
    bytes: [[u64; Way::ALL.len()]; 2],
}

impl Metered {
    /// Counts the exchange of the rank in this place among the worker's.
    pub(crate) fn new(
        exchange: HostExchange<Wire>,
        (seat, gauge): (usize, Arc<Gauge>),
        standing: &Standing,
    ) -> Self {
        Self {
            inbox: Arc::clone(exchange.inbox()),
            sent: Arc::clone(exchange.transport().sent()),
            exchange,
            telemetry: standing.telemetry().clone(),
            chosen: standing.chosen().clone(),
            gauge,
            seat: Seat(seat),
            waited: Duration::ZERO,
            bytes: Default::default(),
        }
    }

    /// Counts the rows of each expert, where that is shown.
    fn count_experts(&self, layer: usize, work: &[Work]) {
        if !self.telemetry.shows_experts() || layer >= Layer::MAX {
            return;
        }
        // Once for each expert, and not for each row: other ranks count meanwhile.
        let mut rows = [0; Expert::MAX];
        for work in work {
            if let Some(rows) = rows.get_mut(work.expert.index()) {
                *rows += 1;
            }
        }
        let shown = &self.telemetry.metrics().expert_tokens;
        for (expert, rows) in rows.into_iter().enumerate().filter(|(_, rows)| *rows > 0) {
            shown.add((Layer(layer), Expert(expert)), rows);
        }
    }

    fn count(&mut self, phase: Phase, began: Instant) {
        let (metrics, seat) = (self.telemetry.metrics(), self.seat);
        let op = match phase {
            Phase::Dispatch => labels::Exchange::Dispatch,
            Phase::Combine => labels::Exchange::Combine,
        };
        metrics.exchange.observe_time((seat, op), began.elapsed());
        let waited = self.inbox.waited();
        metrics.straggler_wait.add(seat, waited - self.waited);
        self.waited = waited;
        for (way, counted) in Way::ALL.into_iter().zip(&mut self.bytes[phase as usize]) {
            let transport = match way {
                Way::Local => Transport::Local,
                Way::Unix => Transport::Unix,
                Way::Grpc => Transport::Grpc,
            };
            let bytes = self.sent.bytes(phase, way);
            metrics
                .exchange_bytes
                .add((seat, (op, transport)), bytes - *counted);
            *counted = bytes;
        }
    }
}

impl Exchange for Metered {
    fn dispatch(&mut self, args: Dispatch<'_>) -> Result<Received, ExchangeError> {
        let (began, hidden) = (Instant::now(), args.hidden);
        let (layer, num_experts) = (args.moment.layer as usize, args.owners.len());
        let received = self.exchange.dispatch(args);
        self.count(Phase::Dispatch, began);
        if let Ok(received) = &received {
            let rows = (received.rows.len() / hidden) as u64;
            self.telemetry.metrics().rank_tokens.add(self.seat, rows);
            self.gauge.count_rows(layer, received.work.len() as u32);
            self.chosen.count(layer, num_experts, &received.work, began);
            self.count_experts(layer, &received.work);
        }
        received
    }

    fn combine(&mut self, received: &Received, outputs: &[f32]) -> Result<Returned, ExchangeError> {
        let began = Instant::now();
        let returned = self.exchange.combine(received, outputs);
        self.count(Phase::Combine, began);
        returned
    }
}
