//! A rotation's `wrap`: which transit key encrypts what its journal keeps.
//!
//! Pure.

use super::{
    super::reader::{Leaf, Map},
    vault_path,
};
use crate::{rotation::Kind, vault::endpoint::TransitKey};

/// The key, if one is named.
pub(super) fn read(map: &mut Map<'_>) -> Option<Option<TransitKey>> {
    map.given("wrap", |leaf| {
        let mut map = leaf.map()?;
        let key = map.need("transit", "MOUNT/KEY, as in transit/rotation", key);
        map.finish();
        key
    })
}

fn key(leaf: &Leaf<'_>) -> Option<TransitKey> {
    let path = vault_path(leaf)?;
    let (mount, name) = path.rsplit_once('/')?;
    Some(TransitKey { mount: mount.to_owned(), name: name.to_owned() })
}

/// What Vault makes by itself is in no journal.
pub(super) fn of_ours(leaf: &Leaf<'_>, kind: Option<&Kind>, wrap: Option<&TransitKey>) {
    if wrap.is_some() && matches!(kind, Some(Kind::Trigger(_))) {
        leaf.problem("a wrap of what Vault rotates: its journal has no value", "remove wrap");
    }
}
