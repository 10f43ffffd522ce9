//! When to end: Ctrl-C, SIGTERM, or the end of the process that started us.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status where a second signal cut the orderly end short: that of a program ended by SIGINT.
const ENDED_AT_ONCE: i32 = 130;

/// Returns a token that is cancelled by the first SIGINT or SIGTERM and, with `with_parent`, when
/// the standard input ends: `conclave up` holds the other end and never writes, so that its children
/// end with it, however it dies.
///
/// The second time any of this happens, the process ends at once: whoever presses Ctrl-C again does
/// not want to wait for streams to end.
///
/// # Errors
///
/// In words, if the signals cannot be listened for.
#[expect(
    clippy::disallowed_methods,
    reason = "what is in flight is given up on purpose"
)]
pub(crate) fn shutdown(with_parent: bool) -> Result<CancellationToken, String> {
    let in_words = |error| format!("cannot listen for signals: {error}");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(in_words)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(in_words)?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let mut parent = std::pin::pin!(parent_gone(with_parent));
        let mut has_parent = with_parent;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = &mut parent, if has_parent => has_parent = false,
            }
            if cancel.is_cancelled() {
                std::process::exit(ENDED_AT_ONCE);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}

/// Reads the standard input to its end, on a thread of its own: reading it cannot be cancelled.
async fn parent_gone(with_parent: bool) {
    if !with_parent {
        return;
    }
    let (gone, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Whether it ended or broke, nobody holds the other end any more.
        drop(std::io::copy(
            &mut std::io::stdin().lock(),
            &mut std::io::sink(),
        ));
        gone.send(()).ok();
    });
    drop(ended.await);
    tracing::warn!("the process that started this one is gone");
}
