//! The signatures of one chain: whether each checkpoint says what the events say, and by whose key.
//!
//! Pure. A checkpoint is recorded some events after those that it covers, so the tree stands still at the last one that was
//! checked, and what came since waits as hashes.

use super::{fact::Signed, wrong::Wrong};
use crate::{
    audit::{
        checkpoint::text::{Certificate, Checkpoint, public_key},
        note::Note,
        tree::{Tree, leaf},
    },
    clock::rfc3339,
    crypto::{Hash, PublicKey, hex},
};
use std::collections::VecDeque;

/// Events between those that a checkpoint covers and itself; more than that, and its root is not computed.
const BEHIND: usize = 262_144;

/// Who vouches for a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// Nobody.
    Nobody,
    /// A key that the chain itself names: whoever rewrote all of it would have named another.
    OwnKey,
    /// The same, with Vault's certificate, which was not checked: no key of Vault's was given.
    UncheckedCertificate,
    /// A key of this start that Vault certified.
    CertifiedKey,
    /// Vault, it says, by a key that was not given.
    UncheckedVault,
    /// Vault.
    Vault,
}

impl Voucher {
    /// The words of the report.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nobody => "by nobody",
            Self::OwnKey => "by a key of its own, which nobody certified",
            Self::UncheckedCertificate => {
                "by a key with a certificate, which was not checked: give Vault's key with --pubkey"
            }
            Self::CertifiedKey => "by a key that Vault certified for this chain",
            Self::UncheckedVault => "by Vault, it says: give Vault's key with --pubkey",
            Self::Vault => "by Vault",
        }
    }

    /// The word of the report in JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::OwnKey => "own_key",
            Self::UncheckedCertificate => "unchecked_certificate",
            Self::CertifiedKey => "certified_key",
            Self::UncheckedVault => "unchecked_vault",
            Self::Vault => "vault",
        }
    }
}

/// What a chain's checkpoints came to so far.
#[derive(Default)]
pub(super) struct Signing {
    /// What `agent.started` says of them; `Some(None)`: that there are none.
    pub(super) declared: Option<Option<Signed>>,
    /// The last event that a good checkpoint covers.
    pub(super) up_to: u64,
    /// Checkpoints that came, good or not.
    pub(super) checkpoints: u64,
    /// Numbers of those behind `up_to`.
    carriers: VecDeque<u64>,
    pub(super) voucher: Option<Voucher>,
    pub(super) key: Option<PublicKey>,
    /// Over all events up to `base`; none where the first are not here.
    tree: Option<Tree>,
    base: u64,
    base_hash: Option<Hash>,
    behind: VecDeque<[Hash; 2]>,
}

/// What a checkpoint is compared with.
pub(super) struct Against<'a> {
    pub(super) seq: u64,
    /// `SOURCE/CHAIN`.
    pub(super) origin: &'a str,
    /// The chain's first event that is here.
    pub(super) first_time: &'a [u8],
    /// Keys of Vault's that are trusted.
    pub(super) keys: &'a [PublicKey],
}

impl Signing {
    /// Takes the event `seq`.
    pub(super) fn event(&mut self, seq: u64, bytes: &[u8], hash: Hash) {
        if matches!(self.declared, Some(None)) {
            return;
        }
        let next = self.base.saturating_add(self.behind.len() as u64).saturating_add(1);
        if seq == 1 {
            self.tree = Some(Tree::new());
        } else if seq != next {
            self.behind.clear();
            (self.tree, self.base, self.base_hash) = (None, seq.saturating_sub(1), None);
        }
        let leaf = if self.tree.is_some() { leaf(bytes) } else { hash };
        self.behind.push_back([leaf, hash]);
        if self.behind.len() > BEHIND {
            self.advance();
        }
    }

    /// Takes what `agent.started` says.
    pub(super) fn declare(&mut self, signed: Option<Signed>) {
        if signed.is_none() {
            (self.tree, self.behind) = (None, VecDeque::new());
        }
        self.declared = Some(signed);
    }

    /// Takes a checkpoint.
    pub(super) fn checkpoint(&mut self, signed: Option<Signed>, against: &Against<'_>) -> Result<(), Wrong> {
        self.checkpoints = self.checkpoints.saturating_add(1);
        if self.carriers.len() < BEHIND {
            self.carriers.push_back(against.seq);
        }
        let wrong = |what| Wrong { seq: against.seq, what, hashes: None };
        let signed = signed.ok_or(wrong("a checkpoint that cannot be read"))?;
        let note = signed.note.as_deref().and_then(Note::parse);
        let note = note.ok_or(wrong("a checkpoint without a signed note"))?;
        let checkpoint = Checkpoint::of(&note).ok_or(wrong("a note that is no checkpoint"))?;
        if checkpoint.origin != against.origin {
            return Err(wrong("a checkpoint of another chain"));
        }
        if checkpoint.size >= against.seq || checkpoint.size < self.up_to {
            return Err(wrong(
                "a checkpoint of a smaller tree than the one before it, or of events after it",
            ));
        }
        let key = signed.key.as_deref().and_then(public_key);
        let key = key.ok_or(wrong("a checkpoint without a key"))?;
        let voucher = self.voucher_of(&signed, &key, against).map_err(wrong)?;
        if !note.is_signed_by(&key) {
            return Err(wrong("the signature of a checkpoint does not hold"));
        }
        self.compare(&checkpoint)?;
        self.key = Some(key);
        if voucher != Voucher::OwnKey || against.keys.is_empty() {
            self.up_to = checkpoint.size;
            self.carriers.retain(|seq| *seq > checkpoint.size);
        }
        self.voucher = Some(voucher);
        Ok(())
    }

    /// The key that the chain's agent names at its start, else the one that signed.
    pub(super) fn own_key(&self) -> Option<PublicKey> {
        let declared = self.declared.iter().flatten().next();
        declared.and_then(|declared| public_key(declared.key.as_deref()?)).or(self.key)
    }

    /// Whether the key is one of a start, and so of one chain only.
    pub(super) fn is_by_boot(&self) -> bool {
        matches!(self.voucher, Some(Voucher::OwnKey | Voucher::UncheckedCertificate | Voucher::CertifiedKey))
    }

    /// Whether Vault signs, as far as the chain says.
    pub(super) fn is_by_vault(&self) -> bool {
        let declared = self.declared.iter().flatten().any(|declared| declared.by == "transit");
        declared || matches!(self.voucher, Some(Voucher::Vault | Voucher::UncheckedVault))
    }

    /// Events of the chain from `first` to `last` that no signature covers; those that carry checkpoints are not counted.
    pub(super) fn unsigned(&self, first: u64, last: u64) -> u64 {
        let behind = last.saturating_sub(self.up_to.max(first.saturating_sub(1)));
        behind.saturating_sub(self.carriers.len() as u64)
    }

    fn voucher_of(
        &self,
        signed: &Signed,
        key: &PublicKey,
        against: &Against<'_>,
    ) -> Result<Voucher, &'static str> {
        let declared = match &self.declared {
            Some(None) => return Err("a checkpoint, though the start of its agent declares none"),
            Some(Some(declared)) => Some(declared),
            None => None,
        };
        if declared.is_some_and(|declared| declared.by != signed.by) {
            return Err("a checkpoint by another signer than the start of its agent declares");
        }
        let known = against.keys.contains(key);
        match signed.by.as_str() {
            "transit" if against.keys.is_empty() => Ok(Voucher::UncheckedVault),
            "transit" if known => Ok(Voucher::Vault),
            "transit" => Err("a checkpoint signed by another key than Vault's"),
            "boot" => {
                if self.own_key().is_some_and(|own| own != *key) {
                    return Err("a checkpoint signed by another key than the one of its agent's start");
                }
                certified(signed, key, against)
            }
            _ => Err("a checkpoint by an unknown signer"),
        }
    }

    /// Compares what is signed with the events.
    fn compare(&mut self, checkpoint: &Checkpoint) -> Result<(), Wrong> {
        while self.base < checkpoint.size && !self.behind.is_empty() {
            self.advance();
        }
        if self.base != checkpoint.size {
            // The events that it covers are not here: what is here hangs on what follows them.
            return Ok(());
        }
        let differs = |what, expected: &Hash, found: &Hash| Wrong {
            seq: checkpoint.size,
            what,
            hashes: Some((hex(expected), hex(found))),
        };
        if let Some(hash) = self.base_hash.filter(|hash| *hash != checkpoint.head) {
            return Err(differs("it is not what was signed", &checkpoint.head, &hash));
        }
        match self.tree.as_ref().map(Tree::root) {
            Some(root) if root != checkpoint.root => {
                Err(differs("the tree up to it is not the one that was signed", &checkpoint.root, &root))
            }
            _ => Ok(()),
        }
    }

    fn advance(&mut self) {
        let Some([leaf, hash]) = self.behind.pop_front() else { return };
        if let Some(tree) = &mut self.tree {
            tree.push_leaf(leaf);
        }
        self.base = self.base.saturating_add(1);
        self.base_hash = Some(hash);
    }
}

/// Whether Vault vouches for the key of a start, for this chain and all its events.
fn certified(signed: &Signed, key: &PublicKey, against: &Against<'_>) -> Result<Voucher, &'static str> {
    let Some(text) = signed.cert.as_deref() else { return Ok(Voucher::OwnKey) };
    let note = Note::parse(text).ok_or("a certificate that is no signed note")?;
    let certificate = Certificate::of(&note).ok_or("a certificate that cannot be read")?;
    if certificate.key != *key || certificate.origin != against.origin {
        return Err("its key is certified for another chain");
    }
    if rfc3339(certificate.since).as_bytes() > against.first_time {
        return Err("its key is certified for later events only");
    }
    if against.keys.is_empty() {
        return if note.is_signed() {
            Ok(Voucher::UncheckedCertificate)
        } else {
            Err("a certificate nobody signed")
        };
    }
    if against.keys.iter().any(|trusted| note.is_signed_by(trusted)) {
        Ok(Voucher::CertifiedKey)
    } else {
        Err("the certificate of its key is signed by another key than Vault's")
    }
}
