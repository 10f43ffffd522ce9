//! The project's own commands: `cargo xtask demo` and `cargo xtask test`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a program for people"
)]

mod command;
mod demo;
mod lint;
mod parts;
mod python;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  demo                 starts a cluster of two workers on this machine, shows a generation as it
                       streams, and says where the API is; Ctrl-C ends it
  test                 runs everything: formatting, lints, docs, supply chain, all tests
  test --only PART     runs one part: lint, unit, golden or cluster
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["demo"] => demo::run(),
        ["test"] => parts::run(&parts::Part::ALL),
        ["test", "--only", name] => match parts::Part::parse(name) {
            Some(part) => parts::run(&[part]),
            None => Err(format!(
                "no part is called '{name}': lint, unit, golden or cluster"
            )),
        },
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown command '{}'\n\n{HELP}", other.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nerror: {why}");
            ExitCode::FAILURE
        }
    }
}
