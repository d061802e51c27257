//! TLS by rustls, with ring, without the process-wide default provider: the program around us may have chosen another.

use std::sync::Arc;

/// How a server's certificate is judged.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "without TLS they are only refused"))]
pub(crate) struct TlsOptions {
    /// PEM certificates to trust beside those of the system.
    pub(crate) extra_roots: Option<Arc<[u8]>>,
    /// Accept any certificate: the connection is encrypted, but to anyone.
    pub(crate) danger_accept_any_certificate: bool,
}

#[cfg(feature = "tls")]
pub(crate) use with_rustls::{Secured, Tls};
#[cfg(not(feature = "tls"))]
pub(crate) use without::{Secured, Tls};

#[cfg(feature = "tls")]
mod with_rustls {
    use std::io;
    use std::sync::{Arc, OnceLock};

    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

    use super::TlsOptions;
    use crate::error::{Error, ErrorKind, Result};
    use crate::transport::dial::ConnectFailure;

    pub(crate) type Secured = tokio_rustls::client::TlsStream<TcpStream>;

    /// How to shake hands.
    #[derive(Clone)]
    pub(crate) struct Tls(TlsConnector);

    impl Tls {
        /// `protocol`: what is spoken inside, if the server must be told (ALPN).
        pub(crate) fn new(options: &TlsOptions, protocol: Option<&[u8]>) -> Result<Self> {
            let provider = Arc::new(ring::default_provider());
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| Error::new(ErrorKind::Config, "TLS cannot be set up").with_source(error))?;
            let mut config = if options.danger_accept_any_certificate {
                let verifier = Arc::new(AcceptAny(provider));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            } else {
                builder.with_root_certificates(roots(options)?).with_no_client_auth()
            };
            config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
            Ok(Self(TlsConnector::from(Arc::new(config))))
        }

        pub(crate) async fn handshake(&self, host: &str, stream: TcpStream) -> Result<Secured, ConnectFailure> {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| {
                ConnectFailure::new(ErrorKind::Config, format!("no certificate can be for the host name `{host}`"))
            })?;
            self.0.connect(name, stream).await.map_err(|error| failure(host, error))
        }
    }

    impl std::fmt::Debug for Tls {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Tls").finish_non_exhaustive()
        }
    }

    /// Says what to do, as far as the cause tells.
    fn failure(host: &str, error: io::Error) -> ConnectFailure {
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(reason)) => ConnectFailure::new(
                ErrorKind::Config,
                format!(
                    "the certificate of {host} is refused ({reason:?}): trust the authority that signed it \
                     (ca_certificate, ca_certificate_file), or, for tests only, accept any certificate \
                     (danger_accept_any_certificate)"
                ),
            ),
            Some(rustls::Error::InvalidMessage(_)) => ConnectFailure::new(
                ErrorKind::Protocol,
                format!("{host} does not speak TLS here: write `http://{host}:port` if it is meant to be plaintext"),
            ),
            _ => ConnectFailure::new(ErrorKind::Unavailable, format!("the TLS handshake with {host} failed: {error}")),
        }
    }

    fn roots(options: &TlsOptions) -> Result<RootCertStore> {
        let mut roots = RootCertStore::clone(system_roots());
        let Some(pem) = &options.extra_roots else { return Ok(roots) };
        let refuse = |rule: &str| Error::config("ca_certificate", format_args!("{} bytes of PEM", pem.len()), rule);
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| refuse(&format!("are not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| refuse(&format!("hold a certificate that is none: {error}")))?;
            found = true;
        }
        if found { Ok(roots) } else { Err(refuse("hold no `BEGIN CERTIFICATE` block")) }
    }

    /// Read once: it is a few hundred files. Containers without any get Mozilla's, which are compiled in.
    fn system_roots() -> &'static RootCertStore {
        static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
        ROOTS.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            roots
        })
    }

    /// Accepts every certificate. That its owner also has its key is still checked.
    #[derive(Debug)]
    struct AcceptAny(Arc<CryptoProvider>);

    impl ServerCertVerifier for AcceptAny {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

#[cfg(not(feature = "tls"))]
mod without {
    use tokio::net::TcpStream;

    use super::TlsOptions;
    use crate::error::{Error, Result};
    use crate::transport::dial::ConnectFailure;

    pub(crate) type Secured = TcpStream;

    /// There is none: this build cannot shake hands.
    #[derive(Debug, Clone)]
    pub(crate) enum Tls {}

    impl Tls {
        pub(crate) fn new(_: &TlsOptions, _: Option<&[u8]>) -> Result<Self> {
            let rule = "needs the feature `tls` of rocketmq-stream, which this build has not";
            Err(Error::config("scheme", "https://…", rule))
        }

        pub(crate) async fn handshake(&self, _: &str, _: TcpStream) -> Result<Secured, ConnectFailure> {
            match *self {}
        }
    }
}
