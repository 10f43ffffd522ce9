//! The folder that a model is written to: where it really is, and what it holds already.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use crate::config::CONFIG;
use crate::error::Error;
use crate::index::{INDEX, is_shard};

/// A name in a folder that exists, with nothing but plain folders on the way to it.
#[derive(Debug)]
pub(super) struct Target {
    /// As the caller named it.
    named: PathBuf,
    /// Through links; has a parent and a name.
    path: PathBuf,
    /// Whether a checkpoint that is there already is replaced.
    overwrite: bool,
}

/// What a path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    EmptyFolder,
    Checkpoint,
    Other,
}

impl Target {
    /// Finds the place that `dir` names.
    pub(super) fn locate(dir: &Path, overwrite: bool) -> Result<Self, Error> {
        let unsuitable = |why| Error::Unsuitable {
            path: dir.to_owned(),
            why,
        };
        let path = match fs::canonicalize(dir) {
            Ok(path) => {
                if is_mount_point(&path).map_err(|source| Error::write(dir, source))? {
                    let why = "a file system is mounted there, so that nothing can take its \
                               place; name a folder inside it";
                    return Err(unsuitable(why));
                }
                path
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if dir.symlink_metadata().is_ok() {
                    return Err(unsuitable("it is a link to nothing; remove the link"));
                }
                let name = dir.file_name();
                let name = name.ok_or_else(|| unsuitable("it ends in no name for a folder"))?;
                let parent = dir.parent().filter(|parent| *parent != Path::new(""));
                let parent = parent.unwrap_or(Path::new("."));
                let whole = fs::canonicalize(parent);
                whole
                    .map_err(|source| Error::write(parent, source))?
                    .join(name)
            }
            Err(source) => return Err(Error::write(dir, source)),
        };
        Ok(Self {
            named: dir.to_owned(),
            path,
            overwrite,
        })
    }

    /// Returns the place as the caller named it, for messages.
    pub(super) fn named(&self) -> &Path {
        &self.named
    }

    /// Returns the place itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the folder it is in.
    pub(super) fn parent(&self) -> &Path {
        let parent = self.path.parent();
        parent.expect("the root is a mount point, and those are refused")
    }

    /// Returns whether a checkpoint is there that will be replaced. Refuses a folder that is in
    /// use, and one that is no checkpoint even if it may be overwritten.
    pub(super) fn replaces(&self) -> Result<bool, Error> {
        let path = self.named.clone();
        let holds = holds(&self.path).map_err(|source| Error::write(&self.named, source))?;
        match (holds, self.overwrite) {
            (Holds::Nothing | Holds::EmptyFolder, _) => Ok(false),
            (Holds::Checkpoint, true) => Ok(true),
            (_, false) => Err(Error::Exists { path }),
            (Holds::Other, true) => Err(Error::NotACheckpoint { path }),
        }
    }
}

fn holds(path: &Path) -> io::Result<Holds> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holds::Nothing),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Holds::Other),
        Err(error) => return Err(error),
    };
    let (mut is_empty, mut has_config, mut has_weights) = (true, false, false);
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        is_empty = false;
        has_config |= name == CONFIG;
        has_weights |= name == INDEX || is_shard(&name);
    }
    Ok(match (is_empty, has_config && has_weights) {
        (true, _) => Holds::EmptyFolder,
        (false, true) => Holds::Checkpoint,
        (false, false) => Holds::Other,
    })
}

/// Returns whether a file system, or a part of one, is mounted at an existing path.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    let Some(parent) = path.parent() else {
        return Ok(true);
    };
    // Tells a bind mount of the same file system too; the kernel does since Linux 5.8.
    let attributes = statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    let is_root =
        attributes.is_ok_and(|found| StatxAttributes::MOUNT_ROOT.intersects(found.stx_attributes));
    Ok(is_root || fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}
