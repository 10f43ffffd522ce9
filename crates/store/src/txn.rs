//! Transactions: if all this is so, do that, else read these.

use etcd_client::{Compare, CompareOp, PutOptions, TxnOp, TxnOpResponse};
use telemetry::labels::StoreOp;

use crate::client::{Entry, LeaseId, Revision, Store};
use crate::error::Error;
use crate::limits::{MAX_TXN_BYTES, MAX_TXN_OPERATIONS, MAX_VALUE_BYTES};
use crate::link::{Repeat, Services};

/// A condition on a key.
#[derive(Clone, Copy, Debug)]
enum Is {
    Absent,
    ModifiedAt(Revision),
    HeldBy(LeaseId),
}

#[derive(Clone, Debug)]
enum Do {
    Put(String, Vec<u8>, Option<LeaseId>),
    Delete(String),
}

/// A transaction; [`Store::txn`] carries it out.
///
/// ```
/// # let (mine, lease) = (b"10.0.0.1:7200", store::LeaseId(7));
/// let claim = store::Txn::new()
///     .if_absent("members/w0")
///     .put("members/w0", mine, Some(lease))
///     .else_get("members/w0");
/// # _ = claim;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a transaction does nothing until Store::txn carries it out"]
pub struct Txn {
    conditions: Vec<(String, Is)>,
    operations: Vec<Do>,
    reads: Vec<String>,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether all conditions held, so that the operations were carried out.
    pub succeeded: bool,
    /// The store's revision after it: if it changed anything, that of the change.
    pub revision: Revision,
    /// If the conditions did not hold, what [`Txn::else_get`] asked for, in that order.
    pub read: Vec<Option<Entry>>,
}

impl Txn {
    /// A transaction without conditions and operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if there is no such key.
    pub fn if_absent(self, key: impl Into<String>) -> Self {
        self.condition(key, Is::Absent)
    }

    /// Only if the key was put last at that revision.
    pub fn if_modified_at(self, key: impl Into<String>, revision: Revision) -> Self {
        self.condition(key, Is::ModifiedAt(revision))
    }

    /// Only if the key ends with that lease.
    pub fn if_held_by(self, key: impl Into<String>, lease: LeaseId) -> Self {
        self.condition(key, Is::HeldBy(lease))
    }

    /// Puts a key. It ends with the lease; without one it stays.
    pub fn put(
        mut self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        lease: Option<LeaseId>,
    ) -> Self {
        self.operations
            .push(Do::Put(key.into(), value.into(), lease));
        self
    }

    /// Deletes a key; one that is not there is deleted already.
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.operations.push(Do::Delete(key.into()));
        self
    }

    /// Reads a key if the conditions do not hold.
    pub fn else_get(mut self, key: impl Into<String>) -> Self {
        self.reads.push(key.into());
        self
    }

    fn condition(mut self, key: impl Into<String>, is: Is) -> Self {
        self.conditions.push((key.into(), is));
        self
    }

    /// What it is about, for an error.
    fn in_words(&self) -> String {
        match (&self.operations[..], &self.conditions[..]) {
            ([Do::Put(key, ..)], _) => format!("put {key}"),
            ([Do::Delete(key)], _) => format!("delete {key}"),
            ([Do::Put(key, ..) | Do::Delete(key), rest @ ..], _) => {
                format!("change {key} and {} more", rest.len())
            }
            ([], [(key, _), ..]) => format!("check {key}"),
            ([], []) => "carry out an empty transaction".to_owned(),
        }
    }

    fn check(&self) -> Result<(), Error> {
        let longest = [
            self.conditions.len(),
            self.operations.len(),
            self.reads.len(),
        ];
        let operations = longest.into_iter().max().unwrap_or(0);
        let mut bytes = 0;
        for operation in &self.operations {
            let Do::Put(key, value, _) = operation else {
                continue;
            };
            bytes += key.len() + value.len();
            too_large(key, value.len(), "bytes", MAX_VALUE_BYTES)?;
        }
        let this = "the transaction";
        too_large(this, operations, "operations", MAX_TXN_OPERATIONS)?;
        too_large(this, bytes, "bytes", MAX_TXN_BYTES)
    }
}

fn too_large(what: &str, size: usize, unit: &'static str, limit: usize) -> Result<(), Error> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: what.to_owned(),
        size,
        unit,
        limit,
    })
}

/// Carries out a transaction.
pub(crate) async fn run(store: &Store, txn: Txn) -> Result<Outcome, Error> {
    txn.check()?;
    let what = txn.in_words();
    let compares: Result<Vec<Compare>, Error> = txn
        .conditions
        .into_iter()
        .map(|(key, is)| Ok(compare(store.prefix.key(&key)?, is)))
        .collect();
    let operations: Result<Vec<TxnOp>, Error> = txn
        .operations
        .into_iter()
        .map(|operation| write(store, operation))
        .collect();
    let reads: Result<Vec<TxnOp>, Error> = txn
        .reads
        .into_iter()
        .map(|key| Ok(TxnOp::get(store.prefix.key(&key)?, None)))
        .collect();
    let request = etcd_client::Txn::new()
        .when(compares?)
        .and_then(operations?)
        .or_else(reads?);
    let send = |services: Services| {
        let (mut kv, request) = (services.kv, request.clone());
        async move { kv.txn(request).await }
    };
    let answer = store
        .link
        .call(StoreOp::Transaction, &what, Repeat::Never, send)
        .await?;
    let read = |response| match response {
        TxnOpResponse::Get(mut read) => Some(store.entries(read.take_kvs()).pop()),
        _ => None,
    };
    Ok(Outcome {
        succeeded: answer.succeeded(),
        revision: answer.header().map_or(0, |header| header.revision()),
        read: answer.op_responses().into_iter().filter_map(read).collect(),
    })
}

fn compare(key: Vec<u8>, is: Is) -> Compare {
    match is {
        Is::Absent => Compare::create_revision(key, CompareOp::Equal, 0),
        Is::ModifiedAt(revision) => Compare::mod_revision(key, CompareOp::Equal, revision),
        Is::HeldBy(LeaseId(lease)) => Compare::lease(key, CompareOp::Equal, lease),
    }
}

fn write(store: &Store, operation: Do) -> Result<TxnOp, Error> {
    Ok(match operation {
        Do::Delete(key) => TxnOp::delete(store.prefix.key(&key)?, None),
        Do::Put(key, value, lease) => {
            let options = lease.map(|LeaseId(lease)| PutOptions::new().with_lease(lease));
            TxnOp::put(store.prefix.key(&key)?, value, options)
        }
    })
}
