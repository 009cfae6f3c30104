//! Whose signature a vote bears.
//!
//! Pure. Where a key is not in the config, whoever calls has asked Vault for it.

use super::{
    ssh,
    ticket::{Decision, Vote, is_reason, statement},
};
use crate::crypto::{Hash, PublicKey, has_signed, hex};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::collections::BTreeMap;

/// One who may say yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// The key in `approvers`.
    pub name: String,
    /// What makes it theirs.
    pub key: Key,
}

/// What an approver signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The transit key `approver-ENTITY` of an entity in Vault.
    Entity {
        /// The entity.
        id: String,
        /// The key's public halves, if the config names them; else Vault is believed.
        pinned: Vec<PublicKey>,
    },
    /// An SSH key.
    Ssh(PublicKey),
    /// The Ed25519 key of a service, which may sign as an SSH key does, as a transit key does, or as RFC 8032 has it, in base64.
    Service(PublicKey),
}

impl Approver {
    /// Where the vote is, below the request: Vault's policies can keep an entity to its own.
    #[must_use]
    pub fn slot(&self) -> &str {
        match &self.key {
            Key::Entity { id, .. } => id,
            Key::Ssh(_) | Key::Service(_) => &self.name,
        }
    }

    /// The entity, if that is what it is known by.
    #[must_use]
    pub fn entity(&self) -> Option<&str> {
        match &self.key {
            Key::Entity { id, .. } => Some(id),
            Key::Ssh(_) | Key::Service(_) => None,
        }
    }

    /// The transit key whose public halves Vault must be asked for.
    #[must_use]
    pub fn unpinned(&self) -> Option<String> {
        match &self.key {
            Key::Entity { id, pinned } if pinned.is_empty() => Some(transit_key(id)),
            Key::Entity { .. } | Key::Ssh(_) | Key::Service(_) => None,
        }
    }
}

/// The transit key of an entity.
#[must_use]
pub fn transit_key(entity: &str) -> String {
    format!("approver-{entity}")
}

/// What a vote is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The approver's own word about this request.
    Said(Decision),
    /// Signed for another request.
    OfAnother,
    /// Not signed by the approver.
    Forged,
}

/// What `vote`, found in the slot of `approver`, is to the request with `digest`. `asked` has the public halves of a transit key that
/// is not pinned, by version.
#[must_use]
pub fn judge(approver: &Approver, vote: &Vote, digest: &Hash, asked: &BTreeMap<u64, PublicKey>) -> Found {
    let Some(decision) = vote.decision().filter(|_| is_reason(&vote.reason)) else { return Found::Forged };
    let is_signed = |digest: &Hash| {
        let text = statement(decision, digest, &vote.reason);
        match &approver.key {
            Key::Ssh(key) => ssh::verifies(&vote.signature, text.as_bytes(), key),
            Key::Service(key) => {
                let bare = || STANDARD.decode(vote.signature.trim()).ok();
                let bytes = transit(&vote.signature).map(|(_, bytes)| bytes).or_else(bare);
                bytes.is_some_and(|bytes| has_signed(key, text.as_bytes(), &bytes))
                    || ssh::verifies(&vote.signature, text.as_bytes(), key)
            }
            Key::Entity { pinned, .. } => {
                let Some((version, signature)) = transit(&vote.signature) else { return false };
                let vaults = asked.get(&version).filter(|_| pinned.is_empty());
                pinned.iter().chain(vaults).any(|key| has_signed(key, text.as_bytes(), &signature))
            }
        }
    };
    if vote.digest != hex(digest) {
        return Found::OfAnother;
    }
    if is_signed(digest) { Found::Said(decision) } else { Found::Forged }
}

/// The version and the bytes of `vault:vN:BASE64`.
fn transit(text: &str) -> Option<(u64, Vec<u8>)> {
    let (version, signature) = text.strip_prefix("vault:v")?.split_once(':')?;
    Some((version.parse().ok()?, STANDARD.decode(signature).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;

    fn vote(key: &SigningKey, decision: Decision, digest: &Hash, reason: &str) -> Vote {
        let signature = STANDARD.encode(key.sign(statement(decision, digest, reason).as_bytes()));
        Vote {
            decision: decision.word().into(),
            digest: hex(digest),
            reason: reason.into(),
            signature: format!("vault:v1:{signature}"),
        }
    }

    #[test]
    fn only_a_signature_of_the_approvers_own_key_for_this_request_counts() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let lead =
            Approver { name: "lead".into(), key: Key::Entity { id: "e".into(), pinned: vec![key.public()] } };
        let none = BTreeMap::new();
        let check = |vote: &Vote, expected: Found| assert_eq!(judge(&lead, vote, &[1; 32], &none), expected);
        let yes = vote(&key, Decision::Approve, &[1; 32], "release");
        check(&yes, Found::Said(Decision::Approve));
        check(&vote(&key, Decision::Refuse, &[1; 32], "no"), Found::Said(Decision::Refuse));
        check(&vote(&key, Decision::Approve, &[2; 32], "release"), Found::OfAnother);
        check(&vote(&other, Decision::Approve, &[1; 32], "release"), Found::Forged);
        // A word of the vote changed after it was signed.
        check(&Vote { reason: "other".into(), ..yes.clone() }, Found::Forged);
        check(&Vote { decision: "refuse".into(), ..yes.clone() }, Found::Forged);
        check(&Vote { decision: "maybe".into(), ..yes.clone() }, Found::Forged);
        // The right digest, beside a signature for another.
        let moved = vote(&key, Decision::Approve, &[2; 32], "release");
        check(&Vote { digest: hex(&[1; 32]), ..moved }, Found::Forged);
        check(&vote(&key, Decision::Approve, &[1; 32], ""), Found::Forged);
    }

    #[test]
    fn a_service_signs_as_it_can() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let of = |key: &SigningKey| Approver { name: "webhook".into(), key: Key::Service(key.public()) };
        let none = BTreeMap::new();
        let transit = vote(&key, Decision::Approve, &[1; 32], "release");
        let bare = Vote { signature: transit.signature.replace("vault:v1:", ""), ..transit.clone() };
        for vote in [&transit, &bare] {
            assert_eq!(judge(&of(&key), vote, &[1; 32], &none), Found::Said(Decision::Approve));
            assert_eq!(judge(&of(&other), vote, &[1; 32], &none), Found::Forged);
            assert_eq!(judge(&of(&key), vote, &[2; 32], &none), Found::OfAnother);
        }
        let unsigned = Vote { signature: String::new(), ..bare };
        assert_eq!(judge(&of(&key), &unsigned, &[1; 32], &none), Found::Forged);
    }

    #[test]
    fn what_vault_says_of_a_key_counts_only_where_none_is_pinned() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let of = |pinned| Approver { name: "a".into(), key: Key::Entity { id: "e".into(), pinned } };
        let asked = BTreeMap::from([(1, key.public())]);
        let yes = vote(&key, Decision::Approve, &[1; 32], "release");
        assert_eq!(judge(&of(vec![]), &yes, &[1; 32], &asked), Found::Said(Decision::Approve));
        assert_eq!(judge(&of(vec![other.public()]), &yes, &[1; 32], &asked), Found::Forged);
        let later = Vote { signature: yes.signature.replace("v1", "v2"), ..yes };
        assert_eq!(judge(&of(vec![]), &later, &[1; 32], &asked), Found::Forged);
    }
}
