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
//! What comes from another process is checked whole before any of it is used, and memory is taken
//! only in proportion to what came. The values of rows are not looked at: NaN travels like any
//! other.

use kernels::{Received, Work};
use spec::{ExpertId, Rank};

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

/// Encodes the rows of a share; `rows` is `[any, hidden]`.
pub(crate) fn encode_dispatch(
    share: &Share,
    rows: &[f32],
    hidden: usize,
) -> Result<Vec<u8>, Malformed> {
    let header = [share.rows.len(), share.experts.len(), hidden];
    let words = DISPATCH_HEADER + header[0] + header[1] + header[0] * hidden;
    let mut frame = Writer::new(words)?;
    frame.put(header.map(|count| word(count).to_le_bytes()));
    frame.put(share.counts.iter().map(|count| count.to_le_bytes()));
    frame.put(share.experts.iter().map(|expert| expert.to_le_bytes()));
    for &row in &share.rows {
        let row = &rows[row as usize * hidden..][..hidden];
        frame.put(row.iter().map(|value| value.to_le_bytes()));
    }
    Ok(frame.bytes)
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

/// Checks a dispatch frame and appends what it says to `received`; on an error nothing is appended.
pub(crate) fn decode_dispatch(
    bytes: &[u8],
    expected: Expected<'_>,
    received: &mut Received,
) -> Result<(), Malformed> {
    let ([rows, pairs, hidden], body) = split_header(bytes)?;
    // At most (2^32 - 1) * 2^32 + (2^32 - 1), which is u64::MAX.
    let body_words = u64::from(rows) * (1 + u64::from(hidden)) + u64::from(pairs);
    check_length(bytes, DISPATCH_HEADER, body_words)?;
    if hidden as usize != expected.hidden {
        return Err(Malformed::WrongWidth {
            expected: expected.hidden,
            found: hidden,
        });
    }
    let (counts, body) = body.split_at(rows as usize * WORD);
    let (experts, values) = body.split_at(pairs as usize * WORD);
    let counts: Vec<u32> = numbers(counts).collect();
    let experts: Vec<u32> = numbers(experts).collect();
    check_experts(&counts, &experts, expected)?;
    let base = received.rows.len() / expected.hidden;
    received.rows.extend(floats(values));
    append_work(base, &counts, experts.iter().copied(), received);
    Ok(())
}

/// Encodes outputs, `[pairs, hidden]`.
pub(crate) fn encode_combine(outputs: &[f32], hidden: usize) -> Result<Vec<u8>, Malformed> {
    let mut frame = Writer::new(COMBINE_HEADER + outputs.len())?;
    frame.put([outputs.len() / hidden, hidden].map(|count| word(count).to_le_bytes()));
    frame.put(outputs.iter().map(|value| value.to_le_bytes()));
    Ok(frame.bytes)
}

/// Checks a combine frame and puts each output to its place in `outputs`, `[rows, k, hidden]`.
pub(crate) fn decode_combine(
    bytes: &[u8],
    hidden: usize,
    places: &[u32],
    outputs: &mut [f32],
) -> Result<(), Malformed> {
    let ([pairs, width], body) = split_header(bytes)?;
    check_length(bytes, COMBINE_HEADER, u64::from(pairs) * u64::from(width))?;
    if pairs as usize != places.len() {
        return Err(Malformed::WrongOutputs {
            expected: places.len(),
            found: pairs,
        });
    }
    if width as usize != hidden {
        return Err(Malformed::WrongWidth {
            expected: hidden,
            found: width,
        });
    }
    for (&place, output) in places.iter().zip(body.chunks_exact(hidden * WORD)) {
        let home = &mut outputs[place as usize * hidden..][..hidden];
        home.iter_mut()
            .zip(floats(output))
            .for_each(|(home, value)| *home = value);
    }
    Ok(())
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

fn split_header<const N: usize>(bytes: &[u8]) -> Result<([u32; N], &[u8]), Malformed> {
    let header = bytes.split_at_checked(N * WORD);
    let (header, body) = header.ok_or(Malformed::NoHeader { bytes: bytes.len() })?;
    let mut words = numbers(header);
    let header = std::array::from_fn(|_| words.next().expect("the header has N words"));
    Ok((header, body))
}

fn check_length(bytes: &[u8], header: usize, body_words: u64) -> Result<(), Malformed> {
    let expected = (body_words.saturating_add(header as u64)).saturating_mul(WORD as u64);
    if expected == bytes.len() as u64 {
        Ok(())
    } else {
        Err(Malformed::WrongLength {
            expected,
            bytes: bytes.len(),
        })
    }
}

/// A frame being written: a buffer of the right length that is filled from the front.
struct Writer {
    bytes: Vec<u8>,
    at: usize,
}

impl Writer {
    fn new(words: usize) -> Result<Self, Malformed> {
        let bytes = words * WORD;
        if bytes > MAX_FRAME_BYTES {
            return Err(Malformed::TooLarge { bytes });
        }
        Ok(Self {
            bytes: vec![0; bytes],
            at: 0,
        })
    }

    /// Writes numbers; into a slice of known length, so that the compiler copies rows whole.
    fn put(&mut self, words: impl IntoIterator<Item = [u8; WORD], IntoIter: ExactSizeIterator>) {
        let words = words.into_iter();
        let (chunks, _) = self.bytes[self.at..][..words.len() * WORD].as_chunks_mut();
        self.at += words.len() * WORD;
        chunks
            .iter_mut()
            .zip(words)
            .for_each(|(chunk, word)| *chunk = word);
    }
}

/// Counts of rows and pairs: a frame's length, which is checked first, bounds them far below 2^32.
fn word(count: usize) -> u32 {
    u32::try_from(count).expect("counts in a frame are bounded by its length")
}

fn numbers(bytes: &[u8]) -> impl ExactSizeIterator<Item = u32> + '_ {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&word| u32::from_le_bytes(word))
}

fn floats(bytes: &[u8]) -> impl ExactSizeIterator<Item = f32> + '_ {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&word| f32::from_le_bytes(word))
}

#[cfg(test)]
mod tests;
