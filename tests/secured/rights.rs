//! Who calls, and whether it may (ACL 2.0): the same answers to pulling over remoting and to sending and receiving over gRPC.

use futures::prelude::*;
use rocketmq_stream::{
    Client, Error, ErrorKind, Filter, PullConsumer, PullConsumerBuilder, SimpleConsumerBuilder, StartFrom, StopAt,
};

use crate::admin::Admin;
use crate::server::{SECRET, STORED, Server};
use crate::support::{Calm, PATIENCE, numbered, secs, sorted, take_acked, text, within};

/// A refusal is an answer: nobody waits for a timeout of any kind.
const AT_ONCE: std::time::Duration = secs(8);

fn pulling(client: &Client, server: &Server, group: &str) -> PullConsumerBuilder {
    let builder = client.pull_consumer(server.group(group)).subscribe(&server.topic, Filter::all());
    builder.start_from(StartFrom::committed_or_earliest()).build_timeout(secs(60))
}

fn receiving(client: &Client, server: &Server) -> SimpleConsumerBuilder {
    let builder = client.simple_consumer(server.group("receivers")).subscribe(&server.topic, Filter::all());
    builder.build_timeout(secs(60))
}

/// What `build` says of these credentials: of a member, of a numbered task, of a receiver, and of a sender.
async fn refusals(client: &Client, server: &Server) -> Vec<Error> {
    let member = within(AT_ONCE, "pull", pulling(client, server, "refused").build()).await;
    let task = within(AT_ONCE, "pull by number", pulling(client, server, "refused").share(0, 1).build()).await;
    let receiver = within(AT_ONCE, "receive", receiving(client, server).build()).await;
    let sender = client.producer().topic(&server.topic).build_timeout(secs(60)).build();
    let sender = within(AT_ONCE, "send", sender).await;
    vec![
        member.map(drop).expect_err("a member"),
        task.map(drop).expect_err("a task"),
        receiver.map(drop).expect_err("a receiver"),
        sender.map(drop).expect_err("a sender"),
    ]
}

#[track_caller]
fn assert_says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
    }
}

/// Reads to the end and completes; the bodies.
async fn read_to_end(consumer: &mut PullConsumer) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(batch) = within(PATIENCE, "the next batch", consumer.try_next()).await.expect("a batch") {
        bodies.extend(batch.messages().iter().map(|message| text(message).to_owned()));
        batch.complete();
    }
    sorted(bodies)
}

#[tokio::test]
async fn with_the_right_keys_a_pull_consumer_reads_and_commits() {
    let _calm = Calm::default();
    let Some(server) = Server::from_env() else { return };
    server.filled().await;
    let client = server.client_of(&server.reader, SECRET);
    let mut consumer = pulling(&client, server, "members").until(StopAt::Now).build().await.expect("build");
    assert_eq!(read_to_end(&mut consumer).await, sorted(numbered(STORED)));
    let control = consumer.control();
    within(PATIENCE, "flush", control.flush()).await.expect("committed");
    let reached = control.checkpoint();
    for (queue, next) in reached.iter() {
        assert_eq!(control.committed(queue).await.expect("asked"), Some(next));
    }
    assert!(within(PATIENCE, "shutdown", control.shutdown(secs(20))).await.complete);

    let mut next_member = pulling(&client, server, "members").until(StopAt::Now).build().await.expect("build");
    assert_eq!(next_member.position(), reached);
    assert_eq!(read_to_end(&mut next_member).await, [""; 0]);
}

#[tokio::test]
async fn with_the_right_keys_a_simple_consumer_receives_and_acknowledges() {
    let _calm = Calm::default();
    let Some(server) = Server::from_env() else { return };
    server.filled().await;
    let mut consumer = receiving(&server.client_of(&server.reader, SECRET), server).build().await.expect("build");
    assert_eq!(sorted(take_acked(&mut consumer, STORED).await), sorted(numbered(STORED)));
    assert!(consumer.control().shutdown(secs(20)).await.complete);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_at_once_and_the_error_says_what_to_look_at() {
    let _calm = Calm::default();
    let Some(server) = Server::from_env() else { return };
    for (name, said) in [(&*server.reader, "check signature failed"), ("nobody-knows-me", "is not found")] {
        for error in refusals(&server.client_of(name, "a wrong one"), server).await {
            assert_says(
                &error,
                ErrorKind::Unauthenticated,
                &[said, "check the access key and the secret key", "`credentials`"],
            );
            assert!(!format!("{error:?}").contains("a wrong one"), "no secret is told: {error:?}");
        }
    }
}

#[tokio::test]
async fn without_credentials_the_error_says_that_they_are_wanted() {
    let _calm = Calm::default();
    let Some(server) = Server::from_env() else { return };
    for error in refusals(&server.client(|client| client), server).await {
        assert_says(&error, ErrorKind::Unauthenticated, &["asks for credentials", "`credentials`"]);
    }
}

#[tokio::test]
async fn who_has_no_right_is_told_which_one_and_on_what() {
    let _calm = Calm::default();
    let Some(server) = Server::from_env() else { return };
    let stranger = refusals(&server.client_of(&server.stranger, SECRET), server).await;
    let on_group = format!("Group:{}", server.group("refused"));
    assert_says(
        &stranger[0],
        ErrorKind::PermissionDenied,
        &[&on_group, "Sub and Get on the topic", "Sub on the group"],
    );
    let on_topic = format!("Topic:{}", server.topic);
    for error in &stranger[1..] {
        assert_says(
            error,
            ErrorKind::PermissionDenied,
            &[&server.stranger, "no permission", "on the topic", "createAcl"],
        );
    }
    assert_says(&stranger[1], ErrorKind::PermissionDenied, &[&on_topic]);
    assert_eq!(stranger[1].topic(), Some(&*server.topic));
    assert_says(&stranger[3], ErrorKind::PermissionDenied, &[&on_topic]);

    // To receive, Sub is enough; to find where a queue begins, Get is needed, too.
    let receiver = server.client_of(&server.receiver, SECRET);
    let error =
        within(AT_ONCE, "pull", pulling(&receiver, server, "refused").build()).await.map(drop).expect_err("no Get");
    assert_says(&error, ErrorKind::PermissionDenied, &[&on_topic, "Sub and Get on the topic"]);
    assert_eq!(error.topic(), Some(&*server.topic));
    drop(within(PATIENCE, "receive", receiving(&receiver, server).build()).await.expect("Sub is enough"));

    let reader = server.client_of(&server.reader, SECRET).producer().build().await.expect("no topic was named");
    let failed = within(AT_ONCE, "send", reader.send(server.message())).await.expect_err("it may only read");
    assert_says(failed.error(), ErrorKind::PermissionDenied, &[&on_topic, "Pub on the topic"]);
    assert_eq!((failed.error().topic(), failed.may_have_been_stored()), (Some(&*server.topic), false));
}

#[tokio::test]
async fn a_right_that_is_taken_away_ends_the_stream_with_an_error_that_says_so() {
    let _calm = Calm::default();
    let Some(server) = Server::from_env() else { return };
    server.filled().await;
    let builder = pulling(&server.client_of(&server.former, SECRET), server, "former");
    let mut consumer = builder.await_duration(secs(1)).build().await.expect("build");
    drop(within(PATIENCE, "the first batch", consumer.try_next()).await.expect("it may read").expect("a batch"));
    server.take_away().await;
    let error = loop {
        if let Err(error) = within(secs(30), "the refusal", consumer.try_next()).await.map(drop) {
            break error;
        }
    };
    assert_says(&error, ErrorKind::PermissionDenied, &[&server.former, &server.topic, "no permission", "Sub and Get"]);
    assert!(within(PATIENCE, "the end", consumer.next()).await.is_none());
}

/// Why pulls go by code 11: the other one, of Java's lite consumers, is not looked at by the server's authorisation.
#[tokio::test]
async fn code_361_gives_a_stranger_what_code_11_refuses() {
    let Some(server) = Server::from_env() else { return };
    server.filled().await;
    let ask = || {
        let group = server.group("raw");
        let admin = Admin::from_env().expect("the environment of cluster.sh");
        let queue = admin.queues(&server.topic).expect("a route").remove(0);
        [11, 361].map(|code| admin.pull_as((&server.stranger, SECRET), code, &group, &server.topic, &queue))
    };
    let [pull, lite_pull] =
        tokio::task::spawn_blocking(ask).await.expect("no panic").map(|answer| answer.expect("asked"));
    assert_eq!(pull, (16, 0), "NO_PERMISSION");
    assert!(lite_pull.0 == 0 && lite_pull.1 > 0, "{lite_pull:?}: authorised as well now? then both codes will do");
}
