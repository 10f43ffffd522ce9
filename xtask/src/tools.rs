//! Programs of others that some tests need, and what becomes of those tests where one cannot be had.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{is_ci, output, run};
use crate::{node, python};

/// Tests that need a program.
#[derive(Debug)]
pub(crate) struct Need {
    /// What the names of the tests begin with, with their module, or contain.
    tests: &'static str,
    /// Where the tests find the program.
    variable: &'static str,
    /// Makes sure of the program, and says where it is.
    bring: fn() -> Result<PathBuf, String>,
}

const fn need(
    tests: &'static str,
    variable: &'static str,
    bring: fn() -> Result<PathBuf, String>,
) -> Need {
    Need {
        tests,
        variable,
        bring,
    }
}

const PYTHON: &str = "CONCLAVE_TEST_PYTHON";
const ETCD: &str = "CONCLAVE_TEST_ETCD";
const GRPCURL: &str = "CONCLAVE_TEST_GRPCURL";
const BUF: &str = "CONCLAVE_TEST_BUF";
const CURL: &str = "CONCLAVE_TEST_CURL";

/// What the tests of the crates need.
pub(crate) const OF_CRATES: [Need; 1] = [need("on_etcd::", ETCD, python::etcd)];

/// What the end-to-end tests need.
pub(crate) const END_TO_END: [Need; 9] = [
    need("python::", PYTHON, interpreter),
    need("recipe::", PYTHON, interpreter),
    need("api_page::", PYTHON, interpreter),
    need("api_page::", GRPCURL, python::grpcurl),
    need("api_page::", CURL, curl),
    need(
        "bad_clients::a_deadline_that_has_passed_or_is_none_is_refused_at_once",
        CURL,
        curl,
    ),
    need("old_clients::", GRPCURL, python::grpcurl),
    need("new_clients::", BUF, node::buf),
    need("failures::", ETCD, etcd_for_hosts),
];

/// Brings etcd for tests that make hosts of their own, where such can be made.
fn etcd_for_hosts() -> Result<PathBuf, String> {
    let mut id = Command::new("id");
    id.arg("-u");
    if output(id).is_none_or(|id| id.trim() != "0") {
        return Err("network namespaces are root's to make: run it as root".into());
    }
    let mut ip = Command::new("ip");
    ip.arg("-V");
    if output(ip).is_none() {
        let mut install = Command::new("apt-get");
        install.args(["install", "--yes", "--quiet", "iproute2"]);
        run(install).map_err(|why| format!("{why}\nThe tests need the program 'ip' (iproute2)"))?;
    }
    python::etcd()
}

/// Finds curl, one that speaks HTTP/2.
fn curl() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("curl"));
    let found = programs.find(|program| {
        let mut version = Command::new(program);
        version.arg("--version");
        output(version).is_some_and(|printed| printed.contains("HTTP2"))
    });
    let why = "The tests need the program 'curl' with HTTP/2 (Debian: apt-get install curl)";
    found.ok_or_else(|| why.to_owned())
}

fn interpreter() -> Result<PathBuf, String> {
    Ok(python::environment()?.join("bin/python"))
}

/// Gives tests what they need. Where it cannot be had, returns the tests that are skipped, and says that
/// they are; on a CI machine they run and fail.
pub(crate) fn provide(command: &mut Command, needs: &[Need]) -> Vec<&'static str> {
    let mut skipped = Vec::new();
    for Need {
        tests,
        variable,
        bring,
    } in needs
    {
        if std::env::var_os(variable).is_some() {
            continue;
        }
        match bring() {
            Ok(program) => {
                command.env(variable, program);
            }
            Err(why) if is_ci() => println!("{why}"),
            Err(why) => {
                println!("{why}\nSKIPPED: the tests called {tests}");
                skipped.push(*tests);
            }
        }
    }
    skipped
}

#[cfg(test)]
mod tests {
    use super::{END_TO_END, ETCD, Need, OF_CRATES};

    #[test]
    fn the_tests_that_need_a_program_are_called_so() {
        let sources = [
            include_str!("../../tests/e2e/main.rs"),
            include_str!("../../tests/e2e/failures.rs"),
            include_str!("../../tests/e2e/python.rs"),
            include_str!("../../tests/e2e/api_page.rs"),
            include_str!("../../tests/e2e/bad_clients.rs"),
            include_str!("../../tests/e2e/reflection.rs"),
        ];
        let sources = sources.concat();
        for Need {
            tests, variable, ..
        } in END_TO_END
        {
            let (module, test) = tests.split_once("::").unwrap();
            let (inline, file) = (format!("mod {module} {{"), format!("mod {module};"));
            let is_there = sources.contains(&inline) || sources.contains(&file);
            assert!(is_there, "no module is called {module}");
            let is_there = test.is_empty() || sources.contains(&format!("fn {test}("));
            assert!(is_there, "no test is called {test}");
            assert!(sources.contains(variable), "nobody asks for {variable}");
        }
        // And no other module asks for one, which would pass without it.
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e");
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap().path();
            if file.is_dir() {
                continue;
            }
            let source = std::fs::read_to_string(&file).unwrap();
            let module = file.file_stem().unwrap().to_str().unwrap();
            // The modules of this one are its calls, with old and new clients.
            if module == "reflection" {
                continue;
            }
            for asked in source
                .split('"')
                .filter(|text| text.starts_with("CONCLAVE_TEST_"))
            {
                let given = |need: &Need| need.variable == asked && need.tests.starts_with(module);
                assert!(END_TO_END.iter().any(given), "{module} asks for {asked}");
            }
        }
        let [Need { tests, .. }] = OF_CRATES;
        let suite = include_str!("../../crates/store/tests/suite/main.rs");
        let module = tests.trim_end_matches("::");
        assert!(suite.contains(&format!("mod {module} {{")));
        let server = include_str!("../../crates/store/tests/suite/server.rs");
        assert!(server.contains(ETCD));
    }
}
