//! How a call wants its events, checked.

use std::time::Duration;

use proto::v1;

use super::{duration, known};
use crate::front::error::Error;
use crate::front::limits;
use crate::front::request::Delivery;
use crate::limits::MAX_KEEP;

/// Checks the delivery of a request, which its client has named or not.
///
/// # Errors
///
/// The first field at fault.
pub(super) fn delivery(given: v1::StreamParams, is_named: bool) -> Result<Delivery, Error> {
    let coalesce = match given.coalesce {
        Some(time) => duration(time, "stream.coalesce", limits::MAX_COALESCE)?,
        None => Duration::ZERO,
    };
    let delivery = known::<v1::Delivery>(given.delivery, "stream.delivery")?;
    if given.resume_after.is_some() && !is_named {
        let why = "needs the request_id of the call that is resumed";
        return Err(Error::field("stream.resume_after", why));
    }
    Ok(Delivery {
        final_only: delivery == v1::Delivery::FinalOnly,
        token_ids: given.include_token_ids,
        coalesce,
        keep: keep(&given, is_named)?,
        resume_after: given.resume_after.unwrap_or(0),
    })
}

/// Returns how long the generation goes on without its client.
fn keep(given: &v1::StreamParams, is_named: bool) -> Result<Option<Duration>, Error> {
    let field = "stream.keep_for";
    let keep_for = given.keep_for.map(|time| duration(time, field, MAX_KEEP));
    let keep_for = keep_for.transpose()?;
    if keep_for == Some(Duration::ZERO) {
        let why = "is no time; DISCONNECT_POLICY_CANCEL keeps nothing";
        return Err(Error::field(field, why));
    }
    match known::<v1::DisconnectPolicy>(given.on_disconnect, "stream.on_disconnect")? {
        v1::DisconnectPolicy::Cancel if keep_for.is_some() => {
            Err(Error::field(field, "is for DISCONNECT_POLICY_KEEP"))
        }
        v1::DisconnectPolicy::Cancel => Ok(None),
        v1::DisconnectPolicy::Keep => Ok(Some(keep_for.unwrap_or(limits::DEFAULT_KEEP))),
        v1::DisconnectPolicy::Unspecified => {
            Ok(keep_for.or(is_named.then_some(limits::DEFAULT_KEEP)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep_of(policy: v1::DisconnectPolicy, seconds: Option<i64>, is_named: bool) -> Option<u64> {
        let given = v1::StreamParams {
            on_disconnect: policy.into(),
            keep_for: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            ..Default::default()
        };
        let delivery = delivery(given, is_named).unwrap();
        delivery.keep.map(|keep| keep.as_secs())
    }

    #[test]
    fn a_generation_with_a_name_is_kept_and_another_is_not() {
        use v1::DisconnectPolicy::{Cancel, Keep, Unspecified};
        assert_eq!(keep_of(Unspecified, None, false), None);
        assert_eq!(keep_of(Unspecified, None, true), Some(30));
        assert_eq!(keep_of(Unspecified, Some(5), true), Some(5));
        assert_eq!(keep_of(Cancel, None, true), None);
        assert_eq!(keep_of(Keep, None, false), Some(30));
        assert_eq!(keep_of(Keep, Some(600), true), Some(600));
    }
}
