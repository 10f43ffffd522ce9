//! Wire version 1 as it was first spoken: messages that were recorded, and are read for ever.
//!
//! The files under `recorded` are never written again. A field that a later build adds is absent from
//! them, and has its default here.

use prost::Message;
use proto::internal as wire;

/// Reads a recorded message, compares all of its fields, and writes it again.
fn check<T: Message + Default + PartialEq + std::fmt::Debug>(recorded: &[u8], expected: &T) {
    let read = T::decode(recorded).expect("what was recorded is read");
    assert_eq!(read, *expected);
    assert_eq!(read.encode_to_vec(), recorded, "it is written as it was");
    // What a later build adds is passed over: fields 1000 to 1003, of every kind.
    let later = [
        &[0xc0, 0x3e, 0x07][..],
        &[0xc9, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xd2, 0x3e, 2, 0xff, 0xff],
        &[0xdd, 0x3e, 1, 2, 3, 4],
    ];
    let later = [&later.concat(), recorded, &later.concat()].concat();
    assert_eq!(T::decode(&later[..]).as_ref(), Ok(expected));
    for end in 1..recorded.len() {
        // Whatever is left is a message or an error, and no panic.
        drop(T::decode(&recorded[..end]));
    }
}

fn registration() -> wire::Registration {
    wire::Registration {
        name: "worker-1".into(),
        incarnation: 0x0123_4567_89ab_cdef,
        address: "http://10.0.0.2:7200".into(),
        wire_min: 1,
        wire_max: 2,
        build: "0.1.0+abc".into(),
        weights_fingerprint: "3fc956ae".into(),
        tokenizer_fingerprint: "4dfa7822".into(),
        numerics: "exact-1-avx2".into(),
        num_ranks: 3,
        term: 300,
        group: "b".into(),
        draining: false,
        admin: String::new(),
        lead: 0,
        stepped: None,
    }
}

#[test]
fn a_registration_of_version_1_is_read_for_ever() {
    let request = wire::AttendRequest {
        message: Some(wire::attend_request::Message::Registration(registration())),
    };
    check(include_bytes!("recorded/registration.bin"), &request);
    let record = wire::MemberRecord {
        registration: Some(registration()),
        draining: true,
    };
    check(include_bytes!("recorded/member.bin"), &record);
}

#[test]
fn a_plan_of_version_1_is_read_for_ever() {
    let member = |name: &str, ranks: &[u32]| wire::Member {
        name: name.into(),
        address: format!("http://{name}:1"),
        ranks: ranks.to_vec(),
    };
    let layer = |owners: [u32; 4]| wire::LayerPlacement {
        owners: owners.into(),
    };
    let request = wire::PrepareRequest {
        fence: Some(wire::Fence { term: 1, epoch: 2 }),
        members: vec![member("a", &[0]), member("b", &[1, 2])],
        placement: vec![layer([0, 1, 2, 0]), layer([2, 1, 0, 1])],
        kv: Some(wire::KvPlan {
            block_size: 16,
            full_blocks: 20,
            window_blocks: 10,
            num_slots: 4,
        }),
        name: "b".into(),
        max_step_rows: 32,
        lead: 0,
        held: Vec::new(),
        group: String::new(),
    };
    check(include_bytes!("recorded/prepare.bin"), &request);
}

fn sampling() -> wire::Sampling {
    wire::Sampling {
        temperature: 0.5,
        top_p: 0.75,
        top_k: 40,
        min_p: 0.125,
        presence_penalty: -1.5,
        frequency_penalty: 0.25,
        repetition_penalty: 1.25,
        logit_bias: vec![
            wire::LogitBias {
                token: 5,
                bias: -2.5,
            },
            wire::LogitBias {
                token: 99,
                bias: 3.0,
            },
        ],
        seed: u64::MAX,
        choice: 2,
        logprobs: Some(3),
        // Asked for, but for no alternatives: not the same as unset.
        prompt_logprobs: Some(0),
    }
}

#[test]
fn a_step_of_version_1_is_read_for_ever() {
    let run = |first: u32, blocks: &[u32]| wire::BlockRun {
        first,
        blocks: blocks.to_vec(),
    };
    let busy = wire::Part {
        rank: 1,
        closes: vec![0, 2],
        opens: vec![wire::Open {
            slot: 3,
            sequence: 1 << 40,
            tokens: vec![1, 2, 98],
            prompt_len: 2,
            sampling: Some(sampling()),
            record: vec![0, 1, 0xff],
            request_id: String::new(),
        }],
        lines: vec![
            wire::Line {
                slot: 3,
                start: 0,
                len: 3,
                full: Some(run(0, &[19])),
                window: Some(run(0, &[9])),
                samples: true,
                prompt_logprobs: true,
            },
            wire::Line {
                slot: 1,
                start: 17,
                len: 1,
                full: Some(run(2, &[7, 8])),
                window: None,
                samples: false,
                prompt_logprobs: false,
            },
        ],
    };
    let idle = wire::Part {
        rank: 2,
        closes: Vec::new(),
        opens: Vec::new(),
        lines: Vec::new(),
    };
    let request = wire::RunRequest {
        fence: Some(wire::Fence { term: 1, epoch: 2 }),
        step: 7,
        parts: vec![busy, idle],
        group: String::new(),
    };
    check(include_bytes!("recorded/run.bin"), &request);
}

fn answer(message: wire::run_response::Message) -> wire::RunResponse {
    wire::RunResponse {
        message: Some(message),
    }
}

#[test]
fn the_answers_of_version_1_are_read_for_ever() {
    use wire::run_response::Message;
    let logprob = |token: u32| wire::TokenLogprob {
        token,
        logprob: -0.5,
        rank: 2,
        top: vec![wire::Alternative {
            token: 7,
            logprob: -0.25,
        }],
    };
    let lines = vec![
        wire::LineResult {
            ran: true,
            tokens: vec![wire::SampledToken {
                token: 42,
                logprob: Some(logprob(42)),
            }],
            prompt_logprobs: vec![logprob(1), logprob(2)],
        },
        wire::LineResult {
            ran: false,
            tokens: Vec::new(),
            prompt_logprobs: Vec::new(),
        },
    ];
    let done = wire::StepDone {
        step: 7,
        // One more was added since, which a worker of that build does not send.
        parts: vec![wire::PartResult {
            rank: 1,
            lines,
            expert_rows: Vec::new(),
        }],
    };
    let done = answer(Message::Done(done));
    check(include_bytes!("recorded/done.bin"), &done);
    let failed = wire::StepFailed {
        step: 8,
        rank: 2,
        reason: "no frame of rank 0 came".into(),
        // Rank and sequence 0 are blamed: not the same as nobody.
        blamed: Some(0),
        sequence: Some(0),
    };
    let failed = answer(Message::Failed(failed));
    check(include_bytes!("recorded/failed.bin"), &failed);
    let progress = wire::Progress {
        ranks: vec![wire::RankProgress {
            rank: 1,
            step: 9,
            ticks: 1000,
            waiting_for: Some(0),
        }],
    };
    let progress = answer(Message::Progress(progress));
    check(include_bytes!("recorded/progress.bin"), &progress);
}

#[test]
fn a_frame_of_version_1_is_read_for_ever() {
    let frame = |phase: i32| wire::PushRequest {
        term: 1,
        epoch: 2,
        step: 7,
        layer: 35,
        phase,
        from: 1,
        to: 2,
        payload: vec![1, 2, 3, 4].into(),
        group: String::new(),
    };
    let dispatch = frame(wire::ExchangePhase::Dispatch.into());
    check(include_bytes!("recorded/push.bin"), &dispatch);
    // A phase of a later build keeps its number, and is none that this one knows.
    let later = frame(77);
    let read = wire::PushRequest::decode(&later.encode_to_vec()[..]);
    let read = read.expect("an unknown phase is read");
    assert_eq!(read.phase, 77);
    assert!(wire::ExchangePhase::try_from(read.phase).is_err());
}

#[test]
fn a_message_of_a_later_kind_is_read_as_none() {
    // Field 15 of the oneof: what it says is unknown, that it says something is not an error.
    let later = [0x7a, 0x02, 0x08, 0x01];
    let read = wire::RunResponse::decode(&later[..]);
    assert_eq!(read, Ok(wire::RunResponse { message: None }));
    let read = wire::AttendRequest::decode(&later[..]);
    assert_eq!(read, Ok(wire::AttendRequest { message: None }));
}
