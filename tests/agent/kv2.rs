//! The client of the key-value engine, version 2, on the in-memory Vault. `live` has the same on the real one.

use crate::kv2_promises::{Root, kv2_promises};
use devvault::DevVault;

kv2_promises!(on_the_double);

#[tokio::main(flavor = "current_thread")]
async fn on_the_double(promise: impl AsyncFnOnce(&Root)) {
    let vault = DevVault::new();
    let server = vault.serve("127.0.0.1:0").await.unwrap();
    promise(&Root::new(&server.url(), &vault.root_token())).await;
}
