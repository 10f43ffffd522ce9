//! Settings of the program itself: file, variables and flags, `--check-config`, and what the children
//! of `conclave up` hear of it.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const SERVICES: [&str; 3] = ["coordinator", "worker", "up"];

/// How long a small cluster may take to be ready on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// The program, with none of the settings that whoever runs the tests has.
fn conclave(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONCLAVE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs it to its end; returns the exit status, and what it prints.
fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A folder with the file `conclave.toml`, and the name of that.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conclave.toml");
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[track_caller]
fn has_line(text: &str, line: &str) {
    assert!(
        text.lines().any(|other| other == line),
        "no {line:?} in\n{text}"
    );
}

#[test]
fn every_service_prints_its_settings_with_where_each_comes_from() {
    let text =
        "log_format = \"json\"\n\n[coordinator]\nmodel = \"synth:tiny\"\nranks = 2\nhold = 7\n";
    let (_folder, path) = file(text);
    let mut command = conclave(&["coordinator", "--check-config", "--config", &path]);
    command.args(["--store", "etcd-0:2379,etcd-1:2379"]);
    let (status, printed, said) = ended(command.env("CONCLAVE_KV_MEMORY", "4GiB"));
    assert_eq!((status, said.as_str()), (Some(0), ""));
    has_line(&printed, &format!("log_format = \"json\" # {path}:1"));
    has_line(&printed, &format!("hold = 7 # {path}:6"));
    has_line(&printed, "kv_memory = \"4GiB\" # CONCLAVE_KV_MEMORY");
    has_line(
        &printed,
        "store = [\"etcd-0:2379\", \"etcd-1:2379\"] # flag",
    );
    has_line(&printed, "grpc = \"127.0.0.1:7100\" # default");
    has_line(&printed, "# name is not set");
    has_line(&printed, "# the model was not opened");

    let mut worker = conclave(&["worker", "--check-config", "--model", "synth:tiny"]);
    let (status, printed, _) = ended(worker.env("CONCLAVE_CONFIG", &path));
    assert_eq!(status, Some(0));
    has_line(&printed, "[worker]");
    has_line(&printed, "model = \"synth:tiny\" # flag");
    // A name that is made of host and port is the same at the next start.
    has_line(&printed, "listen = \"127.0.0.1:7200\" # default");

    let (status, printed, _) = ended(&mut conclave(&["up", "--check-config"]));
    assert_eq!(status, Some(0));
    has_line(&printed, "workers = 2 # default");
}

#[test]
fn the_example_is_taken_as_it_is_and_with_all_its_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conclave.toml");
    let example = fs::read_to_string(&path).unwrap();
    // What has no default shows a word in its place.
    let is_default = |line: &&str| {
        let value = line.split_once(" = ").map(|(_, value)| value);
        value.is_some_and(|value| {
            value == "false" || value.starts_with(['"', '[']) || value.parse::<u64>().is_ok()
        })
    };
    let live = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') && is_default(&key) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    let (_folder, all) = file(&example.lines().map(live).collect::<String>());
    for service in SERVICES {
        let run = |file: &str| {
            let mut command = conclave(&[service, "--check-config", "--config", file]);
            if service != "up" {
                command.args(["--model", "synth:tiny"]);
            }
            if service == "coordinator" {
                command.args(["--ranks", "1"]);
            }
            let (status, printed, said) = ended(&mut command);
            assert_eq!((status, said.as_str()), (Some(0), ""), "{service}");
            printed
        };
        let values = |printed: &str| -> Vec<String> {
            let values = printed
                .lines()
                .map(|line| line.split(" # ").next().unwrap());
            values.map(str::to_owned).collect()
        };
        let (plain, with_defaults) = (run(path.to_str().unwrap()), run(&all));
        assert_eq!(values(&plain), values(&with_defaults), "{service}");
        assert!(!plain.contains("conclave.toml:"), "{plain}");
        assert!(!with_defaults.contains("# default"), "{with_defaults}");
    }
}

#[test]
fn mistakes_end_a_start_and_a_check_alike_with_all_that_is_wrong() {
    let text = "[coordinator]\nkv_memry = \"1GiB\"\nhold = \"2m\"\n[worker]\nlisten = \"here\"\n";
    let (_folder, path) = file(text);
    for service in SERVICES {
        for check in [&["--check-config"][..], &[]] {
            let mut command = conclave(&[service, "--config", &path]);
            let (status, printed, said) = ended(command.args(check));
            assert_eq!((status, printed.as_str()), (Some(2), ""), "{said}");
            let nearest = "unknown key `kv_memry` under [coordinator]; the nearest known one is";
            has_line(&said, &format!("error: {path}:2: {nearest} `kv_memory`"));
            let hold = "`hold` under [coordinator]: expected SECONDS, found '2m'";
            assert!(
                said.contains(&format!("error: {path}:3: {hold}: ")),
                "{said}"
            );
            let listen = "`listen` under [worker]: expected ADDRESS, found 'here'";
            assert!(
                said.contains(&format!("error: {path}:5: {listen}: ")),
                "{said}"
            );
            assert_eq!(said.lines().count(), 3, "{said}");
        }
    }
}

#[test]
fn what_is_missing_is_told_with_its_flag_its_variable_and_its_key() {
    let (status, _, said) = ended(&mut conclave(&["coordinator"]));
    assert_eq!(status, Some(2));
    let ways =
        "give it as --ranks <N>, as CONCLAVE_RANKS, or as `ranks` under [coordinator] in a file";
    has_line(
        &said,
        &format!("error: `ranks` is missing: {ways} (--config FILE)"),
    );
    assert!(said.contains("error: `model` is missing: "), "{said}");
}

#[test]
fn settings_that_do_not_go_together_are_found_without_a_start() {
    let coordinator = ["coordinator", "--model=synth:tiny", "--ranks=1"];
    let worker = ["worker", "--model=synth:tiny"];
    let up = ["up"];
    for (service, wrong, part) in [
        (
            &coordinator[..],
            "--store=memory,etcd:2379",
            "memory stands alone",
        ),
        (&coordinator[..], "--store=etcd", "endpoint"),
        (&coordinator[..], "--cluster=a/b", "cannot name a cluster"),
        (
            &coordinator[..],
            "--groups=a/b",
            "--groups: \"a/b\" is no name",
        ),
        (
            &coordinator[..],
            "--advertise=here",
            "--advertise: \"here\" is not http://HOST:PORT",
        ),
        (
            &coordinator[..],
            "--advertise-grpc=https://here",
            "--advertise-grpc: \"https://here\" is neither http://HOST:PORT nor https://HOST:PORT",
        ),
        (
            &coordinator[..],
            "--steps-in-flight=5",
            "--steps-in-flight 5: 1 to 4",
        ),
        (
            &coordinator[..],
            "--hold=18446744073709551615",
            "is not in 0..=86400",
        ),
        (
            &coordinator[..],
            "--drain=86401",
            "86401 is not in 0..=86400",
        ),
        (&worker[..], "--drain=1d", "--drain"),
        (&worker[..], "--ranks=65", "65 is more than 64"),
        (&worker[..], "--group=a/b", "is no name"),
        (&worker[..], "--advertise=here", "is not http://HOST:PORT"),
        (
            &worker[..],
            "--advertise-admin=http://ops:pw@gw:9100",
            "is neither http://HOST:PORT nor https://HOST:PORT",
        ),
        (&worker[..], "--name=a/b", "\"a/b\" is no name"),
        (&up[..], "--http=127.0.0.1:0", "choose a port"),
        (
            &up[..],
            "--workers=1025",
            "--ranks 1025: a group has 1 to 1024 ranks",
        ),
        (&up[..], "--model=synth:huge", "--model synth:huge: "),
    ] {
        let (status, printed, said) = ended(conclave(service).args([wrong, "--check-config"]));
        assert_eq!((status, printed.as_str()), (Some(2), ""), "{wrong}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains(part),
            "{wrong}: {said}"
        );
        let (status, _, said) = ended(conclave(service).arg(wrong));
        assert_eq!(status, Some(2), "{wrong}: {said}");
        assert!(said.contains(part), "{wrong}: {said}");
    }
}

#[test]
fn clients_read_no_file() {
    let (_folder, path) = file("not TOML");
    let mut inspect = conclave(&["inspect", "synth:tiny"]);
    let (status, _, said) = ended(inspect.env("CONCLAVE_CONFIG", &path));
    assert_eq!(status, Some(0), "{said}");
}

/// Ends a process that was started, also where a test fails.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).ok();
        self.0.wait().ok();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The variables that each child of a process began with; any thread of it may be the parent.
fn environments_of_children(parent: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let mut found = Vec::new();
    for thread in threads {
        let children = fs::read_to_string(thread.unwrap().path().join("children")).unwrap();
        for id in children.split_whitespace() {
            let bytes = fs::read(format!("/proc/{id}/environ")).unwrap();
            found.push(String::from_utf8_lossy(&bytes).replace('\0', "\n"));
        }
    }
    found
}

#[test]
fn children_of_up_get_their_settings_from_it_alone() {
    let (grpc, http) = (free_port(), free_port());
    let text = format!(
        "[up]\nmodel = \"synth:tiny\"\nworkers = 2\nthreads_per_worker = 1\n\
         grpc = \"127.0.0.1:{grpc}\"\nhttp = \"127.0.0.1:{http}\"\n\
         [worker]\nname = \"filed\"\ngroup = \"filed\"\n[coordinator]\ngroups = [\"filed-too\"]\n"
    );
    let (_folder, path) = file(&text);
    let mut up = conclave(&["up"]);
    // Each of these would keep the group from being complete, in one child or the other.
    up.env("CONCLAVE_CONFIG", &path)
        .env("CONCLAVE_NAME", "varied")
        .env("CONCLAVE_GROUP", "varied")
        .env("CONCLAVE_ADVERTISE", "http://127.0.0.1:1")
        .env("CONCLAVE_CLUSTER", "varied")
        .env("CONCLAVE_LOG_FORMAT", "json")
        .env("CONCLAVE_LOG", "info");
    let mut up = up
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let up = Ending(up);
    let (sender, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // To the end, so that it never waits for us.
        for line in lines.map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    let ready = said.recv_timeout(READY).expect("it is ready in time");
    assert!(ready.starts_with("ready: "), "{ready}");
    assert!(ready.contains(&grpc.to_string()), "{ready}");
    let environments = environments_of_children(up.0.id());
    assert_eq!(environments.len(), 3);
    for environment in environments {
        let ours = environment
            .lines()
            .filter(|line| line.starts_with("CONCLAVE_"));
        assert_eq!(
            ours.collect::<Vec<_>>(),
            ["CONCLAVE_LOG=info"],
            "no setting, but the filter"
        );
    }
}
