//! Keeps a process on the cores that it was told.

use worker::Cores;

use crate::Outcome;

/// Checks that this process may use them.
pub(crate) fn check(cores: &Cores) -> Outcome {
    let unknown =
        |error| format!("--cores {cores}: which cores this process may use is not known: {error}");
    match cores.forbidden().map_err(unknown)? {
        Some(core) => {
            let allowed = Cores::of_this_thread().map_err(unknown)?;
            Err(format!(
                "--cores {cores}: this process may not use core {core}, only {allowed}"
            ))
        }
        None => Ok(()),
    }
}

/// Leaves the process these cores alone. It has no other threads yet: all that it starts stay there, too, and
/// so does the memory that they touch first.
pub(crate) fn keep_to(cores: Option<&Cores>) -> Outcome {
    let Some(cores) = cores else {
        return Ok(());
    };
    check(cores)?;
    let kept = cores.keep_to();
    kept.map_err(|error| format!("--cores {cores}: {error}"))
}

/// Says what becomes of more threads than there are cores to run them.
pub(crate) fn crowding(threads: usize) -> Option<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (threads > cores).then(|| {
        format!(
            "{threads} threads take turns on fewer cores ({cores}): every op waits for the last"
        )
    })
}
