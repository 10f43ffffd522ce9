//! The cluster as its membership store has it, and the way to its leads and workers.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::internal::admin_service_client::AdminServiceClient;
use proto::internal::expert_service_client::ExpertServiceClient;
use proto::internal::{
    CoordinatorRecord, CountRowsRequest, CountRowsResponse, DescribeRequest, DescribeResponse,
    LeadRecord, MemberRecord, Registration,
};
use settings::likely;
use sockets::Dialer;
use store::Store;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::args::AdminArgs;
use crate::in_words;

/// How long a process may take to answer: longer than a lead may take to hand over.
const ANSWER: Duration = Duration::from_secs(15);

/// How long connecting to a process may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Largest answer: a placement of many layers is far below.
const MAX_ANSWER: usize = 64 << 20;

/// Everything that lies in the store at one moment.
pub(super) struct Cluster {
    pub(super) store: Store,
    pub(super) members: Vec<MemberRecord>,
    pub(super) coordinators: Vec<CoordinatorRecord>,
    /// By group; none while nobody leads.
    pub(super) groups: BTreeMap<String, Option<LeadRecord>>,
}

impl Cluster {
    /// Reads the store.
    pub(super) async fn read(args: &AdminArgs) -> Result<Self, String> {
        let (cluster, endpoints) = (args.cluster.cluster.clone(), args.store.clone());
        let shown = endpoints.join(",");
        let store = Store::new(store::Config {
            endpoints,
            cluster: cluster.clone(),
            dialer: Dialer::default(),
        });
        let store = store.map_err(in_words)?;
        let no_store = |error| {
            let why = in_words(error);
            format!(
                "no membership store answers at {shown}: {why}; name the right one with --store"
            )
        };
        let listing = store.list("").await.map_err(no_store)?;
        let mut found = Self {
            store,
            members: Vec::new(),
            coordinators: Vec::new(),
            groups: BTreeMap::new(),
        };
        for entry in &listing.entries {
            found.take(&entry.key, &entry.value);
        }
        if found.members.is_empty() && found.coordinators.is_empty() && found.groups.is_empty() {
            let others = found.store.clusters().await.map_err(in_words)?;
            let there = match others.is_empty() {
                true => "there is none in this store".to_owned(),
                false => format!("there are: {}", others.join(", ")),
            };
            return Err(format!("no cluster is named '{cluster}'; {there}"));
        }
        Ok(found)
    }

    /// Takes a record in; one that cannot be read is named and passed over.
    fn take(&mut self, key: &str, value: &[u8]) {
        let taken = if key.starts_with(records::MEMBERS) {
            records::read_member(key, value).map(|record| {
                let group = record.registration.as_ref().map(|its| its.group.clone());
                self.groups.entry(group.unwrap_or_default()).or_default();
                self.members.push(record);
            })
        } else if key.starts_with(records::COORDINATORS) {
            records::read_coordinator(key, value).map(|record| {
                for group in &record.groups {
                    self.groups.entry(group.clone()).or_default();
                }
                self.coordinators.push(record);
            })
        } else if let Some(group) = records::group_of_lead(key) {
            records::read_lead(key, value).map(|record| {
                self.groups.insert(group.to_owned(), Some(record));
            })
        } else {
            Ok(())
        };
        if let Err(corrupt) = taken {
            super::tell(&format!("a record is not shown: {corrupt}"));
        }
    }

    /// Returns the groups that are meant.
    pub(super) fn meant(&self, group: Option<&str>) -> Result<Vec<String>, String> {
        let Some(group) = group else {
            return Ok(self.groups.keys().cloned().collect());
        };
        if self.groups.contains_key(group) {
            return Ok(vec![group.to_owned()]);
        }
        let known = self.groups.keys().map(String::as_str);
        Err(unknown("group", group, known))
    }

    /// Returns what a group's lead says of it.
    pub(super) async fn describe(&self, group: &str) -> Result<DescribeResponse, String> {
        let mut client = self.lead(group).await?;
        let asked = DescribeRequest {
            group: group.to_owned(),
        };
        let described = timeout(ANSWER, client.describe(asked)).await;
        answered(group, described)
    }

    /// Connects to a group's lead.
    pub(super) async fn lead(&self, group: &str) -> Result<AdminServiceClient<Channel>, String> {
        let lead = self.groups.get(group).and_then(Option::as_ref);
        let lead = lead.ok_or_else(|| {
            format!("nobody leads group '{group}' at present; look again in a few seconds")
        })?;
        let channel = channel(&lead.address).await;
        let channel = channel.map_err(|why| {
            format!(
                "the lead of group '{group}', coordinator '{}', {why}",
                lead.name
            )
        })?;
        Ok(AdminServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// Connects to a coordinator.
    pub(super) async fn coordinator(
        &self,
        meant: &CoordinatorRecord,
    ) -> Result<AdminServiceClient<Channel>, String> {
        let channel = channel(&meant.address).await;
        let channel = channel.map_err(|why| format!("coordinator '{}' {why}", meant.name))?;
        Ok(AdminServiceClient::new(channel))
    }

    /// Returns the group of a worker, if there is one of this name.
    pub(super) fn group_of(&self, worker: &str) -> Option<String> {
        let mut all = self.workers();
        all.find(|its| its.name == worker)
            .map(|its| its.group.clone())
    }

    /// Says that neither a worker nor a coordinator has this name.
    pub(super) fn nobody(&self, name: &str) -> String {
        let workers = self.workers().map(|its| its.name.as_str());
        let coordinators = self.coordinators.iter().map(|its| its.name.as_str());
        unknown("worker or coordinator", name, workers.chain(coordinators))
    }

    fn workers(&self) -> impl Iterator<Item = &Registration> + Clone {
        let members = self.members.iter();
        members.filter_map(|it| it.registration.as_ref())
    }
}

/// Asks a worker which experts were chosen how often.
pub(super) async fn count_rows(address: &str) -> Result<CountRowsResponse, String> {
    let channel = channel(address).await?;
    let mut client = ExpertServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let counted = timeout(ANSWER, client.count_rows(CountRowsRequest {})).await;
    let counted = counted.map_err(|_| format!("at {address} says nothing"))?;
    let counted = counted.map_err(|status| format!("at {address}: {}", status.message()))?;
    Ok(counted.into_inner())
}

/// Reads a lead's answer.
pub(super) fn answered<T>(
    group: &str,
    answer: Result<Result<tonic::Response<T>, tonic::Status>, tokio::time::error::Elapsed>,
) -> Result<T, String> {
    let answer = answer.map_err(|_| {
        format!("the lead of group '{group}' has not answered for {ANSWER:?}; look again")
    })?;
    let answer = answer.map_err(|status| match status.code() {
        tonic::Code::Unavailable => {
            let said = status.message();
            format!("{said}; the lead has just changed, look again in a few seconds")
        }
        _ => status.message().to_owned(),
    });
    Ok(answer?.into_inner())
}

/// Waits for an answer, but not for ever.
pub(super) async fn within<T>(
    answer: impl Future<Output = T>,
) -> Result<T, tokio::time::error::Elapsed> {
    timeout(ANSWER, answer).await
}

/// Names what is not there, and what may have been meant.
pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let hint = match likely(name, known.clone()) {
        Some(other) => format!("did you mean '{other}'?"),
        None => {
            let all: Vec<&str> = known.take(8).collect();
            format!("there are: {}", all.join(", "))
        }
    };
    format!("no {what} is named '{name}'; {hint}")
}

async fn channel(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(address.to_owned());
    let endpoint = endpoint.map_err(|error| format!("has the address {address}: {error}"))?;
    let endpoint = endpoint.connect_timeout(CONNECT);
    let channel = Dialer::default().connect(&endpoint).await;
    channel.map_err(|error| format!("does not answer at {address}: {}", in_words(error)))
}
