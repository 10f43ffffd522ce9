//! The groups that serve the model: who leads each, how loaded it is, and which one a request is for.
//!
//! Requests that begin alike go to the same group, where their prefix is cached; a group that has far
//! more to do than another is passed over. What a client has named goes where its beginning points,
//! however loaded that is: a repeated call at another front has to find the same group.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::internal::lead_service_client::LeadServiceClient;
use proto::internal::{GetRequest, WatchRequest, WatchResponse};
use sockets::Dialer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::error::Error;
use super::generation::PRINCIPAL;
use super::request::Request;
use super::{Shared, convert, health, limits};

/// How a front reaches a lead.
pub(super) type Client = LeadServiceClient<Channel>;

/// Where each group's lead is, `http://HOST:PORT` by group.
pub type Addresses = BTreeMap<String, String>;

/// What is known of the groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    seen: Mutex<BTreeMap<String, Seen>>,
}

#[derive(Debug)]
struct Seen {
    address: String,
    client: Client,
    /// What its lead said last; unset while it cannot be reached.
    state: Result<WatchResponse, String>,
    /// Ends the task that watches it.
    _watched: DropGuard,
}

/// A group chosen for a request.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) client: Client,
}

impl Group {
    /// Asks whether it knows a generation.
    async fn has(&self, id: String) -> Result<(), Error> {
        let get = GetRequest {
            principal: PRINCIPAL.to_owned(),
            request_id: id,
            group: self.name.to_string(),
        };
        let answer = timeout(limits::FIND_TIME, self.client.clone().get(get)).await;
        match answer {
            Ok(answer) => answer.map(drop).map_err(Error::from_lead),
            Err(_) => Err(Error::LeadGone {
                why: format!("it did not answer within {:?}", limits::FIND_TIME),
            }),
        }
    }
}

/// No group says that it knows a generation.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Whether there was anybody to ask.
    is_led: bool,
    /// Why groups could not tell; the others have said that they do not know it.
    unasked: BTreeMap<Arc<str>, Error>,
}

impl Missing {
    /// Returns why this group, or else another one, could not tell though it may well know. One whose
    /// lead cannot know yet is none of these.
    pub(super) fn unreachable(&self, group: &str) -> (Option<&Error>, Option<&Error>) {
        let lost = |(_, error): &(&Arc<str>, &Error)| !error.is_unknown();
        let of = |is_it: bool| {
            let mut lost = self.unasked.iter().filter(lost);
            let found = lost.find(|(name, _)| (***name == *group) == is_it);
            found.map(|(_, error)| error)
        };
        (of(true), of(false))
    }

    /// Says what a call that names the generation is told.
    pub(super) fn into_error(self, id: &str) -> Error {
        if !self.is_led {
            return no_lead();
        }
        // One that cannot know yet counts for less than one that may well know.
        let errors = self.unasked.into_values();
        let error = errors.min_by_key(Error::is_unknown);
        error.unwrap_or_else(|| convert::unknown_generation(id))
    }
}

impl Groups {
    /// Returns all groups.
    pub(super) fn all(&self) -> Vec<Group> {
        let seen = self.lock();
        let groups = seen.iter().map(|(name, seen)| group(name, seen));
        groups.collect()
    }

    /// Returns a group by name.
    ///
    /// # Errors
    ///
    /// [`Error::LeadGone`] if nobody leads it.
    pub(super) fn of(&self, name: &str) -> Result<Group, Error> {
        let seen = self.lock();
        let found = seen.get(name).map(|seen| group(name, seen));
        found.ok_or_else(|| Error::LeadGone {
            why: format!("nobody leads group '{name}'"),
        })
    }

    /// Chooses a group for a request.
    ///
    /// # Errors
    ///
    /// [`Error::LeadGone`] as long as no group has a lead.
    pub(super) fn choose(&self, request: &Request) -> Result<Group, Error> {
        let seen = self.lock();
        let loads = seen.iter().map(|(name, seen)| Load::of(name, seen));
        let chosen = choose(loads.collect(), affinity(request), request.is_named);
        let chosen = chosen.and_then(|name| Some(group(&name, seen.get(&name)?)));
        chosen.ok_or_else(no_lead)
    }

    /// Finds the group that knows a generation, asking all at once; where there is one group, that one.
    ///
    /// # Errors
    ///
    /// [`Missing`] if none says that it does.
    pub(super) async fn find(&self, id: &str) -> Result<Group, Missing> {
        let mut all = self.all();
        if all.len() == 1 {
            return Ok(all.remove(0));
        }
        let mut missing = Missing {
            is_led: !all.is_empty(),
            ..Missing::default()
        };
        let mut asked = JoinSet::new();
        for group in all {
            let id = id.to_owned();
            asked.spawn(async move { (group.has(id).await, group) });
        }
        // Who answers is not waited for any longer once one has it.
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok((Ok(()), group)) => return Ok(group),
                Ok((Err(Error::Lead(status)), _)) if status.code() == Code::NotFound => {}
                Ok((Err(error), group)) => drop(missing.unasked.insert(group.name, error)),
                // A mistake of ours, which must not look as if the group knew nothing.
                Err(_) => drop(missing.unasked.insert("".into(), Error::Broken)),
            }
        }
        Err(missing)
    }

    fn hear(&self, name: &str, state: Result<WatchResponse, String>) {
        if let Some(seen) = self.lock().get_mut(name) {
            seen.state = state;
        }
    }

    fn readiness(&self) -> health::Readiness {
        let seen = self.lock();
        let states = seen.iter().map(|(name, seen)| (name.as_str(), &seen.state));
        health::readiness(states)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        // Nothing that could panic runs under it.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_lead() -> Error {
    Error::LeadGone {
        why: "no group has a lead yet".into(),
    }
}

fn group(name: &str, seen: &Seen) -> Group {
    Group {
        name: name.into(),
        client: seen.client.clone(),
    }
}

/// What the choice of a group looks at.
struct Load {
    name: String,
    is_serving: bool,
    sequences: u32,
}

impl Load {
    fn of(name: &str, seen: &Seen) -> Self {
        let (is_serving, sequences) = match &seen.state {
            Ok(state) => (state.serving, state.waiting + state.running),
            Err(_) => (false, 0),
        };
        Self {
            name: name.to_owned(),
            is_serving,
            sequences,
        }
    }
}

/// Chooses by affinity, and then by load unless the choice is strict.
fn choose(mut loads: Vec<Load>, affinity: u64, is_strict: bool) -> Option<String> {
    if !is_strict && loads.iter().any(|load| load.is_serving) {
        loads.retain(|load| load.is_serving);
    }
    let least = loads.iter().map(|load| load.sequences).min()?;
    if !is_strict {
        let most = least.saturating_mul(2).saturating_add(limits::LOAD_SLACK);
        loads.retain(|load| load.sequences <= most);
    }
    // Rendezvous: of the groups that are there each request has one, and keeps it when others go.
    let weight = |load: &Load| hash(affinity, load.name.as_bytes());
    loads.into_iter().max_by_key(weight).map(|load| load.name)
}

/// Hashes what makes requests belong together: their session, or else how their prompts begin.
fn affinity(request: &Request) -> u64 {
    if !request.asked.session_id.is_empty() {
        return hash(1, request.asked.session_id.as_bytes());
    }
    let salt = hash(2, request.cache_salt.as_bytes());
    let beginning = request.prompt.iter().take(limits::AFFINITY_TOKENS);
    beginning.fold(salt, |hashed, token| hash(hashed, &token.0.to_le_bytes()))
}

/// Goes on hashing: FNV-1a, with its bits mixed at the end.
/// Sources: Fowler, Noll and Vo, "The FNV Non-Cryptographic Hash Algorithm"; the mix is that of
/// MurmurHash3's 64-bit finalizer.
fn hash(from: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    let begun = (BASIS ^ from).wrapping_mul(PRIME);
    let fnv = |hashed: u64, byte: &u8| (hashed ^ u64::from(*byte)).wrapping_mul(PRIME);
    let mut hashed = bytes.iter().fold(begun, fnv);
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hashed = (hashed ^ (hashed >> 33)).wrapping_mul(factor);
    }
    hashed ^ (hashed >> 33)
}

/// Follows who leads, and what each lead says, until the front ends: one that drains still has to find
/// whoever leads next, for its streams go on there.
pub(super) async fn keep(shared: Arc<Shared>, mut addresses: watch::Receiver<Addresses>) {
    let stopping = shared.stopping.clone();
    loop {
        let now = addresses.borrow_and_update().clone();
        update(&shared, &now);
        shared.health.set(shared.groups.readiness());
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = addresses.changed() => if changed.is_err() {
                return stopping.cancelled().await;
            },
        }
    }
}

fn update(shared: &Arc<Shared>, addresses: &Addresses) {
    let mut seen = shared.groups.lock();
    seen.retain(|name, _| addresses.contains_key(name));
    for (name, address) in addresses {
        let entry = seen.entry(name.clone());
        if matches!(&entry, Entry::Occupied(known) if known.get().address == *address) {
            continue;
        }
        let client = match connect(&shared.config.dialer, address) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(group = name, address, %error, "this lead has no address");
                continue;
            }
        };
        let stop = CancellationToken::new();
        let watching = watch_group(
            Arc::clone(shared),
            name.clone(),
            client.clone(),
            stop.clone(),
        );
        shared.watching.spawn(watching);
        entry.insert_entry(Seen {
            address: address.clone(),
            client,
            state: Err("has not been heard of yet".into()),
            _watched: stop.drop_guard(),
        });
    }
}

/// Returns the way to a lead; it is dialled when it is used.
fn connect(dialer: &Dialer, address: &str) -> Result<Client, tonic::transport::Error> {
    use crate::limits::{CONNECT, CONNECTION_WINDOW, FOLLOW_WINDOW, KEEPALIVE, KEEPALIVE_TIMEOUT};
    let endpoint = Endpoint::from_shared(address.to_owned())?;
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .initial_stream_window_size(FOLLOW_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let client = LeadServiceClient::new(dialer.connect_lazy(&endpoint));
    Ok(client.max_decoding_message_size(limits::MAX_LEAD_MESSAGE))
}

/// Watches one group's lead for as long as it is the lead.
async fn watch_group(shared: Arc<Shared>, name: String, client: Client, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = shared.stopping.cancelled() => {}
        () = watch_for_ever(&shared, &name, client) => {}
    }
}

async fn watch_for_ever(shared: &Shared, name: &str, client: Client) {
    let (first_pause, longest_pause) = limits::WATCH_BACKOFF;
    let mut pause = first_pause;
    loop {
        let broken = match watch_once(shared, name, client.clone(), &mut pause).await {
            Ok(()) => "its stream ended".to_owned(),
            Err(status) => status.message().to_owned(),
        };
        shared
            .groups
            .hear(name, Err(format!("cannot be reached: {broken}")));
        shared.health.set(shared.groups.readiness());
        tokio::time::sleep(pause).await;
        pause = longest_pause.min(pause * 2);
    }
}

async fn watch_once(
    shared: &Shared,
    name: &str,
    mut client: Client,
    pause: &mut Duration,
) -> Result<(), Status> {
    let group = name.to_owned();
    let mut states = client.watch(WatchRequest { group }).await?.into_inner();
    while let Some(state) = states.message().await? {
        *pause = limits::WATCH_BACKOFF.0;
        shared.groups.hear(name, Ok(state));
        shared.health.set(shared.groups.readiness());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Load, choose, hash};

    fn loads(sequences: &[u32]) -> Vec<Load> {
        let load = |(index, sequences): (usize, &u32)| Load {
            name: index.to_string(),
            is_serving: true,
            sequences: *sequences,
        };
        sequences.iter().enumerate().map(load).collect()
    }

    #[test]
    fn requests_spread_and_each_keeps_its_group() {
        let mut counts = [0; 3];
        for affinity in 0..3000 {
            let chosen = choose(loads(&[0, 0, 0]), affinity, false).unwrap();
            counts[chosen.parse::<usize>().unwrap()] += 1;
            // Without another group than its own nothing changes for it.
            if chosen != "2" {
                assert_eq!(choose(loads(&[0, 0]), affinity, false), Some(chosen));
            }
        }
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_group_with_far_more_to_do_is_passed_over() {
        for affinity in 0..100 {
            let chosen = choose(loads(&[30, 5]), affinity, false);
            assert_eq!(chosen.as_deref(), Some("1"));
        }
        let strict: Vec<_> = (0..100)
            .map(|key| choose(loads(&[30, 5]), key, true))
            .collect();
        assert!(strict.contains(&Some("0".into())));
    }

    #[test]
    fn a_group_that_does_not_serve_is_chosen_only_where_none_does() {
        let mut two = loads(&[0, 0]);
        two[0].is_serving = false;
        for affinity in 0..20 {
            let mut both = loads(&[0, 0]);
            both[0].is_serving = false;
            assert_eq!(choose(both, affinity, false).as_deref(), Some("1"));
        }
        two[1].is_serving = false;
        assert!(choose(two, 0, false).is_some());
        assert_eq!(choose(Vec::new(), 0, false), None);
    }

    #[test]
    fn the_hash_is_the_same_everywhere_for_ever() {
        assert_eq!(hash(0, b""), hash(0, b""));
        assert_ne!(hash(0, b"a"), hash(0, b"b"));
        assert_ne!(hash(0, b"a"), hash(1, b"a"));
    }
}
