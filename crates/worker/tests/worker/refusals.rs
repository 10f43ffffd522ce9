//! What a worker does not obey, and that it lives on.

use proto::internal as wire;
use tonic::Code;

use crate::health::Health;
use crate::lead::{
    GROUP, Run, Sequence, advance, fence, parts, prepare, prepare_one, prepare_request, seat,
};
use crate::process::Process;

/// A field's path, and a change that spoils it.
type Spoilt<T> = (&'static str, fn(&mut T));

#[tokio::test]
async fn a_lower_epoch_or_term_is_refused_naming_both() {
    let worker = Process::alone("a", 1).await;
    let mut members = seat(&[&worker]).await;
    let (mut group, _) = prepare(&mut members, fence(2, 5)).await;
    for low in [fence(2, 4), fence(1, 9), fence(2, 5)] {
        let request = prepare_request(&members, 0, low);
        let refused = prepare_one(&mut members[0], request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted);
        let named = format!("{}.{}", low.term, low.epoch);
        assert!(refused.message().contains(&named), "{refused}");
        assert!(refused.message().contains("2.5"), "{refused}");
    }
    // Nor is another lead of the same term, whatever its epoch.
    let mut request = prepare_request(&members, 0, fence(2, 6));
    request.lead += 1;
    let refused = prepare_one(&mut members[0], request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    assert!(refused.message().contains("another lead's"), "{refused}");
    // The epoch that is obeyed was not disturbed.
    advance(&mut group, 1, &mut Sequence::several(1), true).await;
}

#[tokio::test]
async fn only_the_prepared_epoch_is_run_and_only_once() {
    let worker = Process::alone("a", 1).await;
    let mut members = seat(&[&worker]).await;
    let (mut group, _) = prepare(&mut members, fence(1, 2)).await;
    let parts = parts(&Sequence::several(1), 1, true);
    let mut other = Run::open(&mut members[0]).await;
    other.send(fence(1, 1), 1, &parts).await;
    assert_eq!(
        other.answer().await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    advance(&mut group, 1, &mut Sequence::several(1), true).await;
    let mut second = Run::open(&mut members[0]).await;
    second.send(fence(1, 2), 1, &parts).await;
    let refused = second.answer().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("once"), "{refused}");
}

#[tokio::test]
async fn another_groups_lead_is_refused_naming_both_and_one_that_names_none_is_obeyed() {
    let worker = Process::alone("a", 1).await;
    let mut members = seat(&[&worker]).await;
    let refused = |status: tonic::Status| {
        assert_eq!(status.code(), Code::FailedPrecondition);
        let text = status.message();
        assert!(text.contains("other") && text.contains(GROUP), "{text}");
    };
    let mut request = prepare_request(&members, 0, fence(9, 9));
    request.group = "other".into();
    refused(prepare_one(&mut members[0], request).await.unwrap_err());
    // Its terms count for nothing here.
    let mut request = prepare_request(&members, 0, fence(1, 1));
    request.group.clear();
    prepare_one(&mut members[0], request).await.unwrap();

    let parts = parts(&Sequence::several(1), 1, true);
    let step = |group: &str, step| wire::RunRequest {
        fence: Some(fence(1, 1)),
        step,
        parts: parts.clone(),
        group: group.into(),
    };
    let mut other = Run::open(&mut members[0]).await;
    other.requests.send(step("other", 1)).await.unwrap();
    refused(other.answer().await.unwrap_err());
    let mut run = Run::open(&mut members[0]).await;
    run.requests.send(step("", 1)).await.unwrap();
    run.answer().await.unwrap();
    run.requests.send(step("other", 2)).await.unwrap();
    refused(run.answer().await.unwrap_err());
}

#[tokio::test]
async fn a_bad_preparation_is_refused_naming_the_field() {
    let worker = Process::alone("a", 1).await;
    let mut members = seat(&[&worker]).await;
    let bad: [Spoilt<wire::PrepareRequest>; 4] = [
        ("name", |request| request.name = "b".into()),
        ("kv", |request| {
            request.kv.as_mut().unwrap().full_blocks = 1 << 30
        }),
        ("placement", |request| request.placement.clear()),
        ("members[0].ranks", |request| {
            request.members[0].ranks = vec![0, 0]
        }),
    ];
    for (field, change) in bad {
        let mut request = prepare_request(&members, 0, fence(9, 9));
        change(&mut request);
        let refused = prepare_one(&mut members[0], request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(
            refused.message().starts_with(&format!("{field}: ")),
            "{refused}"
        );
    }
    // What was refused is not obeyed: a lower epoch is still welcome.
    prepare(&mut members, fence(1, 1)).await;
}

#[tokio::test]
async fn bad_parts_are_refused_naming_the_field_and_the_worker_lives_on() {
    let worker = Process::alone("a", 1).await;
    let mut members = seat(&[&worker]).await;
    let bad: [Spoilt<wire::Part>; 4] = [
        ("parts[0].lines[0].slot", |part| part.lines[0].slot = 99),
        ("parts[0].opens[0].tokens[0]", |part| {
            part.opens[0].tokens[0] = u32::MAX
        }),
        ("parts[0].lines[0].full.blocks[1]", |part| {
            part.lines[0].full.as_mut().unwrap().blocks[1] = u32::MAX;
        }),
        ("parts[0].opens[0].sampling.top_p", |part| {
            part.opens[0].sampling.as_mut().unwrap().top_p = 0.0;
        }),
    ];
    for (epoch, (field, change)) in (1..).zip(bad) {
        let (mut group, _) = prepare(&mut members, fence(1, epoch)).await;
        let mut parts = parts(&Sequence::several(1), 1, true);
        change(&mut parts[0]);
        group.runs[0].send(fence(1, epoch), 1, &parts).await;
        let refused = group.runs[0].answer().await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(
            refused.message().starts_with(&format!("{field}: ")),
            "{refused}"
        );
    }
    // What only the rank can know comes back as a failed step that blames nobody else.
    let (mut group, _) = prepare(&mut members, fence(2, 1)).await;
    group.runs[0]
        .send(fence(2, 1), 1, &parts(&Sequence::several(1), 1, false))
        .await;
    let failed = group.runs[0].failure().await;
    assert_eq!((failed.rank, failed.blamed), (0, None));
    assert!(failed.reason.contains("slot 0"), "{}", failed.reason);
    // And now a good one.
    let (mut group, _) = prepare(&mut members, fence(2, 2)).await;
    advance(&mut group, 1, &mut Sequence::several(1), true).await;
}

#[tokio::test]
async fn steps_out_of_order_or_beyond_the_queue_are_refused() {
    let (a, b) = (Process::alone("a", 1).await, Process::alone("b", 1).await);
    let mut members = seat(&[&a, &b]).await;
    let (mut group, _) = prepare(&mut members, fence(1, 1)).await;
    let parts = parts(&Sequence::several(1), 2, true);
    // Rank 1 is told nothing, so rank 0 cannot end any step.
    for step in 1..=5 {
        group.runs[0].send(fence(1, 1), step, &parts).await;
    }
    let refused = group.runs[0].answer().await.unwrap_err();
    assert!(refused.message().starts_with("step: 5 "), "{refused}");

    let (mut group, _) = prepare(&mut members, fence(1, 2)).await;
    for step in [7, 7] {
        group.runs[0].send(fence(1, 2), step, &parts).await;
    }
    let refused = group.runs[0].answer().await.unwrap_err();
    assert!(refused.message().starts_with("step: 7 "), "{refused}");
}

#[tokio::test]
async fn health_says_whether_an_epoch_is_ready() {
    let worker = Process::alone("a", 1).await;
    let mut process = Health::watch_service(&worker, "").await;
    process.until(true).await;
    let mut health = Health::watch(&worker).await;
    health.until(false).await;
    prepare(&mut seat(&[&worker]).await, fence(1, 1)).await;
    health.until(true).await;
}

#[tokio::test]
async fn streams_without_a_step_are_few_and_end_with_the_epoch() {
    let worker = Process::alone("a", 1).await;
    let mut members = seat(&[&worker]).await;
    let (group, _) = prepare(&mut members, fence(1, 1)).await;
    let mut waiting = group.runs;
    while waiting.len() < worker::limits::MAX_RUNS_WITHOUT_STEP {
        waiting.push(Run::open(&mut members[0]).await);
    }
    let (_requests, stream) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let refused = members[0].client.run(stream).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);

    let request = prepare_request(&members, 0, fence(1, 2));
    prepare_one(&mut members[0], request).await.unwrap();
    for mut run in waiting {
        assert_eq!(run.answer().await.unwrap_err().code(), Code::Aborted);
    }
    let (mut group, _) = prepare(&mut members, fence(1, 3)).await;
    advance(&mut group, 1, &mut Sequence::several(1), true).await;
}
