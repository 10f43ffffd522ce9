//! Every limit of the coordinator, with its unit and the reason for the number.

use std::time::Duration;

/// Largest message between coordinator and worker. A step of 64 sequences that are told again at
/// 131,072 tokens each is 32 MiB of packed ids.
pub(crate) const MAX_INTERNAL_MESSAGE: usize = 64 << 20;

/// A member whose heartbeats stop for this long has lost its lease. Six heartbeats.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// A step in which no rank moves for this long is void; a rank reports every 250 ms.
pub(crate) const PROGRESS_LIMIT: Duration = Duration::from_secs(5);

/// How often the lead looks for steps without progress and for epochs to prepare.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// A loop that looks around every [`TICK`] and has not for this long hangs: `/livez` says so, and whoever
/// watches starts the process again. Longer than any machine stands still that is only busy.
pub(crate) const LIVENESS: Duration = Duration::from_secs(30);

/// How long a connection to a worker may take; it is on the same network.
pub(crate) const CONNECT: Duration = Duration::from_secs(2);

/// How long a worker may prepare without reporting progress in loading. Longer than a worker waits
/// for a rank to take an order (20 s), so that a hung rank is reported and not merely missed.
pub(crate) const PREPARE_SILENCE: Duration = Duration::from_secs(30);

/// HTTP/2 keepalive between coordinator and workers.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(1);

/// A worker that does not answer a keepalive for this long has vanished; a busy machine is slower
/// than one second at times.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// HTTP/2 keepalive towards clients, which may be far away or asleep for a moment.
pub(crate) const CLIENT_KEEPALIVE: Duration = Duration::from_secs(30);

/// See [`CLIENT_KEEPALIVE`].
pub(crate) const CLIENT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Age at which a client's connection by gRPC takes no new calls, so that clients spread over coordinators
/// that were added since. What it carries goes on to its end; clients connect again by themselves.
pub(crate) const CLIENT_CONNECTION_AGE: Duration = Duration::from_secs(1800);

/// Calls of one client's connection by gRPC at a time; further ones wait at the client.
pub(crate) const MAX_CALLS: u32 = 1024;

/// Bytes that every client by HTTP/2 says first (RFC 9113, 3.4). Only after them is it asked whether it
/// is still there.
pub(crate) const HTTP2_PREFACE: usize = 24;

/// Bytes that a client by HTTP/1.1 says first; [`HTTP_SILENCE`] is the limit of the others.
pub(crate) const HTTP1_FIRST: usize = 1;

/// How long a client's connection by HTTP may send no request, or be about to send one. Longer than load
/// balancers keep theirs for reuse, mostly 60 s: they must be the first to close.
pub(crate) const HTTP_SILENCE: Duration = Duration::from_secs(75);

/// Bytes of one sequence's events on their way from lead to front. The connection's window is as
/// large as HTTP/2 allows, so that a client that does not read holds up nobody else.
pub(crate) const FOLLOW_WINDOW: u32 = 256 << 10;

/// See [`FOLLOW_WINDOW`].
pub(crate) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Failures of steps in a row in which something could not be computed, none completed in between,
/// after which the sequences that were in all of those steps are ended: the others would wait for
/// ever. After half as many the worker that reported them all is sent away: it may be its fault.
pub(crate) const MAX_BARREN: usize = 5;

/// Failures of steps in a row, of whatever kind, after which each further one sends a worker away
/// that was part of all of them, so that a spare gets its seat.
pub(crate) const MAX_FAILURES: usize = 6;

/// A step loop that was not run for this long was itself stopped, and says nothing about ranks.
pub(crate) const OWN_PAUSE: Duration = Duration::from_secs(1);

/// Messages waiting for the step loop. Each sender waits when it is full, so that nothing is lost.
pub(crate) const LOOP_QUEUE: usize = 4096;

/// Steps waiting in one worker's stream; the engine has at most four in flight.
pub(crate) const STEP_QUEUE: usize = 8;

/// Members that may attend at once, spares included.
pub(crate) const MAX_MEMBERS: usize = 1024;

/// When a full queue may be worth another try.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Most ranks of a group; workers refuse a plan of more.
pub(crate) const MAX_RANKS: usize = 1024;

/// Distance in positions at which the prefix cache keeps the sliding layers' blocks, so that a long
/// shared prefix is found again at most this far before its end.
pub(crate) const CHECKPOINT_INTERVAL: usize = 1024;

/// Tokens, or positions of a prompt, in one message of a followed sequence. With 20 alternatives each
/// they are 150 kB.
pub(crate) const MAX_READ: usize = 512;

/// Who may follow one generation at a time. Each costs a stream.
pub(crate) const MAX_FOLLOWERS: usize = 64;

/// How long a generation that has ended is remembered, so that its client may come back for it.
pub(crate) const ENDED_TIME: Duration = Duration::from_secs(600);

/// Generations that have ended and are remembered. The oldest are forgotten first.
pub(crate) const MAX_ENDED: usize = 10_000;

/// Bytes of memory of all those together.
pub(crate) const MAX_ENDED_BYTES: usize = 64 << 20;

/// What a remembered generation takes beside its tokens and texts: two map nodes, a channel.
pub(crate) const ENTRY_BYTES: usize = 512;

/// A deadline that passes within this time has passed for whoever sees it first.
pub(crate) const DEADLINE_SLACK: Duration = Duration::from_millis(100);

/// Longest that a generation may be kept without followers, and longest wait in the queue that may be
/// asked for.
pub(crate) const MAX_KEEP: Duration = Duration::from_secs(600);

/// Bytes of a record that mean something to fronts only: 16 stop sequences of 1,024 bytes, 128 stop
/// tokens, and some more.
pub(crate) const MAX_FRONT_BYTES: usize = 32 << 10;

/// Most sequences that a new lead collects from the workers of the last one: as many as a rank has slots.
pub(crate) const MAX_COLLECTED: usize = 65_536;

/// How long a generation that another lead has left waits for somebody to follow it again, at least. A
/// client first finds a front that lives.
pub(crate) const COLLECTED_KEEP: Duration = Duration::from_secs(30);

/// Length of a name in a record, in bytes.
pub(crate) const MAX_NAME: usize = 256;

/// Stop tokens in a record: a request's 128 and the model's own.
pub(crate) const MAX_STOP_TOKENS: usize = 256;

/// When it may be worth another try after a group did not serve for too long.
pub(crate) const RETRY_AFTER_HOLD: Duration = Duration::from_secs(5);

/// A request's priority is at most this, and at least as much below zero.
pub(crate) const MAX_PRIORITY: i32 = 100;

/// Sequences in one page of an operator's list. A request id has at most 256 bytes, so that a page stays
/// far below 4 MiB.
pub(crate) const MAX_LISTED: usize = 500;

/// Orders of operators to one group's election that wait.
pub(crate) const HAND_OVER_QUEUE: usize = 4;

/// How long a lead that is handed over may take to end here: longer than the last transaction for it, and
/// for the news of that.
pub(crate) const HAND_OVER: Duration = cluster::HAND_OVER.saturating_add(Duration::from_secs(1));

/// Time after which a record that cannot be read is put aside again, where the membership store did not.
pub(crate) const PUT_ASIDE_AGAIN: Duration = Duration::from_secs(10);
