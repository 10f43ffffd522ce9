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

/// The memory nodes of this machine, where there are several and this process may use all the time of their cores.
pub(crate) fn nodes() -> Vec<Cores> {
    let time = std::thread::available_parallelism().map_or(0, usize::from);
    several(worker::memory_nodes().unwrap_or_default(), time)
}

/// Leaves nodes out where binding threads to their cores gains nothing: there is one, or a quota allows for fewer
/// threads than they have cores.
fn several(nodes: Vec<Cores>, time: usize) -> Vec<Cores> {
    let all: usize = nodes.iter().map(|cores| cores.list().len()).sum();
    match nodes.len() > 1 && time == all {
        true => nodes,
        false => Vec::new(),
    }
}

/// Shares the cores of memory nodes out among workers of so many ranks, so that the threads of each are on one of
/// them, and what it alone reads is in that node's memory; `None` where nodes, workers and ranks do not fit.
pub(crate) fn by_node(nodes: &[Cores], workers: usize, ranks: usize) -> Option<Vec<Cores>> {
    let shares = worker::share_nodes(nodes, workers)?;
    let fit = shares.iter().all(|cores| cores.parts(ranks).is_some());
    fit.then_some(shares)
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
             a worker for each, with {}, or by `up` with as many --workers",
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
        assert!(why.contains("with --cores 0-3 and --cores 4-7,"), "{why}");
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

    #[test]
    fn workers_are_shared_out_by_nodes_where_that_can_be() {
        let cores = |text: &str| text.parse::<Cores>().unwrap();
        let two = vec![cores("0-3"), cores("4-7")];
        assert_eq!(several(two.clone(), 8), two);
        // A quota, and one node.
        assert!(several(two.clone(), 4).is_empty());
        assert!(several(vec![cores("0-7")], 8).is_empty());
        let told = |workers, ranks| by_node(&two, workers, ranks).map(|shares| shares.len());
        assert_eq!(
            (told(2, 1), told(2, 4), told(4, 2)),
            (Some(2), Some(2), Some(4))
        );
        // Three ranks do not share four cores, nor three workers two nodes.
        assert_eq!((told(2, 3), told(3, 1)), (None, None));
        assert_eq!(by_node(&[], 2, 1), None);
    }
}
