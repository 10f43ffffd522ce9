//! What happened to one generation, kept in order so that anybody may read it from any place.
//!
//! A follower is a [`Cursor`] into it: events are made when they are read, at the reader's pace, so
//! that one who does not read costs nothing and any number may read. Pure.

use std::mem::size_of;
use std::time::Duration;

use spec::{SampledToken, TokenId, TokenLogprob};

use crate::limits;

/// The events of a generation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    prompt_len: usize,
    /// Sequences before it when it was queued.
    queue_position: usize,
    /// The cached tokens of its prompt, and when it left the queue.
    running: Option<(u32, Duration)>,
    /// Of the prompt's positions from 1 on.
    prompt_logprobs: Vec<TokenLogprob>,
    tokens: Vec<SampledToken>,
    first_token: Option<Duration>,
    end: Option<(End, Duration)>,
    /// Rewritten so many times.
    revision: u64,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It sampled a stop token.
    Stop,
    /// It is as long as it may be.
    Length,
    /// A front found the end in its text.
    Settled,
    /// Somebody cancelled it: for good.
    Cancelled,
    /// Nobody followed it any more.
    Abandoned,
    /// It could not go on.
    Failed(Failure),
}

/// Why a generation could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its deadline passed.
    Deadline,
    /// It waited in the queue for longer than it was to.
    QueueTimeout,
    /// The group did not serve for this long.
    Unserved(Duration),
    /// The lead ends.
    Ending,
    /// It cannot be computed.
    Damaged(String),
}

impl End {
    /// Says whether the same request may go on from here.
    pub(crate) fn may_go_on(&self) -> bool {
        matches!(self, Self::Abandoned | Self::Failed(_))
    }
}

/// How far a follower has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Logprobs of the prompt that it has.
    pub(crate) prompt_logprobs: usize,
    /// Generated tokens that it has.
    pub(crate) tokens: usize,
    /// Whether it knows that the generation has left the queue.
    pub(crate) running: bool,
    /// Whether it knows the end.
    pub(crate) ended: bool,
    /// The revision it began with.
    pub(crate) revision: u64,
}

/// What is read next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Read<'a> {
    /// It left the queue.
    Running { cached: u32, after: Duration },
    /// Logprobs of the prompt from a position on.
    Prompt {
        first: usize,
        logprobs: &'a [TokenLogprob],
    },
    /// Tokens from a position on, and when the first of all came.
    Tokens {
        first: usize,
        tokens: &'a [SampledToken],
        first_after: Duration,
    },
    /// The end.
    End { end: &'a End, after: Duration },
    /// Tokens that this follower has read were replaced.
    Rewritten,
}

impl Log {
    /// Begins the log of a generation, which may have tokens from elsewhere.
    pub(crate) fn new(prompt_len: usize, queue_position: usize, generated: &[TokenId]) -> Self {
        Self {
            prompt_len,
            queue_position,
            tokens: generated.iter().copied().map(without_logprob).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    pub(crate) fn queue_position(&self) -> usize {
        self.queue_position
    }

    pub(crate) fn tokens(&self) -> &[SampledToken] {
        &self.tokens
    }

    pub(crate) fn num_prompt_logprobs(&self) -> usize {
        self.prompt_logprobs.len()
    }

    /// Returns the cached tokens of its prompt, once it has left the queue.
    pub(crate) fn cached(&self) -> Option<u32> {
        self.running.map(|(cached, _)| cached)
    }

    pub(crate) fn end(&self) -> Option<&(End, Duration)> {
        self.end.as_ref()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Notes that it left the queue; the first time counts.
    pub(crate) fn run(&mut self, cached: u32, after: Duration) {
        self.running.get_or_insert((cached, after));
    }

    /// Appends logprobs of the prompt from this position on; those it has already are passed over,
    /// as a generation that goes on may compute them again.
    pub(crate) fn push_prompt(&mut self, first: usize, logprobs: Vec<TokenLogprob>) {
        let known = (1 + self.prompt_logprobs.len()).saturating_sub(first);
        self.prompt_logprobs
            .extend(logprobs.into_iter().skip(known));
    }

    /// Appends tokens from this position on; those it has already are passed over.
    pub(crate) fn push(&mut self, first: usize, tokens: Vec<SampledToken>, after: Duration) {
        let known = (self.prompt_len + self.tokens.len()).saturating_sub(first);
        self.tokens.extend(tokens.into_iter().skip(known));
        if !self.tokens.is_empty() {
            self.first_token.get_or_insert(after);
        }
    }

    /// Puts tokens in the place of all behind the first `keep`.
    pub(crate) fn rewrite(&mut self, keep: usize, tokens: &[TokenId], after: Duration) {
        self.tokens.truncate(keep);
        let tokens = tokens.iter().copied().map(without_logprob);
        self.tokens.extend(tokens);
        self.first_token.get_or_insert(after);
        self.revision += 1;
    }

    /// Ends it; or, with `None`, lets it go on.
    pub(crate) fn set_end(&mut self, end: Option<(End, Duration)>) {
        self.end = end;
    }

    /// Returns what comes next for a follower and moves it on; `None` if it has read everything.
    pub(crate) fn read(&self, cursor: &mut Cursor) -> Option<Read<'_>> {
        if cursor.revision != self.revision {
            return Some(Read::Rewritten);
        }
        if let Some((cached, after)) = self.running.filter(|_| !cursor.running) {
            cursor.running = true;
            return Some(Read::Running { cached, after });
        }
        let unread = self.prompt_logprobs.get(cursor.prompt_logprobs..);
        if let Some(logprobs) = unread.and_then(beginning) {
            let first = 1 + cursor.prompt_logprobs;
            cursor.prompt_logprobs += logprobs.len();
            return Some(Read::Prompt { first, logprobs });
        }
        if let Some(tokens) = self.tokens.get(cursor.tokens..).and_then(beginning) {
            let first = self.prompt_len + cursor.tokens;
            cursor.tokens += tokens.len();
            return Some(Read::Tokens {
                first,
                tokens,
                first_after: self.first_token.unwrap_or_default(),
            });
        }
        let (end, after) = self.end.as_ref().filter(|_| !cursor.ended)?;
        cursor.ended = true;
        Some(Read::End { end, after: *after })
    }

    /// Returns about how many bytes of memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let alternatives = |logprob: &TokenLogprob| logprob.top.len() * size_of::<(TokenId, f32)>();
        let of_token = |sampled: &SampledToken| sampled.logprob.as_ref().map_or(0, alternatives);
        size_of::<Self>()
            + self.tokens.len() * size_of::<SampledToken>()
            + self.tokens.iter().map(of_token).sum::<usize>()
            + self.prompt_logprobs.len() * size_of::<TokenLogprob>()
            + self.prompt_logprobs.iter().map(alternatives).sum::<usize>()
    }

    /// Gives memory back that was set aside for more to come.
    pub(crate) fn shrink(&mut self) {
        self.tokens.shrink_to_fit();
        self.prompt_logprobs.shrink_to_fit();
    }
}

fn without_logprob(token: TokenId) -> SampledToken {
    SampledToken {
        token,
        logprob: None,
    }
}

/// Returns as much of what is unread as one message holds, if anything is.
fn beginning<T>(unread: &[T]) -> Option<&[T]> {
    let most = unread.len().min(limits::MAX_READ);
    (most > 0).then(|| &unread[..most])
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(1);

    fn token(id: u32) -> SampledToken {
        without_logprob(TokenId(id))
    }

    fn logprob(id: u32) -> TokenLogprob {
        TokenLogprob {
            token: TokenId(id),
            logprob: -1.0,
            rank: 1,
            top: Vec::new(),
        }
    }

    /// Reads everything there is, as text.
    fn read(log: &Log, cursor: &mut Cursor) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(read) = log.read(cursor) {
            let ids = |tokens: &[SampledToken]| {
                let ids: Vec<_> = tokens.iter().map(|t| t.token.0).collect();
                format!("{ids:?}")
            };
            said.push(match read {
                Read::Running { cached, .. } => format!("running {cached}"),
                Read::Prompt { first, logprobs } => format!("prompt {first}+{}", logprobs.len()),
                Read::Tokens { first, tokens, .. } => format!("{first}: {}", ids(tokens)),
                Read::End { end, .. } => format!("{end:?}"),
                Read::Rewritten => "rewritten".into(),
            });
            if said.last().is_some_and(|last| last == "rewritten") {
                break;
            }
        }
        said
    }

    #[test]
    fn a_follower_reads_from_its_place_in_order() {
        let mut log = Log::new(4, 0, &[]);
        let mut early = Cursor::default();
        assert!(read(&log, &mut early).is_empty());
        log.run(2, AFTER);
        log.push_prompt(1, vec![logprob(1), logprob(2), logprob(3)]);
        log.push(4, vec![token(7)], AFTER);
        assert_eq!(
            read(&log, &mut early),
            ["running 2", "prompt 1+3", "4: [7]"]
        );
        log.push(5, vec![token(8), token(9)], AFTER);
        log.set_end(Some((End::Length, AFTER)));
        assert_eq!(read(&log, &mut early), ["5: [8, 9]", "Length"]);
        let mut late = Cursor {
            tokens: 2,
            prompt_logprobs: 3,
            ..Cursor::default()
        };
        assert_eq!(read(&log, &mut late), ["running 2", "6: [9]", "Length"]);
    }

    #[test]
    fn a_follower_that_is_ahead_waits() {
        let mut log = Log::new(1, 0, &[TokenId(5)]);
        let mut ahead = Cursor {
            tokens: 3,
            ..Cursor::default()
        };
        log.push(2, vec![token(6), token(7)], AFTER);
        assert!(read(&log, &mut ahead).is_empty());
        log.push(4, vec![token(8)], AFTER);
        assert_eq!(read(&log, &mut ahead), ["4: [8]"]);
    }

    #[test]
    fn what_is_computed_again_is_not_said_again() {
        let mut log = Log::new(3, 0, &[]);
        log.push_prompt(1, vec![logprob(1)]);
        log.push_prompt(1, vec![logprob(1), logprob(2)]);
        assert_eq!(log.num_prompt_logprobs(), 2);
        log.push(3, vec![token(5), token(6)], AFTER);
        log.push(4, vec![token(6), token(7)], AFTER);
        let ids: Vec<_> = log.tokens().iter().map(|t| t.token.0).collect();
        assert_eq!(ids, [5, 6, 7]);
    }

    #[test]
    fn who_read_what_was_replaced_is_told() {
        let mut log = Log::new(1, 0, &[]);
        let mut cursor = Cursor::default();
        log.push(1, vec![token(5), token(6)], AFTER);
        read(&log, &mut cursor);
        log.rewrite(1, &[TokenId(9)], AFTER);
        assert_eq!(read(&log, &mut cursor), ["rewritten"]);
        let mut again = Cursor {
            tokens: 1,
            revision: log.revision(),
            ..Cursor::default()
        };
        assert_eq!(read(&log, &mut again), ["2: [9]"]);
    }

    #[test]
    fn one_message_is_bounded() {
        let mut log = Log::new(1, 0, &[]);
        log.push(1, (0..1200).map(token).collect(), AFTER);
        let mut cursor = Cursor::default();
        let mut sizes = Vec::new();
        while let Some(Read::Tokens { tokens, .. }) = log.read(&mut cursor) {
            sizes.push(tokens.len());
        }
        assert_eq!(sizes, [512, 512, 176]);
    }
}
