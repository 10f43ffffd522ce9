//! Packed matrices that are kept on disk: packed once, shared, and never taken for others.

use std::cell::RefCell;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use checkpoint::{Checkpoint, LoadOptions, Matrix, PackedCache, PackedNews, Progress, RankWeights};
use kernels::{Codes, Packing, Strip};
use spec::{ExpertId, Placement, Rank};

use crate::child;
use crate::folder::{Folder, go_on};

/// A layout that counts the strips that it was asked for, three rows each.
#[derive(Debug)]
struct Counted {
    name: &'static str,
    strips: AtomicUsize,
    /// Those of matrices that every rank needs.
    shared: AtomicUsize,
}

impl Packing for Counted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn strip(&self) -> usize {
        3
    }

    fn bf16_bytes(&self, inputs: usize) -> usize {
        3 * 2 * inputs
    }

    fn codes_bytes(&self, inputs: usize) -> usize {
        3 * inputs / 2
    }

    fn bf16(&self, rows: &[half::bf16], _inputs: usize, out: &mut [u8]) {
        self.strips.fetch_add(1, Ordering::Relaxed);
        self.shared.fetch_add(1, Ordering::Relaxed);
        out[..2 * rows.len()].copy_from_slice(bytemuck::cast_slice(rows));
    }

    fn codes(&self, rows: Strip<'_>, out: &mut [u8]) {
        self.strips.fetch_add(1, Ordering::Relaxed);
        out[..rows.blocks.len()].copy_from_slice(rows.blocks);
    }
}

/// A layout for one test, as layouts live for ever.
fn counted() -> &'static Counted {
    named("counted-1")
}

fn named(name: &'static str) -> &'static Counted {
    Box::leak(Box::new(Counted {
        name,
        strips: AtomicUsize::new(0),
        shared: AtomicUsize::new(0),
    }))
}

/// Loads the only rank of a checkpoint; returns all packed bytes, and how many strips were packed for them.
fn load(dir: &Path, packing: &'static Counted, cache: Option<&PackedCache>) -> (Vec<u8>, usize) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let geometry = checkpoint.geometry();
    let before = packing.strips.load(Ordering::Relaxed);
    let options = LoadOptions {
        placement: &Placement::even(geometry.num_layers(), geometry.num_experts, 1),
        rank: Rank(0),
        threads: 2,
        have: &[],
        packing: Some(packing),
        cache,
    };
    let mut last = None;
    let mut watch = |progress: Progress| {
        assert!(last.is_none_or(|last: Progress| last.done <= progress.done));
        last = Some(progress);
        ControlFlow::Continue(())
    };
    let weights = RankWeights::load(&checkpoint, &options, &mut watch).unwrap();
    assert!(
        last.is_some_and(|last| last.done == last.total),
        "every byte is told"
    );
    let packed = packing.strips.load(Ordering::Relaxed) - before;
    (bytes(&weights), packed)
}

fn bytes(weights: &RankWeights) -> Vec<u8> {
    let mut all = Vec::new();
    let mut add = |matrix: &Matrix| match matrix {
        Matrix::Packed(bytes) => all.extend_from_slice(bytes),
        Matrix::Rows(_) => panic!("a layout was asked for"),
    };
    add(&weights.head);
    for layer in &weights.layers {
        for matrix in [&layer.q, &layer.k, &layer.v, &layer.o] {
            add(matrix);
        }
    }
    for layer in &weights.layers {
        for expert in layer.experts.held().collect::<Vec<ExpertId>>() {
            let expert = layer.experts.expert(expert).unwrap();
            for codes in [expert.gate_up, expert.down] {
                match codes {
                    Codes::Packed(bytes) => all.extend_from_slice(bytes),
                    Codes::Rows { .. } => panic!("a layout was asked for"),
                }
            }
        }
    }
    all
}

/// A checkpoint, a cache, and what is right.
struct Scene {
    folder: Folder,
    home: tempfile::TempDir,
    cache: PackedCache,
    right: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let folder = Folder::tiny();
        let home = tempfile::tempdir().unwrap();
        let cache = PackedCache::new(home.path().join("packed")).of_any_size();
        let (right, _) = load(&folder.dir, counted(), None);
        Self {
            folder,
            home,
            cache,
            right,
        }
    }

    /// Loads through the cache, checks the bytes, and returns how many strips were packed.
    fn load(&self) -> usize {
        let (found, packed) = load(&self.folder.dir, counted(), Some(&self.cache));
        assert!(
            found == self.right,
            "the bytes are those of a load without cache"
        );
        packed
    }

    /// Every file of the cache but the locks.
    fn files(&self) -> Vec<PathBuf> {
        let shelves = fs::read_dir(self.cache.dir()).unwrap();
        let files = shelves.flat_map(|shelf| fs::read_dir(shelf.unwrap().path()).unwrap());
        let files = files.map(|file| file.unwrap().path());
        let mut files: Vec<PathBuf> = files
            .filter(|file| file.extension().is_none_or(|kind| kind != "lock"))
            .collect();
        files.sort();
        files
    }
}

/// Spoils a file.
type Damage<'a> = &'a dyn Fn(&Path);

thread_local! {
    /// What was told in a test: loads tell it on the thread that called them.
    static NEWS: RefCell<Vec<PackedNews>> = const { RefCell::new(Vec::new()) };
}

fn take_news() -> Vec<PackedNews> {
    NEWS.with(RefCell::take)
}

#[test]
fn operators_are_told_what_was_found_and_what_is_wrong() {
    let mut scene = Scene::new();
    scene.cache = scene.cache.clone().telling(|news| {
        NEWS.with_borrow_mut(|all| all.push(news.clone()));
    });
    scene.load();
    let all = scene.files().len();
    let found_of = |news: &PackedNews| match news {
        PackedNews::Loaded {
            found,
            packed,
            in_memory,
            ..
        } => [*found, *packed, *in_memory],
        other => panic!("{other:?}"),
    };
    assert_eq!(
        take_news().iter().map(found_of).collect::<Vec<_>>(),
        [[0, all, 0]]
    );
    let file = scene.files()[3].clone();
    let whole = fs::read(&file).unwrap();
    let damages: [(Damage<'_>, &str); 3] = [
        (&|file| cut(file, 5), "5 bytes"),
        (&|file| flip(file, 7), "not those that were written"),
        (
            &|file| flip(file, whole.len() as u64 - 56),
            "of this version",
        ),
    ];
    for (damage, why) in damages {
        fs::remove_file(&file).unwrap();
        fs::write(&file, &whole).unwrap();
        damage(&file);
        scene.load();
        let news = take_news();
        let [PackedNews::Unusable { files: 1, first }, loaded] = &news[..] else {
            panic!("{news:?}");
        };
        assert!(
            first.contains(why) && first.contains(file.to_str().unwrap()),
            "{first}"
        );
        assert_eq!(found_of(loaded), [all - 1, 1, 0]);
    }
    // A file in the place of its folder.
    fs::remove_dir_all(scene.cache.dir()).unwrap();
    fs::write(scene.cache.dir(), "").unwrap();
    scene.load();
    let news = take_news();
    assert!(
        matches!(
            &news[..],
            [PackedNews::Unusable { .. }, PackedNews::NotKept { .. }, _]
        ),
        "{news:?}"
    );
    assert_eq!(found_of(&news[2]), [0, 0, all]);
}

#[test]
fn matrices_are_packed_once() {
    let scene = Scene::new();
    assert!(scene.load() > 0);
    let files = scene.files();
    // Four layers of four matrices, eight experts of two, and the head; nothing of what was unfinished.
    assert_eq!(files.len(), 4 * (4 + 8 * 2) + 1);
    assert_eq!(scene.load(), 0);
    assert_eq!(scene.files(), files);
}

#[test]
fn what_all_ranks_need_is_packed_by_one_while_the_others_wait() {
    let scene = Scene::new();
    let (together, start) = (counted(), Barrier::new(3));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                start.wait();
                let (found, _) = load(&scene.folder.dir, together, Some(&scene.cache));
                assert!(found == scene.right);
            });
        }
    });
    assert_eq!(scene.load(), 0, "all was kept");
    let alone = counted();
    load(&scene.folder.dir, alone, None);
    let shared = |packing: &Counted| packing.shared.load(Ordering::Relaxed);
    assert_eq!(shared(together), shared(alone), "packed once for all");
}

#[test]
fn a_damaged_file_is_packed_again() {
    let scene = Scene::new();
    scene.load();
    let files = scene.files();
    let whole = fs::read(&files[0]).unwrap();
    let damages: [Damage<'_>; 5] = [
        // Cut short, cut to nothing, a bit of the matrix, a bit of the digest, another version's mark.
        &|file| cut(file, whole.len() as u64 - 1),
        &|file| cut(file, 0),
        &|file| flip(file, 7),
        &|file| flip(file, whole.len() as u64 - 1),
        &|file| flip(file, whole.len() as u64 - 56),
    ];
    for damage in damages {
        // Who has mapped the file keeps it, so it is replaced, and not written to.
        fs::remove_file(&files[0]).unwrap();
        fs::write(&files[0], &whole).unwrap();
        damage(&files[0]);
        assert!(scene.load() > 0, "it is packed again");
        assert!(fs::read(&files[0]).unwrap() == whole, "and kept");
        assert_eq!(scene.load(), 0);
    }
}

fn cut(file: &Path, len: u64) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_len(len).unwrap();
}

fn flip(file: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_file_in_the_place_of_another_is_found_out() {
    let scene = Scene::new();
    scene.load();
    let files = scene.files();
    let size = |file: &PathBuf| fs::metadata(file).unwrap().len();
    // Of two neighbours in the list some are of one size: the same matrix of two experts.
    let alike = files
        .windows(2)
        .find(|pair| size(&pair[0]) == size(&pair[1]));
    let [this, other] = alike.unwrap() else {
        unreachable!("windows of two");
    };
    fs::remove_file(this).unwrap();
    fs::copy(other, this).unwrap();
    assert!(scene.load() > 0);
    assert_eq!(scene.load(), 0);
}

#[test]
fn another_model_or_layout_has_files_of_its_own() {
    let scene = Scene::new();
    scene.load();
    let one = scene.files().len();
    let other = Folder::new("tiny,seed=9");
    let (right, _) = load(&other.dir, counted(), None);
    let (found, packed) = load(&other.dir, counted(), Some(&scene.cache));
    assert!(found == right && found != scene.right && packed > 0);
    assert_eq!(scene.files().len(), 2 * one);
    let (_, packed) = load(&scene.folder.dir, named("counted-2"), Some(&scene.cache));
    assert!(packed > 0);
    assert_eq!(scene.files().len(), 3 * one);
    // A shard that was written since, whatever is in it now.
    let shard = scene.folder.path(&scene.folder.shards()[0]);
    File::options()
        .write(true)
        .open(&shard)
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(scene.load() > 0);
    assert_eq!(scene.files().len(), 4 * one);
}

#[test]
fn where_nothing_can_be_kept_matrices_are_packed_into_memory() {
    let mut scene = Scene::new();
    let file = scene.home.path().join("file");
    fs::write(&file, "").unwrap();
    scene.cache = PackedCache::new(file.join("packed")).of_any_size();
    assert!(scene.load() > 0);
    assert!(scene.load() > 0);
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let scene = Scene::new();
    scene.load();
    let files = scene.files();
    let left = files[0].with_file_name(".packing-left");
    fs::write(&left, "half").unwrap();
    fs::remove_file(&files[0]).unwrap();
    assert!(scene.load() > 0);
    assert!(!left.exists());
    assert_eq!(scene.files(), files);
}

#[test]
fn files_are_readable_for_all_and_few_are_open_at_a_time() {
    if let Some(dir) = child::dir() {
        let scene = Scene::new();
        assert!(scene.load() > 0);
        assert_eq!(scene.load(), 0, "all was kept");
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&scene.files()[0])
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644, "{dir:?}");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let test = "packed::files_are_readable_for_all_and_few_are_open_at_a_time";
    let script = r#"umask 022; ulimit -n 40; exec "$@""#;
    child::run(child::command(test, temp.path(), &[], script));
}

#[test]
fn a_full_disk_is_no_reason_to_fail() {
    let test = "packed::a_full_disk_is_no_reason_to_fail";
    if let Some(dir) = child::dir() {
        let mut scene = Scene::new();
        scene.cache = PackedCache::new(dir.join("packed")).of_any_size();
        assert!(scene.load() > 0);
        assert!(scene.load() > 0, "nothing was kept");
        assert_eq!(scene.files(), Vec::<PathBuf>::new());
        return;
    }
    let Some(wrapper) = child::may_mount() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@""#;
    child::run(child::command(test, temp.path(), wrapper, script));
}

#[test]
fn what_is_mapped_outlives_the_folder() {
    let scene = Scene::new();
    scene.load();
    let checkpoint = Checkpoint::open(&scene.folder.dir).unwrap();
    let geometry = checkpoint.geometry();
    let options = LoadOptions {
        placement: &Placement::even(geometry.num_layers(), geometry.num_experts, 1),
        rank: Rank(0),
        threads: 1,
        have: &[],
        packing: Some(counted()),
        cache: Some(&scene.cache),
    };
    let weights = Arc::new(RankWeights::load(&checkpoint, &options, &mut go_on).unwrap());
    fs::remove_dir_all(scene.cache.dir()).unwrap();
    assert!(bytes(&weights) == scene.right);
}

#[test]
fn a_small_load_is_not_kept() {
    let scene = Scene::new();
    let cache = PackedCache::new(scene.cache.dir().to_owned());
    let (found, packed) = load(&scene.folder.dir, counted(), Some(&cache));
    assert!(found == scene.right && packed > 0);
    assert!(!cache.dir().exists());
}
