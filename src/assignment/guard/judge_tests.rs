use super::*;

fn candidate(subscriptions: &[(&str, Filter)]) -> Candidate {
    let subscription =
        |(topic, filter): &(&str, Filter)| Subscription { topic: (*topic).into(), filter: filter.clone() };
    Candidate {
        group: "g".into(),
        subscriptions: subscriptions.iter().map(subscription).collect(),
        joins: true,
        looks: false,
    }
}

fn profile(kind: ConsumeKind, subscriptions: &[(&str, Filter)]) -> GroupProfile {
    GroupProfile {
        consume_kind: kind,
        members: ["10.0.0.1@7#1", "10.0.0.2@7#1"].map(Arc::from).into(),
        subscriptions: subscriptions.iter().map(|(topic, filter)| (Arc::from(*topic), filter.clone())).collect(),
    }
}

fn told(answer: Result<Option<GroupProfile>>) -> Told {
    ("broker-a".into(), answer)
}

fn all() -> Vec<(&'static str, Filter)> {
    vec![("orders", Filter::all())]
}

fn refused(candidate: &Candidate, told: &[Told]) -> String {
    let error = judge(candidate, told).expect_err("refused");
    assert_eq!((error.kind(), error.group()), (ErrorKind::Precondition, Some("g")));
    error.to_string()
}

#[test]
fn p21_a_group_of_another_kind_is_refused_and_both_kinds_are_named() {
    for (kind, name) in [
        (ConsumeKind::Push, "a PushConsumer (remoting)"),
        (ConsumeKind::Pop, "a consumer by lease (POP)"),
        (ConsumeKind::Unknown, "a kind unknown"),
    ] {
        for joins in [true, false] {
            let candidate = Candidate { joins, ..candidate(&all()) };
            let nobody = told(Ok(None));
            let text = refused(&candidate, &[nobody, told(Ok(Some(profile(kind, &all()))))]);
            for part in ["a PullConsumer cannot join group g", name, "10.0.0.1@7#1, 10.0.0.2@7#1", "broker-a"] {
                assert!(text.contains(part), "{text}");
            }
        }
    }
}

#[test]
fn who_looks_for_topics_may_know_of_others_but_not_filter_the_same_ones_otherwise() {
    let pull = |subscriptions: &[(&str, Filter)]| told(Ok(Some(profile(ConsumeKind::Pull, subscriptions))));
    let looks = |subscriptions: &[(&str, Filter)]| Candidate { looks: true, ..candidate(subscriptions) };
    let more = [("orders", Filter::all()), ("orders-eu", Filter::all())];
    assert!(judge(&looks(&more), &[pull(&all())]).is_ok(), "they have not seen the new topic yet");
    assert!(judge(&looks(&all()), &[pull(&more)]).is_ok(), "nor have we");
    refused(&looks(&more), &[pull(&[("orders", Filter::tag("paid"))])]);
    refused(&looks(&more), &[pull(&[])]);
    refused(&candidate(&more), &[pull(&all())]);
}

#[test]
fn a_group_of_pull_consumers_with_the_same_subscriptions_is_joined() {
    let pull = |subscriptions: &[(&str, Filter)]| told(Ok(Some(profile(ConsumeKind::Pull, subscriptions))));
    for (mine, theirs) in [
        (all(), all()),
        (vec![("orders", Filter::tag("b || a"))], vec![("orders", Filter::tag("a||b"))]),
        (all(), vec![("orders", Filter::tag(" * ")), ("%RETRY%g", Filter::all())]),
        (vec![("orders", Filter::sql92(" a > 1"))], vec![("orders", Filter::sql92("a > 1 "))]),
        (vec![("b", Filter::all()), ("a", Filter::tag("x"))], vec![("a", Filter::tag("x")), ("b", Filter::all())]),
    ] {
        let warnings = judge(&candidate(&mine), &[pull(&theirs), told(Ok(None))]).expect("the same");
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    assert!(judge(&candidate(&all()), &[]).expect("a topic without brokers").is_empty());
}

#[test]
fn r22_differing_subscriptions_are_refused_and_named() {
    for (theirs, says) in [
        (
            vec![("orders", Filter::tag("paid"))],
            "subscribe to orders (paid), and this consumer subscribes to orders (*)",
        ),
        (vec![("orders", Filter::sql92("a > 1"))], "subscribe to orders (SQL92 `a > 1`)"),
        (vec![("orders", Filter::all()), ("other", Filter::all())], "subscribe to orders (*), other (*)"),
        (vec![("other", Filter::all())], "subscribe to other (*)"),
        (vec![], "subscribe to nothing (they assign queues by hand)"),
    ] {
        let text = refused(&candidate(&all()), &[told(Ok(Some(profile(ConsumeKind::Pull, &theirs))))]);
        assert!(text.contains(says), "{text}");
    }
    let sql = candidate(&[("orders", Filter::sql92("paid"))]);
    refused(&sql, &[told(Ok(Some(profile(ConsumeKind::Pull, &[("orders", Filter::tag("paid"))]))))]);
}

#[test]
fn p27_who_stays_out_of_the_list_may_subscribe_to_anything_and_is_warned_of_those_in_it() {
    let candidate = Candidate { joins: false, ..candidate(&all()) };
    let other = profile(ConsumeKind::Pull, &[("other", Filter::tag("x"))]);
    let warnings = judge(&candidate, &[told(Ok(Some(other.clone()))), told(Ok(Some(other)))]).expect("beside");
    let [warning @ GroupWarning::Beside { members: 2, .. }] = &*warnings else { panic!("{warnings:?}") };
    assert!(warning.to_string().starts_with("2 members of group g share its queues"), "{warning}");
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, format!("{kind:?}"))
}

#[test]
fn a_broker_that_cannot_be_asked_is_passed_over_while_another_answers() {
    let away = || told(Err(error(ErrorKind::Unavailable)));
    let warnings = judge(&candidate(&all()), &[away(), told(Ok(None))]).expect("one answered");
    let [warning @ GroupWarning::Unchecked { .. }] = &*warnings else { panic!("{warnings:?}") };
    assert!(warning.to_string().contains("could not be asked at broker-a: Unavailable"), "{warning}");
    let text = refused(&candidate(&all()), &[away(), told(Ok(Some(profile(ConsumeKind::Push, &all()))))]);
    assert!(text.contains("PushConsumer"), "{text}");
    let nobody = judge(&candidate(&all()), &[away(), told(Err(error(ErrorKind::PermissionDenied)))]);
    assert_eq!(nobody.expect_err("nobody answered").kind(), ErrorKind::Unavailable);
}

#[test]
fn without_the_right_to_ask_the_guard_warns_and_does_not_stand_in_the_way() {
    let denied = || told(Err(error(ErrorKind::PermissionDenied)));
    let warnings = judge(&candidate(&all()), &[denied(), denied()]).expect("warned");
    assert_eq!(warnings.len(), 2);
}

#[test]
fn many_members_are_shown_as_a_few() {
    let ids: Vec<Arc<str>> = (0..5).map(|n| format!("m{n}").into()).collect();
    assert_eq!(some_of(&ids), "m0, m1, m2 and 2 more");
    assert_eq!(some_of(&ids[..3]), "m0, m1, m2");
}

#[test]
fn consumers_by_lease_leave_topics_behind() {
    assert_eq!(lease_topics("g", "orders").map(|name| name.to_string()), ["%RETRY%g_orders", "%RETRY%g+orders"]);
}
