//! The transit engine, without its cryptography: what was encrypted is kept, and given back for its ciphertext and the same associated
//! data.

use serde_json::json;

use crate::ask::{Ask, Verb};
use crate::outcome::Outcome;

/// What the engine keeps.
#[derive(Debug, Default)]
pub(crate) struct Transit {
    /// Key, plaintext and associated data.
    kept: Vec<(String, String, String)>,
}

impl Transit {
    pub(crate) fn answer(&mut self, rest: &str, ask: &Ask) -> Outcome {
        let text = |key: &str| ask.text(key).unwrap_or_default().to_string();
        match (ask.verb, rest.split_once('/')) {
            (Verb::Write, Some(("encrypt", key))) => {
                self.kept.push((key.to_string(), text("plaintext"), text("associated_data")));
                Outcome::data(
                    json!({ "ciphertext": format!("vault:v1:{}", self.kept.len()), "key_version": 1 }),
                )
            }
            (Verb::Write, Some(("decrypt", key))) => {
                let number =
                    text("ciphertext").strip_prefix("vault:v1:").and_then(|n| n.parse::<usize>().ok());
                let kept = number.and_then(|n| self.kept.get(n.checked_sub(1)?));
                match kept.filter(|(of, _, about)| of == key && *about == text("associated_data")) {
                    Some((_, plaintext, _)) => Outcome::data(json!({ "plaintext": plaintext })),
                    None => Outcome::bad("cipher: message authentication failed"),
                }
            }
            _ => Outcome::unsupported_path(),
        }
    }
}
