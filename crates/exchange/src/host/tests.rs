//! What an exchange does with the calls and frames it gets.

use spec::{StepNumber, Term};

use super::*;
use crate::conformance;

const FENCE: Fence = Fence {
    term: Term(1),
    epoch: spec::Epoch(2),
};

struct Threads {
    exchanges: Vec<HostExchange<Local>>,
    inboxes: Vec<Arc<Inbox>>,
}

impl Threads {
    fn new(num_ranks: usize) -> Self {
        let exchanges = local_group_at(FENCE, num_ranks);
        let inboxes = exchanges.iter().map(|e| Arc::clone(e.inbox())).collect();
        Self { exchanges, inboxes }
    }
}

impl conformance::Group for Threads {
    fn fence(&self) -> Fence {
        FENCE
    }

    fn exchanges(&mut self) -> Vec<Box<dyn Exchange>> {
        self.exchanges
            .drain(..)
            .map(|e| Box::new(e) as Box<dyn Exchange>)
            .collect()
    }

    fn waiting_for(&self, rank: Rank) -> Option<Rank> {
        self.inboxes[rank.index()].waiting_for()
    }

    fn abort(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.abort());
    }

    fn kill(&self, rank: Rank) -> Vec<Rank> {
        for inbox in self.inboxes.iter().filter(|inbox| inbox.rank() != rank) {
            inbox.peer_lost(rank, "killed");
        }
        vec![rank]
    }
}

#[test]
fn threads_of_one_process_conform() {
    conformance::all(Threads::new);
}

const OWNERS: [Rank; 2] = [Rank(0), Rank(1)];

fn dispatch(experts: &[u32]) -> Dispatch<'_> {
    let moment = Moment {
        fence: Fence::default(),
        step: StepNumber(1),
        layer: 0,
    };
    const ROWS: [f32; 4] = [1.0, 2.0, 3.0, 4.0];
    let rows = &ROWS[..experts.len() * 2];
    Dispatch {
        moment,
        hidden: 2,
        k: 1,
        rows,
        experts,
        owners: &OWNERS,
    }
}

#[test]
fn the_others_notice_when_a_rank_is_dropped() {
    let mut group = local_group(2);
    drop(group.pop());
    let error = group[0].dispatch(dispatch(&[1])).unwrap_err();
    let text = "rank 1 is gone (it has left the group) in dispatch of epoch 0.0 step 1 layer 0";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_rank_that_is_done_may_go_before_the_others_have_finished() {
    for _ in 0..100 {
        let threads = local_group(3).into_iter().map(|mut exchange| {
            std::thread::spawn(move || {
                let received = exchange.dispatch(dispatch(&[1]))?;
                exchange.combine(&received, &received.rows)
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            assert_eq!(thread.join().unwrap().unwrap().outputs, [1.0, 2.0]);
        }
    }
}

#[test]
fn a_wrong_frame_of_a_peer_is_named() {
    let mut group = local_group(2);
    let moment = dispatch(&[]).moment;
    let payload = vec![1, 2, 3].into();
    let garbage = crate::Frame {
        moment,
        phase: Phase::Dispatch,
        from: Rank(1),
        to: Rank(0),
        payload,
    };
    group[0].inbox().deliver(garbage).unwrap();
    let error = group[0].dispatch(dispatch(&[])).unwrap_err();
    let text = "rank 1 sent a wrong frame in dispatch of epoch 0.0 step 1 layer 0: \
                3 bytes are no frame: its header alone is longer";
    assert_eq!(error.to_string(), text);
}

#[test]
fn more_rows_than_a_frame_holds_are_refused_before_they_are_sent() {
    let mut group = local_group(2);
    let rows = frame::max_rows(1 << 16, 1) + 1;
    let (values, experts) = (vec![0.0; rows << 16], vec![1; rows]);
    let args = Dispatch {
        hidden: 1 << 16,
        rows: &values,
        experts: &experts,
        ..dispatch(&[])
    };
    let error = group[0].dispatch(args).unwrap_err();
    assert!(error.to_string().contains("plan fewer rows"), "{error}");
}

#[test]
fn a_dispatch_is_not_repeated() {
    let mut group = local_group(1);
    let args = Dispatch {
        owners: &[Rank(0)],
        ..dispatch(&[0])
    };
    group[0].dispatch(args).unwrap();
    let error = group[0].dispatch(args).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("it has begun dispatch of epoch 0.0 step 1"),
        "{error}"
    );
}
