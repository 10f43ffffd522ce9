//! A coordinator as the tests play it: it has the membership store, leads, and takes registrations or
//! refuses them.

use std::net::SocketAddr;
use std::sync::Arc;

use prost::Message as _;
use proto::internal as wire;
use proto::internal::LeadRecord;
use proto::internal::cluster_service_server::{ClusterService, ClusterServiceServer};
use store::{MemoryStore, Store, Txn};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use wire::attend_request::Message;

/// What a coordinator heard.
#[derive(Debug)]
pub(crate) enum Heard {
    Registration(Box<wire::Registration>),
    Heartbeat,
}

/// Says what to answer to a registration.
pub(crate) type Verdict = Arc<dyn Fn() -> Option<Status> + Send + Sync>;

pub(crate) struct Coordinator {
    pub(crate) heard: mpsc::UnboundedReceiver<Heard>,
    pub(crate) store: Store,
    stop: CancellationToken,
    server: JoinSet<()>,
}

/// The membership store that a coordinator serves.
pub(crate) fn store_at(address: SocketAddr) -> Store {
    let config = store::Config {
        endpoints: vec![address.to_string()],
        cluster: "test".into(),
        dialer: sockets::Dialer::default(),
    };
    Store::new(config).unwrap()
}

#[derive(Clone)]
struct Service {
    heard: mpsc::UnboundedSender<Heard>,
    verdict: Verdict,
    stop: CancellationToken,
}

impl Coordinator {
    pub(crate) async fn start(address: SocketAddr, verdict: Verdict) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let service = Service {
            heard: sender,
            verdict,
            stop: stop.clone(),
        };
        let mut server = JoinSet::new();
        let memory = MemoryStore::new();
        let ticking = (memory.clone(), stop.clone());
        server.spawn(async move { ticking.0.run(ticking.1).await });
        let serve = Server::builder()
            .add_routes(memory.routes())
            .add_service(ClusterServiceServer::new(service))
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        server.spawn(async move { serve.await.unwrap() });
        let store = store_at(address);
        let lead = LeadRecord {
            name: "c0".into(),
            incarnation: 1,
            address: format!("http://{address}"),
            term: 3,
        };
        let lead = Txn::new().put(records::lead_key("0"), lead.encode_to_vec(), None);
        store.txn(lead).await.unwrap();
        (
            Self {
                heard,
                store,
                stop,
                server,
            },
            address,
        )
    }

    pub(crate) async fn registration(&mut self) -> wire::Registration {
        loop {
            if let Heard::Registration(registration) = self.heard.recv().await.unwrap() {
                return *registration;
            }
        }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.server.join_next().await {
            ended.unwrap();
        }
    }
}

#[tonic::async_trait]
impl ClusterService for Service {
    type AttendStream = ReceiverStream<Result<wire::AttendResponse, Status>>;

    async fn attend(
        &self,
        request: Request<Streaming<wire::AttendRequest>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests
            .message()
            .await?
            .and_then(|request| request.message);
        let Some(Message::Registration(registration)) = first else {
            return Err(Status::invalid_argument(
                "the first message is the registration",
            ));
        };
        self.heard
            .send(Heard::Registration(Box::new(registration)))
            .ok();
        if let Some(refusal) = (self.verdict)() {
            return Err(refusal);
        }
        let (answers, stream) = mpsc::channel(4);
        let service = self.clone();
        tokio::spawn(async move {
            let mut released = false;
            loop {
                let answer = wire::AttendResponse {
                    term: 3,
                    released,
                    drain: false,
                };
                answers.send(Ok(answer)).await.ok();
                let request = tokio::select! {
                    request = requests.message() => request,
                    () = service.stop.cancelled() => return,
                };
                match request.map(|request| request.and_then(|request| request.message)) {
                    Ok(Some(Message::Heartbeat(beat))) => {
                        released = beat.draining;
                        service.heard.send(Heard::Heartbeat).ok();
                    }
                    _ => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
