/// When the consumer saves positions, and so what happens to messages around a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CommitMode {
    /// After messages were completed: none is lost, and those completed since the last save are read again.
    #[default]
    AtLeastOnce,
    /// Before messages are handed out: none is read twice, and those that were handed out but not processed are lost.
    /// Each batch waits for the save of its position. Completing does nothing.
    ///
    /// Within a group that shares its queues out, a position is saved at the broker too, also when there is a store, and a
    /// queue begins at the larger of both. RocketMQ has no hand-over, though: what a queue's old owner is given after the
    /// new one has begun, the new one may be given too. Choose the queues by
    /// [`share`](crate::PullConsumerBuilder::share) or [`assign`](crate::PullConsumerBuilder::assign) where even that must
    /// not be.
    AtMostOnce,
    /// Only when the program says so, with a commit of a checkpoint.
    ///
    /// For exactly-once results: write each batch's results and its position in one transaction of your own store, and
    /// start at the positions found there ([`StartFrom::Checkpoint`](crate::StartFrom::Checkpoint)). After a crash the
    /// results and the position are both there, or both not. Assign the queues yourself, so that no other member of the
    /// group reads them meanwhile.
    Manual,
}
