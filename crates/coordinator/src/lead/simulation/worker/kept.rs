//! What a worker keeps of sequences, by the client that each is of.

use std::collections::BTreeSet;

use prost::Message as _;
use proto::internal as wire;
use spec::Term;

use super::Worker;

/// Returns whose record it is; a record is empty where its generation ended before it was opened.
fn client(record: &[u8]) -> Option<usize> {
    let request = wire::FollowRequest::decode(record).expect("records can be read");
    let id = request.record?.request_id;
    Some(id[1..].parse().expect("clients are numbered"))
}

/// Lists whose sequences a step opens.
pub(super) fn opened(parts: &[wire::Part]) -> BTreeSet<usize> {
    let opens = parts.iter().flat_map(|part| &part.opens);
    opens.filter_map(|open| client(&open.record)).collect()
}

impl Worker {
    /// Lists whose sequences it keeps.
    pub(in crate::lead::simulation) fn kept(&self) -> BTreeSet<usize> {
        let all = self.left.before(Term(u64::MAX));
        all.iter().filter_map(|left| client(&left.record)).collect()
    }
}
