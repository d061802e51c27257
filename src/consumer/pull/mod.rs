//! PullConsumer: by offset, in batches, with checkpoints.

mod planner;

#[cfg(test)]
mod tests;
