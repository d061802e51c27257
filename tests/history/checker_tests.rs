//! For each anomaly a history that shows it and nothing else, and histories that show none.

use super::*;

/// A history of one queue, q0, which holds `count` messages: the value of an offset is 100 + the offset.
struct Story {
    contract: Contract,
    events: Vec<Event>,
    now: u64,
}

fn story(contract: Contract, count: u64) -> Story {
    let entries = (0..count).map(|offset| Entry { offset, value: 100 + offset, wanted: true }).collect();
    Story { contract, events: Vec::new(), now: 0 }.and(Op::Log { queue: 0, entries })
}

const ALO: Contract = Contract::AtLeastOnce;
const AMO: Contract = Contract::AtMostOnce;
const EO: Contract = Contract::ExactlyOnce;
const START: Why = Why::Started { stored: None };

impl Story {
    fn and(mut self, op: Op) -> Self {
        self.now += 10;
        self.events.push(Event { at: self.now, op });
        self
    }

    fn wait(mut self, ms: u64) -> Self {
        self.now += ms;
        self
    }

    fn begins(self, by: Process, at: u64, why: Why) -> Self {
        self.and(Op::Begin { by, queue: 0, at, why })
    }

    fn gets(self, by: Process, range: Range<u64>) -> Self {
        let messages = range.clone().map(|offset| (offset, 100 + offset)).collect();
        self.and(Op::Poll { by, queue: 0, epoch: Some(0), range, messages, gathered: false })
    }

    fn gets_exactly(self, by: Process, range: Range<u64>, messages: &[(u64, u64)]) -> Self {
        self.and(Op::Poll { by, queue: 0, epoch: Some(0), range, messages: messages.to_vec(), gathered: false })
    }

    fn completes(self, by: Process, range: Range<u64>) -> Self {
        self.and(Op::Complete { by, queue: 0, range, late: false })
    }

    fn reads(self, by: Process, range: Range<u64>) -> Self {
        self.gets(by, range.clone()).completes(by, range)
    }

    fn committed(self, next: u64) -> Self {
        self.and(Op::Observe { queue: 0, next, place: Place::Broker })
    }

    fn revoked(self, by: Process, reached: u64) -> Self {
        self.and(Op::Revoked { by, queue: 0, reached, saved: Some(reached) })
    }

    fn sends(self, value: u64, sent: Sent) -> Self {
        self.and(Op::Send { by: 9, value, sent })
    }

    fn writes(self, by: Process, offsets: Range<u64>) -> Self {
        offsets.fold(self, |story, offset| story.and(Op::Output { by, queue: 0, offset }))
    }

    #[track_caller]
    fn shows(self, expected: &[Kind]) {
        let found = anomalies(self.contract, &self.events);
        let kinds: Vec<Kind> = found.iter().map(|anomaly| anomaly.kind).collect();
        assert_eq!(kinds, expected, "{found:#?}");
    }
}

#[test]
fn a_reader_that_completes_what_it_reads_is_clean() {
    let story = story(ALO, 6).begins(1, 0, START).reads(1, 0..2).committed(2).gets(1, 2..4).gets(1, 4..6);
    story.completes(1, 4..6).committed(2).completes(1, 2..4).committed(6).revoked(1, 6).shows(&[]);
}

#[test]
fn what_was_not_committed_is_read_again_after_a_crash() {
    let story = story(ALO, 4).begins(1, 0, START).reads(1, 0..2).committed(2).reads(1, 2..4).and(Op::Crash { by: 1 });
    story.wait(60_000).begins(2, 2, START).reads(2, 2..4).committed(4).shows(&[]);
}

#[test]
fn a_seek_excuses_what_it_skips_and_what_it_repeats() {
    let story = story(ALO, 6).begins(1, 0, START).gets(1, 0..2).begins(1, 4, Why::Sought).committed(4);
    let story = story.reads(1, 4..6).committed(6).wait(60_000).begins(1, 2, Why::Sought).committed(2);
    story.reads(1, 2..6).committed(6).shows(&[]);
}

#[test]
fn two_owners_may_overwrite_each_others_positions_and_read_the_same() {
    let story = story(ALO, 6).begins(1, 0, START).reads(1, 0..2).committed(2).reads(1, 2..4);
    let story = story.begins(2, 2, Why::Gained).committed(4).reads(2, 2..3).committed(3).revoked(1, 4).committed(4);
    story.committed(3).reads(2, 3..6).committed(6).shows(&[]);
}

#[test]
fn messages_that_the_filter_does_not_want_need_nobody() {
    let mut story = story(ALO, 4);
    if let Op::Log { entries, .. } = &mut story.events[0].op {
        entries.iter_mut().filter(|entry| entry.offset % 2 == 1).for_each(|entry| entry.wanted = false);
    }
    let story = story.begins(1, 0, START).gets_exactly(1, 0..4, &[(0, 100), (2, 102)]).completes(1, 0..3);
    story.committed(4).revoked(1, 4).shows(&[]);
}

#[test]
fn a_message_that_the_filter_does_not_want_is_found() {
    let mut story = story(ALO, 2);
    if let Op::Log { entries, .. } = &mut story.events[0].op {
        entries[1].wanted = false;
    }
    story.begins(1, 0, START).reads(1, 0..2).shows(&[Kind::Unfiltered]);
}

#[test]
fn sends_are_checked_against_the_queue() {
    let read = |story: Story| story.begins(1, 0, START).reads(1, 0..2);
    let stored = |offset| Sent::Stored { queue: 0, offset };
    read(story(ALO, 2).sends(100, stored(0)).sends(101, stored(1)).sends(7, Sent::Unknown)).shows(&[]);
    read(story(ALO, 2).sends(7, stored(1))).shows(&[Kind::InconsistentOffset]);
    read(story(ALO, 2).sends(102, stored(2))).shows(&[Kind::LostSend]);
    read(story(ALO, 2).sends(101, stored(1)).sends(100, stored(0))).shows(&[Kind::NonmonotonicSend]);
    read(story(ALO, 2).sends(101, Sent::Refused)).shows(&[Kind::AbortedRead]);
}

#[test]
fn a_value_at_two_offsets_is_found_unless_an_answer_was_lost() {
    let twice = |mut story: Story| {
        if let Op::Log { entries, .. } = &mut story.events[0].op {
            entries[1].value = 100;
        }
        story.begins(1, 0, START).gets_exactly(1, 0..2, &[(0, 100), (1, 100)]).completes(1, 0..2)
    };
    twice(story(ALO, 2)).shows(&[Kind::DuplicateSend]);
    twice(story(ALO, 2).and(Op::RepliesLost)).shows(&[]);
}

#[test]
fn a_poll_is_checked_against_its_range_and_the_queue() {
    let begun = || story(ALO, 3).begins(1, 0, START);
    let done = |story: Story| story.completes(1, 0..3);
    done(begun().gets_exactly(1, 0..3, &[(0, 100), (2, 102)])).shows(&[Kind::IntPollSkip, Kind::Unseen]);
    done(begun().gets_exactly(1, 0..3, &[(0, 100), (1, 101)])).shows(&[Kind::IntPollSkip, Kind::Unseen]);
    done(begun().gets_exactly(1, 0..3, &[(0, 100), (1, 101), (2, 102), (1, 101)])).shows(&[Kind::IntNonmonotonicPoll]);
    done(begun().gets_exactly(1, 0..3, &[(0, 100), (1, 7), (2, 102)])).shows(&[Kind::InconsistentOffset]);
}

#[test]
fn polls_follow_each_other() {
    let begun = || story(ALO, 6).begins(1, 0, START).reads(1, 0..2);
    begun().reads(1, 2..6).shows(&[]);
    begun().reads(1, 3..6).shows(&[Kind::PollSkip, Kind::Unseen, Kind::Unprocessed]);
    begun().reads(1, 1..6).shows(&[Kind::NonmonotonicPoll]);
}

#[test]
fn what_was_pulled_ahead_of_a_seek_is_found() {
    let story = story(ALO, 6).begins(1, 0, START).reads(1, 0..2).begins(1, 0, Why::Sought);
    let messages = (0..6).map(|offset| (offset, 100 + offset)).collect();
    let story = story
        .and(Op::Poll { by: 1, queue: 0, epoch: Some(1), range: 0..6, messages, gathered: false })
        .completes(1, 0..6);
    let messages = (2..6).map(|offset| (offset, 100 + offset)).collect();
    let story = story.and(Op::Poll { by: 1, queue: 0, epoch: Some(0), range: 2..6, messages, gathered: false });
    story.shows(&[Kind::StalePoll, Kind::NonmonotonicPoll]);
}

#[test]
fn a_poll_of_somebody_elses_queue_is_found() {
    let story = story(ALO, 4).begins(1, 0, START).reads(1, 0..2).committed(2).revoked(1, 2).gets(1, 2..3);
    story.begins(2, 2, Why::Gained).reads(2, 2..4).shows(&[Kind::StalePoll]);
}

#[test]
fn a_position_beyond_an_open_message_is_lost() {
    let story = story(ALO, 4).begins(1, 0, START).gets(1, 0..2).reads(1, 2..4).committed(4).completes(1, 0..2);
    story.shows(&[Kind::Lost]);
}

#[test]
fn a_queue_that_begins_behind_an_unprocessed_message_skips_it() {
    let story = story(ALO, 4).begins(1, 0, START).reads(1, 0..2).and(Op::Crash { by: 1 });
    story.begins(2, 3, START).reads(2, 3..4).shows(&[Kind::SkippedBegin, Kind::Unseen, Kind::Unprocessed]);
}

#[test]
fn a_queue_that_begins_before_what_was_committed_reads_again() {
    let committed = || story(ALO, 4).begins(1, 0, START).reads(1, 0..4).committed(4);
    committed().revoked(1, 4).wait(10_000).begins(2, 3, Why::Gained).reads(2, 3..4).shows(&[Kind::Reread]);
    // It was asked for before.
    committed().revoked(1, 4).begins(2, 3, Why::Gained).reads(2, 3..4).shows(&[]);
    // A store of its own wins when a process starts.
    let stored = Why::Started { stored: Some(3) };
    committed().revoked(1, 4).wait(10_000).begins(2, 3, stored).reads(2, 3..4).shows(&[]);
    committed().revoked(1, 4).wait(10_000).begins(2, 2, stored).reads(2, 2..4).shows(&[Kind::Reread]);
    // A stream that gives its queue back goes on at what was completed.
    committed().begins(1, 2, Why::GivenBack).reads(1, 2..4).shows(&[Kind::Reread]);
}

#[test]
fn a_position_that_goes_back_by_itself_is_found() {
    let story = story(ALO, 4).begins(1, 0, START).reads(1, 0..4).committed(4).committed(3).committed(4);
    story.shows(&[Kind::Regressed]);
}

#[test]
fn a_flush_that_saved_nothing_is_found() {
    let story = story(ALO, 2).begins(1, 0, START).reads(1, 0..2).committed(1);
    story.and(Op::Durable { by: 1, queue: 0, next: 2, place: Place::Broker }).shows(&[Kind::NotDurable]);
}

#[test]
fn a_queue_is_given_up_after_what_is_open_or_its_time() {
    let leaving = || story(ALO, 2).begins(1, 0, START).gets(1, 0..2).completes(1, 0..1);
    let within = |within| Op::Revoking { by: 1, queue: 0, within };
    let again = |story: Story| story.begins(2, 1, Why::Gained).reads(2, 1..2);
    again(leaving().and(within(500)).wait(600).revoked(1, 1)).shows(&[]);
    again(leaving().and(within(500)).revoked(1, 1)).shows(&[Kind::GivenUpEarly]);
    again(leaving().and(within(500)).and(Op::Leaving { by: 1 }).revoked(1, 1)).shows(&[]);
    again(leaving().and(within(500)).wait(600).revoked(1, 0)).shows(&[Kind::Undercommitted]);
    let too_late = || leaving().and(within(500)).wait(500).completes(1, 1..2);
    again(too_late().revoked(1, 1)).shows(&[]);
    again(too_late().revoked(1, 2)).shows(&[]);
    again(too_late().revoked(1, 0)).shows(&[Kind::Undercommitted]);
    again(leaving().and(within(500)).wait(600).revoked(1, 2)).shows(&[Kind::Lost]);
}

#[test]
fn a_queue_that_is_given_up_is_saved_unless_it_was_told_or_somebody_else_may_have_saved_since() {
    let leaving =
        || story(ALO, 4).begins(1, 0, START).reads(1, 0..2).and(Op::Revoking { by: 1, queue: 0, within: 500 });
    let saved = |story: Story, saved| story.and(Op::Revoked { by: 1, queue: 0, reached: 2, saved });
    let rest = |story: Story| story.wait(5_000).begins(2, 2, Why::Gained).reads(2, 2..4);
    rest(saved(leaving(), Some(2))).shows(&[]);
    rest(saved(leaving().and(Op::Trouble { over: false }), None)).shows(&[]);
    rest(saved(leaving().and(Op::Leaving { by: 1 }), None)).shows(&[]);
    rest(saved(leaving(), None)).shows(&[Kind::NotDurable]);
    rest(saved(leaving(), Some(1))).shows(&[Kind::NotDurable]);
    rest(saved(leaving().and(Op::Forgets { queue: 0, next: 1 }), Some(1))).shows(&[]);
    let begun = |why| leaving().begins(2, 1, why);
    saved(begun(Why::Gained), Some(1)).reads(2, 1..4).shows(&[Kind::NotDurable]);
    saved(begun(Why::Restored { at: 1 }), Some(1)).reads(2, 1..4).shows(&[]);
    saved(begun(Why::Gained).reads(2, 1..3), Some(1)).reads(2, 3..4).shows(&[]);
    let overlapped = story(ALO, 4).begins(2, 0, START).begins(1, 0, START).reads(1, 0..2).revoked(2, 0);
    rest(saved(overlapped, Some(1))).shows(&[]);
}

#[test]
fn a_queue_that_is_lost_is_handed_out_no_more_and_is_given_up_in_time() {
    let leaving =
        || story(ALO, 4).begins(1, 0, START).reads(1, 0..2).and(Op::Revoking { by: 1, queue: 0, within: 500 });
    let again = |story: Story| story.begins(2, 2, Why::Gained).reads(2, 2..4);
    again(leaving().gets(1, 2..3).completes(1, 2..3).revoked(1, 3)).shows(&[Kind::StalePoll]);
    let gathered = Op::Poll { by: 1, queue: 0, epoch: Some(0), range: 2..3, messages: vec![(2, 102)], gathered: true };
    again(leaving().and(gathered).completes(1, 2..3).revoked(1, 3)).shows(&[]);
    again(leaving().wait(500 + SAVE).revoked(1, 2)).shows(&[Kind::HeldUp]);
    again(leaving().wait(400 + SAVE).revoked(1, 2)).shows(&[]);
    again(leaving().and(Op::Leave { by: 1 }).wait(60_000)).shows(&[]);
    again(leaving().and(Op::Crash { by: 1 }).wait(60_000)).shows(&[]);
}

#[test]
fn a_queue_that_is_paused_is_not_handed_out_until_it_goes_on_or_begins_anew() {
    let paused = |paused| Op::Paused { by: 1, queue: 0, paused };
    let begun = || story(ALO, 4).begins(1, 0, START).reads(1, 0..2).and(paused(true));
    begun().and(paused(false)).reads(1, 2..4).shows(&[]);
    begun().begins(1, 1, Why::Sought).reads(1, 1..4).shows(&[]);
    begun().reads(1, 2..4).shows(&[Kind::PausedPoll]);
}

#[test]
fn a_process_begins_where_its_checkpoint_says() {
    let begun = |at, told| {
        story(ALO, 4)
            .begins(1, 0, START)
            .reads(1, 0..4)
            .committed(4)
            .revoked(1, 4)
            .wait(10_000)
            .begins(2, at, Why::Restored { at: told })
            .reads(2, at..4)
    };
    begun(1, 1).shows(&[]);
    begun(2, 1).shows(&[Kind::Misplaced]);
    begun(0, 1).shows(&[Kind::Misplaced]);
}

#[test]
fn who_was_told_to_begin_earlier_sets_the_position_back_also_when_he_is_further_by_then() {
    let begun = |why| story(ALO, 4).begins(1, 0, START).reads(1, 0..2).committed(2).revoked(1, 2).begins(2, 0, why);
    let late = |story: Story| story.reads(2, 0..4).committed(2).committed(0).committed(4);
    late(begun(Why::Restored { at: 0 })).shows(&[]);
    late(begun(Why::Restored { at: 0 }).committed(1).committed(2)).shows(&[Kind::Regressed]);
}

#[test]
fn a_reset_excuses_what_it_skips_and_repeats_and_is_followed() {
    let reset = |to| Op::Reset { queue: 0, to };
    let begun = || story(ALO, 6).wait(20_000).begins(1, 0, START).reads(1, 0..2).committed(2).wait(20_000);
    // Commits count for nothing until somebody follows.
    let forth = begun().and(reset(4)).committed(4).and(Op::Durable { by: 1, queue: 0, next: 2, place: Place::Broker });
    let forth = || Story { contract: ALO, events: forth.events.clone(), now: forth.now };
    forth().begins(1, 4, Why::Reset).reads(1, 4..6).committed(6).shows(&[]);
    forth().begins(1, 3, Why::Reset).reads(1, 3..6).committed(6).shows(&[Kind::Misplaced]);
    let back = begun().and(reset(0)).committed(0).begins(1, 0, Why::Reset).reads(1, 0..6).committed(6);
    back.shows(&[]);
    begun().begins(1, 4, Why::Reset).reads(1, 4..6).shows(&[Kind::Misplaced]);
    // Followed, it is saved as always.
    let told = Op::Durable { by: 1, queue: 0, next: 6, place: Place::Broker };
    forth().begins(1, 4, Why::Reset).reads(1, 4..6).and(told).shows(&[Kind::NotDurable]);
}

#[test]
fn a_reset_that_is_not_followed_is_found_unless_its_answer_may_have_been_lost() {
    let stored = |story: Story, offset| story.sends(100 + offset, Sent::Stored { queue: 0, offset });
    let reset = |story: Story| stored(story.and(Op::Reset { queue: 0, to: 0 }), 2).reads(1, 2..3);
    let begun = || stored(stored(story(ALO, 3).begins(1, 0, START), 0), 1).reads(1, 0..2);
    reset(begun().wait(20_000)).shows(&[Kind::ResetIgnored]);
    // A poll of before may still wait at the broker, and take it.
    reset(begun()).shows(&[]);
    reset(begun().wait(20_000).begins(1, 2, Why::Sought)).shows(&[]);
    reset(begun().and(Op::Trouble { over: false }).wait(20_000)).shows(&[]);
    let healed = begun().and(Op::Trouble { over: false }).and(Op::Trouble { over: true });
    reset(healed.wait(20_000)).shows(&[Kind::ResetIgnored]);
    reset(begun().wait(20_000).begins(2, 2, START)).shows(&[]);
}

#[test]
fn a_broker_that_forgets_is_told_again_once_its_reader_has_looked() {
    let told = || Op::Durable { by: 1, queue: 0, next: 4, place: Place::Broker };
    let begun = || story(ALO, 4).begins(1, 0, START).reads(1, 0..4).committed(4).and(Op::Forgets { queue: 0, next: 1 });
    let asked = || begun().and(told()).and(Op::Asked { by: 1, queue: 0 });
    asked().committed(4).and(told()).shows(&[]);
    asked().and(told()).shows(&[Kind::NotDurable]);
    // Who comes next cannot know.
    begun().and(Op::Crash { by: 1 }).wait(10_000).begins(2, 1, START).reads(2, 1..4).committed(4).shows(&[]);
}

#[test]
fn a_late_completion_was_work_and_counts_for_nothing() {
    let story = story(ALO, 2).begins(1, 0, START).gets(1, 0..2).begins(1, 0, Why::Sought);
    let story = story.and(Op::Complete { by: 1, queue: 0, range: 0..2, late: true });
    story.gets(1, 0..2).and(Op::Revoking { by: 1, queue: 0, within: 0 }).revoked(1, 0).shows(&[]);
}

#[test]
fn what_nobody_has_seen_or_processed_is_found_at_the_end() {
    let begun = || story(ALO, 3).begins(1, 0, START).reads(1, 0..2);
    begun().shows(&[Kind::Unseen, Kind::Unprocessed]);
    begun().gets(1, 2..3).shows(&[Kind::Unprocessed]);
}

#[test]
fn at_most_once_a_position_is_committed_first_and_nothing_comes_twice() {
    let begun = || story(AMO, 4).begins(1, 0, START).committed(2).gets(1, 0..2);
    begun().committed(4).gets(1, 2..4).shows(&[]);
    begun().gets(1, 2..4).committed(4).shows(&[Kind::Uncommitted]);
    let back = begun().committed(4).gets(1, 2..4).and(Op::Crash { by: 1 }).wait(10_000).begins(2, 4, START);
    back.shows(&[]);
    let twice =
        begun().committed(4).gets(1, 2..4).committed(4).and(Op::Crash { by: 1 }).wait(10_000).begins(2, 2, START);
    twice.gets(2, 2..4).shows(&[Kind::Reread, Kind::Duplicate, Kind::Duplicate]);
}

#[test]
fn at_most_once_what_is_left_with_one_owner_may_come_to_another_who_began_before_that_one_went() {
    let gets_one_by_one = |story: Story, range: Range<u64>| {
        let messages = range.clone().map(|offset| (offset, 100 + offset)).collect();
        story.and(Op::Poll { by: 1, queue: 0, epoch: None, range, messages, gathered: false })
    };
    let given_up = |story: Story| gets_one_by_one(story.committed(4), 0..2).revoked(1, 4).wait(10_000);
    let left = |story: Story| gets_one_by_one(story, 2..4);
    let first = || story(AMO, 4).begins(1, 0, START);
    let overlapped = || given_up(first().begins(2, 0, START));
    left(overlapped()).gets(2, 0..4).shows(&[]);
    left(overlapped().committed(2)).committed(4).gets(2, 0..4).shows(&[]);
    let later = left(given_up(first()).begins(2, 2, Why::Gained)).gets(2, 2..4);
    later.shows(&[Kind::Duplicate, Kind::Duplicate]);
}

#[test]
fn at_most_once_who_was_overtaken_by_another_owners_commit_goes_on_with_what_he_had_committed() {
    let both = || story(AMO, 4).begins(1, 0, START).begins(2, 0, START).committed(4).gets(1, 0..2);
    both().committed(1).revoked(2, 1).gets(1, 2..4).shows(&[]);
    // Also with what he had committed and not been given when it was overtaken.
    both().revoked(2, 0).committed(2).gets(1, 2..4).shows(&[]);
    let next = both().revoked(2, 0).committed(1).gets(1, 2..4).and(Op::Crash { by: 1 }).wait(10_000);
    next.begins(3, 1, START).gets(3, 1..4).shows(&[]);
    // Until he has committed again.
    both().revoked(2, 0).committed(4).committed(1).gets(1, 2..4).shows(&[Kind::Regressed, Kind::Uncommitted]);
}

#[test]
fn at_most_once_a_crash_loses_one_piece() {
    let crashed = |at| {
        let story =
            story(AMO, 100).begins(1, 0, START).committed(2).gets(1, 0..2).committed(at).and(Op::Crash { by: 1 });
        story.begins(2, at, START).committed(100).gets(2, at..100)
    };
    crashed(34).shows(&[]);
    crashed(35).shows(&[Kind::Unseen]);
    story(AMO, 4).begins(1, 0, START).committed(4).gets(1, 0..2).shows(&[Kind::Unseen]);
}

#[test]
fn exactly_once_the_outputs_have_every_message_once() {
    let crashed = || {
        let story = story(EO, 4).begins(1, 0, START).reads(1, 0..2).writes(1, 0..2).gets(1, 2..4);
        story.and(Op::Crash { by: 1 }).begins(2, 2, Why::Started { stored: Some(2) }).reads(2, 2..4)
    };
    crashed().writes(2, 2..4).shows(&[]);
    crashed().writes(2, 1..4).shows(&[Kind::Duplicate]);
    crashed().writes(2, 3..4).shows(&[Kind::Unprocessed]);
}

#[test]
fn a_failure_and_a_standstill_are_findings() {
    let story = story(ALO, 0).and(Op::Fail { by: 1, error: "no".into() });
    story.and(Op::Stuck { what: "the end".into() }).shows(&[Kind::Failed, Kind::Stuck]);
}
