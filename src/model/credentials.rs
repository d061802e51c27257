use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The access key and secret key that requests are signed with (RocketMQ ACL).
///
/// The secret and the token never appear in `Debug`, logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key: Arc<str>,
    secret_key: Arc<str>,
    session_token: Option<Arc<str>>,
}

impl Credentials {
    /// A long-lived pair of keys.
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self { access_key: access_key.into().into(), secret_key: secret_key.into().into(), session_token: None }
    }

    /// Adds the token of a temporary pair of keys. Defaults to none.
    #[must_use]
    pub fn session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(token.into().into());
        self
    }

    /// The public half.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// They travel in a header: an access key of visible ASCII, without what separates the parts of the header.
    pub(crate) fn check(&self) -> Result<()> {
        let is_fit = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        if !is_fit(&self.access_key) || self.access_key.contains([',', '=', '/']) {
            let rule = "the access key must be of visible ASCII characters without `,`, `=` and `/`";
            return Err(Error::config("credentials", self.access_key.escape_debug(), rule));
        }
        if self.secret_key.is_empty() {
            return Err(Error::config("credentials", "", "the secret key must not be empty"));
        }
        if self.token().is_some_and(|token| !is_fit(token)) {
            return Err(Error::config(
                "credentials",
                "(token)",
                "the session token must be of visible ASCII characters",
            ));
        }
        Ok(())
    }

    pub(crate) fn secret_key(&self) -> &str {
        &self.secret_key
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_travel_in_a_header_are_refused_without_the_secret_being_told() {
        let fit = Credentials::new("ak", "sk/=").session_token("t=1");
        fit.check().expect("it can be signed with");
        assert_eq!((fit.access_key(), fit.secret_key(), fit.token()), ("ak", "sk/=", Some("t=1")));
        assert_eq!(Credentials::new("ak", "sk").token(), None);
        for (wrong, rule) in [
            (Credentials::new("", "sk"), "access key"),
            (Credentials::new("a k", "sk"), "access key"),
            (Credentials::new("a,k", "sk"), "access key"),
            (Credentials::new("ak", ""), "secret key"),
            (Credentials::new("ak", "sk").session_token(""), "session token"),
            (Credentials::new("ak", "sk").session_token("a\nsecret"), "session token"),
        ] {
            let error = wrong.check().expect_err(rule).to_string();
            assert!(error.contains(rule) && !error.contains("\nsecret"), "{error}");
        }
    }

    #[test]
    fn e1_a_secret_never_appears_in_debug() {
        let shown = format!("{:?}", Credentials::new("ak", "very-secret").session_token("token-secret"));
        assert!(shown.contains("ak") && !shown.contains("secret"), "{shown}");
    }
}
