//! Where acks wait for their turn.
//!
//! One lane per (endpoint, topic), because one AckMessage RPC goes to one endpoint and names one topic. An RPC costs far
//! more than an entry in it, so entries gather while an RPC is under way; but the latency of a server must not limit the
//! rate, so full RPCs go out without waiting for the ones before. No timer: a lone ack goes at once.

use std::collections::VecDeque;

use crate::lease::slab::SlotId;
use crate::model::Endpoint;
use crate::transport::Scope;

/// Entries per AckMessage RPC: from here on the RPC's own cost no longer shows beside that of its entries.
pub(super) const BATCH: usize = 64;

/// Full RPCs under way per lane: 16 × 64 entries at a latency of 20 ms carry 51 000 acks/s, more than a proxy serves.
const FULL_IN_FLIGHT: usize = 16;

/// Changes and dead letters under way, all endpoints together.
const SINGLES_IN_FLIGHT: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId(u32);

#[derive(Debug)]
struct Lane {
    endpoint: Endpoint,
    scope: Scope,
    queue: VecDeque<SlotId>,
    in_flight: usize,
    /// Whether it stands in `ready`.
    listed: bool,
}

impl Lane {
    fn is_sendable(&self) -> bool {
        match self.in_flight {
            0 => !self.queue.is_empty(),
            n => n < FULL_IN_FLIGHT && self.queue.len() >= BATCH,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    ready: VecDeque<LaneId>,
}

impl Lanes {
    pub(super) fn lane(&mut self, endpoint: &Endpoint, scope: &Scope) -> LaneId {
        let index = self.lanes.iter().position(|lane| lane.endpoint == *endpoint && lane.scope == *scope);
        LaneId(index.unwrap_or_else(|| {
            let queue = VecDeque::with_capacity(BATCH);
            let lane = Lane { endpoint: endpoint.clone(), scope: scope.clone(), queue, in_flight: 0, listed: false };
            self.lanes.push(lane);
            self.lanes.len() - 1
        }) as u32)
    }

    pub(super) fn push(&mut self, lane: LaneId, id: SlotId) {
        self.lanes[lane.0 as usize].queue.push_back(id);
        self.list(lane);
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next lane that may send, and what waits in it, oldest first. To be followed by [`sent`](Self::sent).
    pub(super) fn next_ready(&mut self) -> Option<(LaneId, &mut VecDeque<SlotId>)> {
        let id = self.ready.pop_front()?;
        let lane = &mut self.lanes[id.0 as usize];
        lane.listed = false;
        Some((id, &mut lane.queue))
    }

    /// `rpcs` have started.
    pub(super) fn sent(&mut self, lane: LaneId, rpcs: usize) {
        self.lanes[lane.0 as usize].in_flight += rpcs;
        self.list(lane);
    }

    /// An RPC has ended.
    pub(super) fn ended(&mut self, lane: LaneId) {
        self.lanes[lane.0 as usize].in_flight -= 1;
        self.list(lane);
    }

    fn list(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0 as usize];
        if !lane.listed && lane.is_sendable() {
            lane.listed = true;
            self.ready.push_back(id);
        }
    }
}

/// Requests for one message each. Renewals and extensions go first: they have a date to keep.
#[derive(Debug, Default)]
pub(super) struct Singles {
    pub(super) changes: VecDeque<SlotId>,
    pub(super) settlements: VecDeque<SlotId>,
    in_flight: usize,
}

impl Singles {
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < SINGLES_IN_FLIGHT
    }

    pub(super) fn sent(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn ended(&mut self) {
        self.in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::slab::Slab;

    fn lanes() -> (Lanes, LaneId, Slab<()>) {
        let mut lanes = Lanes::default();
        let scope = Scope { group: "g".into(), topic: "t".into() };
        let lane = lanes.lane(&Endpoint::new("a", 1), &scope);
        assert_eq!(lanes.lane(&Endpoint::new("a", 1), &scope), lane);
        (lanes, lane, Slab::new())
    }

    fn take(lanes: &mut Lanes) -> usize {
        let (lane, queue) = lanes.next_ready().expect("a lane may send");
        let taken = queue.drain(..queue.len().min(BATCH)).count();
        lanes.sent(lane, 1);
        taken
    }

    #[test]
    fn a_lone_ack_goes_at_once_and_what_comes_meanwhile_goes_together() {
        let (mut lanes, lane, mut ids) = lanes();
        lanes.push(lane, ids.insert(()));
        assert_eq!(take(&mut lanes), 1);
        (0..BATCH - 1).for_each(|_| lanes.push(lane, ids.insert(())));
        assert!(!lanes.has_ready(), "one RPC is under way, and the next is not full");
        lanes.ended(lane);
        assert_eq!(take(&mut lanes), BATCH - 1);
    }

    #[test]
    fn full_batches_do_not_wait_for_the_ones_before_up_to_a_bound() {
        let (mut lanes, lane, mut ids) = lanes();
        (0..BATCH * 20).for_each(|_| lanes.push(lane, ids.insert(())));
        for _ in 0..FULL_IN_FLIGHT {
            assert_eq!(take(&mut lanes), BATCH);
        }
        assert!(!lanes.has_ready());
        lanes.ended(lane);
        assert_eq!(take(&mut lanes), BATCH);
    }
}
