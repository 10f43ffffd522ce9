//! A way to the store that can be frozen and cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use crate::server::Address;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Takes bytes and keeps them.
    Frozen,
    /// Has no connections and takes none.
    Cut,
}

/// A listener whose connections lead to a store.
pub(crate) struct Proxy {
    address: String,
    mode: watch::Sender<Mode>,
    target: watch::Sender<Address>,
    /// Reads from clients that are being kept.
    kept: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn start(target: Address) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap().to_string(),
            mode: watch::Sender::new(Mode::Open),
            target: watch::Sender::new(target),
            kept: Arc::default(),
        };
        let (mode, target) = (proxy.mode.clone(), proxy.target.clone());
        let kept = Arc::clone(&proxy.kept);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let connection = Connection {
                    mode: mode.subscribe(),
                    kept: Arc::clone(&kept),
                };
                if *mode.borrow() != Mode::Cut {
                    let target = target.borrow().clone();
                    tokio::spawn(connection.run(client, target));
                }
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Ends all connections, and takes none until [`Proxy::mend`].
    pub(crate) fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Lets nothing through until [`Proxy::mend`].
    pub(crate) fn freeze(&self) {
        self.kept.store(0, Ordering::Relaxed);
        self.mode.send_replace(Mode::Frozen);
    }

    pub(crate) fn mend(&self) {
        self.mode.send_replace(Mode::Open);
    }

    /// Sends new connections to another store, and ends the others.
    pub(crate) fn turn_to(&self, target: Address) {
        self.target.send_replace(target);
        self.cut();
    }

    /// Waits until something that a client has sent is being kept.
    pub(crate) async fn has_kept(&self) {
        while self.kept.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

struct Connection {
    mode: watch::Receiver<Mode>,
    kept: Arc<AtomicUsize>,
}

impl Connection {
    async fn run(self, client: TcpStream, target: Address) {
        client.set_nodelay(true).unwrap();
        match target {
            Address::Tcp(address) => {
                let Ok(server) = TcpStream::connect(address).await else {
                    return;
                };
                server.set_nodelay(true).unwrap();
                self.join(client.into_split(), server.into_split()).await;
            }
            Address::Unix(path) => {
                let Ok(server) = UnixStream::connect(path).await else {
                    return;
                };
                self.join(client.into_split(), server.into_split()).await;
            }
        }
    }

    async fn join(
        mut self,
        client: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
        server: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    ) {
        let (up, down) = (self.mode.clone(), self.mode.clone());
        tokio::select! {
            () = pump(client.0, server.1, up, Some(&self.kept)) => {}
            () = pump(server.0, client.1, down, None) => {}
            _ = self.mode.wait_for(|mode| *mode == Mode::Cut) => {}
        }
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    kept: Option<&AtomicUsize>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if *mode.borrow() == Mode::Frozen
            && let Some(kept) = kept
        {
            kept.fetch_add(1, Ordering::Relaxed);
        }
        if mode.wait_for(|mode| *mode == Mode::Open).await.is_err()
            || to.write_all(&bytes[..read]).await.is_err()
        {
            return;
        }
    }
}
