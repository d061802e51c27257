//! Which queues are mine: shared out within a group, chosen by hand, or by the number of a task.

mod chosen;
mod share;
mod strategy;

pub use strategy::{AssignmentStrategy, Average, Circle, ConsistentHash};
