//! Any tokens whatever: no panic, nothing lost, the same however they are divided.

use std::collections::HashMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, proptest};
use proptest::{collection::vec, prop_oneof};
use spec::TokenId;
use tokenizer::harmony::{Content, Event, Parsed, Role, Warning};

use crate::fixtures::{HARMONY, PUBLISHED};

/// Tokens that make headers likely: control tokens, words of headers, blanks, and any others.
fn token() -> impl Strategy<Value = TokenId> {
    let words = [
        "assistant",
        "user",
        "final",
        "analysis",
        "comment",
        " to",
        "=",
        "functions",
        ".f",
        "json",
        " ",
        "\n",
        "<",
        " the",
        "é",
        ":",
        "{\"",
    ];
    let words: Vec<TokenId> = words
        .iter()
        .flat_map(|word| PUBLISHED.encode(word))
        .collect();
    let control = PUBLISHED.specials().map(|(id, _)| id).collect::<Vec<_>>();
    let tokens = HARMONY.tokens();
    let frequent = vec![
        tokens.start,
        tokens.message,
        tokens.channel,
        tokens.end,
        tokens.call,
        tokens.constrain,
    ];
    prop_oneof![
        3 => proptest::sample::select(words),
        3 => proptest::sample::select(frequent),
        1 => proptest::sample::select(control),
        1 => (0..201_200_u32).prop_map(TokenId),
        1 => any::<u32>().prop_map(TokenId),
        // The first bytes of a character, and single bytes of any kind.
        1 => Just(TokenId(9_552)),
        1 => (0..256_u32).prop_map(TokenId),
    ]
}

fn start() -> impl Strategy<Value = Option<Role>> {
    prop_oneof![Just(None), Just(Some(Role::Assistant))]
}

/// Everything that a parse shows to a client, in one text.
fn shown(parsed: &Parsed) -> String {
    let mut out = String::new();
    for message in &parsed.messages {
        let channel = message
            .channel
            .as_ref()
            .map_or("", |channel| channel.as_str());
        out += message.role.as_str();
        out += channel;
        for field in [&message.name, &message.recipient, &message.content_type] {
            out += field.as_deref().unwrap_or_default();
        }
        for content in &message.content {
            let Content::Text(text) = content else {
                panic!("only texts are parsed")
            };
            out += text;
        }
    }
    for warning in &parsed.warnings {
        match warning {
            Warning::SecondChannel { ignored }
            | Warning::SecondRecipient { ignored }
            | Warning::SecondContentType { ignored }
            | Warning::CutHeader { text: ignored } => out += ignored,
            _ => {}
        }
    }
    out
}

/// All texts in order: those of messages, and those of headers that were cut off.
fn texts(parsed: &Parsed) -> String {
    let mut out = String::new();
    for content in parsed.messages.iter().flat_map(|message| &message.content) {
        let Content::Text(text) = content else {
            panic!("only texts are parsed")
        };
        out += text;
    }
    for warning in &parsed.warnings {
        if let Warning::CutHeader { text } = warning {
            out += text;
        }
    }
    out
}

/// Words, line ends and indents, and control tokens that do not make a header complete.
fn fragment() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "assistant",
        "user",
        "final",
        "analysis",
        "to=f",
        "to=",
        "x",
        "é",
        "return",
        "<",
        " ",
        "    ",
        "\n",
        "\n\n",
        "\t",
        "<|channel|>",
        "<|constrain|>",
        "<|endoftext|>",
        "<|start|>",
        "<|end|>",
        "<|return|>",
    ])
}

/// Counts the characters that carry text: no blanks, nor what `to=` and U+FFFD are made of.
fn count(text: &str) -> HashMap<char, usize> {
    let mut counts = HashMap::new();
    let carries = |c: &char| !c.is_whitespace() && !"to=:".contains(*c) && *c != '\u{fffd}';
    for c in text.chars().filter(carries) {
        *counts.entry(c).or_default() += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_text_is_lost(tokens in vec(token(), 0..60), role in start()) {
        let parsed = HARMONY.parse(&tokens, role);
        let shown = count(&shown(&parsed));
        let ordinary: Vec<TokenId> =
            tokens.iter().copied().filter(|&token| !PUBLISHED.is_special(token)).collect();
        // Bytes of one character may come with a control token between them; so each run of
        // ordinary tokens is decoded by itself, and what is incomplete in it is not counted.
        let mut expected: HashMap<char, usize> = HashMap::new();
        for run in tokens.split(|&token| PUBLISHED.is_special(token)) {
            for (c, n) in count(&String::from_utf8_lossy(&PUBLISHED.decode(run))) {
                *expected.entry(c).or_default() += n;
            }
        }
        // A repeated role word says nothing new.
        let roles: usize = Role::ALL.iter().map(|role| {
            let words = String::from_utf8_lossy(&PUBLISHED.decode(&ordinary)).into_owned();
            words.matches(role.as_str()).count()
        }).sum();
        for (c, n) in expected {
            let slack = if "assistantuserdeveloperssystemtool".contains(c) { 4 * roles } else { 0 };
            let got = shown.get(&c).copied().unwrap_or(0) + slack;
            assert!(got >= n, "{n} of {c:?} went in, {got} came out: {parsed:?}");
        }
    }

    #[test]
    fn texts_come_in_order_and_nothing_is_added(tokens in vec(token(), 0..60), role in start()) {
        let said = String::from_utf8_lossy(&PUBLISHED.decode(&tokens)).into_owned();
        let mut said = said.chars();
        // Between words that stood apart, and before a content, a blank may be added.
        let carries = |c: &char| *c != ' ' && *c != '\u{fffd}';
        let parsed = HARMONY.parse(&tokens, role);
        for c in texts(&parsed).chars().filter(carries) {
            assert!(said.any(|other| other == c), "{c:?} is out of order: {parsed:?}");
        }
    }

    #[test]
    fn text_outside_of_a_complete_header_is_kept_exactly(fragments in vec(fragment(), 0..30)) {
        let mut parser = HARMONY.parser(Some(Role::Assistant));
        let tokens = PUBLISHED.encode_with_special(&fragments.concat());
        let (mut said, mut start, mut text) = (String::new(), 0, String::new());
        let mut check = |said: &str, start: usize, events: Vec<Event>| {
            for event in events {
                match event {
                    Event::Text(delta) => text += &delta,
                    Event::MessageDone(_) => {
                        // A message is what was said since its beginning, without its header.
                        let header = said[start..].strip_suffix(&text).expect("as it was said");
                        let words = header.strip_suffix(' ').unwrap_or(header);
                        assert!(
                            text.is_empty()
                                || header.is_empty()
                                || !words.is_empty() && !words.ends_with([' ', '\n', '\t']),
                            "lost the end of {header:?}, before {text:?}",
                        );
                        assert!(!text.is_empty() || !said[start..].trim().is_empty());
                        text.clear();
                    }
                    Event::MessageStarted(_) | Event::Warning(_) => {}
                }
            }
        };
        for token in tokens {
            let in_content = parser.header().is_some();
            check(&said, start, parser.push(token));
            said += std::str::from_utf8(PUBLISHED.token_bytes(token).unwrap()).unwrap();
            let harmony = HARMONY.tokens();
            let ends = [harmony.end, harmony.return_].contains(&token);
            if ends || token == harmony.start && !in_content {
                start = said.len();
            }
        }
        check(&said, start, parser.finish());
    }

    #[test]
    fn text_of_a_content_is_kept_exactly(tokens in vec(token(), 0..40)) {
        let ends = [HARMONY.tokens().end, HARMONY.tokens().call, HARMONY.tokens().return_];
        let starts = HARMONY.tokens().start;
        let content: Vec<TokenId> =
            tokens.into_iter().filter(|id| !ends.contains(id) && *id != starts).collect();
        let mut all = PUBLISHED.encode_with_special("<|channel|>final<|message|>");
        all.extend(&content);
        let parsed = HARMONY.parse(&all, Some(Role::Assistant));
        let text = String::from_utf8_lossy(&PUBLISHED.decode(&content)).into_owned();
        assert_eq!(parsed.messages.len(), 1);
        assert_eq!(parsed.messages[0].content, [Content::Text(text)]);
        assert!(parsed.warnings.is_empty());
    }

    #[test]
    fn events_are_in_order_and_recipients_clean(tokens in vec(token(), 0..60), role in start()) {
        let mut parser = HARMONY.parser(role);
        let mut events: Vec<Event> = Vec::new();
        for &token in &tokens {
            events.extend(parser.push(token));
        }
        events.extend(parser.finish());
        assert!(parser.finish().is_empty(), "finishing twice adds nothing");
        let mut open = false;
        for event in events {
            match event {
                Event::MessageStarted(header) => {
                    assert!(!std::mem::replace(&mut open, true), "no message inside a message");
                    for (id, name) in PUBLISHED.specials() {
                        let holds = |field: &Option<String>| {
                            field.as_deref().is_some_and(|field| field.contains(name))
                        };
                        let channel = header.channel.as_ref().map(|c| c.as_str().to_owned());
                        assert!(!holds(&header.recipient) && !holds(&header.name) && !holds(&channel));
                        assert!(!holds(&header.content_type) || id == HARMONY.tokens().constrain);
                    }
                }
                Event::Text(text) => assert!(open && !text.is_empty()),
                Event::MessageDone(_) => assert!(std::mem::replace(&mut open, false)),
                Event::Warning(warning) => assert!(!warning.to_string().is_empty()),
            }
        }
        assert!(!open, "every message is closed");
    }

    #[test]
    fn the_bytes_decide_and_not_how_they_are_divided_into_tokens(
        tokens in vec(token(), 0..60),
        role in start(),
    ) {
        // The same bytes, one token a byte. Ids 0..256 are the single bytes, in some order.
        let byte = |byte: u8| {
            let is_it = |id: &u32| PUBLISHED.token_bytes(TokenId(*id)) == Some(&[byte][..]);
            TokenId((0..256).find(is_it).expect("every byte is a token"))
        };
        let mut divided = Vec::new();
        for &token in &tokens {
            match PUBLISHED.token_bytes(token) {
                Some(bytes) if !PUBLISHED.is_special(token) => {
                    divided.extend(bytes.iter().map(|&b| byte(b)));
                }
                _ => divided.push(token),
            }
        }
        assert_eq!(HARMONY.parse(&tokens, role), HARMONY.parse(&divided, role));
    }
}
