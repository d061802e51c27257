use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use crate::error::{Error, Result};

/// A host and a port. The host is a DNS name, an IPv4 or an IPv6 address (without brackets).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    host: Arc<str>,
    port: u16,
}

impl Endpoint {
    /// An endpoint from its parts. An IPv6 literal goes without brackets.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into().into(), port }
    }

    /// Reads `host:port`, as servers write it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        parse_host_port(text).ok()
    }

    /// The DNS name or address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_ipv6(&self) -> bool {
        self.host.parse::<Ipv6Addr>().is_ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ipv6() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How the connection is protected: the scheme of the access point decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// No scheme or `http://`.
    Plaintext,
    /// `https://`.
    Tls,
}

/// Where a client enters the cluster: `[http[s]://]host:port[;host:port…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessPoint {
    pub(crate) scheme: Scheme,
    /// Never empty.
    pub(crate) endpoints: Vec<Endpoint>,
}

impl AccessPoint {
    /// `field` is the setter it was given to, for the error.
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self> {
        let fail = |rule: &str| Error::config(field, text, rule);
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Plaintext, text),
            Some(("http", rest)) => (Scheme::Plaintext, rest),
            Some(("https", rest)) => (Scheme::Tls, rest),
            Some((other, _)) => {
                return Err(fail(&format!(
                    "unknown scheme `{other}`; write `host:port` or `http://host:port` for plaintext, `https://host:port` for TLS"
                )));
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let endpoints = rest.split(';').map(|part| parse_host_port(part).map_err(|rule| fail(&rule)));
        Ok(Self { scheme, endpoints: endpoints.collect::<Result<_>>()? })
    }
}

fn parse_host_port(text: &str) -> Result<Endpoint, String> {
    let text = text.trim();
    let missing_port =
        || format!("`{text}` has no port; RocketMQ's proxy listens on 8081, a name server on 9876: `{text}:8081`");
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| format!("`{text}` has no closing bracket"))?;
        host.parse::<Ipv6Addr>().map_err(|_| format!("`{host}` is not an IPv6 address"))?;
        (host, rest.strip_prefix(':').ok_or_else(missing_port)?)
    } else {
        let (host, port) = text.rsplit_once(':').ok_or_else(missing_port)?;
        if host.contains(':') {
            return Err(format!("write the IPv6 address of `{text}` in brackets: `[::1]:8081`"));
        }
        (host, port)
    };
    if host.is_empty() {
        return Err(format!("`{text}` has no host"));
    }
    if let Some(wrong) = host.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))) {
        return Err(format!("{wrong:?} may not stand in a host name"));
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Err(format!("`{port}` is not a port (1 to 65535)")),
        Ok(port) => Ok(Endpoint::new(host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_points_are_read() {
        for (text, scheme, endpoints) in [
            ("localhost:8081", Scheme::Plaintext, vec![Endpoint::new("localhost", 8081)]),
            ("http://10.0.0.1:80/", Scheme::Plaintext, vec![Endpoint::new("10.0.0.1", 80)]),
            ("https://mq.example.org:443", Scheme::Tls, vec![Endpoint::new("mq.example.org", 443)]),
            ("[::1]:8081", Scheme::Plaintext, vec![Endpoint::new("::1", 8081)]),
            (
                "10.0.0.1:1;10.0.0.2:2",
                Scheme::Plaintext,
                vec![Endpoint::new("10.0.0.1", 1), Endpoint::new("10.0.0.2", 2)],
            ),
        ] {
            assert_eq!(AccessPoint::parse("access_point", text).expect(text), AccessPoint { scheme, endpoints });
        }
    }

    #[test]
    fn a_wrong_access_point_is_refused_with_its_field_value_and_rule() {
        for (text, rule) in [
            ("", "has no port"),
            ("localhost", "has no port"),
            ("localhost:", "is not a port"),
            ("localhost:0", "is not a port"),
            ("localhost:70000", "is not a port"),
            (":8081", "has no host"),
            ("::1:8081", "in brackets"),
            ("[::1]", "has no port"),
            ("[nonsense]:1", "not an IPv6 address"),
            ("[::1:1", "closing bracket"),
            ("ftp://a:1", "unknown scheme"),
            ("a:1;", "has no port"),
            ("a b:1", "' '"),
        ] {
            let error = AccessPoint::parse("access_point", text).expect_err(text).to_string();
            assert!(error.contains(rule) && error.contains("access_point"), "{text}: {error}");
        }
    }

    #[test]
    fn an_ipv6_endpoint_is_shown_in_brackets() {
        assert_eq!(Endpoint::new("::1", 8081).to_string(), "[::1]:8081");
        assert_eq!(Endpoint::new("mq-1", 8081).to_string(), "mq-1:8081");
    }

    #[test]
    fn an_endpoint_is_read_back_as_it_is_shown() {
        for (host, port) in [("::1", 10911), ("10.0.0.1", 1), ("mq_1.example.org", 65535)] {
            let endpoint = Endpoint::parse(&Endpoint::new(host, port).to_string()).expect("it was one");
            assert_eq!((endpoint.host(), endpoint.port()), (host, port));
        }
        assert_eq!(Endpoint::parse("10.0.0.1"), None);
    }
}
