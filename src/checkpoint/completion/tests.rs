use super::*;
use crate::checkpoint::testing::{Told, begin, hand_out, offset, positions, queue};

#[test]
fn it_is_four_words_and_can_be_sent() {
    fn send<T: Send + Sync + 'static>() {}
    send::<Completion>();
    send::<CompletionShares>();
    assert!(size_of::<Completion>() <= 32, "{}", size_of::<Completion>());
}

#[test]
fn one_to_many_is_completed_when_all_shares_are() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let mut shares = hand_out(&queue_ledger, 5).split(3);
    assert_eq!(shares.len(), 3);
    let (one, two) = (shares.next().expect("one"), shares.next().expect("two"));
    assert_eq!((one.queue(), one.range()), (Some(&queue(1)), Some(offset(0)..offset(5))));
    two.complete();
    shares.next().expect("three").complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 0)]));
    one.complete();
    assert_eq!((ledger.checkpoint(), shares.next().is_none()), (positions([(1, 5)]), true));
}

#[test]
fn one_to_none_is_completed_at_once() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    assert_eq!(hand_out(&queue_ledger, 5).split(0).count(), 0);
    assert_eq!(ledger.checkpoint(), positions([(1, 5)]));
}

#[test]
fn a_share_that_is_dropped_or_never_taken_is_the_whole_dropped() {
    let told = Told::default();
    let ledger = told.ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let mut shares = hand_out(&queue_ledger, 5).split(2);
    drop(shares.next());
    assert_eq!(told.take(), ["dropped orders@broker-a:1 0..5"]);
    shares.next().expect("two").complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 0)]));

    let other = begin(&ledger, 2, 0, 0);
    let mut shares = hand_out(&other, 5).split(2);
    let taken = shares.next().expect("one");
    drop(shares);
    assert_eq!(told.take(), ["dropped orders@broker-a:2 0..5"]);
    taken.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 0), (2, 0)]));
}

#[test]
fn many_to_one_also_of_several_consumers() {
    let (one, two) = (Told::default().ledger(), Told::default().ledger());
    let (of_one, of_two) = (begin(&one, 1, 0, 0), begin(&two, 2, 0, 0));
    let merged: Completion = [hand_out(&of_one, 5), hand_out(&of_two, 5)].into_iter().collect();
    assert_eq!((merged.queue(), merged.range()), (None, None));
    assert_eq!(format!("{merged:?}"), r#"Completion { queue: "several" }"#);
    merged.complete();
    assert_eq!((one.checkpoint(), two.checkpoint()), (positions([(1, 5)]), positions([(2, 5)])));
    let none: Completion = std::iter::empty().collect();
    assert_eq!((none.queue(), none.range()), (None, None));
    none.complete();
}

#[test]
fn what_follows_on_each_other_is_one_again() {
    let told = Told::default();
    let ledger = told.ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let mut whole = hand_out(&queue_ledger, 4);
    let mut singles: Vec<Completion> = (1..4).map(|at| whole.take_first(1, offset(at))).collect();
    singles.push(whole);
    let ranges: Vec<_> = singles.iter().filter_map(Completion::range).map(|range| range.start.get()).collect();
    assert_eq!(ranges, [0, 1, 2, 3]);
    let merged: Completion = singles.into_iter().chain([hand_out(&queue_ledger, 2)]).collect();
    assert!(matches!(merged.0, Kind::Pieces(_)), "no memory is taken for what fits in one");
    assert_eq!(format!("{merged:?}"), "Completion { queue: orders@broker-a:1, range: 0..6 }");
    let out_of_order: Completion = [hand_out(&queue_ledger, 1), merged].into_iter().collect();
    assert_eq!((out_of_order.queue(), out_of_order.range()), (Some(&queue(1)), Some(offset(0)..offset(7))));
    out_of_order.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 7)]));
    assert!(told.take().is_empty(), "none of the parts counts as dropped");
}

#[test]
fn what_follows_by_number_with_a_gap_of_offsets_between_keeps_both_ranges() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let before = hand_out(&queue_ledger, 5);
    ledger.complete_below(&positions([(1, 5)])).expect("handed out");
    queue_ledger.skip_to(offset(100));
    let merged: Completion = [before, hand_out(&queue_ledger, 1)].into_iter().collect();
    assert_eq!(merged.range(), Some(offset(0)..offset(101)));
    merged.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 101)]));
}

#[test]
fn what_would_follow_but_is_of_another_queue_stays_with_its_own() {
    let ledger = Told::default().ledger();
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    hand_out(&two, 5).complete();
    let merged: Completion = [hand_out(&one, 5), hand_out(&two, 5)].into_iter().collect();
    assert_eq!(merged.queue(), None);
    merged.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 5), (2, 10)]));
}

/// Whether it counts, whether it was committed before it was handed out, and whether its queue is being given up.
fn says(completion: &Completion) -> [bool; 3] {
    [completion.is_current(), completion.is_settled(), completion.is_revoking()]
}

#[test]
fn p6_p8_in_every_state_of_its_queue_it_says_whether_it_counts() {
    let ledger = Told::default().ledger();
    let one = begin(&ledger, 1, 0, 0);
    let open = hand_out(&one, 2);
    let settled = one.hand_out_completed([offset(3)], crate::clock::now()).expect("handed out");
    assert_eq!((says(&open), says(&settled)), ([true, false, false], [true, true, false]), "ours");
    ledger.revoke(&queue(1)).expect("it is ours");
    assert_eq!((says(&open), says(&settled)), ([true, false, true], [true, true, true]), "being given up");
    drop(one.fence());
    let given_up = ([false, false, false], [true, true, false]);
    assert_eq!((says(&open), says(&settled)), given_up, "what is committed nobody else reads");
    let _anew = begin(&ledger, 1, 1, 0);
    assert_eq!((says(&open), says(&settled)), ([false, false, false], [false, true, false]), "set elsewhere");
}

#[test]
fn one_of_several_queues_counts_while_all_do_and_a_share_as_its_whole() {
    let ledger = Told::default().ledger();
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    let share = hand_out(&two, 1).split(1).next().expect("one");
    let many: Completion = [hand_out(&one, 1), hand_out(&two, 1)].into_iter().collect();
    assert_eq!((says(&many), says(&share)), ([true, false, false], [true, false, false]));
    ledger.revoke(&queue(2)).expect("it is ours");
    assert_eq!((says(&many), says(&share)), ([true, false, true], [true, false, true]), "one is being given up");
    drop(two.fence());
    assert_eq!((says(&many), says(&share)), ([false, false, false], [false, false, false]), "one is given up");
}

#[test]
fn it_splits_anywhere_and_each_half_is_its_own() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 10);
    // Messages at 10, 14 and 15.
    let mut right = queue_ledger.hand_out([11, 15, 16].map(offset), crate::clock::now()).expect("handed out");
    let left = right.take_first(2, offset(15));
    assert_eq!((left.range(), right.range()), (Some(offset(10)..offset(15)), Some(offset(15)..offset(16))));
    right.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 10)]));
    left.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 16)]));
    let mut none = hand_out(&queue_ledger, 3);
    let all = none.take_first(3, offset(19));
    drop(none);
    all.complete();
    assert_eq!((ledger.checkpoint(), ledger.stats().dropped), (positions([(1, 19)]), 0));
}

#[test]
fn a_merged_one_splits_into_halves_that_complete_it_together() {
    let ledger = Told::default().ledger();
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    let mut right: Completion = [hand_out(&one, 2), hand_out(&two, 2)].into_iter().collect();
    let left = right.take_first(1, offset(1));
    left.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 0), (2, 0)]));
    right.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 2), (2, 2)]));
    assert_eq!(ledger.stats().dropped, 0);
}

#[test]
fn completions_are_completed_from_many_threads() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let batches: Vec<_> = (0..64).map(|_| hand_out(&queue_ledger, 32)).collect();
    let mut parts: Vec<Vec<Completion>> = (0..4).map(|_| Vec::new()).collect();
    for (at, mut batch) in batches.into_iter().enumerate() {
        for message in 0..31 {
            let single = batch.take_first(1, offset(at as u64 * 32 + message + 1));
            parts[(at + message as usize) % 4].push(single);
        }
        parts[at % 4].push(batch);
    }
    std::thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || part.into_iter().for_each(Completion::complete));
        }
    });
    assert_eq!(ledger.checkpoint(), positions([(1, 64 * 32)]));
}
