//! A network between a lead and a worker that can go wrong.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Passes bytes on between whoever connects and a worker.
pub(crate) struct Relay {
    pub(crate) address: String,
    silent: CancellationToken,
    tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn start(worker: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let worker = worker.strip_prefix("http://").unwrap().to_owned();
        let silent = CancellationToken::new();
        let (mut tasks, token) = (JoinSet::new(), silent.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(&worker).await.unwrap();
                let (near, far) = (near.into_split(), far.into_split());
                connections.spawn(pass(near.0, far.1, token.clone()));
                connections.spawn(pass(far.0, near.1, token.clone()));
            }
        });
        Self {
            address,
            silent,
            tasks,
        }
    }

    /// Passes nothing on any more, and closes nothing either: so looks a process that was stopped,
    /// or a cable that was pulled.
    pub(crate) fn fall_silent(&self) {
        self.silent.cancel();
    }

    /// Closes all connections, as the death of a process does.
    pub(crate) async fn cut(&mut self) {
        self.tasks.shutdown().await;
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    silent: CancellationToken,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            () = silent.cancelled() => return std::future::pending().await,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(count) if to.write_all(&bytes[..count]).await.is_err() => return,
            Ok(_) => {}
        }
    }
}
