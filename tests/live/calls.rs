//! The calls that Vault itself wrote down, without the tests' own.
//! Knows Vault's audit lines and nothing of claviger's.

use lab::AuditFile;
use serde_json::Value;

/// One call that Vault got from claviger, or from anybody else who is not root.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// When, in seconds of Vault's clock.
    pub(crate) at: f64,
    pub(crate) path: String,
    /// Which token made it; empty for a login.
    pub(crate) accessor: String,
    pub(crate) error: String,
}

/// Whether the root token made this call.
pub(crate) fn is_root(entry: &Value) -> bool {
    let policies = entry.pointer("/auth/policies").and_then(Value::as_array);
    policies.is_some_and(|policies| policies.contains(&Value::from("root")))
}

/// All of them, oldest first.
pub(crate) fn ours(audit: &AuditFile) -> Vec<Call> {
    let text = |entry: &Value, pointer: &str| {
        entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let wanted = |entry: &&Value| {
        entry["type"] == "request" && !is_root(entry) && entry["request"]["path"] != "sys/audit/test"
    };
    let call = |entry: &Value| Call {
        at: text(entry, "/time").parse::<jiff::Timestamp>().unwrap().as_millisecond() as f64 / 1000.0,
        path: text(entry, "/request/path"),
        accessor: text(entry, "/auth/accessor"),
        error: text(entry, "/error"),
    };
    audit.entries().iter().filter(wanted).map(call).collect()
}

/// Those of one path.
pub(crate) fn at(audit: &AuditFile, path: &str) -> Vec<Call> {
    ours(audit).into_iter().filter(|call| call.path == path).collect()
}

/// How many there are of one path.
pub(crate) fn count(audit: &AuditFile, path: &str) -> usize {
    at(audit, path).len()
}

/// The accessors of the tokens that logins at `path` gave, oldest first.
pub(crate) fn logged_in(audit: &AuditFile, path: &str) -> Vec<String> {
    let given = |entry: &Value| {
        let accessor = entry.pointer("/response/auth/accessor")?.as_str()?;
        (entry["type"] == "response" && entry["request"]["path"] == path).then(|| accessor.to_owned())
    };
    audit.entries().iter().filter_map(given).collect()
}
