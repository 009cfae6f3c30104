//! The attestor: a small process beside the agent that looks at what other processes execute.
//!
//! A process of its own, since the agent's sandbox would blind it, and since what it reads is chosen by strangers. It has no
//! network, no secret and no other business; what it does not answer in time is a refusal. Two layers: [`parent`] starts
//! [`worker`] again when that has died. Does not decide who may have what.

mod ancestry;
mod client;
mod digest;
mod harden;
mod idle;
mod image;
mod memory;
mod open;
mod parent;
mod proc;
mod texts;
mod wire;
mod worker;

#[cfg(test)]
mod tests;

pub use client::{Attestor, Image, Opened, Started};
pub use parent::{parent, worker};
pub use wire::Depth;
