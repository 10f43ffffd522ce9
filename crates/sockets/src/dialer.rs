//! Calling another process.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::service_fn;

use crate::connection::Connection;

type Dialing = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

/// Makes connections; TCP by default. Clones dial in the same way.
///
/// Names are looked up each time that a connection is made: a process that has moved is found again.
#[derive(Clone, Default)]
pub struct Dialer(Option<Arc<dyn Fn(Uri) -> Dialing + Send + Sync>>);

impl Dialer {
    /// Returns a dialer that connects by `dial`, which is given what an endpoint is called.
    pub fn new<F>(dial: impl Fn(Uri) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Connection>> + Send + 'static,
    {
        Self(Some(Arc::new(move |to| Box::pin(dial(to)))))
    }

    /// Connects now.
    ///
    /// # Errors
    ///
    /// If nobody answers there within the endpoint's time.
    pub async fn connect(&self, to: &Endpoint) -> Result<Channel, Error> {
        match &self.0 {
            None => to.connect().await,
            Some(dial) => {
                let dial = Arc::clone(dial);
                let dialled = service_fn(move |uri| stream(dial(uri)));
                to.connect_with_connector(dialled).await
            }
        }
    }

    /// Connects when the channel is used first, and again whenever the connection is gone.
    #[must_use]
    pub fn connect_lazy(&self, to: &Endpoint) -> Channel {
        match &self.0 {
            None => to.connect_lazy(),
            Some(dial) => {
                let dial = Arc::clone(dial);
                let dialled = service_fn(move |uri| stream(dial(uri)));
                to.connect_with_connector_lazy(dialled)
            }
        }
    }
}

async fn stream(dialling: Dialing) -> io::Result<TokioIo<Connection>> {
    Ok(TokioIo::new(dialling.await?))
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.0.is_none() { "TCP" } else { "its own" };
        f.debug_tuple("Dialer").field(&kind).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use tokio::io::duplex;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::transport::Server;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;
    use crate::listener::Listener;

    #[tokio::test]
    async fn calls_go_wherever_the_dialer_goes() {
        let (arrive, arrivals) = mpsc::channel(2);
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let listener = Listener::new(local, ReceiverStream::new(arrivals));
        let (_, health) = tonic_health::server::health_reporter();
        let server = Server::builder().add_service(health);
        tokio::spawn(server.serve_with_incoming(listener));

        let dialled = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&dialled);
        let dialer = Dialer::new(move |to: Uri| {
            asked.lock().unwrap().push(to.to_string());
            let arrive = arrive.clone();
            async move {
                let (near, far) = duplex(1 << 16);
                let far = Connection::new(far, (None, None));
                arrive.send(Ok(far)).await.unwrap();
                Ok(Connection::new(near, (None, None)))
            }
        });
        let endpoint = Endpoint::from_static("http://nowhere.invalid:7");
        let now = dialer.connect(&endpoint).await.unwrap();
        for channel in [now, dialer.connect_lazy(&endpoint)] {
            let service = String::new();
            let check = HealthCheckRequest { service };
            HealthClient::new(channel).check(check).await.unwrap();
        }
        let names = dialled.lock().unwrap().clone();
        assert_eq!(names, ["http://nowhere.invalid:7/"; 2]);
    }
}
