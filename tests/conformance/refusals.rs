//! What a server does not do, and how it is told.

use futures::prelude::*;
use rocketmq_stream::{ErrorKind, Filter, OutboundMessage};

use crate::cluster::Cluster;
use crate::support::{secs, send_all, text, unique, within};

pub(crate) async fn an_unknown_topic_is_not_found_within_the_build_timeout(cluster: &dyn Cluster) {
    let (missing, group) = (unique("missing"), cluster.group());
    let client = cluster.client();
    let builder = client.simple_consumer(&group).subscribe(&missing, Filter::all()).build_timeout(secs(3));
    let error = within(secs(8), "build", builder.build()).await.expect_err("there is no such topic");
    assert_eq!((error.kind(), error.topic()), (ErrorKind::NotFound, Some(&*missing)), "{error:?}");
    assert_eq!(error.server_code(), Some(40402), "{error:?}");
    assert!(error.to_string().contains(&missing), "{error}");

    let builder = client.producer().topic(&missing).build_timeout(secs(3));
    let error = within(secs(8), "build", builder.build()).await.expect_err("there is no such topic");
    assert_eq!((error.kind(), error.topic()), (ErrorKind::NotFound, Some(&*missing)), "{error:?}");
}

pub(crate) async fn a_send_to_an_unknown_topic_is_not_found_and_gives_the_message_back(cluster: &dyn Cluster) {
    let missing = unique("missing");
    let builder = cluster.client().producer().send_timeout(secs(4));
    let producer = builder.build().await.expect("build");
    let message = OutboundMessage::new(&missing, "homeless").key("k");
    let failed = within(secs(15), "send", producer.send(message)).await.expect_err("there is no such topic");
    assert_eq!(failed.kind(), ErrorKind::NotFound, "{failed:?}");
    assert!(!failed.may_have_been_stored(), "{failed:?}");
    assert_eq!(failed.error().topic(), Some(&*missing));
    let back = failed.into_message();
    assert_eq!((&back.body()[..], back.get_keys()), (&b"homeless"[..], &["k".to_owned()][..]));
}

pub(crate) async fn a_filter_that_does_not_parse_ends_the_stream_with_a_permanent_error(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, ["there"]).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::sql92("amount >"));
    // At build if the server says so there; Apache's does at the first receive.
    let error = match builder.build().await {
        Err(error) => error,
        Ok(mut consumer) => {
            let item = within(secs(30), "an error", consumer.next()).await.expect("an item");
            let ended = within(secs(5), "the end", consumer.next()).await;
            assert!(ended.is_none(), "an error item is the last one: {ended:?}");
            item.expect_err("this is no expression")
        }
    };
    assert!(!error.is_retryable(), "{error:?}");
    assert!(error.server_code().is_some(), "{error:?}");
    assert_eq!((error.topic(), error.group()), (Some(&*topic), Some(&*group)), "{error:?}");
}

pub(crate) async fn a_fifo_group_has_no_stream_yet_but_plain_receive_works(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.fifo_topic(), cluster.fifo_group());
    let producer = cluster.producer().await;
    for body in ["1", "2", "3"] {
        let message = OutboundMessage::new(&topic, body).message_group("g");
        within(secs(30), "send", producer.send(message)).await.expect("send");
    }
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let builder = builder.await_duration(secs(5));
    let error = builder.clone().build().await.expect_err("the ordered stream does not exist yet");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.to_string().contains("build_receiver"), "it says what to do: {error}");

    let receiver = builder.build_receiver().await.expect("build");
    let batch = within(secs(20), "receive", receiver.receive(2, secs(30))).await.expect("receive");
    let bodies: Vec<_> = batch.iter().map(|delivery| text(delivery.message()).to_owned()).collect();
    assert_eq!(bodies, ["1", "2"]);
    assert_eq!(batch[0].message().message_group(), Some("g"));
    let blocked = within(secs(20), "receive", receiver.receive(2, secs(30))).await.expect("receive");
    assert!(blocked.is_empty(), "the message group is blocked while two are held: {blocked:?}");
    for delivery in batch {
        delivery.ack().await.expect("ack");
    }
    let rest = within(secs(20), "receive", receiver.receive(2, secs(30))).await.expect("receive");
    assert_eq!(rest.iter().map(|delivery| text(delivery.message())).collect::<Vec<_>>(), ["3"]);
    for delivery in rest {
        delivery.ack().await.expect("ack");
    }
    assert!(receiver.shutdown(secs(5)).await.complete);
}

pub(crate) async fn a_body_over_the_limit_is_refused_and_given_back(cluster: &dyn Cluster) {
    let topic = cluster.topic(1);
    let producer = cluster.producer().await;
    let message = OutboundMessage::new(&topic, vec![b'x'; (4 << 20) + 1]);
    let failed = within(secs(10), "send", producer.send(message)).await.expect_err("4 MiB is the limit");
    assert_eq!(failed.kind(), ErrorKind::TooLarge, "{failed:?}");
    assert_eq!(failed.message().body().len(), (4 << 20) + 1);
    assert!(!failed.may_have_been_stored());
}

pub(crate) async fn a_fifo_message_to_a_normal_topic_is_refused(cluster: &dyn Cluster) {
    let topic = cluster.topic(1);
    let producer = cluster.producer().await;
    let message = OutboundMessage::new(&topic, "ordered").message_group("g");
    let failed = within(secs(30), "send", producer.send(message)).await.expect_err("the topic is NORMAL");
    assert_eq!(failed.kind(), ErrorKind::Precondition, "{failed:?}");
    assert_eq!(&failed.message().body()[..], b"ordered");
}

pub(crate) async fn an_invisible_duration_the_server_refuses_ends_the_stream_with_a_permanent_error(
    cluster: &dyn Cluster,
) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, ["there"]).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    // Apache's servers take 10 s to 12 h; what the server decides is not refused by a constant of ours.
    let mut consumer = builder.invisible_duration(secs(1)).build().await.expect("build");
    let item = within(secs(30), "an error", consumer.next()).await.expect("an item");
    let error = item.expect_err("1 s is too short");
    assert_eq!((error.kind(), error.server_code()), (ErrorKind::InvalidArgument, Some(40011)), "{error:?}");
    assert!(consumer.next().await.is_none(), "an error item is the last one");
}
