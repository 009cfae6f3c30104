//! What one line of audit says: a closed set of types and fields, no free maps, no field that could hold a secret.
//!
//! Pure. Does not number or chain events: the journal does, when it takes them.

use crate::{
    clock::Timestamp,
    name::{IdentityName, RuleName, SecretName, WorkloadName},
    peer::level::Level,
    policy::rule::AuditMode,
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
    /// Which identity it is about.
    pub identity: Option<IdentityName>,
    /// What was asked for.
    pub resource: Option<Resource>,
    /// Which rule allowed it.
    pub rule: Option<RuleRef>,
    /// What Vault said, if Vault was called.
    pub vault: Option<VaultRef>,
    /// Whether the value was in hand, and how old it was.
    pub cache: Option<Cache>,
    /// From the request's arrival to this event.
    pub latency: Option<Duration>,
    /// Facts of the agent's own events.
    pub agent: Option<AgentFacts>,
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
            identity: None,
            resource: None,
            rule: None,
            vault: None,
            cache: None,
            latency: None,
            agent: None,
        }
    }

    /// Whether a secret leaves once this event is on disk. Such events may not use the room held back for the
    /// agent's own events and for refusals.
    #[must_use]
    pub fn discloses(&self) -> bool {
        self.outcome == Outcome::Allow && matches!(self.kind, Type::SecretRead | Type::SecretStaleServed)
    }
}

/// The types that are built; the names are a stable interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its own name; `word` spells it")]
pub enum Type {
    AgentStarted,
    AgentStopped,
    AgentClockJump,
    ConfigLoaded,
    ConfigRejected,
    AuthLogin,
    AuthRenew,
    AuthRevoke,
    AuthFailed,
    PeerRejected,
    PeerExited,
    SecretRead,
    SecretDenied,
    SecretAcked,
    SecretStaleServed,
    LeaseRenewed,
    LeaseRevoked,
    AuditGap,
    AuditRecovered,
}

impl Type {
    /// The event's `type`: dotted, and ending in its version.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AgentStarted => "agent.started.v1",
            Self::AgentStopped => "agent.stopped.v1",
            Self::AgentClockJump => "agent.clock_jump.v1",
            Self::ConfigLoaded => "config.loaded.v1",
            Self::ConfigRejected => "config.rejected.v1",
            Self::AuthLogin => "auth.login.v1",
            Self::AuthRenew => "auth.renew.v1",
            Self::AuthRevoke => "auth.revoke.v1",
            Self::AuthFailed => "auth.failed.v1",
            Self::PeerRejected => "peer.rejected.v1",
            Self::PeerExited => "peer.exited.v1",
            Self::SecretRead => "secret.read.v1",
            Self::SecretDenied => "secret.denied.v1",
            Self::SecretAcked => "secret.acked.v1",
            Self::SecretStaleServed => "secret.stale_served.v1",
            Self::LeaseRenewed => "lease.renewed.v1",
            Self::LeaseRevoked => "lease.revoked.v1",
            Self::AuditGap => "audit.gap.v1",
            Self::AuditRecovered => "audit.recovered.v1",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It was permitted and done.
    Allow,
    /// It was refused.
    Deny,
    /// It was permitted and failed.
    Error,
}

impl Outcome {
    /// The word of the events and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Error => "error",
        }
    }
}

/// Why something was refused or failed: a closed set, the same words in answers (`reason`), events and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No rule of the workload names it, or it does not exist: the two answer alike.
    NoRule,
    /// The peer's uid may not use this socket.
    WrongUid,
    /// The peer's gid may not use this socket.
    WrongGid,
    /// The peer lacks a supplementary group.
    WrongGroups,
    /// The kernel would not say who the peer is.
    PeerUnknown,
    /// The peer is known less surely than the workload requires.
    LevelNotReached,
    /// The peer's uid or gid is that of everybody whom our user namespace does not map.
    OverflowId,
    /// The peer's uid or gid is no longer the one it connected with.
    CredsDrift,
    /// The process that connected has ended.
    PeerExited,
    /// Another process than the one that connected wrote to the connection.
    WriterMismatch,
    /// The peer passed descriptors.
    FdsPassed,
    /// The kernel's word on who wrote was cut off.
    ControlTruncated,
    /// The kernel cannot name the process of a peer.
    KernelTooOld,
    /// The request is malformed.
    BadRequest,
    /// A head, body or parameter is over its cap.
    TooLarge,
    /// Over this workload's rate or connections.
    RateLimited,
    /// As many processes as may have a token of their own have one.
    TooManyProcesses,
    /// There is no value yet.
    NotReady,
    /// Vault cannot be reached, and nothing valid is in hand.
    VaultAway,
    /// Vault is sealed, and nothing valid is in hand.
    VaultSealed,
    /// Vault refuses this identity.
    VaultDenied,
    /// Vault has no such thing.
    VaultMissing,
    /// Vault says the request is wrong.
    VaultInvalid,
    /// Vault asks us to slow down.
    VaultSlow,
    /// Vault's answer makes no sense.
    VaultNonsense,
    /// A credential file cannot be read or is malformed.
    CredentialFile,
    /// The call budget is used up.
    Budget,
    /// The journal cannot be written.
    AuditUnavailable,
    /// The secret was on its way when the client hung up.
    Undelivered,
    /// A config with mistakes.
    ConfigInvalid,
    /// A config change that needs a restart.
    NeedsRestart,
    /// A stop was asked for.
    Stopping,
    /// The wall clock jumped.
    ClockJump,
    /// The last process ended without a stop.
    Crash,
    /// Bytes of the journal were damaged.
    JournalDamaged,
    /// The journal's file was removed or replaced.
    JournalReplaced,
    /// Something of ours is broken.
    Internal,
}

impl Reason {
    /// The word of the answers, the events and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::WrongUid => "wrong_uid",
            Self::WrongGid => "wrong_gid",
            Self::WrongGroups => "wrong_groups",
            Self::PeerUnknown => "peer_unknown",
            Self::LevelNotReached => "level_not_reached",
            Self::OverflowId => "overflow_id",
            Self::CredsDrift => "creds_drift",
            Self::PeerExited => "peer_exited",
            Self::WriterMismatch => "writer_mismatch",
            Self::FdsPassed => "fds_passed",
            Self::ControlTruncated => "control_truncated",
            Self::KernelTooOld => "kernel_too_old",
            Self::BadRequest => "bad_request",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::TooManyProcesses => "too_many_processes",
            Self::NotReady => "not_ready",
            Self::VaultAway => "vault_away",
            Self::VaultSealed => "vault_sealed",
            Self::VaultDenied => "vault_denied",
            Self::VaultMissing => "vault_missing",
            Self::VaultInvalid => "vault_invalid",
            Self::VaultSlow => "vault_slow",
            Self::VaultNonsense => "vault_nonsense",
            Self::CredentialFile => "credential_file",
            Self::Budget => "budget",
            Self::AuditUnavailable => "audit_unavailable",
            Self::Undelivered => "undelivered",
            Self::ConfigInvalid => "config_invalid",
            Self::NeedsRestart => "needs_restart",
            Self::Stopping => "stopping",
            Self::ClockJump => "clock_jump",
            Self::Crash => "crash",
            Self::JournalDamaged => "journal_damaged",
            Self::JournalReplaced => "journal_replaced",
            Self::Internal => "internal",
        }
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
    /// The level that was proved.
    pub level: Level,
}

/// What was asked for or changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// The key in `secrets`.
    pub secret: Option<SecretName>,
    /// `kv`, `lease`, `token`, `certificate`; absent where nothing is known of it.
    pub kind: Option<&'static str>,
    /// Where it is in Vault; hashed with `audit.hash_paths`.
    pub path: Option<String>,
    /// One field of a kv secret.
    pub field: Option<String>,
    /// The KV version, else our generation.
    pub version: Option<u64>,
    /// SHA-256 of the lease id, or of a child token's accessor, hex.
    pub lease_id_hash: Option<String>,
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
}
