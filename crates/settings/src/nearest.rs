//! What somebody may have meant.

/// Returns the known name that is most like `name`; hyphens and underscores, capital and small
/// letters count as alike. Of equals, the first.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        let likeness = strsim::normalized_damerau_levenshtein(&wanted, &plain(candidate));
        if best.is_none_or(|(other, _)| likeness > other) {
            best = Some((likeness, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_letters_left_out_swapped_and_spelled_otherwise() {
        let known = ["kv_memory", "max_sequences", "hold", "name"];
        for (written, meant) in [
            ("kv_memry", "kv_memory"),
            ("kv-memory", "kv_memory"),
            ("KV_MEMORY", "kv_memory"),
            ("max_sequence", "max_sequences"),
            ("hodl", "hold"),
            ("nmae", "name"),
        ] {
            assert_eq!(nearest(written, known), Some(meant), "{written}");
        }
        assert_eq!(nearest("x", []), None);
    }
}
