use super::*;

#[test]
fn an_error_is_one_word() {
    assert_eq!(size_of::<Error>(), size_of::<usize>());
}

#[test]
fn e2_an_error_says_its_own_level_and_its_source_the_next() {
    let cause = Error::new(ErrorKind::Unavailable, "connection refused");
    let error = Error::new(ErrorKind::Unavailable, "no handshake within 3 s").with_source(cause);
    assert_eq!(error.to_string(), "no handshake within 3 s");
    assert_eq!(StdError::source(&error).expect("the cause").to_string(), "connection refused");
}

#[test]
fn an_error_says_operation_place_text_and_code() {
    let endpoint = Endpoint::new("broker-1", 8081);
    let error = Error::new(ErrorKind::NotFound, "no such topic")
        .during(Operation::Receive)
        .on_topic("orders")
        .in_group("billing")
        .at(&endpoint)
        .with_code(40402);
    assert_eq!(
        error.to_string(),
        "receive on topic orders in group billing at broker-1:8081: no such topic (server code 40402)"
    );
}

#[test]
fn an_error_of_a_queue_names_the_queue_and_tells_its_topic() {
    let queue = MessageQueue::new("orders", "broker-a", 3);
    let error = Error::new(ErrorKind::Timeout, "no answer").during(Operation::Pull).on_queue(&queue);
    assert_eq!(error.to_string(), "pull on queue orders@broker-a:3: no answer");
    assert_eq!((error.topic(), error.queue()), (Some("orders"), Some(&queue)));
}

#[test]
fn display_does_not_repeat_its_source() {
    let error = Error::new(ErrorKind::Unavailable, "cannot connect").with_source("refused");
    assert!(!error.to_string().contains("refused"));
    assert_eq!(error.source().map(ToString::to_string), Some("refused".to_owned()));
}

#[test]
fn a_failed_send_gives_the_message_back_also_through_the_crate_error() {
    let failed = SendError::new(OutboundMessage::new("t", "body"), Error::new(ErrorKind::Timeout, "no answer"));
    assert!(failed.may_have_been_stored());
    let unsent = Error::from(failed).into_unsent().expect("the message travels with the error");
    assert_eq!(&unsent[0].body()[..], b"body");
}

#[test]
fn an_error_tells_a_program_what_it_tells_a_person() {
    let endpoint = Endpoint::new("broker-1", 8081);
    let bare = Error::new(ErrorKind::NotFound, "no such topic");
    assert_eq!((bare.operation(), bare.topic(), bare.group(), bare.queue()), (None, None, None, None));
    assert_eq!((bare.endpoint(), bare.server_code(), bare.source().is_none()), (None, None, true));
    let error = bare.during(Operation::Receive).on_topic("orders").in_group("billing").at(&endpoint).with_code(40402);
    assert_eq!(
        (error.kind(), error.text(), error.operation()),
        (ErrorKind::NotFound, "no such topic", Some(Operation::Receive))
    );
    assert_eq!((error.topic(), error.group()), (Some("orders"), Some("billing")));
    assert_eq!((error.endpoint(), error.server_code()), (Some(&endpoint), Some(40402)));
    let worded = error.with_text("create the topic first");
    assert_eq!((worded.text(), worded.server_code()), ("create the topic first", Some(40402)), "the place stays");
}

#[test]
fn what_passes_by_itself_is_retryable_and_what_needs_a_change_is_not() {
    for kind in [ErrorKind::Throttled, ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::Server] {
        assert!(Error::new(kind, "").is_retryable(), "{kind:?}");
    }
    for kind in [ErrorKind::Config, ErrorKind::PermissionDenied, ErrorKind::NotFound, ErrorKind::Closed] {
        assert!(!Error::new(kind, "").is_retryable(), "{kind:?}");
    }
}

#[test]
fn an_error_without_messages_gives_itself_back() {
    let error = Error::new(ErrorKind::Timeout, "no answer").into_unsent().expect_err("nothing to send again");
    assert_eq!(error.to_string(), "no answer");
    let unsent = error.with_unsent(vec![OutboundMessage::new("t", "1"), OutboundMessage::new("t", "2")]);
    assert_eq!(
        unsent.to_string(),
        "no answer (2 messages not sent: Error::into_unsent gives them back)",
        "it says how to get at them"
    );
}

#[test]
fn a_failed_send_says_whether_the_message_may_be_stored_and_gives_it_back() {
    let failed = |kind| SendError::new(OutboundMessage::new("orders", "body"), Error::new(kind, "no answer"));
    let lost = failed(ErrorKind::Timeout);
    assert_eq!(
        lost.to_string(),
        "a message to topic orders was not confirmed: the server may or may not have stored it"
    );
    assert_eq!(StdError::source(&lost).expect("the cause").to_string(), "no answer");
    assert_eq!((lost.kind(), lost.error().text(), lost.message().topic()), (ErrorKind::Timeout, "no answer", "orders"));
    let refused = failed(ErrorKind::TooLarge);
    assert_eq!(refused.to_string(), "a message to topic orders was not sent");
    assert!(!refused.may_have_been_stored());
    assert!(failed(ErrorKind::TooLarge).stored(true).may_have_been_stored(), "by an attempt before");
    assert_eq!(&refused.into_message().body()[..], b"body");
}

#[test]
fn a_settlement_that_failed_says_what_becomes_of_the_message() {
    let refused = AckError::Rejected { code: 40013, message: "receipt handle is expired".into() };
    for (error, text, kind) in [
        (
            AckError::LeaseExpired,
            "the lease ran out first, the message will be delivered again",
            ErrorKind::InvalidReceipt,
        ),
        (refused, "the server refused (40013: receipt handle is expired)", ErrorKind::Server),
        (AckError::Unknown, "the message may be delivered again", ErrorKind::Timeout),
        (AckError::Closed, "the consumer was shut down first", ErrorKind::Closed),
    ] {
        assert!(error.to_string().contains(text), "{error}");
        let whole = Error::from(error.clone());
        assert_eq!((whole.kind(), whole.operation()), (kind, Some(Operation::Ack)));
        assert_eq!(StdError::source(&whole).expect("the cause").to_string(), error.to_string());
    }
}

#[test]
fn a_time_in_an_error_is_told_in_milliseconds() {
    assert_eq!(millis(Duration::from_secs(3)), "3000 ms");
}
