//! How a rotation makes values: by a password policy of Vault, or of characters.
//!
//! Pure. Whether Vault has the policy is found out when running.

use super::super::reader::Map;
use crate::rotation::generate::Source;

/// Characters of generated values, unless the config says others.
pub(super) const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// What `policy`, `length` and `alphabet` say.
pub(super) fn source(map: &mut Map<'_>) -> Option<Source> {
    let policy = map.given("policy", |leaf| {
        let policy = leaf.text()?;
        if policy.contains('/') {
            leaf.problem("not the name of a password policy", "write the name of sys/policies/password/NAME");
            return None;
        }
        Some(policy)
    });
    let length = map.given("length", |leaf| leaf.whole::<u32>(8..=4096));
    let alphabet = map.given("alphabet", |leaf| {
        let alphabet = leaf.text()?;
        let mut letters: Vec<char> = alphabet.chars().collect();
        letters.sort_unstable();
        letters.dedup();
        if !alphabet.is_ascii() || letters.len() < 2 || letters.len() != alphabet.len() {
            leaf.problem(
                "an alphabet with fewer than two characters, one of them twice, or outside of ASCII",
                "write each character once",
            );
            return None;
        }
        Some(alphabet)
    });
    match (policy?, length?, alphabet?) {
        (Some(policy), None, None) => Some(Source::Policy(policy)),
        (None, length, alphabet) => Some(Source::Characters {
            length: length.unwrap_or(40) as usize,
            alphabet: alphabet.unwrap_or_else(|| ALPHABET.to_owned()),
        }),
        _ => {
            map.leaf().problem("a policy beside a length or an alphabet", "write one of the two");
            None
        }
    }
}
