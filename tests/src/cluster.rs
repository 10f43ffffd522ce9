//! A cluster of real processes: `conclave up`, on ports of its own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{binary, children_of, signal, wait_until};

/// How long a cluster may take to get ready on a busy machine.
const READY: Duration = Duration::from_secs(90);

/// How long it may take to end.
const END: Duration = Duration::from_secs(40);

/// What kind of cluster to start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `--model`; none leaves the default.
    pub model: Option<String>,
    /// `--workers`.
    pub workers: usize,
    /// `--ranks-per-worker`.
    pub ranks_per_worker: usize,
    /// `--kv-memory`.
    pub kv_memory: &'static str,
    /// Further arguments. Without `--cores` among them, each worker has one thread.
    pub arguments: Vec<String>,
    /// `CONCLAVE_LOG`, where it is set.
    pub log: Option<&'static str>,
}

impl Setup {
    /// The model in the box on some workers of one rank each.
    #[must_use]
    pub fn mini(workers: usize) -> Self {
        Self {
            model: None,
            workers,
            ranks_per_worker: 1,
            kv_memory: "64MiB",
            arguments: Vec::new(),
            log: None,
        }
    }
}

/// A running cluster; ended when dropped.
#[derive(Debug)]
pub struct Cluster {
    up: Child,
    grpc: String,
    http: String,
    admin: String,
    log: TempDir,
}

/// Finds an address that nobody listens on, each time another one.
///
/// It is not one of those that the system hands out by itself, which are 32,768 and up (ip(7)): a socket
/// that is opened before the caller listens could be given it.
///
/// # Panics
///
/// If none is free.
#[must_use]
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other programs of tests may run beside this one.
    let first = (std::process::id() % 200) as u16 * 100;
    let addresses = std::iter::repeat_with(|| {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        format!("127.0.0.1:{}", 11_000 + next % 21_000)
    });
    let mut free = addresses
        .take(21_000)
        .filter(|at| TcpListener::bind(at).is_ok());
    free.next().expect("the machine has free ports")
}

impl Cluster {
    /// Starts a cluster and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it does not get ready; its log is in the message.
    #[must_use]
    pub fn start(setup: &Setup) -> Self {
        let [grpc, http, admin] = [free_address(), free_address(), free_address()];
        let log = TempDir::new().expect("a temporary folder can be made");
        let stderr = std::fs::File::create(log.path().join("log")).expect("a log can be written");
        let mut command = Command::new(binary());
        command.args(["up", "--grpc", &grpc, "--http", &http, "--admin", &admin]);
        command.args(["--kv-memory", setup.kv_memory]);
        command.args(["--workers", &setup.workers.to_string()]);
        if !setup.arguments.iter().any(|flag| flag == "--cores") {
            command.args(["--threads-per-worker", "1"]);
        }
        command.args(["--ranks-per-worker", &setup.ranks_per_worker.to_string()]);
        command.args(setup.model.iter().flat_map(|model| ["--model", model]));
        command
            .args(&setup.arguments)
            .env("HOME", log.path())
            .env_remove("XDG_CACHE_HOME");
        command.envs(setup.log.map(|filter| ("CONCLAVE_LOG", filter)));
        let up = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn();
        let up = up.expect("the binary starts");
        let (grpc, http) = (format!("http://{grpc}"), format!("http://{http}"));
        let mut cluster = Self {
            up,
            grpc,
            http,
            admin,
            log,
        };
        cluster.wait_ready();
        cluster
    }

    /// Waits for the one line that says so; a cluster that never gets ready is killed.
    fn wait_ready(&mut self) {
        let stdout = self.up.stdout.take().expect("the output was asked for");
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end, so that the process never waits for us.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        let line = lines.recv_timeout(READY);
        let is_ready = line.as_ref().is_ok_and(|line| line.starts_with("ready: "));
        assert!(
            is_ready,
            "the cluster is not ready ({line:?}); it said:\n{}",
            self.log()
        );
    }

    /// Returns the URI of the gRPC API.
    #[must_use]
    pub fn grpc(&self) -> &str {
        &self.grpc
    }

    /// Returns a URL of the HTTP API.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.http)
    }

    /// Returns `HOST:PORT` of the coordinator's admin listener.
    #[must_use]
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Returns the process id of `conclave up`.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.up.id()
    }

    /// Lists the workers' process ids.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        children_of(self.id(), "worker")
    }

    /// Returns what was logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path().join("log")).unwrap_or_default()
    }

    /// Ends the cluster as Ctrl-C does and returns its exit code.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn end(mut self) -> Option<i32> {
        signal(self.id(), Signal::INT);
        self.wait_end()
    }

    /// Waits for the cluster to end by itself and returns its exit code.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn wait_end(&mut self) -> Option<i32> {
        let mut code = None;
        wait_until("the cluster ends", END, || match self.up.try_wait() {
            Ok(Some(status)) => {
                code = status.code();
                true
            }
            _ => false,
        });
        code
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprint_log(&self.log());
        }
        // Its children end with it.
        drop(self.up.kill());
        drop(self.up.wait());
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a failed test shows what its cluster said"
)]
fn eprint_log(log: &str) {
    eprintln!("--- log of the cluster ---\n{log}");
}
