//! A schedule out of a seed. Pure.

use std::fmt;

use crate::op::Contract;

/// The way to the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Remoting,
    Grpc,
}

/// Who reads which queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owning {
    /// They share the queues out among them.
    Group,
    /// Each has its number.
    Share,
}

/// What the stream is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Batches,
    Messages,
    /// So many messages at most, also of several queues.
    Gathered(usize),
    Queues,
}

/// Where positions are kept. A store belongs to a slot, and outlives its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    Broker,
    Memory,
    /// The brokers are told nothing.
    MemoryAlone,
    File,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    LoseReply,
    /// Acted on after so many milliseconds.
    Delay(u64),
    /// Answered after so many milliseconds.
    DelayReply(u64),
    Disconnect,
    Busy,
    Twice,
}

/// Which request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Pull,
    Commit,
    Committed,
    Bounds,
    Route,
    Members,
    Heartbeat,
    Send,
}

/// How something that is held is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Whole,
    /// One share of so many.
    Split(usize),
    /// Together with another one.
    Merged,
}

/// Where a queue is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Beginning,
    End,
    Back(u64),
    Forth(u64),
}

/// One step. Numbers that choose among what there is are taken modulo how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Messages appear in queues.
    Append(usize),
    /// A producer sends, one message after the other.
    Produce(usize),
    Join(usize),
    /// Leaves with a goodbye, within so many milliseconds.
    Leave(usize, u64),
    /// The stream is dropped; its completions live on.
    Drop(usize),
    /// No goodbye, nothing more is saved. `silent`: its connections stay, as when a machine loses its power.
    Crash {
        slot: usize,
        silent: bool,
    },
    Poll(usize, usize),
    Complete(usize, usize, How),
    /// Everything that is held, in a random order.
    CompleteAll(usize, u64),
    /// A completion is dropped.
    Forget(usize, usize),
    Flush(usize),
    /// A checkpoint is committed.
    Commit(usize),
    Seek(usize, usize, Target),
    /// A stream of one queue is dropped.
    GiveBack(usize, usize),
    /// What was not written is thrown away, and read again (exactly once).
    RollBack(usize),
    Cut(usize),
    Fault(Asked, Wrong, u64),
    /// Nothing goes wrong any more with what is asked.
    Heal,
    /// Nothing goes wrong for a while: then everything is read, and everything can be saved.
    Calm,
    /// An administrator resets a queue.
    Reset(usize, Target),
    /// The brokers forget what was committed for a queue: so much of it, or all.
    ForgetCommits(usize, Option<u64>),
    /// What the process has completed is what others begin from.
    Save(usize),
    Pause(usize, usize),
    Resume(usize, usize),
    /// A stream is polled a few times, and its future is dropped.
    Glance(usize, usize),
    /// Reads what there is, completes it, saves it, and leaves.
    Finish(usize),
    StopBroker(usize),
    StartBrokers,
    Wait(u64),
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) contract: Contract,
    pub(crate) way: Way,
    pub(crate) owning: Owning,
    pub(crate) form: Form,
    pub(crate) keeping: Keeping,
    pub(crate) brokers: usize,
    /// On each broker.
    pub(crate) queues: u32,
    /// How many processes can run at once.
    pub(crate) slots: usize,
    /// Whether a third of the messages is not wanted.
    pub(crate) is_filtered: bool,
    pub(crate) drain_ms: u64,
    pub(crate) interval_ms: u64,
    pub(crate) max_messages: u32,
    pub(crate) buffered: usize,
    pub(crate) max_open: u64,
    /// Whether processes begin from what one before has saved.
    pub(crate) restores: bool,
    pub(crate) steps: Vec<Step>,
}

/// A seed belongs to one contract, so that each has a test of its own.
pub(crate) const fn contract_of(seed: u64) -> Contract {
    match seed % 10 {
        0..=5 => Contract::AtLeastOnce,
        6 | 7 => Contract::AtMostOnce,
        _ => Contract::ExactlyOnce,
    }
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let contract = contract_of(seed);
        let owning = if contract == Contract::ExactlyOnce || dice.u8(..4) == 0 { Owning::Share } else { Owning::Group };
        let way = if owning == Owning::Share && dice.bool() { Way::Grpc } else { Way::Remoting };
        let form = [Form::Batches, Form::Batches, Form::Messages, Form::Queues][dice.usize(..4)];
        // At most once, more is lost in a crash the more was gathered.
        let is_gathered = form == Form::Messages && contract != Contract::AtMostOnce && (seed / 10).is_multiple_of(2);
        let form = if is_gathered { Form::Gathered([2, 7, 32][seed as usize / 20 % 3]) } else { form };
        let keeping = match (contract, dice.u8(..16)) {
            (Contract::ExactlyOnce, _) | (_, 0..=8) => Keeping::Broker,
            // A store of its own comes before the broker at a start, also when others have read further since.
            (Contract::AtMostOnce, _) if owning == Owning::Group => Keeping::Broker,
            (_, 9) => Keeping::File,
            (_, 10..=11) if owning == Owning::Share => Keeping::MemoryAlone,
            _ => Keeping::Memory,
        };
        let mut plan = Self {
            seed,
            contract,
            way,
            owning,
            form,
            keeping,
            brokers: dice.usize(1..=2),
            queues: dice.u32(1..=3),
            slots: if owning == Owning::Group { dice.usize(2..=3) } else { dice.usize(1..=2) },
            is_filtered: dice.u8(..4) == 0,
            drain_ms: [0, 500, 2_000, 5_000][dice.usize(..4)],
            interval_ms: [200, 1_000, 5_000, 60_000][dice.usize(..4)],
            max_messages: [1, 3, 8, 32][dice.usize(..4)],
            buffered: [4, 64, 1024][dice.usize(..3)],
            max_open: [2, 12, 100_000, 100_000][dice.usize(..4)],
            restores: contract == Contract::AtLeastOnce && dice.u8(..4) == 0,
            steps: Vec::new(),
        };
        plan.steps = vec![Step::Append(dice.usize(4..40))];
        plan.steps.extend((0..dice.usize(1..=plan.slots)).map(Step::Join));
        let count = dice.usize(15..50);
        while plan.steps.len() < count {
            if dice.u8(..8) == 0 {
                let steps = plan.scene(&mut dice);
                plan.steps.extend(steps);
            } else {
                let step = plan.step(&mut dice);
                plan.steps.extend(step);
            }
        }
        plan
    }

    /// Whether processes are told to begin at a checkpoint.
    pub(crate) fn is_restored(&self) -> bool {
        self.restores || self.contract == Contract::ExactlyOnce
    }

    /// Steps that belong together, so that what they are about comes to pass.
    fn scene(&self, dice: &mut fastrand::Rng) -> Vec<Step> {
        let (slot, other, queue) = (dice.usize(..self.slots), dice.usize(..self.slots), dice.usize(..6));
        let (is_alo, is_exact) = (self.contract == Contract::AtLeastOnce, self.contract == Contract::ExactlyOnce);
        let fails = |times| Step::Fault(Asked::Commit, Wrong::Busy, times);
        match dice.u8(..12) {
            0 if is_alo => vec![Step::Reset(queue, target(dice))],
            1 if is_alo => {
                vec![Step::Reset(queue, target(dice)), Step::Append(dice.usize(1..8)), Step::Poll(slot, 6)]
            }
            2 if self.contract != Contract::AtMostOnce => {
                vec![Step::ForgetCommits(queue, (dice.u8(..3) > 0).then(|| dice.u64(1..6))), Step::Calm]
            }
            3 if self.restores => vec![Step::Save(slot)],
            4 => vec![Step::Calm],
            // Longer than a queue is given up.
            5 => vec![fails(1_000), Step::Wait(dice.u64(5_000..25_000)), Step::Heal],
            6 if self.slots > 1 => vec![
                Step::Poll(slot, 4),
                fails(1_000),
                Step::Complete(slot, dice.usize(..8), How::Whole),
                Step::Join(other),
                Step::Wait(16_000),
                Step::Heal,
                Step::Poll(other, 4),
                Step::CompleteAll(other, 0),
                Step::Wait(12_000),
            ],
            7 => vec![Step::Pause(slot, queue), Step::Poll(slot, 3), Step::Resume(slot, queue)],
            8 => vec![if dice.bool() { Step::Pause(slot, queue) } else { Step::Resume(slot, queue) }],
            9 if !is_exact => vec![
                Step::Append(dice.usize(4..16)),
                Step::Fault(Asked::Commit, Wrong::DelayReply(500), 4),
                Step::Glance(slot, dice.usize(1..30)),
                Step::Seek(slot, queue, target(dice)),
                Step::Poll(slot, 3),
            ],
            10 => vec![Step::Finish(slot)],
            11 if is_alo => vec![
                Step::Poll(slot, 2),
                Step::Complete(slot, dice.usize(..8), How::Split(dice.usize(2..4))),
                Step::Flush(slot),
            ],
            _ => vec![
                Step::Append(dice.usize(8..24)),
                Step::Poll(slot, 1),
                Step::Join(other),
                Step::Wait(dice.u64(50..2_000)),
                Step::Poll(slot, dice.usize(1..6)),
            ],
        }
    }

    /// The next step; none when it does not fit the rest.
    fn step(&self, dice: &mut fastrand::Rng) -> Option<Step> {
        let slot = dice.usize(..self.slots);
        let is_alo = self.contract == Contract::AtLeastOnce;
        let step = match dice.u8(..100) {
            0..=29 => Step::Poll(slot, dice.usize(1..6)),
            30..=44 => Step::Complete(slot, dice.usize(..64), how(dice)),
            45..=49 => Step::CompleteAll(slot, dice.u64(..)),
            50..=57 => Step::Append(dice.usize(1..24)),
            58..=59 => Step::Produce(dice.usize(1..8)),
            60..=67 => Step::Join(slot),
            68..=71 => Step::Leave(slot, [0, 1_000, 8_000][dice.usize(..3)]),
            72..=73 => Step::Drop(slot),
            74..=78 => Step::Crash { slot, silent: dice.u8(..4) == 0 },
            79..=80 => Step::Flush(slot),
            81 => Step::Commit(slot),
            82..=83 if self.contract != Contract::ExactlyOnce => Step::Seek(slot, dice.usize(..6), target(dice)),
            82..=83 => Step::RollBack(slot),
            84 if self.form == Form::Queues => Step::GiveBack(slot, dice.usize(..6)),
            84 if is_alo => Step::Forget(slot, dice.usize(..64)),
            85 => Step::Cut(slot),
            86..=89 => fault(dice),
            // A store of one's own comes before the broker when a queue begins late because its broker was away, and may be
            // behind another member's commits: that is so by design.
            90 if (self.keeping == Keeping::Broker && !self.restores) || self.owning == Owning::Share => {
                Step::StopBroker(dice.usize(..self.brokers))
            }
            91..=92 => Step::StartBrokers,
            93..=97 => Step::Wait(dice.u64(100..4_000)),
            98 => Step::Wait(dice.u64(10_000..40_000)),
            99 if dice.bool() => Step::Wait(130_000),
            _ => return None,
        };
        Some(step)
    }
}

fn how(dice: &mut fastrand::Rng) -> How {
    match dice.u8(..6) {
        0 => How::Split(dice.usize(1..4)),
        1 => How::Merged,
        _ => How::Whole,
    }
}

fn target(dice: &mut fastrand::Rng) -> Target {
    match dice.u8(..6) {
        0 => Target::Beginning,
        1 => Target::End,
        2 => Target::Forth(dice.u64(1..6)),
        _ => Target::Back(dice.u64(1..12)),
    }
}

fn fault(dice: &mut fastrand::Rng) -> Step {
    use Asked::{Bounds, Commit, Committed, Heartbeat, Members, Pull, Route, Send};
    let asked =
        [Pull, Pull, Commit, Commit, Commit, Committed, Bounds, Route, Members, Heartbeat, Send][dice.usize(..11)];
    let wrong = match dice.u8(..6) {
        0 => Wrong::LoseReply,
        // A commit that is acted on late may arrive after its sender has crashed, and RocketMQ takes it.
        1 if asked != Commit => Wrong::Delay(dice.u64(100..2_000)),
        1 | 2 => Wrong::DelayReply(dice.u64(100..2_000)),
        3 => Wrong::Disconnect,
        4 if asked == Commit => Wrong::Twice,
        _ => Wrong::Busy,
    };
    Step::Fault(asked, wrong, dice.u64(1..6))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, contract, way, owning, form, keeping, brokers, queues, slots, .. } = self;
        writeln!(f, "seed {seed}: {contract:?} over {way:?}, {owning:?} of {slots}, {form:?}, kept: {keeping:?}")?;
        write!(
            f,
            "{brokers} brokers x {queues} queues, drain {} ms, interval {} ms, ",
            self.drain_ms, self.interval_ms
        )?;
        writeln!(f, "pulls of {}, buffer {}, filtered: {}", self.max_messages, self.buffered, self.is_filtered)?;
        writeln!(f, "open at most {}, begins where one before was: {}", self.max_open, self.restores)?;
        write!(f, "steps: {:?}", self.steps)
    }
}
