//! `health`, `shutdown`, `log`, `sandbox`.
//!
//! Pure. Binds nothing.

use super::super::{
    file::{Node, Raw},
    reader::{Leaf, under},
};
use super::{Context, DAY, place::place_in, seconds};
use crate::{
    name::IdentityName,
    report,
    sandbox::Mode,
    shutdown,
    telemetry::{LogFormat, LogLevel, LogSettings, health},
    vault::kv2::Place,
};
use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

const MIB: u64 = 1024 * 1024;

/// `[::]:8099`, no names.
pub(super) fn default_health() -> health::Settings {
    health::Settings { listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8099)), names: false }
}

pub(super) fn health(leaf: &Leaf<'_>) -> Option<health::Settings> {
    let default = default_health();
    let mut map = leaf.map()?;
    let listen = map.or("listen", default.listen, |leaf| {
        let address = leaf.text()?.parse().ok();
        if address.is_none() {
            leaf.problem(
                "not an address and a port",
                "write \"[::]:8099\", \"0.0.0.0:8099\" or \"127.0.0.1:8099\"",
            );
        }
        address
    });
    let names = map.or("names", default.names, Leaf::flag);
    map.finish();
    Some(health::Settings { listen: listen?, names: names? })
}

pub(super) fn shutdown(leaf: &Leaf<'_>) -> Option<shutdown::Settings> {
    let mut map = leaf.map()?;
    let grace = map.or("grace", shutdown::Settings::default().grace, |leaf| leaf.duration(seconds(0, 3600)));
    map.finish();
    Some(shutdown::Settings { grace: grace? })
}

pub(super) fn report(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<report::Settings> {
    let mut map = leaf.map()?;
    let every = map.or("every", Duration::from_secs(DAY), |leaf| leaf.duration(seconds(5, 365 * DAY)));
    let since = map.or("since", Duration::from_secs(90 * DAY), |leaf| leaf.duration(seconds(1, 3650 * DAY)));
    let merge = map.given("merge", |leaf| merge(leaf, context));
    let exposure = map.given("exposure", exposure);
    map.finish();
    Some(report::Settings { every: every?, since: since?, merge: merge?, exposure: exposure? })
}

/// `{processes, files, max_size, max_files}`.
fn exposure(leaf: &Leaf<'_>) -> Option<report::exposure::Settings> {
    let mut map = leaf.map()?;
    let processes = map.or("processes", true, Leaf::flag);
    let files = map.or("files", Vec::new(), |leaf| leaf.each(Leaf::path));
    let max_size = map.or("max_size", MIB, |leaf| leaf.size(1024..=16 * MIB));
    let max_files = map.or("max_files", 100_u32, |leaf| leaf.whole(1..=10_000));
    if let (Some(false), Some([])) = (processes, files.as_deref()) {
        map.leaf().problem(
            "neither processes nor files are looked at",
            "leave exposure out, or write processes: true or files: [/srv/app/.env]",
        );
    }
    map.finish();
    Some(report::exposure::Settings {
        has_processes: processes?,
        files: files?,
        max_size: max_size?,
        max_files: usize::try_from(max_files?).unwrap_or(usize::MAX),
    })
}

/// `{identity, mount, path}`, in a KV 2 engine.
fn merge(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<report::Merge> {
    let mut map = leaf.map()?;
    let identity = map.need("identity", "the name of one of identities", |leaf| {
        leaf.refers(&context.identities, IdentityName::new)
    });
    let place = place_in(&mut map, "usage");
    map.finish();
    let Place { mount, path } = place?;
    Some(report::Merge { identity: identity?, mount, path })
}

pub(super) fn log(leaf: &Leaf<'_>) -> Option<LogSettings> {
    let default = LogSettings::default();
    let mut map = leaf.map()?;
    let level = map.or("level", default.level, |leaf| {
        leaf.word(&[
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ])
    });
    let format = map.or("format", default.format, |leaf| {
        leaf.word(&[("json", LogFormat::Json), ("text", LogFormat::Text)])
    });
    map.finish();
    Some(LogSettings { level: level?, format: format? })
}

const SANDBOX: [(&str, Mode); 3] = [("on", Mode::On), ("required", Mode::Required), ("off", Mode::Off)];

pub(super) fn sandbox(leaf: &Leaf<'_>) -> Option<Mode> {
    leaf.word(&SANDBOX)
}

/// What `sandbox` says, for the sections that are read before it; a mistake in it is found later.
pub(super) fn peek_sandbox(root: &Node) -> Mode {
    let written = under(root, "sandbox").and_then(|node| match &node.raw {
        Raw::Text(text) => SANDBOX.iter().find(|(word, _)| word == text),
        _ => None,
    });
    written.map_or(Mode::default(), |(_, mode)| *mode)
}
