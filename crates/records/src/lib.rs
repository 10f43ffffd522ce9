//! What lies in the membership store under which key, and how it is read.
//!
//! Whoever reads a record checks it as if a stranger had written it: one that cannot be meant is an
//! error in words, never a panic, and its reader goes on without it.

use prost::Message;
use proto::internal::{CoordinatorRecord, LeadRecord, MemberRecord};

/// Where all workers lie.
pub const MEMBERS: &str = "members/";

/// Where all coordinators lie.
pub const COORDINATORS: &str = "coordinators/";

/// Where all groups lie.
pub const GROUPS: &str = "groups/";

/// Longest name of a group or a coordinator, in bytes.
const MAX_NAME: usize = 128;

/// Longest address, in bytes.
const MAX_ADDRESS: usize = 1024;

/// Why a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Corrupt {
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

/// Returns a worker's key.
#[must_use]
pub fn member_key(name: &str) -> String {
    format!("{MEMBERS}{name}")
}

/// Returns a coordinator's key.
#[must_use]
pub fn coordinator_key(name: &str) -> String {
    format!("{COORDINATORS}{name}")
}

/// Returns where both keys of a group's lead lie.
#[must_use]
pub fn group_prefix(group: &str) -> String {
    format!("groups/{group}/")
}

/// Returns the key that says who leads a group.
#[must_use]
pub fn lead_key(group: &str) -> String {
    format!("groups/{group}/lead")
}

/// Returns the group whose lead lies under a key, if one does.
#[must_use]
pub fn group_of_lead(key: &str) -> Option<&str> {
    key.strip_prefix(GROUPS)?.strip_suffix("/lead")
}

/// Returns the key that says who took the group's highest term.
#[must_use]
pub fn last_key(group: &str) -> String {
    format!("groups/{group}/last")
}

/// Returns the key under which a record is kept that nobody could read.
#[must_use]
pub fn quarantine_key(key: &str) -> String {
    format!("quarantine/{key}")
}

/// Reads a lead's record.
///
/// # Errors
///
/// If it is none, or has a name, an address or a term that no lead has.
pub fn read_lead(key: &str, bytes: &[u8]) -> Result<LeadRecord, Corrupt> {
    let record: LeadRecord = decode(key, bytes)?;
    check_name(key, &record.name)?;
    check_address(key, &record.address)?;
    if record.term == 0 {
        return Err(corrupt(key, "has no term"));
    }
    Ok(record)
}

/// Reads a worker's record.
///
/// # Errors
///
/// If it is none, or has no registration of the name in its key.
pub fn read_member(key: &str, bytes: &[u8]) -> Result<MemberRecord, Corrupt> {
    let record: MemberRecord = decode(key, bytes)?;
    let Some(registration) = &record.registration else {
        return Err(corrupt(key, "has no registration"));
    };
    if member_key(&registration.name) != key {
        let why = format!("is the record of {:?}", registration.name);
        return Err(corrupt(key, &why));
    }
    check_address(key, &registration.address)?;
    check_shown(key, &registration.admin)?;
    Ok(record)
}

/// Reads a coordinator's record.
///
/// # Errors
///
/// If it is none, or is that of another name than its key's.
pub fn read_coordinator(key: &str, bytes: &[u8]) -> Result<CoordinatorRecord, Corrupt> {
    let record: CoordinatorRecord = decode(key, bytes)?;
    check_name(key, &record.name)?;
    if coordinator_key(&record.name) != key {
        return Err(corrupt(key, &format!("is the record of {:?}", record.name)));
    }
    check_address(key, &record.address)?;
    for shown in [&record.grpc, &record.http, &record.admin] {
        check_shown(key, shown)?;
    }
    Ok(record)
}

/// Says what keeps a name from being a group's or a coordinator's, if anything does.
#[must_use]
pub fn name_fault(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(plain) {
        return None;
    }
    Some(format!(
        "{name:?} is no name: use 1 to {MAX_NAME} letters, digits, '-', '_', '.' and ':'"
    ))
}

fn decode<M: Message + Default>(key: &str, bytes: &[u8]) -> Result<M, Corrupt> {
    M::decode(bytes).map_err(|error| corrupt(key, &format!("cannot be read: {error}")))
}

fn check_name(key: &str, name: &str) -> Result<(), Corrupt> {
    name_fault(name).map_or(Ok(()), |why| Err(corrupt(key, &why)))
}

fn check_address(key: &str, address: &str) -> Result<(), Corrupt> {
    if address.len() <= MAX_ADDRESS && spec::is_address(address) {
        return Ok(());
    }
    Err(corrupt(key, "has an address that is not http://HOST:PORT"))
}

/// An address that is only shown may be missing.
fn check_shown(key: &str, address: &str) -> Result<(), Corrupt> {
    match address.is_empty() {
        true => Ok(()),
        false => check_address(key, address),
    }
}

fn corrupt(key: &str, why: &str) -> Corrupt {
    Corrupt {
        key: key.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proto::internal::Registration;

    use super::*;

    fn lead() -> LeadRecord {
        LeadRecord {
            name: "c0".into(),
            incarnation: 7,
            address: "http://c0:7200".into(),
            term: 3,
        }
    }

    #[test]
    fn a_lead_is_read_as_it_was_written() {
        let bytes = lead().encode_to_vec();
        assert_eq!(read_lead("groups/g/lead", &bytes), Ok(lead()));
    }

    #[test]
    fn what_cannot_be_meant_is_named_and_refused() {
        let with = |change: fn(&mut LeadRecord)| {
            let mut record = lead();
            change(&mut record);
            read_lead("groups/g/lead", &record.encode_to_vec())
                .unwrap_err()
                .to_string()
        };
        assert!(with(|record| record.term = 0).contains("term"));
        assert!(with(|record| record.name = String::new()).contains("name"));
        assert!(with(|record| record.address = "x".into()).contains("HOST:PORT"));
        let garbage = read_lead("groups/g/lead", b"\xff\xff").unwrap_err();
        assert!(
            garbage.to_string().starts_with("groups/g/lead: "),
            "{garbage}"
        );
    }

    #[test]
    fn a_member_lies_under_its_own_name() {
        let registration = Registration {
            name: "w0".into(),
            address: "http://w0:7200".into(),
            ..Default::default()
        };
        let record = MemberRecord {
            registration: Some(registration),
            draining: false,
        };
        let bytes = record.encode_to_vec();
        assert_eq!(read_member("members/w0", &bytes), Ok(record));
        let error = read_member("members/w1", &bytes).unwrap_err();
        assert!(error.to_string().contains("\"w0\""), "{error}");
        assert!(read_member("members/w0", &[]).is_err());
    }

    #[test]
    fn a_coordinator_says_where_it_is_reached_or_is_of_an_earlier_build() {
        let record = CoordinatorRecord {
            name: "c0".into(),
            address: "http://c0:7101".into(),
            ..Default::default()
        };
        let read = |record: &CoordinatorRecord| {
            read_coordinator("coordinators/c0", &record.encode_to_vec())
        };
        assert_eq!(read(&record), Ok(record.clone()));
        let whole = CoordinatorRecord {
            grpc: "http://c0:7100".into(),
            http: "http://c0:8000".into(),
            admin: "http://[::1]:9100".into(),
            ..record
        };
        assert_eq!(read(&whole), Ok(whole.clone()));
        for spoil in [
            |its: &mut CoordinatorRecord| its.grpc = "c0".into(),
            |its: &mut CoordinatorRecord| its.http = "http://c0".into(),
            |its: &mut CoordinatorRecord| its.admin = "x".repeat(2000),
        ] {
            let mut spoilt = whole.clone();
            spoil(&mut spoilt);
            assert!(read(&spoilt).is_err(), "{spoilt:?}");
        }
    }
}
