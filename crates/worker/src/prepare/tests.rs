//! Preparations that meet a rank that hangs, or are overtaken.

use kernels::Reference;
use proto::internal::prepare_response::State;
use spec::{Epoch, Fence, Placement, Rank, StepNumber};
use telemetry::Telemetry;
use tonic::Code;

use super::*;
use crate::compute::StepOrder;
use crate::load::LoadGauge;
use crate::testing::{Odd, checkpoint, part, plan};

type States = mpsc::Receiver<Result<wire::PrepareResponse, Status>>;

fn workshop(crew: Crew) -> Workshop {
    let standing = Standing::new(Telemetry::unseen_worker(4));
    Workshop::new(
        checkpoint(),
        crew,
        Hub::new(sockets::Dialer::default(), "0"),
        Layout::plain(),
        Arc::new(standing),
    )
}

fn preparation(plan: EpochPlan) -> Preparation {
    // Progress that nobody reads holds nothing up.
    let (states, _) = mpsc::channel(1);
    Preparation {
        plan: Arc::new(plan),
        alive: CancellationToken::new(),
        states,
    }
}

/// The same epoch again, under the next number.
fn next(plan: &EpochPlan) -> EpochPlan {
    let epoch = Epoch(plan.fence.epoch.0 + 1);
    EpochPlan {
        fence: Fence {
            epoch,
            ..plan.fence
        },
        ..plan.clone()
    }
}

#[tokio::test]
async fn a_rank_that_hangs_ends_the_preparation_and_the_process() {
    let (fatal, mut fatalities) = mpsc::unbounded_channel();
    let (begun, mut hanging) = mpsc::unbounded_channel();
    let backend = Odd(move || {
        begun.send(()).ok();
        loop {
            std::thread::park();
        }
    });
    let mut workshop = workshop(Crew::new(vec![Arc::new(backend)], fatal));
    let first = preparation(EpochPlan::clone(&plan(vec![Rank(0)])));
    let (prepared, _) = workshop.prepare(&first).await.unwrap();
    let (reply, _outcomes) = mpsc::unbounded_channel();
    let step = Order::Step(StepOrder {
        step: StepNumber(1),
        part: part(),
        alive: first.alive.clone(),
        reply,
    });
    assert!(prepared.seats[0].contact.orders.send(step).await.is_ok());
    hanging.recv().await.unwrap();

    // From here on no thread does anything, so that the clock leaps to the limit.
    tokio::time::pause();
    let second = preparation(next(&first.plan));
    let refused = workshop.prepare(&second).await.err().expect("rank 0 hangs");
    assert_eq!(refused.code(), Code::Internal);
    let fatal = fatalities.try_recv().unwrap().to_string();
    assert!(
        fatal.contains("rank 0") && fatal.contains("hangs"),
        "{fatal}"
    );
    assert_eq!(refused.message(), fatal);
}

/// Takes the next report: bytes loaded, and bytes to load.
async fn reported(states: &mut States) -> (u64, u64) {
    let state = states.recv().await.unwrap().unwrap().state;
    let Some(State::Loading(loading)) = state else {
        panic!("{state:?}");
    };
    (loading.bytes_done, loading.bytes_total)
}

#[tokio::test]
async fn a_preparation_goes_on_with_the_load_of_the_one_it_overtakes() {
    let (fatal, _fatalities) = mpsc::unbounded_channel();
    let mut workshop = workshop(Crew::new(vec![Arc::new(Reference)], fatal));
    let (mut first, mut second) = {
        let first = EpochPlan::clone(&plan(vec![Rank(0)]));
        let second = next(&first);
        (preparation(first), preparation(second))
    };
    let (states, mut first_states) = mpsc::channel(16);
    first.states = states;
    let (states, mut second_states) = mpsc::channel(16);
    second.states = states;
    // A load that stands at half its bytes until it is let go.
    let (stand, stands) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    workshop.loading = Some(Loading::begin(&first.plan, move |plan, (gauge, stop)| {
        gauge.show(5, 10);
        stand.send(()).ok();
        let tick = std::time::Duration::from_millis(5);
        while !stop.is_cancelled() && released.recv_timeout(tick).is_err() {}
        load(
            &checkpoint(),
            plan,
            &[],
            &Layout::plain(),
            (&LoadGauge::default(), stop),
        )
    }));

    stands.await.unwrap();
    let (overtaken, ()) = tokio::join!(workshop.prepare(&first), async {
        assert_eq!(reported(&mut first_states).await, (5, 10));
        first.alive.cancel();
    });
    assert_eq!(overtaken.err().unwrap().code(), Code::Aborted);
    // What was read stays read: the count goes on where it stood, and the load comes to its end.
    let (prepared, ()) = tokio::join!(workshop.prepare(&second), async {
        assert_eq!(reported(&mut second_states).await, (5, 10));
        release.send(()).unwrap();
    });
    prepared.map(drop).unwrap();
    while let Ok(state) = second_states.try_recv() {
        let Some(State::Loading(loading)) = state.unwrap().state else {
            panic!("the preparation itself tells only of the load");
        };
        assert_eq!(loading.bytes_done, 5);
    }
    workshop.close().await;
}

#[tokio::test]
async fn an_overtaken_load_of_another_placement_is_in_nobodys_way() {
    let (fatal, _fatalities) = mpsc::unbounded_channel();
    let crew = Crew::new(vec![Arc::new(Reference), Arc::new(Reference)], fatal);
    let mut workshop = workshop(crew);
    let first = preparation(EpochPlan::clone(&plan(vec![Rank(0), Rank(1)])));
    let (overtaken, ()) = tokio::join!(workshop.prepare(&first), async { first.alive.cancel() });
    assert_eq!(overtaken.err().unwrap().code(), Code::Aborted);

    // All experts change hands.
    let owners = first.plan.placement.owners(0).iter();
    let swapped = owners.map(|rank| Rank(1 - rank.0)).collect();
    let second = preparation(EpochPlan {
        placement: Arc::new(Placement::new(2, vec![swapped]).unwrap()),
        ..next(&first.plan)
    });
    workshop.prepare(&second).await.map(drop).unwrap();
    let held = |rank: usize| workshop.weights[rank].layers[0].experts.held();
    for rank in 0..2 {
        let placed = second.plan.placement.held_by(0, Rank(rank as u32));
        assert!(held(rank).eq(placed), "rank {rank}");
    }
    workshop.close().await;
}

#[tokio::test]
async fn loads_that_fail_again_and_again_pile_nothing_up() {
    let (fatal, _fatalities) = mpsc::unbounded_channel();
    let crew = Crew::new(vec![Arc::new(Reference), Arc::new(Reference)], fatal);
    let mut workshop = workshop(crew);
    let mut preparation = preparation(EpochPlan::clone(&plan(vec![Rank(0), Rank(1)])));
    for _ in 0..3 {
        // Its first rank is whole when the disk fails.
        let checkpoint = workshop.checkpoint.clone();
        workshop.loading = Some(Loading::begin(&preparation.plan, move |plan, watch| {
            let (mut whole, _) = load(&checkpoint, plan, &[], &Layout::plain(), watch);
            whole.truncate(1);
            (whole, Err(checkpoint::Error::Cancelled))
        }));
        let refused = workshop.prepare(&preparation).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(workshop.weights.len(), 1);
        preparation.plan = Arc::new(next(&preparation.plan));
    }
    workshop.prepare(&preparation).await.map(drop).unwrap();
    assert_eq!(workshop.weights.len(), 2);
    workshop.close().await;
}
