//! A folder on its way, and how it takes its name.
//!
//! It grows in a hidden folder beside the wanted one, which its writer keeps a lock on. Whoever
//! finds such a folder without a lock knows that its writer died, and removes it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::target::Target;
use crate::error::Error;

/// In a hidden folder: locked while its writer lives.
const LOCK: &str = "lock";
/// In a hidden folder: the model as far as it is written.
const NEW: &str = "new";
/// In a hidden folder: the model that is being replaced, between two renames.
const OLD: &str = "old";
/// Hexadecimal digits that tell two hidden folders of one target apart.
const DIGITS: usize = 16;

/// A hidden folder of this process; removed with all that is in it when it goes out of scope.
#[derive(Debug)]
pub(super) struct Partial {
    hidden: PathBuf,
    /// The wanted name.
    path: PathBuf,
    /// The folder that will take the wanted name.
    pub(super) new: PathBuf,
    _lock: File,
}

impl Partial {
    pub(super) fn create(target: &Target) -> Result<Self, Error> {
        let failed = |source| Error::write(target.parent(), source);
        let (hidden, lock) = loop {
            let hidden = target.parent().join(random_name(target));
            fs::create_dir(&hidden).map_err(failed)?;
            if let Some(lock) = lock_new(&hidden).map_err(failed)? {
                break (hidden, lock);
            }
        };
        let new = hidden.join(NEW);
        let partial = Self {
            hidden,
            path: target.path().to_owned(),
            new,
            _lock: lock,
        };
        fs::create_dir(&partial.new).map_err(failed)?;
        Ok(partial)
    }

    /// Gives the new folder its name, replacing what may be replaced.
    pub(super) fn finish(self, target: &Target) -> Result<(), Error> {
        let failed = |source| Error::write(target.named(), source);
        sync_dir(&self.new).map_err(failed)?;
        let replaces = target.replaces()?;
        if replaces {
            match exchange(&self.new, target.path()) {
                Err(error) if is_unknown(error) => {
                    replace(&self.new, target.path(), &self.hidden.join(OLD)).map_err(failed)?;
                }
                outcome => outcome.map_err(|error| failed(error.into()))?,
            }
        } else {
            // Takes the place of nothing or of an empty folder, and of nothing else.
            fs::rename(&self.new, target.path()).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::NotADirectory => Error::Exists {
                    path: target.named().to_owned(),
                },
                _ => failed(error),
            })?;
        }
        sync_dir(target.parent()).map_err(|source| Error::write(target.parent(), source))?;
        if replaces {
            let dismantled = dismantle(&self.hidden, &self.path);
            dismantled.map_err(|source| Error::OldRemains {
                path: target.named().to_owned(),
                old: self.hidden.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Where even removing fails, the next write to the same place tries again.
        dismantle(&self.hidden, &self.path).unwrap_or_default();
    }
}

/// Removes what writers of the same target left when they died.
pub(super) fn remove_stale(target: &Target) -> Result<(), Error> {
    let entries = fs::read_dir(target.parent());
    let entries = entries.map_err(|source| Error::write(target.parent(), source))?;
    for entry in entries.flatten() {
        if is_hidden(target, &entry.file_name())
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            let path = entry.path();
            remove_if_stale(&path, target).map_err(|source| Error::Stale { path, source })?;
        }
    }
    Ok(())
}

fn remove_if_stale(hidden: &Path, target: &Target) -> io::Result<()> {
    let lock = File::open(hidden.join(LOCK));
    match lock {
        Ok(lock) => {
            // Locked: its writer lives. No locks here: nobody can tell, so it stays.
            if lock.try_lock().is_err() {
                return Ok(());
            }
            dismantle(hidden, target.path())
        }
        // Its writer has not come to locking it yet, or died before it could; if it lives, it
        // notices that the folder is gone and makes another.
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::remove_dir(hidden) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            outcome => there_or_not(outcome),
        },
        // Another user's: nobody can tell, so it stays.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Locks a hidden folder that was just made; `None` if another process took it for a dead one's.
fn lock_new(hidden: &Path) -> io::Result<Option<File>> {
    let path = hidden.join(LOCK);
    let lock = match File::create_new(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            fs::remove_dir(hidden).unwrap_or_default();
            return Err(error);
        }
    };
    match lock.try_lock() {
        // Some network file systems have no locks; there nobody removes a stale folder either.
        Ok(()) | Err(fs::TryLockError::Error(_)) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
    }
    let is_ours = |found: fs::Metadata| {
        let ours = lock.metadata()?;
        Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino()))
    };
    match fs::metadata(&path) {
        Ok(found) => is_ours(found).map(|ours| ours.then_some(lock)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a hidden folder, its lock last: whatever interrupts this can be told for what it is.
/// An old model whose place nothing has taken goes back there.
fn dismantle(hidden: &Path, path: &Path) -> io::Result<()> {
    let old = hidden.join(OLD);
    if old.exists() && path.symlink_metadata().is_err() {
        fs::rename(&old, path)?;
    }
    for inside in [NEW, OLD] {
        there_or_not(fs::remove_dir_all(hidden.join(inside)))?;
    }
    there_or_not(fs::remove_dir_all(hidden))
}

fn there_or_not(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Swaps two folders at once, so that the name stands for a whole model at any moment.
fn exchange(new: &Path, path: &Path) -> Result<(), Errno> {
    renameat_with(CWD, new, CWD, path, RenameFlags::EXCHANGE)
}

/// Whether the file system cannot exchange two names.
fn is_unknown(error: Errno) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].contains(&error)
}

/// Swaps two folders where that takes two renames; what fails or dies in between is mended by
/// [`dismantle`].
fn replace(new: &Path, path: &Path, old: &Path) -> io::Result<()> {
    fs::rename(path, old)?;
    fs::rename(new, path)
}

/// Flushes the names in a folder to disk.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What the name of every hidden folder of a target begins with.
fn prefix(target: &Target) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(target.path().file_name().unwrap_or_default());
    prefix.push(".partial-");
    prefix
}

fn random_name(target: &Target) -> OsString {
    let mut name = prefix(target);
    // The standard library's hashes have a random key.
    name.push(format!("{:0DIGITS$x}", RandomState::new().hash_one(())));
    name
}

fn is_hidden(target: &Target, name: &OsStr) -> bool {
    let rest = name.as_bytes().strip_prefix(prefix(target).as_bytes());
    rest.is_some_and(|rest| rest.len() == DIGITS && rest.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests;
