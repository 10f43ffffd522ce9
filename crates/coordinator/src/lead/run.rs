//! Tells the step loop what happens, and when, until it is told to end.

use std::time::Duration;

use telemetry::Pulse;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ledger::Name;
use super::message::Message;
use super::step_loop::{Heard, StepLoop};
use crate::limits;

/// Where the messages to a step loop come in, and what it ends with.
pub(crate) struct Run {
    pub(crate) inbox: mpsc::Receiver<Message>,
    /// Followers that are gone.
    pub(crate) gone: mpsc::UnboundedReceiver<(Name, u64)>,
    /// Ends it.
    pub(crate) end: CancellationToken,
    /// Cancelled when it has ended.
    pub(crate) done: CancellationToken,
    /// Shows that it goes on.
    pub(crate) pulse: Pulse,
}

impl Run {
    /// Runs a loop until it is told to end; its sequences may go on at another lead.
    ///
    /// # Errors
    ///
    /// In words, if a worker refuses the very plan: then no cluster can serve with it.
    pub(crate) async fn drive(mut self, mut step_loop: StepLoop) -> Result<(), String> {
        // However this ends, by a panic too, those who wait for the loop's end hear of it.
        let _done = self.done.drop_guard();
        let began = Instant::now();
        let mut tick = interval(limits::TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while step_loop.hopeless().is_none() {
            let heard = tokio::select! {
                Some(message) = self.inbox.recv() => Heard::Message(message),
                Some((name, follower)) = self.gone.recv() => Heard::Gone(name, follower),
                () = due(began, step_loop.next_due()) => Heard::Due,
                _ = tick.tick() => Heard::Tick,
                () = self.end.cancelled() => break,
            };
            step_loop.on(heard, began.elapsed());
            self.pulse.beat();
        }
        step_loop.end(began.elapsed())
    }
}

/// Waits until something happens by itself.
async fn due(began: Instant, due: Option<Duration>) {
    match due {
        Some(due) => sleep_until(began + due).await,
        None => std::future::pending().await,
    }
}
