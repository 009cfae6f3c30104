//! What more than one key of the config names in Vault's engines: a place in KV 2, a key of transit.
//!
//! Pure. Whether Vault has it is found out when running.

use super::{
    super::reader::{Leaf, Map},
    mount, vault_path,
};
use crate::vault::{endpoint::TransitKey, kv2::Place};

/// `{mount, path}`, in a KV 2 engine; `example` is what a missing path is taught by.
pub(super) fn place(leaf: &Leaf<'_>, example: &str) -> Option<Place> {
    let mut map = leaf.map()?;
    let place = place_in(&mut map, example);
    map.finish();
    place
}

/// The same of a map that says more.
pub(super) fn place_in(map: &mut Map<'_>, example: &str) -> Option<Place> {
    let mounted = map.need("mount", "kv", mount);
    let path = map.need("path", example, mount);
    Some(Place { mount: mounted?, path: path? })
}

/// `MOUNT/KEY`; the mount may have more than one segment.
pub(super) fn transit_key(leaf: &Leaf<'_>) -> Option<TransitKey> {
    let path = vault_path(leaf)?;
    let (mount, name) = path.rsplit_once('/')?;
    Some(TransitKey { mount: mount.to_owned(), name: name.to_owned() })
}
