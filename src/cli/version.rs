//! `version`: what this binary is.

use super::{
    answer,
    exit::{Exit, Failure},
};
use crate::telemetry::TLS;
use std::env::consts::{ARCH, OS};

/// Say what this binary is
///
/// Its version, the library that speaks TLS in it, what it was built for, and which optional features it has.
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
    let built = [("http2", cfg!(feature = "http2")), ("sigv4", cfg!(feature = "sigv4"))];
    let features: Vec<&str> = built.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
    let text = if args.json {
        let json =
            serde_json::json!({"version": version, "tls": TLS, "target": target, "features": features});
        format!("{json}\n")
    } else {
        let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
        format!("claviger {version}\ntls: {TLS}\ntarget: {target}\noptional features: {features}\n")
    };
    answer(text.as_bytes())
}
