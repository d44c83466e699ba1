//! Which servers are trusted, and the certificate that a server asks us for.
//!
//! Trusted are the certificates of the system (`SSL_CERT_FILE` and `SSL_CERT_DIR` say where else
//! they are), and those in `NIX_SSL_CERT_FILE` or, if that is not set, `ssl-cert-file` of
//! `nix.conf`. Where there are none, as in a bare container, those that browsers trust are used,
//! which are compiled in.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::cache::error::{Error, Result};
use crate::cache::{CacheOptions, CacheUrl};
use crate::nix_config::NixConfig;

/// How connections to the servers of a cache are secured.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: ClientConfig,
    verifier: Arc<Verifier>,
}

impl Tls {
    /// Reads the client certificate, if the URL names one. Trusted certificates are read when the
    /// first server shows its own.
    pub(crate) fn new(url: &CacheUrl) -> Result<Self> {
        Self::with(url, certificate_file())
    }

    fn with(url: &CacheUrl, certificate_file: Option<PathBuf>) -> Result<Self> {
        let failed = |reason: String| Error::Configuration { cache: url.to_string(), reason };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            Arc::new(Verifier { provider: Arc::clone(&provider), certificate_file, trusted: OnceLock::new() });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
        let config = match url.parameter("tls-certificate").map(Path::new) {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let chain = certificates(file).map_err(failed)?;
                let key_file = url.parameter("tls-private-key").map_or(file, Path::new);
                let key = PrivateKeyDer::from_pem_file(key_file)
                    .map_err(|error| failed(format!("private key {}: {error}", key_file.display())))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| failed(format!("client certificate {}: {error}", file.display())))?
            }
        };
        Ok(Self { config, verifier })
    }

    /// The beginning of a client.
    pub(crate) fn client(&self, options: &CacheOptions, http2: bool) -> reqwest::ClientBuilder {
        let mut config = self.config.clone();
        config.alpn_protocols =
            if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .user_agent(crate::cache::USER_AGENT)
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.timeout)
            // What is encoded is decoded above, where ranges and sizes are known.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate();
        if http2 { builder } else { builder.http1_only() }
    }

    /// All trusted certificates, one after the other, as PEM.
    #[cfg(feature = "s3")]
    pub(crate) fn trusted_pem(&self) -> String {
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let pem = |certificate: &CertificateDer<'_>| {
            format!("{begin}{}\n-----END CERTIFICATE-----\n", data_encoding::BASE64.encode(certificate))
        };
        self.verifier.trusted().certificates.iter().map(pem).collect()
    }
}

fn certificates(file: &Path) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| format!("certificates in {}: {error}", file.display());
    let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(failed)?.collect();
    let read = read.map_err(failed)?;
    if read.is_empty() { Err(format!("{} holds no certificate in PEM", file.display())) } else { Ok(read) }
}

#[derive(Debug)]
struct Trusted {
    /// None if there is not one usable certificate.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    certificates: Vec<CertificateDer<'static>>,
    /// What could not be read.
    problems: Vec<String>,
}

impl Trusted {
    fn load(provider: &Arc<CryptoProvider>, file: Option<&Path>) -> Self {
        let found = rustls_native_certs::load_native_certs();
        let mut problems: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let mut certificates = found.certs;
        if let Some(file) = file {
            match self::certificates(file) {
                Ok(read) => certificates.extend(read),
                Err(problem) => problems.push(problem),
            }
        }
        let usable = |certificates: &mut Vec<CertificateDer<'static>>| {
            let mut store = RootCertStore::empty();
            certificates.retain(|certificate| store.add(certificate.clone()).is_ok());
            store
        };
        let mut store = usable(&mut certificates);
        if store.is_empty() {
            tracing::debug!("no certificates of authorities on this machine: those that are compiled in are used");
            certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec();
            store = usable(&mut certificates);
        }
        for problem in &problems {
            tracing::debug!("{problem}");
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build().ok();
        Self { verifier, certificates, problems }
    }
}

/// The file that a user of Nix names certificates in.
fn certificate_file() -> Option<PathBuf> {
    let named = std::env::var_os("NIX_SSL_CERT_FILE").filter(|file| !file.is_empty()).map(PathBuf::from);
    named.or_else(|| {
        let config = NixConfig::load_leniently();
        config.get("ssl-cert-file").filter(|file| !file.is_empty()).map(PathBuf::from)
    })
}

/// Verifies the certificates of servers as browsers do, and takes one that is trusted by itself
/// even if it says that it is an authority: what `openssl req -x509` makes is like that, and curl
/// and Nix take it.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    certificate_file: Option<PathBuf>,
    trusted: OnceLock<Trusted>,
}

impl Verifier {
    fn trusted(&self) -> &Trusted {
        self.trusted.get_or_init(|| Trusted::load(&self.provider, self.certificate_file.as_deref()))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let trusted = self.trusted();
        let Some(verifier) = &trusted.verifier else {
            return Err(explained("UnknownIssuer", &trusted.problems));
        };
        match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // That it is an authority's is found after its period of validity was looked at.
            Err(error) if is_authority(&error) => {
                if !trusted.certificates.iter().any(|certificate| certificate == end_entity) {
                    return Err(explained("CaUsedAsEndEntity", &trusted.problems));
                }
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                Err(explained("UnknownIssuer", &trusted.problems))
            }
            // A trusted authority has the name of the one that has signed it, and another key.
            Err(TlsError::InvalidCertificate(CertificateError::BadSignature)) => {
                Err(explained("BadSignature", &trusted.problems))
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate was refused only because it is that of an authority.
fn is_authority(error: &TlsError) -> bool {
    let TlsError::InvalidCertificate(CertificateError::Other(OtherError(error))) = error else { return false };
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Why the certificate of a server is not trusted, and what to do.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid peer certificate: {what}: neither it nor one that has signed it is trusted here. Set NIX_SSL_CERT_FILE to a PEM \
     file that holds it, or the one of the authority that has signed it{problems}"
)]
struct Untrusted {
    what: &'static str,
    problems: String,
}

fn explained(what: &'static str, problems: &[String]) -> TlsError {
    let problems = if problems.is_empty() { String::new() } else { format!(" (unread: {})", problems.join("; ")) };
    TlsError::Other(OtherError(Arc::new(Untrusted { what, problems })))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::ffi::OsStr;
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    struct Certificate {
        params: CertificateParams,
        key: KeyPair,
        pem: String,
        der: CertificateDer<'static>,
    }

    impl Certificate {
        /// A certificate for `localhost`, signed by itself or by another one.
        fn new(is_authority: bool, issuer: Option<&Self>, expired: bool) -> Self {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            if is_authority {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            if expired {
                params.not_after = rcgen::date_time_ymd(2001, 1, 1);
                params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            }
            let key = KeyPair::generate().unwrap();
            let signed = match issuer {
                None => params.self_signed(&key),
                Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
            };
            let signed = signed.unwrap();
            Self { params, key, pem: signed.pem(), der: signed.der().clone() }
        }

        fn private(&self) -> PrivateKeyDer<'static> {
            PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
        }
    }

    fn tls(parameters: &str, certificate_file: Option<&Path>) -> Tls {
        let url = CacheUrl::parse(OsStr::new(&format!("https://localhost/{parameters}"))).unwrap();
        Tls::with(&url, certificate_file.map(Path::to_owned)).unwrap()
    }

    /// Whether client and server find each other good, in memory.
    fn shake_hands(
        tls: &Tls,
        server: &Certificate,
        name: &'static str,
        client_root: Option<&Certificate>,
    ) -> std::result::Result<(), TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let builder = match client_root {
            None => builder.with_no_client_auth(),
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(root.der.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(vec![server.der.clone()], server.private()).unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let mut client = ClientConnection::new(Arc::new(tls.config.clone()), name).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut sent = Vec::new();
            client.write_tls(&mut sent).unwrap();
            server.read_tls(&mut &sent[..]).unwrap();
            server.process_new_packets()?;
            let mut sent = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut sent).unwrap();
            }
            let mut rest = &sent[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(())
    }

    #[test]
    fn what_a_user_trusts_is_accepted_and_what_else_is_wrong_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let trusting = |certificate: &Certificate| {
            let file = folder.path().join("trusted.pem");
            fs::write(&file, &certificate.pem).unwrap();
            tls("", Some(&file))
        };
        let authority = Certificate::new(true, None, false);
        let of_authority = Certificate::new(false, Some(&authority), false);
        assert_eq!(shake_hands(&trusting(&authority), &of_authority, "localhost", None), Ok(()));
        // As `openssl req -x509` makes them, and as others do.
        for certificate in [&authority, &Certificate::new(false, None, false)] {
            assert_eq!(shake_hands(&trusting(certificate), certificate, "localhost", None), Ok(()));
            assert!(shake_hands(&trusting(certificate), certificate, "other.example", None).is_err());
        }
        let other = Certificate::new(true, None, false);
        for certificate in [&of_authority, &authority] {
            let refused = shake_hands(&trusting(&other), certificate, "localhost", None).unwrap_err().to_string();
            assert!(refused.contains("invalid peer certificate") && refused.contains("NIX_SSL_CERT_FILE"), "{refused}");
        }
        let expired = Certificate::new(true, None, true);
        assert!(shake_hands(&trusting(&expired), &expired, "localhost", None).is_err());
        let absent = tls("", Some(&folder.path().join("absent.pem")));
        let refused = shake_hands(&absent, &of_authority, "localhost", None).unwrap_err().to_string();
        assert!(refused.contains("absent.pem"), "{refused}");
    }

    #[test]
    fn a_server_that_asks_for_it_is_shown_the_client_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let (server, client) = (Certificate::new(false, None, false), Certificate::new(false, None, false));
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let trusted = file("server.pem", &server.pem);
        let certificate = file("client.pem", &client.pem);
        let key = file("client.key", &client.key.serialize_pem());
        let both = file("both.pem", &format!("{}{}", client.pem, client.key.serialize_pem()));
        let with_key = format!("?tls-certificate={}&tls-private-key={}", certificate.display(), key.display());
        for parameters in [with_key, format!("?tls-certificate={}", both.display())] {
            let tls = tls(&parameters, Some(&trusted));
            assert_eq!(shake_hands(&tls, &server, "localhost", Some(&client)), Ok(()));
        }
        assert!(shake_hands(&tls("", Some(&trusted)), &server, "localhost", Some(&client)).is_err());
    }

    #[test]
    fn those_that_browsers_trust_are_compiled_in() {
        assert!(webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() > 50);
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        assert!(added > 50);
    }
}
