use std::error::Error as _;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::checkpoint::testing::positions;

/// A folder of its own, gone with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rocketmq-stream-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(fs::canonicalize(folder).unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.join("etl.ckpt")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "etl.ckpt.lock").collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn what_was_saved_is_there_when_the_file_is_opened_again() {
    let folder = Folder::new();
    let store = FileCheckpoints::open(folder.file()).expect("a new file");
    assert!(store.load("etl").await.expect("loaded").is_empty());
    assert!(folder.names().is_empty(), "nothing is written before there is something to save");
    store.save("etl", &positions([(0, 7), (1, 9)])).await.expect("saved");
    store.save("other", &positions([(0, 1)])).await.expect("saved");
    store.save("etl", &positions([(1, 4)])).await.expect("saved");
    assert_eq!(folder.names(), ["etl.ckpt"], "nothing is left beside it");
    drop(store);
    let again = FileCheckpoints::open(folder.file()).expect("it is there");
    assert_eq!(again.load("etl").await.expect("loaded"), positions([(0, 7), (1, 4)]));
    assert_eq!(again.load("other").await.expect("loaded"), positions([(0, 1)]));
    again.save("etl", &positions([(0, 8)])).await.expect("the file is as it was opened");
}

#[test]
fn the_file_of_version_one_stays_readable() {
    let groups = Groups::from_iter([("etl".to_owned(), positions([(0, 7)])), ("x\"y".to_owned(), Checkpoint::new())]);
    let text = "{\"version\":1,\"groups\":{\n\"etl\":[\n  {\"topic\":\"orders\",\"broker\":\"broker-a\",\"queue\":0,\"next_offset\":7}],\n\"x\\\"y\":[]\n}}\n";
    assert_eq!(to_json(&groups), text);
    assert_eq!(from_json(text), Ok(groups));
    assert_eq!(from_json(&to_json(&Groups::new())), Ok(Groups::new()));
}

#[test]
fn a_corrupt_or_newer_file_is_refused_with_path_and_reason_and_never_overwritten() {
    let folder = Folder::new();
    for (text, why) in [
        ("", "no value at byte 0"),
        ("{\"version\":1,\"groups\":{\n\"etl\":[", "no value at byte 31"),
        ("{\"version\":2,\"groups\":{}}", "its version is 2, and this crate reads up to 1"),
        (
            "{\"version\":1,\"groups\":{\"etl\":[{\"topic\":\"t\",\"broker\":\"b\",\"queue\":0}]}}",
            "group etl: the position",
        ),
        ("{\"version\":1}", "`groups` is missing"),
    ] {
        fs::write(folder.file(), text).unwrap();
        let error = FileCheckpoints::open(folder.file()).expect_err(text);
        let said = error.to_string();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Config, Some(Operation::Checkpoint)));
        assert!(said.contains(why) && said.contains(folder.file().to_str().unwrap()), "{said} should say {why}");
        assert_eq!(fs::read_to_string(folder.file()).unwrap(), text);
    }
    fs::write(folder.file(), [0xff, 0xfe]).unwrap();
    let error = FileCheckpoints::open(folder.file()).expect_err("no text");
    assert!(error.source().is_some(), "the cause is there to be asked for");
}

#[test]
fn a_path_that_cannot_be_a_file_is_refused_when_it_is_opened() {
    let folder = Folder::new();
    for path in [folder.0.join("absent/etl.ckpt"), folder.0.clone(), PathBuf::from("/")] {
        let error = FileCheckpoints::open(&path).expect_err("no file can be there");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_somebody_else_has_changed_is_not_overwritten() {
    let folder = Folder::new();
    let store = FileCheckpoints::open(folder.file()).unwrap();
    store.save("etl", &positions([(0, 7)])).await.expect("saved");
    // An editor, say, which knows of no lock.
    let edited = fs::read_to_string(folder.file()).unwrap().replace("7", "42");
    fs::remove_file(folder.file()).unwrap();
    fs::write(folder.file(), &edited).unwrap();
    let error = store.save("etl", &positions([(0, 8)])).await.expect_err("it is not the file that was opened");
    let error = error.downcast_ref::<Error>().expect("an error of this crate");
    assert_eq!(error.kind(), ErrorKind::Precondition);
    assert!(error.to_string().contains("changed by somebody else"), "{error}");
    drop(store);
    let read = FileCheckpoints::open(folder.file()).unwrap().load("etl").await.expect("loaded");
    assert_eq!(read, positions([(0, 42)]));
}

#[tokio::test]
async fn a_file_that_is_open_is_refused_to_others_until_its_last_clone_is_gone() {
    let folder = Folder::new();
    let store = FileCheckpoints::open(folder.file()).unwrap();
    let clone = store.clone();
    for _ in 0..2 {
        let error = FileCheckpoints::open(folder.file()).expect_err("it is in use");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Precondition, Some(Operation::Checkpoint)));
        assert!(error.to_string().contains(folder.file().to_str().unwrap()), "{error}");
        store.save("etl", &positions([(0, 7)])).await.expect("also after a save has put another file in its place");
    }
    drop(store);
    FileCheckpoints::open(folder.file()).expect_err("the clone has it");
    drop(clone);
    let again = FileCheckpoints::open(folder.file()).expect("it is free");
    assert_eq!(again.load("etl").await.expect("loaded"), positions([(0, 7)]));
}

#[tokio::test]
async fn a_save_that_fails_leaves_the_old_file_and_may_be_repeated() {
    let folder = Folder::new();
    let store = FileCheckpoints::open(folder.file()).unwrap();
    store.save("etl", &positions([(0, 7)])).await.expect("saved");
    let in_the_way = temporary(&folder.file());
    fs::create_dir(&in_the_way).unwrap();
    let error = store.save("etl", &positions([(0, 8)])).await.expect_err("the new file cannot be made");
    let error = error.downcast_ref::<Error>().expect("an error of this crate");
    assert!(error.is_retryable() && error.to_string().contains("etl.ckpt could not be written"), "{error}");
    assert_eq!(store.load("etl").await.expect("loaded"), positions([(0, 7)]), "what is not saved is not told as saved");
    fs::remove_dir(&in_the_way).unwrap();
    store.save("etl", &positions([(0, 8)])).await.expect("saved");
    fs::remove_file(folder.file()).unwrap();
    store.save("etl", &positions([(1, 1)])).await.expect("a file that is gone is written again");
    drop(store);
    let read = FileCheckpoints::open(folder.file()).unwrap().load("etl").await.expect("loaded");
    assert_eq!(read, positions([(0, 8), (1, 1)]));
}

#[tokio::test]
async fn what_a_killed_process_left_beside_the_file_does_no_harm() {
    let folder = Folder::new();
    let store = FileCheckpoints::open(folder.file()).unwrap();
    store.save("etl", &positions([(0, 7)])).await.expect("saved");
    drop(store);
    fs::write(temporary(&folder.file()), "{\"version\":1,\"gro").unwrap();
    let again = FileCheckpoints::open(folder.file()).unwrap();
    assert_eq!(again.load("etl").await.expect("loaded"), positions([(0, 7)]));
    again.save("etl", &positions([(0, 8)])).await.expect("saved");
    assert_eq!(folder.names(), ["etl.ckpt"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_stays_a_link_and_its_file_is_replaced() {
    let (folder, link) = (Folder::new(), Folder::new());
    FileCheckpoints::open(folder.file()).unwrap().save("etl", &positions([(0, 7)])).await.expect("saved");
    std::os::unix::fs::symlink(folder.file(), link.file()).unwrap();
    let store = FileCheckpoints::open(link.file()).unwrap();
    assert_eq!(store.path(), folder.file());
    store.save("etl", &positions([(0, 8)])).await.expect("saved");
    assert!(fs::symlink_metadata(link.file()).unwrap().is_symlink());
    drop(store);
    let read = FileCheckpoints::open(folder.file()).unwrap().load("etl").await.expect("loaded");
    assert_eq!(read, positions([(0, 8)]));
}
