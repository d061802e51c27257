//! A file of positions and SIGKILL, at any point. The child of these tests is this very program.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rocketmq_stream::{Checkpoint, CheckpointStore, FileCheckpoints, MessageQueue, Offset};

/// Tells the child which file to write.
const FILE: &str = "CHECKPOINT_FILE_TO_WRITE";
const GROUP: &str = "etl";
/// Many, so that a file that is written in place would be seen torn.
const QUEUES: u32 = 1000;

/// All queues at the same position: a mixture of two states is seen as one.
fn state(next: u64) -> Checkpoint {
    (0..QUEUES).map(|id| (MessageQueue::new("orders", "broker-a", id), Offset::new(next))).collect()
}

/// The state a file is in, which is one that was written.
fn read(path: &Path) -> u64 {
    let store = FileCheckpoints::open(path).expect("whenever the writer was killed, the file is whole");
    let checkpoint = futures::executor::block_on(store.load(GROUP)).expect("loaded");
    let next = checkpoint.iter().next().map_or(0, |(_, next)| next.get());
    assert!(checkpoint.is_empty() || checkpoint == state(next), "a mixture of two states: {checkpoint:?}");
    next
}

/// Saves one state after the other, from where the file is, and says each that is durable. Never ends by itself.
async fn write_for_ever(path: &Path) {
    let store = FileCheckpoints::open(path).expect("the file is whole");
    let start = store.load(GROUP).await.expect("loaded").iter().next().map_or(0, |(_, next)| next.get());
    for next in start + 1.. {
        store.save(GROUP, &state(next)).await.expect("saved");
        println!("saved {next}");
    }
}

fn child(path: &Path) -> Child {
    let this = std::env::current_exe().expect("this program");
    Command::new(this)
        .args([
            "checkpoint_file::a_file_whose_writer_is_killed_is_always_one_of_the_states_written",
            "--exact",
            "--nocapture",
        ])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child")
}

/// Kills a writer after a random time; returns the last state that it knew to be durable.
fn killed_writer(path: &Path) -> Option<u64> {
    let mut child = child(path);
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        lines.filter_map(|line| line.rsplit_once("saved ")?.1.parse().ok()).last()
    });
    std::thread::sleep(Duration::from_micros(fastrand::u64(5_000..60_000)));
    child.kill().expect("killed");
    child.wait().expect("it is dead");
    reader.join().expect("read to its end")
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_lock_of_a_file_keeps_another_process_out_and_ends_with_a_killed_one() {
    let folder = Folder(std::env::temp_dir().join(format!("rocketmq-stream-lock-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).expect("a folder");
    let path = folder.0.join("etl.ckpt");
    let mut child = child(&path);
    let mut output = BufReader::new(child.stdout.take().expect("its output")).lines();
    assert!(output.any(|line| line.expect("text").contains("saved ")), "it has the file");
    let error = FileCheckpoints::open(&path).expect_err("the other process has it");
    assert_eq!(error.kind(), rocketmq_stream::ErrorKind::Precondition);
    assert!(error.to_string().contains("etl.ckpt"), "{error}");
    child.kill().expect("killed");
    child.wait().expect("it is dead");
    assert!(read(&path) > 0, "nobody has it now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_writer_is_killed_is_always_one_of_the_states_written() {
    if let Some(path) = std::env::var_os(FILE) {
        return write_for_ever(Path::new(&path)).await;
    }
    let folder = Folder(std::env::temp_dir().join(format!("rocketmq-stream-kill-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).expect("a folder");
    let path = folder.0.join("etl.ckpt");
    let (mut before, mut writers) = (0, 0);
    for round in 0..60 {
        let durable = killed_writer(&path);
        let now = read(&path);
        assert!(now >= durable.unwrap_or(before), "round {round}: {durable:?} was durable, and {now} is there");
        assert!(now <= durable.unwrap_or(before) + 1, "round {round}: {now} was never begun after {durable:?}");
        writers += u32::from(durable.is_some());
        before = now;
    }
    assert!(writers >= 10, "only {writers} of 60 writers lived long enough to write");
}
