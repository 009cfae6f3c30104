//! SHA-256 and random bytes, by the same library that TLS uses.
//!
//! The only file of `audit` that names that library. Keeps nothing.

#[cfg(feature = "aws-lc")]
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
#[cfg(all(feature = "ring", not(feature = "aws-lc")))]
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use std::io;

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// SHA-256 of `bytes` (FIPS 180-4).
pub(super) fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Bytes nobody can guess, from the kernel's generator.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

/// Appends `bytes` as lower-case hex.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        out.extend([DIGITS.get(high), DIGITS.get(low)].into_iter().flatten());
    }
}

/// `hash` as lower-case hex.
pub(super) fn hex_text(hash: &Hash) -> String {
    let mut out = Vec::with_capacity(64);
    hex(&mut out, hash);
    String::from_utf8(out).unwrap_or_default()
}

/// The hash that 64 lower-case hex digits spell.
pub(super) fn unhex(text: &[u8]) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_from_its_hex() {
        let hash = sha256(b"abc");
        assert_eq!(hex_text(&hash), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(unhex(hex_text(&hash).as_bytes()), Some(hash));
        assert_eq!(unhex(b"ba"), None);
    }
}
