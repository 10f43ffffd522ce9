//! Every limit of a worker that is not configured, with its unit and its reason.

use std::time::Duration;

/// Most ranks one worker holds; the wire says so (`Registration.num_ranks`).
pub const MAX_RANKS: u32 = 64;

/// Most threads that compute for one rank: more than any machine has cores.
pub const MAX_THREADS_PER_RANK: usize = 1024;

/// Most ranks a group has. Far above any cluster of one model, and small enough that a table per
/// rank costs nothing.
pub const MAX_GROUP_RANKS: usize = 1024;

/// Most bytes of a name: it stands in every log line and table.
pub const MAX_NAME_BYTES: usize = 128;

/// Most positions in a KV block. Larger blocks only waste memory at the end of each sequence.
pub const MAX_BLOCK_SIZE: usize = 1024;

/// Most sequences a rank holds at a time; bounds the tables a step may name.
pub const MAX_SLOTS: usize = 65_536;

/// Most rows one rank computes in one step; bounds activations that no KV plan counts.
pub const MAX_STEP_ROWS: u32 = 65_536;

/// Steps a lead may have in flight, the running one included (the design's D).
pub const MAX_STEPS_IN_FLIGHT: usize = 4;

/// Bytes of the largest payload one message carries; the wire says so (`PushRequest.payload`).
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// Bytes a message may have beside its payload: field tags, lengths and the fence.
pub const MESSAGE_SLACK_BYTES: usize = 64 << 10;

/// Bytes of the largest message a worker takes or sends.
pub const MAX_MESSAGE_BYTES: usize = MAX_PAYLOAD_BYTES + MESSAGE_SLACK_BYTES;

/// How often a running step's progress and a load's bytes are told. The wire promises at least
/// this often; a lead blames a rank after twenty times as long.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// How long the thread of a rank may take to obey an order that follows the end of an epoch. It gives
/// its step up at the next report of progress, within two seconds even on one slow core, so one that
/// takes ten times as long hangs, and only the end of the process frees what it holds. Shorter than
/// the lead's patience with a preparation that tells nothing (30 s), so that the lead learns who hangs.
pub const ORDER_LIMIT: Duration = Duration::from_secs(20);

/// Streams of steps at a time whose first step has not come, which may be after hours. A lead opens
/// one for each epoch, and they end with it; more than a few are a mistake of somebody's.
pub const MAX_RUNS_WITHOUT_STEP: usize = 64;

/// Time between two heartbeats; half of what the wire allows, so that one may come late.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// How long a coordinator may leave heartbeats without an answer before the worker dials again.
pub const ATTEND_SILENCE: Duration = Duration::from_secs(5);

/// A loop that beats with every heartbeat and has not for this long hangs: `/livez` says so, and whoever
/// watches starts the process again. Longer than any machine stands still that is only busy.
pub const LIVENESS: Duration = Duration::from_secs(30);

/// First pause before the coordinator is dialled again.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest pause before the coordinator is dialled again: a restarted coordinator has its
/// workers back within this time.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How long dialling the coordinator may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Silence on a connection after which HTTP/2 asks whether the peer is alive.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// How long the answer to that may take before the connection counts as gone.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Messages between a service and its stream. A reader that falls behind holds the writer back.
pub const STREAM_DEPTH: usize = 16;

/// How long open connections may take to end on shutdown before they are cut.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// How long the rows of each expert are counted before a new window begins; what is told is of one
/// window to two.
pub const CHOSEN_WINDOW: Duration = Duration::from_secs(60);

/// Length of a request's name in bytes, as a lead gives it for the log; leads take names as long.
pub const MAX_REQUEST_ID: usize = 256;
