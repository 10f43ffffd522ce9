//! Brings packed matrices into memory: from the cache, into the cache, or from the checkpoint alone.

use std::cmp::Reverse;
use std::fs::File;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::cache::{PackedNews, Shelf, Unusable};
use super::load::PieceId;
use super::pack::{Source, into_memory};
use crate::error::Error;
use crate::map::Region;
use crate::parallel::{self, Progress, Watch};

/// Bytes that are packed before they are written: the system keeps what is written at once in large pages.
const PART: usize = 16 << 20;
/// How often it is looked whether another process has ended packing.
const LOOK: Duration = Duration::from_millis(50);
/// How long at most: less than a lead waits for a worker of which it hears nothing new.
const PATIENCE: Duration = Duration::from_secs(20);

/// Loads matrices. What the cache cannot give or take is packed into memory: slower, and not shared.
///
/// # Errors
///
/// If a file of the checkpoint cannot be read, there is no memory, or the watch cancels.
pub(super) fn load<'a>(
    mut sources: Vec<Source<'a>>,
    shelf: Option<&Shelf>,
    threads: usize,
    watch: &mut Watch<'_>,
) -> Result<Vec<(PieceId, Region)>, Error> {
    let Some(shelf) = shelf else {
        return into_memory(&sources, threads, watch);
    };
    // A large one that is begun last would be waited for by all threads but one.
    sources.sort_by_key(|source| Reverse(source.num_bytes()));
    let mut load = Load {
        shelf,
        threads,
        regions: Vec::new(),
        done: 0,
    };
    let unusable = Mutex::new(Vec::new());
    let left = load.find(sources, watch, |file, why| {
        let mut unusable = unusable.lock().expect("nothing panics with it");
        unusable.push(format!("{}: {why}", file.display()));
    })?;
    let unusable = unusable.into_inner().expect("nothing panics with it");
    if let Some(first) = unusable.first() {
        let (files, first) = (unusable.len(), first.clone());
        (shelf.tell)(&PackedNews::Unusable { files, first });
    }
    let found = load.regions.len();
    let left = load.fill(left, watch)?;
    let packed = load.regions.len() - found;
    (shelf.tell)(&PackedNews::Loaded {
        dir: shelf.dir.clone(),
        found,
        packed,
        in_memory: left.len(),
    });
    let mut told = load.told(watch);
    let in_memory = into_memory(&left, threads, &mut told)?;
    load.regions.extend(in_memory);
    Ok(load.regions)
}

struct Load<'s> {
    shelf: &'s Shelf,
    threads: usize,
    regions: Vec<(PieceId, Region)>,
    /// Bytes of the checkpoint that need not be read any more.
    done: u64,
}

impl Load<'_> {
    /// Counts on where earlier work has ended.
    fn told<'w>(&self, watch: &'w mut Watch<'_>) -> impl FnMut(Progress) -> ControlFlow<()> + 'w {
        let before = self.done;
        move |progress| {
            let done = before + progress.done;
            watch(Progress { done, ..progress })
        }
    }

    /// Takes what the cache has; returns the rest, and tells which files cannot be used.
    fn find<'a>(
        &mut self,
        sources: Vec<Source<'a>>,
        watch: &mut Watch<'_>,
        tell: impl Fn(&Path, &Unusable) + Sync,
    ) -> Result<Vec<Source<'a>>, Error> {
        let mut found: Vec<Option<Region>> = sources.iter().map(|_| None).collect();
        let jobs = sources.iter().zip(&mut found).collect();
        let shelf = self.shelf;
        let mut told = self.told(watch);
        parallel::run(jobs, self.threads, 0, &mut told, |(source, slot), line| {
            match shelf.open(source) {
                Ok(region) => {
                    *slot = Some(region);
                    return line.report(source.source_bytes());
                }
                Err(Unusable::Missing) => {}
                Err(why) => tell(&shelf.file(source), &why),
            }
            Ok(())
        })?;
        drop(told);
        Ok(self.keep(sources, found))
    }

    /// Packs into the cache; returns what could not be kept there.
    fn fill<'a>(
        &mut self,
        sources: Vec<Source<'a>>,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Source<'a>>, Error> {
        if sources.is_empty() {
            return Ok(sources);
        }
        let _entered = match self.shelf.enter() {
            Ok(entered) => entered,
            Err(error) => {
                self.give_up(&error);
                return Ok(sources);
            }
        };
        let is_expert = |source: &Source<'_>| source.id.1.is_some();
        let (experts, shared) = sources.into_iter().partition(is_expert);
        // Other processes mostly need other experts, and may meanwhile pack what all need.
        let mut left = self.write(experts, watch)?;
        left.append(&mut self.fill_shared(shared, watch)?);
        Ok(left)
    }

    /// The same for what every rank needs: only one process packs it, and the others take it from there.
    fn fill_shared<'a>(
        &mut self,
        sources: Vec<Source<'a>>,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Source<'a>>, Error> {
        let start = Instant::now();
        let _lock = loop {
            match self.shelf.lock_shared_matrices() {
                Ok(Some(lock)) => break lock,
                Ok(None) if start.elapsed() < PATIENCE => {}
                Ok(None) => {
                    let why = format!("others have been packing for {} s", PATIENCE.as_secs());
                    self.give_up(&why);
                    return Ok(sources);
                }
                Err(error) => {
                    self.give_up(&error);
                    return Ok(sources);
                }
            }
            let done = self.done;
            if watch(Progress { done, total: 0 }).is_break() {
                return Err(Error::Cancelled);
            }
            thread::sleep(LOOK);
        };
        let sources = self.find(sources, watch, |_, _| {})?;
        self.write(sources, watch)
    }

    /// Keeps what there is and returns the others.
    fn keep<'a>(
        &mut self,
        sources: Vec<Source<'a>>,
        found: Vec<Option<Region>>,
    ) -> Vec<Source<'a>> {
        let mut left = Vec::new();
        for (source, region) in sources.into_iter().zip(found) {
            match region {
                Some(region) => {
                    self.done += source.source_bytes();
                    self.regions.push((source.id, region));
                }
                None => left.push(source),
            }
        }
        left
    }

    /// Packs matrices into files of the cache; returns all of them if that fails.
    fn write<'a>(
        &mut self,
        sources: Vec<Source<'a>>,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Source<'a>>, Error> {
        if sources.is_empty() {
            return Ok(sources);
        }
        match self.try_write(&sources, watch) {
            Ok(found) => Ok(self.keep(sources, found)),
            Err(Error::Write { source, .. }) => {
                self.give_up(&source);
                Ok(sources)
            }
            Err(error) => Err(error),
        }
    }

    fn try_write(
        &self,
        sources: &[Source<'_>],
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Option<Region>>, Error> {
        let shelf = self.shelf;
        let failed = |path: &Path, source| Error::Write {
            path: path.to_owned(),
            source,
        };
        let files = shelf.make_room(sources);
        let files = files.map_err(|error| failed(&shelf.dir, error))?;
        let mut jobs = Vec::new();
        for (source, file) in sources.iter().zip(&files) {
            let strips = source.num_bytes() / source.strip_bytes();
            let part = (PART / source.strip_bytes()).max(1);
            let parts = (0..strips).step_by(part);
            jobs.extend(parts.map(|first| (source, file, first..strips.min(first + part))));
        }
        let mut told = self.told(watch);
        parallel::run(
            jobs,
            self.threads,
            0,
            &mut told,
            |(source, file, strips), line| {
                let (bytes, read) = packed(source, strips.clone())?;
                let offset = (strips.start * source.strip_bytes()) as u64;
                let written = File::options().write(true).open(file);
                let written = written.and_then(|file| file.write_all_at(&bytes, offset));
                written.map_err(|error| failed(file, error))?;
                line.report(read)
            },
        )?;
        drop(told);
        let mut found: Vec<Option<Region>> = sources.iter().map(|_| None).collect();
        let jobs = sources.iter().zip(files).zip(&mut found).collect();
        let told = &mut |progress: Progress| {
            let done = self.done;
            watch(Progress { done, ..progress })
        };
        parallel::run(
            jobs,
            self.threads,
            0,
            told,
            |((source, file), slot), line| {
                let finished = shelf.finish(source, file);
                *slot = Some(finished.map_err(|error| failed(&shelf.dir, error))?);
                // Nothing new was read, but whoever waits may want to stop.
                line.report(0)
            },
        )?;
        Ok(found)
    }

    /// Tells why matrices are packed into memory.
    fn give_up(&self, why: &dyn std::fmt::Display) {
        (self.shelf.tell)(&PackedNews::NotKept {
            dir: self.shelf.dir.clone(),
            why: why.to_string(),
        });
    }
}

/// Packs some strips; returns their bytes, and how many were read for them.
fn packed(source: &Source<'_>, strips: Range<usize>) -> Result<(Vec<u8>, u64), Error> {
    let mut bytes = vec![0; strips.len() * source.strip_bytes()];
    let mut read = 0;
    for (strip, out) in strips.zip(bytes.chunks_exact_mut(source.strip_bytes())) {
        read += source.pack(strip, out)?;
    }
    Ok((bytes, read))
}
