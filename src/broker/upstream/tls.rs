//! Whom an upstream is believed to be: by its own roots or the system's, and by pinned keys beside them.
//!
//! Does not connect. TLS 1.2 at least, no early data; HTTP/1.1, and HTTP/2 in builds with that feature.

use super::super::{
    Settings,
    fault::Fault,
    inject::certificate::{self, Pair},
};
use crate::{
    crypto::{Hash, sha256},
    keeper::value::Value,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use std::{fs, path::Path, sync::Arc};

/// The cap of a file of roots, in bytes.
const LARGEST_FILE: u64 = 1024 * 1024;
/// What is offered in the handshake (RFC 7301), the dearest first.
const PROTOCOLS: &[&[u8]] = if cfg!(feature = "http2") { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };

/// The bytes of the roots, the certificate that is shown, and what they were made into: equal ones need no new one.
pub(super) struct Trust {
    roots: Option<Vec<u8>>,
    shown: Option<String>,
    pub(super) config: Arc<ClientConfig>,
}

impl Trust {
    /// `before`, if the file's bytes are still the same, else what they are now.
    ///
    /// # Errors
    /// [`Fault::TlsFailed`]: the file or the system's roots cannot be used; the log says why.
    pub(super) fn renewed(
        before: Option<Arc<Self>>,
        settings: &Settings,
        shown: Option<&Value>,
    ) -> Result<Arc<Self>, Fault> {
        let Settings { name, ca_file, pins, .. } = settings;
        let failed = |why: String| {
            tracing::warn!(upstream = %name, ca_file = ?ca_file, error = why, "no trust in an upstream can be had");
            Fault::TlsFailed
        };
        let roots = ca_file.as_deref().map(read).transpose().map_err(failed)?;
        let tag = shown.map(|shown| shown.tag().to_owned());
        if let Some(before) = before.filter(|before| before.roots == roots && before.shown == tag) {
            return Ok(before);
        }
        let pair = shown.map(|shown| certificate::read(shown.content())).transpose();
        let pair = pair.map_err(|error| failed(error.to_string()))?;
        let config = config(roots.as_deref(), pins, pair).map_err(failed)?;
        Ok(Arc::new(Self { roots, shown: tag, config: Arc::new(config) }))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    if fs::metadata(file).map_err(|error| error.to_string())?.len() > LARGEST_FILE {
        return Err("larger than 1 MiB".to_owned());
    }
    fs::read(file).map_err(|error| error.to_string())
}

fn config(roots: Option<&[u8]>, pins: &[Hash], shown: Option<Pair>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder();
    let provider = Arc::clone(builder.crypto_provider());
    let chain = chain(roots, provider)?;
    let verifier = Arc::new(Pinned { chain, pins: pins.to_vec() });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?,
    };
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn chain(roots: Option<&[u8]>, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let Some(pem) = roots else {
        let system = rustls_platform_verifier::Verifier::new(provider);
        return system.map(|verifier| Arc::new(verifier) as _).map_err(|error| error.to_string());
    };
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        let root = root.map_err(|error| error.to_string())?;
        store.add(root).map_err(|error| error.to_string())?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build();
    verifier.map(|verifier| verifier as _).map_err(|error| error.to_string())
}

/// SHA-256 of a certificate's public key (RFC 7469 section 2.4).
pub(super) fn spki(certificate: &CertificateDer<'_>) -> Option<Hash> {
    Some(sha256(&ParsedCertificate::try_from(certificate).ok()?.subject_public_key_info()))
}

/// The chain must hold, and the server's own key must be one of the pinned, if there are any.
#[derive(Debug)]
struct Pinned {
    chain: Arc<dyn ServerCertVerifier>,
    pins: Vec<Hash>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if self.pins.is_empty() || spki(end_entity).is_some_and(|key| self.pins.contains(&key)) {
            return Ok(verified);
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
