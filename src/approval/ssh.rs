//! Ed25519 keys and signatures as OpenSSH writes them (PROTOCOL.sshsig of OpenSSH, RFC 8709).
//!
//! Pure. Reads keys of type `ssh-ed25519` only, and makes no signature: `ssh-keygen -Y sign` does.

use crate::crypto::{PublicKey, has_signed, sha256, sha512};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What signatures of approvals are made for: one that was made for a file or a commit is none.
pub const NAMESPACE: &str = "claviger-approval";
const TYPE: &[u8] = b"ssh-ed25519";
const MAGIC: &[u8] = b"SSHSIG";

/// The key of a line of `authorized_keys` or of a `.pub` file: `ssh-ed25519 BASE64 COMMENT`.
#[must_use]
pub fn public_key(line: &str) -> Option<PublicKey> {
    let mut words = line.split_ascii_whitespace();
    if words.next()?.as_bytes() != TYPE {
        return None;
    }
    of_blob(&STANDARD.decode(words.next()?).ok()?)
}

/// `key` as base64, as such a line has it.
#[must_use]
pub fn spell(key: &PublicKey) -> String {
    let mut blob = Vec::new();
    push(&mut blob, TYPE);
    push(&mut blob, key);
    STANDARD.encode(blob)
}

/// Whether `key` made the armoured signature under `message`, for [`NAMESPACE`].
#[must_use]
pub fn verifies(armoured: &str, message: &[u8], key: &PublicKey) -> bool {
    signature(armoured).is_some_and(|signature| {
        signature.key == *key && has_signed(key, &signature.signed(message), &signature.bytes)
    })
}

/// Whose key an armoured signature says that it is of.
#[must_use]
pub fn signer(armoured: &str) -> Option<PublicKey> {
    signature(armoured).map(|signature| signature.key)
}

/// How a message is hashed before it is signed.
type HashOf = fn(&[u8]) -> Vec<u8>;

struct Signature {
    key: PublicKey,
    hash: HashOf,
    hash_name: &'static [u8],
    bytes: Vec<u8>,
}

impl Signature {
    /// What the key signs: not the message itself.
    fn signed(&self, message: &[u8]) -> Vec<u8> {
        let mut signed = MAGIC.to_vec();
        push(&mut signed, NAMESPACE.as_bytes());
        push(&mut signed, b"");
        push(&mut signed, self.hash_name);
        push(&mut signed, &(self.hash)(message));
        signed
    }
}

fn signature(armoured: &str) -> Option<Signature> {
    let body = armoured.trim().strip_prefix("-----BEGIN SSH SIGNATURE-----")?;
    let body = body.strip_suffix("-----END SSH SIGNATURE-----")?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let blob = STANDARD.decode(body).ok()?;
    let mut rest = blob.strip_prefix(MAGIC)?.strip_prefix(&[0, 0, 0, 1])?;
    let key = of_blob(take(&mut rest)?)?;
    let (namespace, _reserved) = (take(&mut rest)?, take(&mut rest)?);
    let (hash_name, hash): (&'static [u8], HashOf) = match take(&mut rest)? {
        b"sha512" => (b"sha512", |bytes| sha512(bytes).to_vec()),
        b"sha256" => (b"sha256", |bytes| sha256(bytes).to_vec()),
        _ => return None,
    };
    let mut inner = take(&mut rest)?;
    let (of, bytes) = (take(&mut inner)?, take(&mut inner)?);
    let whole = rest.is_empty() && inner.is_empty();
    (whole && of == TYPE && namespace == NAMESPACE.as_bytes()).then(|| Signature {
        key,
        hash,
        hash_name,
        bytes: bytes.to_vec(),
    })
}

fn of_blob(blob: &[u8]) -> Option<PublicKey> {
    let mut rest = blob;
    let (of, key) = (take(&mut rest)?, take(&mut rest)?);
    (of == TYPE && rest.is_empty()).then(|| key.try_into().ok())?
}

/// The next string: its length in four bytes, and then as many.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (taken, behind) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = behind;
    Some(taken)
}

fn push(out: &mut Vec<u8>, string: &[u8]) {
    out.extend_from_slice(&u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(string);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;

    /// As `ssh-keygen -Y sign` writes it.
    fn sign(key: &SigningKey, namespace: &str, message: &[u8]) -> String {
        let mut signed = MAGIC.to_vec();
        push(&mut signed, namespace.as_bytes());
        push(&mut signed, b"");
        push(&mut signed, b"sha512");
        push(&mut signed, &sha512(message));
        let mut inner = Vec::new();
        push(&mut inner, TYPE);
        push(&mut inner, &key.sign(&signed));
        let mut blob = MAGIC.to_vec();
        blob.extend_from_slice(&[0, 0, 0, 1]);
        push(&mut blob, &STANDARD.decode(spell(&key.public())).unwrap());
        push(&mut blob, namespace.as_bytes());
        push(&mut blob, b"");
        push(&mut blob, b"sha512");
        push(&mut blob, &inner);
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(blob))
    }

    #[test]
    fn a_signature_holds_for_its_key_message_and_purpose_only() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signature = sign(&key, NAMESPACE, b"this");
        assert!(verifies(&signature, b"this", &key.public()));
        assert_eq!(signer(&signature), Some(key.public()));
        assert!(!verifies(&signature, b"that", &key.public()));
        assert!(!verifies(&signature, b"this", &other.public()));
        assert!(!verifies(&sign(&key, "file", b"this"), b"this", &key.public()));
        for cut in 0..signature.len() {
            assert!(
                !verifies(&signature[..cut], b"this", &key.public()) || signature[cut..].trim().is_empty()
            );
        }
    }

    #[test]
    fn only_ed25519_keys_are_read() {
        let key = SigningKey::generate().unwrap().public();
        let line = format!("ssh-ed25519 {} me@here", spell(&key));
        assert_eq!(public_key(&line), Some(key));
        for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa AAAA me"] {
            assert_eq!(public_key(bad), None, "{bad}");
        }
        assert_eq!(public_key(&line.replace("ssh-ed25519", "sk-ssh-ed25519@openssh.com")), None);
    }
}
