//! What a frame refuses, and that it brings back what it was made of.

use proptest::prelude::*;

use super::*;
use crate::payload::Whole;
use crate::plan::Plan;

const OWNERS: [Rank; 5] = [Rank(0), Rank(1), Rank(1), Rank(0), Rank(1)];
const EXPECTED: Expected<'_> = Expected {
    rank: Rank(1),
    hidden: 2,
    k: 3,
    owners: &OWNERS,
};

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Returns a frame as it is received.
fn came(frame: &[u8]) -> Whole {
    bytes::Bytes::copy_from_slice(frame).into()
}

/// Returns what is wrong with a frame.
fn malformed(outcome: Result<(), Unread>) -> Malformed {
    match outcome.unwrap_err() {
        Unread::Malformed(why) => why,
        Unread::Broken(error) => panic!("it came whole, but: {error}"),
    }
}

/// Decodes a frame that must not be accepted, and checks that nothing of it was.
fn refused(frame: &[u8]) -> Malformed {
    let mut received = Received::default();
    let error = malformed(decode_dispatch(came(frame), EXPECTED, &mut received));
    assert!(received.rows.is_empty() && received.work.is_empty() && received.counts.is_empty());
    error
}

#[test]
fn the_layout_is_the_documented_one() {
    let experts = [0, 1, 2, 3, 0, 4];
    let share = &Plan::new(&experts, 3, &OWNERS, 2).shares[1];
    let rows = [1.5, f32::NAN, -0.0, 3.0];
    let frame = encode_dispatch(share, &rows, 2).unwrap().to_bytes();
    let bits = rows.map(f32::to_bits);
    let expected = [&[2, 3, 2, 2, 1, 1, 2, 4][..], &bits[..]].concat();
    assert_eq!(frame, words(&expected));

    let mut received = Received::default();
    decode_dispatch(came(&frame), EXPECTED, &mut received).unwrap();
    let work = [(1, 0), (2, 0), (4, 1)];
    assert_eq!(
        received.work,
        work.map(|(e, row)| Work {
            expert: ExpertId(e),
            row
        })
    );
    assert_eq!(received.counts, [3]);
    assert_eq!(
        received
            .rows
            .iter()
            .map(|v| v.to_bits())
            .collect::<Vec<_>>(),
        bits
    );

    let outputs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let frame = encode_combine(&outputs, 2).unwrap().to_bytes();
    assert_eq!(
        frame,
        words(&[&[3, 2][..], &outputs.map(f32::to_bits)].concat())
    );
    let mut home = [0.0; 12];
    decode_combine(came(&frame), 2, &share.places, &mut home).unwrap();
    assert_eq!(
        home,
        [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 5.0, 6.0]
    );
}

#[test]
fn refuses_every_truncation_and_extension() {
    let share = &Plan::new(&[1, 0, 2], 3, &OWNERS, 2).shares[1];
    let frame = encode_dispatch(share, &[1.0, 2.0], 2).unwrap().to_bytes();
    for len in 0..frame.len() {
        let error = refused(&frame[..len]);
        let header_is_there = len >= DISPATCH_HEADER * WORD;
        let named = matches!(error, Malformed::WrongLength { bytes, .. } if bytes == len);
        assert_eq!(named, header_is_there, "{len} bytes: {error}");
    }
    for extra in 1..9 {
        let longer = [&frame[..], &vec![0; extra]].concat();
        assert!(matches!(refused(&longer), Malformed::WrongLength { .. }));
    }
}

#[test]
fn refuses_a_header_whose_length_overflows() {
    let frame = words(&[u32::MAX, u32::MAX, u32::MAX]);
    assert_eq!(
        refused(&frame),
        Malformed::WrongLength {
            expected: u64::MAX,
            bytes: 12
        }
    );
    let mut home = [];
    let overflows = came(&words(&[u32::MAX, u32::MAX]));
    let error = malformed(decode_combine(overflows, 2, &[], &mut home));
    assert_eq!(
        error,
        Malformed::WrongLength {
            expected: u64::MAX,
            bytes: 8
        }
    );
}

#[test]
fn refuses_what_does_not_fit_the_plan() {
    // rows, pairs, hidden, counts, experts, values.
    let cases = [
        (
            vec![1, 1, 3, 1, 1, 0, 0, 0],
            Malformed::WrongWidth {
                expected: 2,
                found: 3,
            },
        ),
        (
            vec![1, 1, 2, 1, 5, 0, 0],
            Malformed::UnknownExpert {
                row: 0,
                expert: 5,
                num_experts: 5,
            },
        ),
        (
            vec![1, 1, 2, 1, 3, 0, 0],
            Malformed::NotOurExpert {
                row: 0,
                expert: 3,
                owner: Rank(0),
            },
        ),
        (
            vec![1, 2, 2, 2, 4, 4, 0, 0],
            Malformed::RepeatedExpert { row: 0, expert: 4 },
        ),
        (
            vec![1, 0, 2, 0, 0, 0],
            Malformed::WrongCount {
                row: 0,
                count: 0,
                k: 3,
            },
        ),
        (
            vec![1, 4, 2, 4, 1, 2, 4, 1, 0, 0],
            Malformed::WrongCount {
                row: 0,
                count: 4,
                k: 3,
            },
        ),
        (
            vec![1, 1, 2, 2, 1, 0, 0],
            Malformed::WrongPairs {
                counted: 2,
                pairs: 1,
            },
        ),
        (
            vec![2, 2, 2, u32::MAX, u32::MAX, 1, 2, 0, 0, 0, 0],
            Malformed::WrongPairs {
                counted: 2 * u64::from(u32::MAX),
                pairs: 2,
            },
        ),
    ];
    for (frame, error) in cases {
        assert_eq!(refused(&words(&frame)), error);
    }
}

#[test]
fn refuses_outputs_for_other_pairs() {
    let mut home = [0.0; 4];
    let more = words(&[2, 2, 0, 0, 0, 0]);
    let error = malformed(decode_combine(came(&more), 2, &[1], &mut home));
    assert_eq!(
        error,
        Malformed::WrongOutputs {
            expected: 1,
            found: 2
        }
    );
    let narrow = words(&[2, 1, 0, 0]);
    let error = malformed(decode_combine(came(&narrow), 2, &[0, 1], &mut home));
    assert_eq!(
        error,
        Malformed::WrongWidth {
            expected: 2,
            found: 1
        }
    );
}

#[test]
fn the_limit_on_rows_keeps_every_frame_under_the_limit_on_bytes() {
    for (hidden, k) in [(2880, 4), (1, 1), (1, 4), (64, 2)] {
        let rows = max_rows(hidden, k);
        let dispatch = |rows| (DISPATCH_HEADER + rows * (1 + k + hidden)) * WORD;
        let combine = |rows| (COMBINE_HEADER + rows * k * hidden) * WORD;
        assert!(dispatch(rows).max(combine(rows)) <= MAX_FRAME_BYTES);
        assert!(dispatch(rows + 1).max(combine(rows + 1)) > MAX_FRAME_BYTES);
    }
    assert_eq!(max_rows(2880, 4), 1456);
}

#[test]
fn too_many_rows_are_an_error_of_the_sender() {
    let outputs = vec![0.0; MAX_FRAME_BYTES / WORD];
    let bytes = MAX_FRAME_BYTES + COMBINE_HEADER * WORD;
    assert_eq!(
        encode_combine(&outputs, 4),
        Err(Malformed::TooLarge { bytes })
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        header in prop::collection::vec(0u32..4, 3),
        body in prop::collection::vec(prop_oneof![0u32..6, any::<u32>()], 0..16),
        cut in 0usize..4,
    ) {
        let mut frame = words(&[header, body].concat());
        frame.truncate(frame.len() - cut);
        let mut received = Received::default();
        if decode_dispatch(came(&frame), EXPECTED, &mut received).is_ok() {
            let rows = received.rows.len() / 2;
            for work in &received.work {
                prop_assert!((work.row as usize) < rows);
                prop_assert_eq!(OWNERS[work.expert.index()], Rank(1));
            }
        }
        let mut home = [0.0; 8];
        // Whether it is accepted does not matter here, only that it returns.
        drop(decode_combine(came(&frame), 2, &[0, 3], &mut home));
    }
}
