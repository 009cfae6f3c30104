//! What an approval of kind `webhook` has beside those of the others: who is told, and how it is asked.
//!
//! Pure. Never repeats an address: it may hold a password.

use super::super::reader::{Leaf, Map};
use super::{
    milliseconds,
    sinks::{PlainText, receiver, url},
};
use crate::{
    approval::{
        ssh,
        webhook::{PLACE, StatusUrl, Webhook},
    },
    crypto::PublicKey,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::time::Duration;

pub(super) fn read(map: &mut Map<'_>) -> Option<Webhook> {
    let to = receiver(map, "https://bot.internal/claviger", |_| None);
    // Both are one service: what holds for one address holds for the other.
    let is_plain = to.as_ref().is_none_or(|to| to.url.scheme() == "http");
    let plain = if is_plain { PlainText::Anywhere } else { PlainText::Loopback };
    let status_url = map.given("status_url", |leaf| {
        url(leaf, plain)?;
        let read = leaf.text().and_then(|text| StatusUrl::parse(&text));
        if read.is_none() {
            leaf.problem(
                format!("an address without a place for the request's id, which is {PLACE}"),
                "write https://HOST/PATH/{id}",
            );
        }
        read
    });
    let hmac_key_file = map.given("hmac_key_file", Leaf::path);
    let bearer_file = map.given("bearer_file", Leaf::path);
    let poll = map.or("poll", Duration::from_secs(5), |leaf| leaf.duration(milliseconds(1_000, 300_000)));
    let outcomes = map.or("outcomes", true, Leaf::flag);
    Some(Webhook {
        to: to?,
        status_url: status_url?,
        hmac_key_file: hmac_key_file?,
        bearer_file: bearer_file?,
        poll: poll?,
        outcomes: outcomes?,
    })
}

/// The service's own key: a line of a `.pub` file, or the 32 bytes in base64.
pub(super) fn key(leaf: &Leaf<'_>) -> Option<PublicKey> {
    let text = leaf.text()?;
    let bare = || STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    let key = ssh::public_key(&text).or_else(bare);
    if key.is_none() {
        leaf.problem(
            "no Ed25519 key",
            "write a line of a .pub file of type ssh-ed25519, or the key's 32 bytes in base64",
        );
    }
    key
}
