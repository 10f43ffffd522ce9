//! Malformed completions: each has messages, in which no text is lost, and a warning.

use tokenizer::harmony::{Content, Message, Parsed, Role, Warning};

use crate::fixtures::HARMONY;

/// Reads a completion after a prompt, special tokens by name.
fn read(text: &str) -> Parsed {
    HARMONY.parse(
        &HARMONY.tokenizer().encode_with_special(text),
        Some(Role::Assistant),
    )
}

/// Shows a message as `role:name channel >recipient (content type) "text"`.
fn show(message: &Message) -> String {
    let mut out = message.role.to_string();
    if let Some(name) = &message.name {
        out += &format!(":{name}");
    }
    if let Some(channel) = &message.channel {
        out += &format!(" {}", channel.as_str());
    }
    if let Some(recipient) = &message.recipient {
        out += &format!(" >{recipient}");
    }
    if let Some(content_type) = &message.content_type {
        out += &format!(" ({content_type})");
    }
    let [Content::Text(text)] = &message.content[..] else {
        panic!("one text")
    };
    out + &format!(" {text:?}")
}

#[track_caller]
fn check(text: &str, messages: &[&str], warnings: &[&str]) {
    let parsed = read(text);
    let shown: Vec<String> = parsed.messages.iter().map(show).collect();
    assert_eq!(shown, messages, "{text}");
    let reasons: Vec<&str> = parsed.warnings.iter().map(Warning::reason).collect();
    assert_eq!(reasons, warnings, "{text}");
}

const CALL: &str = "assistant commentary >functions.f (<|constrain|>json) \"{}\"";

#[test]
fn both_forms_of_a_call_are_read_with_and_without_blanks() {
    for header in [
        " to=functions.f<|channel|>commentary <|constrain|>json",
        " to=functions.f<|channel|>commentary<|constrain|>json",
        "assistant to=functions.f<|channel|>commentary <|constrain|>json",
        "<|channel|>commentary to=functions.f <|constrain|>json",
        "<|channel|>commentary to=functions.f<|constrain|>json",
        "<|channel|>commentary to=functions.f <|constrain|> json",
        "<|channel|>commentary <|constrain|>json to=functions.f",
        "<|channel|> commentary  to=functions.f\n<|constrain|> json ",
    ] {
        check(&format!("{header}<|message|>{{}}<|call|>"), &[CALL], &[]);
    }
}

#[test]
fn a_recipient_never_holds_a_special_token() {
    check(
        " to=functions.f<|channel|>commentary<|channel|>commentary <|constrain|>json<|message|>{}<|call|>",
        &[CALL],
        &["SECOND_CHANNEL"],
    );
    let f = "assistant commentary >functions.f \"";
    check(
        "<|channel|>commentary to=functions.f<|endoftext|><|message|>{}<|call|>",
        &[&format!("{f}<|endoftext|> {{}}\"")],
        &["EXTRA_WORDS"],
    );
    // The same names spelt out in ordinary tokens.
    let spelt = HARMONY.tokenizer().encode("<|channel|>commentary");
    let tokenizer = HARMONY.tokenizer();
    let mut ids = tokenizer.encode_with_special("<|channel|>commentary to=functions.f");
    ids.extend(spelt);
    ids.extend(tokenizer.encode_with_special("<|message|>{}<|call|>"));
    let parsed = HARMONY.parse(&ids, Some(Role::Assistant));
    assert_eq!(
        show(&parsed.messages[0]),
        format!("{f}<|channel|>commentary {{}}\"")
    );
}

#[test]
fn the_last_of_several_channels_recipients_and_types_counts() {
    check(
        "<|channel|>analysis<|channel|>final<|message|>x<|end|>",
        &["assistant final \"x\""],
        &["SECOND_CHANNEL"],
    );
    check(
        " to=a<|channel|>commentary to=b<|constrain|>x<|constrain|>y<|message|>{}<|call|>",
        &["assistant commentary >b (<|constrain|>y) \"{}\""],
        &["SECOND_RECIPIENT", "SECOND_CONTENT_TYPE"],
    );
    // Both forms of a call at once.
    check(
        " to=functions.f<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
        &[CALL],
        &["SECOND_RECIPIENT"],
    );
    assert_eq!(
        read("<|channel|>analysis<|channel|>final<|message|>x").warnings,
        [Warning::SecondChannel {
            ignored: "analysis".to_owned()
        }]
    );
}

#[test]
fn a_channel_may_be_missing_or_unknown() {
    check(
        "<|channel|><|message|>x<|end|>",
        &["assistant \"x\""],
        &["EMPTY_CHANNEL"],
    );
    check(
        "<|channel|>musings<|message|>x<|end|>",
        &["assistant musings \"x\""],
        &[],
    );
    check(
        "<|channel|> to=functions.f <|constrain|>json<|message|>{}<|call|>",
        &["assistant >functions.f (<|constrain|>json) \"{}\""],
        &["EMPTY_CHANNEL"],
    );
}

#[test]
fn a_header_without_message_is_read_as_far_as_it_is_one() {
    let next = "<|start|>assistant<|channel|>final<|message|>no<|return|>";
    let answer = "assistant final \"no\"";
    let check_first = |text: &str, first: &str| {
        check(
            &format!("{text}{next}"),
            &[first, answer],
            &["MISSING_MESSAGE"],
        );
    };
    check_first("I  refuse. <|end|>", "assistant \"I  refuse. \"");
    check_first(
        "<|channel|>analysis I  refuse<|end|>",
        "assistant analysis \"I  refuse\"",
    );
    check_first("<|channel|>final<|end|>", "assistant final \"\"");
    check_first(
        "<|channel|>commentary to=functions.f <|constrain|>json {\"a\":  1}<|call|>",
        "assistant commentary >functions.f (<|constrain|>json) \"{\\\"a\\\":  1}\"",
    );
    check_first(
        "<|channel|>commentary to=functions.f<|constrain|>json<|call|>",
        "assistant commentary >functions.f (<|constrain|>json) \"\"",
    );
    // The next header begins before this one has ended.
    check_first("<|channel|>analysis lost", "assistant analysis \"lost\"");
    check_first("assistant says to=me<|end|>", "assistant \"says to=me\"");
    check(&format!("<|end|>{next}"), &[answer], &["EMPTY_MESSAGE"]);
    check(
        "<|end|><|start|>user:ada<|end|>",
        &["user:ada \"\""],
        &["EMPTY_MESSAGE", "MISSING_MESSAGE"],
    );
    check(&format!("assistant{next}"), &[answer], &["EMPTY_MESSAGE"]);
}

#[test]
fn a_text_too_long_for_a_header_streams_as_content() {
    let words = "one two three four five six seven eight nine ten";
    let mut parser = HARMONY.parser(Some(Role::Assistant));
    let tokens = HARMONY.tokenizer().encode(words);
    let first = tokens
        .iter()
        .position(|&token| !parser.push(token).is_empty());
    assert_eq!(first, Some(8), "the ninth word is one too many");
    check(
        words,
        &[&format!("assistant {words:?}")],
        &["MISSING_MESSAGE"],
    );
    let word = "é".repeat(300);
    check(
        &format!("<|channel|>final {word}<|end|>"),
        &[&format!("assistant final {word:?}")],
        &["MISSING_MESSAGE"],
    );
    let tail = "<|end|><|start|>assistant<|channel|>final<|message|>x<|return|>";
    check(
        &format!("{words}{tail}"),
        &[&format!("assistant {words:?}"), "assistant final \"x\""],
        &["MISSING_MESSAGE"],
    );
}

#[test]
fn a_word_at_the_end_of_a_header_that_is_too_long_stays_whole() {
    let word = "x".repeat(300);
    check(
        &format!("<|channel|>final to={word}"),
        &[&format!("assistant final \"to={word}\"")],
        &["MISSING_MESSAGE"],
    );
    check(
        &format!("<|channel|>{word}"),
        &[&format!("assistant \"{word}\"")],
        &["MISSING_MESSAGE", "EMPTY_CHANNEL"],
    );
}

#[test]
fn a_loop_of_markers_is_no_header() {
    for (marker, rest) in [
        ("<|channel|>", "assistant"),
        ("<|constrain|>", "assistant (<|constrain|>)"),
    ] {
        let mut parser = HARMONY.parser(Some(Role::Assistant));
        let tokens = HARMONY.tokenizer().encode_with_special(&marker.repeat(20));
        let first = tokens
            .iter()
            .position(|&token| !parser.push(token).is_empty());
        assert_eq!(first, Some(8), "the ninth marker is one too many");
        let parsed = read(&marker.repeat(20));
        let expected = format!("{rest} {:?}", marker.repeat(12));
        assert_eq!(show(&parsed.messages[0]), expected);
    }
}

#[test]
fn text_without_a_header_keeps_all_its_blanks() {
    let alone = |text: &str| {
        let shown = format!("assistant {text:?}");
        check(
            &format!("{text}<|return|>"),
            &[&shown],
            &["MISSING_MESSAGE"],
        );
        check(text, &[&shown], &["MISSING_MESSAGE"]);
    };
    alone("    return x\n");
    alone("\n\n- a\n\n- b\n\n");
    alone(" a\n\n<|channel|>\n\nb ");
    alone("a\n\n<|endoftext|>\n\nb");
    alone("\n <|endoftext|>");
    alone("to= 5");
    // A single blank divides a text from its header.
    let headed = |text: &str, shown: &str| {
        check(
            &format!("<|channel|>final{text}<|end|>"),
            &[&format!("assistant final {shown:?}")],
            &["MISSING_MESSAGE"],
        );
    };
    headed(" \n  x\n", "\n  x\n");
    headed("\n  x", "\n  x");
    headed("  x", " x");
    headed(" x<|channel|>analysis  y", "x<|channel|>analysis  y");
    headed(" \n", "");
}

#[test]
fn too_many_words_go_before_the_content() {
    check(
        "<|channel|>final a b c<|message|>x<|end|>",
        &["assistant final \"a b c x\""],
        &["EXTRA_WORDS"],
    );
    check(
        "a\n\n<|channel|>final b  c\n<|message|>x<|end|>",
        &["assistant final \"a\\n\\n b  c\\nx\""],
        &["EXTRA_WORDS"],
    );
    check(
        "    a b<|channel|>final<|constrain|>c <|message|> x<|end|>",
        &["assistant final (<|constrain|>c) \"    a b  x\""],
        &["EXTRA_WORDS"],
    );
    check(
        "<|channel|>commentary json<|message|>{}<|call|>",
        &["assistant commentary >json \"{}\""],
        &["BARE_RECIPIENT"],
    );
    check(
        "<|channel|>commentary json to=functions.f<|message|>{}<|call|>",
        &["assistant commentary >functions.f (json) \"{}\""],
        &[],
    );
}

#[test]
fn text_and_tokens_between_messages_are_kept_or_ignored() {
    let (first, second) = (
        "<|channel|>analysis<|message|>x<|end|>",
        "<|channel|>final<|message|>y<|return|>",
    );
    let (x, y) = ("assistant analysis \"x\"", "assistant final \"y\"");
    check(
        &format!("{first}\n<|start|>assistant{second}"),
        &[x, y],
        &[],
    );
    check(
        &format!("{first}oops, a text<|start|>assistant{second}"),
        &[x, "assistant \"oops, a text\"", y],
        &["STRAY_TEXT"],
    );
    check(
        &format!("{first}<|return|><|start|>assistant{second}"),
        &[x, y],
        &["STRAY_STOP"],
    );
    check(&format!("{first}{second}"), &[x, y], &["MISSING_START"]);
    check(
        &format!("{first}assistant{second}"),
        &[x, y],
        &["MISSING_START"],
    );
    check(
        &format!("{first}<|message|>z<|end|>"),
        &[x, "assistant \"z\""],
        &["MISSING_START"],
    );
    check(
        &format!("{first}<|start|>{second}"),
        &[x, y],
        &["MISSING_ROLE"],
    );
    check(
        &format!("{first}<|start|><|start|>assistant{second}"),
        &[x, y],
        &["EMPTY_MESSAGE"],
    );
    check(
        &format!("{first}<|start|>assistant assistant{second}"),
        &[x, y],
        &["REPEATED_ROLE"],
    );
    check(
        &format!("{first}<|start|><|channel|>final assistant<|message|>y<|return|>"),
        &[x, y],
        &[],
    );
}

#[test]
fn a_forgotten_end_does_not_swallow_the_next_message() {
    check(
        "<|channel|>analysis<|message|>x<|start|>assistant<|channel|>final<|message|>y<|return|>",
        &["assistant analysis \"x\"", "assistant final \"y\""],
        &["MISSING_END"],
    );
    // Unless it is none.
    check(
        "<|channel|>final<|message|>x<|start|>nobody<|message|>y<|start|>user",
        &["assistant final \"x<|start|>nobody<|message|>y<|start|>user\""],
        &[],
    );
}

#[test]
fn words_of_no_role_name_a_tool_and_people_keep_their_names() {
    let first = "<|channel|>final<|message|>x<|end|>";
    let x = "assistant final \"x\"";
    check(
        &format!("{first}<|start|>functions.f<|channel|>commentary<|message|>r<|end|>"),
        &[x, "tool:functions.f commentary \"r\""],
        &[],
    );
    check(
        &format!("{first}<|start|>user:ada<|message|>hi<|end|>"),
        &[x, "user:ada \"hi\""],
        &[],
    );
    check(
        &format!("{first}<|start|>user: <|message|>hi<|end|>"),
        &[x, "tool:user: \"hi\""],
        &[],
    );
}

#[test]
fn the_end_within_a_header_shows_what_it_holds() {
    check("", &[], &[]);
    check(" \n", &[], &[]);
    check("<|channel|>analy", &[], &["CUT_HEADER"]);
    let cut = Warning::CutHeader {
        text: "assistant<|channel|>analy".to_owned(),
    };
    assert_eq!(read("assistant<|channel|>analy").warnings, [cut]);
    check(
        "I refuse",
        &["assistant \"I refuse\""],
        &["MISSING_MESSAGE"],
    );
}

#[test]
fn a_call_is_never_made_of_a_header_in_which_the_tokens_end() {
    for header in [
        "<|channel|>commentary to=functions.delete",
        "<|channel|>commentary to=functions.delete ",
        "<|channel|>commentary to=functions.delete <|constrain|>json",
        " to=functions.delete<|channel|>comm",
        "<|channel|>commentary to=",
    ] {
        check(header, &[], &["CUT_HEADER"]);
        let text = header.to_owned();
        assert_eq!(read(header).warnings, [Warning::CutHeader { text }]);
    }
    check(
        "<|channel|>commentary to=functions.delete <|constrain|>json {\"a\"",
        &["assistant commentary \"to=functions.delete <|constrain|>json {\\\"a\\\"\""],
        &["MISSING_MESSAGE"],
    );
    // A token that ends the message ends the name, too.
    check(
        "<|channel|>commentary to=functions.delete<|call|>",
        &["assistant commentary >functions.delete \"\""],
        &["MISSING_MESSAGE"],
    );
}
