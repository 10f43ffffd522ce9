//! The bytes of a frame.
//!
//! All numbers are little-endian and four bytes wide. A dispatch frame:
//!
//! | count | what |
//! |---|---|
//! | 1 | `rows` |
//! | 1 | `pairs`, of a row and an expert |
//! | 1 | `hidden`, the width of a row |
//! | `rows` | how many experts the row has at the receiver, at least 1 |
//! | `pairs` | the experts, by row, then in the row's top-k order |
//! | `rows * hidden` | the rows, f32 |
//!
//! A combine frame answers it:
//!
//! | count | what |
//! |---|---|
//! | 1 | `pairs` |
//! | 1 | `hidden` |
//! | `pairs * hidden` | one output for each pair, in the order of the dispatch frame, f32 |
//!
//! What comes from another process is checked before any of it is used, and no more memory is taken than a
//! frame may have. The values of rows are not looked at: NaN
//! travels like any other.

use std::io::IoSliceMut;

use kernels::{ExchangeError, Received, Work};
use spec::{ExpertId, Rank};

use crate::payload::{Parts, Payload};
use crate::plan::Share;

/// The longest frame. Bounds the memory that a peer can make this rank use.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Bytes of a number.
const WORD: usize = 4;
/// Numbers before the lists of a dispatch frame.
const DISPATCH_HEADER: usize = 3;
/// Numbers before the rows of a combine frame.
const COMBINE_HEADER: usize = 2;

/// Returns how many rows of `hidden` numbers, with `k` experts each, one rank may have in a step,
/// such that none of its frames can be too long, wherever the rows go.
#[must_use]
pub fn max_rows(hidden: usize, k: usize) -> usize {
    let words = MAX_FRAME_BYTES / WORD;
    let dispatch = (words - DISPATCH_HEADER) / (1 + k + hidden);
    let combine = (words - COMBINE_HEADER) / (k * hidden);
    dispatch.min(combine)
}

/// What a rank expects of every dispatch frame it receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    /// The receiver.
    pub(crate) rank: Rank,
    /// Width of a row.
    pub(crate) hidden: usize,
    /// Experts of a row.
    pub(crate) k: usize,
    /// The owner of each expert.
    pub(crate) owners: &'a [Rank],
}

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("{bytes} bytes are no frame: its header alone is longer")]
    NoHeader { bytes: usize },
    #[error("its header speaks of {expected} bytes, but it has {bytes}")]
    WrongLength { expected: u64, bytes: usize },
    #[error("its rows are {found} wide instead of {expected}")]
    WrongWidth { expected: usize, found: u32 },
    #[error("row {row} has {count} experts here, of {k}")]
    WrongCount { row: usize, count: u32, k: usize },
    #[error("its rows have {counted} experts in all, but it lists {pairs}")]
    WrongPairs { counted: u64, pairs: u32 },
    #[error("row {row} names expert {expert} of {num_experts}")]
    UnknownExpert {
        row: usize,
        expert: u32,
        num_experts: usize,
    },
    #[error("row {row} names expert {expert}, which belongs to rank {owner}")]
    NotOurExpert {
        row: usize,
        expert: u32,
        owner: Rank,
    },
    #[error("row {row} names expert {expert} twice")]
    RepeatedExpert { row: usize, expert: u32 },
    #[error("it has {found} outputs for {expected} pairs")]
    WrongOutputs { expected: usize, found: u32 },
    #[error("{bytes} bytes are more than a frame may have ({MAX_FRAME_BYTES}); plan fewer rows")]
    TooLarge { bytes: usize },
}

/// Why a frame could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unread {
    /// It came, and is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It did not come whole.
    #[error(transparent)]
    Broken(#[from] ExchangeError),
}

/// Encodes the rows of a share; `rows` is `[any, hidden]`.
pub(crate) fn encode_dispatch<'a>(
    share: &Share,
    rows: &'a [f32],
    hidden: usize,
) -> Result<Parts<'a>, Malformed> {
    let header = [share.rows.len(), share.experts.len(), hidden];
    check_size(DISPATCH_HEADER + header[0] + header[1] + header[0] * hidden)?;
    let lists = share.counts.iter().chain(&share.experts).copied();
    let mut frame = Parts::new(header.into_iter().map(word).chain(lists).collect());
    // Rows that follow each other lie together.
    for run in share.rows.chunk_by(|row, next| row + 1 == *next) {
        frame.push(&rows[run[0] as usize * hidden..][..run.len() * hidden]);
    }
    Ok(frame)
}

/// Appends a rank's own share to `received`, as if it had come in a frame.
pub(crate) fn append_own(share: &Share, rows: &[f32], hidden: usize, received: &mut Received) {
    let base = received.rows.len() / hidden;
    for &row in &share.rows {
        received
            .rows
            .extend_from_slice(&rows[row as usize * hidden..][..hidden]);
    }
    append_work(base, &share.counts, share.experts.iter().copied(), received);
}

/// Checks a dispatch frame and appends what it says to `received`; of a malformed one nothing is appended.
pub(crate) fn decode_dispatch(
    mut frame: impl Payload,
    expected: Expected<'_>,
    received: &mut Received,
) -> Result<(), Unread> {
    let bytes = frame.num_bytes();
    let [rows, pairs, hidden] = read_header(&mut frame)?;
    // At most (2^32 - 1) * 2^32 + (2^32 - 1), which is u64::MAX.
    let body_words = u64::from(rows) * (1 + u64::from(hidden)) + u64::from(pairs);
    check_length(bytes, DISPATCH_HEADER, body_words)?;
    if hidden as usize != expected.hidden {
        let expected = expected.hidden;
        let found = hidden;
        return Err(Malformed::WrongWidth { expected, found }.into());
    }
    let (mut counts, mut experts) = (vec![0; rows as usize], vec![0; pairs as usize]);
    frame.fill(&mut [memory(&mut counts), memory(&mut experts)])?;
    check_experts(&counts, &experts, expected)?;
    let before = received.rows.len();
    received
        .rows
        .resize(before + rows as usize * expected.hidden, 0.0);
    frame.fill(&mut [memory(&mut received.rows[before..])])?;
    append_work(
        before / expected.hidden,
        &counts,
        experts.iter().copied(),
        received,
    );
    Ok(())
}

/// Encodes outputs, `[pairs, hidden]`.
pub(crate) fn encode_combine(outputs: &[f32], hidden: usize) -> Result<Parts<'_>, Malformed> {
    check_size(COMBINE_HEADER + outputs.len())?;
    let mut frame = Parts::new(vec![word(outputs.len() / hidden), word(hidden)]);
    frame.push(outputs);
    Ok(frame)
}

/// Checks a combine frame and puts each output to its place in `outputs`, `[rows, k, hidden]`; `places`
/// ascend.
pub(crate) fn decode_combine(
    mut frame: impl Payload,
    hidden: usize,
    places: &[u32],
    outputs: &mut [f32],
) -> Result<(), Unread> {
    let bytes = frame.num_bytes();
    let [pairs, width] = read_header(&mut frame)?;
    check_length(bytes, COMBINE_HEADER, u64::from(pairs) * u64::from(width))?;
    if pairs as usize != places.len() {
        let (expected, found) = (places.len(), pairs);
        return Err(Malformed::WrongOutputs { expected, found }.into());
    }
    if width as usize != hidden {
        let (expected, found) = (hidden, width);
        return Err(Malformed::WrongWidth { expected, found }.into());
    }
    frame.fill(&mut homes(places, hidden, outputs))?;
    Ok(())
}

/// Returns the memory of these places, in pieces that lie together.
fn homes<'a>(places: &[u32], hidden: usize, outputs: &'a mut [f32]) -> Vec<IoSliceMut<'a>> {
    let (mut rest, mut at) = (outputs, 0);
    let runs = places.chunk_by(|place, next| place + 1 == *next);
    let home = |run: &[u32]| {
        let place = run[0] as usize;
        let (_, from) = std::mem::take(&mut rest).split_at_mut((place - at) * hidden);
        let (home, after) = from.split_at_mut(run.len() * hidden);
        (rest, at) = (after, place + run.len());
        memory(home)
    };
    runs.map(home).collect()
}

/// Puts a rank's own outputs, `[places, hidden]`, to their places.
pub(crate) fn place_own(own: &[f32], hidden: usize, places: &[u32], outputs: &mut [f32]) {
    for (&place, output) in places.iter().zip(own.chunks_exact(hidden)) {
        outputs[place as usize * hidden..][..hidden].copy_from_slice(output);
    }
}

fn append_work(
    base: usize,
    counts: &[u32],
    mut experts: impl ExactSizeIterator<Item = u32>,
    received: &mut Received,
) {
    received.counts.push(experts.len());
    received.work.reserve(experts.len());
    for (row, &count) in (word(base)..).zip(counts) {
        let of_row = experts.by_ref().take(count as usize);
        received.work.extend(of_row.map(|expert| Work {
            expert: ExpertId(expert),
            row,
        }));
    }
}

/// Checks that each row has 1 to k distinct experts, all the receiver's own.
fn check_experts(counts: &[u32], experts: &[u32], expected: Expected<'_>) -> Result<(), Malformed> {
    let Expected {
        rank, k, owners, ..
    } = expected;
    let counted: u64 = counts.iter().copied().map(u64::from).sum();
    if counted != experts.len() as u64 {
        return Err(Malformed::WrongPairs {
            counted,
            pairs: word(experts.len()),
        });
    }
    let mut rest = experts;
    for (row, &count) in counts.iter().enumerate() {
        if count == 0 || count as usize > k {
            return Err(Malformed::WrongCount { row, count, k });
        }
        let (of_row, after) = rest.split_at(count as usize);
        rest = after;
        for (i, &expert) in of_row.iter().enumerate() {
            let num_experts = owners.len();
            match owners.get(expert as usize) {
                None => {
                    return Err(Malformed::UnknownExpert {
                        row,
                        expert,
                        num_experts,
                    });
                }
                Some(&owner) if owner != rank => {
                    return Err(Malformed::NotOurExpert { row, expert, owner });
                }
                Some(_) if of_row[..i].contains(&expert) => {
                    return Err(Malformed::RepeatedExpert { row, expert });
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

fn read_header<const N: usize>(frame: &mut impl Payload) -> Result<[u32; N], Unread> {
    let bytes = frame.num_bytes();
    if bytes < N * WORD {
        return Err(Malformed::NoHeader { bytes }.into());
    }
    let mut header = [0; N];
    frame.fill(&mut [memory(&mut header)])?;
    Ok(header)
}

fn check_length(bytes: usize, header: usize, body_words: u64) -> Result<(), Malformed> {
    let expected = (body_words.saturating_add(header as u64)).saturating_mul(WORD as u64);
    if expected == bytes as u64 {
        Ok(())
    } else {
        Err(Malformed::WrongLength { expected, bytes })
    }
}

fn check_size(words: usize) -> Result<(), Malformed> {
    let bytes = words * WORD;
    if bytes > MAX_FRAME_BYTES {
        return Err(Malformed::TooLarge { bytes });
    }
    Ok(())
}

/// Counts of rows and pairs: a frame's length, which is checked first, bounds them far below 2^32.
fn word(count: usize) -> u32 {
    u32::try_from(count).expect("counts in a frame are bounded by its length")
}

/// Returns the bytes of numbers, to be filled.
fn memory<T: bytemuck::Pod>(numbers: &mut [T]) -> IoSliceMut<'_> {
    IoSliceMut::new(bytemuck::cast_slice_mut(numbers))
}

#[cfg(test)]
mod tests;
