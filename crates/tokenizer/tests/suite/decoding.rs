//! Ids to text, one by one.

use spec::TokenId;
use tokenizer::Utf8Stream;

use crate::fixtures::PUBLISHED;

fn pieces(ids: &[TokenId]) -> Vec<String> {
    let mut stream = Utf8Stream::default();
    let mut texts: Vec<String> = ids
        .iter()
        .map(|&id| {
            let (bytes, mut text) = (PUBLISHED.token_bytes(id).unwrap_or_default(), String::new());
            stream.push(bytes, &mut text);
            text
        })
        .collect();
    let mut rest = String::new();
    stream.finish(&mut rest);
    texts.push(rest);
    texts
}

#[test]
fn never_splits_a_character() {
    let text = "💖 x 👩‍🚀 한국어 𐍈 ഒരു";
    let ids = PUBLISHED.encode(text);
    let split = ids.iter().filter(|&&id| {
        std::str::from_utf8(PUBLISHED.token_bytes(id).expect("an ordinary token")).is_err()
    });
    assert!(split.count() > 2, "some tokens end within a character");
    let pieces = pieces(&ids);
    assert_eq!(pieces.concat(), text);
    assert!(!pieces.concat().contains(char::REPLACEMENT_CHARACTER));
    assert!(
        pieces.iter().any(String::is_empty),
        "an unfinished character is held back"
    );
}

#[test]
fn invalid_bytes_are_replaced_as_soon_as_they_are_known_to_be() {
    // Token 9552 is a blank and the first two bytes of an emoji.
    assert_eq!(
        PUBLISHED.token_bytes(TokenId(9_552)),
        Some(&b" \xf0\x9f"[..])
    );
    let ok = PUBLISHED.encode("ok")[0];
    assert_eq!(
        pieces(&[TokenId(9_552), TokenId(9_552), ok]),
        [" ", "\u{fffd} ", "\u{fffd}ok", ""]
    );
    assert_eq!(pieces(&[TokenId(9_552)]), [" ", "\u{fffd}"]);
}

#[test]
fn special_tokens_are_shown_by_name() {
    let ids = PUBLISHED.encode_with_special("a<|end|>b");
    assert_eq!(pieces(&ids), ["a", "<|end|>", "b", ""]);
}
