//! What of a mapped checkpoint is in this process's memory, by the kernel's own count.

use std::fs;
use std::path::Path;

use checkpoint::{Checkpoint, LoadOptions, RankWeights};
use spec::{Placement, Rank};

use crate::folder::{Folder, go_on};

/// The kernel maps what is around a touched page if it is in its cache anyway: 64 KiB
/// (`fault_around_bytes` of Linux), or the huge page that holds it.
const AROUND: u64 = 2 << 20;
/// Tensors of a layer that ranks hold slices of.
const SLICED: u64 = 6;
const RANKS: usize = 4;

/// Bytes of the files of `dir` that this process has in memory.
fn resident(dir: &Path) -> u64 {
    let dir = fs::canonicalize(dir).unwrap();
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut is_ours, mut kilobytes) = (false, 0);
    for line in maps.lines() {
        let (first, rest) = line.split_once(' ').unwrap();
        if !first.ends_with(':') {
            is_ours = rest.contains(dir.to_str().unwrap());
        } else if is_ours && first == "Rss:" {
            let size = rest.trim().trim_end_matches(" kB");
            kilobytes += size.parse::<u64>().unwrap();
        }
    }
    kilobytes << 10
}

#[test]
fn loading_a_rank_touches_its_own_experts_and_no_others() {
    // So large that the pages at the edges of slices are the smaller part.
    let folder = Folder::new("tiny,layers=1,hidden=1024,intermediate=2048,experts=32");
    let checkpoint = Checkpoint::open(&folder.dir).unwrap();
    let geometry = checkpoint.geometry();
    let placement = Placement::even(geometry.num_layers(), geometry.num_experts, RANKS);
    assert_eq!(resident(&folder.dir), 0, "opening maps nothing");
    let load = |rank| {
        let options = LoadOptions {
            placement: &placement,
            rank: Rank(rank),
            threads: 2,
            have: &[],
            packing: None,
            cache: None,
        };
        RankWeights::load(&checkpoint, &options, &mut go_on).unwrap()
    };
    let edges = 2 * AROUND * SLICED;
    let shard = checkpoint.bytes_for_rank(&placement, Rank(1));
    assert!(
        shard + edges < checkpoint.num_bytes() * 2 / 3,
        "loading everything would be noticed"
    );

    let weights = load(1);
    let found = resident(&folder.dir);
    assert!(found > shard / 2, "{found} of {shard} bytes are there");
    assert!(found < shard + edges, "{found} bytes for {shard}");

    drop(weights);
    let left = resident(&folder.dir);
    assert!(left < edges, "{left} bytes stay after the rank is dropped");
}
