//! The two stores, each as a process or task of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use sockets::{Connection, Dialer, Listener};
use store::{Config, MemoryStore, Store};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::proxy::Proxy;

/// Longer than any case takes; what does not come by then does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// Where `cargo xtask test` says that etcd's program is.
const ETCD: &str = "CONCLAVE_TEST_ETCD";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Etcd,
}

#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

/// A store behind a proxy.
pub(crate) struct Server {
    pub(crate) proxy: Proxy,
    backend: Backend,
}

enum Backend {
    Memory { _stop: DropGuard, address: Address },
    Etcd(Etcd),
}

/// etcd, with its data in a folder that may outlive it.
struct Etcd {
    program: PathBuf,
    folder: TempDir,
    child: Child,
}

/// Runs a case, or says that it cannot.
pub(crate) fn run<F: Future<Output = ()>>(kind: Kind, case: impl FnOnce(Server) -> F) {
    let etcd = std::env::var_os(ETCD).map(PathBuf::from);
    if kind == Kind::Etcd && etcd.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{ETCD} is not set; run 'cargo xtask test --only unit', which brings etcd"
        );
        // Not `eprintln!`, which is shown of failed tests only.
        let why = "run 'cargo xtask test --only unit', which brings it";
        let mut errors = std::io::stderr();
        writeln!(errors, "SKIPPED a case on etcd: {why}").unwrap();
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let backend = match etcd.filter(|_| kind == Kind::Etcd) {
            Some(program) => Backend::Etcd(Etcd::start(program)),
            None => memory().await,
        };
        let server = Server {
            proxy: Proxy::start(backend.address()).await,
            backend,
        };
        within(server.store("start").ready()).await;
        within(case(server)).await;
    });
    runtime.shutdown_background();
}

/// Waits for what has to come.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    (tokio::time::timeout(PATIENCE, what).await).expect("it has to come")
}

impl Server {
    /// A client that goes through the proxy.
    pub(crate) fn store(&self, cluster: &str) -> Store {
        client(&[self.proxy.address()], cluster)
    }

    /// A client of etcd's API itself, which goes around the proxy.
    pub(crate) async fn direct(&self) -> etcd_client::Client {
        let endpoint = tonic::transport::Endpoint::from_static("http://store");
        let channel = around(self.backend.address()).connect_lazy(&endpoint);
        let channel = etcd_client::Channel::Tonic(channel);
        etcd_client::Client::from_channel(channel, None)
            .await
            .unwrap()
    }

    /// A client that goes around the proxy.
    pub(crate) fn behind(&self, cluster: &str) -> Store {
        let config = Config {
            endpoints: vec!["around.the.proxy:1".into()],
            cluster: cluster.into(),
            dialer: around(self.backend.address()),
        };
        Store::new(config).unwrap()
    }

    /// Lets the store die and come back with what it had: etcd by `kill -9`; memory has nothing without
    /// its process, so there it is the connections that die.
    pub(crate) async fn crash(&mut self) {
        self.proxy.cut();
        if let Backend::Etcd(etcd) = &mut self.backend {
            etcd.kill().await;
            etcd.child = spawn(&etcd.program, etcd.folder.path());
        }
        self.proxy.mend();
    }

    /// Lets the store die and come back with nothing; the proxy stays cut.
    pub(crate) async fn wipe(&mut self) {
        self.proxy.cut();
        match &mut self.backend {
            Backend::Etcd(etcd) => {
                etcd.kill().await;
                std::fs::remove_dir_all(etcd.folder.path().join("data")).unwrap();
                etcd.child = spawn(&etcd.program, etcd.folder.path());
            }
            memory @ Backend::Memory { .. } => *memory = self::memory().await,
        }
        self.proxy.turn_to(self.backend.address());
    }

    /// Stops the store where it stands: etcd by SIGSTOP; memory lives in this process.
    pub(crate) fn pause(&self) {
        match &self.backend {
            Backend::Etcd(etcd) => etcd.signal(Signal::STOP),
            Backend::Memory { .. } => self.proxy.freeze(),
        }
    }

    pub(crate) fn resume(&self) {
        match &self.backend {
            Backend::Etcd(etcd) => etcd.signal(Signal::CONT),
            Backend::Memory { .. } => self.proxy.mend(),
        }
    }
}

/// A client of some endpoints.
pub(crate) fn client(endpoints: &[&str], cluster: &str) -> Store {
    let config = Config {
        endpoints: endpoints.iter().map(|&endpoint| endpoint.into()).collect(),
        cluster: cluster.into(),
        dialer: Dialer::default(),
    };
    Store::new(config).unwrap()
}

/// How to connect to a store wherever it listens, whatever it is called.
fn around(address: Address) -> Dialer {
    Dialer::new(move |_| {
        let address = address.clone();
        async move {
            let none = (None, None);
            Ok(match address {
                Address::Tcp(at) => Connection::new(TcpStream::connect(at).await?, none),
                Address::Unix(at) => Connection::new(UnixStream::connect(at).await?, none),
            })
        }
    })
}

impl Backend {
    fn address(&self) -> Address {
        match self {
            Self::Memory { address, .. } => address.clone(),
            Self::Etcd(etcd) => Address::Unix(etcd.folder.path().join("client:1")),
        }
    }
}

async fn memory() -> Backend {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr());
    let (store, stop) = (MemoryStore::new(), CancellationToken::new());
    let server = tonic::transport::Server::builder().add_routes(store.routes());
    let ended = stop.clone().cancelled_owned();
    tokio::spawn(server.serve_with_incoming_shutdown(listener, ended));
    let running = stop.clone();
    tokio::spawn(async move { store.run(running).await });
    Backend::Memory {
        _stop: stop.drop_guard(),
        address,
    }
}

impl Etcd {
    fn start(program: PathBuf) -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            child: spawn(&program, folder.path()),
            program,
            folder,
        }
    }

    async fn kill(&mut self) {
        self.child.kill().await.unwrap();
        _ = std::fs::remove_file(self.folder.path().join("client:1"));
        _ = std::fs::remove_file(self.folder.path().join("peer:1"));
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().unwrap().cast_signed();
        rustix::process::kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }
}

/// Starts etcd on Unix sockets in a folder, so that it needs no port. It writes to no disk that has to
/// outlive the machine, and its clock is fast, so that short leases can be had.
fn spawn(program: &Path, folder: &Path) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    Command::new(program)
        .current_dir(folder)
        .args(["--name", "one", "--data-dir", "data", "--unsafe-no-fsync"])
        .args(["--listen-client-urls", "unix://client:1"])
        .args(["--advertise-client-urls", "http://localhost:1"])
        .args(["--listen-peer-urls", "unix://peer:1"])
        .args(["--initial-advertise-peer-urls", "http://localhost:1"])
        .args(["--initial-cluster", "one=http://localhost:1"])
        .args(["--heartbeat-interval", "10", "--election-timeout", "100"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program:?}: {error}"))
}
