//! Writers that die, that live, and file systems that cannot exchange names.

use super::*;

const STALE: &str = ".m.partial-0123456789abcdef";

fn target(temp: &Path) -> Target {
    Target::locate(&temp.join("m"), true).unwrap()
}

/// Makes a folder with one file, which says `text`.
fn folder(path: &Path, text: &str) {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("file"), text).unwrap();
}

fn names(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path.join("file")).unwrap()
}

#[test]
fn an_exchange_and_two_renames_both_put_the_new_in_the_place_of_the_old() {
    let swaps: [fn(&Path, &Path, &Path); 2] = [
        |new, path, _| exchange(new, path).unwrap(),
        |new, path, old| replace(new, path, old).unwrap(),
    ];
    for swap in swaps {
        let temp = tempfile::tempdir().unwrap();
        let hidden = temp.path().join(STALE);
        let path = temp.path().join("m");
        folder(&path, "old");
        folder(&hidden.join(NEW), "new");
        swap(&hidden.join(NEW), &path, &hidden.join(OLD));
        assert_eq!(text(&path), "new");
        dismantle(&hidden, &path).unwrap();
        assert_eq!(names(temp.path()), ["m"]);
        assert_eq!(text(&path), "new");
    }
}

#[test]
fn a_second_rename_that_fails_puts_the_old_back() {
    let temp = tempfile::tempdir().unwrap();
    let (hidden, path) = (temp.path().join(STALE), temp.path().join("m"));
    folder(&path, "old");
    fs::create_dir(&hidden).unwrap();
    replace(&hidden.join(NEW), &path, &hidden.join(OLD)).unwrap_err();
    dismantle(&hidden, &path).unwrap();
    assert_eq!(text(&path), "old");
    assert_eq!(names(temp.path()), ["m"]);
}

#[test]
fn a_death_between_two_renames_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let hidden = temp.path().join(STALE);
    folder(&hidden.join(OLD), "old");
    folder(&hidden.join(NEW), "new");
    fs::write(hidden.join(LOCK), "").unwrap();
    remove_stale(&target(temp.path())).unwrap();
    assert_eq!(text(&temp.path().join("m")), "old");
    assert_eq!(names(temp.path()), ["m"]);
}

#[test]
fn a_dead_writers_folder_is_removed_and_a_living_ones_stays() {
    let temp = tempfile::tempdir().unwrap();
    let target = target(temp.path());
    let living = Partial::create(&target).unwrap();
    let dead = temp.path().join(STALE);
    folder(&dead.join(NEW), "half");
    fs::write(dead.join(LOCK), "").unwrap();
    let unborn = temp.path().join(".m.partial-fedcba9876543210");
    fs::create_dir(&unborn).unwrap();
    remove_stale(&target).unwrap();
    assert!(living.new.is_dir());
    assert_eq!(names(temp.path()), [living.hidden.file_name().unwrap()]);
    drop(living);
    assert_eq!(names(temp.path()), [""; 0]);
}

#[test]
fn folders_of_others_are_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let others = [
        ".m.partial-0123456789abcde",
        ".m.partial-0123456789abcdefg",
        ".m.partial-x.partial-0123456789abcdef",
        ".n.partial-0123456789abcdef",
        "m.partial-0123456789abcdef",
    ];
    for other in others {
        let other = temp.path().join(other);
        folder(&other, "mine");
        fs::write(other.join(LOCK), "").unwrap();
    }
    remove_stale(&target(temp.path())).unwrap();
    assert_eq!(names(temp.path()).len(), others.len());
}
