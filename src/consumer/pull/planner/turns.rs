//! Whose turn it is: the lines that queues wait in, to pull and to be handed out.

use std::time::Instant;

use super::budget::Ask;
use super::lane::{Lane, Place, UnderWay};
use super::step::{Fetch, Piece, Step, Ticket};
use super::{Key, Planner};

impl Planner {
    /// After an answer: is the queue at its tail now, has it ended, and may it pull on?
    pub(super) fn rest(&mut self, slot: usize, not_before: Option<Instant>, was_empty: bool) {
        let Some(lane) = self.lanes[slot].as_mut() else { return };
        let is_tail = lane.bounds.1.map_or(was_empty, |end| lane.fetched >= end);
        match (std::mem::replace(&mut lane.is_tail, is_tail), is_tail) {
            (false, true) => self.budget.tail_came(),
            (true, false) => self.budget.tail_went(),
            _ => {}
        }
        if let Some(at) = not_before.filter(|_| lane.place == Place::Out) {
            lane.place = Place::Asleep(at);
            self.asleep.insert((at, (slot, lane.birth)));
        }
        self.settle(slot);
    }

    /// Puts a lane into the line it belongs to, unless it waits already.
    pub(super) fn settle(&mut self, slot: usize) {
        let Some(lane) = self.lanes[slot].as_mut() else { return };
        if lane.has_fetched_all() && lane.buffer.is_empty() && lane.under_way.is_none() && !lane.ended {
            lane.ended = true;
            self.open -= 1;
        }
        if lane.place == Place::Out && lane.wants_pull() {
            lane.place = Place::InLine;
            let line = if lane.is_tail { &mut self.tails } else { &mut self.behind };
            line.push_back((slot, lane.birth));
        }
    }

    pub(super) fn get_ready(&mut self, slot: usize) {
        if let Some(lane) = self.lanes[slot].as_mut()
            && !std::mem::replace(&mut lane.is_ready, true)
        {
            self.ready.push_back((slot, lane.birth));
        }
    }

    fn alive(&mut self, (slot, birth): Key) -> Option<&mut Lane> {
        self.lanes[slot].as_mut().filter(|lane| lane.birth == birth)
    }

    /// What to do at `now`. A [`Step::Fetch`] counts as under way from here on, a [`Step::Yield`] as handed out.
    pub(crate) fn next(&mut self, now: Instant) -> Step {
        if let Some(step) = self.told.pop_front() {
            return step;
        }
        self.wake_up(now);
        if let Some(fetch) = self.next_at_tail(now).or_else(|| self.next_behind(now)) {
            self.is_unsent |= fetch.suspend.is_none(); // a long poll is in no hurry
            return Step::Fetch(fetch);
        }
        if self.is_unsent && self.first_ready().is_some() {
            self.is_unsent = false;
            return Step::SendOff;
        }
        if let Some(piece) = self.next_piece() {
            return Step::Yield(piece);
        }
        if self.is_bounded && self.open == 0 && !self.expects_queues {
            return Step::Ended;
        }
        self.is_unsent = false; // whoever waits lets the others run
        self.asleep.first().map_or(Step::Wait, |(at, _)| Step::SleepUntil(*at))
    }

    pub(super) fn wake_up(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.asleep.first()
            && at <= now
        {
            self.asleep.pop_first();
            if let Some(lane) = self.alive(key) {
                lane.place = Place::Out;
                self.settle(key.0);
            }
        }
    }

    pub(super) fn next_at_tail(&mut self, now: Instant) -> Option<Fetch> {
        while let Some(&key) = self.tails.front() {
            let Some(lane) = self.alive(key).filter(|lane| lane.wants_pull()) else {
                self.leave(key, true);
                continue;
            };
            if !lane.is_tail {
                self.tails.pop_front();
                self.behind.push_back(key);
                continue;
            }
            let ask = self.budget.ask_at_tail()?;
            self.tails.pop_front();
            return self.fetch(key, ask, now);
        }
        None
    }

    pub(super) fn next_behind(&mut self, now: Instant) -> Option<Fetch> {
        while let Some(&key) = self.behind.front() {
            let Some(lane) = self.alive(key).filter(|lane| lane.wants_pull()) else {
                self.leave(key, false);
                continue;
            };
            let (weight, backlog) = (lane.weight, lane.backlog());
            let ask = self.budget.ask_behind(weight, backlog)?;
            self.behind.pop_front();
            return self.fetch(key, ask, now);
        }
        None
    }

    /// Takes the first of a line out of it: it is gone, or wants nothing now.
    fn leave(&mut self, key: Key, from_tails: bool) {
        if from_tails {
            self.tails.pop_front()
        } else {
            self.behind.pop_front()
        };
        if let Some(lane) = self.alive(key) {
            lane.place = Place::Out;
        }
    }

    fn fetch(&mut self, key: Key, ask: Ask, now: Instant) -> Option<Fetch> {
        self.pulls += 1;
        let (number, suspend) = (self.pulls, self.options.suspend);
        let lane = self.alive(key)?;
        lane.place = Place::Out;
        let is_parked = lane.is_tail;
        let offset = lane.fetched;
        let reserved = ask.reserved;
        lane.under_way = Some(UnderWay { number, offset, since: now, reserved, is_parked, is_stray: false });
        let fetch = Fetch {
            ticket: Ticket { slot: key.0, number },
            queue: lane.queue.clone(),
            filter: lane.filter.clone(),
            offset: lane.fetched,
            max_messages: ask.max,
            suspend: is_parked.then_some(suspend),
            replica: lane.replica,
        };
        self.budget.reserve(ask.reserved);
        Some(fetch)
    }

    /// The first in the line that has something. Those who have nothing any more leave it.
    fn first_ready(&mut self) -> Option<Key> {
        while let Some(&key) = self.ready.front() {
            match self.alive(key) {
                Some(lane) if !lane.buffer.is_empty() => return Some(key),
                Some(lane) => lane.is_ready = false,
                None => {}
            }
            self.ready.pop_front();
        }
        None
    }

    /// The queues take turns, piece by piece (trap P15).
    pub(super) fn next_piece(&mut self) -> Option<Piece> {
        let key = self.first_ready()?;
        self.ready.pop_front();
        let lane = self.alive(key)?;
        lane.is_ready = false;
        let (piece, load) = lane.take()?;
        let has_more = !lane.buffer.is_empty();
        self.budget.release(load);
        if has_more {
            self.get_ready(key.0);
        }
        self.settle(key.0);
        Some(piece)
    }
}
