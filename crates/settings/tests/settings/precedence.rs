//! Who goes before whom.

use super::*;

#[test]
fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
    let file = "[serve]\nranks = 2\nkv_memory = \"1MiB\"\nname = \"filed\"\n";
    let run = Run::with_file(file)
        .with("TOY_KV_MEMORY", "2MiB")
        .with("TOY_NAME", "varied");
    let printed = run.printed("serve --name typed");
    has_line(&printed, "name = \"typed\" # flag");
    has_line(&printed, "kv_memory = \"2MiB\" # TOY_KV_MEMORY");
    has_line(&printed, "ranks = 2 # toy.toml:2");
    has_line(&printed, "listen = \"127.0.0.1:7100\" # default");
    has_line(&printed, "# temperature is not set");
}

#[test]
fn the_program_gets_what_is_printed() {
    let file = "[serve]\nranks = 2\nkv_memory = \"3MiB\"\ndemo = true\nstore = [\"a\", \"b\"]\n";
    let resolved = Run::with_file(file).read("serve").unwrap();
    let matches = resolved.matches.subcommand_matches("serve").unwrap();
    assert_eq!(matches.get_one::<u64>("kv-memory"), Some(&3));
    assert_eq!(
        matches.get_one::<NonZeroUsize>("ranks").copied(),
        NonZeroUsize::new(2)
    );
    assert!(matches.get_flag("demo"));
    let store: Vec<&String> = matches.get_many("store").unwrap().collect();
    assert_eq!(store, ["a", "b"]);
    assert!(!resolved.check_only);
}

#[test]
fn what_holds_for_all_stands_at_the_top_and_is_taken_after_the_command_too() {
    let run = Run::with_file("log_format = \"json\"\n");
    let format = |line: &str| {
        let matches = run.read(line).unwrap().matches;
        matches.get_one::<String>("log-format").unwrap().clone()
    };
    assert_eq!(format("work"), "json");
    assert_eq!(format("work --log-format text"), "text");
    assert_eq!(format("--log-format text work"), "text");
    let printed = run.printed("work --log-format text");
    has_line(&printed, "log_format = \"text\" # flag");
}

#[test]
fn a_variable_that_the_command_names_itself_keeps_its_name() {
    let run = Run::new().with("TOY_LINES", "json");
    has_line(&run.printed("work"), "log_format = \"json\" # TOY_LINES");
    let run = Run::new().with("TOY_LOG_FORMAT", "json");
    has_line(&run.printed("work"), "log_format = \"text\" # default");
}

#[test]
fn an_empty_variable_is_not_set() {
    let run = Run::with_file("[work]\nname = \"filed\"\n").with("TOY_NAME", "");
    has_line(&run.printed("work"), "name = \"filed\" # toy.toml:2");
    let run = Run::new().with("TOY_CONFIG", "");
    has_line(&run.printed("work"), "# name is not set");
}

#[test]
fn a_list_is_replaced_as_a_whole() {
    let file = "[serve]\nranks = 1\nstore = [\"a\", \"b\"]\n";
    let from_file = Run::with_file(file).printed("serve");
    has_line(&from_file, "store = [\"a\", \"b\"] # toy.toml:3");
    let varied = Run::with_file(file)
        .with("TOY_STORE", "c,d")
        .printed("serve");
    has_line(&varied, "store = [\"c\", \"d\"] # TOY_STORE");
    let typed = Run::with_file(file).printed("serve --store e --store f");
    has_line(&typed, "store = [\"e\", \"f\"] # flag");
}

#[test]
fn a_flag_of_the_file_is_taken_back_by_its_variable() {
    let file = "[serve]\nranks = 1\ndemo = true\n";
    has_line(
        &Run::with_file(file).printed("serve"),
        "demo = true # toy.toml:3",
    );
    let run = Run::with_file(file).with("TOY_DEMO", "false");
    has_line(&run.printed("serve"), "demo = false # TOY_DEMO");
    has_line(&run.printed("serve --demo"), "demo = true # flag");
    let run = Run::with_file("[serve]\nranks = 1\ndemo = false\n").with("TOY_DEMO", "true");
    has_line(&run.printed("serve"), "demo = true # TOY_DEMO");
}

#[test]
fn the_flag_names_the_file_before_the_variable_does() {
    let run = Run::with_file("[work]\nname = \"one\"\n");
    let other = run.folder.path().join("other.toml");
    std::fs::write(&other, "[work]\nname = \"two\"\n").unwrap();
    has_line(&run.printed("work"), "name = \"one\" # toy.toml:2");
    let printed = run.printed(&format!("work --config {}", display(&other)));
    has_line(&printed, "name = \"two\" # other.toml:2");
}

#[test]
fn a_subcommand_without_settings_reads_no_file_and_no_variable() {
    let run = Run::with_file("this is no TOML").with("TOY_LINES", "neither");
    let resolved = run.read("ask why").unwrap();
    assert_eq!(resolved.effective, None);
    assert!(!resolved.check_only);
}

#[test]
fn numbers_are_read_in_any_spelling_of_toml() {
    let file = "[serve]\nranks = 0x1_0\nkv_memory = 1_000\ntemperature = 0.50\nname = 7\n";
    let printed = Run::with_file(file).printed("serve");
    has_line(&printed, "ranks = 16 # toy.toml:2");
    has_line(&printed, "kv_memory = 1000 # toy.toml:3");
    has_line(&printed, "temperature = 0.50 # toy.toml:4");
    has_line(&printed, "name = \"7\" # toy.toml:5");
}

#[test]
fn values_that_look_like_flags_stay_values() {
    let file = "[serve]\nranks = 1\nname = \"--demo=x y\"\nstore = [\"--quiet\"]\n";
    let printed = Run::with_file(file).printed("serve");
    has_line(&printed, "name = \"--demo=x y\" # toy.toml:3");
    has_line(&printed, "store = [\"--quiet\"] # toy.toml:4");
    has_line(&printed, "demo = false # default");
}

#[test]
fn the_variables_are_those_of_the_settings_and_of_the_file() {
    let known = [
        "TOY_CONFIG",
        "TOY_DEMO",
        "TOY_KV_MEMORY",
        "TOY_LINES",
        "TOY_LISTEN",
        "TOY_NAME",
        "TOY_QUIET",
        "TOY_RANKS",
        "TOY_STORE",
        "TOY_TEMPERATURE",
        "TOY_THREADS",
    ];
    assert_eq!(settings().variables(), known);
}
