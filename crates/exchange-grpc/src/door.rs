//! Where ranks of other processes on this machine open lanes to this one's.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Weak;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use exchange::{Frame, Moment, Phase};
use prost::Message as _;
use proto::internal::PushRequest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use sockets::{Door, Visitor};
use spec::{Fence, Rank, StepNumber};
use tokio::io::AsyncReadExt as _;
use tokio::time::sleep;
use tonic::Status;

use crate::convert::{from_wire, to_wire};
use crate::hub::Epochs;
use crate::limits::{ACCEPT_PAUSE, KNOCK_PAUSE, LET_IN_LIMIT, MAX_GREETING_BYTES};
use crate::lobby::Lobby;

/// What the other side says when it has taken a lane up.
const LET_IN: [u8; 1] = [1];

/// Knocks for a lane from one rank to another at `address`, and waits only where too many do already. It is
/// none before [`is_let_in`].
///
/// # Errors
///
/// If no worker of this machine and user has a door for that address, or this process may open no more files.
pub(crate) fn knock(
    address: &str,
    group: &str,
    (fence, from, to): (Fence, Rank, Rank),
    patience: Patience,
) -> io::Result<OwnedFd> {
    // The epoch and the ranks, as the first frame of a stream says them.
    let moment = Moment {
        fence,
        step: StepNumber(0),
        layer: 0,
    };
    let greeting = to_wire(Frame {
        moment,
        phase: Phase::Dispatch,
        from,
        to,
        payload: Bytes::new(),
    });
    let group = group.to_owned();
    let greeting = PushRequest { group, ..greeting }.encode_to_vec();
    let length = u16::try_from(greeting.len()).map_err(io::Error::other)?;
    let greeting = [&length.to_le_bytes()[..], &greeting].concat();
    loop {
        match sockets::knock(&name(address), &greeting) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !patience.is_over() => {
                thread::sleep(KNOCK_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Returns the name of the door of the worker at an address, with the version of what goes through it.
pub(crate) fn name(address: &str) -> String {
    format!("conclave exchange 1 {address}")
}

/// How long is left to wait for those who were knocked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    since: Instant,
}

impl Patience {
    pub(crate) fn begin() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    fn is_over(self) -> bool {
        self.since.elapsed() >= LET_IN_LIMIT
    }

    fn left(self) -> Timespec {
        let left = LET_IN_LIMIT.saturating_sub(self.since.elapsed());
        Timespec::try_from(left).unwrap_or_default()
    }
}

/// Waits until a lane is taken up on the other side, and returns whether it is.
pub(crate) fn is_let_in(lane: &OwnedFd, patience: Patience) -> bool {
    let mut files = [PollFd::new(lane, PollFlags::IN)];
    while poll(&mut files, Some(&patience.left())) == Err(Errno::INTR) {}
    let mut answer = [0; LET_IN.len()];
    read(lane, &mut answer).is_ok_and(|bytes| answer[..bytes] == LET_IN)
}

/// Admits lanes until nobody uses the epochs any more, or their lobby closes.
pub(crate) async fn serve(door: Door, epochs: Weak<Epochs>) {
    let Some(vestibule) = epochs.upgrade().map(|epochs| epochs.vestibule.clone()) else {
        return;
    };
    loop {
        let accepted = tokio::select! {
            accepted = door.accept() => accepted,
            () = vestibule.closed() => return,
        };
        match accepted {
            Ok(lane) => {
                let (vestibule, epochs) = (vestibule.clone(), Weak::clone(&epochs));
                tokio::spawn(async move {
                    if let Err(status) = admit(lane, &vestibule, epochs).await {
                        tracing::warn!(why = status.message(), "a lane was refused");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no lane is accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Brings a lane to the rank that it leads to.
async fn admit(mut lane: Visitor, vestibule: &Lobby, epochs: Weak<Epochs>) -> Result<(), Status> {
    let enter = |greeting| async move {
        let gone = || Status::unavailable("this worker is about to end");
        let epochs = epochs.upgrade().ok_or_else(gone)?;
        let greeting = from_wire(greeting, &epochs.group)?;
        let epoch = epochs.entered(greeting.moment.fence).await?;
        Ok((greeting, epoch))
    };
    let Some((greeting, epoch)) = vestibule.first(greeting(&mut lane), enter).await? else {
        return Ok(());
    };
    let Frame { from, to, .. } = greeting;
    if epoch.link(from).is_none() {
        let why = format!("from: rank {from} is not at a peer of this worker");
        return Err(Status::invalid_argument(why));
    }
    let arrivals = epoch
        .entrance(to)
        .and_then(|entrance| entrance.arrivals.as_ref());
    let arrivals = arrivals.ok_or_else(|| {
        Status::invalid_argument(format!("to: rank {to} of this worker takes no lanes"))
    })?;
    let lane = lane.into_socket().map_err(|error| broken(&error))?;
    let answer = lane.try_clone().map_err(|error| broken(&error))?;
    if !arrivals.add(from, lane) {
        let why = format!("rank {to} takes no lane from rank {from}, or no second one");
        return Err(Status::already_exists(why));
    }
    // Last of all: from here on the sender counts on the lane.
    write(&answer, &LET_IN).map_err(|error| broken(&error.into()))?;
    Ok(())
}

/// Reads what a lane begins with, and no byte more; `None` if it ends first.
async fn greeting(lane: &mut Visitor) -> Result<Option<PushRequest>, Status> {
    let Ok(length) = lane.read_u16_le().await else {
        return Ok(None);
    };
    if usize::from(length) > MAX_GREETING_BYTES {
        let why = format!("its greeting has {length} bytes; the limit is {MAX_GREETING_BYTES}");
        return Err(Status::invalid_argument(why));
    }
    let mut greeting = vec![0; length.into()];
    let read = lane.read_exact(&mut greeting).await;
    read.map_err(|error| broken(&error))?;
    let greeting = PushRequest::decode(&greeting[..]);
    let greeting = greeting.map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(Some(greeting))
}

fn broken(error: &io::Error) -> Status {
    Status::unavailable(error.to_string())
}
