//! Every limit of sockets, with its unit and the reason for the number.

use std::time::Duration;

/// Pause after a connection could not be accepted: mostly too many files are open, and some will be
/// closed.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A TCP connection that is silent for this long is asked whether the other end is still there.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(30);

/// Time between such questions.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Questions in a row without an answer after which the other end is taken for gone.
pub(crate) const KEEPALIVE_PROBES: u32 = 3;

/// What was sent and is not acknowledged for this long ends a connection: the other end is gone, or has
/// read nothing. Without it the system sends again for a quarter of an hour.
pub(crate) const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// How long whoever connects to a listener of the public may take for the first bytes. Clients speak first
/// in every protocol that is served.
pub(crate) const GREETING: Duration = Duration::from_secs(20);

/// Visits that may wait at a door to be let in: more are sent away, and come again or take another way.
pub(crate) const WAITING_AT_DOOR: i32 = 1024;

/// Most connections of one listener of the public, where the process may open as many files. An idle
/// one costs some ten kilobytes.
pub(crate) const MAX_CONNECTIONS: u64 = 4096;

/// One listener of the public takes this part of the files that the process may open: two of them leave
/// one half to everything else.
pub(crate) const SHARE_OF_FILES: u64 = 4;
