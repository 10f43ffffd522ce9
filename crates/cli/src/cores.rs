//! Keeps a process on the cores that it was told.

use worker::{Cores, Threads};

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

/// Shares the cores of a machine of several memory nodes out among workers of so many ranks, so that each computes
/// on one of them with what it put into that node's memory; `None` where there is one, the nodes, workers and ranks
/// do not fit, or this process is to use less time than all cores have.
pub(crate) fn by_node(workers: usize, ranks: usize) -> Option<Vec<Cores>> {
    let nodes = worker::memory_nodes().ok()?;
    let all: usize = nodes.iter().map(|cores| cores.list().len()).sum();
    let has_all = std::thread::available_parallelism().is_ok_and(|time| time.get() == all);
    let shares = worker::share_nodes(&nodes, workers).filter(|_| nodes.len() > 1 && has_all)?;
    shares
        .iter()
        .all(|cores| cores.parts(ranks).is_some())
        .then_some(shares)
}

/// Says what is better than ranks whose threads are on several memory nodes.
pub(crate) fn straddling(nodes: &[Cores], ranks: &[Threads]) -> Option<String> {
    let on_several = ranks.iter().any(|threads| match threads {
        Threads::Any(count) => count.get() > 1,
        Threads::On(cores) => {
            nodes
                .iter()
                .filter(|node| node.among(cores).is_some())
                .count()
                > 1
        }
    });
    let list: Vec<_> = nodes
        .iter()
        .map(|cores| format!("--cores {cores}"))
        .collect();
    (nodes.len() > 1 && on_several).then(|| {
        format!(
            "this machine has {} memory nodes, and a rank has threads on several: its weights are read faster by \
             a worker for each, with {}",
            nodes.len(),
            list.join(" and "),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[test]
    fn ranks_on_several_memory_nodes_are_told() {
        let cores = |text: &str| text.parse::<Cores>().unwrap();
        let two = [cores("0-3"), cores("4-7")];
        let any = |count| Threads::Any(NonZeroUsize::new(count).unwrap());
        let why = straddling(&two, &[any(8)]).unwrap();
        assert!(why.contains("with --cores 0-3 and --cores 4-7"), "{why}");
        assert!(
            straddling(
                &two,
                &[Threads::On(cores("0-1")), Threads::On(cores("3-4"))]
            )
            .is_some()
        );
        let apart = [Threads::On(cores("0-1")), Threads::On(cores("6-7"))];
        assert_eq!(straddling(&two, &apart), None);
        assert_eq!(straddling(&two, &[any(1)]), None);
        assert_eq!(straddling(&two[..1], &[any(8)]), None);
    }
}
