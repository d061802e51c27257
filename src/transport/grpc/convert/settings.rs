//! What the server says about itself in the telemetry handshake.

use crate::model::{RetrySchedule, ServerSettings};
use crate::proto::settings::PubSub;
use crate::proto::{self, retry_policy::Strategy};
use crate::transport::grpc::convert::value::duration;

/// Each field on its own: a server may leave out any of them (trap R2). A value that cannot be meant is as good as none.
pub(crate) fn server_settings(settings: &proto::Settings) -> ServerSettings {
    let mut read = ServerSettings {
        max_attempts: settings.backoff_policy.as_ref().and_then(|policy| positive(policy.max_attempts)),
        retry: settings.backoff_policy.as_ref().and_then(retry_schedule),
        ..ServerSettings::default()
    };
    match &settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => {
            read.max_body_size = positive(publishing.max_body_size).and_then(|size| usize::try_from(size).ok());
            read.validate_message_type = Some(publishing.validate_message_type);
        }
        Some(PubSub::Subscription(subscription)) => {
            read.fifo = subscription.fifo;
            read.receive_batch = subscription.receive_batch_size.and_then(positive);
            read.long_polling = subscription.long_polling_timeout.as_ref().map(duration);
        }
        None => {}
    }
    read
}

fn retry_schedule(policy: &proto::RetryPolicy) -> Option<RetrySchedule> {
    match policy.strategy.as_ref()? {
        Strategy::ExponentialBackoff(backoff) => Some(RetrySchedule::Exponential {
            initial: duration(backoff.initial.as_ref()?),
            max: duration(backoff.max.as_ref()?),
            multiplier: backoff.multiplier,
        }),
        Strategy::CustomizedBackoff(backoff) if backoff.next.is_empty() => None,
        Strategy::CustomizedBackoff(backoff) => {
            Some(RetrySchedule::Customized(backoff.next.iter().map(duration).collect()))
        }
    }
}

fn positive(number: i32) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn seconds(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    #[test]
    fn r2_each_field_is_read_on_its_own() {
        assert_eq!(server_settings(&proto::Settings::default()), ServerSettings::default());
        let only_batch = proto::Subscription { receive_batch_size: Some(16), ..proto::Subscription::default() };
        let settings =
            proto::Settings { pub_sub: Some(PubSub::Subscription(only_batch)), ..proto::Settings::default() };
        let expected = ServerSettings { receive_batch: Some(16), ..ServerSettings::default() };
        assert_eq!(server_settings(&settings), expected);
    }

    #[test]
    fn a_consumers_settings_are_read_as_apache_sends_them() {
        let custom = proto::CustomizedBackoff { next: vec![seconds(1), seconds(5)] };
        let settings = proto::Settings {
            backoff_policy: Some(proto::RetryPolicy {
                max_attempts: 17,
                strategy: Some(Strategy::CustomizedBackoff(custom)),
            }),
            pub_sub: Some(PubSub::Subscription(proto::Subscription {
                fifo: Some(true),
                receive_batch_size: Some(32),
                long_polling_timeout: Some(seconds(20)),
                ..proto::Subscription::default()
            })),
            ..proto::Settings::default()
        };
        let expected = ServerSettings {
            fifo: Some(true),
            receive_batch: Some(32),
            long_polling: Some(Duration::from_secs(20)),
            max_attempts: Some(17),
            retry: Some(RetrySchedule::Customized(vec![Duration::from_secs(1), Duration::from_secs(5)])),
            max_body_size: None,
            validate_message_type: None,
        };
        assert_eq!(server_settings(&settings), expected);
    }

    #[test]
    fn a_producers_settings_are_read_as_apache_sends_them() {
        let backoff = proto::ExponentialBackoff {
            initial: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
            max: Some(seconds(1)),
            multiplier: 2.0,
        };
        let settings = proto::Settings {
            backoff_policy: Some(proto::RetryPolicy {
                max_attempts: 3,
                strategy: Some(Strategy::ExponentialBackoff(backoff)),
            }),
            pub_sub: Some(PubSub::Publishing(proto::Publishing {
                topics: vec![],
                max_body_size: 4 << 20,
                validate_message_type: true,
            })),
            ..proto::Settings::default()
        };
        let read = server_settings(&settings);
        let retry = RetrySchedule::Exponential {
            initial: Duration::from_millis(10),
            max: Duration::from_secs(1),
            multiplier: 2.0,
        };
        assert_eq!((read.max_attempts, read.retry), (Some(3), Some(retry)));
        assert_eq!((read.max_body_size, read.validate_message_type), (Some(4 << 20), Some(true)));
    }

    #[test]
    fn a_number_that_cannot_be_meant_is_none() {
        let settings = proto::Settings {
            backoff_policy: Some(proto::RetryPolicy { max_attempts: -1, strategy: None }),
            pub_sub: Some(PubSub::Publishing(proto::Publishing { max_body_size: 0, ..proto::Publishing::default() })),
            ..proto::Settings::default()
        };
        let read = server_settings(&settings);
        assert_eq!((read.max_attempts, read.retry, read.max_body_size), (None, None, None));
        let no_waits = Strategy::CustomizedBackoff(proto::CustomizedBackoff { next: vec![] });
        let policy = proto::RetryPolicy { max_attempts: 3, strategy: Some(no_waits) };
        let settings = proto::Settings { backoff_policy: Some(policy), ..proto::Settings::default() };
        assert_eq!(server_settings(&settings).retry, None, "a schedule without waits is none");
    }
}
