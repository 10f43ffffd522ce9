//! What a process says of itself.

use prost::Message as _;
use proto::internal::{CoordinatorRecord, MemberRecord, Registration};
use records::Corrupt;

/// The record of a worker or a coordinator.
#[derive(Clone, Debug)]
pub enum Record {
    /// A worker's, as it registers with its lead.
    Worker(Registration),
    /// A coordinator's.
    Coordinator(CoordinatorRecord),
}

/// Whose record it is.
pub(crate) struct Holder {
    pub(crate) address: String,
    pub(crate) incarnation: u64,
}

impl Record {
    /// Returns the name of the process.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Worker(registration) => &registration.name,
            Self::Coordinator(record) => &record.name,
        }
    }

    pub(crate) fn incarnation(&self) -> u64 {
        match self {
            Self::Worker(registration) => registration.incarnation,
            Self::Coordinator(record) => record.incarnation,
        }
    }

    pub(crate) fn key(&self) -> String {
        match self {
            Self::Worker(registration) => records::member_key(&registration.name),
            Self::Coordinator(record) => records::coordinator_key(&record.name),
        }
    }

    pub(crate) fn value(&self, draining: bool) -> Vec<u8> {
        match self {
            Self::Worker(registration) => {
                let registration = Some(registration.clone());
                let record = MemberRecord {
                    registration,
                    draining,
                };
                record.encode_to_vec()
            }
            Self::Coordinator(record) => {
                let record = CoordinatorRecord {
                    draining,
                    ..record.clone()
                };
                record.encode_to_vec()
            }
        }
    }

    /// Reads another record of this kind.
    pub(crate) fn holder(&self, key: &str, bytes: &[u8]) -> Result<Holder, Corrupt> {
        Ok(match self {
            Self::Worker(_) => {
                let registration = records::read_member(key, bytes)?.registration;
                let registration = registration.unwrap_or_default();
                Holder {
                    address: registration.address,
                    incarnation: registration.incarnation,
                }
            }
            Self::Coordinator(_) => {
                let record = records::read_coordinator(key, bytes)?;
                Holder {
                    address: record.address,
                    incarnation: record.incarnation,
                }
            }
        })
    }
}
