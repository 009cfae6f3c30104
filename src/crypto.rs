//! Hashes, signatures and random numbers, by the library that TLS uses: the one file that imports it.
//!
//! Does not encrypt anything, and keeps nothing.

#[cfg(feature = "aws-lc")]
use aws_lc_rs::{
    digest::{Context, SHA256, SHA512, digest},
    hmac,
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
#[cfg(all(feature = "ring", not(feature = "aws-lc")))]
use ring::{
    digest::{Context, SHA256, SHA512, digest},
    hmac,
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use std::io;
use zeroize::Zeroizing;

/// A SHA-256.
pub type Hash = [u8; 32];

/// SHA-256 of `bytes` (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// SHA-512 of `bytes` (FIPS 180-4): what OpenSSH hashes what it signs by.
#[must_use]
pub fn sha512(bytes: &[u8]) -> [u8; 64] {
    let mut hash = [0; 64];
    hash.copy_from_slice(digest(&SHA512, bytes).as_ref());
    hash
}

/// A SHA-256 of what comes in parts.
#[derive(Clone)]
pub struct Sha256(Context);

impl Sha256 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The hash of all parts.
    #[must_use]
    pub fn finish(self) -> Hash {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        hash
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

/// HMAC-SHA256 of `parts`, one after the other, under `key` (RFC 2104).
#[must_use]
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Hash {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// SHA-256 of `parts`, one behind the other.
#[must_use]
pub fn sha256_of(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finish()
}

/// An Ed25519 public key (RFC 8032), which may be no point of the curve: then it has signed nothing.
pub type PublicKey = [u8; 32];

/// An Ed25519 key pair (RFC 8032) of this process alone: it can be neither read nor written.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> io::Result<Self> {
        let seed = Zeroizing::new(random::<32>()?);
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed);
        pair.map(Self).map_err(|_| io::Error::other("a key cannot be made of random bytes"))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut public = [0; 32];
        public.copy_from_slice(self.0.public_key().as_ref());
        public
    }

    /// Its signature under `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// Whether the holder of `key` signed `message` with `signature` (Ed25519).
#[must_use]
pub fn has_signed(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

/// Bytes that nobody can guess, from the system's generator.
///
/// # Errors
/// The system has none to give (Linux 5.6 and later never says so once it has booted).
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

/// A random number from 0 to 1, for jitter; half when the system has none to give.
#[must_use]
pub fn chance() -> f64 {
    random().map_or(0.5, |bytes| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

/// Appends `bytes` as lower-case hex.
pub fn append_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        out.extend([DIGITS.get(high), DIGITS.get(low)].into_iter().flatten());
    }
}

/// `bytes` as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(2 * bytes.len());
    append_hex(&mut out, bytes);
    String::from_utf8(out).unwrap_or_default()
}

/// The hash that 64 hex digits spell.
#[must_use]
pub fn unhex(text: &[u8]) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// Makes the TLS library's provider the process's own; needed once, before the first connection. A second call does
/// nothing.
pub fn install() {
    #[cfg(feature = "aws-lc")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "ring", not(feature = "aws-lc")))]
    let provider = rustls::crypto::ring::default_provider();
    let _ = provider.install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc_is_the_one_of_the_standard_and_reads_back_from_its_hex() {
        let hash = sha256(b"abc");
        assert_eq!(hex(&hash), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(unhex(hex(&hash).as_bytes()), Some(hash));
        assert_eq!(unhex(b"ba"), None);
    }

    #[test]
    fn a_signature_holds_for_its_key_and_message_only() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signature = key.sign(b"this");
        assert!(has_signed(&key.public(), b"this", &signature));
        assert!(!has_signed(&key.public(), b"that", &signature));
        assert!(!has_signed(&other.public(), b"this", &signature));
        assert!(!has_signed(&[0xff; 32], b"this", &signature) && !has_signed(&key.public(), b"this", b""));
    }

    #[test]
    fn the_first_sample_of_rfc_8032_verifies() {
        let key = unhex(b"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
        let signature = [
            unhex(b"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155").unwrap(),
            unhex(b"5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b").unwrap(),
        ];
        assert!(has_signed(&key, b"", &signature.concat()));
    }

    #[test]
    fn parts_hash_as_the_whole() {
        assert_eq!(sha256_of(&[b"a", b"", b"bc"]), sha256(b"abc"));
    }

    #[test]
    fn parts_have_the_hash_of_the_whole() {
        let mut parts = Sha256::new();
        parts.update(b"a");
        parts.update(b"");
        parts.update(b"bc");
        assert_eq!(parts.finish(), sha256(b"abc"));
    }

    #[test]
    fn hmac_is_the_one_of_rfc_4231() {
        let tag = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex(&tag), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn chances_lie_between_zero_and_one() {
        assert!((0..1000).map(|_| chance()).all(|chance| (0.0..=1.0).contains(&chance)));
    }
}
