//! One suite of behaviours, on two servers: the embedded broker always, and a real Apache RocketMQ when the environment
//! names one:
//!
//! ```sh
//! cargo test --test conformance                                               # embedded only
//! RUST_TEST_THREADS=8 tests/apache/cluster.sh run -- cargo test --test conformance   # both
//! ```
//!
//! The embedded broker runs on a paused clock, so that its leases, which last as long as Apache's, take no time. With
//! `REAL_SERVER_REQUIRED=1` a missing server is a failure.

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
mod control;
mod leases;
mod messages;
mod refusals;
mod settle;

use cluster::{Apache, Embedded};

behaviours! {
    embedded: paused Embedded::start(),
    apache: real Apache::from_env();
    {
    messages:
        a_message_arrives_as_it_was_sent,
        timestamps_are_exact_to_the_millisecond,
        a_tag_filter_lets_only_its_tags_through,
        an_sql92_filter_looks_at_properties,
        several_topics_come_from_one_consumer,
        a_body_of_four_mebibytes_passes_both_ways,
        hundreds_of_messages_are_each_received_once,
        two_consumers_of_a_group_on_one_queue_both_receive,
        r3_an_await_duration_of_one_second_works,
        an_empty_receive_is_ok_and_empty,
        r15_a_new_group_on_a_young_topic_reads_it_from_the_beginning;
    leases:
        an_unsettled_message_comes_again_when_its_lease_ends,
        r6_a_renewed_message_stays_hidden_and_can_be_acked,
        an_extended_lease_hides_the_message_for_longer,
        a_shortened_lease_brings_the_message_back_sooner,
        r7_an_expired_lease_cannot_be_acked_and_the_message_comes_again,
        r10_what_no_user_saw_is_released_at_shutdown_without_an_attempt,
        r10_what_a_dropped_consumer_buffered_is_released_without_an_attempt,
        r10_what_the_poll_of_a_dropped_consumer_takes_comes_back_soon_without_an_attempt,
        r10_what_a_cancelled_receive_takes_comes_back_soon_without_an_attempt;
    settle:
        an_acked_message_does_not_come_again,
        a_nacked_message_comes_again_with_attempt_2_and_the_same_id,
        r9_a_dead_letter_is_read_and_acked_under_its_own_topic,
        a_message_that_is_nacked_too_often_becomes_a_dead_letter,
        r8_acks_of_one_batch_are_judged_one_by_one,
        a_redelivered_message_can_be_acked,
        acks_of_several_topics_go_their_own_ways;
    control:
        a_paused_consumer_receives_nothing_until_it_resumes,
        topics_are_subscribed_and_unsubscribed_at_run_time,
        a_shutdown_says_what_was_still_held,
        a_clean_shutdown_is_complete_and_ends_the_stream,
        a_producer_that_is_shut_down_has_sent_everything;
    refusals:
        an_unknown_topic_is_not_found_within_the_build_timeout,
        a_send_to_an_unknown_topic_is_not_found_and_gives_the_message_back,
        a_filter_that_does_not_parse_ends_the_stream_with_a_permanent_error,
        a_fifo_group_has_no_stream_yet_but_plain_receive_works,
        a_body_over_the_limit_is_refused_and_given_back,
        a_fifo_message_to_a_normal_topic_is_refused,
        an_invisible_duration_the_server_refuses_ends_the_stream_with_a_permanent_error;
}
}
