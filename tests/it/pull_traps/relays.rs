//! A broker that is reached by relays of the test's own: it moves to another address, and its answers are changed on the way.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::bad_pull::serve;
use crate::support::eventually;
use crate::support::relay::Relay;

/// A frame with its length.
fn whole(frame: &[u8]) -> Vec<u8> {
    [&u32::try_from(frame.len()).expect("short").to_be_bytes()[..], frame].concat()
}

/// With every `from` as `to`, which is as long.
fn replaced(frame: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut frame = frame.to_vec();
    let mut at = 0;
    while let Some(found) = frame[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        at += found + from.len();
        frame[at - from.len()..at].copy_from_slice(to.as_bytes());
    }
    frame
}

/// An address at which the broker is reached, until the task is aborted.
async fn relay(rig: &Pulls, change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let broker = rig.broker.broker_addresses()[0];
    (address, tokio::spawn(serve(listener, broker, move |frame| (whole(&change(frame)), false))))
}

/// A client of a name server that says the broker is at `place`.
async fn client_of(rig: &Pulls, place: &Arc<Mutex<SocketAddr>>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (place, broker) = (Arc::clone(place), rig.broker.broker_addresses()[0].to_string());
    let name_server = rig.broker.name_server().parse().expect("one");
    tokio::spawn(serve(listener, name_server, move |frame| {
        let place = place.lock().expect("nobody panics").to_string();
        (whole(&replaced(frame, &broker, &place)), false)
    }));
    Client::builder().name_server(address.to_string()).build().expect("a client")
}

#[tokio::test(start_paused = true)]
async fn p17_a_master_that_moved_to_another_address_is_followed() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 10, "a");
    let ((old, there), (new, _here)) = (relay(&rig, <[u8]>::to_vec).await, relay(&rig, <[u8]>::to_vec).await);
    let place = Arc::new(Mutex::new(old));
    let client = client_of(&rig, &place).await;
    let mut consumer = etl(&client).build().await.expect("build");
    assert_eq!(read(&mut consumer, &q(0), 10).await, (0..10).collect::<Vec<_>>());

    *place.lock().expect("nobody panics") = new;
    there.abort();
    rig.broker.cut_broker_connections(0);
    rig.fill(&q(0), 10, "a");
    let began = tokio::time::Instant::now();
    assert_eq!(read(&mut consumer, &q(0), 10).await, (10..20).collect::<Vec<_>>(), "without a restart of ours");
    consumer.control().flush().await.expect("commits go there too");
    assert!(began.elapsed() < secs(10), "{:?}", began.elapsed());
    assert_eq!(rig.committed(&q(0)), Some(20));
    holds(&consumer.control(), 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_was_dropped_or_shut_down_leaves_no_connection_though_its_control_is_kept() {
    for is_dropped in [true, false] {
        let rig = Pulls::start(1).await;
        let relay = Relay::to(&rig.broker.broker_addresses()[0].to_string()).await.expect("a relay");
        let place = relay.access_point().parse().expect("an address");
        let client = client_of(&rig, &Arc::new(Mutex::new(place))).await;
        let consumer = etl(&client).build().await.expect("build");
        let control = consumer.control();
        assert!(relay.connected() > 0);
        if is_dropped {
            drop(consumer);
        } else {
            ended(&control).await;
        }
        eventually(secs(10), "no connection is left", || relay.connected() == 0).await;
        // Whoever asks is answered all the same.
        control.bounds(&q(0)).await.expect("an answer");
    }
}

#[tokio::test(start_paused = true)]
async fn p18_a_broker_that_points_back_unasked_is_not_followed() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 10, "a");
    let points_back = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&points_back);
    let (address, _relay) = relay(&rig, move |frame| {
        let (right, back) = (r#""nextBeginOffset":"10""#, r#""nextBeginOffset":"03""#);
        if on.load(Ordering::SeqCst) { replaced(frame, right, back) } else { frame.to_vec() }
    })
    .await;
    let client = client_of(&rig, &Arc::new(Mutex::new(address))).await;
    let mut consumer = etl(&client).await_duration(secs(1)).build().await.expect("build");
    read(&mut consumer, &q(0), 10).await;
    consumer.control().flush().await.expect("flush");

    let mut events = consumer.control().events();
    points_back.store(true, Ordering::SeqCst);
    let mut refused = Vec::new();
    // Time flies while the relay works.
    for _ in 0..20 {
        nothing_for(secs(10), &mut consumer).await;
        refused.extend(told(&mut events));
    }
    let refused = <[PullEvent; 1]>::try_from(refused).expect("told once, and nothing else");
    assert!(
        matches!(&refused[0], PullEvent::JumpRefused { queue, at: from, offered } if *queue == q(0) && (*from, *offered) == (at(10), at(3))),
        "{refused:?}"
    );
    assert_eq!(rig.committed(&q(0)), Some(10), "where it was");

    points_back.store(false, Ordering::SeqCst);
    rig.fill(&q(0), 10, "a");
    assert_eq!(read(&mut consumer, &q(0), 10).await, (10..20).collect::<Vec<_>>(), "as if nothing had been");
    ended(&consumer.control()).await;
    assert_eq!(rig.committed(&q(0)), Some(20));
}
