//! Every limit of this crate, and why it has its size.

use std::time::Duration;

/// How long an operation may take, with all its attempts. Longer than etcd needs to elect a leader
/// (about a second), shorter than anybody waits for with patience.
pub const OPERATION_LIMIT: Duration = Duration::from_secs(5);

/// How long one endpoint may take to answer what can be asked again, at another.
pub(crate) const ATTEMPT_LIMIT: Duration = Duration::from_secs(2);

/// How long connecting to an endpoint is tried, its name looked up.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// How often an HTTP/2 connection is tested. A process that dies is seen at once, as its sockets are
/// reset; this is for a host or a network that goes silent.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// How long the answer to such a test may take: longer than a busy machine keeps a thread from
/// running, and with the interval shorter than a lease that is worth having.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause after a first failure, and the longest one; each is a little shorter by chance, so that
/// the processes of a cluster do not come back to a store all at once.
pub(crate) const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The longest key, with the cluster's prefix.
pub const MAX_KEY_BYTES: usize = 1024;

/// The longest value. etcd takes requests of 1.5 MiB; records are far smaller than either.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// Keys and values of a transaction, together; below etcd's 1.5 MiB for a request.
pub const MAX_TXN_BYTES: usize = MAX_VALUE_BYTES + (1 << 18);

/// Comparisons, or operations of one branch, in a transaction: etcd's default.
pub const MAX_TXN_OPERATIONS: usize = 128;

/// The longest lease. One that outlives its process by more than this would hide its death.
pub const MAX_LEASE_TTL: Duration = Duration::from_secs(3600);

/// The longest answer that is read: a list of all keys under a prefix, or the changes that one
/// message of a watch brings.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Changes that a watch has read and nobody has taken. When they are this many, it reads no more,
/// and the store keeps the rest.
pub(crate) const WATCH_QUEUE: usize = 256;

/// Clusters that are named to somebody who looks for one.
pub const MAX_CLUSTERS: usize = 32;
