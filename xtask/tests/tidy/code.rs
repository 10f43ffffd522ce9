//! Rust without its comments and texts, so that rules about code look at code alone.

/// Replaces comments and the contents of string and character literals by spaces; lines stay.
pub(crate) fn without_comments_and_texts(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let in_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let hidden = raw_text(rest)
            .filter(|_| !in_word)
            .or_else(|| comment(rest))
            .or_else(|| text(rest))
            .or_else(|| character(rest));
        let len = hidden.unwrap_or(first.len_utf8());
        let (taken, after) = rest.split_at(len);
        if hidden.is_some() {
            let blank = |c: char| if c == '\n' { c } else { ' ' };
            code.extend(taken.chars().map(blank));
        } else {
            code.push(first);
        }
        rest = after;
    }
    code
}

/// Length of the comment that `source` starts with; block comments nest.
fn comment(source: &str) -> Option<usize> {
    if source.starts_with("//") {
        return Some(source.find('\n').unwrap_or(source.len()));
    }
    let mut at = source.starts_with("/*").then_some(2)?;
    let mut depth = 1;
    while depth > 0 {
        let rest = &source[at..];
        let (opens, closes) = (rest.find("/*"), rest.find("*/"));
        match (opens, closes) {
            (Some(opens), Some(closes)) if opens < closes => {
                depth += 1;
                at += opens + 2;
            }
            (_, Some(closes)) => {
                depth -= 1;
                at += closes + 2;
            }
            _ => return Some(source.len()),
        }
    }
    Some(at)
}

/// Length of the string literal that `source` starts with.
fn text(source: &str) -> Option<usize> {
    source.starts_with('"').then(|| quoted(source, '"'))
}

/// Length up to and with the closing quote.
fn quoted(source: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in source.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    source.len()
}

/// Length of the raw string literal that `source` starts with: `r"…"`, `br#"…"#`.
fn raw_text(source: &str) -> Option<usize> {
    let after = source.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let inside = after.trim_start_matches('#');
    let hashes = after.len() - inside.len();
    let inside = inside.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = source.len() - inside.len();
    Some(
        inside
            .find(&end)
            .map_or(source.len(), |at| start + at + end.len()),
    )
}

/// Length of the character literal that `source` starts with; a lifetime is none.
fn character(source: &str) -> Option<usize> {
    let inside = source.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    let is_literal = first == '\\' || inside[first.len_utf8()..].starts_with('\'');
    is_literal.then(|| quoted(source, '\''))
}

#[test]
fn only_code_is_left() {
    let gone = [
        "// X\n",
        "/* X /* X */ X */",
        "\"X\"",
        "\"\\\"X\"",
        "\"a\nX\"",
        "r\"X\\\"",
        "r##\"\"# X\"##",
        "br#\"X\"#",
        "b'X'",
        "'X'",
        "['\"', 'X']",
        "\"//\" /* X */",
    ];
    for source in gone {
        let left = without_comments_and_texts(source);
        assert!(!left.contains('X'), "{source} became {left}");
        assert_eq!(left.lines().count(), source.lines().count(), "{source}");
    }
    let stays = [
        "X",
        "\"\" X",
        "'\"' X",
        "'\\'' X",
        "fn f<'a>(X: &'a str)",
        "'a: loop { X }",
        "r\"\\\" X",
        "/**/ X",
        "// x\nX",
        "for\"\"; X",
    ];
    for source in stays {
        let left = without_comments_and_texts(source);
        assert!(left.contains('X'), "{source} became {left}");
    }
}
