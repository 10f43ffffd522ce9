//! Every limit of this crate. Frames have theirs in `exchange`: a lane has one of them under way, and its
//! socket as many bytes as the system gives it.

/// Pieces of memory that the system reads or writes at a time: its own limit, `IOV_MAX`.
pub(crate) const MAX_PIECES: usize = 1024;
