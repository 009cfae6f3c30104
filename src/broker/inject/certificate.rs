//! A certificate that we show to an upstream, and its key, as TLS takes them.
//!
//! Pure. Takes what Vault's PKI engine gives as PEM (`certificate`, `ca_chain`, `private_key`), which is its default.

use super::material::Unfit;
use crate::{keeper::value::Content, secret::SecretValue};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

/// The chain, the certificate itself first, and the key.
pub type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads it out of a secret of the kind `certificate`.
///
/// # Errors
/// [`Unfit`]: it is not there, or is no PEM.
pub fn read(content: &Content) -> Result<Pair, Unfit> {
    let Content::Fields(fields) = content else { return Err(Unfit::NoField) };
    let find = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| value);
    let mut chain = Vec::new();
    let certificate = find("certificate").and_then(texts).ok_or(Unfit::NoField)?;
    let above = find("ca_chain").and_then(texts).unwrap_or_default();
    for pem in certificate.iter().chain(&above) {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            chain.push(certificate.map_err(|_| Unfit::Certificate)?);
        }
    }
    let key = find("private_key").and_then(texts).ok_or(Unfit::NoField)?;
    let key = key.first().ok_or(Unfit::NoField)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| Unfit::Certificate)?;
    if chain.is_empty() { Err(Unfit::Certificate) } else { Ok((chain, key)) }
}

/// A JSON text that is a string, or a list of them.
fn texts(value: &SecretValue) -> Option<Vec<Zeroizing<String>>> {
    let json = value.expose();
    if let Ok(one) = serde_json::from_str::<String>(json) {
        return Some(vec![one.into()]);
    }
    let list = serde_json::from_str::<Vec<String>>(json).ok()?;
    Some(list.into_iter().map(Zeroizing::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn content(fields: &[(&str, serde_json::Value)]) -> Content {
        let secret = |(name, json): &(&str, serde_json::Value)| {
            ((*name).to_owned(), SecretValue::new(json.to_string()))
        };
        Content::Fields(fields.iter().map(secret).collect())
    }

    #[test]
    fn what_vault_issues_is_a_chain_and_a_key() {
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap().pem();
        let (pem, key) = (serde_json::json!(pem), serde_json::json!(key.serialize_pem()));
        let chain = serde_json::json!([pem]);
        let whole = [("certificate", pem.clone()), ("ca_chain", chain), ("private_key", key.clone())];
        assert_eq!(read(&content(&whole)).unwrap().0.len(), 2);
        assert_eq!(
            read(&content(&[("certificate", pem.clone()), ("private_key", key.clone())])).unwrap().0.len(),
            1
        );
        assert_eq!(read(&content(&[("certificate", pem.clone())])).unwrap_err(), Unfit::NoField);
        let no_pem = [("certificate", serde_json::json!("MIIB")), ("private_key", key)];
        assert_eq!(read(&content(&no_pem)).unwrap_err(), Unfit::Certificate);
        let no_key = [("certificate", pem), ("private_key", serde_json::json!("MIIB"))];
        assert_eq!(read(&content(&no_key)).unwrap_err(), Unfit::Certificate);
    }
}
