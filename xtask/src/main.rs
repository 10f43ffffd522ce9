//! The project's own commands: `cargo xtask demo`, `cargo xtask eval-mini` and `cargo xtask test`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a program for people"
)]

mod arm64;
mod command;
mod demo;
mod eval_mini;
mod lint;
mod mounts;
mod node;
mod parts;
mod python;
mod toolchain;
mod tools;
mod version;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  demo [ARGUMENT...]   starts a cluster of two workers on this machine, asks a question, has a
                       function called, and says where the API is; Ctrl-C ends it. Arguments are
                       those of 'conclave up', for instance --http 127.0.0.1:8001
  eval-mini [ARGUMENT...]
                       scores models/mini, or a --model of the same recipe, through the API of
                       clusters of 1, 2 and 3 ranks, a thousand conversations of each family, in half
                       an hour; --count 50 asks fewer, and lets a share fall short by chance
  test                 runs everything: formatting, lints, docs, supply chain, wire, all tests
  test --only PART     runs one part: lint, unit, golden, arm64 or cluster
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("\nerror: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode, String> {
    match arguments {
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        ["demo" | "eval-mini" | "test", ..] => toolchain::check_version()?,
        _ => {}
    }
    match arguments {
        ["demo", rest @ ..] => demo::run(rest).map(|()| ExitCode::SUCCESS),
        ["eval-mini", rest @ ..] => eval_mini::run(rest).map(|()| ExitCode::SUCCESS),
        ["test"] => Ok(parts::run(&parts::Part::ALL)),
        ["test", "--only", name] => match parts::Part::parse(name) {
            Some(part) => Ok(parts::run(&[part])),
            None => Err(format!(
                "no part is called '{name}': lint, unit, golden, arm64 or cluster"
            )),
        },
        other => Err(format!("unknown command '{}'\n\n{HELP}", other.join(" "))),
    }
}
