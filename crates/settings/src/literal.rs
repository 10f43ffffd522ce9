//! Values as TOML writes them.

use std::ffi::OsString;

use crate::setting::{Kind, Setting};

/// Writes the texts of a setting as a TOML value. Bytes that are no text are replaced, as TOML has
/// no place for them.
pub(crate) fn value(setting: &Setting, texts: &[OsString]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| text.to_string_lossy()).collect();
    match setting.kind {
        Kind::Flag => texts.concat(),
        Kind::One if setting.is_text() => quoted(&texts.concat()),
        Kind::One => one(&texts.concat()),
        Kind::Many => {
            let elements: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("[{}]", elements.join(", "))
        }
    }
}

/// Writes a number bare, and anything else quoted. Reading it gives the same text again, so a number
/// in an unusual spelling is quoted.
fn one(text: &str) -> String {
    let is_integer = text
        .parse::<i64>()
        .is_ok_and(|number| number.to_string() == text);
    let is_decimal = text.split_once('.').is_some_and(|(whole, fraction)| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits(whole) && digits(fraction) && (whole == "0" || !whole.starts_with('0'))
    });
    match is_integer || is_decimal {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// Writes a basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                out.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_in_its_usual_spelling_is_bare() {
        let bare = ["0", "120", "-3", "0.9", "10.25"];
        let not = [
            "", "007", "+1", "1_000", "0x10", "1.", ".5", "00.5", "1e9", "true", "512MiB",
        ];
        for text in bare {
            assert_eq!(one(text), text);
        }
        for text in not {
            assert_eq!(one(text), format!("\"{text}\""));
        }
    }

    #[test]
    fn any_text_comes_back_from_its_literal() {
        for text in [
            "a \"b\" \\ c",
            "line\nline\ttab",
            "\u{0}\u{7f}\u{9f}",
            "öß 🙂",
        ] {
            let literal = quoted(text);
            let read = toml::de::DeValue::parse(&literal).unwrap();
            assert_eq!(read.get_ref().as_str(), Some(text), "{literal}");
        }
    }
}
