//! Signing requests, for gRPC (protocol.md A.3) and for remoting (E.8).
//!
//! Over gRPC only the date is signed, so that one signature serves every request of a second. Over remoting all that is
//! sent is signed: nothing may be added afterwards. A server says of a refusal only that it refuses: [`explained`] adds
//! what to do.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha1::Sha1;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::Credentials;

/// The headers that tell who asks, and when. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) date_time: HeaderValue,
    /// `None` without credentials.
    pub(crate) authorization: Option<HeaderValue>,
}

/// Signs with one pair of keys, at most once a second.
pub(crate) struct Signer {
    credentials: Option<Credentials>,
    last: Mutex<Option<(u64, Signed)>>,
}

impl Signer {
    /// Refuses an access key that cannot be written into the header, so that it fails here and not at the first request.
    pub(crate) fn new(credentials: Option<Credentials>) -> Result<Self> {
        if let Some(credentials) = &credentials {
            let key = credentials.access_key();
            let fits = |byte: u8| byte.is_ascii_graphic() && byte != b',';
            if key.is_empty() || !key.bytes().all(fits) {
                let rule = "an access key must be visible ASCII without blanks and commas: it travels in a header";
                return Err(Error::config("credentials", key, rule));
            }
        }
        Ok(Self { credentials, last: Mutex::new(None) })
    }

    /// The headers for a request made at `now`. Within one second they are the same.
    pub(crate) fn sign(&self, now: SystemTime) -> Signed {
        let seconds = unix_seconds(now);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((signed_at, signed)) if *signed_at == seconds => signed.clone(),
            _ => {
                let signed = self.sign_second(seconds);
                *last = Some((seconds, signed.clone()));
                signed
            }
        }
    }

    fn sign_second(&self, seconds: u64) -> Signed {
        let date_time = date_time(seconds);
        let authorization = self.credentials.as_ref().and_then(|credentials| {
            let signature = signature(credentials.secret_key(), &date_time);
            let access_key = credentials.access_key();
            let text =
                format!("MQv2-HMAC-SHA1 Credential={access_key}, SignedHeaders=x-mq-date-time, Signature={signature}");
            let mut value = HeaderValue::try_from(text).ok()?;
            // Keeps it out of Debug, and out of the table of headers that HTTP/2 compresses with.
            value.set_sensitive(true);
            Some(value)
        });
        let date_time = HeaderValue::try_from(date_time).unwrap_or_else(|_| HeaderValue::from_static(""));
        Signed { date_time, authorization }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("date_time", &self.date_time).finish_non_exhaustive()
    }
}

/// HMAC-SHA1 of the date by the secret key, in upper-case hex as the Java client writes it.
pub(crate) fn signature(secret_key: &str, date_time: &str) -> String {
    upper_hex(&hmac_sha1(secret_key, [date_time.as_bytes()]))
}

/// Field of a remoting header that names the caller.
pub(crate) const ACCESS_KEY: &str = "AccessKey";
/// Field of a remoting header with the token of temporary keys.
pub(crate) const SECURITY_TOKEN: &str = "SecurityToken";
/// Field of a remoting header with the signature over all others.
pub(crate) const SIGNATURE: &str = "Signature";

/// Signs a remoting command: HMAC-SHA1, in base64, over the values of all fields but [`SIGNATURE`] in the order of their
/// names, then the body.
pub(crate) fn remoting_signature<'a>(
    secret_key: &str,
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    body: &[u8],
) -> String {
    let mut fields: Vec<_> = fields.filter(|(name, _)| *name != SIGNATURE).collect();
    fields.sort_unstable();
    let parts = fields.into_iter().map(|(_, value)| value.as_bytes()).chain([body]);
    BASE64.encode(hmac_sha1(secret_key, parts))
}

/// What a server says of credentials or rights, and what to do about it. Rights are those of protocol.md A.3 and E.8.
pub(crate) fn explained(operation: Operation, kind: ErrorKind, said: &str) -> Cow<'_, str> {
    let advice = match kind {
        ErrorKind::Unauthenticated if said.contains("username cannot be null") => {
            "this server asks for credentials: set them on the client by `credentials`"
        }
        ErrorKind::Unauthenticated => {
            "check the access key and the secret key that the client was given by `credentials`"
        }
        ErrorKind::PermissionDenied if said.contains("no permission to access") => match operation {
            Operation::Send | Operation::Recall | Operation::EndTransaction => {
                "sending needs the right Pub on the topic: an administrator gives it (mqadmin createAcl, updateAcl)"
            }
            Operation::Pull
            | Operation::QueryOffset
            | Operation::CommitOffset
            | Operation::QueryGroup
            | Operation::CheckFilter => {
                "pulling needs the rights Sub and Get on the topic and Sub on the group: an administrator gives them \
                 (mqadmin createAcl, updateAcl)"
            }
            _ => {
                "receiving needs the right Sub on the topic and on the group, sending Pub on the topic: an administrator \
                 gives them (mqadmin createAcl, updateAcl)"
            }
        },
        _ => return Cow::Borrowed(said),
    };
    Cow::Owned(format!("{}; {advice}", said.trim_end_matches('.')))
}

fn hmac_sha1<'a>(key: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key.as_bytes()) else {
        // HMAC takes keys of every length.
        return Vec::new();
    };
    parts.into_iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

/// `yyyyMMddTHHmmssZ` in UTC. The Java client writes local time there; the server compares it with nothing.
pub(crate) fn date_time(unix_seconds: u64) -> String {
    let (year, month, day) = civil(unix_seconds / 86_400);
    let second = unix_seconds % 86_400;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01. Counts in eras of 400 years (146 097 days) that begin on
/// 1 March, so that the leap day is the last of its year (Howard Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// A clock before 1970 counts as 1970, one after the year 9999 as its end: the text must keep its width.
fn unix_seconds(time: SystemTime) -> u64 {
    const LAST_OF_9999: u64 = 253_402_300_799;
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST_OF_9999)
}

pub(crate) fn upper_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_remoting_command_is_signed_as_the_server_does() {
        // The vector of protocol.md, section I.
        let fields = [
            ("topic", "T"),
            ("consumerGroup", "G"),
            ("queueId", "0"),
            ("bname", "broker-a"),
            (ACCESS_KEY, "accessKey"),
            (SIGNATURE, "what stood there before does not count"),
        ];
        let sign = |body| remoting_signature("secretKey", fields.into_iter(), body);
        assert_eq!(sign(b""), "YQ6M94LJd6ql465PACCbOt/r3OA=");
        assert_ne!(sign(b"x"), sign(b""), "the body is signed, too");
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn signer() -> Signer {
        Signer::new(Some(Credentials::new("accessKey", "secretKey"))).unwrap()
    }

    #[test]
    fn the_signature_is_the_one_a_live_proxy_accepted() {
        // protocol.md section I: 2026-01-01T00:00:00Z.
        let signed = signer().sign(at(1_767_225_600));
        assert_eq!(signed.date_time, "20260101T000000Z");
        assert_eq!(
            signed.authorization.unwrap(),
            "MQv2-HMAC-SHA1 Credential=accessKey, SignedHeaders=x-mq-date-time, \
             Signature=963ABD36AD60920C3F000248E63AD8782DD2A04E"
        );
    }

    #[test]
    fn without_credentials_there_is_a_date_and_no_authorization() {
        let signed = Signer::new(None).unwrap().sign(at(0));
        assert_eq!(signed.date_time, "19700101T000000Z");
        assert!(signed.authorization.is_none());
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_000_000_000, "20010909T014640Z"),
            (1_735_689_599, "20241231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (253_402_300_799, "99991231T235959Z"),
        ] {
            assert_eq!(date_time(seconds), text);
        }
    }

    #[test]
    fn a_second_is_signed_once_and_the_next_one_anew() {
        let signer = signer();
        let first = signer.sign(at(1_000));
        let same = signer.sign(at(1_000) + Duration::from_millis(999));
        let next = signer.sign(at(1_001));
        assert_eq!(first.authorization, same.authorization);
        assert_eq!(first.date_time.as_bytes().as_ptr(), same.date_time.as_bytes().as_ptr(), "shared, not written anew");
        assert_ne!(first.authorization, next.authorization);
    }

    #[test]
    fn a_clock_before_1970_or_beyond_9999_is_still_signed() {
        let signer = Signer::new(None).unwrap();
        assert_eq!(signer.sign(UNIX_EPOCH - Duration::from_secs(5)).date_time, "19700101T000000Z");
        assert_eq!(signer.sign(at(9_999_999_999_999)).date_time, "99991231T235959Z");
    }

    #[test]
    fn an_access_key_that_no_header_can_carry_is_refused() {
        for key in ["", "a,b", "a b", "schlüssel", "a\n"] {
            let error = Signer::new(Some(Credentials::new(key, "s"))).expect_err(key).to_string();
            assert!(error.starts_with("credentials `"), "{error}");
        }
    }

    #[test]
    fn e1_neither_signer_nor_headers_show_the_secret_or_the_signature() {
        let signer = signer();
        let signed = signer.sign(at(1));
        let shown = format!("{signer:?} {signed:?} {:?}", signed.authorization);
        assert!(!shown.contains("secretKey") && !shown.contains("Signature"), "{shown}");
    }

    proptest! {
        #[test]
        fn days_follow_one_another(day in 0u64..2_900_000) {
            let ((y1, m1, d1), (y2, m2, d2)) = (civil(day), civil(day + 1));
            let next_day = (y2, m2) == (y1, m1) && d2 == d1 + 1;
            let next_month = y2 == y1 && m2 == m1 + 1 && d2 == 1 && d1 >= 28;
            let next_year = y2 == y1 + 1 && (m2, d2) == (1, 1) && (m1, d1) == (12, 31);
            prop_assert!(next_day || next_month || next_year, "{day}: {y1}-{m1}-{d1} then {y2}-{m2}-{d2}");
            prop_assert!((1..=12).contains(&m1) && (1..=31).contains(&d1));
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_about_it_and_anything_else_is_told_as_it_was_said() {
        use ErrorKind::{PermissionDenied, Server, Unauthenticated};
        let denied = "User:u has no permission to access Topic:t from 1.2.3.4, no matched policies.";
        for (operation, kind, said, advice) in [
            (Operation::Pull, Unauthenticated, "username cannot be null.", "set them on the client by `credentials`"),
            (Operation::Pull, Unauthenticated, "check signature failed.", "check the access key and the secret key"),
            (Operation::Send, Unauthenticated, "User:x is not found.", "check the access key and the secret key"),
            (Operation::Send, PermissionDenied, denied, "Pub on the topic"),
            (Operation::QueryOffset, PermissionDenied, denied, "Sub and Get on the topic and Sub on the group"),
            (Operation::Receive, PermissionDenied, denied, "Sub on the topic and on the group"),
        ] {
            let text = explained(operation, kind, said);
            assert!(text.starts_with(said.trim_end_matches('.')) && text.contains(advice), "{text}");
        }
        for (kind, said) in [(PermissionDenied, "the topic[t] pulling message is forbidden"), (Server, denied)] {
            assert_eq!(explained(Operation::Pull, kind, said), said);
        }
    }
}
