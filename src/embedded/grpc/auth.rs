//! Checking signatures (ACL): HMAC-SHA1 over the date header, in hex.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::model::Credentials;

/// `Err` is the server's text.
pub(super) fn check(users: &[Credentials], authorization: Option<&str>, date: Option<&str>) -> Result<(), String> {
    if users.is_empty() {
        return Ok(());
    }
    let authorization = authorization.ok_or("username cannot be null.")?;
    let date = date.filter(|date| !date.is_empty()).ok_or("datetime is null.")?;
    let (user, signature) = fields(authorization).ok_or("authentication header is incorrect.")?;
    let known = users.iter().find(|known| known.access_key() == user);
    let known = known.ok_or_else(|| format!("User:{user} is not found."))?;
    if signature.eq_ignore_ascii_case(&sign(known.secret_key(), date)) {
        Ok(())
    } else {
        Err("check signature failed.".into())
    }
}

/// Access key and signature of `<algorithm> Credential=<ak>[/…], SignedHeaders=…, Signature=<hex>`.
fn fields(authorization: &str) -> Option<(&str, &str)> {
    let (_algorithm, rest) = authorization.split_once(' ')?;
    let field = |name: &str| {
        let mut fields = rest.split(',').filter_map(|field| field.trim().split_once('='));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let credential = field("Credential")?;
    Some((credential.split('/').next().unwrap_or(credential), field("Signature")?))
}

fn sign(secret: &str, date: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(date.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "20260101T000000Z";
    const GOOD: &str = "MQv2-HMAC-SHA1 Credential=accessKey, SignedHeaders=x-mq-date-time, Signature=963ABD36AD60920C3F000248E63AD8782DD2A04E";

    fn checked(authorization: Option<&str>, date: Option<&str>) -> Result<(), String> {
        check(&[Credentials::new("accessKey", "secretKey")], authorization, date)
    }

    #[test]
    fn the_known_vector_passes_in_either_case_and_with_the_suffix_of_the_go_client() {
        assert_eq!(checked(Some(GOOD), Some(DATE)), Ok(()));
        let lower =
            GOOD.replace("963ABD36AD60920C3F000248E63AD8782DD2A04E", "963abd36ad60920c3f000248e63ad8782dd2a04e");
        assert_eq!(checked(Some(&lower), Some(DATE)), Ok(()));
        assert_eq!(checked(Some(&GOOD.replace("accessKey", "accessKey//Rocketmq")), Some(DATE)), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_said_in_the_servers_words() {
        let failed = |authorization, date| checked(authorization, date).unwrap_err();
        assert_eq!(failed(None, Some(DATE)), "username cannot be null.");
        assert_eq!(failed(Some(GOOD), None), "datetime is null.");
        assert_eq!(failed(Some("nonsense"), Some(DATE)), "authentication header is incorrect.");
        assert_eq!(failed(Some(GOOD), Some("20260101T000001Z")), "check signature failed.");
        assert_eq!(failed(Some(&GOOD.replace("accessKey", "other")), Some(DATE)), "User:other is not found.");
    }

    #[test]
    fn without_users_everyone_may_come() {
        assert_eq!(check(&[], None, None), Ok(()));
    }
}
