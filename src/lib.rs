//! claviger: the one who carries the keys.
//!
//! A workload asks for a secret over a Unix socket of its own. The request is read from left to right, and each
//! step hands the next a value that cannot be had otherwise, so a forgotten step does not compile:
//!
//! ```text
//! listener -> peer -> policy -> approval -> keeper | forward -> audit -> answer
//! validate    permit            approve     act                 record   confirm
//! ```
//!
//! [`listener`] accepts on the workload's socket; [`peer`] takes from the kernel who is at the other end; [`policy`]
//! turns a wish into a [`policy::Permit`] or a reason against it; [`approval`] turns the permit into a
//! [`approval::Grant`]; [`keeper`] gives the value that it keeps fresh, or [`forward`] sends a request on to Vault; [`audit`] puts the event on disk and gives a
//! [`audit::Receipt`]; only with that receipt does [`api`] render an answer. [`access`] is this line as one function.
//!
//! The crate does not write secrets to files or to environment variables, and its Vault token never leaves
//! [`vault`].

// -- the path of a request, in order
pub mod listener;
pub mod peer;
pub mod api;
pub mod access;
pub mod policy;
pub mod approval;
pub mod keeper;
pub mod forward;
pub mod broker;
pub mod vault;
pub mod audit;
// -- work that no request started
pub mod rotation;
pub mod usage;
pub mod report;
// -- around it
pub mod app;
pub mod config;
pub mod cli;
pub mod telemetry;
pub mod sandbox;
pub mod receiver;
// -- words that everyone uses, and which use nothing of ours
pub mod name;
pub mod secret;
pub mod crypto;
pub mod upload;
pub mod clock;
pub mod shutdown;
