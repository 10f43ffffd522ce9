//! `cargo xtask test`: all parts, their times, and one line of counts at the end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::command::{cargo, is_ci, show};
use crate::tools::{self, provide};
use crate::{arm64, lint, mounts};

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Lint,
    Unit,
    Golden,
    Arm64,
    Cluster,
}

/// What cargo's test binaries counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Part {
    pub(crate) const ALL: [Self; 5] = [
        Self::Lint,
        Self::Unit,
        Self::Golden,
        Self::Arm64,
        Self::Cluster,
    ];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Golden => "golden",
            Self::Arm64 => "arm64",
            Self::Cluster => "cluster",
        }
    }

    /// The integration tests of the part, by their names, in whatever packages.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::Lint | Self::Arm64 => &[],
            Self::Unit => &[
                "checkpoint",
                "clients",
                "conformance",
                "counts",
                "elections",
                "etcd",
                "front",
                "hubs",
                "layers",
                "recorded",
                "scheduler",
                "settings",
                "suite",
                "synth",
                "tidy",
                "walks",
                "worker",
            ],
            Self::Golden => &["golden", "ranks"],
            Self::Cluster => &["e2e", "turmoil"],
        }
    }

    /// The calls of `cargo test` that make up the part. Each is of the whole workspace: packages that
    /// are chosen alone would ask for other features of what all depend on, and build it again.
    fn calls(self) -> Vec<Vec<&'static str>> {
        let suites = self.suites().iter().flat_map(|suite| ["--test", suite]);
        let mut call = vec!["--workspace"];
        match self {
            Self::Lint | Self::Arm64 => return Vec::new(),
            Self::Unit => call.extend(["--lib", "--bins"]),
            Self::Golden | Self::Cluster => {}
        }
        call.extend(suites);
        match self {
            Self::Unit => vec![call, vec!["--workspace", "--doc"]],
            _ => vec![call],
        }
    }
}

/// Runs parts one after another, also after one has failed. The counts are the last that is printed.
pub(crate) fn run(parts: &[Part]) -> ExitCode {
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    for part in parts {
        println!("\n== {} ==", part.name());
        let start = Instant::now();
        let failed = counts.failed;
        if let Err(why) = run_part(*part, &mut counts) {
            println!("{why}");
            failures.push(part.name());
            // A part that fails without a failed test (lints, a build) counts as one.
            counts.failed = counts.failed.max(failed + 1);
        }
        println!(
            "== {}: {:.0} s ==",
            part.name(),
            start.elapsed().as_secs_f64()
        );
    }
    if !failures.is_empty() {
        println!("\nfailed: {}", failures.join(", "));
    }
    let Counts {
        passed,
        failed,
        skipped,
    } = counts;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_part(part: Part, counts: &mut Counts) -> Result<(), String> {
    if part == Part::Lint {
        counts.skipped += lint::run_all()?;
        counts.passed += 1;
        return Ok(());
    }
    if part == Part::Arm64 {
        return on_arm64(counts);
    }
    let mut failures = Vec::new();
    if part == Part::Cluster {
        // The cluster's tests start the binary itself; cargo builds it for the tests beside it.
        let build = ["test", "--locked", "--quiet", "--no-run"];
        let beside = ["--workspace", "--test", "settings"];
        crate::command::run(cargo(&[&build[..], &beside].concat()))?;
    }
    let mut mounting: &[&str] = &[];
    if part == Part::Unit {
        match without_mounts(counts) {
            Ok(skipped) => mounting = skipped,
            Err(why) => failures.push(why),
        }
    }
    for call in part.calls() {
        let mut command = cargo(&["test", "--locked", "--quiet", "--no-fail-fast"]);
        let is_doc = call.contains(&"--doc");
        command.args(call);
        let lacking = match part {
            Part::Cluster => provide(&mut command, &tools::END_TO_END),
            Part::Unit if !is_doc => provide(&mut command, &tools::OF_CRATES),
            _ => Vec::new(),
        };
        counts.skipped += lacking.len() as u64;
        let mut skipped = mounting.iter().chain(&lacking).peekable();
        if skipped.peek().is_some() {
            command.arg("--");
            command.args(skipped.flat_map(|test| ["--skip", test]));
        }
        if let Err(why) = count(command, counts) {
            failures.push(why);
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n"))
    }
}

/// Runs the kernels' tests on 64-bit ARM; where they cannot be built or run, says so.
fn on_arm64(counts: &mut Counts) -> Result<(), String> {
    if cfg!(target_arch = "aarch64") {
        println!("this machine is one: part 'unit' has them");
        return Ok(());
    }
    match arm64::tests() {
        Ok(tests) => count(tests, counts),
        Err(why) if is_ci() => Err(why),
        Err(why) => {
            println!("{why}\nSKIPPED: the tests of the kernels on 64-bit ARM");
            counts.skipped += 1;
            Ok(())
        }
    }
}

/// Returns the tests that cannot run for want of mounts, and says that they are skipped.
fn without_mounts(counts: &mut Counts) -> Result<&'static [&'static str], String> {
    let skipped = mounts::tests_to_skip()?;
    for test in skipped {
        println!("this machine lets no test mount a file system\nSKIPPED: {test}");
        counts.skipped += 1;
    }
    Ok(skipped)
}

/// Runs `cargo test`, passing its output on and adding up what it counts.
fn count(mut command: Command, counts: &mut Counts) -> Result<(), String> {
    let shown = show(&command);
    let in_words = |error: std::io::Error| format!("{shown}: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(in_words)?;
    let output = child.stdout.take().ok_or("the output was asked for")?;
    for line in BufReader::new(output).lines() {
        let line = line.map_err(in_words)?;
        match result_line(&line) {
            Some(result) => {
                counts.passed += result.passed;
                counts.failed += result.failed;
                counts.skipped += result.skipped;
                if result.passed + result.failed + result.skipped > 0 {
                    println!("{line}");
                }
            }
            None if line.is_empty() || line.starts_with("running ") => {}
            None => println!("{line}"),
        }
        std::io::stdout().flush().map_err(in_words)?;
    }
    let status = child.wait().map_err(in_words)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown}: {status}"))
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn result_line(line: &str) -> Option<Counts> {
    let (_, counted) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for entry in counted.split("; ") {
        match entry.split_once(' ')? {
            (count, "passed") => counts.passed = count.parse().ok()?,
            (count, "failed") => counts.failed = count.parse().ok()?,
            (count, "ignored") => counts.skipped = count.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use cargo_metadata::{MetadataCommand, TargetKind};

    use super::*;

    #[test]
    fn every_suite_is_of_one_part() {
        let metadata = MetadataCommand::new().no_deps().exec().unwrap();
        let targets = metadata
            .packages
            .iter()
            .flat_map(|package| &package.targets);
        let suites = targets.filter(|target| target.kind.contains(&TargetKind::Test));
        let mut names: Vec<_> = suites.map(|suite| suite.name.as_str()).collect();
        let mut known: Vec<_> = Part::ALL.iter().flat_map(|part| part.suites()).collect();
        names.sort_unstable();
        names.dedup();
        known.sort_unstable();
        assert_eq!(known.into_iter().copied().collect::<Vec<_>>(), names);
    }

    #[test]
    fn reads_the_line_that_a_test_binary_ends_with() {
        let line = "test result: ok. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; \
                    finished in 0.01s";
        let counts = result_line(line).unwrap();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (3, 1, 2));
        assert!(result_line("test a ... ok").is_none());
    }
}
