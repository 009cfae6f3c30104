//! `inject: {sigv4: …}`: what requests to AWS are signed for.
//!
//! Pure.

use super::super::reader::Leaf;
use crate::broker::inject::sigv4::{IS_BUILT, Payload, Signing};

/// Reads it; refused by name where this binary cannot sign.
pub(super) fn read(leaf: &Leaf<'_>) -> Option<Signing> {
    let mut map = leaf.map()?;
    let region = map.need("region", "eu-west-1 or whichever the upstream is in", name);
    let service = map.need("service", "bedrock, s3, execute-api, or whatever signatures call it", name);
    let mut unsigned = None;
    let payload = map.or("payload", Payload::Signed, |leaf| {
        let payload = leaf.word(&[("signed", Payload::Signed), ("unsigned", Payload::Unsigned)])?;
        unsigned = (payload == Payload::Unsigned).then(|| leaf.clone());
        Some(payload)
    });
    map.finish();
    if !IS_BUILT {
        leaf.problem(
            "not in this build: signing by sigv4",
            "build claviger with `--features sigv4` (`claviger version` says what a binary has), or remove it",
        );
        return None;
    }
    let signing = Signing { region: region?, service: service?, payload: payload? };
    if let Some(leaf) = unsigned.filter(|_| !signing.is_s3()) {
        leaf.problem("an unsigned payload, which S3 alone takes", "write payload: signed");
        return None;
    }
    Some(signing)
}

/// A word as AWS has them: lower-case letters, digits, hyphens.
fn name(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    let fits = text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !fits {
        leaf.problem(
            "not a name that AWS has",
            "write lower-case letters, digits and hyphens, as in eu-west-1",
        );
        return None;
    }
    Some(text)
}
