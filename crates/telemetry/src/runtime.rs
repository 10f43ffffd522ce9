//! How the runtime of this process's tasks does.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::table::Process;
use crate::telemetry::Telemetry;

/// How often lateness is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// Observes until `shutdown` how much later than it is due a task runs.
pub(crate) async fn watch_lag<M>(telemetry: Telemetry<M>, shutdown: CancellationToken) {
    loop {
        let due = Instant::now() + PERIOD;
        tokio::select! {
            () = sleep_until(due) => {}
            () = shutdown.cancelled() => return,
        }
        let lag = &telemetry.process().event_loop_lag;
        lag.observe_time((), due.elapsed());
    }
}

/// Sets the metrics of the runtime that this runs on, if it runs on any.
pub(crate) fn measure(process: &Process) {
    let Ok(handle) = Handle::try_current() else {
        return;
    };
    let metrics = handle.metrics();
    let threads = metrics.num_workers();
    let busy = (0..threads).map(|thread| metrics.worker_total_busy_duration(thread));
    process.tokio_busy.set((), busy.sum());
    process.tokio_threads.set((), threads as f64);
    let tasks = metrics.num_alive_tasks() as f64;
    process.tokio_tasks.set((), tasks);
    let waiting = metrics.global_queue_depth() as f64;
    process.tokio_queue.set((), waiting);
}
