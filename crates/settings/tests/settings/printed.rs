//! What it prints: the settings that hold, the help, and the file that explains every setting.

use super::*;

#[test]
fn the_settings_that_hold_are_a_file_that_gives_them_again() {
    let run = Run::new()
        .with("TOY_NAME", "a \"b\"\\\n\u{1}é")
        .with("TOY_STORE", "x,y")
        .with("TOY_LINES", "json");
    let line = "serve --ranks 3 --demo --temperature 0.5";
    let first = run.printed(line);
    let again = Run::with_file(&first).printed("serve");
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| line.split(" # ").next().unwrap().to_owned());
        values.collect()
    };
    assert_eq!(values(&first), values(&again), "{first}\n{again}");
    has_line(&again, "name = \"a \\\"b\\\"\\\\\\n\\u0001é\" # toy.toml:8");
    has_line(&again, "demo = true # toy.toml:10");
}

#[test]
fn check_config_is_told_and_changes_nothing_else() {
    let run = Run::with_file("[serve]\nranks = 1\n");
    let plain = run.read("serve").unwrap();
    let checked = run.read("serve --check-config").unwrap();
    assert!(!plain.check_only && checked.check_only);
    assert_eq!(plain.effective, checked.effective);
    assert!(
        run.refused("serve --check-config --ranks 0")
            .contains("--ranks")
    );
}

#[test]
fn the_log_names_what_somebody_gave() {
    let run = Run::with_file("[serve]\nranks = 1\n").with("TOY_DEMO", "true");
    let effective = run.read("serve --name x").unwrap().effective.unwrap();
    let given = run.short(&effective.given());
    assert_eq!(
        given,
        "ranks = 1 (toy.toml:2), name = \"x\" (flag), demo = true (TOY_DEMO)"
    );
}

#[test]
fn help_and_version_are_claps_and_name_the_variables() {
    let run = Run::with_file("this is no TOML");
    for (line, part) in [
        ("serve --help", "[env: TOY_KV_MEMORY=]"),
        ("serve --help", "--check-config"),
        ("serve -h", "[env: TOY_CONFIG=]"),
        ("help work", "[env: TOY_THREADS=]"),
        ("--version", "toy 1.0"),
    ] {
        let error = run.read(line).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 0);
        assert!(error.to_string().contains(part), "{line}: {error}");
    }
    let help = run.read("ask --help").map(|_| ()).unwrap_err().to_string();
    assert!(!help.contains("--config"), "{help}");
}

#[test]
fn the_example_explains_every_setting_and_holds_its_default() {
    let example = settings().example();
    assert!(example.contains(
        "\n[serve]\n\n# Where it listens.\n# --listen <ADDRESS> or TOY_LISTEN.\n#listen = \"127.0.0.1:7100\"\n"
    ));
    has_line(&example, "# Ranks of it all. Required.");
    has_line(&example, "#ranks = N");
    assert!(
        example.contains("\n# What it is called.\n# --name <NAME> or TOY_NAME.\n#name = NAME\n")
    );
    has_line(&example, "#demo = false");
    has_line(&example, "#store = [\"memory\"]");
    has_line(&example, "# One of: text, json.");
    assert!(!example.contains("with_parent"), "{example}");

    // Without the sign, every default is taken, and is the default.
    let plain = Run::new().printed("serve --ranks 1");
    let live: String = example
        .lines()
        .filter(|line| !line.ends_with(" = N") && !line.ends_with(" = NAME"))
        .filter(|line| !line.ends_with("TEMPERATURE") && !line.ends_with("THREADS"))
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let from_file = Run::with_file(live).printed("serve --ranks 1");
    for (one, other) in plain.lines().zip(from_file.lines()) {
        let value = |line: &str| line.split(" # ").next().unwrap().to_owned();
        assert_eq!(value(one), value(other));
    }
    has_line(&from_file, "ranks = 1 # flag");
    assert!(
        from_file.contains("log_format = \"text\" # toy.toml:"),
        "{from_file}"
    );
}
