//! `etcdserverpb.KV`: reading, writing, transactions, compaction.

use std::sync::Arc;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbCompare, PbDeleteRequest, PbDeleteResponse,
    PbKeyValue, PbKvService, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse,
    PbRangeStreamResponse, PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse,
    PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use etcd_client::{CompareOp, SortOrder, SortTarget};
use tokio_stream::Empty;
use tonic::{Request, Response, Status};

use super::state::{Compare, Done, Is, Operation, Outcome, Pair, Span, Target};
use super::{Shared, invalid, only_if};
use crate::client::Revision;
use crate::limits::MAX_TXN_OPERATIONS;

pub(super) struct Service(pub(super) Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PbKvService for Service {
    type RangeStreamStream = Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Answer<PbRangeResponse> {
        let request = request.into_inner();
        let wanted = (request.keys_only, request.count_only);
        let (done, revision) = self.one(range(request)?)?;
        match done {
            Done::Range(pairs, count) => {
                let mut answer = range_answer(&pairs, count, wanted);
                answer.header = self.0.header(revision);
                Ok(Response::new(answer))
            }
            _ => Err(Status::internal("a range was read")),
        }
    }

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Answer<Self::RangeStreamStream> {
        only_if(false, "KV.RangeStream")?;
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Answer<PbPutResponse> {
        let (_, revision) = self.one(put(request.into_inner())?)?;
        Ok(Response::new(PbPutResponse {
            header: self.0.header(revision),
            prev_kv: None,
        }))
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Answer<PbDeleteResponse> {
        let (done, revision) = self.one(delete(request.into_inner())?)?;
        Ok(Response::new(PbDeleteResponse {
            header: self.0.header(revision),
            deleted: match done {
                Done::Deleted(count) => signed(count),
                _ => 0,
            },
            prev_kvs: Vec::new(),
        }))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Answer<PbTxnResponse> {
        let request = request.into_inner();
        let lengths = [
            request.compare.len(),
            request.success.len(),
            request.failure.len(),
        ];
        if lengths.into_iter().any(|len| len > MAX_TXN_OPERATIONS) {
            return Err(invalid("too many operations in txn request"));
        }
        let compares: Result<Vec<_>, _> = request.compare.into_iter().map(compare).collect();
        let compares = compares?;
        let (then, otherwise) = (branch(request.success)?, branch(request.failure)?);
        let (outcome, revision) = self.0.with(|state| {
            let outcome = state.txn(&compares, then.operations, otherwise.operations)?;
            Ok::<_, Status>((outcome, state.revision()))
        })?;
        let wanted = if outcome.succeeded {
            then.wanted
        } else {
            otherwise.wanted
        };
        Ok(Response::new(PbTxnResponse {
            header: self.0.header(revision),
            succeeded: outcome.succeeded,
            responses: self.responses(outcome, wanted, revision),
        }))
    }

    async fn compact(&self, request: Request<PbCompactionRequest>) -> Answer<PbCompactionResponse> {
        // `physical` waits for the disk, and there is none.
        let revision = request.into_inner().revision;
        let revision = self.0.with(|state| {
            state.compact(revision)?;
            Ok::<_, Status>(state.revision())
        })?;
        Ok(Response::new(PbCompactionResponse {
            header: self.0.header(revision),
        }))
    }
}

impl Service {
    /// Carries out a single operation.
    fn one(&self, operation: Operation) -> Result<(Done, Revision), Status> {
        self.0.with(|state| {
            let mut outcome = state.txn(&[], vec![operation], Vec::new())?;
            let done = outcome.done.pop();
            let done = done.ok_or_else(|| Status::internal("an operation has an outcome"))?;
            Ok((done, state.revision()))
        })
    }

    fn responses(
        &self,
        outcome: Outcome,
        wanted: Vec<(bool, bool)>,
        revision: Revision,
    ) -> Vec<PbResponseOp> {
        let header = self.0.header(revision);
        let answer = |(done, wanted)| match done {
            Done::Range(pairs, count) => {
                let mut answer = range_answer(&pairs, count, wanted);
                answer.header = header;
                PbTxnOpResponse::ResponseRange(answer)
            }
            Done::Put => PbTxnOpResponse::ResponsePut(PbPutResponse {
                header,
                prev_kv: None,
            }),
            Done::Deleted(count) => PbTxnOpResponse::ResponseDeleteRange(PbDeleteResponse {
                header,
                deleted: signed(count),
                prev_kvs: Vec::new(),
            }),
        };
        let done = outcome.done.into_iter().zip(wanted);
        done.map(|both| PbResponseOp {
            response: Some(answer(both)),
        })
        .collect()
    }
}

/// Operations, and of each whether only keys, and only the count, are wanted.
struct Branch {
    operations: Vec<Operation>,
    wanted: Vec<(bool, bool)>,
}

fn branch(requests: Vec<PbTxnRequestOp>) -> Result<Branch, Status> {
    let mut branch = Branch {
        operations: Vec::new(),
        wanted: Vec::new(),
    };
    for request in requests {
        let mut wanted = (false, false);
        let operation = match request.request {
            Some(PbTxnOpRequest::RequestRange(request)) => {
                wanted = (request.keys_only, request.count_only);
                range(request)?
            }
            Some(PbTxnOpRequest::RequestPut(request)) => put(request)?,
            Some(PbTxnOpRequest::RequestDeleteRange(request)) => delete(request)?,
            Some(PbTxnOpRequest::RequestTxn(_)) => {
                only_if(false, "RequestOp.request_txn")?;
                continue;
            }
            None => return Err(invalid("key not found")),
        };
        branch.operations.push(operation);
        branch.wanted.push(wanted);
    }
    Ok(branch)
}

fn range(request: PbRangeRequest) -> Result<Operation, Status> {
    has_key(&request.key)?;
    only_if(request.revision <= 0, "RangeRequest.revision")?;
    let by_key = request.sort_target == SortTarget::Key as i32
        && request.sort_order != SortOrder::Descend as i32;
    only_if(
        by_key || request.sort_order == SortOrder::None as i32,
        "RangeRequest.sort_order",
    )?;
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    only_if(bounds == [0; 4], "the revision bounds of RangeRequest")?;
    let limit = match usize::try_from(request.limit) {
        Ok(limit) if limit > 0 => limit,
        _ => usize::MAX,
    };
    Ok(Operation::Range(
        Span::new(request.key, request.range_end),
        if request.count_only { 0 } else { limit },
    ))
}

fn put(request: PbPutRequest) -> Result<Operation, Status> {
    has_key(&request.key)?;
    only_if(!request.prev_kv, "PutRequest.prev_kv")?;
    only_if(!request.ignore_value, "PutRequest.ignore_value")?;
    only_if(!request.ignore_lease, "PutRequest.ignore_lease")?;
    Ok(Operation::Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
    })
}

fn delete(request: PbDeleteRequest) -> Result<Operation, Status> {
    has_key(&request.key)?;
    only_if(!request.prev_kv, "DeleteRangeRequest.prev_kv")?;
    Ok(Operation::Delete(Span::new(request.key, request.range_end)))
}

fn compare(request: PbCompare) -> Result<Compare, Status> {
    has_key(&request.key)?;
    only_if(request.range_end.is_empty(), "Compare.range_end")?;
    let is = match CompareOp::try_from(request.result) {
        Ok(CompareOp::Equal) => Is::Equal,
        Ok(CompareOp::NotEqual) => Is::Unequal,
        Ok(CompareOp::Greater) => Is::Greater,
        Ok(CompareOp::Less) => Is::Less,
        Err(_) => return Err(invalid("key not found")),
    };
    let target = match request.target_union {
        Some(PbTargetUnion::Version(other)) => Target::Version(other),
        Some(PbTargetUnion::CreateRevision(other)) => Target::Created(other),
        Some(PbTargetUnion::ModRevision(other)) => Target::Modified(other),
        Some(PbTargetUnion::Value(other)) => Target::Value(other),
        Some(PbTargetUnion::Lease(other)) => Target::Lease(other),
        None => return Err(invalid("a comparison compares with something")),
    };
    Ok(Compare {
        key: request.key,
        target,
        is,
    })
}

fn has_key(key: &[u8]) -> Result<(), Status> {
    if key.is_empty() {
        return Err(invalid("key is not provided"));
    }
    Ok(())
}

fn range_answer(
    pairs: &[Arc<Pair>],
    count: usize,
    (keys_only, count_only): (bool, bool),
) -> PbRangeResponse {
    let mut kvs: Vec<PbKeyValue> = pairs.iter().map(|pair| key_value(pair)).collect();
    if keys_only {
        for pair in &mut kvs {
            pair.value.clear();
        }
    }
    PbRangeResponse {
        header: None,
        more: !count_only && pairs.len() < count,
        kvs,
        count: signed(count),
    }
}

pub(super) fn key_value(pair: &Pair) -> PbKeyValue {
    PbKeyValue {
        key: pair.key.clone(),
        create_revision: pair.create_revision,
        mod_revision: pair.mod_revision,
        version: pair.version,
        value: pair.value.clone(),
        lease: pair.lease,
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
