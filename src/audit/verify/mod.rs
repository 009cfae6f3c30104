//! Judges events that somebody else kept: whether they are the ones that were written, all of them, in their order.
//!
//! Works offline, on copies, without a config and without trust in the files. Changes nothing.

mod chain;
mod compare;
mod fact;
mod input;
mod judge;
mod line;
mod number;
mod report;
mod signed;
mod wrong;

pub use input::{Input, Unreadable, export};
pub use report::{Chain, Ending, Finding, Gap, Report, Verdict};
pub use signed::Voucher;

use super::checkpoint::{Anchor, text::public_key};
use crate::crypto::PublicKey;
use judge::Judge;

/// Events that may stand behind the last signature of a chain, unless somebody says otherwise.
pub const MAX_UNSIGNED: u64 = 2_048;

/// What the judge goes by, beside the events themselves.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Public keys of Vault's transit engine. With any, a signature counts only if one of them made it or certified its key.
    pub keys: Vec<PublicKey>,
    /// What was anchored in Vault.
    pub anchor: Option<Anchor>,
    /// Events that may stand behind the last signature of a chain which has a signer.
    pub max_unsigned: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { keys: Vec::new(), anchor: None, max_unsigned: MAX_UNSIGNED }
    }
}

/// Reads `inputs` to their end and judges what they hold. Takes memory by chains and by findings, not by events.
///
/// # Errors
/// An input cannot be read at all. Whatever is wrong with what can be read is in the report.
pub fn verify(inputs: &[Input], terms: Terms) -> Result<Report, Unreadable> {
    let mut judge = Judge::new(terms);
    input::read(inputs, &mut judge)?;
    Ok(judge.finish())
}

/// The Ed25519 public keys in `text`: PEM (RFC 7468, with the key as of RFC 8410), or one in base64 on a line, as
/// `vault read transit/keys/NAME` prints it. `None` if something else stands there, or nothing.
#[must_use]
pub fn public_keys(text: &str) -> Option<Vec<PublicKey>> {
    // The encoding of a SubjectPublicKeyInfo of type Ed25519 before the key, in base64: 12 bytes are 16 digits.
    const HEAD: &str = "MCowBQYDK2VwAyEA";
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("-----"));
    let one = |line: &str| public_key(line.strip_prefix(HEAD).unwrap_or(line));
    let keys: Option<Vec<_>> = lines.map(one).collect();
    keys.filter(|keys| !keys.is_empty())
}

#[cfg(test)]
mod tests;
