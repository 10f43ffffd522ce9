//! What a rank gets: its experts and the replicated rest, once, the same from disk and memory.

use std::fs::{self, File};
use std::ops::ControlFlow;

use checkpoint::synth::Spec;
use checkpoint::{Checkpoint, Error, LoadOptions, Matrix, Progress, RankWeights};
use kernels::{Bf16, Codes, Packing, Strip};
use spec::{ExpertId, Placement, Rank};

use crate::folder::{Folder, go_on, split};

fn placement(checkpoint: &Checkpoint, num_ranks: usize) -> Placement {
    let geometry = checkpoint.geometry();
    Placement::even(geometry.num_layers(), geometry.num_experts, num_ranks)
}

/// Loads a rank and returns the bytes that were reported.
fn load(
    checkpoint: &Checkpoint,
    placement: &Placement,
    rank: u32,
    have: &[&RankWeights],
) -> (RankWeights, u64) {
    let options = LoadOptions {
        placement,
        rank: Rank(rank),
        threads: 2,
        have,
        packing: None,
        cache: None,
    };
    let mut loaded = 0;
    let mut watch = |progress: Progress| {
        loaded = progress.done;
        ControlFlow::Continue(())
    };
    let weights = RankWeights::load(checkpoint, &options, &mut watch).unwrap();
    (weights, loaded)
}

/// A matrix as the checkpoint has it.
fn rows(matrix: &Matrix) -> &[half::bf16] {
    match matrix.view() {
        Bf16::Rows(rows) => rows,
        Bf16::Packed(_) => panic!("no layout was asked for"),
    }
}

/// Blocks and scales as the checkpoint has them.
fn codes(codes: Codes<'_>) -> [&[u8]; 2] {
    match codes {
        Codes::Rows { blocks, scales } => [blocks, scales],
        Codes::Packed(_) => panic!("no layout was asked for"),
    }
}

/// Returns every byte of the weights in a fixed order, with the experts' ids.
fn bytes(weights: &RankWeights) -> Vec<u8> {
    let mut all = Vec::new();
    let mut add = |tensor: &[half::bf16]| all.extend(bytemuck::cast_slice::<_, u8>(tensor));
    add(&weights.embedding);
    add(&weights.final_norm);
    add(rows(&weights.head));
    for layer in &weights.layers {
        add(&layer.input_norm);
        add(rows(&layer.q));
        add(&layer.q_bias);
        add(rows(&layer.k));
        add(&layer.k_bias);
        add(rows(&layer.v));
        add(&layer.v_bias);
        add(rows(&layer.o));
        add(&layer.o_bias);
        add(&layer.sinks);
        add(&layer.post_norm);
        add(&layer.router);
        add(&layer.router_bias);
    }
    for layer in &weights.layers {
        for id in layer.experts.held() {
            let expert = layer.experts.expert(id).unwrap();
            all.extend(id.0.to_le_bytes());
            all.extend(codes(expert.gate_up).concat());
            all.extend(bytemuck::cast_slice::<_, u8>(expert.gate_up_bias));
            all.extend(codes(expert.down).concat());
            all.extend(bytemuck::cast_slice::<_, u8>(expert.down_bias));
        }
    }
    all
}

#[test]
fn disk_and_memory_give_the_same_bytes_to_every_rank() {
    let spec = Spec::parse("tiny,seed=5,shard_bytes=90000").unwrap();
    let folder = Folder::new(&spec.to_string());
    let on_disk = Checkpoint::open(&folder.dir).unwrap();
    let in_memory = Checkpoint::synth(&spec).unwrap();
    let mut experts = 0;
    for num_ranks in [1, 3] {
        let placement = placement(&on_disk, num_ranks);
        for rank in 0..num_ranks as u32 {
            let (disk, disk_bytes) = load(&on_disk, &placement, rank, &[]);
            let (memory, memory_bytes) = load(&in_memory, &placement, rank, &[]);
            assert_eq!(bytes(&disk), bytes(&memory));
            assert_eq!(disk_bytes, on_disk.bytes_for_rank(&placement, Rank(rank)));
            assert_eq!(disk_bytes, memory_bytes);
            experts += disk.layers[2].experts.held().count();
        }
    }
    assert_eq!(experts, 8 + 8, "each expert is held once in each group");
}

#[test]
fn tensors_are_the_bytes_of_the_file() {
    let folder = Folder::tiny();
    let checkpoint = Checkpoint::open(&folder.dir).unwrap();
    let placement = placement(&checkpoint, 2);
    let (weights, _) = load(&checkpoint, &placement, 1, &[]);
    let file_bytes = |tensor: &str| {
        let shard = fs::read(folder.path(&folder.shard_of(tensor))).unwrap();
        let (header, data) = split(&shard);
        let header: serde_json::Value = serde_json::from_slice(header).unwrap();
        let offset = |i: usize| header[tensor]["data_offsets"][i].as_u64().unwrap() as usize;
        data[offset(0)..offset(1)].to_vec()
    };
    let layer = &weights.layers[3];
    let q = file_bytes("model.layers.3.self_attn.q_proj.weight");
    assert_eq!(bytemuck::cast_slice::<_, u8>(rows(&layer.q)), q);
    let o = file_bytes("model.layers.3.self_attn.o_proj.bias");
    assert_eq!(bytemuck::cast_slice::<_, u8>(&layer.o_bias), o);
    let blocks = file_bytes("model.layers.3.mlp.experts.down_proj_blocks");
    let size = blocks.len() / 8;
    let expert = layer.experts.expert(ExpertId(6)).unwrap();
    assert_eq!(codes(expert.down)[0], &blocks[6 * size..7 * size]);
    let bias = file_bytes("model.layers.3.mlp.experts.gate_up_proj_bias");
    let size = bias.len() / 8;
    assert_eq!(
        bytemuck::cast_slice::<_, u8>(expert.gate_up_bias),
        &bias[6 * size..7 * size]
    );
    assert!(
        layer.experts.expert(ExpertId(3)).is_none(),
        "another rank's"
    );
    assert!(
        layer.experts.expert(ExpertId(8)).is_none(),
        "no such expert"
    );
}

#[test]
fn resharding_loads_only_what_is_new() {
    for name in ["disk", "memory"] {
        let folder = Folder::tiny();
        let checkpoint = if name == "disk" {
            Checkpoint::open(&folder.dir).unwrap()
        } else {
            Checkpoint::synth(&Spec::parse("tiny").unwrap()).unwrap()
        };
        // Of eight experts in three ranks the second holds 3..6, in two ranks 4..8.
        let (three, two) = (placement(&checkpoint, 3), placement(&checkpoint, 2));
        let (before, _) = load(&checkpoint, &three, 1, &[]);
        let mut loaded = 0;
        let mut watch = |progress: Progress| {
            loaded = progress.done;
            ControlFlow::Continue(())
        };
        let options = LoadOptions {
            placement: &two,
            rank: Rank(1),
            threads: 1,
            have: &[&before],
            packing: None,
            cache: None,
        };
        let after = RankWeights::load(&checkpoint, &options, &mut watch).unwrap();
        assert_eq!(loaded, 4 * 2 * checkpoint.expert_bytes(), "{name}");
        assert!(std::ptr::eq(&*before.embedding, &*after.embedding));
        let expert = |weights: &RankWeights, id| {
            weights.layers[1]
                .experts
                .expert(ExpertId(id))
                .map(|e| codes(e.down)[0].as_ptr())
        };
        assert_eq!(expert(&before, 4), expert(&after, 4));
        assert_eq!(expert(&after, 3), None);
        drop(before);
        assert_eq!(bytes(&after), bytes(&load(&checkpoint, &two, 1, &[]).0));
    }
}

#[test]
fn ranks_of_one_process_share_what_both_hold() {
    let checkpoint = Checkpoint::synth(&Spec::parse("tiny").unwrap()).unwrap();
    let placement = placement(&checkpoint, 2);
    let (first, _) = load(&checkpoint, &placement, 0, &[]);
    let (second, loaded) = load(&checkpoint, &placement, 1, &[&first]);
    assert_eq!(loaded, 4 * 4 * checkpoint.expert_bytes());
    assert!(std::ptr::eq(
        rows(&first.layers[2].q),
        rows(&second.layers[2].q)
    ));
    assert_eq!(
        bytes(&second),
        bytes(&load(&checkpoint, &placement, 1, &[]).0)
    );
}

#[test]
fn a_rank_without_experts_holds_the_rest() {
    let checkpoint = Checkpoint::synth(&Spec::parse("tiny").unwrap()).unwrap();
    let placement = placement(&checkpoint, 9);
    let (weights, loaded) = load(&checkpoint, &placement, 8, &[]);
    assert_eq!(loaded, checkpoint.replicated_bytes());
    assert_eq!(weights.layers[0].experts.held().count(), 0);
    assert_eq!(weights.layers.len(), 4);
}

#[test]
fn a_load_can_be_cancelled() {
    let folder = Folder::tiny();
    let on_disk = Checkpoint::open(&folder.dir).unwrap();
    let in_memory = Checkpoint::synth(&Spec::parse("tiny").unwrap()).unwrap();
    for checkpoint in [on_disk, in_memory] {
        let options = LoadOptions {
            placement: &placement(&checkpoint, 1),
            rank: Rank(0),
            threads: 2,
            have: &[],
            packing: None,
            cache: None,
        };
        let mut stop = |_| ControlFlow::Break(());
        let error = RankWeights::load(&checkpoint, &options, &mut stop).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
    }
}

#[test]
fn a_file_cut_after_opening_is_noticed_before_it_is_mapped() {
    let folder = Folder::tiny();
    let checkpoint = Checkpoint::open(&folder.dir).unwrap();
    let path = folder.path(&folder.shards()[2]);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(4096).unwrap();
    for packing in [None, Some(&Plain as &dyn Packing)] {
        let options = LoadOptions {
            placement: &placement(&checkpoint, 1),
            rank: Rank(0),
            threads: 2,
            have: &[],
            packing,
            cache: None,
        };
        let error = RankWeights::load(&checkpoint, &options, &mut go_on).unwrap_err();
        assert!(
            matches!(error, Error::Changed { found: 4096, .. }),
            "{error}"
        );
    }
}

#[test]
fn tensors_can_be_sent_to_other_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<RankWeights>();
}

/// A layout that shows what it was given: rows as they are, codes before scales, five rows a strip.
#[derive(Debug)]
struct Plain;

impl Packing for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn strip(&self) -> usize {
        5
    }

    fn bf16_bytes(&self, inputs: usize) -> usize {
        5 * 2 * inputs
    }

    fn codes_bytes(&self, inputs: usize) -> usize {
        5 * (inputs / 2 + inputs / 32) + 1
    }

    fn bf16(&self, rows: &[half::bf16], _inputs: usize, out: &mut [u8]) {
        out[..2 * rows.len()].copy_from_slice(bytemuck::cast_slice(rows));
    }

    fn codes(&self, rows: Strip<'_>, out: &mut [u8]) {
        let (first, rest) = out.split_at_mut(1);
        first[0] = u8::from(rows.pairs);
        let all = [rows.blocks, rows.scales].concat();
        rest[..all.len()].copy_from_slice(&all);
    }
}

/// What [`Plain`] makes of some rows.
fn plain(blocks: &[u8], scales: &[u8], (rows, inputs): (usize, usize), pairs: bool) -> Vec<u8> {
    let (of_blocks, of_scales) = (5 * blocks.len() / rows, 5 * scales.len() / rows);
    let strips = blocks.chunks(of_blocks).zip(scales.chunks(of_scales));
    let strip = |(blocks, scales): (&[u8], &[u8])| {
        let mut out = vec![0; Plain.codes_bytes(inputs)];
        let rows = Strip {
            blocks,
            scales,
            inputs,
            pairs,
        };
        Plain.codes(rows, &mut out);
        out
    };
    strips.flat_map(strip).collect()
}

#[test]
fn packed_matrices_are_those_of_the_checkpoint_from_disk_and_memory() {
    let spec = Spec::parse("tiny,seed=5,shard_bytes=90000").unwrap();
    let folder = Folder::new(&spec.to_string());
    let checkpoints = [
        Checkpoint::open(&folder.dir).unwrap(),
        Checkpoint::synth(&spec).unwrap(),
    ];
    for checkpoint in checkpoints {
        let placement = placement(&checkpoint, 2);
        let (rows_of, all) = load(&checkpoint, &placement, 1, &[]);
        let options = LoadOptions {
            placement: &placement,
            rank: Rank(1),
            threads: 2,
            have: &[],
            packing: Some(&Plain),
            cache: None,
        };
        let mut last = None;
        let mut watch = |progress: Progress| {
            last = Some(progress);
            ControlFlow::Continue(())
        };
        let packed = RankWeights::load(&checkpoint, &options, &mut watch).unwrap();
        let whole = Progress {
            done: all,
            total: all,
        };
        assert_eq!(last, Some(whole), "every byte is told once");
        let geometry = checkpoint.geometry();
        let same = |packed: &Matrix, as_rows: &Matrix| {
            let Matrix::Packed(packed) = packed else {
                panic!("a layout was asked for");
            };
            let as_rows: &[u8] = bytemuck::cast_slice(rows(as_rows));
            assert_eq!(&packed[..as_rows.len()], as_rows);
            assert!(packed.len() - as_rows.len() < Plain.bf16_bytes(geometry.hidden));
        };
        same(&packed.head, &rows_of.head);
        for (packed, as_rows) in packed.layers.iter().zip(&rows_of.layers) {
            same(&packed.q, &as_rows.q);
            same(&packed.k, &as_rows.k);
            same(&packed.v, &as_rows.v);
            same(&packed.o, &as_rows.o);
            assert_eq!(*packed.router, *as_rows.router);
            for id in as_rows.experts.held() {
                let expert = as_rows.experts.expert(id).unwrap();
                let found = packed.experts.expert(id).unwrap();
                let (hidden, intermediate) = (geometry.hidden, geometry.intermediate);
                let matrices = [
                    (
                        found.gate_up,
                        expert.gate_up,
                        (2 * intermediate, hidden),
                        true,
                    ),
                    (found.down, expert.down, (hidden, intermediate), false),
                ];
                for (found, expected, shape, pairs) in matrices {
                    let Codes::Packed(found) = found else {
                        panic!("a layout was asked for");
                    };
                    let [blocks, scales] = codes(expected);
                    assert_eq!(found, plain(blocks, scales, shape, pairs));
                }
                assert_eq!(found.down_bias, expert.down_bias);
            }
        }
    }
}

#[test]
fn packed_matrices_are_shared_and_not_packed_again() {
    let checkpoint = Checkpoint::synth(&Spec::parse("tiny").unwrap()).unwrap();
    let placement = placement(&checkpoint, 2);
    let pack = |rank, have: &[&RankWeights]| {
        let options = LoadOptions {
            placement: &placement,
            rank: Rank(rank),
            threads: 2,
            have,
            packing: Some(&Plain),
            cache: None,
        };
        let mut done = 0;
        let mut watch = |progress: Progress| {
            done = progress.done;
            ControlFlow::Continue(())
        };
        let weights = RankWeights::load(&checkpoint, &options, &mut watch).unwrap();
        assert_eq!(weights.layout(), Some("plain"));
        (weights, done)
    };
    let (first, _) = pack(0, &[]);
    let (second, loaded) = pack(1, &[&first]);
    assert_eq!(loaded, 4 * 4 * checkpoint.expert_bytes());
    let address = |matrix: &Matrix| match matrix.view() {
        Bf16::Packed(bytes) => bytes.as_ptr(),
        Bf16::Rows(_) => panic!("a layout was asked for"),
    };
    assert_eq!(address(&first.head), address(&second.head));
    let (again, loaded) = pack(1, &[&first, &second]);
    assert_eq!(loaded, 0);
    assert_eq!(address(&again.layers[2].q), address(&first.layers[2].q));
}
