//! OCSF 1.9. `raw_data` is the journalled line; `attestation` (profile `record_integrity`) speaks of exactly these bytes.
//!
//! Pure. The fingerprints are those of our own hash chain, over `raw_data`: not over OCSF's serialization of the event, as
//! the profile would have it, since the chain is made once and must read the same behind every sink.

use super::super::{batch::Item, head::Head};
use super::compact;
use crate::{
    clock::Timestamp,
    crypto::{hex, sha256},
};
use serde_json::{Value, json};

/// A class of events, and what was done.
struct Class {
    category: u64,
    class: u64,
    activity: u64,
}

/// One event.
pub(super) fn render(item: &Item, head: &Head) -> serde_json::Result<Vec<u8>> {
    let class = class(head);
    let mut event = json!({
        "activity_id": class.activity, "category_uid": class.category, "class_uid": class.class,
        "type_uid": class.class.saturating_mul(100).saturating_add(class.activity),
        "time": head.time().map(|time| time.as_millisecond()),
        "severity_id": match head.severity { 0..=12 => 1, 13..=16 => 2, 17..=20 => 3, _ => 5 },
        "status_id": match head.outcome.as_deref() { Some("allow") => 1, Some(_) => 2, None => 0 },
        "status_code": head.reason, "message": head.kind, "metadata": metadata(item, head),
        "raw_data": String::from_utf8_lossy(&item.native), "raw_data_size": item.native.len(),
        "raw_data_hash": fingerprint(&hex(&sha256(&item.native))), "attestation": attestation(item, head),
        "actor": actor(head),
    });
    if let Some(event) = event.as_object_mut() {
        event.extend(own(&class, item, head));
    }
    compact(&mut event);
    serde_json::to_vec(&event)
}

/// What the class adds to every event's fields.
fn own(class: &Class, item: &Item, head: &Head) -> serde_json::Map<String, Value> {
    let name = head.kind.trim_end_matches(".v1");
    let own = match class.class {
        6003 => json!({
            "api": {
                "operation": name, "service": {"name": "claviger"},
                "request": head.vault.as_ref().and_then(|vault| vault.request_id.as_ref()).map(|uid| json!({"uid": uid})),
            },
            "src_endpoint": {"uid": head.source, "svc_name": head.workload},
            "resources": head.resource.as_ref().map(|resource| json!([{
                "name": resource.secret.as_deref().or(resource.path.as_deref()).unwrap_or("unknown"),
                "type": resource.kind, "version": resource.version.map(|version| version.to_string()),
            }])),
        }),
        3002 => json!({
            "user": match (&head.identity, &head.actor) {
                (Some(identity), _) => json!({"name": identity}),
                (None, Some(actor)) => json!({"uid": actor.uid.to_string()}),
                (None, None) => json!({"name": "unknown"}),
            },
            "service": {"name": if head.identity.is_some() { "vault" } else { "claviger" }},
        }),
        3004 => json!({"entity": {"name": name, "type": "credential"}, "comment": head.kind}),
        2008 => iam_finding(item, head),
        2004 => json!({"finding_info": {"uid": item.id(), "title": if head.kind.starts_with("exposure.") {
            "the value of a secret stands where it must not be"
        } else {
            "events are missing from the audit journal"
        }}}),
        _ => json!({"app": {"name": "claviger", "uid": head.source, "version": env!("CARGO_PKG_VERSION")}}),
    };
    own.as_object().cloned().unwrap_or_default()
}

/// What a report found.
fn iam_finding(item: &Item, head: &Head) -> Value {
    let report = head.report.clone().unwrap_or_default();
    let about = report.about.unwrap_or_else(|| "unknown".to_owned());
    let id = report.id.unwrap_or_else(|| "unknown".to_owned());
    let last =
        report.last_used.and_then(|last| last.parse::<Timestamp>().ok()).map(|last| last.as_millisecond());
    let desc = Some(report.evidence.join("; ")).filter(|desc| !desc.is_empty());
    json!({
        "finding_info": {
            // The same finding has the same name in the next report.
            "uid": if head.report.is_some() { hex(&sha256(format!("{id} {about}").as_bytes())) } else { item.id() },
            "title": report.title, "desc": desc, "types": [id], "last_seen_time": last,
        },
        "permission_analysis_results": [{"policy": {"name": about}, "unused_privileges_count": report.unused.unwrap_or(0)}],
        "remediation": report.fix.map(|fix| json!({"desc": fix})),
    })
}

fn class(head: &Head) -> Class {
    let of = |category, class, activity| Class { category, class, activity };
    match head.kind.trim_end_matches(".v1").split_once('.').unwrap_or_default() {
        ("secret", _) => of(6, 6003, 2),
        ("lease", "revoked") => of(6, 6003, 4),
        ("lease", _) => of(6, 6003, 3),
        ("vault" | "upstream", _) => of(6, 6003, 99),
        ("auth", "login" | "failed") | ("peer", "identified" | "rejected") => of(3, 3002, 1),
        ("auth", "revoke") | ("peer", "exited") => of(3, 3002, 2),
        ("auth", "renew") => of(3, 3002, 5),
        ("auth" | "peer", _) => of(3, 3002, 99),
        ("rotation" | "approval", _) => of(3, 3004, 3),
        ("audit", "gap") | ("exposure", "found") => of(2, 2004, 1),
        ("report", "finding") => of(2, 2008, 1),
        ("agent", "started") => of(6, 6002, 3),
        ("agent", "stopped") => of(6, 6002, 4),
        ("config", "loaded") => of(6, 6002, 8),
        _ => of(6, 6002, 99),
    }
}

fn metadata(item: &Item, head: &Head) -> Value {
    json!({
        "version": "1.9.0", "uid": item.id(), "sequence": item.place.seq, "event_code": head.kind, "log_name": "audit",
        "original_time": head.time, "logged_time": head.recorded().map(|time| time.as_millisecond()),
        "is_truncated": head.truncated.then_some(true), "untruncated_size": head.orig_size,
        "product": {"name": "claviger", "vendor_name": "claviger", "version": env!("CARGO_PKG_VERSION")},
        "profiles": ["host", "record_integrity"],
    })
}

fn attestation(item: &Item, head: &Head) -> Value {
    let chain = head.chain.clone().unwrap_or_default();
    let before = item.place.seq.checked_sub(1).filter(|seq| *seq > 0);
    json!({
        "uid": item.id(), "authority_uid": head.source, "chain_uid": chain.uid,
        "fingerprint": fingerprint(&hex(&sha256(&item.native))),
        "prev_event": before.map(|seq| json!({
            "uid": format!("{}-{seq:020}", chain.uid), "fingerprint": fingerprint(&chain.prev),
        })),
    })
}

fn fingerprint(value: &str) -> Value {
    json!({"algorithm_id": 3, "algorithm": "SHA-256", "value": value})
}

fn actor(head: &Head) -> Value {
    let rule = head
        .rule
        .as_ref()
        .map(|rule| json!([{"decision": "Allowed", "policy": {"name": rule.name, "uid": rule.rev}}]));
    match &head.actor {
        Some(actor) => json!({
            "app_name": head.workload, "authorizations": rule, "process": head.pid().map(|pid| json!({"pid": pid})),
            "user": {"uid": actor.uid.to_string(), "groups": [{"uid": actor.gid.to_string()}]},
        }),
        None => json!({"app_name": "claviger", "authorizations": rule}),
    }
}
