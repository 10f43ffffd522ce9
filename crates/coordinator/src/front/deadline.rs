//! The deadline that a gRPC call carries.
//!
//! tonic ends only the *start* of a streaming call at its deadline; the stream itself is ours to
//! end. Format: gRPC over HTTP/2, "Timeout" (at most eight digits and a unit).

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;

use super::error::Error;

/// Returns when the call ends, if it says so.
///
/// # Errors
///
/// [`Error::Field`] if the header is not a timeout.
pub(super) fn of(headers: &HeaderMap, arrived: Instant) -> Result<Option<Instant>, Error> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let timeout = value.to_str().ok().and_then(parse);
    let timeout = timeout.ok_or_else(|| {
        Error::field(
            "grpc-timeout",
            format!("{value:?} is not up to 8 digits and a unit HMSmun"),
        )
    })?;
    // A deadline so far that it cannot be told is none.
    Ok(arrived.checked_add(timeout))
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = !digits.is_empty() && digits.len() <= 8;
    if !is_number || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse;

    #[test]
    fn reads_every_unit() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse("4S"), Some(Duration::from_secs(4)));
        assert_eq!(parse("301m"), Some(Duration::from_millis(301)));
        assert_eq!(parse("30228466u"), Some(Duration::from_micros(30_228_466)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
    }

    #[test]
    fn refuses_what_is_no_timeout() {
        for text in [
            "",
            "S",
            "5",
            "-1S",
            "+1S",
            "1 S",
            "1.5S",
            "123456789S",
            "1s",
            "5\u{e9}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
