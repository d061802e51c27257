//! The rules that every consumer's builder has for its settings, checked before anything is sent.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::{Filter, Limits, Subscription, check_topic};

/// A century: anything near it is a slip, and the wires' durations do not go much further.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The topics with their filters, each topic once.
pub(crate) fn check_subscriptions(given: &[(String, Filter)], limits: &Limits) -> Result<Vec<Subscription>> {
    let mut subscriptions: Vec<Subscription> = Vec::with_capacity(given.len());
    for (topic, filter) in given {
        check_topic(topic, limits)?;
        filter.check()?;
        if subscriptions.iter().any(|other| *other.topic == **topic) {
            return Err(Error::config("subscribe", topic, "is subscribed twice; join its tags with `||`"));
        }
        subscriptions.push(Subscription { topic: topic.as_str().into(), filter: filter.clone() });
    }
    Ok(subscriptions)
}

/// Times that must not be zero.
pub(crate) fn check_times<const N: usize>(settings: [(&str, Duration); N]) -> Result<()> {
    for (field, value) in settings {
        if value.is_zero() || value > LONGEST {
            let rule = "must be longer than zero and at most 100 years";
            return Err(Error::config(field, format!("{value:?}"), rule));
        }
    }
    Ok(())
}

/// Numbers of messages, bytes and the like.
pub(crate) fn check_sizes<const N: usize>(settings: [(&str, usize); N]) -> Result<()> {
    for (field, value) in settings {
        if value == 0 || value > usize::MAX / 2 {
            return Err(Error::config(field, value, "must be at least 1, and a size that a machine can have"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[track_caller]
    fn refused<T: std::fmt::Debug>(checked: Result<T>, says: &str) {
        let error = checked.expect_err(says);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(says), "`{says}` is not in: {error}");
    }

    #[test]
    fn a_topic_is_subscribed_once_by_a_good_name_and_a_good_filter() {
        let check = |given: &[(&str, Filter)]| {
            let given: Vec<_> = given.iter().map(|(topic, filter)| ((*topic).to_owned(), filter.clone())).collect();
            check_subscriptions(&given, &Limits::default())
        };
        let good = check(&[("b", Filter::tag("paid")), ("a", Filter::all())]).expect("good");
        let good: Vec<_> = good.iter().map(|one| (&*one.topic, &one.filter)).collect();
        assert_eq!(good, [("b", &Filter::tag("paid")), ("a", &Filter::all())], "in the order given");
        assert_eq!(check(&[]).expect("whether one is needed is the builder's affair"), []);
        refused(check(&[("a", Filter::all()), ("b", Filter::all()), ("a", Filter::tag("x"))]), "subscribe `a`");
        refused(check(&[("no topic!", Filter::all())]), "topic `no topic!`");
        refused(check(&[("a", Filter::sql92(""))]), "must not be empty");
    }

    #[test]
    fn the_first_setting_out_of_its_bounds_is_named() {
        assert_eq!(LONGEST.as_secs() / 86_400, 36_500, "in days");
        assert!(check_times([("a", Duration::from_nanos(1)), ("b", LONGEST)]).is_ok());
        refused(check_times([("a", LONGEST), ("b", Duration::ZERO), ("c", Duration::ZERO)]), "b `0ns`");
        refused(check_times([("a", LONGEST + Duration::from_nanos(1))]), "a `");
        assert!(check_sizes([("a", 1), ("b", usize::MAX / 2)]).is_ok());
        refused(check_sizes([("a", 1), ("b", 0), ("c", 0)]), "b `0`");
        refused(check_sizes([("a", usize::MAX / 2 + 1)]), "a `");
    }
}
