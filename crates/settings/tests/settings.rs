//! A small program with settings: what it reads from where, and what it says of mistakes.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "settings/mistakes.rs"]
mod mistakes;
#[path = "settings/precedence.rs"]
mod precedence;
#[path = "settings/printed.rs"]
mod printed;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, value_parser};
use settings::{Error, Resolved, Settings};

fn memory(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix("MiB").unwrap_or(text).parse::<u64>();
    number.map_err(|_| format!("'{text}' is no size, as 512MiB is"))
}

fn option(name: &'static str) -> Arg {
    Arg::new(name).long(name)
}

fn serve() -> Command {
    Command::new("serve").args([
        option("listen")
            .value_parser(value_parser!(SocketAddr))
            .value_name("ADDRESS")
            .default_value("127.0.0.1:7100")
            .help("Where it listens"),
        option("kv-memory")
            .value_parser(memory)
            .value_name("SIZE")
            .default_value("512MiB")
            .help("Memory, for instance 512MiB"),
        option("ranks")
            .value_parser(value_parser!(NonZeroUsize))
            .value_name("N")
            .required(true)
            .help("Ranks of it all"),
        option("store")
            .action(ArgAction::Append)
            .value_delimiter(',')
            .value_name("URI")
            .default_value("memory")
            .help("Where the store is"),
        option("name").value_name("NAME").help("What it is called"),
        option("temperature").value_parser(value_parser!(f32)),
        option("demo").action(ArgAction::SetTrue).help("Show it"),
        option("quiet")
            .action(ArgAction::SetTrue)
            .conflicts_with("demo"),
        option("with-parent").action(ArgAction::SetTrue).hide(true),
    ])
}

fn settings() -> Settings {
    let work = Command::new("work").args([
        option("name"),
        option("threads").value_parser(value_parser!(u32)),
    ]);
    let ask = Command::new("ask").arg(Arg::new("question").required(true));
    let command = Command::new("toy")
        .version("1.0")
        .subcommand_required(true)
        .arg(
            option("log-format")
                .global(true)
                .value_parser(["text", "json"])
                .default_value("text")
                .env("TOY_LINES"),
        )
        .subcommands([serve(), work, ask]);
    Settings::new(command, "TOY_", &["serve", "work"])
}

/// A run of the program.
struct Run {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, OsString)>,
}

impl Run {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
        }
    }

    /// With a file, which TOY_CONFIG names.
    fn with_file(text: impl AsRef<[u8]>) -> Self {
        let run = Self::new();
        std::fs::write(run.path(), text).unwrap();
        let path = run.path();
        run.with("TOY_CONFIG", path)
    }

    fn with(mut self, variable: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("toy.toml")
    }

    fn read(&self, line: &str) -> Result<Resolved, Error> {
        let arguments = std::iter::once("toy").chain(line.split_whitespace());
        let environment = |name: &str| {
            let mut variables = self.variables.iter();
            let found = variables.find(|(variable, _)| *variable == name)?;
            Some(found.1.clone())
        };
        settings().read(arguments.map(OsString::from), &environment)
    }

    /// The settings that hold, with the folder left out of the names of files.
    fn printed(&self, line: &str) -> String {
        let resolved = self.read(line).unwrap_or_else(|error| panic!("{error}"));
        self.short(&resolved.effective.unwrap().to_string())
    }

    /// What it says of a mistake.
    fn refused(&self, line: &str) -> String {
        let error = self.read(line).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        self.short(&error.to_string())
    }

    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", display(self.folder.path())), "")
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

/// Whether one line of `text` is `line`.
#[track_caller]
fn has_line(text: &str, line: &str) {
    assert!(
        text.lines().any(|other| other == line),
        "no {line:?} in\n{text}"
    );
}
