//! Nothing malformed passes, and each refusal names its field.

use prost::Message as _;
use proto::internal as wire;
use spec::{Attention, Geometry, Placement, Rank, Rope};

use super::plan::kv_bytes;
use super::{Bounds, EpochPlan, Fault, fence, step_parts};

fn geometry() -> Geometry {
    Geometry {
        layers: vec![Attention::Sliding, Attention::Full],
        hidden: 64,
        intermediate: 64,
        num_experts: 4,
        experts_per_token: 2,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 16,
        vocab_size: 100,
        sliding_window: 8,
        max_positions: 256,
        rope: Rope::GPT_OSS,
        rms_norm_eps: 1e-5,
        swiglu_limit: 7.0,
    }
}

fn bounds() -> Bounds {
    Bounds {
        name: "b".into(),
        group: "0".into(),
        num_ranks: 2,
        geometry: geometry(),
        max_kv_bytes: 1 << 20,
    }
}

fn request() -> wire::PrepareRequest {
    let member = |name: &str, ranks: Vec<u32>| wire::Member {
        name: name.into(),
        address: format!("http://{name}:1"),
        ranks,
    };
    let layer = wire::LayerPlacement {
        owners: vec![0, 1, 2, 0],
    };
    wire::PrepareRequest {
        fence: Some(wire::Fence { term: 1, epoch: 2 }),
        members: vec![member("a", vec![0]), member("b", vec![1, 2])],
        placement: vec![layer.clone(), layer],
        kv: Some(wire::KvPlan {
            block_size: 16,
            full_blocks: 20,
            window_blocks: 10,
            num_slots: 4,
        }),
        name: "b".into(),
        max_step_rows: 32,
        lead: 1,
        held: vec![2],
        group: "0".into(),
    }
}

fn plan() -> EpochPlan {
    EpochPlan::new(request(), &bounds()).unwrap()
}

/// A field's path, and a change that spoils it.
type Spoilt<T> = (&'static str, fn(&mut T));

fn prepare_fault(change: impl FnOnce(&mut wire::PrepareRequest)) -> Fault {
    let mut request = request();
    change(&mut request);
    EpochPlan::new(request, &bounds()).unwrap_err()
}

#[test]
fn takes_a_sound_plan() {
    let plan = plan();
    assert_eq!(plan.own, [Rank(1), Rank(2)]);
    assert_eq!(plan.held, [Rank(2)]);
    assert_eq!(plan.peers.len(), 1);
    assert_eq!(plan.peers[0].address, "http://a:1");
    assert_eq!(plan.peers[0].ranks, [Rank(0)]);
    assert_eq!(plan.placement.num_ranks(), 3);
    assert_eq!(plan.placement.owners(1)[2], Rank(2));
    assert_eq!((plan.kv.full_blocks, plan.max_step_rows), (20, 32));
}

#[test]
fn a_placement_as_the_lead_makes_it_passes() {
    let even = Placement::even(2, 4, 3);
    let mut request = request();
    for (layer, entry) in request.placement.iter_mut().enumerate() {
        entry.owners = even.owners(layer).iter().map(|rank| rank.0).collect();
    }
    assert_eq!(*EpochPlan::new(request, &bounds()).unwrap().placement, even);
}

const SPOILT_PLANS: [Spoilt<wire::PrepareRequest>; 27] = [
    ("held", |r| r.held = vec![0]),
    ("name", |r| r.name = "c".into()),
    ("fence", |r| r.fence = None),
    ("fence.term", |r| r.fence.as_mut().unwrap().term = 0),
    ("fence.epoch", |r| r.fence.as_mut().unwrap().epoch = 0),
    ("members", |r| r.members.clear()),
    ("members[0].name", |r| r.members[0].name.clear()),
    ("members[1].name", |r| r.members[1].name = "a".into()),
    ("members", |r| r.members[1].name = "c".into()),
    ("members[0].address", |r| {
        r.members[0].address = "a:1".into()
    }),
    ("members[0].ranks", |r| r.members[0].ranks.clear()),
    ("members[1].ranks", |r| r.members[1].ranks = vec![2, 1]),
    ("members[1].ranks", |r| r.members[1].ranks = vec![0, 1]),
    ("members[1].ranks", |r| {
        r.members[1].ranks = vec![1, u32::MAX]
    }),
    ("members", |r| r.members[1].ranks = vec![1, 3]),
    ("members.ranks", |r| r.members[1].ranks = vec![1]),
    ("placement", |r| r.placement.truncate(1)),
    ("placement[1].owners", |r| r.placement[1].owners.truncate(3)),
    ("placement", |r| r.placement[1].owners[0] = 3),
    ("kv", |r| r.kv = None),
    ("kv.block_size", |r| r.kv.as_mut().unwrap().block_size = 0),
    ("kv.block_size", |r| {
        r.kv.as_mut().unwrap().block_size = 1 << 20
    }),
    ("kv.full_blocks", |r| r.kv.as_mut().unwrap().full_blocks = 0),
    ("kv.window_blocks", |r| {
        r.kv.as_mut().unwrap().window_blocks = 0
    }),
    ("kv.num_slots", |r| {
        r.kv.as_mut().unwrap().num_slots = u32::MAX
    }),
    ("max_step_rows", |r| r.max_step_rows = 0),
    ("max_step_rows", |r| r.max_step_rows = u32::MAX),
];

#[test]
fn every_fault_of_a_plan_is_named() {
    for (field, change) in SPOILT_PLANS {
        let fault = prepare_fault(change);
        assert_eq!(fault.field, field, "{fault}");
    }
}

#[test]
fn rows_beyond_a_frame_are_refused_where_there_are_frames() {
    let mut bounds = bounds();
    bounds.geometry.hidden = 2880;
    let mut request = request();
    request.max_step_rows = 4096;
    let fault = EpochPlan::new(request.clone(), &bounds).unwrap_err();
    assert_eq!(fault.field, "max_step_rows", "{fault}");
    // A group of one rank sends none.
    bounds.num_ranks = 1;
    request.members.remove(0);
    request.members[0].ranks = vec![0];
    request.held.clear();
    request
        .placement
        .iter_mut()
        .for_each(|layer| layer.owners.fill(0));
    assert_eq!(
        EpochPlan::new(request, &bounds).unwrap().max_step_rows,
        4096
    );
}

#[test]
fn a_kv_memory_beyond_the_limit_is_refused_with_the_numbers() {
    // One block is 16 positions of 2 x 32 values of 4 bytes, in one layer of each kind.
    let one = kv_bytes(&plan().kv, &geometry());
    assert_eq!(one, (20 + 10) * 16 * 2 * 32 * 4);
    let fault = prepare_fault(|r| r.kv.as_mut().unwrap().full_blocks = 200);
    assert_eq!(fault.field, "kv");
    let needed = 2 * (200 + 10) * 16 * 2 * 32 * 4;
    assert!(fault.why.contains(&needed.to_string()), "{fault}");
    assert!(fault.why.contains("1048576"), "{fault}");
    // The largest numbers the wire can carry are refused, not multiplied past their type.
    let fault = prepare_fault(|r| {
        let kv = r.kv.as_mut().unwrap();
        (kv.full_blocks, kv.window_blocks, kv.block_size) = (u32::MAX, u32::MAX, 1024);
    });
    assert_eq!(fault.field, "kv");
}

fn sampling() -> wire::Sampling {
    wire::Sampling {
        temperature: 1.0,
        top_p: 1.0,
        repetition_penalty: 1.0,
        ..wire::Sampling::default()
    }
}

fn run_request() -> wire::RunRequest {
    let open = wire::Open {
        slot: 3,
        sequence: 9,
        tokens: vec![1, 2, 3],
        prompt_len: 3,
        sampling: Some(sampling()),
        record: Vec::new(),
        request_id: "r".into(),
    };
    let line = wire::Line {
        slot: 3,
        start: 0,
        len: 3,
        full: Some(wire::BlockRun {
            first: 0,
            blocks: vec![19],
        }),
        window: Some(wire::BlockRun {
            first: 0,
            blocks: vec![9],
        }),
        samples: true,
        prompt_logprobs: false,
    };
    let busy = wire::Part {
        rank: 1,
        closes: vec![0],
        opens: vec![open],
        lines: vec![line],
    };
    let idle = wire::Part {
        rank: 2,
        ..wire::Part::default()
    };
    wire::RunRequest {
        fence: Some(wire::Fence { term: 1, epoch: 2 }),
        step: 7,
        parts: vec![busy, idle],
        group: "0".into(),
    }
}

#[test]
fn takes_a_sound_step() {
    let step = step_parts(run_request(), &plan(), &geometry()).unwrap();
    assert_eq!(step.step.0, 7);
    assert_eq!(step.parts.len(), 2);
    let part = &step.parts[0];
    assert_eq!(part.rank, Rank(1));
    assert_eq!(part.opens[0].tokens.len(), 3);
    assert_eq!(part.lines[0].full.blocks[0].0, 19);
    assert!(part.lines[0].samples);
}

const SPOILT_STEPS: [Spoilt<wire::RunRequest>; 6] = [
    ("step", |r| r.step = 0),
    ("parts", |r| r.parts.truncate(1)),
    ("parts", |r| r.parts.swap(0, 1)),
    ("parts", |r| r.parts[1].rank = 0),
    ("parts[0].closes[0]", |r| r.parts[0].closes[0] = 4),
    ("parts[0].closes[1]", |r| r.parts[0].closes.push(0)),
];

/// Within `parts[0].opens`.
const SPOILT_OPENS: [Spoilt<Vec<wire::Open>>; 11] = [
    ("[0].slot", |r| r[0].slot = 4),
    ("[1].slot", |r| r.push(r[0].clone())),
    ("[0].tokens", |r| r[0].tokens.clear()),
    ("[0].tokens", |r| r[0].tokens = vec![0; 257]),
    ("[0].tokens[1]", |r| r[0].tokens[1] = 100),
    ("[0].prompt_len", |r| r[0].prompt_len = 0),
    ("[0].prompt_len", |r| r[0].prompt_len = 4),
    ("[0].request_id", |r| r[0].request_id = "x".repeat(257)),
    ("[0].sampling", |r| r[0].sampling = None),
    ("[0].sampling.temperature", |r| {
        r[0].sampling.as_mut().unwrap().temperature = f32::NAN
    }),
    ("[0].sampling.logprobs", |r| {
        r[0].sampling.as_mut().unwrap().logprobs = Some(21)
    }),
];

/// Within `parts[0].lines`.
const SPOILT_LINES: [Spoilt<Vec<wire::Line>>; 8] = [
    ("[0].slot", |r| r[0].slot = u32::MAX),
    ("[1].slot", |r| r.push(r[0].clone())),
    ("[0].len", |r| r[0].len = 0),
    ("[0].len", |r| r[0].start = u32::MAX),
    ("", |r| r[0].len = 33),
    ("[0].full.blocks[0]", |r| {
        r[0].full.as_mut().unwrap().blocks[0] = 20
    }),
    ("[0].window.blocks[0]", |r| {
        r[0].window.as_mut().unwrap().blocks[0] = 10
    }),
    ("[0].full.blocks", |r| {
        r[0].full.as_mut().unwrap().first = u32::MAX
    }),
];

#[test]
fn every_fault_of_a_step_is_named() {
    let refused = |field: String, change: &dyn Fn(&mut wire::RunRequest)| {
        let mut request = run_request();
        change(&mut request);
        let fault = step_parts(request, &plan(), &geometry()).unwrap_err();
        assert_eq!(fault.field, field, "{fault}");
    };
    for (field, change) in SPOILT_STEPS {
        refused(field.into(), &change);
    }
    for (field, change) in SPOILT_OPENS {
        refused(format!("parts[0].opens{field}"), &|r| {
            change(&mut r.parts[0].opens)
        });
    }
    for (field, change) in SPOILT_LINES {
        refused(format!("parts[0].lines{field}"), &|r| {
            change(&mut r.parts[0].lines)
        });
    }
}

#[test]
fn an_absent_block_run_changes_nothing() {
    let mut request = run_request();
    request.parts[0].lines[0].window = None;
    let step = step_parts(request, &plan(), &geometry()).unwrap();
    assert_eq!(step.parts[0].lines[0].window.blocks, []);
}

#[test]
fn a_fence_is_needed_and_counts_from_one() {
    assert_eq!(fence(None).unwrap_err().field, "fence");
    let zero = wire::Fence { term: 0, epoch: 1 };
    assert_eq!(fence(Some(zero)).unwrap_err().field, "fence.term");
}

#[test]
fn the_recorded_plan_and_step_of_wire_version_1_are_obeyed() {
    let plan = include_bytes!("../../../proto/tests/recorded/prepare.bin");
    let plan = wire::PrepareRequest::decode(&plan[..]).unwrap();
    let plan = EpochPlan::new(plan, &bounds()).unwrap();
    assert_eq!(
        (plan.own.as_slice(), plan.max_step_rows),
        (&[Rank(1), Rank(2)][..], 32)
    );
    let step = include_bytes!("../../../proto/tests/recorded/run.bin");
    let step = wire::RunRequest::decode(&step[..]).unwrap();
    let step = step_parts(step, &plan, &geometry()).unwrap();
    let busy = &step.parts[0];
    let sampling = &busy.opens[0].sampling;
    assert_eq!(
        (sampling.seed, sampling.prompt_logprobs),
        (u64::MAX, Some(0))
    );
    assert_eq!((busy.lines[1].start, busy.lines[1].len), (17, 1));
    assert_eq!(step.parts[1].lines, []);
}
