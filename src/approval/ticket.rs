//! What a person is asked, as the one text that is signed for: who wants to do what, by which rule, until when.
//!
//! Pure. The text is canonical JSON (RFC 8785): keys in the order of their bytes, no blanks. It holds no secret and no body, only
//! the body's hash, its size and the names of its first fields.

use crate::crypto::{Hash, hex, sha256};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// The longest reason that a person may give, in bytes.
pub const LONGEST_REASON: usize = 200;

/// What is asked. The fields stand in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The key in `approvals`.
    pub approval: String,
    /// How often and how long a yes may be used, and how many are needed.
    pub constraints: Constraints,
    /// With whose token it is done.
    pub identity: String,
    /// Tells two requests of the same thing apart; empty in the text of the fingerprint.
    pub nonce: String,
    /// Until when a yes counts (RFC 3339); empty in the text of the fingerprint.
    pub not_after: String,
    /// `read`, `list`, `write`, `patch`, `delete`, an HTTP method, the kind of a rotation, or `review` and `enable` of a rule for emergencies.
    pub op: String,
    /// What it is done to.
    pub resource: Resource,
    /// The rule that permits it.
    pub rule: String,
    /// Who asks.
    pub workload: Asker,
}

/// See [`Ticket::constraints`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// How many must say yes.
    pub quorum: u64,
    /// How often it may be done.
    pub uses: u64,
    /// For how many seconds from the last yes on.
    pub valid_for: u64,
}

/// What something is done to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// What goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// Headers that go with it and say what is to be done.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// `secret`, `vault`, `upstream`, `rotation` or `break_glass`.
    pub kind: String,
    /// The key in `secrets`, `upstreams` or `rotations`, or a rule's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Vault's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Canonical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// As it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Why a person asked for a rotation, or broke a glass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which slot of a rotation, in local time with its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
}

/// What is known of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Its size.
    pub bytes: u64,
    /// The names of the first fields, where it is a JSON object: never a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// Hex.
    pub sha256: String,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asker {
    /// Of its executable, hex; absent below level `program`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_sha256: Option<String>,
    /// The key in `workloads`.
    pub name: String,
    /// The Kubernetes namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's uid; outside of Kubernetes the agent's `source`. Of a rotation, the journal that its replicas share.
    pub place: String,
    /// The ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// The process's user; absent where no process asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

impl Body {
    /// What is known of `bytes`; `None` for none.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        const FIELDS: usize = 20;
        if bytes.is_empty() {
            return None;
        }
        let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(bytes).ok();
        let shown = |name: &String| name.chars().filter(|c| !c.is_control()).take(64).collect();
        let fields = object.iter().flat_map(serde_json::Map::keys).take(FIELDS).map(shown).collect();
        Some(Self { bytes: bytes.len() as u64, fields, sha256: hex(&sha256(bytes)) })
    }
}

impl Ticket {
    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        // This shape cannot fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The same for equal requests.
    #[must_use]
    pub fn fingerprint(&self) -> Hash {
        let plain = Self { nonce: String::new(), not_after: String::new(), ..self.clone() };
        sha256(plain.text().as_bytes())
    }
}

/// What the text of a ticket is signed by: its hash.
#[must_use]
pub fn digest(text: &str) -> Hash {
    sha256(text.as_bytes())
}

/// In the words of a person.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resource { body, headers, kind, name, namespace, path, query, reason, slot } = &self.resource;
        let name = name.as_deref().unwrap_or_default();
        let path = path.as_deref().unwrap_or_default();
        match kind.as_str() {
            "secret" => write!(f, "{} the secret {name}", self.op)?,
            "rotation" => write!(f, "rotate {name} ({}, {path})", self.op)?,
            "upstream" => write!(f, "call {name}: {} {path}", self.op)?,
            "break_glass" if self.op == "review" => {
                write!(f, "have an emergency reviewed, in which it had the rule {name}")?;
            }
            "break_glass" => write!(f, "have the rule {name} for emergencies again, which is disabled")?,
            _ => write!(f, "{} {path} in Vault", self.op)?,
        }
        if let Some(query) = query {
            write!(f, "?{query}")?;
        }
        if let Some(namespace) = namespace {
            write!(f, ", namespace {namespace}")?;
        }
        if let Some(Body { bytes, fields, sha256 }) = body {
            write!(f, ", with {bytes} bytes (sha256 {sha256})")?;
            if !fields.is_empty() {
                write!(f, " that set {}", fields.join(", "))?;
            }
        }
        for (name, value) in headers {
            write!(f, ", {name}: {value}")?;
        }
        if let Some(slot) = slot {
            write!(f, ", in its slot of {slot}")?;
        }
        match reason {
            Some(reason) => write!(f, ", asked for: {reason}"),
            None => Ok(()),
        }
    }
}

/// What a person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Approve,
    /// No.
    Refuse,
}

impl Decision {
    /// The word of the vote, and of the command.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Refuse => "refuse",
        }
    }
}

/// What a person leaves in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// [`Decision::word`].
    pub decision: String,
    /// Of the ticket that was shown, hex.
    pub digest: String,
    /// Why, on one line.
    pub reason: String,
    /// Under the [`statement`]: `vault:vN:BASE64` of a transit key, an armoured SSH signature, or base64.
    pub signature: String,
}

impl Vote {
    /// What it says; `None`: nothing that can be counted.
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        [Decision::Approve, Decision::Refuse].into_iter().find(|decision| decision.word() == self.decision)
    }
}

/// The text that a signature is made of.
#[must_use]
pub fn statement(decision: Decision, digest: &Hash, reason: &str) -> String {
    format!("claviger approval\n{}\n{}\n{reason}\n", decision.word(), hex(digest))
}

/// Whether `reason` may stand in a statement: one line, with something in it.
#[must_use]
pub fn is_reason(reason: &str) -> bool {
    !reason.trim().is_empty() && reason.len() <= LONGEST_REASON && !reason.chars().any(char::is_control)
}

/// What is in the store of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The text of the [`Ticket`].
    pub ticket: String,
    /// Who may say yes: for the command to find itself in. Nothing is decided by it.
    pub approvers: Vec<ShownApprover>,
    /// Where the approvers' transit keys are.
    pub transit: String,
    /// What it is authorized by where Vault itself asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accessor: Option<String>,
}

/// One who may say yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownApprover {
    /// The key in `approvers`.
    pub name: String,
    /// Where the vote is written, below the request.
    pub slot: String,
    /// The entity in Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<String>,
    /// The SSH key, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            approval: "two".into(),
            constraints: Constraints { quorum: 2, uses: 1, valid_for: 600 },
            identity: "reports".into(),
            nonce: "aa".into(),
            not_after: "2027-01-01T00:00:00.000000Z".into(),
            op: "write".into(),
            resource: Resource {
                body: Body::of(br#"{"b":1,"a":2}"#),
                kind: "vault".into(),
                path: Some("secret/data/x".into()),
                ..Resource::default()
            },
            rule: "writes".into(),
            workload: Asker {
                exe_sha256: None,
                name: "job".into(),
                namespace: None,
                place: "pod-1".into(),
                service_account: None,
                uid: Some(20001),
            },
        }
    }

    #[test]
    fn the_text_is_canonical_json_and_reads_back() {
        let text = ticket().text();
        let sorted: serde_json::Value = serde_json::from_str(&text).unwrap();
        let sorted: BTreeMap<String, serde_json::Value> = serde_json::from_value(sorted).unwrap();
        assert_eq!(serde_json::to_string(&sorted).unwrap(), text);
        assert_eq!(serde_json::from_str::<Ticket>(&text).unwrap(), ticket());
        assert!(
            text.starts_with(r#"{"approval":"two","constraints":{"quorum":2,"uses":1,"valid_for":600},"#)
        );
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Ticket), joins: bool) {
        let mut other = ticket();
        change(&mut other);
        assert_eq!(other.fingerprint() == ticket().fingerprint(), joins);
        assert_ne!(digest(&other.text()), digest(&ticket().text()));
    }

    #[test]
    fn equal_requests_join_and_nothing_else_does() {
        check(|ticket| ticket.nonce = "bb".into(), true);
        check(|ticket| ticket.not_after = "2027-01-02T00:00:00.000000Z".into(), true);
        check(|ticket| ticket.resource.body = Body::of(b"{}"), false);
        check(|ticket| ticket.resource.path = Some("secret/data/y".into()), false);
        check(|ticket| ticket.workload.place = "pod-2".into(), false);
        check(|ticket| ticket.workload.uid = Some(1), false);
        check(|ticket| ticket.rule = "others".into(), false);
        check(|ticket| ticket.constraints.uses = 2, false);
        check(|ticket| ticket.op = "patch".into(), false);
        check(|ticket| ticket.resource.slot = Some("2026-11-29T03:00:00-05:00".into()), false);
    }

    #[test]
    fn a_person_reads_what_is_asked_and_no_value_of_it() {
        let body = hex(&sha256(br#"{"b":1,"a":2}"#));
        assert_eq!(
            ticket().to_string(),
            format!("write secret/data/x in Vault, with 13 bytes (sha256 {body}) that set a, b")
        );
        let secret = Resource { kind: "secret".into(), name: Some("stripe".into()), ..Resource::default() };
        let read = Ticket { op: "read".into(), resource: secret, ..ticket() };
        assert_eq!(read.to_string(), "read the secret stripe");
        let rotation = Resource {
            kind: "rotation".into(),
            name: Some("orders".into()),
            path: Some("secret/orders".into()),
            reason: Some("leaked in a log".into()),
            slot: Some("2026-11-29T03:00:00-05:00".into()),
            ..Resource::default()
        };
        let rotate = Ticket { op: "two-slot".into(), resource: rotation, ..ticket() };
        assert_eq!(
            rotate.to_string(),
            "rotate orders (two-slot, secret/orders), in its slot of 2026-11-29T03:00:00-05:00, asked for: leaked in a log"
        );
    }

    #[test]
    fn a_reason_is_one_line_with_something_in_it() {
        for (reason, right) in [("release 7", true), ("", false), (" ", false), ("a\nb", false)] {
            assert_eq!(is_reason(reason), right, "{reason:?}");
        }
        assert!(!is_reason(&"x".repeat(LONGEST_REASON + 1)));
    }
}
