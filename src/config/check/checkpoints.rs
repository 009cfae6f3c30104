//! `audit.checkpoints`: who signs how far the journal has come, and where that is anchored.
//!
//! Pure. Whether Vault has the key and the engine is found out when running.

use super::super::reader::Leaf;
use super::{
    Context,
    place::{place, transit_key},
};
use crate::{
    audit::checkpoint::{Settings, Signer},
    name::IdentityName,
};

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Settings> {
    let mut map = leaf.map()?;
    let signer =
        map.need("signer", "boot", |leaf| leaf.word(&[("boot", Signer::Boot), ("transit", Signer::Transit)]));
    let key = map.given("key", transit_key);
    let anchor = map.given("anchor", |leaf| place(leaf, "claviger/anchor"));
    let identity = map.given("identity", |leaf| leaf.refers(&context.identities, IdentityName::new));
    map.finish();
    let settings = Settings { signer: signer?, key: key?, anchor: anchor?, identity: identity? };
    let calls = settings.key.is_some() || settings.anchor.is_some();
    if settings.signer == Signer::Transit && settings.key.is_none() {
        leaf.problem(
            "signer: transit without a key",
            "write key: transit/NAME, an ed25519 key in Vault's transit engine",
        );
    } else if calls && settings.identity.is_none() {
        leaf.problem(
            "a key or an anchor in Vault without an identity",
            "write identity: NAME, one of identities",
        );
    } else if !calls && settings.identity.is_some() {
        leaf.problem(
            "an identity without a key and an anchor",
            "remove it: Vault is not called for checkpoints",
        );
    } else {
        return Some(settings);
    }
    None
}
