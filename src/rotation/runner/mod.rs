//! The runner: a small process beside the agent that executes one program of the config, for rotations with the driver `exec`.
//!
//! It is started before the agent gives up execve(2), and knows its program from then on: whoever took the agent over could
//! have that program run, and no other. What the program must know goes to its standard input; never into its arguments or
//! its environment. Does not decide when it is run.

mod client;
mod server;
mod wire;

pub use client::{Runner, Started};
pub use server::serve;
pub use wire::{LONGEST, Ran};
