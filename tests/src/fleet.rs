//! Clusters whose processes are started one by one, each on a host of its own, and hurt one by one.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::network::{Host, Network};
use crate::process::{binary, signal};

/// The model of every fleet.
const MODEL: &str = "synth:tiny,seed=7";

/// How long a process may take to end in order: longer than any grace of ours.
const END: Duration = Duration::from_secs(40);

/// A process on a host.
#[derive(Debug)]
pub struct Node {
    host: Host,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// A store, coordinators and workers; all ended when dropped.
#[derive(Debug)]
pub struct Fleet {
    /// Members of the etcd cluster.
    pub stores: Vec<Node>,
    /// Coordinators, each of which may lead every group.
    pub coordinators: Vec<Node>,
    /// Workers of one rank each, by group.
    pub workers: Vec<Node>,
    network: Network,
    folder: TempDir,
}

impl Node {
    fn new(host: Host, program: &Path, arguments: Vec<String>, log: PathBuf) -> Self {
        let mut node = Self {
            host,
            program: program.to_owned(),
            arguments,
            log,
            child: None,
        };
        node.start();
        node
    }

    /// Starts the process, which must not be running.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let mut log = File::options();
        let log = log.create(true).append(true).open(&self.log);
        let log = log.expect("a log can be written");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host.namespace]);
        command.arg(&self.program).args(&self.arguments);
        let errors = log.try_clone().expect("a file can be opened twice");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        command.env("CONCLAVE_LOG", "info");
        self.child = Some(command.spawn().expect("the program starts"));
    }

    /// Sends a signal to the process.
    pub fn signal(&self, sent: Signal) {
        if let Some(child) = &self.child {
            signal(child.id(), sent);
        }
    }

    /// Kills the process; nobody is told.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Ends the process in order and returns its exit code.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn end(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let mut child = self.child.take()?;
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status.code();
            }
            if begun.elapsed() > END {
                drop(child.kill());
                panic!("{:?} did not end:\n{}", self.arguments, self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns how long it has computed, in ticks of the system's clock.
    ///
    /// # Panics
    ///
    /// If it does not run.
    #[must_use]
    pub fn cpu_time(&self) -> u64 {
        let child = self.child.as_ref().expect("it runs");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
        let stat = stat.expect("a child that runs has its numbers");
        // After the name, which ends at the last parenthesis, user and system time are fields 11 and
        // 12, counted from 0. Source: proc(5).
        let fields = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let times = fields.split_whitespace().skip(11).take(2);
        times.filter_map(|time| time.parse::<u64>().ok()).sum()
    }

    /// Returns its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns what it has logged.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Fleet {
    /// Starts an etcd cluster of `stores` members, so many coordinators, and for each group named as
    /// many workers of one rank; `ranks` make a group complete.
    ///
    /// # Panics
    ///
    /// If a process cannot be started.
    #[must_use]
    pub fn start(
        etcd: &Path,
        stores: usize,
        coordinators: usize,
        groups: &[(&str, usize)],
        ranks: usize,
    ) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let mut network = Network::new();
        let store_hosts: Vec<Host> = (0..stores).map(|_| network.host()).collect();
        let log = |name: String| folder.path().join(name);
        let stores = store_hosts.iter().enumerate().map(|(index, host)| {
            let arguments = etcd_arguments(&store_hosts, index, folder.path());
            Node::new(host.clone(), etcd, arguments, log(format!("store-{index}")))
        });
        let stores: Vec<Node> = stores.collect();
        let endpoints: Vec<String> = store_hosts
            .iter()
            .map(|host| format!("{}:2379", host.address))
            .collect();
        let endpoints = endpoints.join(",");
        let names: Vec<&str> = groups.iter().map(|(name, _)| *name).collect();
        let coordinators = (0..coordinators).map(|index| {
            let host = network.host();
            let arguments = coordinator(&host, index, &endpoints, &names.join(","), ranks);
            Node::new(
                host,
                &binary(),
                arguments,
                log(format!("coordinator-{index}")),
            )
        });
        let coordinators: Vec<Node> = coordinators.collect();
        let mut workers = Vec::new();
        for (group, count) in groups {
            for _ in 0..*count {
                let (host, index) = (network.host(), workers.len());
                let arguments = worker(&host, index, &endpoints, group);
                let log = log(format!("worker-{index}"));
                workers.push(Node::new(host, &binary(), arguments, log));
            }
        }
        Self {
            stores,
            coordinators,
            workers,
            network,
            folder,
        }
    }

    /// Returns where each coordinator serves the gRPC API.
    #[must_use]
    pub fn fronts(&self) -> Vec<String> {
        let hosts = self.coordinators.iter().map(|node| &node.host.address);
        hosts
            .map(|address| format!("http://{address}:7100"))
            .collect()
    }

    /// Returns which coordinator said last that it leads a group.
    ///
    /// # Panics
    ///
    /// If none has said so.
    #[must_use]
    pub fn lead_of(&self, group: &str) -> usize {
        let wanted = format!("this coordinator leads group=\"{group}\" term=");
        let terms = self.coordinators.iter().map(|node| {
            let said = node.said();
            let last = said.lines().rev().find_map(|line| line.split_once(&wanted));
            last.and_then(|(_, term)| term.trim().parse::<u64>().ok())
        });
        let led = terms
            .enumerate()
            .filter_map(|(index, term)| Some((term?, index)));
        led.max().expect("somebody leads").1
    }

    /// Returns a worker of the first group that is part of its latest epoch, by what the workers have logged.
    ///
    /// # Panics
    ///
    /// If none has said so.
    #[must_use]
    pub fn seated(&self) -> usize {
        let latest = |said: &str| {
            let (_, epoch) = said
                .lines()
                .rev()
                .find_map(|line| line.split_once(" ready epoch="))?;
            let (term, epoch) = epoch.split(' ').next()?.split_once('.')?;
            Some((term.parse::<u64>().ok()?, epoch.parse::<u64>().ok()?))
        };
        let epochs = self.workers.iter().map(|node| latest(&node.said()));
        let ready = epochs
            .enumerate()
            .filter_map(|(index, epoch)| Some((epoch?, index)));
        ready.max().expect("some worker is ready").1
    }

    /// Removes all that the members of the etcd cluster have written; none may be running.
    ///
    /// # Panics
    ///
    /// If it cannot be removed.
    pub fn wipe_stores(&self) {
        for index in 0..self.stores.len() {
            let folder = etcd_folder(self.folder.path(), index);
            std::fs::remove_dir_all(folder).expect("a folder can be removed");
        }
    }

    /// Returns everything that was logged, by process.
    #[must_use]
    pub fn said(&self) -> String {
        let all = self.stores.iter().chain(&self.coordinators);
        let all = all.chain(&self.workers);
        let said = all.map(|node| format!("--- {}\n{}", node.log.display(), node.said()));
        said.collect()
    }

    /// Returns the folder of all that the processes write, and the network they are on.
    #[must_use]
    pub fn place(&self) -> (&Path, &Network) {
        (self.folder.path(), &self.network)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Not `eprintln!`, which a test may capture for nobody.
            let mut errors = std::io::stderr();
            drop(writeln!(errors, "{}", self.said()));
        }
    }
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments
        .iter()
        .map(|&argument| argument.to_owned())
        .collect()
}

fn etcd_folder(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("etcd-{index}"))
}

fn etcd_arguments(hosts: &[Host], index: usize, folder: &Path) -> Vec<String> {
    let peer = |host: &Host| format!("http://{}:2380", host.address);
    let named = |(index, host): (usize, &Host)| format!("store-{index}={}", peer(host));
    let members: Vec<String> = hosts.iter().enumerate().map(named).collect();
    let (own, client) = (
        peer(&hosts[index]),
        format!("http://{}:2379", hosts[index].address),
    );
    let data = etcd_folder(folder, index).display().to_string();
    strings(&[
        "--name",
        &format!("store-{index}"),
        "--data-dir",
        &data,
        "--initial-cluster",
        &members.join(","),
        "--initial-cluster-token",
        &folder.display().to_string(),
        "--listen-peer-urls",
        &own,
        "--initial-advertise-peer-urls",
        &own,
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        // The disk of a test machine is slow, and nothing here outlives it.
        "--unsafe-no-fsync",
        "--log-level",
        "error",
    ])
}

fn coordinator(
    host: &Host,
    index: usize,
    endpoints: &str,
    groups: &str,
    ranks: usize,
) -> Vec<String> {
    let at = |port: u16| format!("{}:{port}", host.address);
    strings(&[
        "coordinator",
        "--model",
        MODEL,
        "--name",
        &format!("c{index}"),
        "--store",
        endpoints,
        "--groups",
        groups,
        "--ranks",
        &ranks.to_string(),
        "--kv-memory",
        "16MiB",
        "--internal",
        &at(7101),
        "--grpc",
        &at(7100),
        "--http",
        &at(8000),
        "--admin",
        &at(9100),
    ])
}

fn worker(host: &Host, index: usize, endpoints: &str, group: &str) -> Vec<String> {
    strings(&[
        "worker",
        "--model",
        MODEL,
        "--name",
        &format!("w{index}"),
        "--store",
        endpoints,
        "--group",
        group,
        "--listen",
        &format!("{}:7200", host.address),
        "--admin",
        &format!("{}:9101", host.address),
        "--threads",
        "1",
    ])
}
