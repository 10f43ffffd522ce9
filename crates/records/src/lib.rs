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

/// Highest term of a record that is believed. A lead believes half as much of a worker, so that there is
/// always room for the next.
const MAX_TERM: u64 = 1 << 49;

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
    if record.term > MAX_TERM {
        let why = format!("has term {}, which cannot have been reached", record.term);
        return Err(corrupt(key, &why));
    }
    Ok(record)
}

/// Reads a worker's record.
///
/// # Errors
///
/// If it is none, or has no registration of the name in its key.
pub fn read_member(key: &str, bytes: &[u8]) -> Result<MemberRecord, Corrupt> {
    let mut record: MemberRecord = decode(key, bytes)?;
    let Some(registration) = &mut record.registration else {
        return Err(corrupt(key, "has no registration"));
    };
    if member_key(&registration.name) != key {
        let why = format!("is the record of {:?}", registration.name);
        return Err(corrupt(key, &why));
    }
    check_address(key, &registration.address)?;
    keep_shown(&mut registration.admin);
    Ok(record)
}

/// Reads a coordinator's record.
///
/// # Errors
///
/// If it is none, or is that of another name than its key's.
pub fn read_coordinator(key: &str, bytes: &[u8]) -> Result<CoordinatorRecord, Corrupt> {
    let mut record: CoordinatorRecord = decode(key, bytes)?;
    check_name(key, &record.name)?;
    if coordinator_key(&record.name) != key {
        return Err(corrupt(key, &format!("is the record of {:?}", record.name)));
    }
    check_address(key, &record.address)?;
    for shown in [&mut record.grpc, &mut record.http, &mut record.admin] {
        keep_shown(shown);
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

/// Says what keeps an address from being one that the cluster's processes dial, if anything does.
#[must_use]
pub fn address_fault(address: &str) -> Option<String> {
    if address.len() <= MAX_ADDRESS && spec::is_address(address) {
        return None;
    }
    Some(format!("{address:?} is not http://HOST:PORT"))
}

/// Says what keeps an address from being one that people and clients are shown, if anything does. Unlike
/// what processes dial, it may be behind something that ends TLS.
#[must_use]
pub fn shown_fault(address: &str) -> Option<String> {
    let dialled = match address.strip_prefix("https") {
        Some(rest) => format!("http{rest}"),
        None => address.to_owned(),
    };
    address_fault(&dialled)
        .map(|_| format!("{address:?} is neither http://HOST:PORT nor https://HOST:PORT"))
}

fn decode<M: Message + Default>(key: &str, bytes: &[u8]) -> Result<M, Corrupt> {
    M::decode(bytes).map_err(|error| corrupt(key, &format!("cannot be read: {error}")))
}

fn check_name(key: &str, name: &str) -> Result<(), Corrupt> {
    name_fault(name).map_or(Ok(()), |why| Err(corrupt(key, &why)))
}

fn check_address(key: &str, address: &str) -> Result<(), Corrupt> {
    match address_fault(address) {
        None => Ok(()),
        Some(_) => Err(corrupt(key, "has an address that is not http://HOST:PORT")),
    }
}

/// Leaves out an address that is only shown and is none: nobody needs it, and its process does its work.
fn keep_shown(address: &mut String) {
    if !address.is_empty() && shown_fault(address).is_some() {
        address.clear();
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
        assert!(with(|record| record.term = MAX_TERM + 1).contains("term"));
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
        assert_eq!(read_member("members/w0", &bytes), Ok(record.clone()));
        let mut shown = record.clone();
        if let Some(registration) = &mut shown.registration {
            registration.admin = "http://ops:pw@gw:9100".into();
        }
        let read = read_member("members/w0", &shown.encode_to_vec());
        assert_eq!(read, Ok(record), "what is only shown is left out");
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
            admin: "https://[::1]:9100".into(),
            ..record.clone()
        };
        assert_eq!(read(&whole), Ok(whole.clone()));
        let spoilt = CoordinatorRecord {
            grpc: "c0".into(),
            http: "http://c0".into(),
            admin: format!("http://{}:1", "x".repeat(2000)),
            ..whole
        };
        assert_eq!(read(&spoilt), Ok(record), "what is only shown is left out");
        let lost = CoordinatorRecord {
            address: "https://c0:7101".into(),
            ..spoilt
        };
        assert!(read(&lost).is_err(), "processes dial it");
    }
}
