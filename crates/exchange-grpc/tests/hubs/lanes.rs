//! Processes of one machine, with doors to each other.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use exchange::{Exchange as _, ExchangeError, HostExchange, Moment};
use exchange_grpc::{ENTER_LIMIT, Hub, Way, Wire};
use kernels::{Dispatch, Phase};
use prost::Message as _;
use proto::internal::PushRequest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sockets::{Dialer, knock};
use spec::{Rank, StepNumber};

use crate::faults::{lost_peer, pass_large_frames};
use crate::process::{FENCE, GROUP, NEXT, Process, dispatch, enter, round, until, with_doors};
use crate::wrong_input::frame;

/// Two processes of one rank each, with doors.
fn pair() -> ([Process; 2], [HostExchange<Wire>; 2]) {
    let processes = with_doors();
    let exchanges = enter(&processes, &[&[0], &[1]], FENCE);
    let exchanges: Vec<_> = exchanges.into_iter().flatten().collect();
    (processes, exchanges.try_into().unwrap())
}

/// The name of a process's door.
fn door(process: &Process) -> String {
    format!("conclave exchange 1 {}", process.address)
}

/// Lets all ranks exchange a row each with all others.
fn exchange_all(exchanges: &mut [Vec<HostExchange<Wire>>], step: u64) {
    let num_ranks: usize = exchanges.iter().map(Vec::len).sum();
    let owners: Vec<Rank> = (0..num_ranks as u32).map(Rank).collect();
    let experts: Vec<u32> = (0..num_ranks as u32).collect();
    let rows: Vec<f32> = experts.iter().map(|expert| *expert as f32).collect();
    thread::scope(|scope| {
        for exchange in exchanges.iter_mut().flatten() {
            scope.spawn(|| {
                let moment = Moment {
                    fence: FENCE,
                    step: StepNumber(step),
                    layer: 0,
                };
                let received = exchange.dispatch(Dispatch {
                    moment,
                    hidden: 1,
                    k: 1,
                    rows: &rows,
                    experts: &experts,
                    owners: &owners,
                });
                let received = received.unwrap();
                let returned = exchange.combine(&received, &received.rows).unwrap();
                assert_eq!(returned.outputs, rows);
            });
        }
    });
}

/// What a rank has sent in dispatches, by way.
fn sent(exchange: &HostExchange<Wire>) -> [u64; 3] {
    let sent = exchange.transport().sent();
    Way::ALL.map(|way| sent.bytes(Phase::Dispatch, way))
}

#[test]
fn rows_go_by_lanes() {
    let (_processes, mut exchanges) = pair();
    for step in 1..50 {
        round(&mut exchanges, FENCE, step);
    }
    for exchange in &exchanges {
        let [local, unix, grpc] = sent(exchange);
        assert_eq!((local, grpc), (0, 0));
        assert!(unix > 49 * 8, "{unix}");
    }
}

#[test]
fn a_process_without_a_door_is_reached_over_tcp() {
    let processes = [
        Process::start_with_door(),
        Process::start_with_door(),
        Process::start(),
    ];
    let mut exchanges = enter(&processes, &[&[0], &[1], &[2]], FENCE);
    thread::scope(|scope| {
        for exchange in exchanges.iter_mut().flatten() {
            scope.spawn(move || {
                for step in 1..20 {
                    let received = dispatch(exchange, FENCE, step).unwrap();
                    exchange.combine(&received, &received.rows).unwrap();
                }
            });
        }
    });
    let sent: Vec<_> = exchanges.iter().flatten().map(sent).collect();
    for [local, unix, grpc] in &sent[..2] {
        assert!(*local == 0 && *unix > 0 && *grpc > 0, "{sent:?}");
    }
    assert_eq!(sent[2][..2], [0, 0], "it sends no other way");
}

#[test]
fn large_frames_pass_by_lanes() {
    let (_processes, exchanges) = pair();
    pass_large_frames(exchanges.into());
}

#[test]
fn large_frames_pass_in_all_directions_and_ways() {
    let processes = [
        Process::start_with_door(),
        Process::start_with_door(),
        Process::start_with_door(),
        Process::start(),
    ];
    let exchanges = enter(&processes, &[&[0], &[1, 2], &[3], &[4]], FENCE);
    let (hidden, rows, ranks) = (1024, 5000, 5);
    let owners: Vec<Rank> = (0..ranks).map(Rank).collect();
    thread::scope(|scope| {
        for mut exchange in exchanges.into_iter().flatten() {
            let owners = &owners;
            scope.spawn(move || {
                // 4 MiB to each, row by row in turn.
                let own = exchange.rank().0;
                let experts: Vec<u32> = (0..rows as u32).map(|row| (row + own) % ranks).collect();
                let values: Vec<f32> = (0..rows * hidden)
                    .map(|i| (i as u32 ^ own) as f32)
                    .collect();
                let received = exchange.dispatch(Dispatch {
                    moment: Moment {
                        fence: FENCE,
                        step: StepNumber(1),
                        layer: 0,
                    },
                    hidden,
                    k: 1,
                    rows: &values,
                    experts: &experts,
                    owners,
                });
                let received = received.unwrap();
                let returned = exchange.combine(&received, &received.rows).unwrap();
                assert!(returned.outputs == values);
            });
        }
    });
}

#[test]
fn processes_that_are_ready_at_different_times_use_lanes() {
    let processes: [Process; 2] = with_doors();
    let own = |index: usize| {
        let (own, other) = (index as u32, 1 - index);
        let peers = vec![processes[other].peer(&[other as u32])];
        processes[index]
            .hub
            .enter(FENCE, &[Rank(own)], peers)
            .unwrap()
    };
    let mut first = own(0);
    thread::sleep(ENTER_LIMIT + Duration::from_millis(500));
    let mut exchanges = [first.remove(0), own(1).remove(0)];
    round(&mut exchanges, FENCE, 1);
    for exchange in &exchanges {
        let [local, unix, grpc] = sent(exchange);
        assert!(local == 0 && unix > 0 && grpc == 0, "{unix} {grpc}");
    }
}

#[test]
fn many_ranks_have_many_lanes() {
    sockets::raise_files().unwrap();
    let processes: [Process; 2] = with_doors();
    let ranks: Vec<u32> = (0..24).collect();
    let mut exchanges = enter(&processes, &[&ranks[..12], &ranks[12..]], FENCE);
    for step in 1..4 {
        exchange_all(&mut exchanges, step);
    }
    let sent = exchanges.iter().flatten().map(sent);
    assert!(sent.map(|[_, unix, _]| unix).all(|unix| unix > 0));
}

#[test]
fn a_rank_that_vanishes_wakes_the_others_at_once() {
    let processes: [Process; 3] = with_doors();
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
        // They sleep by now.
        thread::sleep(Duration::from_millis(20));
        drop(dead);
        for thread in threads {
            let error = thread.join().unwrap();
            let (rank, why) = lost_peer(&error).unwrap_or_else(|| panic!("{error}"));
            assert_eq!((rank, why), (Rank(3), "its end of the socket is closed"));
        }
    });
    // It stays so, for sending too.
    let error = dispatch(&mut exchanges[0], FENCE, 2).unwrap_err();
    assert_eq!(
        lost_peer(&error).map(|lost| lost.0),
        Some(Rank(3)),
        "{error}"
    );
}

#[test]
fn who_leaves_in_order_is_not_taken_for_lost() {
    let (processes, [mut stays, leaves]) = pair();
    thread::scope(|scope| {
        let inbox = Arc::clone(stays.inbox());
        let waiting = scope.spawn(|| dispatch(&mut stays, FENCE, 1).unwrap_err());
        until("waiting", || inbox.waiting_for() == Some(Rank(1)));
        processes[1].hub.abort(FENCE);
        drop(leaves);
        thread::sleep(Duration::from_millis(1500));
        assert!(!waiting.is_finished(), "its lead has not told it yet");
        processes[0].hub.abort(FENCE);
        let error = waiting.join().unwrap();
        assert!(matches!(error, ExchangeError::Aborted { .. }), "{error}");
    });
}

#[test]
fn epochs_follow_each_other_and_leave_no_file_open() {
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let processes: [Process; 2] = with_doors();
    let mut fence = FENCE;
    let mut epoch = |rounds: u64| {
        for step in 1..=rounds {
            fence.epoch.0 += 1;
            let exchanges = enter(&processes, &[&[0], &[1]], fence);
            let exchanges: Vec<_> = exchanges.into_iter().flatten().collect();
            let mut exchanges = exchanges.try_into().unwrap();
            round(&mut exchanges, fence, step);
        }
    };
    epoch(1);
    let before = files();
    epoch(60);
    // Other tests of this process open some meanwhile; sixty epochs would leave hundreds.
    until("most files are closed", || files() < before + 120);
}

#[test]
fn a_lane_that_is_not_of_the_epoch_is_refused_and_disturbs_nobody() {
    let (processes, mut exchanges) = pair();
    let strangers = [
        // A greeting longer than any, one that is none, one of nobody, and silence.
        [0xff, 0xff, 0, 0].to_vec(),
        [4, 0, 1, 2, 3, 4].to_vec(),
        [0, 0].to_vec(),
        // One of another group, one of another epoch, one of a rank that is no peer's, and one to a rank
        // that is not here.
        greeting(|greeting| greeting.group = "other".to_owned()),
        greeting(|greeting| greeting.epoch -= 1),
        greeting(|greeting| greeting.from = 2),
        greeting(|greeting| greeting.to = 1),
    ];
    for greeting in strangers {
        let mut lane = UnixStream::from(knock(&door(&processes[0]), &greeting).unwrap());
        lane.set_nonblocking(false).unwrap();
        lane.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(
            lane.read(&mut [0]).unwrap_or(0),
            0,
            "it is closed: {greeting:?}"
        );
    }
    // And one of a lane that is there already.
    round(&mut exchanges, FENCE, 1);
    let again = knock(&door(&processes[0]), &greeting(|_| {})).unwrap();
    until("it is closed", || is_closed(&again));
    let _silent = knock(&door(&processes[0]), &[]).unwrap();
    round(&mut exchanges, FENCE, 2);
}

/// A greeting of the lane from rank 1 to rank 0, but for a change.
fn greeting(change: impl FnOnce(&mut PushRequest)) -> Vec<u8> {
    let mut greeting = PushRequest {
        payload: Vec::new().into(),
        group: GROUP.to_owned(),
        ..frame()
    };
    change(&mut greeting);
    let bytes = greeting.encode_to_vec();
    [&(bytes.len() as u16).to_le_bytes()[..], &bytes].concat()
}

/// Whether the other end of a socket is closed.
fn is_closed(socket: &OwnedFd) -> bool {
    let mut files = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut files, Some(&Timespec::default())).unwrap();
    files[0].revents().contains(PollFlags::HUP)
}

#[test]
fn rows_for_a_door_that_never_opens_go_over_tcp() {
    let processes = [Process::start_with_door(), Process::start()];
    let name = door(&processes[1]);
    let _deaf = processes[1].block_on(async { sockets::Door::open(&name).unwrap() });
    let exchanges = enter(&processes, &[&[0], &[1]], FENCE);
    let exchanges: Vec<_> = exchanges.into_iter().flatten().collect();
    let mut exchanges = exchanges.try_into().unwrap();
    for step in 1..4 {
        round(&mut exchanges, FENCE, step);
    }
    let [local, unix, grpc] = sent(&exchanges[0]);
    assert!(local == 0 && unix == 0 && grpc > 0, "{unix} {grpc}");
}

#[test]
fn a_door_closes_with_its_hub() {
    let process = Process::start_with_door();
    let name = door(&process);
    drop(process);
    until("it is closed", || knock(&name, &[]).is_err());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let hub = Hub::new(Dialer::default(), GROUP);
    hub.open_door("nowhere").unwrap();
    drop(hub);
    until("it is closed", || {
        knock("conclave exchange 1 nowhere", &[]).is_err()
    });
}

#[test]
fn a_door_is_open_to_one_process() {
    let [first, second] = with_doors();
    let error = second.hub.open_door(&first.address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let long = "x".repeat(200);
    second.hub.open_door(&long).unwrap_err();
    // And is closed with it.
    let name = door(&first);
    first.hub.close();
    until("it is closed", || knock(&name, &[]).is_err());
    let exchanges = enter(&[second, Process::start_with_door()], &[&[0], &[1]], NEXT);
    assert_eq!(exchanges.len(), 2);
}
