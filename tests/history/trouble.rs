//! What goes wrong, and what is expected when nothing does.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::future::poll_fn;
use futures::prelude::*;
use rocketmq_stream::Offset;
use rocketmq_stream::embedded::Rpc;

use crate::member::GROUP;
use crate::op::{Contract, Op, Place, Queue};
use crate::plan::{Asked, Target, Way, Wrong};
use crate::world::World;

/// Until everybody is connected again, and tries again what has failed.
const CALM: Duration = Duration::from_secs(20);
/// What is read at once when nothing goes wrong.
const ALL: usize = 200;
/// How often nothing may come while a poll waits at the broker.
const POLL_TIMES: usize = 15;

impl World {
    pub(crate) fn fault(&self, asked: Asked, wrong: Wrong, times: u64) {
        let faults = self.broker.faults();
        let fault = match (self.plan.way, asked) {
            (_, Asked::Send) => {
                self.record.put(Op::RepliesLost);
                faults.on(Rpc::SendMessage)
            }
            (Way::Remoting, _) => faults.on_remoting(match asked {
                Asked::Pull => 11,
                Asked::Commit => 15,
                Asked::Committed => 14,
                Asked::Bounds => 30,
                Asked::Route => 105,
                Asked::Members => 38,
                Asked::Heartbeat | Asked::Send => 34,
            }),
            (Way::Grpc, _) => faults.on(match asked {
                Asked::Pull => Rpc::PullMessage,
                Asked::Commit => Rpc::UpdateOffset,
                Asked::Committed => Rpc::GetOffset,
                Asked::Bounds => Rpc::QueryOffset,
                Asked::Route | Asked::Members => Rpc::QueryRoute,
                Asked::Heartbeat | Asked::Send => Rpc::Heartbeat,
            }),
        };
        let fault = fault.times(times);
        let busy = if self.plan.way == Way::Remoting && asked != Asked::Send { 2 } else { 50_001 };
        match wrong {
            Wrong::LoseReply => fault.lose_reply(),
            Wrong::Delay(millis) => fault.delay(Duration::from_millis(millis)),
            Wrong::DelayReply(millis) => fault.delay_reply(Duration::from_millis(millis)),
            Wrong::Disconnect => fault.disconnect(),
            Wrong::Busy => fault.status(busy, "[TIMEOUT_CLEAN_QUEUE] system busy"),
            Wrong::Twice => fault.duplicate(),
        };
        self.record.put(Op::Trouble { over: false });
    }

    pub(crate) fn heal(&self) {
        self.broker.faults().clear();
        (0..self.plan.brokers).for_each(|broker| self.broker.start_broker(broker));
    }

    /// Everybody can do now what he is to do.
    pub(crate) async fn calm(&mut self) {
        self.heal();
        self.wait(CALM).await;
        self.record.put(Op::Trouble { over: true });
        for slot in 0..self.plan.slots {
            self.ask(slot).await;
            self.resume_all(slot);
            self.complete_all(slot, 0);
            // A queue that was full may have to wait for its last poll before it goes on.
            for _ in 0..2 * POLL_TIMES {
                let count = self.poll(slot, ALL).await;
                self.complete_all(slot, 0);
                if count == 0 && self.unread(slot).is_none() {
                    break;
                }
            }
            if let Some(what) = self.unread(slot) {
                self.record.put(Op::Stuck { what });
            }
            if self.plan.contract == Contract::AtLeastOnce {
                self.saves(slot).await;
            }
        }
    }

    /// It looks what the brokers have, and would see that they have forgotten something.
    async fn ask(&self, slot: usize) {
        let Some(member) = &self.members[slot] else { return };
        member.control.lag().refreshed().await;
        for (queue, _) in member.control.checkpoint().iter() {
            self.record.put(Op::Asked { by: member.process, queue: self.record.index(queue) });
        }
    }

    /// A flush comes to its end.
    async fn saves(&mut self, slot: usize) {
        let Some(member) = &self.members[slot] else { return };
        let (process, completed) = (member.process, member.completed());
        let flushed = member.control.flush().await;
        self.observe();
        match flushed {
            Ok(()) => self.durable(process, slot, &completed),
            Err(error) => {
                let what = format!("p{process} cannot save, and nothing is wrong: {error}");
                self.record.put(Op::Stuck { what });
            }
        }
    }

    /// What was not handed out of the queues that a process has.
    fn unread(&self, slot: usize) -> Option<String> {
        let member = self.members[slot].as_ref()?;
        let reading = member.reading.as_ref()?;
        let ends = reading.position();
        let mut ends = ends.iter().map(|(queue, at)| (queue, at, self.broker.offsets(queue).unwrap().end));
        let (queue, at, end) = ends.find(|(_, at, end)| at != end)?;
        let (process, queue) = (member.process, self.record.index(queue));
        Some(format!("p{process} is at {at} of q{queue}, which ends at {end}, and nothing is wrong"))
    }

    pub(crate) fn pause(&self, slot: usize, number: usize, paused: bool) {
        let Some(member) = &self.members[slot] else { return };
        let assigned = member.control.checkpoint();
        let Some(at) = number.checked_rem(assigned.len()) else { return };
        let Some((queue, _)) = assigned.iter().nth(at) else { return };
        let changed = if paused { member.control.pause(queue) } else { member.control.resume(queue) };
        match changed {
            Ok(()) => {
                member.listener.catch_up();
                self.record.put(Op::Paused { by: member.process, queue: self.record.index(queue), paused });
            }
            Err(error) => self.record.note(format!("p{} cannot pause: {error}", member.process)),
        }
    }

    fn resume_all(&self, slot: usize) {
        let count = self.members[slot].as_ref().map_or(0, |member| member.control.checkpoint().len());
        (0..count).for_each(|number| self.pause(slot, number, false));
    }

    pub(crate) fn reset(&mut self, number: usize, target: Target) {
        let queue = number % self.record.queues.len();
        let bounds = self.broker.offsets(&self.record.queues[queue]).unwrap();
        let (first, end) = (bounds.start.get(), bounds.end.get());
        let committed = self.position(queue, Place::Broker);
        let to = match target {
            Target::Beginning => first,
            Target::End => end,
            Target::Back(count) => committed.saturating_sub(count).max(first),
            Target::Forth(count) => (committed + count).min(end),
        };
        self.broker.reset_offset(GROUP, &self.record.queues[queue], Offset::new(to)).unwrap();
        self.record.put(Op::Reset { queue, to });
        if self.plan.way == Way::Grpc {
            // One to where the reader is cannot be told from no reset.
            self.record.put(Op::Trouble { over: false });
        }
    }

    /// So many of what was committed; `None`: that anything was.
    pub(crate) fn forget_commits(&mut self, number: usize, back: Option<u64>) {
        let queue: Queue = number % self.record.queues.len();
        let name = &self.record.queues[queue];
        let committed = self.broker.committed(GROUP, name);
        let kept = committed.zip(back).map(|(committed, back)| Offset::new(committed.get().saturating_sub(back)));
        self.broker.set_committed(GROUP, name, kept).unwrap();
        let next = self.position(queue, Place::Broker);
        self.seen.insert((queue, Place::Broker), (next, self.record.now()));
        self.record.put(Op::Forgets { queue, next });
    }

    /// What it has completed is what others begin from.
    pub(crate) fn save(&mut self, slot: usize) {
        let Some(member) = &self.members[slot] else { return };
        if self.plan.contract == Contract::AtLeastOnce {
            self.results
                .positions
                .extend(member.control.checkpoint().iter().map(|(queue, next)| (queue.clone(), next)));
        }
    }

    pub(crate) async fn glance(&mut self, slot: usize, polls: usize) {
        for _ in 0..polls {
            let Some(reading) = self.members[slot].as_mut().and_then(|member| member.reading.as_mut()) else { return };
            let item = poll_fn(|cx| Poll::Ready(Pin::new(&mut *reading).poll_next(cx))).await;
            if let Poll::Ready(item) = item {
                self.members[slot].as_ref().unwrap().listener.catch_up();
                return self.took(slot, item.transpose()).await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads what there is, completes it, saves it, and leaves.
    pub(crate) async fn finish(&mut self, slot: usize) {
        self.poll(slot, ALL).await;
        self.complete_all(slot, 0);
        self.flush(slot).await;
        self.leave(slot, Duration::from_secs(8)).await;
    }
}
