//! Tests of [`Transcript`]: the numbers, and what a resumed stream tells.

use proptest::prelude::{ProptestConfig, Strategy as _, any, proptest};
use proto::v1::chat_response::Event;
use tokenizer::harmony::Harmony;

use super::*;
use crate::front::output::chat::{ChatOutput, Show};
use crate::front::output::raw::{Chunk, RawOutput};
use crate::front::testing::tiny_tokenizer;

fn ends(stops: &[&str], max_reasoning: Option<u32>) -> Ends {
    let harmony = Harmony::new(tiny_tokenizer()).unwrap();
    Ends {
        eos: harmony.tokens().ends_of_generation().to_vec(),
        tokens: Vec::new(),
        sequences: stops.iter().map(|text| (*text).to_owned()).collect(),
        max_reasoning,
    }
}

fn raw(stops: &[&str]) -> (RawOutput, Ends) {
    let ends = ends(stops, None);
    let output = RawOutput::new(tiny_tokenizer(), ends.clone(), false);
    (output, ends)
}

fn chat(stops: &[&str], show: Show, max_reasoning: Option<u32>) -> (ChatOutput, Ends) {
    let harmony = Harmony::new(tiny_tokenizer()).unwrap();
    let ends = ends(stops, max_reasoning);
    (ChatOutput::new(harmony, ends.clone(), show), ends)
}

fn shown() -> Show {
    Show {
        id: "g".into(),
        final_only: false,
        token_ids: true,
    }
}

fn sampled(token: TokenId) -> SampledToken {
    SampledToken {
        token,
        logprob: None,
    }
}

fn logprob(token: u32) -> TokenLogprob {
    TokenLogprob {
        token: TokenId(token),
        logprob: -1.0,
        rank: 1,
        top: Vec::new(),
    }
}

fn tokens(text: &str) -> Vec<TokenId> {
    tiny_tokenizer().encode_with_special(text)
}

/// What is told, each with the numbers of its events: from the first to the last.
type Heard<P> = Vec<(u64, u64, Told<P>)>;

/// Tells tokens in chunks of these sizes, and the end behind them.
fn tell<O: Output>(
    (output, ends): (O, Ends),
    scored: usize,
    tokens: &[TokenId],
    chunks: &[usize],
    after: u64,
) -> (Heard<O::Piece>, Transcript<O>) {
    let mut transcript = Transcript::new(output, ends, scored, after);
    let mut heard = Vec::new();
    let mut last = 1.max(after);
    let mut hear = |transcript: &mut Transcript<O>| {
        while let Some(told) = transcript.take() {
            let sequence = transcript.sequence();
            heard.push((last + 1, sequence, told));
            last = sequence;
        }
    };
    transcript.push_prompt((1..scored as u32).map(logprob).collect());
    let mut rest = tokens;
    let mut sizes = chunks.iter().copied().cycle();
    while !rest.is_empty() && !transcript.is_ended() {
        let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
        let (now, later) = rest.split_at(size);
        for token in now {
            // What is passed over early changes nothing.
            transcript.catch_up();
            if transcript.push(sampled(*token)) == Next::Nothing {
                break;
            }
        }
        rest = later;
        hear(&mut transcript);
    }
    transcript.finish_by_lead(false);
    hear(&mut transcript);
    (heard, transcript)
}

/// One thing for each canonical event, so that pieces can be compared however they are cut. The text
/// of a piece is with its last event.
fn raw_events(heard: &Heard<Chunk>) -> Vec<(u64, String)> {
    let mut events = Vec::new();
    for (first, last, told) in heard {
        match told {
            Told::Prompt {
                first_position,
                logprobs,
            } => events.push((*last, format!("prompt {first_position}+{}", logprobs.len()))),
            Told::Piece(chunk) => {
                assert_eq!(last + 1 - first, chunk.tokens.len() as u64);
                let tokens = (*first..).zip(&chunk.tokens);
                events.extend(tokens.map(|(at, token)| (at, format!("token {}", token.token))));
            }
            Told::Finished(outcome) => events.push((*last, format!("{outcome:?}"))),
        }
    }
    events
}

fn chat_events(heard: &Heard<Event>) -> Vec<(u64, String)> {
    let mut events = Vec::new();
    for (first, last, told) in heard {
        match told {
            Told::Piece(Event::Warning(_)) => assert_eq!(*last + 1, *first),
            // The text of several events is one text.
            Told::Piece(Event::TextDelta(_)) => {
                events.extend((*first..=*last).map(|at| (at, "text".to_owned())));
            }
            other => {
                assert_eq!(first, last);
                events.push((*last, format!("{other:?}")));
            }
        }
    }
    events
}

fn text_of(heard: &Heard<Event>) -> Vec<(u32, String)> {
    let mut texts: Vec<(u32, String)> = Vec::new();
    for (.., told) in heard {
        if let Told::Piece(Event::TextDelta(delta)) = told {
            match texts
                .last_mut()
                .filter(|(at, _)| *at == delta.message_index)
            {
                Some((_, text)) => text.push_str(&delta.text),
                None => texts.push((delta.message_index, delta.text.clone())),
            }
        }
    }
    texts
}

fn bytes_of(heard: &Heard<Chunk>) -> Vec<u8> {
    let chunks = heard.iter().filter_map(|(.., told)| match told {
        Told::Piece(chunk) => Some(chunk.text.clone()),
        _ => None,
    });
    chunks.flatten().collect()
}

/// Cuts what a client heard up to some message off; returns it with the last number in it.
fn first_part<P: Clone>(heard: &Heard<P>, messages: usize) -> (Heard<P>, u64) {
    let part = heard[..messages.min(heard.len())].to_vec();
    let last = part.last().map_or(1, |(_, last, _)| *last);
    (part, last)
}

#[test]
fn numbers_count_what_is_canonical() {
    let (heard, _) = tell(raw(&[]), 600, &tokens("a b"), &[1], 0);
    let numbers: Vec<_> = heard.iter().map(|(_, last, _)| *last).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6]);
}

#[test]
fn a_stream_resumed_after_its_end_is_empty_and_one_resumed_later_is_overrun() {
    let output = tokens("a b");
    let (heard, _) = tell(raw(&[]), 0, &output, &[1], 0);
    let last = heard.last().unwrap().1;
    let (rest, transcript) = tell(raw(&[]), 0, &output, &[1], last);
    assert!(rest.is_empty() && !transcript.is_overrun());
    let (rest, transcript) = tell(raw(&[]), 0, &output, &[1], last + 1);
    assert!(rest.is_empty() && transcript.is_overrun());
    assert_eq!(transcript.last(), last);
}

#[test]
fn tokens_beyond_what_the_client_has_are_new() {
    let said = tokens("one two three four");
    for had in 0..=said.len() {
        // The opening and two chunks of the prompt come before the tokens.
        let after = 3 + had as u64;
        let (output, ends) = raw(&[]);
        let mut transcript = Transcript::new(output, ends, 600, after);
        transcript.push_prompt((1..600).map(logprob).collect());
        let new = said.iter().map(|token| {
            let is_new = transcript.catch_up();
            transcript.push(sampled(*token));
            is_new
        });
        let new: Vec<bool> = new.collect();
        let expected = [vec![false; had], vec![true; said.len() - had]].concat();
        assert_eq!(new, expected, "after {after}");
    }
}

#[test]
fn enough_reasoning_calls_for_the_answer() {
    let thought = tokens("<|channel|>analysis<|message|>one two three four");
    let (output, ends) = chat(&[], shown(), Some(2));
    let mut transcript = Transcript::new(output, ends, 0, 0);
    let mut given = 0;
    for token in &thought {
        given += 1;
        if transcript.push(sampled(*token)) == Next::Answer {
            break;
        }
    }
    assert_eq!(transcript.reasoning_tokens(), 2);
    let (keep, opening) = transcript.answer();
    assert_eq!(keep, given);
    assert_eq!(
        opening,
        tokens("<|end|><|start|>assistant<|channel|>final<|message|>")
    );
    for token in [opening, &tokens("yes")].concat() {
        assert_eq!(transcript.push(sampled(token)), Next::More);
    }
    transcript.finish(FinishReason::Length);
    assert_eq!(transcript.reasoning_tokens(), 2);
}

#[test]
fn no_reasoning_at_all_can_be_asked_for() {
    let (output, ends) = chat(&[], shown(), Some(0));
    let mut transcript = Transcript::new(output, ends, 0, 0);
    let header = tokens("<|channel|>analysis<|message|>");
    let nexts: Vec<_> = header
        .iter()
        .map(|token| transcript.push(sampled(*token)))
        .collect();
    let (last, before) = nexts.split_last().unwrap();
    assert_eq!(*last, Next::Answer);
    assert!(before.iter().all(|next| *next == Next::More));
}

fn any_token() -> impl proptest::prelude::Strategy<Value = TokenId> {
    proptest::prop_oneof![0..2048_u32, 2027..2048_u32, 32..127_u32, 128..256_u32].prop_map(TokenId)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_resumed_raw_stream_goes_on_exactly(
        ids in proptest::collection::vec(any_token(), 0..80),
        chunks in proptest::collection::vec(1..9_usize, 1..6),
        other_chunks in proptest::collection::vec(1..9_usize, 1..6),
        scored in proptest::option::of(1..1200_usize),
        messages in any::<proptest::sample::Index>(),
        stops in any::<bool>(),
    ) {
        let stops: &[&str] = if stops { &["ab", "e", "\u{e9}x"] } else { &[] };
        let scored = scored.unwrap_or(0);
        let (undisturbed, _) = tell(raw(stops), scored, &ids, &chunks, 0);
        let (mut part, last) = first_part(&undisturbed, messages.index(undisturbed.len() + 1));
        let (rest, _) = tell(raw(stops), scored, &ids, &other_chunks, last);
        assert!(rest.iter().all(|(first, ..)| *first > last));
        part.extend(rest);
        assert_eq!(raw_events(&part), raw_events(&undisturbed));
        assert_eq!(bytes_of(&part), bytes_of(&undisturbed));
    }

    #[test]
    fn a_raw_stream_resumed_at_any_number_tells_just_what_follows(
        ids in proptest::collection::vec(any_token(), 0..60),
        chunks in proptest::collection::vec(1..9_usize, 1..6),
        after in 0..70_u64,
        final_only in any::<bool>(),
    ) {
        let (undisturbed, _) = tell(raw(&["ab", "e"]), 0, &ids, &[1], 0);
        let (_, ends) = raw(&["ab", "e"]);
        let output = RawOutput::new(tiny_tokenizer(), ends.clone(), final_only);
        let (rest, _) = tell((output, ends), 0, &ids, &chunks, after);
        let expected = raw_events(&undisturbed);
        let expected: Vec<_> = expected.into_iter().filter(|(at, _)| *at > after).collect();
        assert_eq!(raw_events(&rest), expected);
        assert!(bytes_of(&undisturbed).ends_with(&bytes_of(&rest)));
    }

    #[test]
    fn a_resumed_chat_goes_on_exactly(
        ids in proptest::collection::vec(any_token(), 0..80),
        chunks in proptest::collection::vec(1..9_usize, 1..6),
        other_chunks in proptest::collection::vec(1..9_usize, 1..6),
        messages in any::<proptest::sample::Index>(),
    ) {
        let begin = || chat(&["ab", "e"], shown(), None);
        let opening = tokens("<|channel|>analysis<|message|>");
        let ids = [opening, ids].concat();
        let (undisturbed, _) = tell(begin(), 0, &ids, &chunks, 0);
        let (mut part, last) = first_part(&undisturbed, messages.index(undisturbed.len() + 1));
        let (rest, _) = tell(begin(), 0, &ids, &other_chunks, last);
        part.extend(rest);
        assert_eq!(chat_events(&part), chat_events(&undisturbed));
        assert_eq!(text_of(&part), text_of(&undisturbed));
    }
}

#[test]
fn no_piece_has_more_than_a_message_may_carry() {
    let many = vec![tokens("a")[0]; 5000];
    let answer = [tokens("<|channel|>final<|message|>"), many.clone()].concat();
    let (heard, _) = tell(chat(&[], shown(), None), 0, &answer, &[5000], 0);
    let most = heard.iter().filter_map(|(.., told)| match told {
        Told::Piece(Event::TextDelta(delta)) => Some(delta.token_ids.len()),
        _ => None,
    });
    assert_eq!(most.max(), Some(512));
    // Ids of the vocabulary without a string make no text, and yet are not kept for ever.
    let silent = vec![TokenId(2099); 5000];
    assert!(tiny_tokenizer().token_bytes(silent[0]).is_none());
    let answer = [tokens("<|channel|>final<|message|>"), silent].concat();
    let (heard, _) = tell(chat(&[], shown(), None), 0, &answer, &[5000], 0);
    let delivered = heard.iter().filter_map(|(.., told)| match told {
        Told::Piece(Event::TextDelta(delta)) => Some(delta.token_ids.len()),
        _ => None,
    });
    assert!(delivered.clone().all(|count| count <= 512));
    assert!(delivered.sum::<usize>() > 4000);
    let (heard, _) = tell(raw(&[]), 0, &many, &[5000], 0);
    let most = heard.iter().filter_map(|(.., told)| match told {
        Told::Piece(chunk) => Some(chunk.tokens.len()),
        _ => None,
    });
    assert_eq!(most.max(), Some(512));
}
