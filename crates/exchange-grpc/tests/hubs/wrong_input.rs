//! Frames that no hub would send, over a plain client.

use std::thread;
use std::time::Duration;

use exchange::{ExchangeError, HostExchange, MAX_FRAME_BYTES};
use exchange_grpc::{MAX_MESSAGE_BYTES, Wire};
use proto::internal::exchange_service_client::ExchangeServiceClient;
use proto::internal::{ExchangePhase, PushRequest};
use spec::Rank;
use tonic::{Code, Status};

use crate::process::{FENCE, GROUP, Process, dispatch, pair};

/// A process with rank 0, in an epoch with another that has rank 1 and never sends: the test does
/// in its name.
fn victim() -> (Process, HostExchange<Wire>, Process) {
    let ([process, quiet], [exchange, _]) = pair();
    (process, exchange, quiet)
}

/// An empty dispatch frame that is right in all respects.
pub(crate) fn frame() -> PushRequest {
    let payload = [0u32, 0, 2]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect::<Vec<_>>();
    PushRequest {
        term: FENCE.term.0,
        epoch: FENCE.epoch.0,
        step: 1,
        layer: 0,
        phase: ExchangePhase::Dispatch.into(),
        from: 1,
        to: 0,
        payload: payload.into(),
        // As from builds that did not say it.
        group: String::new(),
    }
}

/// Pushes frames and ends the stream.
fn push(process: &Process, frames: Vec<PushRequest>) -> Result<(), Status> {
    process.block_on(async {
        let client = ExchangeServiceClient::connect(format!("http://{}", process.address)).await;
        let mut client = client.unwrap().max_encoding_message_size(usize::MAX);
        let pushed = client.push(tokio_stream::iter(frames));
        let answer = tokio::time::timeout(Duration::from_secs(10), pushed).await;
        answer.expect("an answer in time").map(|_| ())
    })
}

#[test]
fn a_right_frame_is_taken() {
    let (process, mut exchange, _quiet) = victim();
    push(&process, vec![frame()]).unwrap();
    let received = dispatch(&mut exchange, FENCE, 1).unwrap();
    assert_eq!(received.counts, [1, 0]);
}

#[test]
fn refuses_frames_of_another_epoch_and_names_both() {
    let (process, mut exchange, _quiet) = victim();
    for (term, epoch, other) in [(2, 4, "2.4"), (1, 9, "1.9"), (3, 1, "3.1")] {
        let status = push(
            &process,
            vec![PushRequest {
                term,
                epoch,
                ..frame()
            }],
        )
        .unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let text = status.message();
        assert!(text.contains("2.5") && text.contains(other), "{text}");
    }
    // Nobody of this epoch is to blame.
    push(&process, vec![frame()]).unwrap();
    dispatch(&mut exchange, FENCE, 1).unwrap();
}

#[test]
fn refuses_frames_of_another_group_and_names_both() {
    let (process, mut exchange, _quiet) = victim();
    let of = |group: &str| PushRequest {
        group: group.into(),
        ..frame()
    };
    let status = push(&process, vec![of("other")]).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let text = status.message();
    assert!(text.contains(GROUP) && text.contains("other"), "{text}");
    // Nobody of this one is to blame.
    push(&process, vec![of(GROUP)]).unwrap();
    dispatch(&mut exchange, FENCE, 1).unwrap();

    let (process, mut exchange, _quiet) = victim();
    let second = PushRequest {
        step: 2,
        ..of("other")
    };
    let status = push(&process, vec![frame(), second]).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let error = dispatch(&mut exchange, FENCE, 1).unwrap_err();
    assert!(matches!(error, ExchangeError::PeerLost { .. }), "{error}");
}

#[test]
fn refuses_frames_before_any_epoch_and_after_the_last() {
    let process = Process::start();
    let status = push(&process, vec![frame()]).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("has entered none"), "{status}");

    let (process, _exchange, _quiet) = victim();
    process.hub.leave();
    let status = push(&process, vec![frame()]).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("has left epoch 2.5"), "{status}");
}

#[test]
fn refuses_a_change_of_epoch_within_a_stream() {
    let (process, mut exchange, _quiet) = victim();
    let status = push(
        &process,
        vec![
            frame(),
            PushRequest {
                epoch: 6,
                ..frame()
            },
        ],
    )
    .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("2.5") && status.message().contains("2.6"),
        "{status}"
    );
    let error = dispatch(&mut exchange, FENCE, 1).unwrap_err();
    assert!(
        matches!(error, ExchangeError::PeerLost { peer: Rank(1), .. }),
        "{error}"
    );
}

#[test]
fn refuses_first_frames_that_say_nothing_about_a_peer_and_blames_nobody() {
    let (process, mut exchange, _quiet) = victim();
    let wrong = [
        PushRequest {
            phase: 0,
            ..frame()
        },
        PushRequest {
            phase: 17,
            ..frame()
        },
        PushRequest { from: 0, ..frame() },
        PushRequest { from: 2, ..frame() },
        PushRequest {
            from: u32::MAX,
            ..frame()
        },
    ];
    for frame in wrong {
        let status = push(&process, vec![frame]).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    push(&process, vec![]).unwrap();
    push(&process, vec![frame()]).unwrap();
    dispatch(&mut exchange, FENCE, 1).unwrap();
}

#[test]
fn a_wrong_frame_of_a_peer_is_refused_and_the_peer_lost() {
    let again = vec![frame(), frame()];
    let ahead = (1..5).map(|step| PushRequest { step, ..frame() }).collect();
    let astray = vec![PushRequest { to: 1, ..frame() }];
    let foreign = vec![
        frame(),
        PushRequest {
            from: 0,
            step: 2,
            ..frame()
        },
    ];
    for (frames, text) in [
        (again, "again"),
        (ahead, "earlier frames wait"),
        (astray, "to: rank 1 is not at this worker"),
        (foreign, "from: rank 0 is not at this stream's worker"),
    ] {
        let (process, mut exchange, _quiet) = victim();
        let status = push(&process, frames).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(text), "{status}");
        let error = (1..5)
            .find_map(|step| dispatch(&mut exchange, FENCE, step).err())
            .unwrap();
        let ExchangeError::PeerLost {
            peer: Rank(1), why, ..
        } = &error
        else {
            panic!("a lost peer, but: {error}");
        };
        assert!(why.contains(text), "{why}");
    }
}

#[test]
fn a_payload_that_is_no_frame_is_an_error_of_the_exchange() {
    let payloads: [&[u8]; 4] = [b"", b"garbage", &[0xff; 12], &[0; 64]];
    for payload in payloads {
        let (process, mut exchange, _quiet) = victim();
        let payload = payload.to_vec().into();
        push(&process, vec![PushRequest { payload, ..frame() }]).unwrap();
        let error = dispatch(&mut exchange, FENCE, 1).unwrap_err();
        assert!(
            matches!(error, ExchangeError::BadFrame { peer: Rank(1), .. }),
            "{error}"
        );
    }
}

#[test]
fn refuses_a_frame_over_the_limit() {
    let payload = |len| vec![0; len].into();
    let (process, _exchange, _quiet) = victim();
    let over = PushRequest {
        payload: payload(MAX_FRAME_BYTES + 1),
        ..frame()
    };
    let status = push(&process, vec![over]).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("the limit is 67108864"),
        "{status}"
    );

    let (process, mut exchange, _quiet) = victim();
    let far_over = PushRequest {
        payload: payload(MAX_MESSAGE_BYTES + 1),
        ..frame()
    };
    let status = push(&process, vec![far_over]).unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    // It was refused unread, so nobody knows whose it was.
    push(&process, vec![frame()]).unwrap();
    dispatch(&mut exchange, FENCE, 1).unwrap();
}

#[test]
fn a_second_stream_in_a_peers_name_is_refused_and_the_first_goes_on() {
    let (process, mut exchange, _quiet) = victim();
    let (frames, stream) = tokio::sync::mpsc::channel(4);
    frames.try_send(frame()).unwrap();
    let address = format!("http://{}", process.address);
    let first = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut client = ExchangeServiceClient::connect(address).await.unwrap();
            let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
            client.push(stream).await.map(|_| ())
        })
    });
    dispatch(&mut exchange, FENCE, 1).unwrap();
    let status = push(&process, vec![PushRequest { step: 2, ..frame() }]).unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    frames.try_send(PushRequest { step: 3, ..frame() }).unwrap();
    dispatch(&mut exchange, FENCE, 3).unwrap();
    drop(frames);
    first.join().unwrap().unwrap();
}
