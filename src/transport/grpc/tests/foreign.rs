//! Peers that are no proxy: every call ends soon, with an error that says what is there instead.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::error::{Error, ErrorKind};

/// Answers every connection with these bytes once it has said something, and closes its half then if `closes`.
async fn peer(tasks: &TaskGroup, answer: &'static [u8], closes: bool) -> Endpoint {
    let (listener, endpoint) = listen().await;
    answer_all(tasks, listener, answer, closes);
    endpoint
}

fn answer_all(tasks: &TaskGroup, listener: TcpListener, answer: &'static [u8], closes: bool) {
    tasks.spawn("foreign peer", async move {
        let mut open = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.read(&mut [0; 16]).await;
            let _ = connection.write_all(answer).await;
            if closes {
                let _ = connection.shutdown().await;
            }
            // Not dropped: closing with bytes unread resets the connection, and the answer may be lost with it.
            open.push(connection);
        }
    });
}

async fn route_error(endpoint: &Endpoint, config: GrpcConfig) -> Error {
    soon(wire(config).query_route(endpoint, &orders())).await.expect_err("it is no proxy")
}

#[tokio::test]
async fn a_peer_that_speaks_another_protocol_is_told_by_its_first_bytes() {
    let tasks = TaskGroup::new();
    for (answer, hint) in [
        (&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], "HTTP/1"),
        (&[0x15, 3, 3, 0, 2, 2, 10], "https://"),
        (b"\0\0\0\x7f\0\0\0\x7b{\"code\":1}", "not that of a broker or name server"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "does not speak HTTP/2"),
        (b"?", "does not speak HTTP/2"),
    ] {
        for closes in [true, false] {
            // A single byte tells nothing as long as more may come.
            if answer.len() == 1 && !closes {
                continue;
            }
            let endpoint = peer(&tasks, answer, closes).await;
            let error = route_error(&endpoint, config()).await;
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
            let text = error.to_string();
            assert!(text.contains(hint) && text.starts_with("query route on topic orders at 127.0.0.1:"), "{text}");
        }
    }
}

#[tokio::test]
async fn telemetry_and_receive_tell_a_foreign_peer_too() {
    let tasks = TaskGroup::new();
    let endpoint = peer(&tasks, b"HTTP/1.1 400 Bad Request\r\n\r\n", true).await;
    let wire = wire(config());
    let error = soon(wire.open(&endpoint, &consumer_settings())).await.map(drop).expect_err("it is no proxy");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    let request = receive_request();
    let error = soon(wire.receive(&endpoint, &request)).await.map(drop).expect_err("it is no proxy");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
}

#[tokio::test]
async fn a_peer_that_never_answers_is_a_timeout() {
    let tasks = TaskGroup::new();
    let endpoint = peer(&tasks, b"", false).await;
    let config = GrpcConfig { request_timeout: Duration::from_millis(200), ..config() };
    let error = route_error(&endpoint, config).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(error.to_string().contains("no answer within 200 ms"), "{error}");
}

#[tokio::test]
async fn a_peer_that_closes_without_a_word_is_unavailable() {
    let tasks = TaskGroup::new();
    let endpoint = peer(&tasks, b"", true).await;
    let error = route_error(&endpoint, config()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_refused_connection_is_unavailable_at_once_and_names_the_address() {
    let (listener, endpoint) = listen().await;
    drop(listener);
    let error = route_error(&endpoint, config()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains(&format!("cannot connect (127.0.0.1:{}: ", endpoint.port())), "{error}");
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    // `localhost` is ::1 as well on most machines, and nothing listens there.
    let tasks = TaskGroup::new();
    let endpoint = peer(&tasks, b"HTTP/1.1 400 Bad Request\r\n\r\n", true).await;
    let error = route_error(&Endpoint::new("localhost", endpoint.port()), config()).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "the second address answered: {error:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_an_error_and_not_a_panic() {
    for endpoint in [Endpoint::new("no host", 1), Endpoint::new("", 1), Endpoint::new("a/b", 1)] {
        let error = route_error(&endpoint, config()).await;
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::Unavailable), "{error:?}");
        assert_eq!(error.endpoint(), Some(&endpoint), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_reached_without_being_forgotten() {
    let (listener, endpoint) = listen().await;
    drop(listener);
    let wire = wire(config());
    let topic = orders();
    let error = soon(wire.query_route(&endpoint, &topic)).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let listener = TcpListener::bind(("127.0.0.1", endpoint.port())).await.unwrap();
    let tasks = TaskGroup::new();
    answer_all(&tasks, listener, b"HTTP/1.1 400 Bad Request\r\n\r\n", true);
    let error = soon(wire.query_route(&endpoint, &topic)).await.expect_err("it is no proxy");
    assert_eq!(error.kind(), ErrorKind::Protocol, "connected anew: {error:?}");
}
