//! Entering, leaving, and frames of another epoch.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use exchange::{Exchange as _, ExchangeError, Moment};
use exchange_grpc::{EnterError, Peer, Way};
use kernels::{Dispatch, Phase};
use proto::internal::PushRequest;
use proto::internal::exchange_service_client::ExchangeServiceClient;
use spec::{Epoch, Fence, Rank, StepNumber, Term};

use crate::process::{FENCE, NEXT, Process, dispatch, enter, pair, round, until};
use crate::wrong_input::frame;

/// Far less than any limit on a stream, and enough for a busy machine.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn the_next_epoch_works_after_an_abort_and_the_old_stays_aborted() {
    let (processes, mut old) = pair();
    round(&mut old, FENCE, 1);
    // One rank is in the middle of an exchange; its frame is at the other already.
    thread::scope(|scope| {
        let [first, _] = &mut old;
        let inbox = Arc::clone(first.inbox());
        let waiting = scope.spawn(|| dispatch(first, FENCE, 2));
        until("waiting", || inbox.waiting_for() == Some(Rank(1)));
        processes
            .iter()
            .for_each(|process| process.hub.abort(FENCE));
        let error = waiting.join().unwrap().unwrap_err();
        assert!(
            matches!(error, ExchangeError::Aborted { peer: Rank(1), .. }),
            "{error}"
        );
    });
    let new = enter(&processes, &[&[0], &[1]], NEXT)
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    let mut new = new.try_into().unwrap();
    // The void step runs again.
    round(&mut new, NEXT, 2);
    let error = dispatch(&mut old[0], FENCE, 2).unwrap_err();
    assert!(matches!(error, ExchangeError::Aborted { .. }), "{error}");
    round(&mut new, NEXT, 3);
}

#[test]
fn entering_the_next_epoch_aborts_the_one_before() {
    let (processes, mut old) = pair();
    thread::scope(|scope| {
        let [first, _] = &mut old;
        let inbox = Arc::clone(first.inbox());
        let waiting = scope.spawn(|| dispatch(first, FENCE, 1));
        until("waiting", || inbox.waiting_for() == Some(Rank(1)));
        enter(&processes, &[&[0], &[1]], NEXT);
        let error = waiting.join().unwrap().unwrap_err();
        assert!(
            matches!(error, ExchangeError::Aborted { peer: Rank(1), .. }),
            "{error}"
        );
    });
}

#[test]
fn ranks_may_change_places_from_epoch_to_epoch() {
    let (processes, mut first) = pair();
    round(&mut first, FENCE, 1);
    let swapped = enter(&processes, &[&[1], &[0]], NEXT).into_iter().flatten();
    round(
        &mut swapped.collect::<Vec<_>>().try_into().unwrap(),
        NEXT,
        2,
    );
}

#[test]
fn aborting_another_epoch_changes_nothing() {
    let (processes, mut exchanges) = pair();
    processes[0].hub.abort(NEXT);
    processes[0].hub.abort(Fence {
        term: Term(1),
        ..FENCE
    });
    round(&mut exchanges, FENCE, 1);
}

#[test]
fn a_frame_that_comes_before_the_epoch_is_entered_waits_for_it() {
    let processes = [Process::start(), Process::start()];
    let early = processes[0]
        .hub
        .enter(FENCE, &[Rank(0)], vec![processes[1].peer(&[1])])
        .unwrap();
    let mut early = early.into_iter().next().unwrap();
    let inbox = Arc::clone(early.inbox());
    thread::scope(|scope| {
        let first = scope.spawn(|| dispatch(&mut early, FENCE, 1));
        until("waiting", || inbox.waiting_for() == Some(Rank(1)));
        let late = processes[1]
            .hub
            .enter(FENCE, &[Rank(1)], vec![processes[0].peer(&[0])])
            .unwrap();
        dispatch(&mut late.into_iter().next().unwrap(), FENCE, 1).unwrap();
        first.join().unwrap().unwrap();
    });
}

#[test]
fn a_peer_that_leaves_in_order_is_not_lost() {
    let (processes, mut exchanges) = pair();
    round(&mut exchanges, FENCE, 1);
    let [first, _] = &mut exchanges;
    let inbox = Arc::clone(first.inbox());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| dispatch(first, FENCE, 2));
        until("waiting", || inbox.waiting_for() == Some(Rank(1)));
        processes[1].hub.leave();
        // Both servers end in order, so the streams of both directions have ended.
        processes[1].shut_down();
        processes[0].shut_down();
        // The lead tells the survivor, which has blamed nobody until then.
        assert_eq!(inbox.waiting_for(), Some(Rank(1)));
        processes[0].hub.abort(FENCE);
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, ExchangeError::Aborted { .. }), "{error}");
    });
}

#[test]
fn an_epoch_without_frames_holds_up_no_server_that_ends() {
    let (processes, _exchanges) = pair();
    // The links of both directions are there, but no stream before there is a frame for it.
    until("connected", || {
        processes
            .iter()
            .all(|process| process.num_connections() == 1)
    });
    let since = Instant::now();
    processes[0].shut_down();
    assert!(since.elapsed() < SOON, "after {:?}", since.elapsed());
}

#[test]
fn a_stream_that_brings_no_frame_holds_up_no_server_that_ends() {
    ends_soon_with_a_stream(None);
}

#[test]
fn a_stream_whose_epoch_is_not_entered_holds_up_no_server_that_ends() {
    ends_soon_with_a_stream(Some(frame()));
}

/// Opens a stream that brings this or nothing, and ends the server in order.
fn ends_soon_with_a_stream(first: Option<PushRequest>) {
    let process = Process::start();
    let (sender, frames) = tokio::sync::mpsc::channel(1);
    if let Some(first) = first {
        sender.try_send(first).unwrap();
    }
    let stream = tokio_stream::wrappers::ReceiverStream::new(frames);
    let address = format!("http://{}", process.address);
    let mut pushing = None;
    process.block_on(async {
        let mut client = ExchangeServiceClient::connect(address).await.unwrap();
        let mut other = client.clone();
        pushing = Some(tokio::spawn(async move { client.push(stream).await }));
        tokio::task::yield_now().await;
        // A call after it on the same connection: once that is answered, the stream is open.
        other.push(tokio_stream::empty()).await.unwrap();
    });
    let since = Instant::now();
    process.hub.close();
    process.shut_down();
    assert!(since.elapsed() < SOON, "after {:?}", since.elapsed());
    process.block_on(pushing.unwrap()).unwrap().unwrap();
}

#[test]
fn a_hub_enters_only_newer_epochs() {
    let process = Process::start();
    process.hub.enter(FENCE, &[Rank(0)], vec![]).unwrap();
    process.hub.leave();
    let older = Fence {
        term: Term(1),
        epoch: Epoch(9),
    };
    for got in [FENCE, older] {
        let error = process.hub.enter(got, &[Rank(0)], vec![]).unwrap_err();
        assert_eq!(error, EnterError::NotNewer { have: FENCE, got });
    }
    process
        .hub
        .enter(
            Fence {
                term: Term(3),
                epoch: Epoch(1),
            },
            &[Rank(0)],
            vec![],
        )
        .unwrap();
}

#[test]
fn refuses_ranks_that_do_not_fit_together() {
    let process = Process::start();
    let enter = |own: &[u32], theirs: &[u32]| {
        let own: Vec<Rank> = own.iter().copied().map(Rank).collect();
        let error = process
            .hub
            .enter(FENCE, &own, vec![process.peer(theirs)])
            .unwrap_err();
        match error {
            EnterError::Ranks {
                rank,
                times,
                num_ranks,
            } => (rank.0, times, num_ranks),
            other => panic!("about ranks, but: {other}"),
        }
    };
    assert_eq!(enter(&[0], &[2]), (1, 0, 2));
    assert_eq!(enter(&[0], &[0]), (0, 2, 2));
    assert_eq!(enter(&[1, 1, 2], &[0]), (1, 2, 4));
    assert_eq!(enter(&[0], &[u32::MAX]), (1, 0, 2));
    // After refusals the hub is as it was.
    process.hub.enter(FENCE, &[Rank(0)], vec![]).unwrap();
}

#[test]
fn refuses_an_address_that_is_none() {
    let process = Process::start();
    let peer = Peer {
        address: "no address".to_owned(),
        ranks: vec![Rank(1)],
    };
    let error = process
        .hub
        .enter(FENCE, &[Rank(0)], vec![peer])
        .unwrap_err();
    assert!(error.to_string().contains("\"no address\""), "{error}");
}

#[test]
fn bytes_are_counted_by_phase_and_by_whether_they_leave_the_process() {
    let processes = [Process::start(), Process::start()];
    let mut exchanges = enter(&processes, &[&[0, 2], &[1]], FENCE);
    let owners = [Rank(0), Rank(1), Rank(2)];
    thread::scope(|scope| {
        for exchange in exchanges.iter_mut().flatten() {
            scope.spawn(move || {
                let moment = Moment {
                    fence: FENCE,
                    step: StepNumber(1),
                    layer: 0,
                };
                let received = exchange.dispatch(Dispatch {
                    moment,
                    hidden: 2,
                    k: 1,
                    rows: &[1.0, 2.0, 3.0, 4.0],
                    experts: &[1, 1],
                    owners: &owners,
                });
                let received = received.unwrap();
                exchange.combine(&received, &received.rows).unwrap();
            });
        }
    });
    let sent = exchanges[0][0].transport().sent();
    let (local, remote) = (
        sent.bytes(Phase::Dispatch, Way::Local),
        sent.bytes(Phase::Dispatch, Way::Grpc),
    );
    let (home, back) = (
        sent.bytes(Phase::Combine, Way::Local),
        sent.bytes(Phase::Combine, Way::Grpc),
    );
    // Both of its rows are for the peer; the other rank here is sent an empty frame, and nothing back.
    assert!(remote >= local + 16, "{local} {remote}");
    assert!(home == back && home < 16, "{home} {back}");
    let sent = exchanges[1][0].transport().sent();
    assert_eq!(
        sent.bytes(Phase::Dispatch, Way::Local),
        0,
        "it has no neighbour"
    );
    let outputs = sent.bytes(Phase::Combine, Way::Grpc);
    assert!(outputs >= 2 * 16, "{outputs}");
}
