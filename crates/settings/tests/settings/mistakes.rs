//! What it says of mistakes: where, what, and what to do.

use super::*;

#[test]
fn all_mistakes_of_a_file_are_told_at_once_with_their_lines() {
    let file = "\
lag_format = \"json\"
kv_memory = \"1MiB\"
[serve]
ranks = \"0\"
kv-memory = \"1MiB\"
listen = [\"127.0.0.1:1\"]
log_format = \"json\"
[worker]
name = 1
[work]
threads = \"many\"
demo = true
";
    let run = Run::with_file(file).with("TOY_TEMPERATURE", "warm");
    let said = run.refused("serve");
    let wanted = "\
error: toy.toml:1: unknown key `lag_format`; the nearest known one is `log_format`
error: toy.toml:2: unknown key `kv_memory`; it belongs under [serve]
error: toy.toml:4: `ranks` under [serve]: expected N, found '0': number would be zero for non-zero type
error: toy.toml:5: unknown key `kv-memory` under [serve]; the nearest known one is `kv_memory`
error: toy.toml:6: `listen` under [serve]: expected a string or a number (--listen <ADDRESS>), found an array
error: toy.toml:7: unknown key `log_format` under [serve]; it belongs at the top, above all tables
error: toy.toml:8: unknown table [worker]; the nearest known one is `work`
error: toy.toml:11: `threads` under [work]: expected THREADS, found 'many': invalid digit found in string
error: toy.toml:12: unknown key `demo` under [work]; it belongs under [serve]
error: TOY_TEMPERATURE: expected TEMPERATURE, found 'warm': invalid float literal";
    assert_eq!(said, wanted);
}

#[test]
fn a_value_of_the_wrong_type_is_refused() {
    for (entry, found) in [
        (
            "demo = \"true\"",
            "expected true or false (--demo), found the string \"true\"",
        ),
        (
            "demo = 1",
            "expected true or false (--demo), found the number 1",
        ),
        (
            "name = true",
            "expected a string or a number (--name <NAME>), found true",
        ),
        (
            "store = \"a,b\"",
            "expected an array of strings (--store <URI>), found the string \"a,b\"",
        ),
        (
            "store = []",
            "expected an array of strings (--store <URI>), found an empty one",
        ),
        (
            "store = [[\"a\"]]",
            "expected an array of strings (--store <URI>), found an array with something else",
        ),
        (
            "store = [\"a,b\"]",
            "expected URI, found 'a,b': an element holds no ','; write several elements",
        ),
        (
            "name = 2026-01-01",
            "found the time 2026-01-01; a string has quotes",
        ),
        ("name.first = \"x\"", "found a table"),
    ] {
        let said = Run::with_file(format!("[serve]\nranks = 1\n{entry}\n")).refused("serve");
        assert!(said.starts_with("error: toy.toml:3: `"), "{said}");
        assert!(said.contains(found), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let said = Run::with_file("serve = 1\n").refused("work");
    assert_eq!(
        said,
        "error: toy.toml:1: `serve`: expected a table: [serve], found the number 1"
    );
    let said = Run::with_file("log_format = \"xml\"\n").refused("work");
    let reason = "expected LOG_FORMAT, found 'xml': it is one of text, json";
    assert_eq!(said, format!("error: toy.toml:1: `log_format`: {reason}"));
}

#[test]
fn what_is_missing_can_be_given_in_three_ways() {
    let said = Run::new().refused("serve");
    let ways =
        "`ranks` is missing: give it as --ranks <N>, as TOY_RANKS, or as `ranks` under [serve] in";
    assert_eq!(said, format!("error: {ways} a file (--config FILE)"));
    let said = Run::with_file("[work]\nname = \"x\"\n").refused("serve");
    assert_eq!(said, format!("error: {ways} toy.toml"));
    for run in [
        Run::new().with("TOY_RANKS", "1"),
        Run::with_file("[serve]\nranks = 1\n"),
    ] {
        run.printed("serve");
    }
}

#[test]
fn a_variable_is_refused_by_its_name_unless_a_flag_goes_before_it() {
    let run = Run::new().with("TOY_RANKS", "none").with("TOY_DEMO", "1");
    let said = run.refused("serve");
    has_line(
        &said,
        "error: TOY_RANKS: expected N, found 'none': invalid digit found in string",
    );
    has_line(
        &said,
        "error: TOY_DEMO: expected true or false, found '1': a flag is given or not",
    );
    run.printed("serve --ranks 1 --demo");
    // Nor does a subcommand look at the variables of another.
    run.printed("work");
}

#[test]
fn a_variable_that_is_no_text_is_refused_and_not_mangled() {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = OsString::from_vec(vec![b'a', 0xff]);
    for (variable, line) in [("TOY_NAME", "work"), ("TOY_STORE", "serve --ranks 1")] {
        let said = Run::new().with(variable, bytes.clone()).refused(line);
        assert!(said.starts_with(&format!("error: {variable}: ")), "{said}");
    }
}

#[test]
fn a_flag_that_clap_refuses_is_told_by_clap() {
    let run = Run::with_file("[serve]\nranks = 1\n");
    for (line, part) in [
        (
            "serve --ranks many",
            "invalid value 'many' for '--ranks <N>'",
        ),
        ("serve --nmae x", "unexpected argument '--nmae' found"),
        ("serve --name", "a value is required for '--name <NAME>'"),
        (
            "serve --nmae x --kv-memory 1MiB",
            "unexpected argument '--nmae' found",
        ),
        ("serve stray", "unexpected argument 'stray' found"),
        ("serve -- stray", "unexpected argument 'stray' found"),
        ("", "requires a subcommand"),
        ("sevre", "unrecognized subcommand 'sevre'"),
    ] {
        let said = run.refused(line);
        assert!(said.contains(part), "{line}: {said}");
    }
}

#[test]
fn a_conflict_says_where_the_flags_come_from() {
    let run = Run::with_file("[serve]\nranks = 1\nquiet = true\n");
    let said = run.refused("serve --demo");
    assert!(said.contains("cannot be used with"), "{said}");
    has_line(&said, "note: --quiet comes from toy.toml:3");
}

#[test]
fn a_file_that_is_no_file_of_settings_is_refused() {
    for (text, wanted) in [
        (
            &b"[serve]\nranks = = 1\n"[..],
            "error: toy.toml:2: not TOML: ",
        ),
        (
            b"[serve]\nranks = 1\nranks = 2\n",
            "error: toy.toml:3: not TOML: duplicate key",
        ),
        (
            b"name = \"a\"\n\"\xff\"\n",
            "error: toy.toml:2: not TOML: bytes that are no UTF-8 text",
        ),
        (
            &vec![b'#'; (1 << 20) + 1],
            "error: toy.toml has more than 1048576 bytes",
        ),
    ] {
        let said = Run::with_file(text).refused("work");
        assert!(said.starts_with(wanted), "{said}");
    }
    // As long as may be.
    Run::with_file(vec![b'#'; 1 << 20]).printed("work");
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_who_named_it() {
    let run = Run::new();
    let path = display(&run.path());
    let said = run.refused(&format!("work --config {path}"));
    let wanted = "error: cannot read toy.toml (named by --config): No such file";
    assert!(said.starts_with(wanted), "{said}");
    let folder = run.folder.path().to_owned();
    let said = run.with("TOY_CONFIG", folder).refused("work");
    assert!(
        said.contains("(named by TOY_CONFIG): Is a directory"),
        "{said}"
    );
}

#[test]
fn hidden_options_are_no_settings() {
    let said = Run::with_file("[serve]\nwith_parent = true\n").refused("serve --ranks 1");
    assert!(said.contains("unknown key `with_parent`"), "{said}");
    let run = Run::new().with("TOY_WITH_PARENT", "true");
    let matches = run.read("serve --ranks 1").unwrap().matches;
    let serve = matches.subcommand_matches("serve").unwrap();
    assert!(!serve.get_flag("with-parent"));
}

#[test]
#[should_panic(expected = "--verbose (Count) takes neither nothing, nor a value, nor a list")]
fn an_option_that_cannot_be_a_setting_is_a_mistake_in_the_program() {
    let serve = Command::new("serve").arg(option("verbose").action(ArgAction::Count));
    let _never = Settings::new(Command::new("toy").subcommand(serve), "TOY_", &["serve"]);
}
