//! Elastic Common Schema 8. `event.original` is the journalled line, `event.hash` its SHA-256.
//!
//! Pure. What has no field in the schema is in `event.original` alone.

use super::super::{batch::Item, head::Head};
use super::compact;
use crate::crypto::{hex, sha256};
use serde_json::{Value, json};

/// One event.
pub(super) fn render(item: &Item, head: &Head) -> serde_json::Result<Vec<u8>> {
    let (category, types) = place(head);
    let outcome = match head.outcome.as_deref() {
        Some("allow") => "success",
        Some("deny" | "error") => "failure",
        _ => "unknown",
    };
    let mut event = json!({
        "@timestamp": head.time,
        "ecs": {"version": "8.17.0"},
        "event": {
            "action": head.kind, "category": [category], "created": head.time, "dataset": "claviger.audit",
            "duration": head.latency_us.map(|us| us.saturating_mul(1000)), "hash": hex(&sha256(&item.native)),
            "id": item.id(), "ingested": head.recorded, "kind": "event", "module": "claviger",
            "original": String::from_utf8_lossy(&item.native), "outcome": outcome, "reason": head.reason,
            "sequence": item.place.seq, "severity": head.severity, "type": types,
        },
        "observer": {
            "name": head.source, "product": "claviger", "type": "secrets-agent", "version": env!("CARGO_PKG_VERSION"),
        },
        "user": head.actor.as_ref().map(|actor| json!({"id": actor.uid.to_string()})),
        "group": head.actor.as_ref().map(|actor| json!({"id": actor.gid.to_string()})),
        "process": head.pid().map(|pid| json!({
            "pid": pid, "executable": head.actor.as_ref().and_then(|actor| actor.exe.clone()),
        })),
        "service": head.workload.as_ref().map(|workload| json!({"name": workload})),
        "rule": head.rule.as_ref().map(|rule| json!({"name": rule.name, "version": rule.rev})),
        "http": head.vault.as_ref().and_then(|vault| {
            vault.request_id.as_ref().map(|id| json!({"request": {"id": id}}))
        }),
        "error": head.reason.as_ref().filter(|_| outcome == "failure").map(|reason| json!({"type": reason})),
    });
    compact(&mut event);
    serde_json::to_vec(&event)
}

/// `event.category` and `event.type`: only pairs that the schema allows.
fn place(head: &Head) -> (&'static str, Value) {
    let verdict = match head.outcome.as_deref() {
        Some("allow") => Some("allowed"),
        Some("deny") => Some("denied"),
        _ => None,
    };
    let with = |first: &'static str| match verdict {
        Some(verdict) => json!([first, verdict]),
        None => json!([first]),
    };
    match head.kind.split_once('.').unwrap_or((&head.kind, "")) {
        ("secret" | "vault" | "upstream", _) => ("api", with("access")),
        ("auth", "login.v1" | "failed.v1") => ("authentication", json!(["start"])),
        ("auth", "revoke.v1") => ("authentication", json!(["end"])),
        ("auth", _) => ("authentication", json!(["info"])),
        ("peer", "rejected.v1") => ("network", json!(["connection", "denied"])),
        ("peer", "exited.v1") => ("session", json!(["end"])),
        ("peer", _) => ("session", json!(["info"])),
        ("lease", "revoked.v1") => ("iam", json!(["deletion"])),
        ("lease" | "rotation" | "approval", _) => ("iam", json!(["change"])),
        ("config", "loaded.v1") => ("configuration", json!(["change"])),
        ("config", _) => ("configuration", json!(["info"])),
        ("agent", "started.v1") => ("process", json!(["start"])),
        ("agent", "stopped.v1") => ("process", json!(["end"])),
        ("agent", _) => ("process", json!(["info"])),
        _ => ("host", json!(["info"])),
    }
}
