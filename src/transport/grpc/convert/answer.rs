//! Judging answers: what each entry of a request came to.

use std::sync::Arc;

use prost::Message as _;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Held, Offset};
use crate::proto;
use crate::transport::grpc::convert::fields::{Fields, Odd, Value, text};
use crate::transport::grpc::convert::status::Context;
use crate::transport::{Sent, Stamped};

/// One answer per entry, in the order of the request.
pub(crate) fn acked(entries: &[Held], response: &[u8], context: &Context) -> Result<Vec<Result<()>>> {
    if all_acked(entries, response).unwrap_or(false) {
        return Ok(entries.iter().map(|_| Ok(())).collect());
    }
    match proto::AckMessageResponse::decode(response) {
        Ok(response) => Ok(ack_answers(entries, &response, context)),
        Err(error) => Err(undecodable(&error, context)),
    }
}

/// Whether each entry was answered with OK, in the order of the request: what nearly every answer says. Whatever else it
/// may be is left to the generated code and [`ack_answers`].
///
/// Handles are not compared: they tell apart entries of one message, and where all are OK there is nothing to tell apart.
/// They lie in the bytes of answers to receives of long ago, far from any cache.
fn all_acked(entries: &[Held], response: &[u8]) -> Result<bool, Odd> {
    let mut waiting = entries.iter();
    let mut fields = Fields::of(response);
    while let Some((number, value)) = fields.next()? {
        let is_as_expected = match number {
            1 => is_ok(response, value)?,
            2 => match waiting.next() {
                Some(held) => is_acked(held, response, value)?,
                None => false,
            },
            _ => true,
        };
        if !is_as_expected {
            return Ok(false);
        }
    }
    Ok(waiting.len() == 0)
}

fn is_acked(held: &Held, response: &[u8], entry: Value) -> Result<bool, Odd> {
    let (mut message_id, mut is_good) = ([].as_slice(), false);
    let mut fields = Fields::within(response, entry.span()?);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => message_id = value.span()?.of(response),
            3 => is_good = is_ok(response, value)?,
            _ => {}
        }
    }
    Ok(is_good && message_id == held.message_id_bytes())
}

fn is_ok(response: &[u8], status: Value) -> Result<bool, Odd> {
    let mut code = 0;
    let mut fields = Fields::within(response, status.span()?);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => code = value.int32()?,
            2 => drop(text(response, value)?),
            _ => {}
        }
    }
    Ok(code == proto::Code::Ok as i32)
}

/// One answer per entry, in the order of the request.
///
/// The server may answer in another order, and with the handle it renewed in the meantime (batch-ack mode, protocol.md B.8):
/// an answer belongs to the entry of the same id and handle, else of the same id, else of the same place.
fn ack_answers(entries: &[Held], response: &proto::AckMessageResponse, context: &Context) -> Vec<Result<()>> {
    let answers = &response.entries;
    let has_id =
        |held: &Held, answer: &proto::AckMessageResultEntry| held.message_id_bytes() == answer.message_id.as_bytes();
    let is_same = |held: &Held, answer: &proto::AckMessageResultEntry| {
        has_id(held, answer) && held.handle_bytes() == answer.receipt_handle.as_bytes()
    };
    let mut places: Vec<Option<usize>> = vec![None; entries.len()];
    let mut free = vec![true; answers.len()];
    match_places(entries, answers, &mut places, &mut free, is_same);
    match_places(entries, answers, &mut places, &mut free, has_id);
    for (at, place) in places.iter_mut().enumerate() {
        if place.is_none() && free.get(at).copied().unwrap_or(false) {
            *place = Some(at);
        }
    }
    let answer = |place: Option<usize>| match place.and_then(|place| answers.get(place)) {
        Some(answer) => context.judge(answer.status.as_ref()),
        None => Err(unanswered(response.status.as_ref(), context)),
    };
    places.into_iter().map(answer).collect()
}

fn match_places(
    entries: &[Held],
    answers: &[proto::AckMessageResultEntry],
    places: &mut [Option<usize>],
    free: &mut [bool],
    belongs: impl Fn(&Held, &proto::AckMessageResultEntry) -> bool,
) {
    for (held, place) in entries.iter().zip(places) {
        if place.is_none() {
            *place = answers.iter().enumerate().position(|(at, answer)| free[at] && belongs(held, answer));
            if let Some(at) = *place {
                free[at] = false;
            }
        }
    }
}

/// An entry without an answer: the overall status if it says why, never success.
fn unanswered(overall: Option<&proto::Status>, context: &Context) -> Error {
    match overall {
        Some(status) if status.code == proto::Code::Ok as i32 || status.code == proto::Code::MultipleResults as i32 => {
            context.error(ErrorKind::Protocol, "the server's answer does not say what became of this message")
        }
        Some(status) => context.refused(status),
        None => context.error(ErrorKind::Protocol, "the server's answer has no status"),
    }
}

/// The new handle. An empty one must never take the place of the old one (trap R6).
pub(crate) fn changed_handle(response: proto::ChangeInvisibleDurationResponse, context: &Context) -> Result<Arc<str>> {
    context.judge(response.status.as_ref())?;
    if response.receipt_handle.is_empty() {
        return Err(context.error(ErrorKind::Protocol, "the server answered OK without a new receipt handle"));
    }
    Ok(response.receipt_handle.into())
}

/// The result of the one message of a send, from the bytes of the answer.
pub(crate) fn sent(stamped: &Stamped, response: &[u8], context: &Context) -> Result<Sent> {
    match proto::SendMessageResponse::decode(response) {
        Ok(response) => read_sent(stamped, response, context),
        Err(error) => Err(undecodable(&error, context)),
    }
}

fn undecodable(error: &prost::DecodeError, context: &Context) -> Error {
    context.error(ErrorKind::Protocol, format!("cannot decode the answer: {error}"))
}

/// The result of the one message of a send. Its entry decides; the overall status speaks when there is none.
fn read_sent(stamped: &Stamped, response: proto::SendMessageResponse, context: &Context) -> Result<Sent> {
    let Some(entry) = response.entries.into_iter().next() else {
        return Err(unanswered(response.status.as_ref(), context));
    };
    context.judge(entry.status.as_ref().or(response.status.as_ref()))?;
    let present = |text: String| (!text.is_empty()).then(|| text.into_boxed_str());
    Ok(Sent {
        message_id: present(entry.message_id).unwrap_or_else(|| (*stamped.id).into()),
        offset: Offset::new(u64::try_from(entry.offset).unwrap_or(0)),
        transaction_id: present(entry.transaction_id),
        recall_handle: present(entry.recall_handle),
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::error::Operation;
    use crate::model::{Endpoint, Held, OutboundMessage};

    fn context() -> Context {
        Context::new(Operation::Ack, &Endpoint::new("proxy", 8081))
    }

    fn status(code: i32) -> Option<proto::Status> {
        Some(proto::Status { code, message: String::new() })
    }

    fn held(id: &str, handle: &str) -> Held {
        Held::new(id, handle)
    }

    fn answer(id: &str, handle: &str, code: i32) -> proto::AckMessageResultEntry {
        proto::AckMessageResultEntry { message_id: id.into(), receipt_handle: handle.into(), status: status(code) }
    }

    fn codes(entries: &[Held], overall: i32, answers: Vec<proto::AckMessageResultEntry>) -> Vec<Option<i32>> {
        let response = proto::AckMessageResponse { status: status(overall), entries: answers };
        let slow = ack_answers(entries, &response, &context());
        let answers = acked(entries, &response.encode_to_vec(), &context()).unwrap();
        let told = |answers: &[Result<()>]| {
            format!("{:?}", answers.iter().map(|one| one.as_ref().err().map(ToString::to_string)).collect::<Vec<_>>())
        };
        assert_eq!(told(&answers), told(&slow), "read quickly or not");
        assert_eq!(answers.len(), entries.len());
        answers
            .into_iter()
            .map(|answer| answer.map_or_else(|error| Some(error.server_code().unwrap_or(-1)), |()| None))
            .collect()
    }

    #[test]
    fn r8_a_multi_entry_ack_is_judged_entry_by_entry() {
        let entries = [held("1", "a"), held("2", "b"), held("3", "c")];
        let answers = vec![answer("1", "a", 20000), answer("2", "b", 40013), answer("3", "c", 20000)];
        assert_eq!(codes(&entries, 30000, answers), [None, Some(40013), None]);
    }

    #[test]
    fn an_answer_that_is_all_good_is_read_quickly() {
        let entries = [held("1", "a"), held("2", "b")];
        let good = || vec![answer("1", "a", 20000), answer("2", "b", 20000)];
        let is_quick = |overall: i32, answers: Vec<_>| {
            let response = proto::AckMessageResponse { status: status(overall), entries: answers }.encode_to_vec();
            all_acked(&entries, &response)
        };
        assert_eq!(is_quick(20000, good()), Ok(true));
        assert_eq!(is_quick(30000, good()), Ok(false));
        assert_eq!(is_quick(20000, vec![answer("1", "a", 20000), answer("2", "renewed", 20000)]), Ok(true));
        for wrong in [answer("2", "b", 40013), answer("3", "b", 20000)] {
            assert_eq!(is_quick(20000, vec![answer("1", "a", 20000), wrong]), Ok(false));
        }
        assert_eq!(is_quick(20000, vec![answer("1", "a", 20000)]), Ok(false), "one is missing");
        assert_eq!(is_quick(20000, [good(), good()].concat()), Ok(false), "there are too many");
        let silent = proto::AckMessageResultEntry { status: None, ..answer("2", "b", 0) };
        assert_eq!(is_quick(20000, vec![answer("1", "a", 20000), silent]), Ok(false), "no status is none");
        let error = acked(&entries, &[0xFF], &context()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.text().contains("cannot decode the answer"), "{error}");
    }

    #[test]
    fn an_answer_finds_its_entry_whatever_the_order_of_the_wire() {
        let entries = [held("1", "a"), held("2", "b"), held("3", "c")];
        let answers = vec![answer("3", "c", 40013), answer("1", "a", 20000), answer("2", "b", 50001)];
        assert_eq!(codes(&entries, 30000, answers), [None, Some(50001), Some(40013)]);
    }

    #[test]
    fn an_answer_with_a_renewed_handle_is_found_by_its_id() {
        let entries = [held("1", "a"), held("2", "b")];
        let answers = vec![answer("2", "renewed", 40013), answer("1", "a", 20000)];
        assert_eq!(codes(&entries, 30000, answers), [None, Some(40013)]);
    }

    #[test]
    fn two_deliveries_of_one_message_are_told_apart_by_their_handles() {
        let entries = [held("1", "a"), held("1", "b")];
        let answers = vec![answer("1", "b", 40013), answer("1", "a", 20000)];
        assert_eq!(codes(&entries, 30000, answers), [None, Some(40013)]);
    }

    #[test]
    fn answers_without_names_are_taken_in_order() {
        let entries = [held("1", "a"), held("2", "b")];
        assert_eq!(codes(&entries, 30000, vec![answer("", "", 20000), answer("", "", 40013)]), [None, Some(40013)]);
    }

    #[test]
    fn an_answer_that_names_nobody_takes_no_entry_from_its_own_answer() {
        let entries = [held("1", "a"), held("2", "b")];
        let answers = vec![answer("9", "z", 40013), answer("1", "a", 20000)];
        assert_eq!(codes(&entries, 30000, answers), [None, Some(-1)]);
    }

    #[test]
    fn r12_an_answer_whose_text_is_no_text_is_an_error_and_no_success() {
        let (entries, ok) = ([held("1", "a")], proto::Status { code: 20000, message: "fine".into() });
        let entry = proto::AckMessageResultEntry { status: Some(ok.clone()), ..answer("1", "a", 20000) };
        let mut response = proto::AckMessageResponse { status: Some(ok), entries: vec![entry] }.encode_to_vec();
        assert!(acked(&entries, &response, &context()).is_ok());
        let text = response.windows(4).position(|window| window == b"fine").unwrap();
        response[text] = 0xFF;
        assert_eq!(acked(&entries, &response, &context()).unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn an_entry_without_an_answer_is_never_a_success() {
        let entries = [held("1", "a"), held("2", "b")];
        assert_eq!(codes(&entries, 20000, vec![answer("1", "a", 20000)]), [None, Some(-1)]);
        assert_eq!(codes(&entries, 30000, vec![]), [Some(-1), Some(-1)]);
        assert_eq!(codes(&entries, 40100, vec![]), [Some(40100), Some(40100)], "the overall status says why");
        let silent = proto::AckMessageResponse { status: None, entries: vec![] };
        assert!(ack_answers(&entries, &silent, &context()).iter().all(Result::is_err));
    }

    #[test]
    fn r6_an_empty_handle_is_an_error() {
        let change = |code, handle: &str| {
            let response =
                proto::ChangeInvisibleDurationResponse { status: status(code), receipt_handle: handle.into() };
            changed_handle(response, &context())
        };
        assert_eq!(&*change(20000, "new").unwrap(), "new");
        assert_eq!(change(20000, "").unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(change(40013, "").unwrap_err().kind(), ErrorKind::InvalidReceipt);
    }

    fn send(overall: i32, entries: Vec<proto::SendResultEntry>) -> Result<Sent> {
        let stamped = Stamped {
            message: OutboundMessage::new("t", "b"),
            id: "own-id".into(),
            born: UNIX_EPOCH,
            born_host: "host".into(),
            transactional: false,
        };
        let response = proto::SendMessageResponse { status: status(overall), entries };
        sent(&stamped, &response.encode_to_vec(), &context())
    }

    #[test]
    fn a_send_is_judged_by_its_entry() {
        let entry = |code| proto::SendResultEntry {
            status: status(code),
            message_id: "id".into(),
            offset: 9,
            recall_handle: "recall".into(),
            ..proto::SendResultEntry::default()
        };
        let sent = send(20000, vec![entry(20000)]).unwrap();
        assert_eq!((&*sent.message_id, sent.offset.get()), ("id", 9));
        assert_eq!((sent.transaction_id.as_deref(), sent.recall_handle.as_deref()), (None, Some("recall")));
        let unsafe_send = send(20000, vec![entry(50402)]).unwrap_err();
        assert_eq!((unsafe_send.kind(), unsafe_send.server_code()), (ErrorKind::Timeout, Some(50402)));
        assert_eq!(send(40402, vec![]).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(send(20000, vec![]).unwrap_err().kind(), ErrorKind::Protocol);
        let bare = proto::SendResultEntry { offset: -1, ..proto::SendResultEntry::default() };
        let bare = send(20000, vec![bare]).unwrap();
        assert_eq!((&*bare.message_id, bare.offset.get()), ("own-id", 0));
    }

    proptest! {
        #[test]
        fn there_is_one_answer_per_entry_whatever_the_server_says(
            entries in prop::collection::vec(("[12]", "[ab]"), 0..8),
            answers in prop::collection::vec(("[12]?", "[ab]?", prop::sample::select(vec![20000, 40013])), 0..8),
        ) {
            let entries: Vec<_> = entries.iter().map(|(id, handle)| held(id, handle)).collect();
            let refused = answers.iter().filter(|(_, _, code)| *code != 20000).count();
            let good = answers.len() - refused;
            let answers = answers.iter().map(|(id, handle, code)| answer(id, handle, *code)).collect();
            let codes = codes(&entries, 30000, answers);
            prop_assert!(codes.iter().filter(|code| code.is_none()).count() <= good, "no answer counts twice");
        }
    }
}
