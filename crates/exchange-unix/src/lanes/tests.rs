//! What comes over lanes, and what does not.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::thread;
use std::time::Duration;

use exchange::{Alarm as _, Exchange as _, ExchangeError, HostExchange, Transport};
use kernels::{Dispatch, Received, Returned};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionbio;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use spec::{Fence, StepNumber};

use super::*;
use crate::bell::Bell;

const RANKS: usize = 3;

/// A transport of lanes alone.
struct Only(Lanes);

impl Transport for Only {
    type Round<'a> = Round<'a>;

    fn begin<'a>(
        &'a mut self,
        inbox: &'a Inbox,
        exchange: (Moment, Phase),
        frames: Vec<Outgoing<'a>>,
    ) -> Result<Round<'a>, Unsent> {
        self.0.begin(inbox, exchange, frames)
    }
}

/// Rank 0 of three, and the other ends of its lanes to and from the others.
struct Scene {
    exchange: HostExchange<Only>,
    inbox: Arc<Inbox>,
    /// By rank; those of rank 0 lead nowhere.
    from_it: Vec<File>,
    to_it: Vec<File>,
    /// Lanes that have not come, of rank 0 itself first.
    to_come: Vec<OwnedFd>,
    arrivals: Arc<Arrivals>,
}

/// An end of a lane as it is used, and the other one, which waits.
fn pair() -> (OwnedFd, File) {
    let flags = SocketFlags::CLOEXEC;
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let (near, far) = pair.unwrap();
    ioctl_fionbio(&near, true).unwrap();
    (near, far.into())
}

fn scene() -> Scene {
    scene_with(&[1, 2])
}

/// A scene to which lanes have come from these ranks alone.
fn scene_with(come: &[u32]) -> Scene {
    let bell = Arc::new(Bell::new().unwrap());
    let inbox = Inbox::enter(Fence::default(), Rank(0), RANKS);
    let inbox = Arc::new(inbox.with_alarm(Arc::clone(&bell) as _));
    let arrivals = Arc::new(Arrivals::new(RANKS, bell));
    let mut lanes = Lanes::new(RANKS, Arc::clone(&arrivals));
    let (mut from_it, mut to_it, mut to_come) = (Vec::new(), Vec::new(), Vec::new());
    for rank in (0..RANKS as u32).map(Rank) {
        let [(out, far_out), (into, far_in)] = [pair(), pair()];
        if rank != Rank(0) {
            lanes.lead(rank, out);
        }
        from_it.push(far_out);
        to_it.push(far_in);
        if come.contains(&rank.0) {
            assert!(arrivals.add(rank, into));
        } else {
            to_come.push(into);
        }
    }
    Scene {
        exchange: HostExchange::new(Arc::clone(&inbox), RANKS, Only(lanes)),
        inbox,
        from_it,
        to_it,
        to_come,
        arrivals,
    }
}

const MOMENT: Moment = Moment {
    fence: Fence {
        term: spec::Term(0),
        epoch: spec::Epoch(0),
    },
    step: StepNumber(1),
    layer: 0,
};

/// A frame with its header; of no rows, two numbers wide.
fn frame(phase: Phase) -> Vec<u8> {
    let words: &[u32] = match phase {
        Phase::Dispatch => &[0, 0, 2],
        Phase::Combine => &[0, 2],
    };
    let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let header = Header::new((MOMENT, phase), body.len());
    [&header.to_bytes()[..], &body].concat()
}

/// Dispatches one row to this rank's own expert.
fn dispatch(exchange: &mut HostExchange<Only>) -> Result<Received, ExchangeError> {
    exchange.dispatch(Dispatch {
        moment: MOMENT,
        hidden: 2,
        k: 1,
        rows: &[1.0, 2.0],
        experts: &[0],
        owners: &[Rank(0), Rank(1), Rank(2)],
    })
}

/// Dispatches and combines.
fn layer(exchange: &mut HostExchange<Only>) -> Result<Returned, ExchangeError> {
    let received = dispatch(exchange)?;
    exchange.combine(&received, &received.rows)
}

/// Waits until rank 0 sleeps over its lanes for a frame of this one.
fn until_it_sleeps(inbox: &Inbox, from: Rank) {
    while inbox.waiting_for() != Some(from) {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(10));
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let Scene {
        mut exchange,
        inbox,
        mut to_it,
        from_it: _from_it,
        ..
    } = scene();
    thread::scope(|scope| {
        let computing = scope.spawn(|| layer(&mut exchange));
        until_it_sleeps(&inbox, Rank(1));
        for phase in [Phase::Dispatch, Phase::Combine] {
            for lane in &mut to_it[1..] {
                for byte in frame(phase) {
                    lane.write_all(&[byte]).unwrap();
                    thread::sleep(Duration::from_micros(300));
                }
            }
        }
        assert_eq!(computing.join().unwrap().unwrap().outputs, [1.0, 2.0]);
    });
    assert!(inbox.waited() > Duration::ZERO);
}

#[test]
fn what_is_sent_is_read_on_the_other_side() {
    let Scene {
        mut exchange,
        mut to_it,
        mut from_it,
        ..
    } = scene();
    for lane in &mut to_it[1..] {
        lane.write_all(&frame(Phase::Dispatch)).unwrap();
    }
    dispatch(&mut exchange).unwrap();
    for lane in &mut from_it[1..] {
        let mut came = frame(Phase::Combine);
        came.resize(frame(Phase::Dispatch).len(), 0);
        lane.read_exact(&mut came).unwrap();
        assert_eq!(came, frame(Phase::Dispatch));
    }
}

/// Lets rank 1 send these bytes and end, and returns what rank 0 makes of it.
fn refused(bytes: &[u8]) -> ExchangeError {
    let Scene {
        mut exchange,
        mut to_it,
        mut from_it,
        ..
    } = scene();
    to_it[1].write_all(bytes).unwrap();
    drop((to_it.remove(1), from_it.remove(1)));
    dispatch(&mut exchange).unwrap_err()
}

/// The frame of a dispatch with another header.
fn with_header(change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::new((MOMENT, Phase::Dispatch), 12);
    change(&mut header);
    let mut frame = frame(Phase::Dispatch);
    frame[..Header::BYTES].copy_from_slice(&header.to_bytes());
    frame
}

#[test]
fn wrong_frames_are_named() {
    let cases = [
        (with_header(|header| header.phase = 7), "it names phase 7"),
        (
            with_header(|header| header.phase = 1),
            "it is at combine of",
        ),
        (
            with_header(|header| header.step = 2),
            "step 2 layer 0 instead",
        ),
        (
            with_header(|header| header.layer = 9),
            "step 1 layer 9 instead",
        ),
        (
            with_header(|header| header.bytes = 4),
            "header alone is longer",
        ),
        (
            with_header(|header| header.bytes = 16),
            "its header speaks of 12",
        ),
        (
            with_header(|header| header.bytes = u64::MAX),
            "18446744073709551615 bytes; the limit is",
        ),
    ];
    for (bytes, text) in cases {
        let error = refused(&bytes);
        assert!(
            matches!(&error, ExchangeError::BadFrame { peer: Rank(1), why, .. } if why.contains(text)),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_peer_that_ends_within_its_frame_is_lost() {
    let whole = frame(Phase::Dispatch);
    for length in 0..whole.len() {
        let error = refused(&whole[..length]);
        assert!(
            matches!(error, ExchangeError::PeerLost { peer: Rank(1), .. }),
            "{length} bytes: {error}"
        );
    }
}

#[test]
fn a_peer_that_ends_after_its_frame_does_not_hinder_the_exchange() {
    let Scene {
        mut exchange,
        inbox,
        mut to_it,
        mut from_it,
        ..
    } = scene();
    thread::scope(|scope| {
        let computing = scope.spawn(|| (dispatch(&mut exchange), exchange));
        until_it_sleeps(&inbox, Rank(1));
        // The frame of rank 2 lies there, and rank 2 has gone; rank 1 is waited for.
        to_it[2].write_all(&frame(Phase::Dispatch)).unwrap();
        drop((to_it.pop(), from_it.pop()));
        thread::sleep(Duration::from_millis(20));
        assert!(!computing.is_finished());
        to_it[1].write_all(&frame(Phase::Dispatch)).unwrap();
        let (received, mut exchange) = computing.join().unwrap();
        let error = exchange
            .combine(&received.unwrap(), &[1.0, 2.0])
            .unwrap_err();
        assert!(
            matches!(error, ExchangeError::PeerLost { peer: Rank(2), .. }),
            "{error}"
        );
    });
}

#[test]
fn a_lost_peer_wakes_who_waits_for_another() {
    let Scene {
        mut exchange,
        inbox,
        mut to_it,
        mut from_it,
        ..
    } = scene();
    thread::scope(|scope| {
        let computing = scope.spawn(|| dispatch(&mut exchange));
        until_it_sleeps(&inbox, Rank(1));
        drop((to_it.pop(), from_it.pop()));
        let error = computing.join().unwrap().unwrap_err();
        assert!(
            matches!(error, ExchangeError::PeerLost { peer: Rank(2), .. }),
            "{error}"
        );
    });
}

#[test]
fn the_end_of_the_epoch_wakes_who_sleeps() {
    let Scene {
        mut exchange,
        inbox,
        to_it: _to_it,
        from_it: _from_it,
        ..
    } = scene();
    thread::scope(|scope| {
        let computing = scope.spawn(|| dispatch(&mut exchange));
        until_it_sleeps(&inbox, Rank(1));
        inbox.abort();
        let error = computing.join().unwrap().unwrap_err();
        assert!(matches!(error, ExchangeError::Aborted { .. }), "{error}");
    });
}

#[test]
fn who_says_goodbye_is_not_lost() {
    let Scene {
        mut exchange,
        inbox,
        mut to_it,
        mut from_it,
        ..
    } = scene();
    thread::scope(|scope| {
        let computing = scope.spawn(|| (dispatch(&mut exchange), exchange));
        until_it_sleeps(&inbox, Rank(1));
        to_it[1].write_all(&Header::goodbye().to_bytes()).unwrap();
        drop((to_it.remove(1), from_it.remove(1)));
        thread::sleep(Duration::from_millis(30));
        assert!(!computing.is_finished(), "its own lead has not told it yet");
        inbox.abort();
        let (aborted, _) = computing.join().unwrap();
        let error = aborted.unwrap_err();
        assert!(matches!(error, ExchangeError::Aborted { .. }), "{error}");
    });
}

#[test]
fn who_leaves_before_its_first_frame_is_not_lost() {
    let Scene {
        mut exchange,
        inbox,
        to_it,
        mut from_it,
        ..
    } = scene();
    // Nobody has opened the other lane.
    drop(to_it);
    thread::scope(|scope| {
        let computing = scope.spawn(|| (dispatch(&mut exchange), exchange));
        until_it_sleeps(&inbox, Rank(1));
        from_it[1].write_all(&[0]).unwrap();
        drop(from_it.remove(1));
        thread::sleep(Duration::from_millis(30));
        assert!(!computing.is_finished(), "its own lead has not told it yet");
        inbox.abort();
        let error = computing.join().unwrap().0.unwrap_err();
        assert!(matches!(error, ExchangeError::Aborted { .. }), "{error}");
    });
}

#[test]
fn who_leaves_says_goodbye_both_ways_and_closes_what_comes() {
    let Scene {
        mut exchange,
        mut to_it,
        mut from_it,
        ..
    } = scene();
    exchange.transport_mut().0.say_goodbye();
    drop(exchange);
    let mut goodbye = Vec::new();
    from_it[1].read_to_end(&mut goodbye).unwrap();
    assert_eq!(goodbye, Header::goodbye().to_bytes());
    let mut word = Vec::new();
    to_it[1].read_to_end(&mut word).unwrap();
    assert_eq!(word.len(), 1);
}

#[test]
fn nothing_is_sent_to_who_said_goodbye() {
    let Scene {
        mut exchange,
        inbox,
        mut to_it,
        mut from_it,
        ..
    } = scene();
    // Its last frame is still for us; what it gets of ours does not matter any more.
    to_it[1].write_all(&frame(Phase::Dispatch)).unwrap();
    to_it[1].write_all(&Header::goodbye().to_bytes()).unwrap();
    drop((to_it.remove(1), from_it.remove(1)));
    to_it[1].write_all(&frame(Phase::Dispatch)).unwrap();
    let received = dispatch(&mut exchange).unwrap();
    let lanes = exchange.transport_mut();
    assert_eq!(
        lanes.0.with(Rank(1), &inbox, Incoming::header),
        Some(Header::goodbye())
    );
    lanes.0.part(Rank(1));
    let error = exchange.combine(&received, &received.rows).unwrap_err();
    assert!(
        matches!(error, ExchangeError::Aborted { peer: Rank(1), .. }),
        "{error}"
    );
}

#[test]
fn a_lane_that_is_given_up_before_its_first_byte_is_no_loss() {
    let Scene {
        mut exchange,
        inbox,
        mut to_it,
        from_it: _from_it,
        ..
    } = scene();
    thread::scope(|scope| {
        let computing = scope.spawn(|| dispatch(&mut exchange));
        until_it_sleeps(&inbox, Rank(1));
        drop(to_it.remove(1));
        thread::sleep(Duration::from_millis(20));
        // It sends over gRPC.
        let payload = frame(Phase::Dispatch)[Header::BYTES..].to_vec();
        let (from, to) = (Rank(1), Rank(0));
        inbox
            .deliver(exchange::Frame {
                moment: MOMENT,
                phase: Phase::Dispatch,
                from,
                to,
                payload: payload.into(),
            })
            .unwrap();
        to_it[1].write_all(&frame(Phase::Dispatch)).unwrap();
        computing.join().unwrap().unwrap();
    });
}

#[test]
fn the_end_of_the_epoch_is_noticed_within_a_frame_and_without_room_for_one() {
    for half in [true, false] {
        let Scene {
            mut exchange,
            inbox,
            mut to_it,
            mut from_it,
            ..
        } = scene();
        let rows = vec![0.5; 1 << 20];
        let whole = frame(Phase::Dispatch);
        let part = if half { whole.len() - 4 } else { whole.len() };
        to_it[1].write_all(&whole[..part]).unwrap();
        to_it[2].write_all(&whole).unwrap();
        thread::scope(|scope| {
            let computing = scope.spawn(|| {
                exchange.dispatch(Dispatch {
                    moment: MOMENT,
                    hidden: 2,
                    k: 1,
                    rows: &rows,
                    experts: &vec![2; rows.len() / 2],
                    owners: &[Rank(0), Rank(1), Rank(2)],
                })
            });
            until_it_sleeps(&inbox, Rank(if half { 1 } else { 2 }));
            inbox.abort();
            let error = computing.join().unwrap().unwrap_err();
            assert!(matches!(error, ExchangeError::Aborted { .. }), "{error}");
        });
        // No goodbye completes the frame that rank 2 is in the middle of.
        exchange.transport_mut().0.say_goodbye();
        drop(exchange);
        let mut came = Vec::new();
        from_it[2].read_to_end(&mut came).unwrap();
        assert!(came.len() > Header::BYTES && !came.ends_with(&Header::goodbye().to_bytes()));
    }
}

#[test]
fn rows_that_lie_apart_are_written_from_where_they_lie() {
    let Scene {
        mut exchange,
        mut to_it,
        mut from_it,
        ..
    } = scene();
    for lane in &mut to_it[1..] {
        lane.write_all(&frame(Phase::Dispatch)).unwrap();
    }
    // Every second row goes to rank 1: more pieces than the system takes at a time.
    let num_rows = 5000;
    let rows: Vec<f32> = (0..num_rows * 2).map(|value| value as f32).collect();
    let experts: Vec<u32> = (0..num_rows as u32).map(|row| row % 2).collect();
    thread::scope(|scope| {
        let computing = scope.spawn(|| {
            exchange.dispatch(Dispatch {
                moment: MOMENT,
                hidden: 2,
                k: 1,
                rows: &rows,
                experts: &experts,
                owners: &[Rank(0), Rank(1), Rank(2)],
            })
        });
        let mut came = vec![0; Header::BYTES + 4 * (3 + 2 * 2500 + 2500 * 2)];
        from_it[1].read_exact(&mut came).unwrap();
        computing.join().unwrap().unwrap();
        let values = came[Header::BYTES + 4 * (3 + 2 * 2500)..].as_chunks().0;
        let values = values.iter().map(|&value| f32::from_le_bytes(value));
        let sent = rows.chunks(2).skip(1).step_by(2).flatten().copied();
        assert!(values.eq(sent));
    });
}

#[test]
fn who_has_no_room_is_waited_for_and_lost_if_it_ends() {
    let Scene {
        mut exchange,
        inbox,
        mut to_it,
        mut from_it,
        ..
    } = scene();
    let rows = vec![0.5; 1 << 20];
    let moment = MOMENT;
    for lane in &mut to_it[1..] {
        lane.write_all(&frame(Phase::Dispatch)).unwrap();
    }
    thread::scope(|scope| {
        let computing = scope.spawn(|| {
            let received = exchange.dispatch(Dispatch {
                moment,
                hidden: 2,
                k: 1,
                rows: &rows,
                experts: &vec![1; rows.len() / 2],
                owners: &[Rank(0), Rank(1), Rank(2)],
            });
            // All that comes to this rank has come; its own rows will not come home.
            exchange.combine(&received.unwrap(), &[])
        });
        until_it_sleeps(&inbox, Rank(1));
        let mut some = vec![0; 1 << 20];
        from_it[1].read_exact(&mut some).unwrap();
        until_it_sleeps(&inbox, Rank(1));
        drop((to_it.remove(1), from_it.remove(1)));
        let error = computing.join().unwrap().unwrap_err();
        assert!(
            matches!(error, ExchangeError::PeerLost { peer: Rank(1), .. }),
            "{error}"
        );
    });
}

#[test]
fn a_bell_that_is_rung_before_the_sleep_is_heard() {
    let bell = Bell::new().unwrap();
    let readable = |bell: &Bell| {
        let mut files = [PollFd::new(bell, PollFlags::IN)];
        let now = rustix::event::Timespec::default();
        poll(&mut files, Some(&now)).unwrap() == 1
    };
    assert!(!readable(&bell));
    bell.ring();
    bell.ring();
    assert!(readable(&bell));
    bell.silence();
    assert!(!readable(&bell));
    bell.silence();
}

#[test]
fn a_lane_comes_once_and_from_the_group() {
    let arrivals = Arrivals::new(2, Arc::new(Bell::new().unwrap()));
    let lane = || pair().0;
    assert!(!arrivals.add(Rank(2), lane()));
    assert!(arrivals.take().is_empty());
    assert!(arrivals.add(Rank(1), lane()));
    assert!(!arrivals.add(Rank(1), lane()));
    assert_eq!(arrivals.take().len(), 1);
    assert!(arrivals.take().is_empty());
    assert!(!arrivals.add(Rank(1), lane()));
    assert_eq!(arrivals.count(), 1);
    arrivals.close();
    assert!(!arrivals.add(Rank(0), lane()));
}

/// Dispatches 4 MiB to each of these ranks, in turn.
fn dispatch_much(exchange: &mut HostExchange<Only>, to: &[u32]) -> Result<Received, ExchangeError> {
    let rows = vec![0.5; to.len() << 20];
    let experts: Vec<u32> = to.iter().flat_map(|to| vec![*to; 1 << 19]).collect();
    exchange.dispatch(Dispatch {
        moment: MOMENT,
        hidden: 2,
        k: 1,
        rows: &rows,
        experts: &experts,
        owners: &[Rank(0), Rank(1), Rank(2)],
    })
}

/// Whether the other end of a socket is closed.
fn is_closed(socket: &File) -> bool {
    let mut files = [PollFd::new(socket, PollFlags::empty())];
    let now = rustix::event::Timespec::default();
    poll(&mut files, Some(&now)).unwrap();
    files[0].revents().contains(PollFlags::HUP)
}

#[test]
fn a_rank_that_fails_within_its_frame_is_not_lost_itself() {
    let mut scene = scene();
    scene.to_it[2].write_all(&frame(Phase::Dispatch)).unwrap();
    thread::scope(|scope| {
        let computing = scope.spawn(|| dispatch_much(&mut scene.exchange, &[2]));
        until_it_sleeps(&scene.inbox, Rank(1));
        drop((scene.to_it.remove(1), scene.from_it.remove(1)));
        let error = computing.join().unwrap().unwrap_err();
        assert!(
            matches!(error, ExchangeError::PeerLost { peer: Rank(1), .. }),
            "{error}"
        );
    });
    assert!(
        !is_closed(&scene.from_it[1]),
        "rank 2 waits for its own lead"
    );
}

#[test]
fn a_goodbye_that_had_no_room_is_heard_in_the_other_lane() {
    let mut scene = scene();
    scene.to_it[1].write_all(&frame(Phase::Dispatch)).unwrap();
    scene.to_it[2].write_all(&frame(Phase::Dispatch)).unwrap();
    let received = dispatch(&mut scene.exchange).unwrap();
    scene.from_it[1].write_all(&[0]).unwrap();
    drop((scene.to_it.remove(1), scene.from_it.remove(1)));
    thread::scope(|scope| {
        let outputs = &received.rows;
        let computing = scope.spawn(|| scene.exchange.combine(&received, outputs));
        until_it_sleeps(&scene.inbox, Rank(1));
        assert!(!computing.is_finished(), "its own lead has not told it yet");
        scene.inbox.abort();
        let error = computing.join().unwrap().unwrap_err();
        assert!(matches!(error, ExchangeError::Aborted { .. }), "{error}");
    });
}

#[test]
fn nothing_follows_a_frame_that_another_ranks_end_has_cut() {
    let mut scene = scene_with(&[1]);
    drop(scene.from_it.pop());
    let error = dispatch_much(&mut scene.exchange, &[1, 2]).unwrap_err();
    assert!(
        matches!(error, ExchangeError::PeerLost { peer: Rank(2), .. }),
        "{error}"
    );
    scene.exchange.transport_mut().0.say_goodbye();
    drop(scene.exchange);
    let mut came = Vec::new();
    scene.from_it[1].read_to_end(&mut came).unwrap();
    assert!(came.len() > Header::BYTES && !came.ends_with(&Header::goodbye().to_bytes()));
}

#[test]
fn a_peer_without_a_lane_back_that_dies_is_noticed_at_once() {
    let mut scene = scene_with(&[2]);
    scene.to_it[2].write_all(&frame(Phase::Dispatch)).unwrap();
    for _ in 0..2 {
        thread::scope(|scope| {
            let computing = scope.spawn(|| dispatch_much(&mut scene.exchange, &[1]));
            while scene.inbox.waiting_for() != Some(Rank(1)) {
                assert!(!computing.is_finished());
                thread::yield_now();
            }
            // It looks still, and may have more to write.
            drop(scene.from_it.remove(1));
            let error = computing.join().unwrap().unwrap_err();
            assert!(
                matches!(error, ExchangeError::PeerLost { peer: Rank(1), .. }),
                "{error}"
            );
        });
        scene = scene_with(&[2]);
    }
}

#[test]
fn who_is_waited_for_is_who_has_no_room() {
    let mut scene = scene();
    for lane in &mut scene.to_it[1..] {
        lane.write_all(&frame(Phase::Dispatch)).unwrap();
    }
    thread::scope(|scope| {
        let computing = scope.spawn(|| dispatch_much(&mut scene.exchange, &[1, 2]));
        for rank in [1, 2] {
            until_it_sleeps(&scene.inbox, Rank(rank));
            let mut came = vec![0; Header::BYTES + 4 * (3 + (1 << 20)) + (4 << 20)];
            scene.from_it[rank as usize].read_exact(&mut came).unwrap();
        }
        computing.join().unwrap().unwrap();
    });
    assert_eq!(scene.inbox.waiting_for(), None);
}

#[test]
fn a_frame_that_comes_with_its_lane_and_its_end_is_read() {
    let mut scene = scene_with(&[2]);
    scene.to_it[2].write_all(&frame(Phase::Dispatch)).unwrap();
    thread::scope(|scope| {
        let computing = scope.spawn(|| dispatch(&mut scene.exchange));
        until_it_sleeps(&scene.inbox, Rank(1));
        scene.to_it[1].write_all(&frame(Phase::Dispatch)).unwrap();
        assert!(scene.arrivals.add(Rank(1), scene.to_come.remove(1)));
        drop((scene.to_it.remove(1), scene.from_it.remove(1)));
        computing.join().unwrap().unwrap();
    });
}
