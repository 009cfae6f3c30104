//! What Vault itself wrote down about the calls it got: the independent witness for "claviger made N calls".
//! Source: Vault's documentation, "Audit devices", "File". Token and secret values in it are HMACs; accessors are not.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// A file audit device of a [`crate::Vault`], enabled when this was made.
#[derive(Debug, Clone)]
pub struct AuditFile {
    path: PathBuf,
}

impl AuditFile {
    pub(crate) fn new(path: PathBuf) -> AuditFile {
        AuditFile { path }
    }

    /// Every whole line, oldest first: one of `type` `request` and one of `response` for each call. Vault writes the
    /// response line before it answers, so a call whose answer you hold is in here.
    ///
    /// # Panics
    /// When the file cannot be read or a whole line is not JSON.
    pub fn entries(&self) -> Vec<Value> {
        let raw =
            fs::read(&self.path).unwrap_or_else(|error| panic!("reading {}: {error}", self.path.display()));
        let text = String::from_utf8_lossy(&raw);
        let whole = text.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("audit line {line:?}: {error}"));
        whole.lines().map(parse).collect()
    }

    /// The calls for which `wanted` holds, counted once each. It gets the line of `type` `request`, with
    /// `/request/operation` (`read`, `update` …), `/request/path` (`auth/token/renew-self`) and `/auth/accessor`.
    pub fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.entries().iter().filter(|entry| entry["type"] == "request" && wanted(entry)).count()
    }

    /// The calls of one path, whatever their operation. A `*` at its end stands for any rest.
    pub fn calls(&self, path: &str) -> usize {
        self.count(|entry| {
            let called = entry.pointer("/request/path").and_then(Value::as_str).unwrap_or_default();
            match path.strip_suffix('*') {
                Some(prefix) => called.starts_with(prefix),
                None => called == path,
            }
        })
    }
}
