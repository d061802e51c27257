//! Positions in a file that is whole whenever the process dies.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::checkpoint::store::{CheckpointStore, Groups, set_positions};
use crate::error::{BoxError, Error, ErrorKind, Operation, Result};
use crate::model::{
    CHECKPOINT_VERSION, Checkpoint, Json, Quoted, check_version, positions_from_json, positions_to_json,
};
use crate::task;

/// Positions in one file, of any number of groups, as JSON text.
///
/// Each save writes a new file beside it, makes it durable, and puts it in the place of the old one: whenever the process
/// is killed, or the machine stops, the file holds what was saved last or what was saved before.
///
/// It belongs to one owner at a time: an empty file beside it (`….lock`) is locked while it is open, and who opens it
/// meanwhile, in this process or another, is refused. The lock goes with the process, however it ends; in a process that
/// goes on, with the last clone, and with the shutdown of the consumer that has it. When somebody has changed the file in
/// another way, it is not overwritten. Clones share the file.
#[derive(Debug, Clone)]
pub struct FileCheckpoints(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    /// Locked; the system lets go of it when it is closed, also when the process is killed.
    _lock: File,
}

#[derive(Debug)]
struct State {
    groups: Groups,
    /// What the file looked like when we read or wrote it last; `None` when there was none.
    stamp: Option<Stamp>,
}

/// Tells a file from one that was put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl FileCheckpoints {
    /// Opens a file, locks and reads it; it is created by the first save. Its folder must be there, and allow new files.
    ///
    /// This reads from the disk, and blocks for as long as that takes.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config), naming the path: it cannot be read or written, it is no checkpoint file, or it was
    /// written by a newer version. Such a file is left as it is. [`Precondition`](ErrorKind::Precondition), naming the path:
    /// somebody else has it open.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let given = path.as_ref();
        let path = resolve(given).map_err(|cause| unusable(given, "it cannot be found").with_source(cause))?;
        let lock = lock(&path)?;
        let state = read(&path)?;
        let probe = temporary(&path);
        let probed = File::create(&probe).and_then(|_| fs::remove_file(&probe));
        probed.map_err(|cause| unusable(&path, "its folder does not allow new files").with_source(cause))?;
        Ok(Self(Arc::new(Shared { path, state: Mutex::new(state), _lock: lock })))
    }

    /// The file, with its whole path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl CheckpointStore for FileCheckpoints {
    async fn load(&self, group: &str) -> Result<Checkpoint, BoxError> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.groups.get(group).cloned().unwrap_or_default())
    }

    async fn save(&self, group: &str, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        let (shared, group, checkpoint) = (Arc::clone(&self.0), group.to_owned(), checkpoint.clone());
        let saved = task::blocking("checkpoint file", move || shared.save(&group, &checkpoint)).await;
        Ok(saved.unwrap_or_else(|| Err(Error::closed("runtime").during(Operation::Checkpoint)))?)
    }
}

impl Shared {
    /// Blocks. One at a time; what is written is what the file had, with these positions set.
    fn save(&self, group: &str, checkpoint: &Checkpoint) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |cause: io::Error| {
            let text = format!("checkpoint file {} could not be written", self.path.display());
            Error::new(ErrorKind::Unavailable, text).during(Operation::Checkpoint).with_source(cause)
        };
        let found = stamp(&self.path).map_err(failed)?;
        // A file that is gone is written again: nothing of anybody's is lost.
        if found.is_some() && found != state.stamp {
            return Err(self.changed());
        }
        let mut groups = state.groups.clone();
        set_positions(&mut groups, group, checkpoint);
        let replaced = replace(&self.path, &to_json(&groups));
        // Also after a failure the new file may be there.
        state.stamp = stamp(&self.path).map_err(failed)?;
        replaced.map_err(failed)?;
        state.groups = groups;
        Ok(())
    }

    fn changed(&self) -> Error {
        let text = format!(
            "checkpoint file {} was changed by somebody else since it was opened, and is left as it is; give each consumer \
             process a file of its own, and open the file again after editing it",
            self.path.display()
        );
        Error::new(ErrorKind::Precondition, text).during(Operation::Checkpoint)
    }
}

fn unusable(path: &Path, reason: &str) -> Error {
    let rule = format!("{reason}; it is left as it is: repair it, move it away, or open another file");
    Error::config("checkpoint file", path.display(), &rule).during(Operation::Checkpoint)
}

/// The lock has a file of its own, which stays: what holds the positions is replaced by each save, and a lock with it.
fn lock(path: &Path) -> Result<File> {
    let failed = |cause| unusable(path, "it cannot be locked, by an empty file beside it").with_source(cause);
    let file = File::options().create(true).append(true).open(beside(path, ".lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let text = format!(
                "checkpoint file {} is in use, by another process or another consumer of this one: give each consumer a file \
                 of its own, or shut the other one down first",
                path.display()
            );
            Err(Error::new(ErrorKind::Precondition, text).during(Operation::Checkpoint))
        }
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// The whole path, so that a later change of the working folder does not matter; links are followed, so that the file and
/// not the link is replaced.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = std::path::absolute(path)?;
            let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
            Ok(fs::canonicalize(folder(&path))?.join(name))
        }
        resolved => resolved,
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// The file that is written before it takes the place of `path`; what a killed process left of it is overwritten.
fn temporary(path: &Path) -> PathBuf {
    beside(path, ".new")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn read(path: &Path) -> Result<State> {
    let stamp = stamp(path).map_err(|cause| unusable(path, "it cannot be read").with_source(cause))?;
    if stamp.is_none() {
        return Ok(State { groups: Groups::new(), stamp });
    }
    let text = fs::read_to_string(path).map_err(|cause| unusable(path, "it cannot be read").with_source(cause))?;
    let groups = from_json(&text).map_err(|reason| unusable(path, &format!("it is no checkpoint file: {reason}")))?;
    Ok(State { groups, stamp })
}

/// Puts a text in the place of what is at `path`, so that always the one or the other is there, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = temporary(path);
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    fs::rename(&new, path)?;
    sync_folder(folder(path))
}

/// A new name is durable when its folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file; the system writes names through.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(metadata) => {
            let modified = metadata.modified().ok();
            Ok(Some(Stamp { file: number(&metadata), length: metadata.len(), modified }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_metadata: &fs::Metadata) -> u64 {
    0
}

fn to_json(groups: &Groups) -> String {
    let groups = groups
        .iter()
        .map(|(group, checkpoint)| format!("\n{}:{}", Quoted(group), positions_to_json(checkpoint, "\n  ")));
    format!("{{\"version\":{CHECKPOINT_VERSION},\"groups\":{{{}\n}}}}\n", groups.collect::<Vec<_>>().join(","))
}

fn from_json(text: &str) -> Result<Groups, String> {
    let json = Json::parse(text).map_err(|error| error.to_string())?;
    check_version(&json)?;
    let groups = json.get("groups").and_then(Json::as_object).ok_or("`groups` is missing or no object")?;
    let groups = groups.iter().map(|(group, positions)| {
        let read = positions_from_json(positions).map_err(|reason| format!("group {group}: {reason}"));
        read.map(|checkpoint| (group.clone(), checkpoint))
    });
    groups.collect()
}

#[cfg(test)]
mod tests;
