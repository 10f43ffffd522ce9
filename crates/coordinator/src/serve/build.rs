//! The parts of a coordinator, and the tasks they run on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use cluster::{Candidate, LeadRecord};
use presence::{Presence, Record};
use proto::internal::CoordinatorRecord;
use proto::internal::admin_service_server::AdminServiceServer;
use proto::internal::cluster_service_server::ClusterServiceServer;
use proto::internal::lead_service_server::LeadServiceServer;
use sockets::{Dialer, Listener};
use spec::Term;
use store::{LeaseId, MemoryStore, Store};
use telemetry::CoordinatorTelemetry;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;

use super::running::{Present, Seat};
use super::{Config, Error, StoreAt};
use crate::election::{Election, patience};
use crate::front::Front;
use crate::lead::{Admin, Attend, HandOver, LeadConfig, Leads};
use crate::limits;
use crate::tenure::Tenure;

/// Starts the parts; a part that fails by itself ends the coordinator.
pub(super) struct Builder {
    pub(super) tasks: TaskTracker,
    /// Everything but the front ends.
    pub(super) end: CancellationToken,
    failing: mpsc::Sender<Error>,
}

/// What the groups that may be led here have in common.
pub(super) struct Place<'a> {
    pub(super) store: &'a Store,
    pub(super) dialer: &'a Dialer,
    pub(super) lease: &'a watch::Sender<Option<LeaseId>>,
    pub(super) lead: &'a LeadConfig,
    pub(super) leads: &'a Leads,
    pub(super) me: LeadRecord,
    pub(super) groups: &'a [String],
    pub(super) telemetry: &'a CoordinatorTelemetry,
}

impl Place<'_> {
    /// Returns a group's place in the configuration.
    fn number(&self, group: &str) -> usize {
        let mut groups = self.groups.iter();
        groups.position(|its| its == group).unwrap_or_default()
    }
}

/// Where operators' orders to the groups' elections go, and come from.
pub(super) struct Orders {
    pub(super) to: BTreeMap<String, mpsc::Sender<HandOver>>,
    pub(super) from: BTreeMap<String, mpsc::Receiver<HandOver>>,
}

impl Orders {
    pub(super) fn new(groups: &[String]) -> Self {
        let (mut to, mut from) = (BTreeMap::new(), BTreeMap::new());
        for group in groups {
            let (sender, receiver) = mpsc::channel(limits::HAND_OVER_QUEUE);
            to.insert(group.clone(), sender);
            from.insert(group.clone(), receiver);
        }
        Self { to, from }
    }
}

impl Builder {
    pub(super) fn new(failing: mpsc::Sender<Error>) -> Self {
        Self {
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
            failing,
        }
    }

    /// Runs a part; a failure of its own ends the coordinator.
    pub(super) fn watch(
        &self,
        server: &'static str,
        run: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        let failing = self.failing.clone();
        self.tasks.spawn(async move {
            if let Err(why) = run.await {
                // One failure is enough to end; a second finds the place taken.
                drop(failing.try_send(Error::Server { server, why }));
            }
        });
    }

    /// Serves workers and fronts, and the membership store where it is in memory; returns the way to
    /// the store.
    pub(super) fn internal(
        &self,
        config: &Config,
        incarnation: u64,
        listener: Listener,
        leads: &Leads,
        (orders, shutdown): (BTreeMap<String, mpsc::Sender<HandOver>>, CancellationToken),
    ) -> Result<Store, Error> {
        let attend = Attend::new(leads.clone(), self.tasks.clone());
        let lead = LeadServiceServer::new(leads.clone())
            .max_decoding_message_size(limits::MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(limits::MAX_INTERNAL_MESSAGE);
        let (endpoints, routes) = match &config.store {
            StoreAt::Endpoints(endpoints) => (endpoints.clone(), Routes::default()),
            StoreAt::Memory => {
                let local = listener.local_addr();
                let (memory, end) = (MemoryStore::new(), self.end.clone());
                let routes = memory.routes();
                self.tasks.spawn(async move { memory.run(end).await });
                (vec![reachable_here(local).to_string()], routes)
            }
        };
        let store = Store::new(store::Config {
            endpoints,
            cluster: config.cluster.clone(),
            dialer: config.dialer.clone(),
        });
        let store = store.map_err(|error| Error::Config(error.to_string()))?;
        let admin = Admin {
            name: config.name.clone(),
            incarnation,
            shutdown,
            leads: leads.clone(),
            store: store.clone(),
            elections: orders,
        };
        let routes = routes
            .add_service(AdminServiceServer::new(admin))
            .add_service(presence::identity(&config.name, incarnation))
            .add_service(ClusterServiceServer::new(attend))
            .add_service(lead);
        let server = Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(limits::KEEPALIVE))
            .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
            .add_routes(routes);
        let internal =
            server.serve_with_incoming_shutdown(listener, self.end.clone().cancelled_owned());
        self.watch("internal server", async {
            internal.await.map_err(|error| error.to_string())
        });
        Ok(store)
    }

    /// Keeps the coordinator's record in the membership store.
    pub(super) fn present(
        &self,
        (store, dialer): (Store, Dialer),
        record: CoordinatorRecord,
        lease: watch::Sender<Option<LeaseId>>,
    ) -> Present {
        let present = Present {
            draining: CancellationToken::new(),
            leave: CancellationToken::new(),
            left: CancellationToken::new(),
        };
        let presence = Presence {
            store,
            dialer,
            record: Record::Coordinator(record),
            lease,
            draining: present.draining.clone(),
        };
        let (leave, left) = (present.leave.clone(), present.left.clone().drop_guard());
        self.watch("membership", async move {
            let kept = presence.keep(leave).await;
            drop(left);
            kept.map_err(|error| error.to_string())
        });
        present
    }

    /// Takes part in the election of a group's lead, and leads when it is won.
    pub(super) fn group(
        &self,
        group: &str,
        orders: mpsc::Receiver<HandOver>,
        place: &Place<'_>,
    ) -> Seat {
        let (office, elected) = watch::channel(None);
        let (outranking, outranked) = watch::channel(Term(0));
        let leave = CancellationToken::new();
        let shown = (place.telemetry.clone(), place.number(group));
        let election = Election {
            shown: shown.clone(),
            store: place.store.clone(),
            group: group.to_owned(),
            candidate: Candidate::new(place.me.clone(), patience(&place.me.name, group)),
            lease: place.lease.subscribe(),
            outranked,
            office,
            resigned: 0,
            orders,
            draining: leave.clone(),
        };
        self.tasks.spawn(election.run(self.end.clone()));
        let tenure = Tenure {
            group: group.to_owned(),
            config: place.lead.clone(),
            incarnation: place.me.incarnation,
            dialer: place.dialer.clone(),
            shown: shown.clone(),
            office: elected.clone(),
            outranked: outranking,
            leads: place.leads.clone(),
            tasks: self.tasks.clone(),
        };
        self.watch("lead", tenure.run(self.end.clone()));
        Seat {
            group: group.to_owned(),
            leave,
            office: elected,
        }
    }

    /// Serves clients; returns the token that closes both servers.
    pub(super) fn public(
        &self,
        front: &Front,
        grpc: Listener,
        http: Listener,
    ) -> CancellationToken {
        let drained = CancellationToken::new();
        let http = http.bounded(sockets::public_connections(), limits::HTTP1_FIRST);
        let grpc = super::grpc::serve(grpc, front.grpc(), drained.clone());
        let http = super::http::serve(http, front.http(), drained.clone());
        self.watch("gRPC server", async {
            grpc.await.map_err(|error| error.to_string())
        });
        self.tasks.spawn(http);
        drained
    }
}

/// Returns where this process reaches a listener of its own.
fn reachable_here(local: SocketAddr) -> SocketAddr {
    match local.ip().is_unspecified() {
        true => (Ipv4Addr::LOCALHOST, local.port()).into(),
        false => local,
    }
}
