//! What a home rank keeps of a sequence, so that another lead can go on with it.

use bytes::Bytes;
use prost::Message as _;
use proto::internal as wire;

use super::convert::{self, Malformed, Vocabulary};
use super::message::Follow;

/// Encodes what the home rank keeps of a request. The rank has the tokens, and this lead's clock means
/// nothing elsewhere.
pub(crate) fn kept(request: &mut wire::FollowRequest) -> Bytes {
    let Some(record) = &mut request.record else {
        return Bytes::new();
    };
    let tokens = std::mem::take(&mut record.tokens);
    let kept = wire::FollowRequest {
        record: Some(record.clone()),
        keep_us: request.keep_us,
        age_us: request.age_us,
        fixed: request.fixed,
        ..Default::default()
    };
    record.tokens = tokens;
    kept.encode_to_vec().into()
}

/// Says in what is kept that so many of the tokens are not to be generated again.
pub(crate) fn fixed(kept: &Bytes, tokens: usize) -> Bytes {
    let fixed = wire::FollowRequest {
        fixed: tokens as u32,
        ..Default::default()
    };
    // Of a field that comes twice the last one counts:
    // https://protobuf.dev/programming-guides/encoding/#last-one-wins
    [&kept[..], &fixed.encode_to_vec()].concat().into()
}

/// Reads what a home rank has kept of a sequence.
pub(crate) fn collected(
    left: wire::LeftSequence,
    vocabulary: &Vocabulary,
) -> Result<Follow, Malformed> {
    let malformed = |why: String| Malformed { field: "left", why };
    let request = wire::FollowRequest::decode(left.record.as_slice());
    let mut request = request.map_err(|error| malformed(error.to_string()))?;
    let record = request.record.as_mut();
    let record = record.ok_or_else(|| malformed("its record is empty".into()))?;
    let mut tokens = left.tokens;
    let prompt_len = tokens.len().min(left.prompt_len as usize);
    let mut generated = tokens.split_off(prompt_len);
    let stop = record.stop.clone().unwrap_or_default();
    let fixed = (request.fixed as usize).min(generated.len());
    generated.truncate(committed(&stop, &generated, fixed));
    generated.truncate(vocabulary.max_context.saturating_sub(prompt_len));
    record.tokens = tokens;
    // Tokens get their logprobs only from the ranks: they are computed again, and come out the same, but
    // for those that were forced, and what led to them.
    let sampling = record.sampling.as_ref();
    let wants_logprobs = sampling
        .is_some_and(|sampling| sampling.logprobs.is_some() || sampling.prompt_logprobs.is_some());
    if wants_logprobs {
        generated.truncate(fixed);
    }
    request.generated = generated;
    request.was_accepted = true;
    convert::follow(request, vocabulary)
}

/// Returns how many of the tokens belong to the sequence. A rank has sampled on where its lead, which
/// plans ahead, did not know of the end yet. What was forced ends nothing.
fn committed(stop: &wire::Stop, generated: &[u32], fixed: usize) -> usize {
    let is_stop = |token| stop.stop_tokens.contains(token);
    let end = generated.iter().skip(fixed).position(is_stop);
    let end = end.map_or(generated.len(), |end| fixed + end + 1);
    end.min(stop.max_tokens as usize)
}

#[cfg(test)]
mod tests {
    use spec::{Sampling, TokenId};

    use super::*;
    use crate::wire::sampling_to_wire;

    const VOCABULARY: Vocabulary = Vocabulary {
        size: 100,
        max_context: 8,
    };

    fn left(sampling: &Sampling) -> wire::LeftSequence {
        let record = wire::SequenceRecord {
            request_id: "r".into(),
            principal: "p".into(),
            tokens: vec![1, 2, 3],
            sampling: Some(sampling_to_wire(sampling)),
            stop: Some(wire::Stop {
                max_tokens: 5,
                stop_tokens: vec![9],
            }),
            fingerprint: vec![7; 32],
            ..Default::default()
        };
        let mut request = wire::FollowRequest {
            record: Some(record),
            generated: vec![4],
            tokens_seen: 1,
            deadline_us: Some(1),
            keep_us: Some(30),
            ..Default::default()
        };
        wire::LeftSequence {
            record: kept(&mut request).to_vec(),
            tokens: vec![1, 2, 3, 4, 5],
            prompt_len: 3,
            term: 1,
            epoch: 0,
        }
    }

    #[test]
    fn what_is_kept_and_its_tokens_make_the_request_again() {
        let follow = collected(left(&Sampling::default()), &VOCABULARY).unwrap();
        assert_eq!(&*follow.name.request_id, "r");
        assert_eq!(follow.generated, [TokenId(4), TokenId(5)]);
        assert_eq!(follow.terms.keep.unwrap().as_micros(), 30);
        assert_eq!(
            (follow.terms.deadline, follow.terms.cursor.tokens),
            (None, 0)
        );
        let record = follow.record.unwrap();
        assert_eq!(record.fingerprint, [7; 32]);
        assert_eq!(&*record.work.prompt, [TokenId(1), TokenId(2), TokenId(3)]);
    }

    #[test]
    fn what_was_sampled_beyond_the_end_is_no_part_of_it() {
        let generated = |tokens: &[u32]| {
            let mut left = left(&Sampling::default());
            left.tokens.truncate(3);
            left.tokens.extend(tokens);
            collected(left, &VOCABULARY).unwrap().generated
        };
        let ids = |tokens: &[u32]| tokens.iter().copied().map(TokenId).collect::<Vec<_>>();
        assert_eq!(generated(&[4, 9, 5]), ids(&[4, 9]), "9 ends it");
        let whole = [4, 5, 6, 7, 8];
        assert_eq!(generated(&whole), ids(&whole));
        assert_eq!(generated(&[4, 5, 6, 7, 8, 9]), ids(&whole), "5 are all");
    }

    #[test]
    fn tokens_whose_logprobs_are_wanted_are_computed_again() {
        let sampling = Sampling {
            logprobs: Some(0),
            ..Sampling::default()
        };
        let follow = collected(left(&sampling), &VOCABULARY).unwrap();
        assert_eq!(follow.generated, []);
    }

    #[test]
    fn what_was_forced_is_kept_whatever_it_is() {
        let sampling = Sampling {
            logprobs: Some(0),
            ..Sampling::default()
        };
        for (sampling, kept_tokens) in [(Sampling::default(), 4), (sampling, 3)] {
            let mut left = left(&sampling);
            let record = Bytes::from(std::mem::take(&mut left.record));
            // Again, as after a second opening.
            left.record = fixed(&fixed(&record, 1), 3).to_vec();
            left.tokens = vec![1, 2, 3, 4, 9, 5, 6];
            let follow = collected(left, &VOCABULARY).unwrap();
            let all = [4, 9, 5, 6].map(TokenId);
            assert_eq!(follow.generated, all[..kept_tokens]);
            let again = wire::FollowRequest::decode(follow.record.unwrap().kept).unwrap();
            assert_eq!(again.fixed, 3);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let left = |record: &[u8]| wire::LeftSequence {
            record: record.to_vec(),
            tokens: vec![1],
            prompt_len: 9,
            term: 1,
            epoch: 0,
        };
        for record in [&[][..], &[0xff; 8]] {
            let refused = collected(left(record), &VOCABULARY).unwrap_err();
            assert_eq!(refused.field, "left");
        }
    }
}
