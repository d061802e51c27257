//! Runs a plan against the embedded broker, and writes down what happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{Checkpoint, Client, Error, ErrorKind, MessageQueue, Offset, OutboundMessage, Producer, SeekTo};

use crate::keeping::{Fused, Kept};
use crate::member::{GROUP, Held, Member, TOPIC};
use crate::op::{Contract, Entry, Event, Op, Place, Process, Queue, Sent, Why};
use crate::plan::{How, Keeping, Owning, Plan, Step, Target};
use crate::reading::Item;
use crate::record::Record;
use crate::wire::Wire;

/// How long an item is waited for.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long anything may take at the end, when nothing goes wrong any more. A process that fell silent is a member for two
/// minutes.
const END: Duration = Duration::from_secs(400);
/// Who puts messages into queues.
pub(crate) const HAND: Process = 1_000;
const PRODUCER: Process = 1_001;

/// The results of exactly-once processes: outputs, and the positions that belong to them, in one place. At least once,
/// what was saved for those who begin.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) positions: Checkpoint,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) broker: Arc<Broker>,
    producer: Option<Producer>,
    pub(crate) record: Arc<Record>,
    kept: Vec<Kept>,
    pub(crate) results: Results,
    pub(crate) members: Vec<Option<Member>>,
    /// Of processes that fell silent; what they were connected to does not know it.
    wires: Vec<Wire>,
    processes: Process,
    value: u64,
    dice: fastrand::Rng,
    pub(crate) seen: BTreeMap<(Queue, Place), (u64, u64)>,
    _folder: Folder,
}

/// Gone when the run is over.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The history of a plan.
pub(crate) async fn run(plan: &Plan) -> Vec<Event> {
    let mut world = World::start(plan).await;
    for step in &plan.steps {
        world.record.note(format!("{step:?}"));
        world.step(*step).await;
        world.observe();
    }
    world.end().await
}

impl World {
    async fn start(plan: &Plan) -> Self {
        // Every park of the runtime moves a paused clock to its next timer: so this is how long a hop takes at most, and no
        // deadline passes while bytes are on their way.
        tokio::spawn(async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let broker = Broker::builder().topic(TOPIC, plan.queues).brokers(plan.brokers).start().await.unwrap();
        let record = Arc::new(Record::new(broker.queues(TOPIC)));
        let name = format!("history-{}-{:x}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        if plan.keeping == Keeping::File {
            std::fs::create_dir_all(&folder).unwrap();
        }
        let positions = record.queues.iter().map(|queue| (queue.clone(), Offset::new(0))).collect();
        Self {
            kept: (0..plan.slots).map(|slot| Kept::new(plan.keeping, &folder, slot)).collect(),
            members: (0..plan.slots).map(|_| None).collect(),
            plan: plan.clone(),
            broker: Arc::new(broker),
            producer: None,
            record,
            results: Results { positions },
            wires: Vec::new(),
            processes: 0,
            value: 0,
            dice: fastrand::Rng::with_seed(plan.seed),
            seen: BTreeMap::new(),
            _folder: Folder(folder),
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Append(count) => self.append(count),
            Step::Produce(count) => self.produce(count).await,
            Step::Join(slot) => self.join(slot).await,
            Step::Leave(slot, deadline) => self.leave(slot, Duration::from_millis(deadline)).await,
            Step::Drop(slot) => self.drop_stream(slot).await,
            Step::Crash { slot, silent } => self.crash(slot, silent).await,
            Step::Poll(slot, count) => _ = self.poll(slot, count).await,
            Step::Complete(slot, number, how) => self.complete(slot, number, how),
            Step::CompleteAll(slot, order) => self.complete_all(slot, order),
            Step::Forget(slot, number) => self.forget(slot, number),
            Step::Flush(slot) => self.flush(slot).await,
            Step::Commit(slot) => self.commit(slot).await,
            Step::Seek(slot, queue, target) => self.seek(slot, queue, target).await,
            Step::GiveBack(slot, number) => self.give_back(slot, number),
            Step::RollBack(slot) => self.roll_back(slot).await,
            Step::Cut(slot) => {
                self.record.put(Op::Trouble { over: false });
                self.members[slot].iter().for_each(|member| member.wire.cut());
            }
            Step::Fault(asked, wrong, times) => self.fault(asked, wrong, times),
            Step::StopBroker(broker) => {
                self.record.put(Op::Trouble { over: false });
                self.broker.stop_broker(broker);
            }
            Step::StartBrokers => (0..self.plan.brokers).for_each(|broker| self.broker.start_broker(broker)),
            Step::Heal => self.heal(),
            Step::Calm => self.calm().await,
            Step::Reset(queue, target) => self.reset(queue, target),
            Step::ForgetCommits(queue, back) => self.forget_commits(queue, back),
            Step::Save(slot) => self.save(slot),
            Step::Pause(slot, queue) => self.pause(slot, queue, true),
            Step::Resume(slot, queue) => self.pause(slot, queue, false),
            Step::Glance(slot, polls) => self.glance(slot, polls).await,
            Step::Finish(slot) => self.finish(slot).await,
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)).await,
        }
    }

    fn message(&mut self) -> (u64, OutboundMessage) {
        self.value += 1;
        let tag = if self.value.is_multiple_of(3) { "other" } else { "wanted" };
        (self.value, OutboundMessage::new(TOPIC, self.value.to_string()).tag(tag))
    }

    fn append(&mut self, count: usize) {
        for _ in 0..count {
            let (value, message) = self.message();
            let queue = self.dice.usize(..self.record.queues.len());
            let offset = self.broker.append(&self.record.queues[queue], message).unwrap().get();
            self.record.put(Op::Send { by: HAND, value, sent: Sent::Stored { queue, offset } });
        }
    }

    async fn produce(&mut self, count: usize) {
        if self.producer.is_none() {
            let client = Client::builder().access_point(self.broker.access_point()).build().unwrap();
            self.producer = client.producer().build().await.ok();
        }
        for _ in 0..count {
            let (value, message) = self.message();
            let Some(producer) = &self.producer else { return };
            let sent = match producer.send(message).await {
                Ok(receipt) => {
                    let offset = receipt.offset().get();
                    Sent::Stored { queue: self.queue_of(value, offset), offset }
                }
                Err(_) => Sent::Unknown,
            };
            self.record.put(Op::Send { by: PRODUCER, value, sent });
        }
    }

    /// Receipts do not name their queue over gRPC. When the message is nowhere, any queue shows it.
    fn queue_of(&self, value: u64, offset: u64) -> Queue {
        let stored = self.broker.messages(TOPIC);
        let found = stored.iter().find(|one| one.offset == offset && *one.body == *value.to_string().as_bytes());
        let is_there =
            |name: &MessageQueue| found.is_some_and(|one| one.broker == name.broker() && one.queue == name.id());
        self.record.queues.iter().position(is_there).unwrap_or_default()
    }

    async fn join(&mut self, slot: usize) {
        if self.members[slot].is_some() {
            return;
        }
        let process = self.processes;
        self.processes += 1;
        let Some(store) = self.open(slot).await else {
            return self.record.note(format!("p{process} cannot join: the one before still saves"));
        };
        let kept = (store, &self.results.positions);
        match Member::join((process, slot), &self.plan, &self.broker, kept, &self.record).await {
            Ok(member) => {
                self.record.note(format!("p{process} has joined, in slot {slot}"));
                self.members[slot] = Some(member);
            }
            // A topic all whose brokers are away is in no route.
            Err(error) if error.kind().is_transient() || error.kind() == ErrorKind::NotFound => {
                self.record.note(format!("p{process} cannot join: {error}"))
            }
            Err(error) => self.record.put(Op::Fail { by: process, error: error.to_string() }),
        }
    }

    /// The store of a slot, as soon as the one before has let go of it. `None`: not for a minute.
    async fn open(&self, slot: usize) -> Option<Option<Fused>> {
        for _ in 0..600 {
            if let Ok(store) = self.kept[slot].open() {
                return Some(store);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    }

    pub(crate) async fn leave(&mut self, slot: usize, deadline: Duration) {
        let Some(member) = self.members[slot].take() else { return };
        self.say_goodbye(member, deadline).await;
    }

    async fn say_goodbye(&mut self, member: Member, deadline: Duration) {
        let process = member.process;
        self.record.put(Op::Leaving { by: process });
        let report = member.control.shutdown(deadline).await;
        self.record.note(format!("p{process}: {report:?}"));
        let mut member = member;
        // In this order, so that nothing that is held counts as forgotten.
        member.reading = None;
        member.held.clear();
        // What was on its way when the deadline was over arrives.
        tokio::time::sleep(Duration::from_millis(200)).await;
        member.listener.catch_up();
        member.hears.abort();
        self.observe();
        self.record.put(Op::Leave { by: process });
        if report.complete {
            self.durable(process, member.slot, &member.completed());
        }
    }

    /// Its completions go on: half of what it holds is completed, the rest is forgotten.
    async fn drop_stream(&mut self, slot: usize) {
        // Streams of single queues give theirs back.
        (0..self.record.queues.len()).for_each(|_| self.give_back(slot, 0));
        let Some(mut member) = self.members[slot].take() else { return };
        member.reading = None;
        let half = member.held.len() / 2;
        if self.plan.contract == Contract::AtLeastOnce {
            for held in member.held.drain(half..).collect::<Vec<_>>() {
                member.complete(held);
            }
        }
        member.held.clear();
        // Until it has given up its queues and saved what was completed.
        self.wait(Duration::from_millis(self.plan.drain_ms) + Duration::from_secs(16)).await;
        member.listener.catch_up();
        member.hears.abort();
        self.observe();
        self.record.put(Op::Leave { by: member.process });
    }

    async fn crash(&mut self, slot: usize, silent: bool) {
        let Some(mut member) = self.members[slot].take() else { return };
        member.wire.crash(silent);
        member.hears.abort();
        if let Some(store) = &member.store {
            store.blow().await;
        }
        self.record.put(Op::Crash { by: member.process });
        self.observe();
        member.reading = None;
        self.wires.push(member.wire);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// How many items came.
    pub(crate) async fn poll(&mut self, slot: usize, count: usize) -> usize {
        for polls in 0..count {
            let Some(member) = &mut self.members[slot] else { return polls };
            let Some(polled) = member.poll(PATIENCE).await else { return polls };
            self.took(slot, polled).await;
        }
        count
    }

    /// A stream was polled: the end, with its reason, is an error.
    pub(crate) async fn took(&mut self, slot: usize, polled: Result<Option<Item>, Error>) {
        let item = match polled {
            Ok(Some(item)) => item,
            Ok(None) => return self.ended(slot, None).await,
            Err(error) => return self.ended(slot, Some(error)).await,
        };
        let record = Arc::clone(&self.record);
        // At most once, the position is looked at before it is written down what came.
        let place = self.place(slot);
        for queue in item.parts.iter().map(|part| record.index(&part.queue)) {
            let next = self.position(queue, place);
            record.put(Op::Observe { queue, next, place });
            self.seen.insert((queue, place), (next, record.now()));
        }
        let Some(member) = &mut self.members[slot] else { return };
        member.write_down(&item);
        match self.plan.contract {
            Contract::AtMostOnce => item.completion.complete(),
            _ => member.hold(item),
        }
    }

    /// A stream has ended by itself.
    async fn ended(&mut self, slot: usize, error: Option<Error>) {
        let Some(member) = self.members[slot].take() else { return };
        match error {
            Some(error) if member.forgot && error.kind() == ErrorKind::Precondition => {
                self.record.note(format!("p{}: {error}", member.process));
            }
            // At most once nothing is handed out whose position could not be saved.
            Some(error) if self.plan.contract == Contract::AtMostOnce && error.kind().is_transient() => {
                self.record.note(format!("p{}: {error}", member.process));
            }
            error => {
                let error = error.map_or_else(|| "the stream has ended".into(), |error| format!("{error:?}"));
                self.record.put(Op::Fail { by: member.process, error });
            }
        }
        self.say_goodbye(member, Duration::from_secs(1)).await;
    }

    fn complete(&mut self, slot: usize, number: usize, how: How) {
        if self.plan.contract == Contract::ExactlyOnce {
            return self.apply(slot, number % 4);
        }
        let Some(member) = &mut self.members[slot] else { return };
        let Some(at) = number.checked_rem(member.held.len()) else { return };
        let mut held = member.held.swap_remove(at);
        match how {
            How::Split(count) if held.completions.len() == 1 && count > 0 => {
                let whole = held.completions.remove(0);
                held.completions = whole.split(count).collect();
                held.completions.pop().unwrap().complete();
                if held.completions.is_empty() {
                    // Its only share was completed just now; there was no await in between.
                    return member.complete(held);
                }
                member.held.push(held);
            }
            How::Merged if !member.held.is_empty() => {
                let other = member.held.swap_remove(number % member.held.len());
                held.covers.extend(other.covers);
                let merged = held.completions.drain(..).chain(other.completions).collect();
                member.complete(Held { completions: vec![merged], ..held });
            }
            _ => member.complete(held),
        }
    }

    pub(crate) fn complete_all(&mut self, slot: usize, order: u64) {
        if self.plan.contract == Contract::ExactlyOnce {
            return self.apply(slot, usize::MAX);
        }
        let Some(member) = &mut self.members[slot] else { return };
        let mut held = std::mem::take(&mut member.held);
        fastrand::Rng::with_seed(order).shuffle(&mut held);
        held.into_iter().for_each(|held| member.complete(held));
    }

    /// Writes the results of what was handed out first, and the positions behind it, in one transaction.
    fn apply(&mut self, slot: usize, count: usize) {
        let Some(member) = &mut self.members[slot] else { return };
        for held in member.held.drain(..count.min(member.held.len())).collect::<Vec<_>>() {
            for (queue, _, range) in &held.covers {
                self.results.positions.set(self.record.queues[*queue].clone(), Offset::new(range.end));
            }
            for (queue, offset) in held.offsets.clone() {
                self.record.put(Op::Output { by: member.process, queue, offset });
            }
            member.complete(held);
        }
    }

    fn forget(&mut self, slot: usize, number: usize) {
        let Some(member) = &mut self.members[slot] else { return };
        let Some(at) = number.checked_rem(member.held.len()) else { return };
        let held = member.held.swap_remove(at);
        self.record.note(format!("p{} forgets {:?}", member.process, held.covers));
        member.forgot = true;
    }

    pub(crate) async fn flush(&mut self, slot: usize) {
        let Some(member) = &self.members[slot] else { return };
        let completed = member.completed();
        let flushed = member.control.flush().await;
        let (process, is_manual) = (member.process, self.plan.contract != Contract::AtLeastOnce);
        self.observe();
        match flushed {
            Ok(()) if is_manual => {}
            Ok(()) => self.durable(process, slot, &completed),
            Err(error) => self.record.note(format!("p{process} cannot flush: {error}")),
        }
    }

    /// Everything that it has handed out counts as processed and is committed; exactly once, what was written.
    async fn commit(&mut self, slot: usize) {
        let Some(member) = &mut self.members[slot] else { return };
        let mut checkpoint = member.control.checkpoint();
        if self.plan.contract == Contract::ExactlyOnce {
            let positions = &self.results.positions;
            checkpoint =
                checkpoint.iter().filter_map(|(queue, _)| Some((queue.clone(), positions.get(queue)?))).collect();
        }
        let next = checkpoint.iter().map(|(queue, next)| (self.record.index(queue), next.get())).collect();
        let committed = member.control.commit(&checkpoint).await;
        let process = member.process;
        self.observe();
        match committed {
            Ok(()) => self.durable(process, slot, &next),
            Err(error) => self.record.note(format!("p{process} cannot commit: {error}")),
        }
    }

    pub(crate) fn durable(&self, by: Process, slot: usize, completed: &BTreeMap<Queue, u64>) {
        let place = self.place(slot);
        // Nothing was saved of a queue of which nothing was ever completed.
        for (&queue, &next) in completed.iter().filter(|(_, next)| **next > 0) {
            self.record.put(Op::Durable { by, queue, next, place });
        }
    }

    async fn seek(&mut self, slot: usize, number: usize, target: Target) {
        let Some(member) = &self.members[slot] else { return };
        let position = member.control.checkpoint();
        let Some(at) = number.checked_rem(position.len()) else { return };
        let Some((queue, low_mark)) = position.iter().nth(at) else { return };
        let end = self.broker.offsets(queue).unwrap().end.get();
        let to = match target {
            Target::Beginning => SeekTo::Beginning,
            Target::End => SeekTo::End,
            Target::Back(count) => SeekTo::Offset(Offset::new(low_mark.get().saturating_sub(count))),
            Target::Forth(count) => SeekTo::Offset(Offset::new((low_mark.get() + count).min(end))),
        };
        let sought = member.control.seek(queue, to).await;
        self.sought(slot, queue, sought);
    }

    fn sought(&self, slot: usize, queue: &MessageQueue, sought: Result<(), Error>) {
        let Some(member) = &self.members[slot] else { return };
        member.listener.catch_up();
        match (sought, member.control.checkpoint().get(queue)) {
            (Ok(()), Some(at)) => member.listener.begin(self.record.index(queue), at.get(), Why::Sought),
            (Ok(()), None) => self.record.note(format!("p{} has lost {queue} at once", member.process)),
            (Err(error), _) => self.record.note(format!("p{} cannot seek: {error}", member.process)),
        }
    }

    fn give_back(&mut self, slot: usize, number: usize) {
        let Some(member) = &mut self.members[slot] else { return };
        member.listener.catch_up();
        let Some(queue) = member.reading.as_mut().and_then(|reading| reading.give_back(number)) else { return };
        let index = self.record.index(&queue);
        // What it lets go of begins nowhere anew, also when what is open may still be completed.
        if let Some(at) = member.control.checkpoint().get(&queue).filter(|_| !member.listener.is_lost(index)) {
            member.listener.begin(index, at.get(), Why::GivenBack);
            if self.plan.contract == Contract::ExactlyOnce {
                // It comes again: what was not written is thrown away.
                member.held.retain(|held| held.covers.iter().all(|(queue, ..)| *queue != index));
            }
        }
    }

    async fn roll_back(&mut self, slot: usize) {
        let Some(member) = &self.members[slot] else { return };
        for (queue, _) in member.control.checkpoint().iter() {
            let written = self.results.positions.get(queue).unwrap();
            let sought = member.control.seek(queue, SeekTo::Offset(written)).await;
            self.sought(slot, queue, sought);
        }
        self.members[slot].as_mut().unwrap().held.clear();
    }

    pub(crate) async fn wait(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(500))).await;
            self.observe();
        }
    }

    /// Where what is told to be durable is.
    fn place(&self, slot: usize) -> Place {
        match self.kept[slot] {
            Kept::Nothing => Place::Broker,
            Kept::Memory(_) | Kept::File(_) => Place::Store(slot),
        }
    }

    pub(crate) fn position(&self, queue: Queue, place: Place) -> u64 {
        let name = &self.record.queues[queue];
        let saved = match place {
            Place::Broker => self.broker.committed(GROUP, name),
            Place::Store(slot) => {
                let store = self.members[slot].as_ref().and_then(|member| member.store.clone());
                match store.map_or_else(|| self.kept[slot].open(), |store| Ok(Some(store))) {
                    Ok(store) => store.and_then(|store| store.saved(GROUP).get(name)),
                    // It is looked at again when the one before has let go of it.
                    Err(_) => return self.seen.get(&(queue, place)).map_or(0, |(next, _)| *next),
                }
            }
        };
        saved.map_or(0, Offset::get)
    }

    /// Looks at every position; writes down those that have changed, and all of them once in a while.
    pub(crate) fn observe(&mut self) {
        let places = (0..self.plan.slots).map(|slot| self.place(slot)).chain([Place::Broker]);
        let places: std::collections::BTreeSet<Place> = places.collect();
        let now = self.record.now();
        for queue in 0..self.record.queues.len() {
            for &place in &places {
                let next = self.position(queue, place);
                let before = self.seen.insert((queue, place), (next, now));
                match before {
                    Some((same, at)) if same == next && now < at + 2_000 => {
                        self.seen.insert((queue, place), (next, at));
                    }
                    None if next == 0 => {}
                    _ => self.record.put(Op::Observe { queue, next, place }),
                }
            }
        }
    }

    /// Everything heals; who runs leaves; fresh processes read to the end.
    async fn end(mut self) -> Vec<Event> {
        self.heal();
        self.record.note("the end begins");
        self.wait(Duration::from_secs(3)).await;
        for slot in 0..self.plan.slots {
            self.leave(slot, Duration::from_secs(8)).await;
        }
        let readers = if self.plan.owning == Owning::Group { 1 } else { self.plan.slots };
        for slot in 0..readers {
            self.join(slot).await;
        }
        if tokio::time::timeout(END, self.read_all()).await.is_err() {
            let what = format!("not read to the end within {END:?}: {:?}", self.ends());
            self.record.put(Op::Stuck { what });
        }
        self.settle().await;
        for (queue, name) in self.record.queues.iter().enumerate() {
            let stored = self.broker.messages(TOPIC);
            let stored = stored.into_iter().filter(|one| one.broker == name.broker() && one.queue == name.id());
            let entries = stored.map(|one| Entry {
                offset: one.offset,
                value: std::str::from_utf8(&one.body).unwrap().parse().unwrap(),
                wanted: !self.plan.is_filtered || one.tag.as_deref() == Some("wanted"),
            });
            self.record.put(Op::Log { queue, entries: entries.collect() });
        }
        let history = self.record.take();
        if let Some(broker) = Arc::into_inner(self.broker) {
            broker.shutdown().await;
        }
        history
    }

    /// For each queue where its reader is and where it ends.
    fn ends(&self) -> BTreeMap<String, (Option<u64>, u64)> {
        let mut ends = BTreeMap::new();
        for queue in &self.record.queues {
            let end = self.broker.offsets(queue).unwrap().end.get();
            let readers = self.members.iter().flatten();
            let at = readers.filter_map(|member| member.control.checkpoint().get(queue)).max();
            ends.insert(queue.to_string(), (at.map(Offset::get), end));
        }
        ends
    }

    async fn read_all(&mut self) {
        while !self.ends().values().all(|(at, end)| *at == Some(*end)) {
            for slot in 0..self.plan.slots {
                self.poll(slot, 8).await;
                self.complete_all(slot, 0);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // At most once everything is completed before it has come.
        for slot in 0..self.plan.slots {
            self.poll(slot, usize::MAX).await;
            self.complete_all(slot, 0);
        }
    }

    /// Saved, and left in peace; all positions lie at the ends.
    async fn settle(&mut self) {
        for slot in 0..self.plan.slots {
            self.flush(slot).await;
            self.commit(slot).await;
            let Some(member) = self.members[slot].take() else { continue };
            let process = member.process;
            let report = member.control.shutdown(Duration::from_secs(10)).await;
            if !report.complete {
                self.record.put(Op::Stuck { what: format!("p{process}: {report:?}") });
            }
        }
        self.observe();
        // Exactly once the brokers are told what was written, and nothing of what the filter does not want.
        let is_told = self.plan.keeping != Keeping::MemoryAlone && self.plan.contract != Contract::ExactlyOnce;
        for queue in (0..self.record.queues.len()).filter(|_| is_told) {
            let end = self.broker.offsets(&self.record.queues[queue]).unwrap().end.get();
            let committed = self.position(queue, Place::Broker);
            if committed != end {
                let what = format!("q{queue} ends at {end}, and {committed} is committed");
                self.record.put(Op::Stuck { what });
            }
        }
    }
}
