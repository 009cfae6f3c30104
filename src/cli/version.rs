//! `version`: what this binary is.

use super::{
    answer,
    exit::{Exit, Failure},
};
use crate::telemetry::TLS;
use std::env::consts::{ARCH, OS};

/// Say what this binary is
///
/// Its version, the library that speaks TLS in it, and what it was built for.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger version
  claviger version --json | jq -r .version

Exit codes: 0 said")]
pub(super) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let target = format!("{ARCH}-{OS}-{}", if cfg!(target_env = "musl") { "musl" } else { "gnu" });
    let text = if args.json {
        format!("{}\n", serde_json::json!({"version": version, "tls": TLS, "target": target}))
    } else {
        format!("claviger {version}\ntls: {TLS}\ntarget: {target}\n")
    };
    answer(text.as_bytes())
}
