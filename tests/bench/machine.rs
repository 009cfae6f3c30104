//! On what it was measured: numbers without it mean nothing.

use super::{binary::Binaries, disk, process::Cores};
use std::fs;

/// A few lines above the table.
pub(super) fn describe(binaries: &Binaries, cores: &Cores) -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("a processor that does not say its name", |(_, model)| model);
    let count = about.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory =
        if disk::is_memory() { "\nthe journal lies in memory here: strict means nothing" } else { "" };
    format!(
        "{}\n{count} x {model}, Linux {}, {}{memory}",
        binaries.describe(),
        kernel.trim(),
        cores.describe()
    )
}
