//! The client of the key-value engine, version 2, on the real Vault. `agent` has the same on the in-memory one.

use crate::kv2_promises::{Root, kv2_promises};
use lab::Vault;

kv2_promises!(on_the_real_one);

fn on_the_real_one(promise: impl AsyncFnOnce(&Root)) {
    let Some(vault) = Vault::shared() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(promise(&Root::new(&vault.url(), vault.root_token())));
}
