//! The metadata of every request (protocol.md A.2).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;

use crate::error::{Error, Result};
use crate::transport::auth::Signer;
use crate::transport::grpc::GrpcConfig;

/// The server compares it as text with "5.0.3", and takes what is smaller for a client of the first days, which it answers
/// with other codes (protocol.md B.1). So it says which protocol this crate speaks, not the crate's own version: "0.1.0"
/// would be smaller, and "5.10.0" too would be smaller than "5.2".
pub(crate) const CLIENT_VERSION: &str = "5.5.0";

/// One of the server's enum of remoting languages, exactly so; another word makes the registration fail (A.2).
const LANGUAGE: HeaderValue = HeaderValue::from_static("RUST");
const PROTOCOL: HeaderValue = HeaderValue::from_static("v2");

const CLIENT_ID: HeaderName = HeaderName::from_static("x-mq-client-id");
const DATE_TIME: HeaderName = HeaderName::from_static("x-mq-date-time");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-mq-request-id");

/// Writes the headers of one client identity. What does not change from request to request is written once.
pub(crate) struct Headers {
    fixed: HeaderMap,
    signer: Signer,
    /// Sets the request ids of this client apart from those of others; they are only for the server's log.
    prefix: u32,
    requests: AtomicU64,
}

impl Headers {
    pub(crate) fn new(config: &GrpcConfig) -> Result<Self> {
        let value = |field: &str, text: &str| {
            let refuse = |_| Error::config(field, text, "must be visible ASCII: it travels in a header");
            HeaderValue::from_str(text).map_err(refuse)
        };
        // As many as there are with the changing ones, so that a copy has room for all.
        let mut fixed = HeaderMap::with_capacity(12);
        fixed.insert(CLIENT_ID, value("client id", &config.client_id)?);
        fixed.insert(HeaderName::from_static("x-mq-language"), LANGUAGE);
        fixed.insert(HeaderName::from_static("x-mq-protocol"), PROTOCOL);
        fixed.insert(HeaderName::from_static("x-mq-client-version"), HeaderValue::from_static(CLIENT_VERSION));
        fixed.insert(HeaderName::from_static("x-mq-namespace"), value("namespace", &config.namespace)?);
        if let Some(token) = config.credentials.as_ref().and_then(|credentials| credentials.token()) {
            let rule = "the session token must be visible ASCII: it travels in a header";
            let mut token = HeaderValue::from_str(token).map_err(|_| Error::config("credentials", "…", rule))?;
            token.set_sensitive(true);
            fixed.insert(HeaderName::from_static("x-mq-session-token"), token);
        }
        let signer = Signer::new(config.credentials.clone())?;
        Ok(Self { fixed, signer, prefix: fastrand::u32(..), requests: AtomicU64::new(0) })
    }

    /// The metadata of the next request.
    pub(crate) fn next(&self, now: SystemTime) -> MetadataMap {
        let mut headers = self.fixed.clone();
        let signed = self.signer.sign(now);
        headers.insert(DATE_TIME, signed.date_time);
        if let Some(authorization) = signed.authorization {
            headers.insert(http::header::AUTHORIZATION, authorization);
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut id) = HeaderValue::try_from(format!("{:08x}-{number:x}", self.prefix)) {
            // Not a secret: it keeps a value that never comes again out of HPACK's table, where it would push out the rest.
            id.set_sensitive(true);
            headers.insert(REQUEST_ID, id);
        }
        MetadataMap::from_headers(headers)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers").field("client_id", &self.fixed.get(CLIENT_ID)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::model::Credentials;
    use crate::transport::grpc::tests::config;

    #[test]
    fn a_request_says_who_asks_and_when() {
        let credentials = Credentials::new("accessKey", "secretKey").session_token("session-secret");
        let headers = Headers::new(&GrpcConfig { credentials: Some(credentials), ..config() }).unwrap();
        let first = headers.next(UNIX_EPOCH + Duration::from_secs(1_767_225_600)).into_headers();
        for (name, value) in [
            ("x-mq-client-id", "host@1@0@test"),
            ("x-mq-language", "RUST"),
            ("x-mq-protocol", "v2"),
            ("x-mq-client-version", "5.5.0"),
            ("x-mq-namespace", ""),
            ("x-mq-session-token", "session-secret"),
            ("x-mq-date-time", "20260101T000000Z"),
        ] {
            assert_eq!(first[name], value, "{name}");
        }
        assert!(first["authorization"].to_str().unwrap().ends_with("963ABD36AD60920C3F000248E63AD8782DD2A04E"));
        let second = headers.next(UNIX_EPOCH).into_headers();
        assert_ne!(first["x-mq-request-id"], second["x-mq-request-id"]);
        let shown = format!("{headers:?} {first:?}");
        assert!(!shown.contains("session-secret") && !shown.contains("963ABD"), "{shown}");
    }

    #[test]
    fn the_version_is_not_taken_for_an_old_client() {
        assert!(CLIENT_VERSION >= "5.0.3");
    }

    #[test]
    fn what_no_header_can_carry_is_refused() {
        let error = Headers::new(&GrpcConfig { client_id: "a\nb".into(), ..config() }).unwrap_err();
        assert!(error.to_string().starts_with("client id `"), "{error}");
        let error = Headers::new(&GrpcConfig { namespace: "ö\u{1}".into(), ..config() }).unwrap_err();
        assert!(error.to_string().starts_with("namespace `"), "{error}");
        let token = Credentials::new("a", "b").session_token("secret\n");
        let error = Headers::new(&GrpcConfig { credentials: Some(token), ..config() }).unwrap_err().to_string();
        assert!(error.contains("session token") && !error.contains("secret"), "{error}");
    }
}
