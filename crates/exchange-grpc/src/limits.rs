//! Every limit of this crate, and why it has its size.

use std::time::Duration;

use exchange::MAX_FRAME_BYTES;

/// The longest gRPC message: a frame, and room for the numbers beside it.
pub const MAX_MESSAGE_BYTES: usize = MAX_FRAME_BYTES + 1024;

/// How long connecting to a peer is tried. Every peer listens before it registers, so this only
/// has to outlast a moment of overload.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Pause between two tries to connect.
pub(crate) const CONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How long a frame of an epoch that is not entered yet waits for [`crate::Hub::enter`]. The lead
/// starts steps when all workers have acknowledged the epoch, so it seldom waits at all; and it is
/// shorter than the lead's limit on time without progress, so that the refusal is seen first.
pub const ENTER_LIMIT: Duration = Duration::from_secs(3);

/// How long a stream may take to bring its first frame. A peer opens it when it has one, so this only
/// has to outlast a moment of overload on either side.
pub(crate) const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(10);

/// Streams at a time that wait for their first frame, or for its epoch to be entered: one from each
/// process of the largest group; and as many lanes.
pub(crate) const MAX_STREAMS_WITHOUT_EPOCH: usize = 1024;

/// How long a rank waits in its first exchange of an epoch for its lanes to be taken up. The other process
/// has entered the epoch by then, so that this only has to outlast a moment of overload; after it, rows go over
/// gRPC until the next epoch.
pub(crate) const LET_IN_LIMIT: Duration = Duration::from_millis(500);

/// Pause before a rank knocks again where too many wait at a door.
pub(crate) const KNOCK_PAUSE: Duration = Duration::from_millis(1);

/// The lanes to one peer and from it take no more than this part of the files that the process may open; where
/// they would, rows go over gRPC.
pub(crate) const SHARE_OF_FILES: u64 = 4;

/// Bytes that a lane may begin with: a group's name, and numbers.
pub(crate) const MAX_GREETING_BYTES: usize = 1024;

/// Pause after a lane could not be accepted: mostly too many files are open, and some will be closed.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the streams of an epoch that has been left may take to end in order.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How often an HTTP/2 connection is tested. A process that dies is seen at once, as its sockets are
/// reset; this is for a host or a network that goes silent. Whoever sends learns of a dead connection
/// with the first frame: before that there is no stream that could end, and nobody waits for one.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// How long the answer to such a test may take. Longer than a busy machine may keep a thread from
/// running, and together with the interval shorter than the lead's limit on time without progress.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// HTTP/2 flow control: bytes a stream may have under way. What arrives goes to an inbox at once,
/// and the schedule of exchanges bounds what lies there, so the window only must not slow it down.
pub(crate) const WINDOW_BYTES: u32 = 16 << 20;

/// The longest HTTP/2 frame that is accepted: a few large reads instead of many of 16 KiB.
pub(crate) const HTTP2_FRAME_BYTES: u32 = 1 << 20;

/// Frames under way between two ranks, in one direction. A rank sends exchange `x + 2` only after
/// it has the receiver's frame of `x + 1`, which the receiver sent after taking this rank's of `x`.
pub(crate) const FRAMES_IN_FLIGHT: usize = 2;
