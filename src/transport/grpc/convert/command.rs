//! What goes over the telemetry stream (protocol.md A.11).

use crate::model::Message;
use crate::proto::telemetry_command::Command;
use crate::proto::{self, Code};
use crate::transport::grpc::convert::message::{Reading, read};
use crate::transport::grpc::convert::request::Requests;
use crate::transport::grpc::convert::settings::server_settings;
use crate::transport::grpc::convert::status::Context;
use crate::transport::{ClientReply, ServerCommand};

/// A command of the server. `reading` is for the message of a transaction check, whose topic is in the message.
pub(crate) fn server_command(
    command: proto::TelemetryCommand,
    reading: &Reading,
    namespace: &str,
    context: &Context,
) -> ServerCommand {
    // A refusal is a status and nothing else, and the stream then ends as if all were well (protocol.md A.3).
    if let Some(status) = command.status.filter(|status| status.code != Code::Ok as i32) {
        return ServerCommand::Refused(context.refused(&status));
    }
    match command.command {
        Some(Command::Settings(settings)) => ServerCommand::Settings(server_settings(&settings)),
        Some(Command::RecoverOrphanedTransactionCommand(check)) => {
            let message = check.message.unwrap_or_default();
            let topic = message.topic.as_ref().map_or_else(String::new, |topic| stored_name(topic, namespace));
            let reading = Reading { topic: topic.into(), ..reading.clone() };
            ServerCommand::CheckTransaction {
                message: Message::new(read(message, &reading).0),
                transaction_id: check.transaction_id,
            }
        }
        Some(Command::PrintThreadStackTraceCommand(print)) => ServerCommand::PrintThreads { nonce: print.nonce },
        Some(Command::VerifyMessageCommand(verify)) => ServerCommand::VerifyMessage { nonce: verify.nonce },
        Some(Command::ReconnectEndpointsCommand(_)) => ServerCommand::Reconnect,
        Some(
            Command::ThreadStackTrace(_) | Command::VerifyMessageResult(_) | Command::NotifyUnsubscribeLiteCommand(_),
        )
        | None => ServerCommand::Unknown,
    }
}

/// The proxy splits the stored name at `%`; what is before it is no namespace unless it is this client's.
fn stored_name(topic: &proto::Resource, namespace: &str) -> String {
    match topic.resource_namespace.as_str() {
        "" => topic.name.clone(),
        own if own == namespace => topic.name.clone(),
        part => format!("{part}%{}", topic.name),
    }
}

/// What this client says.
pub(crate) fn reply(reply: ClientReply, requests: &Requests) -> proto::TelemetryCommand {
    let status = |code: Code| Some(proto::Status { code: code as i32, message: String::new() });
    match reply {
        ClientReply::Settings(settings) => {
            proto::TelemetryCommand { status: None, command: Some(Command::Settings(requests.settings(&settings))) }
        }
        ClientReply::Threads { nonce, text } => proto::TelemetryCommand {
            status: status(Code::Ok),
            command: Some(Command::ThreadStackTrace(proto::ThreadStackTrace { nonce, thread_stack_trace: Some(text) })),
        },
        ClientReply::CannotVerify { nonce } => proto::TelemetryCommand {
            status: status(Code::NotImplemented),
            command: Some(Command::VerifyMessageResult(proto::VerifyMessageResult { nonce })),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, Operation};
    use crate::model::Endpoint;

    fn read_command(status: Option<i32>, command: Option<Command>) -> ServerCommand {
        let reading = Reading {
            topic: "".into(),
            broker: None,
            max_decompressed_size: 1 << 20,
            check_digest: false,
            is_delivery: false,
        };
        let context = Context::new(Operation::Handshake, &Endpoint::new("proxy", 8081));
        let status = status.map(|code| proto::Status { code, message: "text".into() });
        server_command(proto::TelemetryCommand { status, command }, &reading, "ns", &context)
    }

    #[test]
    fn a_command_that_is_only_a_status_is_a_refusal() {
        let ServerCommand::Refused(error) = read_command(Some(40100), None) else { panic!("not refused") };
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Unauthenticated, Some(Operation::Handshake)));
        assert!(matches!(read_command(Some(20000), None), ServerCommand::Unknown));
    }

    #[test]
    fn commands_are_told_apart() {
        let settings = Command::Settings(proto::Settings::default());
        assert!(matches!(read_command(Some(20000), Some(settings.clone())), ServerCommand::Settings(_)));
        assert!(matches!(read_command(None, Some(settings)), ServerCommand::Settings(_)));
        let nonce = || "7".to_owned();
        let print = Command::PrintThreadStackTraceCommand(proto::PrintThreadStackTraceCommand { nonce: nonce() });
        assert!(matches!(read_command(None, Some(print)), ServerCommand::PrintThreads { nonce } if nonce == "7"));
        let verify = Command::VerifyMessageCommand(proto::VerifyMessageCommand { nonce: nonce(), message: None });
        assert!(matches!(read_command(None, Some(verify)), ServerCommand::VerifyMessage { nonce } if nonce == "7"));
        let reconnect = Command::ReconnectEndpointsCommand(proto::ReconnectEndpointsCommand { nonce: nonce() });
        assert!(matches!(read_command(None, Some(reconnect)), ServerCommand::Reconnect));
        assert!(matches!(read_command(None, None), ServerCommand::Unknown));
    }

    #[test]
    fn a_transaction_check_brings_the_message_under_its_stored_topic() {
        for (namespace, name, topic) in [("", "orders", "orders"), ("ns", "orders", "orders"), ("a", "b", "a%b")] {
            let message = proto::Message {
                topic: Some(proto::Resource { resource_namespace: namespace.into(), name: name.into() }),
                system_properties: Some(proto::SystemProperties {
                    message_id: "01".into(),
                    ..proto::SystemProperties::default()
                }),
                ..proto::Message::default()
            };
            let check =
                proto::RecoverOrphanedTransactionCommand { message: Some(message), transaction_id: "tx".into() };
            let command = read_command(None, Some(Command::RecoverOrphanedTransactionCommand(check)));
            let ServerCommand::CheckTransaction { message, transaction_id } = command else { panic!("{command:?}") };
            assert_eq!((message.topic(), message.id(), &*transaction_id), (topic, "01", "tx"));
            assert_eq!(message.corrupted(), None);
        }
    }

    #[test]
    fn replies_carry_their_nonce_and_status() {
        let requests = Requests::new("".into(), &[], "id", "5.5.0");
        let threads = reply(ClientReply::Threads { nonce: "7".into(), text: "main".into() }, &requests);
        assert_eq!(threads.status.unwrap().code, 20000);
        assert!(matches!(threads.command, Some(Command::ThreadStackTrace(trace)) if trace.nonce == "7"));
        let cannot = reply(ClientReply::CannotVerify { nonce: "8".into() }, &requests);
        assert_eq!(cannot.status.unwrap().code, 50100);
        assert!(matches!(cannot.command, Some(Command::VerifyMessageResult(result)) if result.nonce == "8"));
    }
}
