//! The sending side of a link: a bounded queue, and the task that empties it into a stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exchange::{Frame, SendError};
use proto::internal::PushRequest;
use proto::internal::exchange_service_client::ExchangeServiceClient;
use sockets::Dialer;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::convert::{reason, to_wire};
use crate::epoch::Epoch;
use crate::limits::{CLOSE_LIMIT, CONNECT_LIMIT, CONNECT_PAUSE, MAX_MESSAGE_BYTES};

/// Where the ranks of this process put frames for one peer. Never blocks.
#[derive(Debug)]
pub(crate) struct Outlet {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Open(mpsc::Sender<Frame>),
    /// One side has left the epoch.
    Closed,
    /// The stream broke; why.
    Failed(String),
}

impl Outlet {
    /// Returns an outlet for at most `capacity` frames, and its other end.
    pub(crate) fn new(capacity: usize) -> (Self, mpsc::Receiver<Frame>) {
        let (sender, frames) = mpsc::channel(capacity);
        (
            Self {
                state: Mutex::new(State::Open(sender)),
            },
            frames,
        )
    }

    /// Queues a frame.
    pub(crate) fn send(&self, frame: Frame) -> Result<(), SendError> {
        match &*self.lock() {
            State::Open(sender) => sender.try_send(frame).map_err(|error| match error {
                // More frames than the schedule of exchanges can have under way.
                TrySendError::Full(_) => SendError::Gone("its queue is full".to_owned()),
                TrySendError::Closed(_) => SendError::Gone("its stream has ended".to_owned()),
            }),
            State::Closed => Err(SendError::Left),
            State::Failed(why) => Err(SendError::Gone(why.clone())),
        }
    }

    /// Lets the stream end once what is queued has been sent.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Open(_)) {
            *state = State::Closed;
        }
    }

    /// Ends the stream because the peer is gone; the first reason stays.
    pub(crate) fn fail(&self, why: &str) {
        let mut state = self.lock();
        if matches!(*state, State::Open(_)) {
            *state = State::Failed(why.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a peer is reached, and what it is told first.
pub(crate) struct Destination {
    pub(crate) dialer: Dialer,
    pub(crate) endpoint: Endpoint,
    /// The group of both.
    pub(crate) group: Arc<str>,
}

/// Carries the frames of link `index` to its peer, as long as both are in the epoch.
pub(crate) async fn run(
    epoch: Arc<Epoch>,
    index: usize,
    peer: Destination,
    frames: mpsc::Receiver<Frame>,
) {
    let link = &epoch.links[index];
    let closed = async {
        epoch.left.cancelled().await;
        sleep(CLOSE_LIMIT).await;
    };
    tokio::select! {
        outcome = push(&peer, frames) => match outcome {
            // The peer has left the epoch: there is nothing wrong with it.
            Ok(()) => link.outlet.close(),
            Err(why) => epoch.lose(link, &why),
        },
        () = closed => {}
    }
}

/// Connects, then sends until there are no more frames or the peer wants none.
///
/// The stream begins with the first frame, which says what epoch it belongs to; until then, perhaps
/// for hours, there is only the connection.
async fn push(peer: &Destination, mut frames: mpsc::Receiver<Frame>) -> Result<(), String> {
    let channel = connect(peer).await?;
    let Some(first) = frames.recv().await else {
        return Ok(());
    };
    let mut client =
        ExchangeServiceClient::new(channel).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let first = PushRequest {
        group: peer.group.to_string(),
        ..to_wire(first)
    };
    let frames = ReceiverStream::new(frames).map(to_wire);
    let answer = client.push(tokio_stream::once(first).chain(frames)).await;
    answer.map(|_| ()).map_err(|status| reason(&status))
}

async fn connect(peer: &Destination) -> Result<Channel, String> {
    let deadline = Instant::now() + CONNECT_LIMIT;
    let mut last = "no answer".to_owned();
    loop {
        match timeout_at(deadline, peer.dialer.connect(&peer.endpoint)).await {
            Ok(Ok(channel)) => return Ok(channel),
            Ok(Err(error)) => last = reason(&tonic::Status::from_error(error.into())),
            Err(_) => return Err(format!("no connection within {CONNECT_LIMIT:?} ({last})")),
        }
        sleep(CONNECT_PAUSE).await;
    }
}
