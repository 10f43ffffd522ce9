//! The tables of `docs/api.md` against the code: every limit with its number, every reason with its
//! code, every warning.

use std::collections::BTreeSet;
use std::time::Duration;

use tonic::{Code, Status};

use super::error::Error;
use super::http::error::HttpError;
use super::intake::Unread;
use super::{FrontConfig, limits};
use crate::limits as of_leads;
use crate::status::{reason, status};

const PAGE: &str = include_str!("../../../../docs/api.md");

/// Reasons that are between front and lead, or that nobody is left to hear.
const UNHEARD: [&str; 3] = [reason::GENERATION_ENDED, reason::REWRITTEN, "CLIENT_GONE"];

/// Rows of the first table after a line that begins so: their cells.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = PAGE.split_once(&format!("\n{heading}")).expect(heading);
    let lines = section.lines().skip_while(|line| !line.starts_with("|--"));
    let lines = lines.skip(1).take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| {
        let inside = line.trim_matches('|');
        inside.split('|').map(str::trim).collect()
    };
    lines.map(cells).collect()
}

fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut written = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

fn bytes(number: usize) -> String {
    match number {
        _ if number.is_multiple_of(1 << 20) => format!("{} MiB", number >> 20),
        _ if number.is_multiple_of(1 << 10) && number > 1 << 10 => format!("{} KiB", number >> 10),
        _ => count(number),
    }
}

fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 60 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[test]
fn the_limits_on_the_page_are_those_of_the_code() {
    let config = FrontConfig::new(Duration::ZERO, sockets::Dialer::default());
    let expected = [
        bytes(limits::MAX_REQUEST),
        count(limits::MAX_LONG_REQUESTS),
        bytes(limits::MAX_SHORT_REQUESTS),
        time(config.body_time),
        count(limits::MAX_FIELDS),
        count(limits::MAX_LIVE),
        count(limits::MAX_ID_BYTES),
        bytes(limits::MAX_NAME_BYTES),
        count(limits::MAX_LABELS),
        bytes(limits::MAX_LABEL_KEY_BYTES),
        count(limits::MAX_MESSAGES),
        count(limits::MAX_TOOLS),
        bytes(limits::MAX_SCHEMA_BYTES),
        count(limits::MAX_SCHEMA_DEPTH),
        count(limits::MAX_STOP_SEQUENCES),
        bytes(limits::MAX_STOP_BYTES),
        count(limits::MAX_STOP_TOKENS),
        count(limits::MAX_LOGIT_BIAS),
        count(spec::MAX_TOP_LOGPROBS as usize),
        count(of_leads::MAX_PRIORITY as usize),
        time(of_leads::MAX_KEEP),
        time(limits::MAX_COALESCE),
        time(of_leads::MAX_KEEP),
        time(limits::DEFAULT_KEEP),
        count(of_leads::MAX_FOLLOWERS),
        time(of_leads::ENDED_TIME),
        count(of_leads::MAX_ENDED),
        bytes(of_leads::MAX_ENDED_BYTES),
        bytes(limits::MAX_ANSWER),
        count(limits::MAX_CHUNK),
        bytes(limits::MAX_WHOLE_TEXT),
        time(config.heartbeat),
        time(config.ask_hold),
        count(limits::MAX_HELD),
        time(config.client_stall),
        count(limits::MAX_CHOICES),
        count(limits::MAX_ANSWER_LOGPROBS),
    ];
    // Those with a flag are checked where the flags are.
    let rows = rows("## Limits");
    let rows = rows.iter().filter(|row| !row[1].starts_with("`--"));
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(row[1], expected, "{}", row[0]);
    }
    let long = format!("requests above {} ", bytes(limits::LONG_REQUEST));
    assert!(rows[1][0].starts_with(&long), "{}", rows[1][0]);
}

/// Words in capitals, between quotes: reasons.
fn reasons_in(source: &'static str) -> BTreeSet<&'static str> {
    let texts = source.split('"').skip(1).step_by(2);
    let is_reason = |text: &&str| {
        let mut letters = text.chars();
        text.len() > 3 && letters.all(|c| c.is_ascii_uppercase() || c == '_')
    };
    texts.filter(is_reason).collect()
}

/// Words between backticks in a cell.
fn names(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

fn code_name(code: Code) -> String {
    let mut name = String::new();
    for (index, c) in format!("{code:?}").chars().enumerate() {
        if index > 0 && c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// Everything that a front refuses by itself, and what its lead does.
fn refusals() -> Vec<Error> {
    let text = String::new;
    let unread = [
        Unread::TooLong { limit: 0 },
        Unread::TooSlow {
            limit: Duration::ZERO,
        },
        Unread::Broken { why: text() },
        Unread::Crowded,
    ];
    let (soon, later) = (
        Some(of_leads::RETRY_AFTER),
        Some(of_leads::RETRY_AFTER_HOLD),
    );
    let lead = [
        (Code::ResourceExhausted, reason::QUEUE_FULL, soon),
        (Code::ResourceExhausted, reason::QUEUE_TIMEOUT, soon),
        (Code::ResourceExhausted, reason::TOO_MANY_FOLLOWERS, soon),
        (Code::AlreadyExists, reason::REQUEST_ID_REUSED, None),
        (Code::NotFound, reason::GENERATION_UNKNOWN, None),
        (Code::Unavailable, reason::GROUP_INCOMPLETE, later),
        (Code::Unavailable, reason::NOT_LEADER, soon),
        (Code::Unavailable, reason::LEAD_ENDING, soon),
        (Code::Unavailable, reason::LEAD_NEW, soon),
        (Code::DataLoss, reason::CANNOT_BE_COMPUTED, None),
        (Code::InvalidArgument, reason::REFUSED_BY_LEAD, None),
    ];
    let lead = lead.map(|(code, reason, retry)| status(code, reason, "", retry));
    let mut refusals = vec![
        Error::field("x", "y"),
        Error::unsupported("x", "y"),
        Error::Unreadable {
            field: text(),
            why: text(),
        },
        Error::UnknownModel {
            name: text(),
            served: text(),
        },
        Error::BeyondTheEnd { last: 1 },
        Error::AnswerTooLong {
            field: "x",
            bytes: 1,
            most: 0,
        },
        Error::TooManyLive { limit: 0 },
        Error::TooManyHeld { limit: 0 },
        Error::Draining,
        Error::DeadlineEarly,
        Error::Cancelled,
        Error::ClientStalled {
            limit: Duration::ZERO,
        },
        Error::LeadGone { why: text() },
        Error::LeadProtocol { why: "x" },
        Error::Broken,
    ];
    refusals.extend(unread.map(Error::from));
    refusals.extend(lead.map(Error::from_lead));
    refusals
}

/// The status by HTTP; what could not be read has one of its own there.
fn http_status(error: Error) -> String {
    let status = match &error {
        Error::Unread(Unread::TooLong { .. }) => 413,
        Error::Unread(Unread::TooSlow { .. }) => 408,
        Error::Unread(Unread::Broken { .. }) => 400,
        _ => HttpError::from(error).status().as_u16(),
    };
    status.to_string()
}

#[test]
fn the_reasons_on_the_page_are_those_of_the_code() {
    let mut expected: Vec<[String; 4]> = Vec::new();
    for error in refusals() {
        let delay = error.retry_after().map_or_else(String::new, time);
        let code = code_name(Status::from(error.clone()).code());
        let reason = error.reason().into_owned();
        expected.push([code, reason, http_status(error), delay]);
    }
    expected.sort();
    let row = |row: &Vec<&'static str>| {
        let name = |cell: usize| row[cell].trim_matches('`').to_owned();
        [name(0), name(1), name(2), name(3)]
    };
    let mut found: Vec<_> = rows("## Errors").iter().map(row).collect();
    found.sort();
    assert_eq!(found, expected);
    // That none is missing here.
    let (_, code) = include_str!("error.rs")
        .split_once("fn reason(")
        .expect("errors have reasons");
    let code = code.split("\n    }\n").next().unwrap_or_default();
    let mut all = reasons_in(code);
    all.extend(reasons_in(include_str!("../status.rs")));
    all.retain(|reason| !UNHEARD.contains(reason));
    let found: BTreeSet<&str> = found.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(found, all);
}

#[test]
fn the_warnings_on_the_page_are_those_of_the_code() {
    let mut all = reasons_in(include_str!("../../../tokenizer/src/harmony/event.rs"));
    all.extend(reasons_in(include_str!("output/chat.rs")));
    all.extend(reasons_in(include_str!("convert/reply.rs")));
    let rows = rows("| warning |");
    let found: BTreeSet<&str> = rows.iter().flat_map(|row| names(row[0])).collect();
    assert_eq!(found, all);
}
