//! Processes: our binary, its children, signals, and waiting for something to become true.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::network::Host;

/// Returns the binary under test, built beside this test.
///
/// # Panics
///
/// If it was not built.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("tests run from target/*/deps");
    let binary = folder.join("conclave");
    assert!(
        binary.exists(),
        "{} is not there: run 'cargo build -p cli'",
        binary.display()
    );
    binary
}

/// A process that is killed when dropped, however the test ends.
#[derive(Debug)]
pub struct Killed(Child);

impl Killed {
    /// Starts the binary under test with these arguments; what it prints is thrown away.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        // Several run at a time.
        command
            .args(arguments)
            .env("CONCLAVE_ADMIN", "127.0.0.1:0")
            .env("CONCLAVE_LISTEN", "127.0.0.1:0");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("the binary starts"))
    }

    /// Starts it on a host of its own.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start_on(host: &Host, arguments: &[&str]) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &host.namespace]);
        command.arg(binary()).args(arguments);
        command.env("CONCLAVE_ADMIN", "127.0.0.1:0");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("the binary starts"))
    }

    /// Counts the connections to a port of its host that somebody holds.
    ///
    /// # Panics
    ///
    /// If the system does not tell.
    #[must_use]
    pub fn connections(&self, port: u16) -> usize {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.0.id()));
        let table = table.expect("a process that runs has a network");
        // Number, our address, the other one, state; 01 is an open connection. Source: proc(5).
        let (port, open) = (format!(":{port:04X}"), "01");
        let is_meant = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().take(4).collect();
            matches!(fields[..], [_, our, _, state] if our.ends_with(&port) && state == open)
        };
        table.lines().filter(is_meant).count()
    }

    /// Tells it to end.
    pub fn signal_end(&self) {
        signal(self.0.id(), Signal::TERM);
    }

    /// Waits until it has ended and returns its exit code.
    ///
    /// # Panics
    ///
    /// If it goes on for longer than any grace of ours.
    #[must_use]
    pub fn ended(mut self) -> Option<i32> {
        let mut code = None;
        wait_until("the process has ended", Duration::from_secs(40), || {
            let status = self.0.try_wait().expect("a child can be waited for");
            code = status.and_then(|status| status.code());
            status.is_some()
        });
        code
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Lists the children of a process whose command line has `word` in it.
#[must_use]
pub fn children_of(parent: u32, word: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which ends at the last parenthesis: state, then the parent.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let mut fields = after.split_whitespace();
        let is_running = fields.next().is_some_and(|state| state != "Z");
        is_running && fields.next() == Some(parent.to_string().as_str())
    };
    let has_word = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|argument| argument == word.as_bytes())
    };
    let mut found: Vec<u32> = pids.filter(is_child).filter(has_word).collect();
    found.sort_unstable();
    found
}

/// Sends a signal to a process that a test started.
pub fn signal(pid: u32, signal: Signal) {
    // It may have ended by itself; the test sees that by what follows.
    kill_process(to_pid(pid), signal).ok();
}

/// Returns whether a process is there, and not merely waiting to be reaped.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let zombie = stat
        .rsplit_once(')')
        .is_some_and(|(_, after)| after.trim_start().starts_with('Z'));
    test_kill_process(to_pid(pid)).is_ok() && !zombie
}

fn to_pid(pid: u32) -> Pid {
    let raw = i32::try_from(pid).expect("process ids are below 2^22");
    Pid::from_raw(raw).expect("no process has the id 0")
}

/// Waits until `claim` holds.
///
/// # Panics
///
/// If it does not within `limit`; `what` says what was waited for.
pub fn wait_until(what: &str, limit: Duration, mut claim: impl FnMut() -> bool) {
    let start = Instant::now();
    while !claim() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
