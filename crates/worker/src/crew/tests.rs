//! Ranks' threads: who keeps what, and what a panic comes to.

use checkpoint::{Checkpoint, ModelName, RankWeights};
use exchange::local_group_at;
use kernels::{
    Attend, Combine, Embed, Experts, Linear, Reference, RmsNorm, Rotate, Route, StoreKv,
};
use spec::{BlockId, BlockRun, TokenId};
use spec::{Epoch, Fence, KvPlan, Line, Open, Part, Placement, SequenceId, Slot, StepNumber, Term};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::compute::{Hold, StepOrder};
use crate::convert::EpochPlan;
use crate::load::{LoadGauge, load};

/// The reference, but for a bug in one op.
struct Broken;

impl Backend for Broken {
    fn numerics(&self) -> &str {
        "broken-1"
    }
    fn embed(&self, args: Embed<'_>) {
        Reference.embed(args);
    }
    fn rms_norm(&self, args: RmsNorm<'_>) {
        Reference.rms_norm(args);
    }
    fn linear(&self, args: Linear<'_>) {
        Reference.linear(args);
    }
    fn rotate(&self, args: Rotate<'_>) {
        Reference.rotate(args);
    }
    fn store_kv(&self, args: StoreKv<'_>) {
        Reference.store_kv(args);
    }
    fn attend(&self, _args: Attend<'_>) {
        panic!("planted in attend");
    }
    fn route(&self, args: Route<'_>) {
        Reference.route(args);
    }
    fn run_experts(&self, args: Experts<'_>) {
        Reference.run_experts(args);
    }
    fn combine(&self, args: Combine<'_>) {
        Reference.combine(args);
    }
}

fn checkpoint() -> Checkpoint {
    Checkpoint::named(&ModelName::parse("synth:tiny,layers=1").unwrap()).unwrap()
}

fn plan(own: Vec<Rank>) -> Arc<EpochPlan> {
    let (layers, experts) = (1, checkpoint().geometry().num_experts);
    Arc::new(EpochPlan {
        fence: Fence {
            term: Term(1),
            epoch: Epoch(1),
        },
        placement: Arc::new(Placement::even(layers, experts, own.len())),
        own,
        peers: Vec::new(),
        kv: KvPlan {
            block_size: 16,
            full_blocks: 1,
            window_blocks: 1,
            num_slots: 1,
        },
        max_step_rows: 16,
    })
}

fn weights(plan: &EpochPlan) -> Vec<Arc<RankWeights>> {
    let (gauge, alive) = (LoadGauge::default(), CancellationToken::new());
    let watch = (&gauge, &alive);
    load(&checkpoint(), &plan.placement, &plan.own, &[], 1, watch).unwrap()
}

/// One token of a new sequence.
fn part() -> Part {
    let blocks = BlockRun {
        first: 0,
        blocks: vec![BlockId(0)],
    };
    Part {
        rank: Rank(0),
        closes: Vec::new(),
        opens: vec![Open {
            slot: Slot(0),
            sequence: SequenceId(1),
            tokens: [TokenId(1)].into(),
            prompt_len: 1,
            sampling: Arc::default(),
        }],
        lines: vec![Line {
            slot: Slot(0),
            start: 0,
            len: 1,
            full: blocks.clone(),
            window: blocks,
            samples: true,
            prompt_logprobs: false,
        }],
    }
}

async fn hold(contact: &Contact, plan: &Arc<EpochPlan>, weights: &Arc<RankWeights>) -> bool {
    let (reply, held) = oneshot::channel();
    let (plan, weights) = (Arc::clone(plan), Arc::clone(weights));
    let sent = contact
        .orders
        .send(Order::Hold(Hold {
            plan,
            weights,
            since: Fence::default(),
            reply,
        }))
        .await;
    assert!(sent.is_ok());
    held.await.unwrap().unwrap()
}

#[tokio::test]
async fn a_panic_of_a_rank_is_told_with_its_rank_and_message() {
    let (fatal, mut fatalities) = mpsc::unbounded_channel();
    let mut crew = Crew::new(vec![Arc::new(Broken)], fatal);
    let plan = plan(vec![Rank(0)]);
    let contact = crew.assign(&plan.own).await.unwrap().remove(0);
    hold(&contact, &plan, &weights(&plan)[0]).await;
    let exchange = Box::new(local_group_at(plan.fence, 1).remove(0));
    let enter = Order::Enter {
        plan: Arc::clone(&plan),
        exchange,
    };
    let (reply, mut outcomes) = mpsc::unbounded_channel();
    let alive = CancellationToken::new();
    let step = Order::Step(StepOrder {
        step: StepNumber(1),
        part: part(),
        alive,
        reply,
    });
    for order in [enter, step] {
        assert!(contact.orders.send(order).await.is_ok());
    }
    let error = fatalities.recv().await.unwrap();
    assert_eq!(
        error.to_string(),
        "the thread of rank 0 panicked: planted in attend"
    );
    assert!(
        outcomes.recv().await.is_none(),
        "the step must not be answered"
    );
    crew.dismiss().await;
}

#[tokio::test]
async fn a_rank_that_stays_keeps_its_thread_and_the_others_end() {
    let (fatal, _fatalities) = mpsc::unbounded_channel();
    let mut crew = Crew::new(vec![Arc::new(Reference), Arc::new(Reference)], fatal);
    let before = plan(vec![Rank(0), Rank(1)]);
    let loaded = weights(&before);
    let contacts = crew.assign(&before.own).await.unwrap();
    for (contact, weights) in contacts.iter().zip(&loaded) {
        assert!(!hold(contact, &before, weights).await);
    }
    let after = crew.assign(&[Rank(1), Rank(2)]).await.unwrap();
    assert_eq!(
        after.iter().map(|contact| contact.rank).collect::<Vec<_>>(),
        [Rank(1), Rank(2)]
    );
    assert!(contacts[0].orders.is_closed(), "rank 0 has ended");
    assert!(
        contacts[1].orders.same_channel(&after[0].orders),
        "rank 1 has stayed"
    );
    crew.dismiss().await;
    assert!(after[0].orders.is_closed() && after[1].orders.is_closed());
}
