//! Who sends a request: its metadata.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tonic::Request;
use tonic::metadata::MetadataMap;

use super::{auth, status};
use crate::embedded::settings::ServerConfig;
use crate::embedded::socket::ConnectionInfo;
use crate::proto::{self, Code};

/// The remoting names of languages; others are refused.
const LANGUAGES: [&str; 14] = [
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST",
    "NODE_JS",
];

#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) client_id: Arc<str>,
    pub(super) language: Option<String>,
    pub(super) version: Option<String>,
    pub(super) peer: Option<SocketAddr>,
    /// The time the client gives the server, if it says.
    pub(super) deadline: Option<Duration>,
}

impl Caller {
    /// Reads the metadata and judges it as Apache's pipeline does: client id first, then the signature.
    pub(super) fn admit<T>(config: &ServerConfig, request: &Request<T>) -> Result<Self, proto::Status> {
        let metadata = request.metadata();
        let client_id = text(metadata, "x-mq-client-id").filter(|id| !id.trim().is_empty());
        let client_id = client_id.ok_or_else(|| status(Code::ClientIdRequired, "client id cannot be empty"))?;
        auth::check(&config.credentials, text(metadata, "authorization"), text(metadata, "x-mq-date-time"))
            .map_err(|text| status(Code::Unauthorized, text))?;
        Ok(Self {
            client_id: client_id.into(),
            language: text(metadata, "x-mq-language").map(Into::into),
            version: text(metadata, "x-mq-client-version").map(Into::into),
            peer: request.extensions().get::<ConnectionInfo>().map(ConnectionInfo::peer),
            deadline: text(metadata, "grpc-timeout").and_then(timeout),
        })
    }

    /// Registration needs a language the server knows.
    pub(super) fn check_language(&self) -> Result<(), String> {
        match self.language.as_deref() {
            Some(language) if LANGUAGES.contains(&language) => Ok(()),
            Some(language) => Err(format!("No enum constant LanguageCode.{language}")),
            None => Err("Name is null".into()),
        }
    }

    /// Clients before 5.0.3 get another code for a poll that is too short; compared as text, as Apache does.
    pub(super) fn is_old(&self) -> bool {
        self.version.as_deref().is_none_or(|version| version < "5.0.3")
    }
}

fn text<'a>(metadata: &'a MetadataMap, key: &str) -> Option<&'a str> {
    metadata.get(key)?.to_str().ok()
}

/// gRPC's wire format: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_in_every_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("23000m", Some(Duration::from_secs(23))),
            ("5000000u", Some(Duration::from_secs(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("5x", None),
            ("ü", None),
        ] {
            assert_eq!(timeout(text), expected, "{text}");
        }
    }

    #[test]
    fn a_blank_client_id_is_refused_before_anything_else() {
        let config = ServerConfig { credentials: vec![crate::Credentials::new("a", "b")], ..ServerConfig::default() };
        let mut request = Request::new(());
        request.metadata_mut().insert("x-mq-client-id", " ".parse().unwrap());
        assert_eq!(Caller::admit(&config, &request).unwrap_err().code(), Code::ClientIdRequired);
        request.metadata_mut().insert("x-mq-client-id", "c".parse().unwrap());
        assert_eq!(Caller::admit(&config, &request).unwrap_err().code(), Code::Unauthorized);
        let caller = Caller::admit(&ServerConfig::default(), &request).unwrap();
        assert!(caller.is_old() && caller.check_language().is_err());
    }
}
