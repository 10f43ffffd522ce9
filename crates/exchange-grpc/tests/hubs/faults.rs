//! Peers that die, hang, or are not there.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use exchange::{Exchange, ExchangeError, HostExchange};
use exchange_grpc::{CONNECT_LIMIT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Peer, Wire};
use spec::Rank;

use crate::process::{FENCE, Process, dispatch, enter, pair, round, until};

/// What a test allows on top of a limit, on a busy machine.
const MARGIN: Duration = Duration::from_secs(2);

pub(crate) fn lost_peer(error: &ExchangeError) -> Option<(Rank, &str)> {
    match error {
        ExchangeError::PeerLost { peer, why, .. } => Some((*peer, why)),
        _ => None,
    }
}

#[test]
fn the_death_of_a_process_wakes_all_others_at_once() {
    let processes = [Process::start(), Process::start(), Process::start()];
    let exchanges = enter(&processes, &[&[0, 1], &[2], &[3]], FENCE);
    let mut exchanges: Vec<_> = exchanges.into_iter().flatten().collect();
    let dead = exchanges.pop();
    let inboxes: Vec<_> = exchanges.iter().map(|e| Arc::clone(e.inbox())).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = exchanges
            .iter_mut()
            .map(|exchange| scope.spawn(move || dispatch(exchange, FENCE, 1).unwrap_err()))
            .collect();
        for inbox in inboxes {
            until("waiting for rank 3", || {
                inbox.waiting_for() == Some(Rank(3))
            });
        }
        let since = Instant::now();
        processes[2].kill();
        for thread in threads {
            let error = thread.join().unwrap();
            assert_eq!(
                lost_peer(&error).map(|lost| lost.0),
                Some(Rank(3)),
                "{error}"
            );
        }
        assert!(
            since.elapsed() < MARGIN,
            "noticed after {:?}",
            since.elapsed()
        );
    });
    drop(dead);
}

#[test]
fn a_process_that_died_between_steps_is_named_in_the_next() {
    let (processes, mut exchanges) = pair();
    round(&mut exchanges, FENCE, 1);
    processes[1].kill();
    let error = dispatch(&mut exchanges[0], FENCE, 2).unwrap_err();
    assert_eq!(
        lost_peer(&error).map(|lost| lost.0),
        Some(Rank(1)),
        "{error}"
    );
}

#[test]
fn a_peer_that_does_not_listen_is_lost_within_the_limit_on_connecting() {
    let process = Process::start();
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let peer = Peer {
        address: unused.to_string(),
        ranks: vec![Rank(1)],
    };
    let since = Instant::now();
    let mut exchanges = process.hub.enter(FENCE, &[Rank(0)], vec![peer]).unwrap();
    assert!(since.elapsed() < MARGIN, "entering does not wait for peers");
    let error = dispatch(&mut exchanges[0], FENCE, 1).unwrap_err();
    let (rank, why) = lost_peer(&error).expect("a lost peer");
    assert_eq!(rank, Rank(1));
    assert!(
        why.contains("no connection within 2s") && why.contains("refused"),
        "{why}"
    );
    assert!(since.elapsed() < CONNECT_LIMIT + MARGIN);
}

#[test]
fn a_peer_that_falls_silent_is_lost_within_the_limit_on_its_answer() {
    let process = Process::start();
    // Takes connections into its backlog, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let peer = Peer {
        address,
        ranks: vec![Rank(1)],
    };
    let since = Instant::now();
    let mut exchanges = process.hub.enter(FENCE, &[Rank(0)], vec![peer]).unwrap();
    let error = dispatch(&mut exchanges[0], FENCE, 1).unwrap_err();
    assert_eq!(
        lost_peer(&error).map(|lost| lost.0),
        Some(Rank(1)),
        "{error}"
    );
    assert!(since.elapsed() < KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT + MARGIN);
}

#[test]
fn a_lost_peer_stays_lost_for_sending_too() {
    let (processes, mut exchanges) = pair();
    round(&mut exchanges, FENCE, 1);
    processes[1].kill();
    for step in 2..5 {
        let error = dispatch(&mut exchanges[0], FENCE, step).unwrap_err();
        assert_eq!(
            lost_peer(&error).map(|lost| lost.0),
            Some(Rank(1)),
            "{error}"
        );
    }
}

#[test]
fn large_frames_pass() {
    let (_processes, exchanges) = pair();
    pass_large_frames(exchanges.into());
}

/// Lets two ranks exchange 32 MiB each way: twice the flow-control window of gRPC, and far more than a
/// Unix socket takes at a time.
pub(crate) fn pass_large_frames(exchanges: Vec<HostExchange<Wire>>) {
    let (hidden, rows) = (2048, 4096);
    thread::scope(|scope| {
        for mut exchange in exchanges {
            scope.spawn(move || {
                let values: Vec<f32> = (0..rows * hidden).map(|i| i as f32).collect();
                let other = 1 - exchange.rank().0;
                let received = exchange.dispatch(kernels::Dispatch {
                    moment: exchange::Moment {
                        fence: FENCE,
                        step: spec::StepNumber(1),
                        layer: 0,
                    },
                    hidden,
                    k: 1,
                    rows: &values,
                    experts: &vec![other; rows],
                    owners: &[Rank(0), Rank(1)],
                });
                let received = received.unwrap();
                let returned = exchange.combine(&received, &received.rows).unwrap();
                assert!(returned.outputs == values);
            });
        }
    });
}
