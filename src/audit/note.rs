//! A signed note (C2SP signed-note): a text that people can read, and under it who signed it.
//!
//! Pure. Does not sign: `crypto` does, or Vault. Knows Ed25519 only.

use crate::crypto::{PublicKey, has_signed, sha256_of};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The longest note that is read, in bytes; ours have 500.
const LONGEST: usize = 16 * 1024;
/// Signatures of one note that are read.
const SIGNATURES: usize = 16;
/// The byte that means Ed25519 in a key's id.
const ED25519: u8 = 1;

/// A text with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

/// One line below the text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl Note {
    /// `text`, signed by nobody yet. It must end in a line feed.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self { text, signatures: Vec::new() }
    }

    /// Adds the signature under the text's bytes that the holder of `key`, called `name`, made.
    #[must_use]
    pub fn signed(mut self, name: &str, key: &PublicKey, signature: &[u8]) -> Self {
        let name = key_name(name);
        let id = key_id(&name, key);
        self.signatures.push(Signature { name, id, bytes: signature.to_vec() });
        self
    }

    /// What `note` says; `None` if it is none.
    #[must_use]
    pub fn parse(note: &str) -> Option<Self> {
        if note.len() > LONGEST {
            return None;
        }
        let (text, signatures) = note.rsplit_once("\n\n")?;
        let signatures: Option<Vec<_>> = signatures.strip_suffix('\n')?.split('\n').map(signature).collect();
        let signatures = signatures.filter(|list| list.len() <= SIGNATURES)?;
        Some(Self { text: format!("{text}\n"), signatures })
    }

    /// The text, its last line feed included: the bytes that are signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the holder of `key`, under any name, signed it.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.signatures.iter().any(|signature| {
            signature.id == key_id(&signature.name, key)
                && has_signed(key, self.text.as_bytes(), &signature.bytes)
        })
    }

    /// Whether anybody did.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        !self.signatures.is_empty()
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        for Signature { name, id, bytes } in &self.signatures {
            writeln!(f, "\u{2014} {name} {}", STANDARD.encode([id, &bytes[..]].concat()))?;
        }
        Ok(())
    }
}

fn signature(line: &str) -> Option<Signature> {
    let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    if name.is_empty() || name != key_name(name) {
        return None;
    }
    let bytes = STANDARD.decode(bytes).ok()?;
    let (id, bytes) = bytes.split_first_chunk::<4>()?;
    Some(Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}

/// `name` without what a key's name must not have.
fn key_name(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() || c == '+' { '_' } else { c }).collect()
}

fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256_of(&[name.as_bytes(), b"\n", &[ED25519], key]);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;

    #[test]
    fn a_note_reads_back_as_it_was_written_and_names_its_signers() {
        let (boot, vault, other) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        let text = "urn:claviger:a/b\n7\nroot\n";
        let note = Note::new(text.into())
            .signed("a name", &boot.public(), &boot.sign(text.as_bytes()))
            .signed("transit/key", &vault.public(), &vault.sign(text.as_bytes()));
        let read = Note::parse(&note.to_string()).unwrap();
        assert_eq!(read, note);
        assert_eq!(read.text(), text);
        assert!(read.is_signed_by(&boot.public()) && read.is_signed_by(&vault.public()));
        assert!(!read.is_signed_by(&other.public()));
        let forged = Note::parse(&note.to_string().replacen('7', "8", 1)).unwrap();
        assert!(!forged.is_signed_by(&boot.public()));
    }

    /// The vector of C2SP signed-note, section "Example": a key of Go's module mirror.
    #[test]
    fn the_id_of_a_key_is_the_one_that_go_computes() {
        let key = STANDARD.decode("Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8").unwrap();
        let (algorithm, key) = key.split_first().unwrap();
        assert_eq!(*algorithm, ED25519);
        let name = ["sum", "golang", "org"].join(".");
        assert_eq!(key_id(&name, key.try_into().unwrap()), [0x03, 0x3d, 0xe0, 0xae]);
    }

    #[test]
    fn what_is_no_note_is_none() {
        let good = format!("a\n\n\u{2014} k {}\n", STANDARD.encode([0; 68]));
        assert!(Note::parse(&good).is_some());
        for bad in [
            "",
            "a\n",
            "a\n\n",
            "a\n\n\n",
            &good[..good.len() - 1],
            &good.replace('\u{2014}', "-"),
            &good.replace(" k ", " k+ "),
            &good.replace(" k ", "  "),
            &format!("{}{good}", "a".repeat(LONGEST)),
        ] {
            assert_eq!(Note::parse(bad), None, "{bad:?}");
        }
    }
}
