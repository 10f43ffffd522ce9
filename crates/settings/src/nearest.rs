//! What somebody may have meant.

/// How much of a name has to be as it is written, to be what was meant.
const LIKELY: f64 = 0.5;

/// Returns the known name that is most like `name`, where at least half of it is; hyphens and underscores,
/// capital and small letters count as alike. Of equals, the first.
pub fn likely<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let best = best(name, known).filter(|(likeness, _)| *likeness >= LIKELY);
    best.map(|(_, candidate)| candidate)
}

/// Returns the known name that is most like `name`, however little that is.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    best(name, known).map(|(_, candidate)| candidate)
}

/// Returns the known name that is most like `name`, and how much: from 0 to 1.
fn best<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<(f64, &'n str)> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        let likeness = strsim::normalized_damerau_levenshtein(&wanted, &plain(candidate));
        if best.is_none_or(|(other, _)| likeness > other) {
            best = Some((likeness, candidate));
        }
    }
    best
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

    #[test]
    fn a_name_like_no_other_is_nearest_to_one_and_likely_none() {
        let known = ["worker-0", "worker-1", "gpu"];
        assert_eq!(likely("worker1", known), Some("worker-1"));
        assert_eq!(likely("wroker-0", known), Some("worker-0"));
        assert_eq!(likely("x", known), None);
        assert_eq!(nearest("x", known), Some("worker-0"));
    }
}
