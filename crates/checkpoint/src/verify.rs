//! Reads a checkpoint whole, to find damage that its headers cannot show.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, Store};
use crate::error::Error;
use crate::fault::{Fault, What};
use crate::mxfp4::SCALE_NAN;
use crate::parallel::{self, CHUNK, Line, Watch};
use crate::tensors::Dtype;

/// What reading the files showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The files of the folder, by name.
    pub files: Vec<FileSum>,
    /// Values that no model can compute with.
    pub faults: Vec<Fault>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSum {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub num_bytes: u64,
    /// Its SHA-256 in hexadecimal, if asked for.
    pub sha256: Option<String>,
}

/// Checks the checkpoint in `dir`. With `checksum` every byte of every file is read: each file
/// gets its SHA-256, and every weight is checked to be a number. Without it only headers are.
///
/// # Errors
///
/// If the checkpoint is not sound, a file cannot be read, or the watch cancels.
pub fn verify(
    dir: &Path,
    checksum: bool,
    threads: usize,
    watch: &mut Watch<'_>,
) -> Result<Verified, Error> {
    let checkpoint = Checkpoint::open(dir)?;
    let mut files = list(dir)?;
    let mut faults: Vec<Vec<Fault>> = vec![Vec::new(); files.len()];
    if checksum {
        let total = files.iter().map(|file| file.num_bytes).sum();
        let jobs = files.iter_mut().zip(&mut faults).collect();
        parallel::run(jobs, threads, total, watch, |(file, faults), line| {
            let values = Values::of_file(&checkpoint, &file.name);
            let (sum, found) = read(&dir.join(&file.name), values, line)?;
            file.sha256 = Some(sum);
            *faults = found;
            Ok(())
        })?;
    }
    let faults = faults.into_iter().flatten().collect();
    Ok(Verified { files, faults })
}

/// Lists the files of the folder itself.
fn list(dir: &Path) -> Result<Vec<FileSum>, Error> {
    let failed = |path: &Path, source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| failed(dir, error))? {
        let path = entry.map_err(|error| failed(dir, error))?.path();
        // Through links, as downloads are often laid out with them.
        let metadata = fs::metadata(&path).map_err(|error| failed(&path, error))?;
        if metadata.is_file() {
            let name = path.file_name().unwrap_or_default();
            files.push(FileSum {
                name: name.to_string_lossy().into_owned(),
                num_bytes: metadata.len(),
                sha256: None,
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Reads a file from start to end: its sum, and the faults of its values.
fn read(path: &Path, mut values: Values, line: &Line<'_>) -> Result<(String, Vec<Fault>), Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut bytes = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        // Chunks begin at multiples of their size, so that no element is split between two.
        let mut len = 0;
        while len < bytes.len() {
            match file.read(&mut bytes[len..]) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if len == 0 {
            break;
        }
        hash.update(&bytes[..len]);
        values.look_at(offset, &bytes[..len]);
        offset += len as u64;
        line.report(len as u64)?;
    }
    let sum = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((sum, values.faults()))
}

/// The tensors of one file in the order of their places, with what was found in each.
struct Values {
    file: String,
    tensors: Vec<Scan>,
    /// The first tensor that is not behind us.
    next: usize,
}

struct Scan {
    name: String,
    kind: Scanned,
    start: u64,
    end: u64,
    count: u64,
    first: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Scanned {
    Bf16,
    Scales,
}

impl Values {
    fn of_file(checkpoint: &Checkpoint, file: &str) -> Self {
        let mut tensors = Vec::new();
        if let Store::Files(files) = checkpoint.store() {
            for tensor in checkpoint.tensors() {
                let place = &files.places[&tensor.key];
                let kind = match tensor.dtype {
                    Dtype::Bf16 => Scanned::Bf16,
                    Dtype::U8 if tensor.key.is_scales() => Scanned::Scales,
                    // Every code is a number.
                    Dtype::U8 => continue,
                };
                if files.shards[place.shard].name == file {
                    tensors.push(Scan {
                        name: tensor.name.clone(),
                        kind,
                        start: place.range.start,
                        end: place.range.end,
                        count: 0,
                        first: 0,
                    });
                }
            }
        }
        tensors.sort_by_key(|tensor| tensor.start);
        Self {
            file: file.to_owned(),
            tensors,
            next: 0,
        }
    }

    /// Looks at the bytes of the file from `offset` on; called in order.
    fn look_at(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        while let Some(scan) = self.tensors.get_mut(self.next) {
            if scan.start >= end {
                return;
            }
            let from = scan.start.max(offset);
            let to = scan.end.min(end);
            scan.look_at(
                from,
                &bytes[(from - offset) as usize..(to - offset) as usize],
            );
            if scan.end > end {
                return;
            }
            self.next += 1;
        }
    }

    fn faults(self) -> Vec<Fault> {
        let Self { file, tensors, .. } = self;
        let bad = tensors.into_iter().filter(|scan| scan.count > 0);
        bad.map(|scan| {
            let (count, first) = (scan.count, scan.first);
            let what = match scan.kind {
                Scanned::Bf16 => What::NotFinite { count, first },
                Scanned::Scales => What::ScaleNan { count, first },
            };
            Fault::tensor(&file, &scan.name, what)
        })
        .collect()
    }
}

impl Scan {
    fn look_at(&mut self, offset: u64, bytes: &[u8]) {
        // All exponent bits set: infinite or not a number.
        let is_bad = |pair: &[u8; 2]| u16::from_le_bytes(*pair) & 0x7f80 == 0x7f80;
        let (count, first, size) = match self.kind {
            Scanned::Scales => {
                let count = bytes.iter().filter(|byte| **byte == SCALE_NAN).count();
                (count, bytes.iter().position(|byte| *byte == SCALE_NAN), 1)
            }
            Scanned::Bf16 => {
                let (pairs, _) = bytes.as_chunks::<2>();
                let count = pairs.iter().filter(|pair| is_bad(pair)).count();
                (count, pairs.iter().position(is_bad), 2)
            }
        };
        if let Some(first) = first {
            if self.count == 0 {
                self.first = (offset - self.start) / size + first as u64;
            }
            self.count += count as u64;
        }
    }
}
