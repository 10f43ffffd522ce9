//! Ranks' threads: who keeps what, and what a panic comes to.

use checkpoint::RankWeights;
use exchange::local_group_at;
use kernels::{ExchangeError, Moment, Phase, Reference};
use model::ModelError;
use spec::StepNumber;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::compute::{Hold, Outcome, StepOrder, blamed};
use crate::convert::EpochPlan;
use crate::load::{Layout, LoadGauge, load};
use crate::testing::{Odd, checkpoint, part, plan};

fn weights(plan: &EpochPlan) -> Vec<Arc<RankWeights>> {
    let (gauge, stop) = (LoadGauge::default(), CancellationToken::new());
    let watch = (&gauge, &stop);
    let (weights, outcome) = load(&checkpoint(), plan, &[], &Layout::plain(), watch);
    outcome.unwrap();
    weights
}

async fn hold(contact: &Contact, plan: &Arc<EpochPlan>, weights: &Arc<RankWeights>) -> bool {
    let (reply, held) = oneshot::channel();
    let (plan, weights) = (Arc::clone(plan), Arc::clone(weights));
    let sent = contact
        .orders
        .send(Order::Hold(Hold {
            plan,
            weights,
            reply,
        }))
        .await;
    assert!(sent.is_ok());
    held.await.unwrap().unwrap()
}

/// Lets a rank enter the epoch, alone, and begin a step; returns where its outcome comes.
async fn begin(
    contact: &Contact,
    plan: &Arc<EpochPlan>,
    alive: &CancellationToken,
) -> mpsc::UnboundedReceiver<Outcome> {
    let exchange = Box::new(local_group_at(plan.fence, 1).remove(0));
    let enter = Order::Enter {
        plan: Arc::clone(plan),
        exchange,
    };
    let (reply, outcomes) = mpsc::unbounded_channel();
    let step = Order::Step(StepOrder {
        step: StepNumber(1),
        part: part(),
        alive: alive.clone(),
        reply,
    });
    for order in [enter, step] {
        assert!(contact.orders.send(order).await.is_ok());
    }
    outcomes
}

#[tokio::test]
async fn a_panic_of_a_rank_is_told_with_its_rank_and_message() {
    let (fatal, mut fatalities) = mpsc::unbounded_channel();
    let mut crew = Crew::new(vec![Arc::new(Odd(|| panic!("planted in attend")))], fatal);
    let plan = plan(vec![Rank(0)]);
    let contact = crew.assign(&plan.own).await.unwrap().remove(0);
    hold(&contact, &plan, &weights(&plan)[0]).await;
    let mut outcomes = begin(&contact, &plan, &CancellationToken::new()).await;
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
async fn a_rank_gives_its_step_up_between_stages_once_the_epoch_is_over() {
    let (fatal, mut fatalities) = mpsc::unbounded_channel();
    let alive = CancellationToken::new();
    let over = alive.clone();
    let mut crew = Crew::new(vec![Arc::new(Odd(move || over.cancel()))], fatal);
    let plan = plan(vec![Rank(0)]);
    let contact = crew.assign(&plan.own).await.unwrap().remove(0);
    hold(&contact, &plan, &weights(&plan)[0]).await;
    // The epoch ends in the middle of attention; the exchange itself does not hear of it.
    let outcome = begin(&contact, &plan, &alive).await.recv().await.unwrap();
    let error = outcome.result.unwrap_err();
    assert_eq!(blamed(&error, Rank(0)), None);
    let aborted = ModelError::Exchange(ExchangeError::Aborted {
        peer: Rank(0),
        phase: Phase::Dispatch,
        moment: Moment {
            fence: plan.fence,
            step: StepNumber(1),
            layer: 0,
        },
    });
    assert_eq!(error.to_string(), aborted.to_string());

    // The rank goes on in the next epoch, with what it held.
    assert!(hold(&contact, &plan, &weights(&plan)[0]).await);
    let again = begin(&contact, &plan, &CancellationToken::new())
        .await
        .recv()
        .await;
    assert_eq!(again.unwrap().result.unwrap().lines[0].tokens.len(), 1);
    assert!(fatalities.try_recv().is_err(), "nobody panicked");
    crew.dismiss().await;
}

#[tokio::test]
async fn a_rank_that_hangs_is_fatal_also_where_its_seat_is_taken_away() {
    let (fatal, mut fatalities) = mpsc::unbounded_channel();
    let (begun, mut hanging) = mpsc::unbounded_channel();
    let backend = Odd(move || {
        begun.send(()).ok();
        loop {
            std::thread::park();
        }
    });
    let mut crew = Crew::new(vec![Arc::new(backend)], fatal);
    let plan = plan(vec![Rank(0)]);
    let contact = crew.assign(&plan.own).await.unwrap().remove(0);
    hold(&contact, &plan, &weights(&plan)[0]).await;
    let _outcomes = begin(&contact, &plan, &CancellationToken::new()).await;
    hanging.recv().await.unwrap();
    // From here on no thread does anything, so that the clock leaps to the limit.
    tokio::time::pause();
    let error = crew.assign(&[Rank(1)]).await.err().expect("rank 0 hangs");
    assert!(
        matches!(error, Error::RankHung { rank: Rank(0), .. }),
        "{error}"
    );
    let told = fatalities.try_recv().unwrap();
    assert_eq!(told.to_string(), error.to_string());
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
