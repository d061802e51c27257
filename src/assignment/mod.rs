//! Which queues are mine: shared out within a group, chosen by hand, or by the number of a task.

mod chosen;
mod guard;
mod holding;
mod round;
mod share;
mod strategy;
mod watch;

pub use holding::Assignment;
pub use strategy::{AssignmentStrategy, Average, Circle, ConsistentHash};
