//! `health`, `shutdown`, `log`, `sandbox`.
//!
//! Pure. Binds nothing.

use super::super::reader::{Leaf, Map};
use super::seconds;
use crate::{
    shutdown,
    telemetry::{LogFormat, LogLevel, LogSettings, health},
};
use std::net::{Ipv6Addr, SocketAddr};

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

/// `off`, or nothing, is what there is.
pub(super) fn sandbox(root: &mut Map<'_>) {
    #[derive(Clone, Copy)]
    enum Sandbox {
        Off,
        Wanted,
    }
    let Some(leaf) = root.find("sandbox") else { return };
    let word = leaf.word(&[("off", Sandbox::Off), ("on", Sandbox::Wanted), ("required", Sandbox::Wanted)]);
    if matches!(word, Some(Sandbox::Wanted)) {
        leaf.not_built("sandbox");
    }
}
