//! What the programs share that compare this crate with a raw loop: each of the two runs in a process of its own, and a
//! third process is the server.

pub(crate) mod meter;
pub(crate) mod process;
pub(crate) mod rounds;
pub(crate) mod table;
pub(crate) mod usage;

/// A process whose CPU time to show, as the command line names it.
pub(crate) fn named_pid(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("write NAME=PID")?;
    Ok((name.into(), pid.parse().map_err(|_| format!("{pid} is not a process id"))?))
}
