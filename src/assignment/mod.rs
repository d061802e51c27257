//! Which queues are mine: shared out within a group, chosen by hand, or by the number of a task.

mod chosen;
mod directory;
mod guard;
mod holding;
mod round;
mod share;
mod strategy;
mod topics;
mod watch;

pub(crate) use chosen::{check_list, check_queues};
pub(crate) use directory::SessionDirectory;
pub(crate) use guard::Candidate;
pub use holding::Assignment;
pub(crate) use round::Standing;
pub(crate) use share::Share;
pub use strategy::{AssignmentStrategy, Average, Circle, ConsistentHash};
pub(crate) use topics::{Matching, Topics};
pub(crate) use watch::{Directory, Held, Rule, Watch};
