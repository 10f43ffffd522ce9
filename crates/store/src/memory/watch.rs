//! `etcdserverpb.Watch`.
//!
//! A stream has a task, and its watchers read from the store's history at the pace at which the client
//! takes what they find. So there is no queue of changes: who is slow reads the history later, or, when
//! that has been compacted, is told so.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use etcd_client::EventType;
use etcd_client::proto::{
    PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::kv::key_value;
use super::state::{Event, Span};
use super::{Shared, only_if};
use crate::client::Revision;

/// Responses that the client has not taken.
const RESPONSES: usize = 4;

/// Bytes of changes in a response, about; a revision is not split.
const RESPONSE_BYTES: usize = 1 << 20;

/// Watchers of a stream.
const MAX_WATCHERS: usize = 1024;

/// The watch that is meant where none is, in answers.
const NO_WATCH: i64 = -1;

pub(super) struct Service(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbWatchService for Service {
    type WatchStream = ReceiverStream<Result<PbWatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (out, responses) = mpsc::channel(RESPONSES);
        let stream = Stream {
            shared: Arc::clone(&self.0),
            watchers: BTreeMap::new(),
            next_id: 0,
            out,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

struct Watcher {
    span: Span,
    /// The first revision that it has not seen.
    next: Revision,
}

struct Stream {
    shared: Arc<Shared>,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    out: mpsc::Sender<Result<PbWatchResponse, Status>>,
}

/// Why a stream ends.
enum End {
    /// Nobody is there to be told.
    Gone,
    /// The client asked for something that is not served.
    Refused(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl Stream {
    async fn run(mut self, requests: Streaming<PbWatchRequest>) {
        let stopped = self.shared.stopped.clone();
        let out = self.out.clone();
        let end = tokio::select! {
            Err(end) = self.serve(requests) => end,
            () = stopped.cancelled() => Status::unavailable("the store is stopping").into(),
            () = out.closed() => End::Gone,
        };
        if let End::Refused(status) = end {
            // It is told if it has taken what was sent before.
            _ = out.try_send(Err(status));
        }
    }

    async fn serve(&mut self, mut requests: Streaming<PbWatchRequest>) -> Result<Infallible, End> {
        let mut revision = self.shared.revision.subscribe();
        loop {
            revision.mark_unchanged();
            self.deliver().await?;
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.ask(request).await?,
                    // Whoever sends no more wants no more.
                    Ok(None) | Err(_) => return Err(End::Gone),
                },
                _ = revision.changed() => {}
            }
        }
    }

    /// Sends what has happened, to the last of it.
    async fn deliver(&mut self) -> Result<(), End> {
        let ids: Vec<i64> = self.watchers.keys().copied().collect();
        for id in ids {
            while self.deliver_some(id).await? {}
        }
        Ok(())
    }

    /// Sends the next changes to a watcher; returns whether there may be more.
    async fn deliver_some(&mut self, id: i64) -> Result<bool, End> {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return Ok(false);
        };
        let (found, revision) = self.shared.with(|state| {
            let found = state.changes(&watcher.span, watcher.next, RESPONSE_BYTES);
            (found, state.revision())
        });
        let mut response = PbWatchResponse {
            header: self.shared.header(revision),
            watch_id: id,
            ..Default::default()
        };
        match found {
            Ok(batch) => {
                watcher.next = batch.next;
                response.events = batch.events.iter().map(event).collect();
                if response.events.is_empty() {
                    return Ok(batch.next <= revision);
                }
            }
            Err(compacted) => {
                self.watchers.remove(&id);
                response.canceled = true;
                response.compact_revision = compacted;
            }
        }
        self.send(response).await?;
        Ok(true)
    }

    /// Does what the client asks for.
    async fn ask(&mut self, request: PbWatchRequest) -> Result<(), End> {
        let revision = self.shared.with(|state| state.revision());
        let mut response = PbWatchResponse {
            header: self.shared.header(revision),
            watch_id: NO_WATCH,
            ..Default::default()
        };
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(request)) => {
                only_if(!request.prev_kv, "WatchCreateRequest.prev_kv")?;
                only_if(
                    !request.progress_notify,
                    "WatchCreateRequest.progress_notify",
                )?;
                only_if(!request.fragment, "WatchCreateRequest.fragment")?;
                only_if(request.filters.is_empty(), "WatchCreateRequest.filters")?;
                let watcher = Watcher {
                    // As etcd has it, no key means the first one.
                    span: match request.key.is_empty() {
                        true => Span::new(vec![0], request.range_end),
                        false => Span::new(request.key, request.range_end),
                    },
                    next: match request.start_revision {
                        ..=0 => revision + 1,
                        start => start,
                    },
                };
                response.created = true;
                match self.place(request.watch_id) {
                    Ok(id) => {
                        response.watch_id = id;
                        self.watchers.insert(id, watcher);
                    }
                    Err(why) => {
                        response.canceled = true;
                        response.cancel_reason = why.to_owned();
                    }
                }
            }
            Some(PbWatchRequestUnion::CancelRequest(request)) => {
                if self.watchers.remove(&request.watch_id).is_none() {
                    return Ok(());
                }
                response.watch_id = request.watch_id;
                response.canceled = true;
            }
            // All watchers have been brought everything: it is done before a request is read.
            Some(PbWatchRequestUnion::ProgressRequest(_)) => {}
            None => return Ok(()),
        }
        self.send(response).await
    }

    /// Returns a name for a new watcher, the client's if it has one.
    fn place(&mut self, wanted: i64) -> Result<i64, &'static str> {
        if self.watchers.len() >= MAX_WATCHERS {
            return Err("etcdserver: too many watches on one stream");
        }
        if wanted != 0 {
            let is_free = !self.watchers.contains_key(&wanted);
            return is_free.then_some(wanted).ok_or("mvcc: duplicate watch ID");
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    async fn send(&self, response: PbWatchResponse) -> Result<(), End> {
        let sent = self.out.send(Ok(response)).await;
        sent.map_err(|_| End::Gone)
    }
}

fn event(event: &Event) -> PbEvent {
    let kind = if event.is_delete {
        EventType::Delete
    } else {
        EventType::Put
    };
    PbEvent {
        r#type: kind as i32,
        kv: Some(key_value(&event.pair)),
        prev_kv: None,
    }
}
