//! `docs/api.md`: every command of the page does what the page says, and every call is on it.

mod page;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, Setup, binary, tool};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tempfile::TempDir;

use self::page::{Block, Kind, is_answer};

const PAGE: &str = include_str!("../../docs/api.md");

/// The paths of the HTTP API are those of this file.
const HTTP: &str = include_str!("../../crates/coordinator/src/front/http.rs");

/// Where the page says that the APIs listen.
const ADDRESSES: [&str; 2] = ["127.0.0.1:7100", "127.0.0.1:8000"];

/// Longest that a command may run.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder like the one a reader has: the programs on the path, and this repository's `proto`.
struct Place {
    folder: TempDir,
    path: OsString,
}

impl Place {
    fn new(grpcurl: &OsStr, python: &OsStr, curl: &OsStr) -> Self {
        let folder = TempDir::new().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        symlink(binary(), bin.join("conclave")).unwrap();
        symlink(grpcurl, bin.join("grpcurl")).unwrap();
        symlink(curl, bin.join("curl")).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        symlink(root.join("proto"), folder.path().join("proto")).unwrap();
        // A virtual environment's Python knows by its own path that it is one.
        let python = PathBuf::from(python);
        let places = [bin, python.parent().unwrap().to_owned()];
        let others = std::env::var_os("PATH").unwrap();
        let others = std::env::split_paths(&others);
        let path = std::env::join_paths(places.into_iter().chain(others)).unwrap();
        Self { folder, path }
    }

    /// Runs a command; returns whether it went well, and all that it printed.
    fn run(&self, kind: Kind, code: &str) -> (bool, String) {
        let mut command = Command::new("timeout");
        command.arg(LIMIT.as_secs().to_string());
        match kind {
            Kind::Python => command.args(["python3", "-c", code]),
            _ => command.args(["bash", "-c", &format!("exec 2>&1\n{code}")]),
        };
        let output = command
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env_remove("CONCLAVE_SERVER")
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        (output.status.success(), printed)
    }
}

/// Puts the cluster's addresses in the place of the page's.
fn at(cluster: &Cluster, text: &str) -> String {
    let url = cluster.url("");
    let own = [cluster.grpc(), &url].map(|url| url.trim_start_matches("http://"));
    text.replace(ADDRESSES[0], own[0])
        .replace(ADDRESSES[1], own[1])
}

#[test]
fn every_command_of_the_page_does_what_the_page_says() {
    let needed = [
        "CONCLAVE_TEST_GRPCURL",
        "CONCLAVE_TEST_PYTHON",
        "CONCLAVE_TEST_CURL",
    ];
    let found = needed.map(|name| tool(name, "docs/api.md"));
    let [Some(grpcurl), Some(python), Some(curl)] = found else {
        return;
    };
    let (place, blocks) = (Place::new(&grpcurl, &python, &curl), page::blocks(PAGE));
    let (up, blocks) = blocks.split_first().unwrap();
    assert_eq!(
        (up.kind, up.code.as_str()),
        (Kind::Cluster, "conclave up\n")
    );
    // What it starts, with ports of its own.
    let cluster = Cluster::start(&Setup {
        kv_memory: "512MiB",
        ..Setup::mini(2)
    });
    let mut wrong = Vec::new();
    for Block {
        line,
        kind,
        code,
        answer,
    } in blocks
    {
        let (went_well, printed) = place.run(*kind, &at(&cluster, code));
        let answer = at(&cluster, answer);
        let said = format!("line {line}:\n{code}\nprinted\n{printed}\nand not\n{answer}");
        if went_well == (*kind == Kind::Fails) {
            wrong.push(format!("line {line} ended otherwise; {said}"));
        } else if !is_answer(&printed, &answer) {
            wrong.push(said);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
}

/// All commands of the page, as one text.
fn commands() -> String {
    let blocks = page::blocks(PAGE);
    blocks.into_iter().map(|block| block.code).collect()
}

#[test]
fn every_call_of_both_apis_is_on_the_page() {
    let commands = commands();
    let descriptors = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let public = descriptors.file.iter();
    let public = public.filter(|file| file.package() == "conclave.v1");
    let mut calls = BTreeSet::new();
    for file in public {
        for service in &file.service {
            let methods = service.method.iter();
            calls.extend(methods.map(|method| format!("{}/{}", service.name(), method.name())));
        }
    }
    assert_eq!(calls.len(), 9, "{calls:?}");
    let routes = HTTP.split(".route(\"").skip(1);
    let routes = routes.filter_map(|after| after.split('"').next());
    calls.extend(routes.map(|path| path.replace("{*name}", "conclave-mini")));
    assert!(calls.len() >= 14, "{calls:?}");
    for call in calls {
        assert!(commands.contains(&call), "{call} is not on the page");
    }
}

#[test]
fn the_limits_that_have_flags_are_their_defaults() {
    let help = Command::new(binary()).args(["up", "--help"]).output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let rows = PAGE.lines().filter(|line| line.contains("| `--"));
    let mut checked = 0;
    for row in rows {
        let limit = row.rsplit("| `").next().unwrap();
        let (flag, number) = limit.trim_end_matches(" |").split_once("` ").unwrap();
        let number: String = number.chars().filter(char::is_ascii_digit).collect();
        let (_, about) = help.split_once(&format!("{flag} ")).expect(flag);
        let (_, default) = about.split_once("[default: ").unwrap();
        let default = default.split(']').next().unwrap();
        assert_eq!(default, number, "{row}");
        checked += 1;
    }
    assert_eq!(checked, 3);
}
