//! Worker processes, as far as the exchange sees them: a runtime, a server and a hub of their own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use exchange::{Exchange, ExchangeError, HostExchange, Moment};
use exchange_grpc::{Hub, Peer, Wire, server};
use kernels::{Dispatch, Received};
use sockets::{Dialer, Listener};
use spec::{Epoch, Fence, Rank, StepNumber, Term};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

/// The group of all processes.
pub(crate) const GROUP: &str = "0";

/// The epoch most tests are in.
pub(crate) const FENCE: Fence = Fence {
    term: Term(2),
    epoch: Epoch(5),
};

/// The epoch after [`FENCE`].
pub(crate) const NEXT: Fence = Fence {
    term: Term(2),
    epoch: Epoch(6),
};

/// A worker process: everything of it ends with its runtime.
pub(crate) struct Process {
    pub(crate) hub: Hub,
    pub(crate) address: String,
    /// Connections that came so far.
    connections: Arc<AtomicUsize>,
    runtime: Mutex<Option<Runtime>>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    served: Mutex<Option<JoinHandle<()>>>,
}

impl Process {
    pub(crate) fn start() -> Self {
        let builder = &mut tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(Listener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().to_string();
        let _inside = runtime.enter();
        let hub = Hub::new(Dialer::default(), GROUP);
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let incoming = listener.map(move |connection| {
            counter.fetch_add(1, Ordering::Relaxed);
            connection
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = server()
            .add_service(hub.service())
            .serve_with_incoming_shutdown(incoming, async {
                stopped.await.ok();
            });
        let served = runtime.spawn(async { serving.await.unwrap() });
        Self {
            hub,
            address,
            connections,
            runtime: Mutex::new(Some(runtime)),
            stop: Mutex::new(Some(stop)),
            served: Mutex::new(Some(served)),
        }
    }

    /// Starts a process that takes lanes from others of this machine.
    pub(crate) fn start_with_door() -> Self {
        let process = Self::start();
        process.hub.open_door(&process.address).unwrap();
        process
    }

    pub(crate) fn num_connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Ends everything at once, as the end of a process does: its sockets are closed by the kernel.
    pub(crate) fn kill(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }

    /// Asks the server to end in order, and waits until it has.
    pub(crate) fn shut_down(&self) {
        drop(self.stop.lock().unwrap().take());
        let served = self.served.lock().unwrap().take().unwrap();
        let runtime = self.runtime.lock().unwrap();
        let ended = async { tokio::time::timeout(Duration::from_secs(10), served).await };
        runtime
            .as_ref()
            .unwrap()
            .block_on(ended)
            .expect("it ends")
            .unwrap();
    }

    /// Runs a future in this process.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .block_on(future)
    }

    pub(crate) fn peer(&self, ranks: &[u32]) -> Peer {
        Peer {
            address: self.address.clone(),
            ranks: ranks.iter().copied().map(Rank).collect(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns as many processes as said, each with a door.
pub(crate) fn with_doors<const N: usize>() -> [Process; N] {
    std::array::from_fn(|_| Process::start_with_door())
}

/// Lets processes with these ranks enter an epoch.
pub(crate) fn enter(
    processes: &[Process],
    ranks: &[&[u32]],
    fence: Fence,
) -> Vec<Vec<HostExchange<Wire>>> {
    (0..processes.len())
        .map(|own| {
            let peers = (0..processes.len()).filter(|peer| *peer != own);
            let peers = peers
                .map(|peer| processes[peer].peer(ranks[peer]))
                .collect();
            let own_ranks: Vec<Rank> = ranks[own].iter().copied().map(Rank).collect();
            processes[own].hub.enter(fence, &own_ranks, peers).unwrap()
        })
        .collect()
}

/// Two processes of one rank each, in [`FENCE`].
pub(crate) fn pair() -> ([Process; 2], [HostExchange<Wire>; 2]) {
    let processes = [Process::start(), Process::start()];
    let exchanges: Vec<_> = enter(&processes, &[&[0], &[1]], FENCE)
        .into_iter()
        .flatten()
        .collect();
    (processes, exchanges.try_into().unwrap())
}

/// Dispatches one row to each of two ranks, of one expert each.
pub(crate) fn dispatch(
    exchange: &mut HostExchange<Wire>,
    fence: Fence,
    step: u64,
) -> Result<Received, ExchangeError> {
    exchange.dispatch(Dispatch {
        moment: Moment {
            fence,
            step: StepNumber(step),
            layer: 0,
        },
        hidden: 2,
        k: 1,
        rows: &[1.0, 2.0, 3.0, 4.0],
        experts: &[0, 1],
        owners: &[Rank(0), Rank(1)],
    })
}

/// One whole exchange between two ranks.
pub(crate) fn round(exchanges: &mut [HostExchange<Wire>; 2], fence: Fence, step: u64) {
    std::thread::scope(|scope| {
        for exchange in exchanges {
            scope.spawn(move || {
                let received = dispatch(exchange, fence, step).unwrap();
                let returned = exchange.combine(&received, &received.rows).unwrap();
                assert_eq!(returned.outputs, [1.0, 2.0, 3.0, 4.0]);
            });
        }
    });
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(10), "in time: {what}");
        std::thread::yield_now();
    }
}
