//! Well-formed completions to messages, against openai-harmony.

use serde_json::Value;
use tokenizer::harmony::{Content, Ending, Event, Message, Role};

use crate::fixtures::{HARMONY, cases, ids, message, text};

fn content(value: &Value) -> Vec<Content> {
    vec![Content::Text(value.as_str().expect("a text").to_owned())]
}

fn messages(value: &Value) -> Vec<Message> {
    value
        .as_array()
        .expect("messages")
        .iter()
        .map(|value| message(value, content))
        .collect()
}

fn role(case: &Value) -> Option<Role> {
    case["role"].as_str().and_then(Role::from_word)
}

#[test]
fn well_formed_completions_give_the_messages_of_openai_harmony() {
    let cases = cases(include_str!("../data/harmony_parse.json"));
    let mut count = 0;
    for case in cases
        .iter()
        .filter(|case| !text(case, "name").starts_with("bad_"))
    {
        let parsed = HARMONY.parse(&ids(&case["ids"]), role(case));
        assert_eq!(
            parsed.messages,
            messages(&case["messages"]),
            "{}",
            case["name"]
        );
        count += 1;
    }
    assert!(count >= 35);
}

#[test]
fn what_the_lenient_library_repairs_is_repaired_alike() {
    let cases = cases(include_str!("../data/harmony_parse.json"));
    let mut count = 0;
    for case in cases.iter().filter(|case| case.get("lenient").is_some()) {
        // The library drops a message whose role is in the text; nothing is lost here.
        if text(case, "name") != "bad_no_message_with_start" {
            let parsed = HARMONY.parse(&ids(&case["ids"]), role(case));
            assert_eq!(
                parsed.messages,
                messages(&case["lenient"]),
                "{}",
                case["name"]
            );
            assert!(!parsed.warnings.is_empty());
            count += 1;
        }
    }
    assert!(count >= 3);
}

#[test]
fn every_case_of_the_fixture_has_messages() {
    for case in &cases(include_str!("../data/harmony_parse.json")) {
        let tokens = ids(&case["ids"]);
        let parsed = HARMONY.parse(&tokens, role(case));
        let only_header = ["no_tokens", "bad_cut_header"].contains(&text(case, "name"));
        assert_eq!(parsed.messages.is_empty(), only_header, "{}", case["name"]);
        for message in &parsed.messages {
            assert!(
                !message.recipient.as_deref().unwrap_or("").contains("<|"),
                "{}",
                case["name"]
            );
        }
    }
}

#[test]
fn events_come_as_soon_as_they_are_certain() {
    let tokens = HARMONY.tokenizer().encode_with_special(
        "<|channel|>analysis<|message|>A b💖<|end|><|start|>assistant to=functions.f<|channel|>\
         commentary json<|message|>{}<|call|>",
    );
    let mut parser = HARMONY.parser(Some(Role::Assistant));
    let (mut shown, mut open) = (Vec::new(), false);
    for (i, &token) in tokens.iter().enumerate() {
        for event in parser.push(token) {
            shown.push(match event {
                Event::MessageStarted(header) => {
                    open = true;
                    let channel = header
                        .channel
                        .as_ref()
                        .expect("both have a channel")
                        .as_str();
                    format!("{i} {channel} {:?}", header.recipient)
                }
                Event::Text(text) => format!("{i} {text}"),
                Event::MessageDone(ending) => {
                    open = false;
                    format!("{i} {ending:?}")
                }
                Event::Warning(warning) => panic!("{warning}"),
            });
        }
        assert_eq!(parser.header().is_some(), open, "token {i}");
    }
    assert!(parser.finish().is_empty());
    let end = tokens.len() - 1;
    let expected = [
        "2 analysis None".to_owned(),
        "3 A".to_owned(),
        "4  b".to_owned(),
        "6 💖".to_owned(),
        "7 End".to_owned(),
        format!("{} commentary Some(\"functions.f\")", end - 2),
        format!("{} {{}}", end - 1),
        format!("{end} {:?}", Ending::Call),
    ];
    assert_eq!(shown, expected);
}
