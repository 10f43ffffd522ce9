//! Watches: what lies under a prefix, and then every change of it, whatever happens to the store.
//!
//! A watch goes on from the last revision that it has brought, so a connection that breaks loses
//! nothing and repeats nothing. Where that cannot be, because the store has forgotten its past or is
//! another store, it begins again, with a [`Change::Reset`].
//!
//! Whether it is another store (etcd that lost its disks, a coordinator that was started again) is not
//! for the revision to say, as a new store may have come further than the old one; and the cluster id of
//! etcd is a function of its configuration. So each store gets a mark by chance, written once by
//! whoever comes first, and a watch that comes back looks at it.

use std::pin::Pin;
use std::task::{Context, Poll};

use etcd_client::{
    Compare, CompareOp, EventType, GetOptions, GetResponse, ResponseHeader, Txn, TxnOp,
    TxnOpResponse, WatchOptions, WatchResponse, WatchStream,
};
use telemetry::labels::StoreOp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tracing::{debug, warn};

use crate::backoff::{Backoff, random};
use crate::client::{Entry, Revision, Store};
use crate::error::Error;
use crate::limits::{ATTEMPT_LIMIT, OPERATION_LIMIT, WATCH_QUEUE};
use crate::link::{Attempts, Failure, Peer};
use crate::observer::Observer;

/// What a [`Watch`] brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All entries under the prefix, at a revision; what was known before is void. The first of all,
    /// and later only after the store has forgotten its past or become another one.
    Reset(Vec<Entry>, Revision),
    /// An entry that is new or has changed.
    Put(Entry),
    /// A key that was deleted, or has ended with its lease.
    Delete(String, Revision),
    /// The store answers: what follows is recent.
    Connected,
    /// The store does not answer any more: what is known may be old.
    Disconnected,
}

/// A stream of changes without an end. Who takes them slowly holds up this watch alone.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Change>,
}

impl Watch {
    pub(crate) fn start(store: Store, prefix: &str) -> Result<Self, Error> {
        let (out, changes) = mpsc::channel(WATCH_QUEUE);
        let follower = Follower {
            range: store.prefix.range(prefix)?,
            store,
            out,
            place: None,
        };
        tokio::spawn(follower.run());
        Ok(Self { changes })
    }

    /// Waits for the next change. Cancelling it loses none. There is always a next one, unless the
    /// runtime is being shut down.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}

impl Stream for Watch {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        self.changes.poll_recv(context)
    }
}

/// Which store it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    cluster: u64,
    /// Of the mark: what was written, and when.
    mark: (Vec<u8>, Revision),
}

/// How far a watch has come, and in which store.
#[derive(Clone, Debug)]
struct Place {
    store: Identity,
    revision: Revision,
}

/// Why a session with a store ended.
enum End {
    /// Nobody listens any more.
    Unwatched,
    /// The way to the store is broken.
    Broken(String),
    /// The store cannot go on from where the watch is.
    Forgotten(&'static str),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure.why())
    }
}

impl From<mpsc::error::SendError<Change>> for End {
    fn from(_: mpsc::error::SendError<Change>) -> Self {
        Self::Unwatched
    }
}

struct Follower {
    store: Store,
    range: Vec<u8>,
    out: mpsc::Sender<Change>,
    place: Option<Place>,
}

impl Follower {
    async fn run(mut self) {
        let mut attempts = Attempts::new(Backoff::new());
        loop {
            let mut connected = false;
            let out = self.out.clone();
            let end = tokio::select! {
                end = self.session(&mut connected) => end,
                () = out.closed() => return,
            };
            if connected {
                attempts.succeeded();
                self.store.link.observer().watch_restarts();
                if self.out.send(Change::Disconnected).await.is_err() {
                    return;
                }
            }
            let pause = match end {
                End::Unwatched => return,
                End::Broken(why) => {
                    debug!(why, "a watch of the membership store is broken");
                    attempts.failed(&self.store.link, &why)
                }
                End::Forgotten(why) => {
                    warn!(why, "a watch of the membership store begins again");
                    self.place = None;
                    attempts.pause()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = out.closed() => return,
            }
        }
    }

    /// Follows the store at one endpoint until that ends.
    async fn session(&mut self, connected: &mut bool) -> End {
        let link = self.store.link.clone();
        let peer = match link.peer().await {
            Ok(peer) => peer,
            Err(failure) => return failure.into(),
        };
        let end = match self.follow(&peer, connected).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if matches!(end, End::Broken(_)) {
            link.leave(peer.index);
        }
        end
    }

    async fn follow(
        &mut self,
        peer: &Peer,
        connected: &mut bool,
    ) -> Result<std::convert::Infallible, End> {
        let (place, reset) = match self.place.clone() {
            Some(place) => (place, None),
            None => {
                let (place, entries) = self.snapshot(peer).await?;
                let reset = Change::Reset(entries, place.revision);
                (place, Some(reset))
            }
        };
        let mut stream = self.open(peer, place.revision + 1).await?;
        // Only now, as the store may have become another one between the list and the watch.
        self.recognize(peer, &place).await?;
        self.store.link.up(&peer.address);
        *connected = true;
        self.out.send(Change::Connected).await?;
        if let Some(reset) = reset {
            self.out.send(reset).await?;
        }
        self.place = Some(place);
        loop {
            let message = stream.message().await.map_err(Failure::from)?;
            let ended = || End::Broken("the store has ended the watch".to_owned());
            self.bring(message.ok_or_else(ended)?).await?;
        }
    }

    fn observer(&self) -> &Observer {
        self.store.link.observer()
    }

    /// Reads everything, and which store it is, at one revision.
    async fn snapshot(&self, peer: &Peer) -> Result<(Place, Vec<Entry>), End> {
        let mark = self.store.prefix.identity();
        let read = vec![
            TxnOp::get(mark.clone(), None),
            TxnOp::get(&*self.range, Some(GetOptions::new().with_prefix())),
        ];
        let mut write = vec![TxnOp::put(&*mark, random().to_be_bytes(), None)];
        write.extend(read.clone());
        let request = Txn::new()
            .when(vec![Compare::create_revision(mark, CompareOp::Equal, 0)])
            .and_then(write)
            .or_else(read);
        let mut kv = peer.services.kv.clone();
        let answer = (self.observer())
            .within(
                StoreOp::Read,
                Instant::now() + OPERATION_LIMIT,
                kv.txn(request),
            )
            .await?;
        let mut reads = answer
            .op_responses()
            .into_iter()
            .filter_map(|read| match read {
                TxnOpResponse::Get(read) => Some(read),
                _ => None,
            });
        let (mark, all) = (reads.next(), reads.next());
        let (Some(header), Some(mark), Some(mut all)) = (answer.header(), mark, all) else {
            return Err(End::Broken("the store's answer is incomplete".to_owned()));
        };
        let store = identity(header, &mark).ok_or(End::Forgotten("it has no mark"))?;
        let revision = header.revision();
        Ok((
            Place { store, revision },
            self.store.entries(all.take_kvs()),
        ))
    }

    /// Starts the watch. etcd answers at once, before there is any change.
    async fn open(&self, peer: &Peer, from: Revision) -> Result<WatchStream, End> {
        let limit = Instant::now() + ATTEMPT_LIMIT;
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let mut watch = peer.services.watch.clone();
        let open = watch.watch(&*self.range, Some(options));
        let opened = async {
            let mut stream = open.await?;
            let first = stream.message().await?;
            Ok((stream, first))
        };
        // The client's own future is a large one.
        let opened = self
            .observer()
            .within(StoreOp::Watch, limit, Box::pin(opened));
        let (stream, first) = opened.await?;
        match first {
            Some(answer) if answer.created() && !answer.canceled() => Ok(stream),
            Some(answer) => Err(canceled(&answer)),
            None => Err(End::Broken("the store has ended the watch".to_owned())),
        }
    }

    /// Makes sure that the store is the one in which the watch has come so far.
    async fn recognize(&self, peer: &Peer, place: &Place) -> Result<(), End> {
        let mut kv = peer.services.kv.clone();
        let limit = Instant::now() + ATTEMPT_LIMIT;
        let read = kv.get(self.store.prefix.identity(), None);
        let mark = (self.observer()).within(StoreOp::Read, limit, read).await?;
        let header = mark.header();
        let found = header.and_then(|header| identity(header, &mark));
        if found.as_ref() != Some(&place.store) {
            return Err(End::Forgotten("it is another store"));
        }
        if header.is_none_or(|header| header.revision() < place.revision) {
            return Err(End::Forgotten("the store has gone back"));
        }
        Ok(())
    }

    /// Hands the changes of a message on. A message holds whole revisions.
    async fn bring(&mut self, message: WatchResponse) -> Result<(), End> {
        if message.canceled() {
            return Err(canceled(&message));
        }
        let mut last = None;
        for event in message.0.events {
            let Some(pair) = event.kv else { continue };
            last = last.max(Some(pair.mod_revision));
            let revision = pair.mod_revision;
            let change = if event.r#type == EventType::Delete as i32 {
                let key = self.store.prefix.strip(&pair.key);
                key.map(|key| Change::Delete(key, revision))
            } else {
                let entry = self.store.entry(etcd_client::KeyValue(pair));
                entry.map(Change::Put)
            };
            if let Some(change) = change {
                self.out.send(change).await?;
            }
        }
        // Not the header's revision: a watch that lags is told of more than it has been brought.
        if let (Some(place), Some(last)) = (&mut self.place, last) {
            place.revision = place.revision.max(last);
        }
        Ok(())
    }
}

fn identity(header: &ResponseHeader, mark: &GetResponse) -> Option<Identity> {
    let pair = mark.kvs().first()?;
    Some(Identity {
        cluster: header.cluster_id(),
        mark: (pair.value().to_owned(), pair.create_revision()),
    })
}

/// Why the store does not go on with a watch.
fn canceled(answer: &WatchResponse) -> End {
    if answer.compact_revision() > 0 {
        return End::Forgotten("the store has compacted what comes next");
    }
    End::Broken(format!(
        "the store has ended the watch: {}",
        answer.cancel_reason()
    ))
}
