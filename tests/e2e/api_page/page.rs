//! A page of Markdown as commands and answers.

/// What is to be done with a block of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A command that goes well.
    Shell,
    /// A command that fails.
    Fails,
    /// A program in Python that goes well.
    Python,
    /// What starts the cluster; it goes on, and has no answer.
    Cluster,
}

/// A command, and what it answers.
#[derive(Debug)]
pub(crate) struct Block {
    /// Where it is, from 1.
    pub(crate) line: usize,
    pub(crate) kind: Kind,
    pub(crate) code: String,
    pub(crate) answer: String,
}

/// Reads all blocks of a page. There are none but commands, each with its answer after it.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut awaits_answer = false;
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let inside = lines.by_ref().map(|(_, line)| line);
        let inside = inside.take_while(|line| *line != "```");
        let text: String = inside.flat_map(|line| [line, "\n"]).collect();
        let kind = match language {
            "sh" => Kind::Shell,
            "sh fails" => Kind::Fails,
            "python" => Kind::Python,
            "sh cluster" => Kind::Cluster,
            "json" | "text" => {
                assert!(awaits_answer, "line {}: an answer to what?", number + 1);
                awaits_answer = false;
                blocks.last_mut().unwrap().answer = text;
                continue;
            }
            other => panic!("line {}: what is to be done with '{other}'?", number + 1),
        };
        assert!(!awaits_answer, "line {}: no answer before it", number + 1);
        awaits_answer = kind != Kind::Cluster;
        blocks.push(Block {
            line: number + 1,
            kind,
            code: text,
            answer: String::new(),
        });
    }
    assert!(!awaits_answer, "the last command has no answer");
    blocks
}

/// Says whether this was printed: `…` in the answer stands for anything, a line of its own also for no
/// line at all. Blanks at the ends do not matter.
pub(crate) fn is_answer(printed: &str, answer: &str) -> bool {
    let answer = answer.trim().replace("\n…\n", "…");
    let answer = answer
        .strip_prefix("…\n")
        .map(|rest| format!("…{rest}"))
        .unwrap_or(answer);
    let printed = printed.trim();
    let mut pieces = answer.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[test]
fn only_what_the_dots_stand_for_may_differ() {
    let answer = "{\n  \"id\": \"…\",\n…\n  \"tokens\": 3\n}\n";
    let good = [
        "{\n  \"id\": \"x\",\n  \"tokens\": 3\n}",
        "{\n  \"id\": \"\",\n  a\n  b\n  \"tokens\": 3\n}\n\n",
    ];
    for printed in good {
        assert!(is_answer(printed, answer), "{printed}");
    }
    let bad = [
        "",
        "{}",
        "{\n  \"id\": \"x\",\n  \"tokens\": 4\n}",
        " x {\n  \"id\": \"x\",\n  \"tokens\": 3\n} y",
    ];
    for printed in bad {
        assert!(!is_answer(printed, answer), "{printed}");
    }
    assert!(is_answer("a\nb\nc", "…\nc") && is_answer("c", "…\nc"));
    assert!(is_answer("abc", "abc") && !is_answer("abcd", "abc") && !is_answer("abc", ""));
    assert!(!is_answer("ab", "ab…b"), "no text is told twice");
}

#[test]
#[should_panic(expected = "what is to be done")]
fn a_block_that_nobody_runs_is_an_error() {
    blocks("```yaml\nx\n```\n");
}

#[test]
#[should_panic(expected = "no answer before it")]
fn a_command_without_an_answer_is_an_error() {
    blocks("```sh\ntrue\n```\n```sh\ntrue\n```\n");
}
