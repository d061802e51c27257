//! One suite of behaviours of the PullConsumer, on four ways in: the embedded broker over gRPC and over remoting, always; and
//! a real Apache RocketMQ with two brokers, when the environment names one: at its brokers, and at its proxy's remoting port.
//!
//! ```sh
//! cargo test --test pull                                                                        # embedded only
//! BROKERS=2 RUST_TEST_THREADS=12 tests/apache/cluster.sh run -- cargo test --test pull apache_  # the real server
//! BROKERS=2 tests/apache/cluster.sh run -- cargo test --test pull outage   # a broker is killed
//! ```
//!
//! What a way in cannot do is refused with a typed error, and that is the behaviour then. The embedded broker runs on a paused
//! clock. With `REAL_SERVER_REQUIRED=1` a missing server is a failure.

#![allow(
    clippy::disallowed_methods,
    clippy::future_not_send,
    reason = "the rules on time, tasks and threads are for the library; tests are its users"
)]

#[path = "../apache/admin.rs"]
mod admin;
#[macro_use]
#[path = "../support/behaviours.rs"]
mod behaviours;
#[path = "../apache/cluster_sh.rs"]
mod cluster_sh;
#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod commits;
mod control;
mod faults;
mod members;
mod queues;
mod reads;
mod refusals;
mod starts;
mod stops;
mod tape;

use cluster::{Cluster, Outage, Way};

behaviours! {
    embedded_grpc: paused Cluster::embedded(Way::Grpc),
    embedded_remoting: paused Cluster::embedded(Way::Remoting),
    apache_broker: real Cluster::apache(Way::Remoting),
    apache_proxy: real Cluster::apache(Way::Proxy);
    {
    reads:
        every_message_comes_once_in_contiguous_ranges_of_its_queue,
        a_message_arrives_as_it_was_sent,
        compressed_and_large_bodies_come_out_as_they_went_in,
        a_tag_filter_lets_only_its_tags_through_and_the_ranges_cover_the_rest,
        an_sql92_filter_looks_at_properties_and_the_ranges_cover_the_rest,
        p22_an_sql92_filter_that_does_not_parse_is_refused_before_anything_is_read,
        p14_a_bounded_read_ends_though_its_tail_is_filtered_away,
        several_topics_come_from_one_consumer_each_through_its_own_filter,
        messages_come_one_by_one_when_that_is_wanted,
        a_waiting_consumer_gets_a_message_as_soon_as_it_is_stored;
    starts:
        earliest_begins_at_the_first_message,
        p11_latest_begins_at_what_is_stored_after_the_start,
        p13_a_timestamp_begins_at_the_first_message_that_was_stored_then_or_later,
        explicit_offsets_are_obeyed_and_a_queue_without_one_is_refused,
        p12_a_checkpoint_is_obeyed_after_a_round_trip_through_json_and_wins_over_the_brokers_offsets,
        committed_offsets_are_obeyed_and_without_one_the_other_choice,
        p4_an_offset_that_no_queue_can_have_is_refused,
        a_checkpoint_of_another_topic_is_refused;
    stops:
        p14_a_read_until_now_goes_on_live_from_its_checkpoint_without_gap_or_overlap,
        a_read_until_a_timestamp_goes_on_live_from_its_checkpoint_without_gap_or_overlap,
        a_read_until_offsets_ends_there_and_where_none_is_named_at_its_beginning,
        a_read_of_an_empty_topic_until_now_ends_at_once;
    commits:
        p1_the_next_member_begins_at_the_first_message_that_was_not_completed,
        p2_nothing_is_committed_that_was_only_handed_out,
        p3_what_is_completed_out_of_order_waits_for_what_is_not,
        p7_a_completion_from_before_a_seek_is_told_and_not_committed,
        p7_a_checkpoint_of_queues_that_are_not_held_is_refused_and_the_rest_is_saved,
        a_checkpoint_beyond_what_was_handed_out_is_refused,
        a_commit_sink_is_durable_when_it_is_closed,
        p23_the_first_commits_of_many_queues_are_all_kept,
        the_first_commit_of_a_group_that_no_broker_knows_is_kept_before_anybody_pulls,
        p12_a_file_of_checkpoints_wins_over_what_the_brokers_have,
        p23_a_commit_that_the_broker_forgot_is_noticed_and_repeated,
        at_most_once_commits_before_it_hands_out;
    queues:
        assigned_queues_are_read_and_no_others,
        queues_that_do_not_exist_or_are_named_twice_are_refused,
        numbered_tasks_read_every_queue_once,
        p11_a_queue_that_appears_later_is_read_from_the_start_instant_on,
        topics_that_the_servers_keep_for_themselves_match_nothing,
        topics_that_match_are_read_and_those_that_are_created_later_from_their_beginning,
        p15_queue_streams_do_not_wait_for_one_that_nobody_polls,
        p15_a_queue_stream_that_is_dropped_gives_its_queue_back_from_the_first_open_message;
    members:
        p19_two_members_share_the_queues_and_the_one_that_stays_takes_over,
        p19_three_members_share_uneven_queues_and_a_fourth_waits_quietly,
        p19_a_queue_that_appears_later_has_one_reader_in_the_group,
        p12_a_queue_that_goes_to_another_member_and_back_is_read_once,
        p27_members_hand_no_queue_to_who_assigns_or_shares;
    control:
        p6_a_seek_to_an_offset_begins_a_new_epoch_there,
        p13_a_seek_to_a_timestamp_lands_on_the_first_message_of_that_time_or_later,
        a_seek_goes_to_the_beginning_and_to_the_end,
        p10_a_paused_queue_brings_nothing_and_the_others_go_on,
        offsets_of_queues_and_times_can_be_asked_for,
        p20_the_lag_is_told_per_queue,
        a_shutdown_says_what_was_left_open,
        a_queue_that_is_not_held_can_be_neither_paused_nor_moved,
        p18_p29_an_administrators_reset_is_obeyed_forwards_and_backwards;
    refusals:
        an_unknown_topic_is_not_found_within_the_build_timeout,
        p5_an_offset_beyond_the_end_ends_the_stream_unless_the_policy_says_otherwise,
        p18_an_offset_far_beyond_the_end_is_refused_whatever_the_policy;
}
}

behaviours! {
    faults_at_embedded_grpc: paused Cluster::embedded(Way::Grpc),
    faults_at_embedded_remoting: paused Cluster::embedded(Way::Remoting);
    {
    faults:
        p11_messages_of_a_broker_that_was_down_at_the_start_are_read_from_the_start_instant_on,
        p11_messages_of_a_broker_that_was_in_no_route_at_the_start_are_read_from_the_start_instant_on,
        p23_a_broker_that_is_killed_and_restarted_under_a_reader_loses_nothing_and_skips_nothing;
    }
}

/// The same faults on the real server, by both ways in. A broker that is killed concerns everybody: so there is one outage for
/// all of them, and nothing else runs meanwhile.
#[tokio::test]
async fn outage_of_a_real_broker_p11_p23_nothing_is_lost_nothing_is_skipped_nothing_old_is_read() {
    let _calm = support::Calm::default();
    let outage = Outage::of(6);
    let ways = [Way::Remoting, Way::Proxy].map(Cluster::apache);
    let [Some(brokers), Some(proxy)] = ways else { return };
    let (brokers, proxy) = (brokers.during(&outage), proxy.during(&outage));
    tokio::join!(
        faults::p11_messages_of_a_broker_that_was_down_at_the_start_are_read_from_the_start_instant_on(&brokers),
        faults::p11_messages_of_a_broker_that_was_in_no_route_at_the_start_are_read_from_the_start_instant_on(&brokers),
        faults::p23_a_broker_that_is_killed_and_restarted_under_a_reader_loses_nothing_and_skips_nothing(&brokers),
        faults::p11_messages_of_a_broker_that_was_down_at_the_start_are_read_from_the_start_instant_on(&proxy),
        faults::p11_messages_of_a_broker_that_was_in_no_route_at_the_start_are_read_from_the_start_instant_on(&proxy),
        faults::p23_a_broker_that_is_killed_and_restarted_under_a_reader_loses_nothing_and_skips_nothing(&proxy),
    );
}

/// Members of one group that go in by two doors do not see each other (trap P26).
#[tokio::test]
async fn apache_p26_members_at_the_brokers_and_at_the_proxy_both_read_every_queue() {
    let _calm = support::Calm::default();
    if let (Some(brokers), Some(proxy)) = (Cluster::apache(Way::Remoting), Cluster::apache(Way::Proxy)) {
        members::p26_both_read_every_queue(&brokers, &proxy).await;
    }
}
