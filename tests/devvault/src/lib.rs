//! An in-memory Vault for claviger's tests and demo: deterministic, with scripted faults and recorded calls.
//! It answers like Vault 1.21.1 where claviger looks, which the contract suite holds it to; it has no cryptography,
//! no storage and no place for real secrets.
//!
//! A call goes `serve` (a socket) or [`DevVault::answer`] (none) -> the record of calls -> scripts -> `state`:
//! parse, state of the server, quota, token, policy, route -> envelope.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use devvault::{DevVault, Fault, Kind, Matcher, RoleSettings, Times};
//! use std::time::Duration;
//!
//! let vault = DevVault::new();
//! vault.mount("secret", Kind::KvV2);
//! vault.put_kv("secret/payments/stripe", &[("api_key", "sk_test")]);
//! vault.policy("reports", &[("secret/data/payments/*", &["read"])]);
//! let ids = vault.approle("approle", "reports", RoleSettings::policies(&["reports"]).ttl(Duration::from_secs(60)));
//! vault.script(Matcher::renew_self(), Fault::denied(), Times::Next(1));
//! let server = vault.serve("127.0.0.1:0").await?;
//! # let (_, _) = (ids, server);
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

mod vault;
mod serve;
mod body;
mod calls;
mod matcher;
mod fault;
mod prepare;
// -- the server itself
mod state;
mod ask;
mod outcome;
mod policy;
mod sys;
mod token;
mod lease;
mod auth;
mod engine;
// -- words everyone uses
mod ttl;
mod duration;
mod ids;
mod clock;

pub use auth::{ClientCertificate, RoleSettings};
pub use calls::Call;
pub use engine::Kind;
pub use fault::{Edit, Fault, Gate, ScriptId, Times};
pub use matcher::Matcher;
pub use prepare::{LeaseView, RoleIds, TokenView};
pub use serve::Server;
pub use sys::{ControlGroup, Person, Standing, WaitingView};
pub use token::TokenType;
pub use vault::{ConnectionLost, DevVault, NotCalled};
