//! Where a model may be written, and what is left when writing goes wrong.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use checkpoint::synth::{self, Spec, WriteOptions, Written};
use checkpoint::{Checkpoint, Error, Progress};

use crate::child;
use crate::folder::{Folder, PLAIN, go_on};

const OVERWRITE: WriteOptions<'_> = WriteOptions {
    overwrite: true,
    ..PLAIN
};

fn write(dir: &Path, options: &WriteOptions<'_>) -> Result<Written, Error> {
    synth::write(dir, &Spec::parse("tiny").unwrap(), options, &mut go_on)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn what_another_program_puts_there_meanwhile_is_kept() {
    for options in [PLAIN, OVERWRITE] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("m");
        let mut put = |progress: Progress| {
            if progress.done == progress.total {
                fs::create_dir_all(&dir).unwrap();
                fs::write(dir.join("thesis.txt"), "years").unwrap();
            }
            ControlFlow::Continue(())
        };
        let spec = Spec::parse("tiny").unwrap();
        let error = synth::write(&dir, &spec, &options, &mut put).unwrap_err();
        match error {
            Error::Exists { path } if !options.overwrite => assert_eq!(path, dir),
            Error::NotACheckpoint { path } if options.overwrite => assert_eq!(path, dir),
            error => panic!("{error}"),
        }
        assert_eq!(names(&dir), ["thesis.txt"]);
        assert_eq!(names(temp.path()), ["m"]);
    }
}

#[test]
fn of_two_writers_of_one_name_the_first_to_finish_wins() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("m");
    let mut overtake = |progress: Progress| {
        if progress.done == progress.total && !dir.exists() {
            write(&dir, &PLAIN).unwrap();
        }
        ControlFlow::Continue(())
    };
    let late = Spec::parse("tiny,seed=9").unwrap();
    let error = synth::write(&dir, &late, &PLAIN, &mut overtake).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(names(temp.path()), ["m"]);
    let first = Checkpoint::synth(&Spec::parse("tiny").unwrap()).unwrap();
    let there = Checkpoint::open(&dir).unwrap();
    assert_eq!(there.fingerprint().unwrap(), first.fingerprint().unwrap());
}

#[test]
fn writes_through_a_link_to_an_empty_folder() {
    let temp = tempfile::tempdir().unwrap();
    let (real, link) = (temp.path().join("real"), temp.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    write(&link, &PLAIN).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    Checkpoint::open(&real).unwrap();
    // The same through a link to a model.
    write(&link, &OVERWRITE).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    Checkpoint::open(&real).unwrap();
    assert_eq!(names(temp.path()), ["link", "real"]);
}

#[test]
fn names_that_cannot_be_written_are_told_before_anything_is() {
    let temp = tempfile::tempdir().unwrap();
    let link = temp.path().join("link");
    symlink(temp.path().join("gone"), &link).unwrap();
    let mut never = |_| panic!("nothing is written");
    let mut refused = |dir: &Path| {
        let spec = Spec::parse("tiny").unwrap();
        let error = synth::write(dir, &spec, &OVERWRITE, &mut never).unwrap_err();
        error.to_string()
    };
    for (dir, why) in [
        (Path::new("/proc"), "name a folder inside it"),
        (Path::new("/"), "name a folder inside it"),
        (&link, "it is a link to nothing; remove the link"),
        (
            &temp.path().join("absent/.."),
            "it ends in no name for a folder",
        ),
        (Path::new(""), "it ends in no name for a folder"),
    ] {
        let error = refused(dir);
        assert!(error.contains(why), "{error}");
        let shown = format!("cannot write {}: ", dir.display());
        assert!(error.starts_with(&shown), "{error}");
    }
    // Names the folder that holds the link, which is no checkpoint.
    fs::create_dir(temp.path().join("a")).unwrap();
    let error = refused(&temp.path().join("a/.."));
    assert!(error.contains("a/.. is not overwritten"), "{error}");
    assert_eq!(names(temp.path()), ["a", "link"]);
}

#[test]
fn a_configuration_alone_is_no_checkpoint_to_overwrite() {
    let temp = tempfile::tempdir().unwrap();
    for (dir, files, replaced) in [
        ("settings", &["config.json"][..], false),
        ("weights", &["model.safetensors"], false),
        ("single", &["config.json", "model.safetensors"], true),
        (
            "broken",
            &["config.json", "model.safetensors.index.json"],
            true,
        ),
    ] {
        let dir = temp.path().join(dir);
        fs::create_dir(&dir).unwrap();
        for file in files {
            fs::write(dir.join(file), "mine").unwrap();
        }
        match write(&dir, &OVERWRITE) {
            Ok(_) => assert!(replaced, "{files:?}"),
            Err(error) => {
                assert!(!replaced, "{files:?}: {error}");
                assert!(matches!(error, Error::NotACheckpoint { .. }), "{error}");
                assert_eq!(names(&dir), files);
            }
        }
    }
}

#[test]
fn what_a_killed_writer_left_is_removed_by_the_next() {
    const THIS: &str = "write::what_a_killed_writer_left_is_removed_by_the_next";
    if let Some(dir) = child::dir() {
        let mut wait = |_| {
            eprintln!("begun");
            // Until it is killed, or the parent is gone.
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            ControlFlow::Break(())
        };
        let spec = Spec::parse("tiny").unwrap();
        drop(synth::write(&dir.join("m"), &spec, &PLAIN, &mut wait));
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("m");
    let mut command = child::command(THIS, temp.path(), &[], r#"exec "$@""#);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let stderr = BufReader::new(running.stderr.take().unwrap());
    let begun = stderr.lines().any(|line| line.unwrap().contains("begun"));
    assert!(begun, "the child ended too early");

    // A second writer does not disturb the first while it lives.
    write(&temp.path().join("n"), &PLAIN).unwrap();
    let error = synth::write(&dir, &Spec::parse("tiny").unwrap(), &PLAIN, &mut |_| {
        ControlFlow::Break(())
    });
    assert!(matches!(error, Err(Error::Cancelled)));
    assert_eq!(names(temp.path()).len(), 2, "{:?}", names(temp.path()));

    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(
        names(temp.path()).len(),
        2,
        "a killed writer cleans nothing"
    );
    write(&dir, &PLAIN).unwrap();
    assert_eq!(names(temp.path()), ["m", "n"]);
    Checkpoint::open(&dir).unwrap();
}

#[test]
fn what_another_user_writes_is_left_alone() {
    const THIS: &str = "write::what_another_user_writes_is_left_alone";
    if let Some(dir) = child::dir() {
        write(&dir.join("m"), &PLAIN).unwrap();
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let mut locks = Vec::new();
    // A lock that may be read only, and one that may not even be opened.
    for (digit, mode) in [("0", 0o444), ("1", 0o000)] {
        let hidden = temp.path().join(format!(".m.partial-{}", digit.repeat(16)));
        fs::create_dir(&hidden).unwrap();
        let lock = fs::File::create_new(hidden.join("lock")).unwrap();
        lock.lock().unwrap();
        lock.set_permissions(Permissions::from_mode(mode)).unwrap();
        locks.push(lock);
    }
    let wrapper = child::bound_by_permissions();
    child::run(child::command(THIS, temp.path(), wrapper, r#"exec "$@""#));
    assert_eq!(names(temp.path()).len(), 3, "{:?}", names(temp.path()));
}

/// Files of odd sizes take whole pages, so a disk that has just enough bytes is too small: the
/// check beforehand passes, and writing fails in one of the last pieces.
#[test]
fn a_disk_that_fills_up_meanwhile_is_told_and_nothing_stays() {
    const THIS: &str = "write::a_disk_that_fills_up_meanwhile_is_told_and_nothing_stays";
    let spec = Spec::parse("tiny,shard_bytes=70000").unwrap();
    if let Some(temp) = child::dir() {
        let dir = temp.join("m");
        let mut calls = 0;
        let mut count = |_| {
            calls += 1;
            ControlFlow::Continue(())
        };
        let error = synth::write(&dir, &spec, &PLAIN, &mut count).unwrap_err();
        let said = error.to_string();
        let Error::Full { path, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(path.parent(), Some(&*dir));
        assert!(path.extension().is_some_and(|end| end == "safetensors"));
        assert!(
            said.contains(path.to_str().unwrap()) && said.contains("free some"),
            "{said}"
        );
        assert!(calls > 3, "failed in the middle, after {calls} pieces");
        assert_eq!(names(&temp), [""; 0]);
        return;
    }
    let Some(wrapper) = child::may_mount() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let written = synth::write(&temp.path().join("m"), &spec, &PLAIN, &mut go_on).unwrap();
    let size = written.num_bytes.next_multiple_of(4096);
    let disk = temp.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let script = format!(r#"mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@""#);
    child::run(child::command(THIS, &disk, wrapper, &script));
}

#[test]
fn a_limit_on_the_size_of_files_is_told_and_nothing_stays() {
    const THIS: &str = "write::a_limit_on_the_size_of_files_is_told_and_nothing_stays";
    if let Some(temp) = child::dir() {
        let dir = temp.join("m");
        let error = write(&dir, &PLAIN).unwrap_err();
        let said = error.to_string();
        let shard = dir.join("model-00000-of-00000.safetensors");
        assert!(matches!(error, Error::FileTooLarge { .. }), "{error:?}");
        assert!(
            said.contains(shard.to_str().unwrap()) && said.contains("ulimit -f"),
            "{said}"
        );
        assert_eq!(names(&temp), [""; 0]);
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    // Blocks of 512 or 1024 bytes, as the shell likes; the model has 600 kB.
    let script = r#"trap '' XFSZ; ulimit -f 100; exec "$@""#;
    child::run(child::command(THIS, temp.path(), &[], script));
}

#[test]
fn a_mount_point_is_refused_at_once() {
    const THIS: &str = "write::a_mount_point_is_refused_at_once";
    if let Some(temp) = child::dir() {
        for mounted in ["same", "other"] {
            let error = write(&temp.join(mounted), &PLAIN).unwrap_err();
            assert!(matches!(error, Error::Unsuitable { .. }), "{error:?}");
            write(&temp.join(mounted).join("m"), &PLAIN).unwrap();
        }
        return;
    }
    let Some(wrapper) = child::may_mount() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    // The first is of the same file system as the folder around it.
    let script = r#"cd "$0" && mkdir same other && mount --bind same same &&
        mount -t tmpfs tmpfs other && exec "$@""#;
    child::run(child::command(THIS, temp.path(), wrapper, script));
}

#[test]
fn an_old_model_that_cannot_be_removed_is_told_as_such() {
    const THIS: &str = "write::an_old_model_that_cannot_be_removed_is_told_as_such";
    let new = Spec::parse("tiny,seed=9").unwrap();
    if let Some(dir) = child::dir() {
        let error = synth::write(&dir, &new, &OVERWRITE, &mut go_on).unwrap_err();
        let Error::OldRemains { path, old, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(path, dir);
        assert!(old.join("new/original").is_dir());
        let there = Checkpoint::open(&dir).unwrap();
        let wanted = Checkpoint::synth(&new).unwrap();
        assert_eq!(there.fingerprint().unwrap(), wanted.fingerprint().unwrap());
        return;
    }
    let Some(wrapper) = child::may_mount() else {
        return;
    };
    let folder = Folder::tiny();
    let script = r#"mkdir "$0/original" && mount -t tmpfs tmpfs "$0/original" && exec "$@""#;
    child::run(child::command(THIS, &folder.dir, wrapper, script));
}
