//! Sharding changes nothing: the same bits from any number of workers and ranks.

use std::collections::BTreeSet;

use crate::lead::{Sequence, advance, fence, parts, prepare, seat};
use crate::process::Process;

/// What seven sequences say in `steps` steps, on workers with these numbers of ranks.
async fn outcome(ranks: &[u32], steps: u64) -> Vec<Sequence> {
    let mut workers = Vec::new();
    for (index, ranks) in ranks.iter().enumerate() {
        workers.push(Process::alone(&format!("worker-{index}"), *ranks).await);
    }
    let mut members = seat(&workers.iter().collect::<Vec<_>>()).await;
    let (mut group, kept_kv) = prepare(&mut members, fence(1, 1)).await;
    assert!(kept_kv.iter().all(|kept| !kept), "nothing was there before");
    let mut sequences = Sequence::several(4);
    for step in 1..=steps {
        advance(&mut group, step, &mut sequences, step == 1).await;
    }
    sequences
}

/// A token, its logprob's bits and rank, and the same of the alternatives.
type Bits = (u32, u32, u32, Vec<(u32, u32)>);

/// The bits of everything that was reported.
fn bits(sequences: &[Sequence]) -> Vec<Bits> {
    let sampled = sequences.iter().flat_map(|sequence| &sequence.output);
    let bits = sampled.map(|sampled| {
        let logprob = sampled.logprob.as_ref().expect("logprobs were asked for");
        let top = logprob
            .top
            .iter()
            .map(|top| (top.token, top.logprob.to_bits()));
        (
            sampled.token,
            logprob.logprob.to_bits(),
            logprob.rank,
            top.collect(),
        )
    });
    bits.collect()
}

#[tokio::test]
async fn any_split_into_workers_and_ranks_gives_the_same_bits() {
    let alone = outcome(&[1], 6).await;
    let expected = bits(&alone);
    assert_eq!(expected.len(), 4 * 6);
    let distinct: BTreeSet<u32> = expected.iter().map(|(_, logprob, ..)| *logprob).collect();
    assert!(
        distinct.len() > 12,
        "the model says something different at each position"
    );
    for ranks in [&[1, 1][..], &[3], &[2, 2], &[1, 1, 1]] {
        let found = outcome(ranks, 6).await;
        assert_eq!(bits(&found), expected, "ranks {ranks:?}");
    }
}

#[tokio::test]
async fn steps_in_flight_are_executed_in_order_and_each_answered() {
    let worker = Process::alone("a", 2).await;
    let mut members = seat(&[&worker]).await;
    let (mut group, _) = prepare(&mut members, fence(1, 1)).await;
    let mut expected = Sequence::several(4);
    for step in 1..=4 {
        advance(&mut group, step, &mut expected, step == 1).await;
    }

    let (mut group, kept_kv) = prepare(&mut members, fence(1, 2)).await;
    assert_eq!(kept_kv, [true, true]);
    // The lead plans ahead: it does not know the tokens that the steps before will sample.
    let mut planned = Sequence::several(4);
    for step in 11..=14 {
        let parts = parts(&planned, 2, step == 11);
        group.runs[0].send(group.fence, step, &parts).await;
        planned
            .iter_mut()
            .for_each(|sequence| sequence.output.push(Default::default()));
    }
    let mut found = Sequence::several(4);
    for step in 11..=14 {
        use proto::internal::run_response::Message;
        let Message::Done(done) = group.runs[0].answer().await.unwrap() else {
            panic!()
        };
        assert_eq!(done.step, step);
        let mut lines: Vec<_> = done
            .parts
            .into_iter()
            .map(|part| part.lines.into_iter())
            .collect();
        for sequence in &mut found {
            let line = lines[sequence.home(2).0].next().unwrap();
            sequence.output.extend(line.tokens);
        }
    }
    assert_eq!(bits(&found), bits(&expected));
}
