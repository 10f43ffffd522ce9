//! A worker that dies costs its peers one step, and nothing else.

use std::time::Instant;

use proto::internal::run_response::Message;
use tonic::Code;
use worker::limits::SHUTDOWN_GRACE;

use crate::lead::{Sequence, advance, fence, parts, prepare, prepare_one, prepare_request, seat};
use crate::process::Process;

#[tokio::test]
async fn a_worker_that_dies_in_a_step_is_blamed_and_the_others_go_on_in_a_new_epoch() {
    let (a, b) = (Process::alone("a", 1).await, Process::alone("b", 1).await);
    let mut c = Process::alone("c", 1).await;
    let mut members = seat(&[&a, &b, &c]).await;
    let (mut group, _) = prepare(&mut members, fence(1, 1)).await;
    let mut sequences = Sequence::several(4);
    for step in 1..=2 {
        advance(&mut group, step, &mut sequences, step == 1).await;
    }
    // The third step is given to a and b only: both wait for c, which is then killed.
    let third = parts(&sequences, 3, false);
    for run in &mut group.runs[..2] {
        run.send(fence(1, 1), 3, &third).await;
    }
    for run in &mut group.runs[..2] {
        run.until_waiting_for(2).await;
    }
    c.kill();
    for (rank, run) in group.runs[..2].iter_mut().enumerate() {
        let failed = run.failure().await;
        assert_eq!((failed.step, failed.rank), (3, rank as u32));
        assert_eq!(failed.blamed, Some(2), "{}", failed.reason);
    }
    drop(group);

    // A new worker takes c's place; a and b still have their KV.
    let again = Process::alone("c", 1).await;
    let mut members = seat(&[&a, &b, &again]).await;
    let (mut group, kept_kv) = prepare(&mut members, fence(1, 2)).await;
    assert_eq!(kept_kv, [true, true, false]);
    // Those that lived on c are told again, all others go on.
    let (lost, kept): (Vec<_>, Vec<_>) = (0..4).partition(|index| index % 3 == 2);
    let mut step = parts(&pick(&sequences, &kept), 3, false);
    let told = parts(&pick(&sequences, &lost), 3, true);
    step[2] = told[2].clone();
    let results = group.step(3, &step).await;
    let mut lines: Vec<_> = results
        .into_iter()
        .map(|part| part.lines.into_iter())
        .collect();
    for sequence in &mut sequences {
        let line = lines[sequence.home(3).0].next().unwrap();
        sequence.output.extend(line.tokens);
    }
    advance(&mut group, 4, &mut sequences, false).await;

    let mut members = seat(&[&a]).await;
    let (mut group, kept_kv) = prepare(&mut members, fence(1, 3)).await;
    assert_eq!(kept_kv, [true]);
    let mut unfailed = Sequence::several(4);
    for step in 1..=4 {
        advance(&mut group, step, &mut unfailed, step == 1).await;
    }
    for (sequence, unfailed) in sequences.iter().zip(&unfailed) {
        assert_eq!(
            sequence.output, unfailed.output,
            "sequence {}",
            sequence.index
        );
    }
}

fn pick(sequences: &[Sequence], indices: &[u32]) -> Vec<Sequence> {
    indices
        .iter()
        .map(|index| sequences[*index as usize].clone())
        .collect()
}

#[tokio::test]
async fn the_end_of_a_run_frees_ranks_that_wait() {
    let (a, b) = (Process::alone("a", 2).await, Process::alone("b", 1).await);
    let mut members = seat(&[&a, &b]).await;
    let (mut group, _) = prepare(&mut members, fence(1, 1)).await;
    group.runs[0]
        .send(fence(1, 1), 1, &parts(&Sequence::several(3), 3, true))
        .await;
    group.runs[0].until_waiting_for(2).await;
    // The lead leaves. Ranks that still waited for b would not take the next order.
    drop(group);
    let (mut group, kept_kv) = prepare(&mut members, fence(1, 2)).await;
    assert_eq!(
        kept_kv,
        [true, true, false],
        "b has not been told anything yet"
    );
    advance(&mut group, 1, &mut Sequence::several(3), true).await;
}

#[tokio::test]
async fn a_new_epoch_ends_the_run_of_the_one_before() {
    let (a, b) = (Process::alone("a", 1).await, Process::alone("b", 1).await);
    let mut members = seat(&[&a, &b]).await;
    let (mut old, _) = prepare(&mut members, fence(1, 1)).await;
    old.runs[0]
        .send(fence(1, 1), 1, &parts(&Sequence::several(2), 2, true))
        .await;
    old.runs[0].until_waiting_for(1).await;
    let (mut group, _) = prepare(&mut members, fence(2, 1)).await;
    let ended = old.runs[0].answer().await;
    assert!(
        matches!(ended, Err(_) | Ok(Message::Failed(_))),
        "{ended:?}"
    );
    advance(&mut group, 1, &mut Sequence::several(2), true).await;
}

#[tokio::test]
async fn kv_is_kept_only_for_the_same_rank_and_the_same_plan() {
    let (a, b) = (Process::alone("a", 1).await, Process::alone("b", 1).await);
    let mut members = seat(&[&a, &b]).await;
    let (mut group, kept_kv) = prepare(&mut members, fence(1, 1)).await;
    assert_eq!(kept_kv, [false, false]);
    advance(&mut group, 1, &mut Sequence::several(2), true).await;
    let (mut group, kept_kv) = prepare(&mut members, fence(1, 2)).await;
    assert_eq!(kept_kv, [true, true]);
    advance(&mut group, 1, &mut Sequence::several(2), true).await;
    // The ranks change hands.
    let mut swapped = seat(&[&b, &a]).await;
    let (mut group, kept_kv) = prepare(&mut swapped, fence(1, 3)).await;
    assert_eq!(kept_kv, [false, false]);
    advance(&mut group, 1, &mut Sequence::several(2), true).await;
    let mut request = prepare_request(&swapped, 0, fence(1, 4));
    request.kv.as_mut().unwrap().full_blocks -= 1;
    assert_eq!(
        prepare_one(&mut swapped[0], request).await.unwrap(),
        [false]
    );
}

#[tokio::test]
async fn kv_is_kept_only_if_it_is_what_the_last_steps_left() {
    let a = Process::alone("a", 1).await;
    let mut members = seat(&[&a]).await;
    // An epoch that never ran leaves nothing: whatever the group knows is not in this memory.
    prepare(&mut members, fence(1, 1)).await;
    let (mut group, kept_kv) = prepare(&mut members, fence(1, 2)).await;
    assert_eq!(kept_kv, [false]);
    advance(&mut group, 1, &mut Sequence::several(1), true).await;
    // It takes nothing away either.
    let (_, kept_kv) = prepare(&mut members, fence(1, 3)).await;
    assert_eq!(kept_kv, [true]);
    let (_, kept_kv) = prepare(&mut members, fence(1, 4)).await;
    assert_eq!(kept_kv, [true]);
    // Nor does an epoch that never came here: who held the rank in it is known to the lead.
    let (_, kept_kv) = prepare(&mut members, fence(1, 9)).await;
    assert_eq!(kept_kv, [true]);
    // A new lead knows none of it, until steps of its own have run.
    let (_, kept_kv) = prepare(&mut members, fence(2, 1)).await;
    assert_eq!(kept_kv, [false]);
    let (mut group, kept_kv) = prepare(&mut members, fence(2, 2)).await;
    assert_eq!(kept_kv, [false]);
    advance(&mut group, 1, &mut Sequence::several(1), true).await;
    let (_, kept_kv) = prepare(&mut members, fence(2, 4)).await;
    assert_eq!(kept_kv, [true]);
}

#[tokio::test]
async fn a_worker_ends_in_order_in_the_middle_of_a_step() {
    let (a, b) = (Process::alone("a", 1).await, Process::alone("b", 1).await);
    let mut members = seat(&[&a, &b]).await;
    let (mut group, _) = prepare(&mut members, fence(1, 1)).await;
    group.runs[0]
        .send(fence(1, 1), 1, &parts(&Sequence::several(2), 2, true))
        .await;
    group.runs[0].until_waiting_for(1).await;
    a.shutdown.cancel();
    let ended = group.runs[0].answer().await;
    assert!(
        matches!(&ended, Err(status) if status.code() == Code::Aborted)
            || matches!(ended, Ok(Message::Failed(_))),
        "{ended:?}"
    );
    a.ended().await.unwrap();
}

/// A worker ends while its peer and its lead stay, after so many steps.
async fn ends_at_once_after(steps: u64) {
    let (a, b) = (Process::alone("a", 1).await, Process::alone("b", 1).await);
    let mut members = seat(&[&a, &b]).await;
    let (mut group, _) = prepare(&mut members, fence(1, 1)).await;
    let mut sequences = Sequence::several(2);
    for step in 1..=steps {
        advance(&mut group, step, &mut sequences, step == 1).await;
    }
    let since = Instant::now();
    a.shutdown.cancel();
    a.ended().await.unwrap();
    let waited = since.elapsed();
    assert!(
        waited < SHUTDOWN_GRACE / 2,
        "{waited:?} after {steps} steps"
    );
}

#[tokio::test]
async fn a_worker_ends_at_once_though_idle_peers_stay() {
    ends_at_once_after(0).await;
    ends_at_once_after(2).await;
}
