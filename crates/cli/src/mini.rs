//! The model in the box: the files of `models/mini`, a part of this program, unpacked where they can be
//! mapped like those of any other model.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::cache;

/// The folder's name, and so the model's as clients see it.
pub(crate) const NAME: &str = "conclave-mini";

/// What folders are called that are being filled.
const UNPACKING: &str = ".unpacking-";

/// After which nobody fills such a folder any more: 7 MB are written in a moment.
const UNPACK_LIMIT: Duration = Duration::from_hours(1);

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!("../../../models/mini/", $name)).as_slice())),+]
    };
}

/// Names and contents of its files.
const FILES: [(&str, &[u8]); 5] = files![
    "config.json",
    "generation_config.json",
    "model-00000-of-00000.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
];

/// Returns the folder of the model in the box; unpacks it the first time.
pub(crate) fn folder() -> Result<PathBuf, String> {
    let cache = cache::folder().ok_or(
        "the built-in model is unpacked into a cache folder, and neither XDG_CACHE_HOME nor HOME is \
         set; set one, or say --model",
    )?;
    unpacked(&cache)
}

/// The folder within a cache folder, complete and undamaged.
fn unpacked(cache: &Path) -> Result<PathBuf, String> {
    // Another build's model lies beside this one's, so that both may run.
    let version = cache.join(format!("mini-{}", digest()));
    let dir = version.join(NAME);
    let there = version.try_exists();
    let unpacked = there.and_then(|there| match there {
        true => Ok(()),
        false => unpack(cache, &version),
    });
    unpacked.map_err(|error| {
        format!(
            "cannot unpack the built-in model into {}: {error}; let XDG_CACHE_HOME name a folder with \
             8 MB of room that can be written, or say --model",
            cache.display()
        )
    })?;
    for (name, bytes) in FILES {
        let path = dir.join(name);
        match fs::read(&path) {
            Ok(found) if found == bytes => {}
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(format!(
                    "{}: cannot be read: {error}; let XDG_CACHE_HOME name another folder, or say --model",
                    path.display()
                ));
            }
            found => {
                let what = found.map_or("is missing", |_| "is not what was written");
                return Err(format!(
                    "{} {what}\nthis model runs where none is named, and is damaged; delete {} and it \
                     will be written again",
                    path.display(),
                    version.display()
                ));
            }
        }
    }
    Ok(dir)
}

/// Writes all files beside the place, and then moves them there at once.
fn unpack(cache: &Path, version: &Path) -> std::io::Result<()> {
    fs::create_dir_all(cache)?;
    remove_leftovers(cache);
    let fresh = tempfile::Builder::new()
        .prefix(UNPACKING)
        .tempdir_in(cache)?;
    let dir = fresh.path().join(NAME);
    fs::create_dir(&dir)?;
    for (name, bytes) in FILES {
        fs::write(dir.join(name), bytes)?;
    }
    match fs::rename(fresh.path(), version) {
        Ok(()) => {
            // It is no longer where it would be removed from.
            drop(fresh.keep());
            Ok(())
        }
        // Another process was faster, with the same bytes.
        Err(_) if version.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what processes that were killed have left; if it cannot be, it only takes room.
fn remove_leftovers(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(UNPACKING);
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let age = written.ok().and_then(|written| written.elapsed().ok());
        if is_ours && age.is_some_and(|age| age > UNPACK_LIMIT) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Tells one version of the files from another.
fn digest() -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in FILES {
        hash.update(name);
        hash.update(Sha256::digest(bytes));
    }
    hex(&hash.finalize()[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a folder, hidden ones too.
    fn count(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn it_is_unpacked_once_by_whoever_comes_first() {
        let cache = tempfile::tempdir().unwrap();
        let cache = cache.path().join("conclave");
        let start = std::sync::Barrier::new(4);
        let dirs: Vec<PathBuf> = std::thread::scope(|scope| {
            let unpackers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        unpacked(&cache).unwrap()
                    })
                })
                .collect();
            let ended = unpackers
                .into_iter()
                .map(|unpacker| unpacker.join().unwrap());
            ended.collect()
        });
        assert!(dirs.iter().all(|dir| *dir == dirs[0]));
        assert_eq!(count(&cache), 1, "nothing else stays");
        let identity = |dir: &Path| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(dir).unwrap().ino()
        };
        let before = identity(&dirs[0]);
        unpacked(&cache).unwrap();
        assert_eq!(identity(&dirs[0]), before, "it is not written again");
    }

    #[test]
    fn what_a_killed_process_left_goes_with_the_next_one() {
        let cache = tempfile::tempdir().unwrap();
        let [old, young] = ["old", "young"].map(|name| {
            let dir = cache.path().join(format!("{UNPACKING}{name}"));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("config.json"), "{").unwrap();
            dir
        });
        let long_ago = std::time::SystemTime::now() - 2 * UNPACK_LIMIT;
        let dir = fs::File::open(&old).unwrap();
        dir.set_modified(long_ago).unwrap();
        unpacked(cache.path()).unwrap();
        assert!(!old.exists() && young.exists());
    }

    #[test]
    fn a_damaged_one_is_told_and_kept() {
        let cache = tempfile::tempdir().unwrap();
        let dir = unpacked(cache.path()).unwrap();
        let wanted = format!("delete {}", dir.parent().unwrap().display());
        let file = dir.join("config.json");
        for broken in [Some("{}"), None] {
            match broken {
                Some(text) => fs::write(&file, text).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let error = unpacked(cache.path()).unwrap_err();
            assert!(
                error.contains(&wanted) && error.contains("config.json"),
                "{error}"
            );
        }
        assert!(!file.exists(), "it is left as it is");
    }

    #[test]
    fn one_out_of_reach_is_not_called_damaged() {
        let cache = tempfile::tempdir().unwrap();
        let dir = unpacked(cache.path()).unwrap();
        // Stands in for a file without permission, which a test run by root could read.
        fs::remove_file(dir.join("config.json")).unwrap();
        fs::create_dir(dir.join("config.json")).unwrap();
        let error = unpacked(cache.path()).unwrap_err();
        assert!(error.contains("config.json: cannot be read"), "{error}");
        assert!(error.contains("XDG_CACHE_HOME"), "{error}");
        assert!(!error.contains("delete"), "{error}");
    }

    #[test]
    fn where_it_cannot_be_written_it_is_told_what_to_do() {
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("file");
        fs::write(&file, "").unwrap();
        let error = unpacked(&file.join("conclave")).unwrap_err();
        for part in ["XDG_CACHE_HOME", "--model", "file/conclave"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn its_card_is_of_these_files() {
        let card = include_str!("../../../models/mini/README.md");
        let config: serde_json::Value = serde_json::from_slice(FILES[0].1).unwrap();
        let number = |key: &str| config[key].as_u64().unwrap();
        let rows = [
            format!(
                "| hidden, intermediate | {}, {} |",
                number("hidden_size"),
                number("intermediate_size")
            ),
            format!(
                "| experts | {} in each layer, top {},",
                number("num_local_experts"),
                number("experts_per_token")
            ),
            format!("| vocabulary | {} rows", number("vocab_size")),
            // Its scores are those of these weights.
            format!(
                "| weights | SHA-256 `{}` |",
                hex(&Sha256::digest(FILES[2].1))
            ),
        ];
        for row in rows {
            assert!(card.contains(&row), "{row}");
        }
        assert!(!card.contains('@'), "a figure is yet to be filled in");
    }
}
