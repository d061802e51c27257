//! Checking the signature of a command (ACL, protocol.md E.8).

use crate::model::Credentials;
use crate::transport::auth::{ACCESS_KEY, SIGNATURE, remoting_signature};
use crate::transport::remoting::command::Command;

/// Clients up to this version sign a query without the field [`UNIQUE_KEY_QUERY`], although they send it.
const LAST_OLD_VERSION: i32 = 399;
const UNIQUE_KEY_QUERY: &str = "_UNIQUE_KEY_QUERY";

/// `Err` is the server's text.
pub(super) fn check(users: &[Credentials], command: &Command) -> Result<(), String> {
    if users.is_empty() {
        return Ok(());
    }
    let name = command.fields.get(ACCESS_KEY).filter(|name| !name.is_empty()).ok_or("username cannot be null.")?;
    let user = users.iter().find(|user| user.access_key() == name);
    let user = user.ok_or_else(|| format!("User:{name} is not found."))?;
    let is_unsigned = |name: &str| command.version <= LAST_OLD_VERSION && name == UNIQUE_KEY_QUERY;
    let fields = command.fields.iter().filter(|(name, _)| !is_unsigned(name));
    let expected = remoting_signature(user.secret_key(), fields, &command.body);
    if command.fields.get(SIGNATURE) == Some(&*expected) { Ok(()) } else { Err("check signature failed.".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::remoting::command::offset::{MaxOffset, QueueName};

    fn users() -> [Credentials; 1] {
        [Credentials::new("accessKey", "secretKey")]
    }

    /// The vector of protocol.md, section I.
    fn signed() -> Command {
        let mut command = Command::request(&MaxOffset(QueueName { topic: "T".into(), queue: 0 }));
        for (name, value) in [
            ("consumerGroup", "G"),
            ("bname", "broker-a"),
            (ACCESS_KEY, "accessKey"),
            (SIGNATURE, "YQ6M94LJd6ql465PACCbOt/r3OA="),
        ] {
            command.fields.set(name, value);
        }
        command
    }

    #[test]
    fn the_known_vector_passes_and_what_was_changed_after_signing_does_not() {
        assert_eq!(check(&users(), &signed()), Ok(()));
        let mut changed = signed();
        changed.fields.set("queueId", 1);
        assert_eq!(check(&users(), &changed).unwrap_err(), "check signature failed.");
        let with_body = Command { body: "x".into(), ..signed() };
        assert_eq!(check(&users(), &with_body).unwrap_err(), "check signature failed.");
        let mut stranger = signed();
        stranger.fields.set(ACCESS_KEY, "other");
        assert_eq!(check(&users(), &stranger).unwrap_err(), "User:other is not found.");
        let nobody = Command::request(&MaxOffset(QueueName { topic: "T".into(), queue: 0 }));
        assert_eq!(check(&users(), &nobody).unwrap_err(), "username cannot be null.");
        assert_eq!(check(&[], &nobody), Ok(()));
    }

    #[test]
    fn an_old_client_leaves_one_field_out_of_its_signature() {
        let mut command = signed();
        command.fields.set(UNIQUE_KEY_QUERY, "true");
        assert!(check(&users(), &command).is_err());
        command.version = 399;
        assert_eq!(check(&users(), &command), Ok(()));
    }
}
