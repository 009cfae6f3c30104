//! What one line of audit says: a closed set of types and fields, no free maps, no field that could hold a secret.
//!
//! Pure. Does not number or chain events: the journal does, when it takes them.

pub use super::{
    approved::ApprovalRef,
    call::UpstreamRef,
    exposed::ExposureRef,
    kind::{Outcome, Turn, Type},
    pod::Pod,
    reason::Reason,
    reported::{Found, ReportRef},
    rotated::RotationRef,
    sink::SinkRef,
};

use crate::{
    clock::Timestamp,
    crypto::{Hash, hex},
    name::{IdentityName, RuleName, SecretName, WorkloadName},
    peer::level::Level,
    policy::rule::AuditMode,
    usage,
};
use std::{net::SocketAddr, time::Duration};

/// One event before it is numbered.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub kind: Type,
    /// How it ended.
    pub outcome: Outcome,
    /// Why; always there unless the outcome is `allow`.
    pub reason: Option<Reason>,
    /// When it happened; the journal never lets it decrease.
    pub time: Timestamp,
    /// Which workload's socket it came in by.
    pub workload: Option<WorkloadName>,
    /// Who asked, for events of a socket.
    pub actor: Option<Actor>,
    /// Which container the socket belonged to before.
    pub before: Option<ContainerRef>,
    /// Which identity it is about.
    pub identity: Option<IdentityName>,
    /// What was asked for.
    pub resource: Option<Resource>,
    /// Which rule allowed it.
    pub rule: Option<RuleRef>,
    /// What Vault said, if Vault was called.
    pub vault: Option<VaultRef>,
    /// Which call of another API it is about.
    pub upstream: Option<Box<UpstreamRef>>,
    /// Whether the value was in hand, and how old it was.
    pub cache: Option<Cache>,
    /// From the request's arrival to this event.
    pub latency: Option<Duration>,
    /// Facts of the agent's own events.
    pub agent: Option<AgentFacts>,
    /// How many equal refusals this event stands for beside those that have one of their own, set by the journal or by
    /// whoever refuses more than it tells; or how many events without a number a gap is of.
    pub agg: Option<Agg>,
    /// Which sink it is about, and what of it.
    pub sink: Option<SinkRef>,
    /// What the peer says that its request belongs to.
    pub trace: Option<Trace>,
    /// Which run of which rotation it is about.
    pub rotation: Option<Box<RotationRef>>,
    /// A part of the ledger of use.
    pub usage: Option<Box<usage::Part>>,
    /// A report on keys and permissions, or a finding of it.
    pub report: Option<Box<ReportRef>>,
    /// Where a value was seen that must not be there, or what was looked at.
    pub exposure: Option<Box<ExposureRef>>,
    /// Which person's yes it is about, or was done by.
    pub approval: Option<Box<ApprovalRef>>,
}

impl Event {
    /// An event of `kind` at `time`, with nothing else known yet.
    #[must_use]
    pub fn new(kind: Type, outcome: Outcome, time: Timestamp) -> Self {
        Self {
            kind,
            outcome,
            time,
            reason: None,
            workload: None,
            actor: None,
            before: None,
            identity: None,
            resource: None,
            rule: None,
            vault: None,
            upstream: None,
            cache: None,
            latency: None,
            agent: None,
            agg: None,
            sink: None,
            trace: None,
            rotation: None,
            usage: None,
            report: None,
            exposure: None,
            approval: None,
        }
    }

    /// Whether whoever asked waits for the receivers elsewhere, where the mode is `strict-remote`: before a secret leaves, before something is
    /// changed in an emergency, and to try them.
    #[must_use]
    pub fn waits_elsewhere(&self) -> bool {
        let is_emergency = || self.approval.as_ref().is_some_and(|about| about.how == Some("break_glass"));
        self.discloses()
            || self.kind == Type::ApprovalDrill
            || (self.kind == Type::VaultIntent && is_emergency())
    }

    /// Whether a secret leaves, or may, once this event is on disk, to the peer or to an upstream. Such events may not use the room held
    /// back for the agent's own events and for refusals.
    #[must_use]
    pub fn discloses(&self) -> bool {
        self.outcome == Outcome::Allow
            && matches!(
                self.kind,
                Type::SecretRead
                    | Type::SecretStaleServed
                    | Type::VaultCalled
                    | Type::VaultResult
                    | Type::UpstreamIntent
                    | Type::ApprovalBreakGlass
            )
    }
}

/// Refusals that were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agg {
    /// How many.
    pub count: u64,
    /// When the first one was.
    pub first: Timestamp,
    /// When the last one was.
    pub last: Timestamp,
}

impl Agg {
    /// Adds what `other` counted.
    pub(crate) fn join(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        (self.first, self.last) = (self.first.min(other.first), self.last.max(other.last));
    }
}

/// Who asked, by the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// `None` where another PID namespace hides it: written as `hidden`, never as 0.
    pub pid: Option<i32>,
    /// Clock ticks from boot to its start: with the pid a label for people, no identity. `None` below level `process`, and
    /// where the pid is hidden.
    pub start_time: Option<u64>,
    /// The inode of its pidfd, which is its alone as long as the machine runs; `None` below level `process`.
    pub pidfd_ino: Option<u64>,
    /// The level that was proved.
    pub level: Level,
    /// SHA-256 of its executable; `None` below level `program`.
    pub exe_sha256: Option<Hash>,
    /// The container it is in; `None` below level `container`.
    pub container: Option<ContainerRef>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRef {
    /// What it is told apart by: `cgroup N` or `mount namespace N`, by the kernel's numbers.
    pub id: String,
    /// The last part of its cgroup's path, if it was read: a label that a runtime gave.
    pub name: Option<String>,
}

/// What was said by somebody who need not speak UTF-8, as text: each byte that is no UTF-8 as `\xNN`.
#[must_use]
pub fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str("\\x");
            text.push_str(&hex(&[*byte]));
        }
    }
    text
}

/// A place in a trace (W3C Trace Context): what the peer says, and nothing that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: [u8; 16],
    /// The caller's span.
    pub span: [u8; 8],
}

/// What was asked for or changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// The key in `secrets`.
    pub secret: Option<SecretName>,
    /// `kv`, `lease`, `token`, `certificate`; absent where nothing is known of it.
    pub kind: Option<&'static str>,
    /// The engine that has it, where Vault said which; left out with `audit.hash_paths`.
    pub mount: Option<String>,
    /// What was to be done there, of a request to Vault's API: `read`, `list`, `write`, `patch`, `delete`.
    pub operation: Option<&'static str>,
    /// Where it is in Vault; hashed with `audit.hash_paths`.
    pub path: Option<String>,
    /// One field of a kv secret.
    pub field: Option<String>,
    /// The KV version, else our generation.
    pub version: Option<u64>,
    /// SHA-256 of the lease id, or of a child token's accessor, hex.
    pub lease_id_hash: Option<String>,
    /// Keyed hash of the value, with the key's version (`k3:hmac-sha256:HEX`); `none` where the value is too short for one,
    /// `unavailable` where Vault made none. Absent without `audit.fingerprint_key`.
    pub fingerprint: Option<String>,
}

/// The rule that allowed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    /// Its name.
    pub name: RuleName,
    /// The config's revision.
    pub revision: String,
    /// The audit mode that applied.
    pub mode: AuditMode,
}

/// What Vault said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VaultRef {
    /// The address that answered, without credentials.
    pub address: Option<String>,
    /// The namespace, if one is configured.
    pub namespace: Option<String>,
    /// Joins this event to Vault's own audit log.
    pub request_id: Option<String>,
    /// The identity's entity in Vault.
    pub entity_id: Option<String>,
    /// The role that was logged in to.
    pub role: Option<String>,
    /// Seconds that what was got or renewed lives.
    pub ttl: Option<u64>,
    /// HTTP status, if it was not a success.
    pub status: Option<u16>,
    /// How many bytes of a request's body were handed to the connection, where it was sent on piece by piece: no more reached Vault.
    pub sent: Option<u64>,
}

/// Whether the value was in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// No call to Vault was made for this read.
    pub hit: bool,
    /// Since the value was last confirmed by Vault.
    pub age: Duration,
}

/// Facts of the agent's own events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentFacts {
    /// Our version.
    pub version: Option<&'static str>,
    /// The config's revision.
    pub revision: Option<String>,
    /// Where health is served.
    pub health: Option<SocketAddr>,
    /// Problems found in a rejected config; their texts are in the log.
    pub problems: Option<u64>,
    /// The keys that would need a restart.
    pub keys: Vec<String>,
    /// What of the sandbox holds, as words.
    pub sandbox: Option<String>,
    /// By how much the wall clock jumped, in milliseconds.
    pub jump_ms: Option<i64>,
    /// By how much Vault's clock differs from ours, in milliseconds.
    pub skew_ms: Option<i64>,
    /// The chain that `audit.recovered` and `audit.gap` speak of.
    pub chain: Option<String>,
    /// First sequence number of a gap, or the last one that was recovered.
    pub from_seq: Option<u64>,
    /// Last sequence number of a gap.
    pub to_seq: Option<u64>,
    /// Hash of the last recovered event, hex.
    pub last_hash: Option<String>,
    /// In `agent.stopped`: events before it that the slowest required sink, or the slowest of all where none is required,
    /// had not delivered.
    pub undelivered: Option<u64>,
    /// Who signs checkpoints of this chain, and one of them.
    pub signed: Option<Box<Signed>>,
}

/// In `agent.started`: that checkpoints come, and whose. In `audit.checkpoint`: one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// `boot` or `transit`.
    pub by: &'static str,
    /// The Ed25519 public key, base64; with `transit`, known once Vault has signed.
    pub key: Option<String>,
    /// That Vault certified the key for this chain: a signed note.
    pub certificate: Option<String>,
    /// The checkpoint: a signed note.
    pub note: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_utf_8_are_shown_by_their_numbers() {
        for (bytes, text) in [
            (&b"api"[..], "api"),
            ("\u{fc}".as_bytes(), "\u{fc}"),
            (b"a\xff\xc3(", "a\\xff\\xc3("),
            (b"", ""),
        ] {
            assert_eq!(visible(bytes), text);
        }
    }

    #[test]
    fn the_source_names_the_pod_and_leaves_out_what_is_unknown() {
        let text = |text: &str| Some(text.to_owned());
        let pod = Pod { name: text("api-7c9d"), node: text("n1"), ..Pod::default() };
        assert_eq!(pod.source(), text("urn:claviger:api-7c9d/claviger"));
        let pod = Pod { cluster: text("prod"), namespace: text("payments"), ..pod };
        assert_eq!(pod.source(), text("urn:claviger:prod/payments/api-7c9d/claviger"));
        assert_eq!(Pod { name: None, ..pod }.source(), None);
    }
}
