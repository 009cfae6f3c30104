//! What is signed: how far a chain has come, and whose key may say so.
//!
//! Pure. Both are texts of signed notes; that of a checkpoint is a C2SP tlog-checkpoint with one line of ours behind it.

use crate::{
    audit::note::Note,
    clock::{Timestamp, rfc3339},
    crypto::{Hash, PublicKey, hex, unhex},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The first line of a certificate; no origin can be like it, since an origin is a URN.
const CERTIFICATE: &str = "claviger boot key";

/// That the first `size` events of a chain are those under `root`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// `SOURCE/CHAIN`.
    pub origin: String,
    /// Events in the tree.
    pub size: u64,
    /// The tree's root (RFC 6962).
    pub root: Hash,
    /// The hash of the last of them: binds the events before it by their chain, also where the oldest are not there any more
    /// and the root cannot be computed.
    pub head: Hash,
}

/// That one key signs for one chain, from one moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `SOURCE/CHAIN`.
    pub origin: String,
    /// The key.
    pub key: PublicKey,
    /// No event of the chain is older.
    pub since: Timestamp,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { origin, size, root, head } = self;
        format!("{origin}\n{size}\n{}\nhead {}\n", STANDARD.encode(root), hex(head))
    }

    /// What the text of `note` says.
    #[must_use]
    pub fn of(note: &Note) -> Option<Self> {
        let mut lines = note.text().strip_suffix('\n')?.split('\n');
        let origin = lines.next()?.to_owned();
        let size = lines.next()?.parse().ok()?;
        let root = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
        let head = unhex(lines.next()?.strip_prefix("head ")?.as_bytes())?;
        let checkpoint = Self { origin, size, root, head };
        // One spelling only.
        (checkpoint.text() == note.text()).then_some(checkpoint)
    }
}

impl Certificate {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { origin, key, since } = self;
        format!("{CERTIFICATE}\n{origin}\n{}\n{}\n", STANDARD.encode(key), rfc3339(*since))
    }

    /// What the text of `note` says.
    #[must_use]
    pub fn of(note: &Note) -> Option<Self> {
        let mut lines = note.text().strip_prefix(CERTIFICATE)?.strip_prefix('\n')?.split('\n');
        let origin = lines.next()?.to_owned();
        let key = public_key(lines.next()?)?;
        let since = lines.next()?.parse().ok()?;
        let certificate = Self { origin, key, since };
        (certificate.text() == note.text()).then_some(certificate)
    }
}

/// The Ed25519 key that `text` spells in base64.
#[must_use]
pub fn public_key(text: &str) -> Option<PublicKey> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// `key` in base64.
#[must_use]
pub fn spell_key(key: &PublicKey) -> String {
    STANDARD.encode(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_and_a_certificate_read_back_and_are_never_taken_for_each_other() {
        let origin = "urn:claviger:host/claviger/01ARYZ6S41ZZZZZZZZZZZZZZZZ".to_owned();
        let checkpoint = Checkpoint { origin: origin.clone(), size: 7, root: [1; 32], head: [2; 32] };
        let since = "2026-11-23T21:44:00.123456Z".parse().unwrap();
        let certificate = Certificate { origin, key: [3; 32], since };
        let (one, other) = (Note::new(checkpoint.text()), Note::new(certificate.text()));
        assert_eq!(Checkpoint::of(&one), Some(checkpoint));
        assert_eq!(Certificate::of(&other), Some(certificate));
        assert_eq!((Checkpoint::of(&other), Certificate::of(&one)), (None, None));
        for (from, to) in [("\n7\n", "\n07\n"), ("head ", "tail "), ("head 02", "head 0")] {
            assert_eq!(Checkpoint::of(&Note::new(one.text().replacen(from, to, 1))), None);
        }
    }
}
