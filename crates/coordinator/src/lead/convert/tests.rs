//! Tests of what is read from the wire and written to it.

use super::*;

const VOCABULARY: Vocabulary = Vocabulary {
    size: 100,
    max_context: 8,
};

fn request() -> wire::FollowRequest {
    let sampling = sampling_to_wire(&Sampling::default());
    let record = wire::SequenceRecord {
        request_id: "r".into(),
        principal: "p".into(),
        tokens: vec![1, 2, 3],
        sampling: Some(sampling),
        stop: Some(wire::Stop {
            max_tokens: 5,
            stop_tokens: vec![9],
        }),
        fingerprint: vec![0; 32],
        ..Default::default()
    };
    wire::FollowRequest {
        record: Some(record),
        ..Default::default()
    }
}

#[test]
fn reads_a_record_and_the_terms() {
    let follow = follow(
        wire::FollowRequest {
            generated: vec![4, 5],
            tokens_seen: 2,
            keep_us: Some(3),
            ..request()
        },
        &VOCABULARY,
    );
    let follow = follow.unwrap();
    assert_eq!(&*follow.name.request_id, "r");
    assert_eq!(follow.generated, [TokenId(4), TokenId(5)]);
    assert_eq!(follow.terms.cursor.tokens, 2);
    assert_eq!(follow.terms.keep, Some(Duration::from_micros(3)));
    let work = follow.record.unwrap().work;
    assert_eq!(work.prompt.len(), 3);
    assert_eq!(work.stop.stop_tokens, [TokenId(9)]);
}

#[test]
fn tokens_are_not_forced_where_what_stays_was_not_sent() {
    let force = |keep, generated| wire::ForceRequest {
        keep,
        generated,
        tokens: vec![7, 8],
        ..Default::default()
    };
    let (kept, then) = forced(&force(2, vec![4, 5]), 100).unwrap();
    assert_eq!(kept, [TokenId(4), TokenId(5)]);
    assert_eq!(then, [TokenId(7), TokenId(8)]);
    assert_eq!(
        forced(&force(2, Vec::new()), 100).unwrap_err().field,
        "keep"
    );
    let (kept, _) = forced(&force(0, vec![4]), 100).unwrap();
    assert_eq!(kept, [TokenId(4)]);
    assert_eq!(
        forced(&force(1, vec![100]), 100).unwrap_err().field,
        "generated"
    );
}

#[test]
fn a_name_is_enough_to_attach() {
    let mut attach = request();
    attach.attach_only = true;
    attach.record = Some(wire::SequenceRecord {
        request_id: "r".into(),
        principal: "p".into(),
        ..Default::default()
    });
    assert!(follow(attach, &VOCABULARY).unwrap().record.is_none());
}

#[test]
fn names_the_field_that_cannot_be() {
    type Break = fn(&mut wire::FollowRequest, &mut wire::SequenceRecord);
    let breaks: [(&str, Break); 15] = [
        ("request_id", |_, r| r.request_id.clear()),
        ("principal", |_, r| r.principal = "p".repeat(257)),
        ("tokens", |_, r| r.tokens.clear()),
        ("tokens", |_, r| r.tokens = vec![100]),
        ("tokens", |_, r| r.tokens = vec![1; 8]),
        ("tokens", |f, _| f.generated = vec![1; 6]),
        ("generated", |f, _| f.generated = vec![100]),
        ("sampling", |_, r| r.sampling = None),
        ("stop", |_, r| r.stop = None),
        ("stop_tokens", |_, r| {
            r.stop.get_or_insert_default().stop_tokens = vec![1; 257];
        }),
        ("fingerprint", |_, r| r.fingerprint = vec![0; 31]),
        ("front", |_, r| r.front = vec![0; (32 << 10) + 1]),
        ("cache_salt", |_, r| r.cache_salt = "s".repeat(257)),
        ("keep_us", |f, _| f.keep_us = Some(600_000_001)),
        ("queue_timeout_us", |f, _| {
            f.queue_timeout_us = Some(u64::MAX);
        }),
    ];
    for (field, change) in breaks {
        let mut broken = request();
        let mut record = broken.record.take().unwrap_or_default();
        change(&mut broken, &mut record);
        broken.record = Some(record);
        let error = follow(broken, &VOCABULARY).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
    let none = wire::FollowRequest::default();
    assert_eq!(follow(none, &VOCABULARY).unwrap_err().field, "record");
}
