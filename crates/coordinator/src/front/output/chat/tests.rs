//! Tests of [`ChatOutput`].

use proptest::prelude::{ProptestConfig, Strategy as _, proptest};
use proto::v1::chat_response::Event;
use proto::v1::{Channel, MessageDone, Role};
use spec::{SampledToken, TokenId};
use tokenizer::harmony::Harmony;

use super::{ChatOutput, Output as _, Show};
use crate::front::request::Ends;
use crate::front::testing::tiny_tokenizer;

fn harmony() -> Harmony {
    Harmony::new(tiny_tokenizer()).unwrap()
}

fn tokens(text: &str) -> Vec<TokenId> {
    tiny_tokenizer().encode_with_special(text)
}

fn ends(sequences: &[&str]) -> Ends {
    let harmony = harmony();
    Ends {
        eos: harmony.tokens().ends_of_generation().to_vec(),
        tokens: tokens("<|endoftext|>"),
        sequences: sequences.iter().map(|text| (*text).to_owned()).collect(),
        max_reasoning: None,
    }
}

/// Runs tokens through; returns the events, and how many of them are canonical.
fn run(tokens: &[TokenId], stops: &[&str], final_only: bool) -> (Vec<Event>, u64, ChatOutput) {
    let show = Show {
        id: "g".into(),
        final_only,
        token_ids: true,
    };
    let mut output = ChatOutput::new(harmony(), ends(stops), show);
    let (mut events, mut count) = (Vec::new(), 0);
    let mut drain = |output: &mut ChatOutput| {
        while let Some((canonical, event)) = output.take(u64::MAX) {
            count += canonical;
            events.push(event);
        }
    };
    for &token in tokens {
        let stops = output.push(SampledToken {
            token,
            logprob: None,
        });
        drain(&mut output);
        if stops {
            break;
        }
    }
    output.finish();
    drain(&mut output);
    output.finish();
    assert!(
        output.take(u64::MAX).is_none(),
        "nothing happens at a second end"
    );
    (events, count, output)
}

fn done(events: &[Event]) -> Vec<proto::v1::Message> {
    let messages = events.iter().filter_map(|event| match event {
        Event::MessageDone(MessageDone { message, .. }) => message.clone(),
        _ => None,
    });
    messages.collect()
}

fn texts(events: &[Event]) -> Vec<String> {
    done(events)
        .into_iter()
        .map(|message| message.text)
        .collect()
}

const ANSWER: &str = "<|channel|>analysis<|message|>Think. STOP not.<|end|>\
    <|start|>assistant<|channel|>final<|message|>Hello STOP there<|return|>";

#[test]
fn a_stop_sequence_counts_only_in_text_for_the_end_user() {
    let (events, _, output) = run(&tokens(ANSWER), &["STOP"], false);
    assert_eq!(texts(&events), ["Think. STOP not.", "Hello "]);
    assert_eq!(output.stopped_by(), Some("STOP"));
    let call = "<|channel|>commentary to=functions.f<|message|>STOP<|call|>";
    let (events, _, output) = run(&tokens(call), &["STOP"], false);
    assert_eq!(texts(&events), ["STOP"]);
    assert_eq!(output.stopped_by(), None);
}

#[test]
fn a_stop_sequence_does_not_span_messages() {
    let two = "<|channel|>final<|message|>ST<|end|>\
        <|start|>assistant<|channel|>final<|message|>OP<|return|>";
    let (events, _, output) = run(&tokens(two), &["STOP"], false);
    assert_eq!(texts(&events), ["ST", "OP"]);
    assert_eq!(output.stopped_by(), None);
}

#[test]
fn text_that_may_become_a_stop_sequence_is_held() {
    let (events, _, _) = run(&tokens(ANSWER), &["Hello STOP then"], false);
    let shown: String = events
        .iter()
        .filter_map(|event| match event {
            Event::TextDelta(delta) if delta.message_index == 1 => Some(delta.text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(shown, "Hello STOP there");
    assert_eq!(texts(&events)[1], "Hello STOP there");
}

#[test]
fn counts_reasoning() {
    let (_, _, output) = run(&tokens(ANSWER), &[], false);
    assert_eq!(
        output.reasoning_tokens() as usize,
        tokens("Think. STOP not.").len()
    );
}

#[test]
fn whole_messages_have_one_delta_each() {
    let (deltas, as_deltas, _) = run(&tokens(ANSWER), &[], false);
    let (whole, as_whole, _) = run(&tokens(ANSWER), &[], true);
    assert_eq!(whole.len(), 6);
    assert!(deltas.len() > 6);
    assert_eq!(as_deltas, as_whole, "numbers do not depend on the delivery");
    assert_eq!(texts(&deltas), texts(&whole));
}

#[test]
fn a_delta_names_the_tokens_of_its_text() {
    let (events, _, _) = run(&tokens(ANSWER), &[], false);
    let ids: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            Event::TextDelta(delta) if delta.message_index == 0 => Some(delta.token_ids.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let expected = tokens("Think. STOP not.").into_iter().map(|token| token.0);
    assert_eq!(ids, expected.collect::<Vec<_>>());
}

#[test]
fn a_delta_of_repaired_text_names_the_tokens_of_its_header() {
    let named = |text: &str| {
        let (events, _, _) = run(&tokens(text), &[], false);
        let mut named = vec![Vec::new(); done(&events).len()];
        for event in events {
            if let Event::TextDelta(delta) = event {
                let ids = delta.token_ids.into_iter().map(TokenId);
                named[delta.message_index as usize].extend(ids);
            }
        }
        named
    };
    let words = "no header at all";
    assert_eq!(named(words), [tokens(words)], "cut off");
    assert_eq!(named(&format!("{words}<|return|>")), [tokens(words)]);
    let long = "far too many words to be a header of any kind, and then some more";
    assert_eq!(named(&format!("{long}<|end|>")), [tokens(long)]);
    // Another message begins where the first header has not ended.
    let next = "<|start|>assistant<|channel|>final<|message|>Hi<|end|>";
    assert_eq!(
        named(&format!("{words}{next}")),
        [tokens(words), tokens("Hi")]
    );
    // A header that was not one, within a text.
    let held = "Hi<|start|>assistant";
    let message = "<|channel|>final<|message|>";
    assert_eq!(named(&format!("{message}{held}<|end|>")), [tokens(held)]);
    let twice = "Hi<|start|><|start|>assistant";
    assert_eq!(named(&format!("{message}{twice}")), [tokens(twice)]);
    // Nothing of a header that is none or empty stays for the next.
    let empty = "<|end|><|start|>assistant<|end|>";
    assert_eq!(named(&format!("{empty}{next}")), [tokens("Hi")]);
}

#[test]
fn a_token_that_merely_stopped_the_generation_is_no_text() {
    let (events, _, _) = run(
        &tokens("<|channel|>final<|message|>Hi<|endoftext|>"),
        &[],
        false,
    );
    assert_eq!(texts(&events), ["Hi"]);
}

#[test]
fn a_call_has_an_id_and_its_recipient() {
    let call = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>";
    let (events, _, output) = run(&tokens(call), &[], false);
    let Event::MessageStarted(started) = &events[0] else {
        panic!("{events:?}")
    };
    assert_eq!(started.recipient, "functions.f");
    assert_eq!(started.role(), Role::Assistant);
    assert_eq!(started.channel(), Channel::Commentary);
    assert!(started.tool_call_id.starts_with("call_"));
    assert_eq!(done(&events)[0].tool_call_id, started.tool_call_id);
    assert!(output.is_call(tokens("<|call|>")[0]));
}

#[test]
fn the_recipient_says_whether_the_turn_ends_with_a_call() {
    let is_call = |text: &str| {
        let tokens = tokens(text);
        let (_, _, output) = run(&tokens, &[], false);
        output.is_call(*tokens.last().unwrap())
    };
    let call = "<|channel|>commentary to=functions.f<|message|>{}";
    assert!(is_call(&format!("{call}<|call|>")));
    assert!(is_call(&format!("{call}<|return|>")));
    assert!(is_call(&format!("{call}<|end|><|return|>")));
    assert!(!is_call("<|channel|>final<|message|>Hi<|call|>"));
    let answer = "<|start|>assistant<|channel|>final<|message|>Hi<|return|>";
    assert!(!is_call(&format!("{call}<|end|>{answer}")));
    // Not the model's end of its turn, but the request's.
    assert!(!is_call(&format!("{call}<|endoftext|>")));
    // Another role calls nothing.
    let foreign = "<|end|><|start|>user to=functions.f<|message|>{}<|call|>";
    assert!(!is_call(foreign));
}

#[test]
fn a_call_whose_header_is_cut_off_is_none() {
    let cut = "<|channel|>commentary to=functions.delete";
    let (events, _, _) = run(&tokens(cut), &[], false);
    let [Event::Warning(warning)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(warning.reason, "CUT_HEADER");
    assert!(warning.message.contains(cut), "{}", warning.message);
}

#[test]
fn a_cut_message_is_closed_with_what_it_has() {
    let (events, _, _) = run(&tokens("<|channel|>final<|message|>Hal"), &["HalX"], false);
    assert_eq!(texts(&events), ["Hal"]);
}

#[test]
fn malformed_output_becomes_text_and_a_warning() {
    let (events, _, _) = run(&tokens("just text, no header<|return|>"), &[], false);
    assert!(
        texts(&events).concat().contains("text, no header"),
        "{events:?}"
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Warning(_)))
    );
    let (events, _, _) = run(
        &tokens("<|channel|>whisper<|message|>psst<|end|>"),
        &[],
        false,
    );
    assert_eq!(texts(&events), ["psst"]);
    let warned =
        |event: &Event| matches!(event, Event::Warning(w) if w.reason == "UNKNOWN_CHANNEL");
    assert!(events.iter().any(warned));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn any_tokens_give_whole_messages_in_order(
        ids in proptest::collection::vec(
            proptest::prop_oneof![0..2048_u32, 2027..2048_u32, 32..127_u32].prop_map(TokenId),
            0..60,
        ),
        final_only in proptest::bool::ANY,
    ) {
        let (events, count, _) = run(&ids, &["ab", "e"], final_only);
        let mut open: Option<(u32, String)> = None;
        let (mut next, mut canonical) = (0, 0);
        for event in events {
            match event {
                Event::MessageStarted(started) => {
                    assert!(open.is_none());
                    assert_eq!(started.message_index, next);
                    open = Some((next, String::new()));
                    next += 1;
                    canonical += 1;
                }
                Event::TextDelta(delta) => {
                    let (index, text) = open.as_mut().unwrap();
                    assert_eq!(delta.message_index, *index);
                    text.push_str(&delta.text);
                }
                Event::MessageDone(done) => {
                    let (index, text) = open.take().unwrap();
                    assert_eq!(done.message_index, index);
                    assert_eq!(done.message.unwrap().text, text);
                    canonical += 1;
                }
                Event::Warning(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(open.is_none());
        assert!(count >= canonical);
    }
}

#[test]
fn a_text_too_long_for_one_message_is_left_out_of_its_end() {
    let long = tokens(&"word ".repeat(1000));
    let opening = tokens("<|channel|>final<|message|>");
    let times = crate::front::limits::MAX_WHOLE_TEXT / 5000 + 1;
    for (times, is_left_out) in [(1, false), (times, true)] {
        let all = [opening.clone(), long.repeat(times), tokens("<|return|>")].concat();
        let (events, ..) = run(&all, &[], true);
        let Some(Event::MessageDone(done)) = events.last() else {
            panic!("{:?}", events.last())
        };
        assert_eq!(done.text_left_out, is_left_out);
        assert_eq!(done.message.as_ref().unwrap().text.is_empty(), is_left_out);
        let shown: usize = events
            .iter()
            .map(|event| match event {
                Event::TextDelta(delta) => delta.text.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(shown, 5000 * times);
    }
}
