//! What kinds of events there are, and their names, which are a stable interface. Pure.

/// The types that are built; the names are a stable interface. There is none for a peer that is admitted: each of its
/// accesses says who it is, and one event more would double what a fresh connection writes.
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
    PeerRepinned,
    SecretRead,
    SecretDenied,
    SecretAcked,
    SecretStaleServed,
    SecretWatchOpened,
    SecretWatchTold,
    VaultCalled,
    VaultIntent,
    VaultResult,
    VaultDenied,
    UpstreamIntent,
    UpstreamResult,
    UpstreamDenied,
    LeaseRenewed,
    LeaseRevoked,
    AuditGap,
    AuditRecovered,
    AuditSinkDown,
    AuditSinkUp,
    AuditDlq,
    AuditCheckpoint,
    Rotation(Turn),
    UsageSnapshot,
    ReportGenerated,
    ReportFinding,
    ExposureFound,
    ExposureLooked,
    ApprovalRequested,
    ApprovalGranted,
    ApprovalRefused,
    ApprovalExpired,
    ApprovalUsed,
    ApprovalBreakGlass,
    ApprovalDrill,
    ApprovalDisabled,
    ApprovalEnabled,
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
            Self::PeerRepinned => "peer.repinned.v1",
            Self::SecretRead => "secret.read.v1",
            Self::SecretDenied => "secret.denied.v1",
            Self::SecretAcked => "secret.acked.v1",
            Self::SecretStaleServed => "secret.stale_served.v1",
            Self::SecretWatchOpened => "secret.watch.opened.v1",
            Self::SecretWatchTold => "secret.watch.told.v1",
            Self::VaultCalled => "vault.called.v1",
            Self::VaultIntent => "vault.intent.v1",
            Self::VaultResult => "vault.result.v1",
            Self::VaultDenied => "vault.denied.v1",
            Self::UpstreamIntent => "upstream.intent.v1",
            Self::UpstreamResult => "upstream.result.v1",
            Self::UpstreamDenied => "upstream.denied.v1",
            Self::LeaseRenewed => "lease.renewed.v1",
            Self::LeaseRevoked => "lease.revoked.v1",
            Self::AuditGap => "audit.gap.v1",
            Self::AuditRecovered => "audit.recovered.v1",
            Self::AuditSinkDown => "audit.sink.down.v1",
            Self::AuditSinkUp => "audit.sink.up.v1",
            Self::AuditDlq => "audit.dlq.v1",
            Self::AuditCheckpoint => "audit.checkpoint.v1",
            Self::Rotation(turn) => turn.word(),
            Self::UsageSnapshot => "usage.snapshot.v1",
            Self::ReportGenerated => "report.generated.v1",
            Self::ReportFinding => "report.finding.v1",
            Self::ExposureFound => "exposure.found.v1",
            Self::ExposureLooked => "exposure.looked.v1",
            Self::ApprovalRequested => "approval.requested.v1",
            Self::ApprovalGranted => "approval.granted.v1",
            Self::ApprovalRefused => "approval.refused.v1",
            Self::ApprovalExpired => "approval.expired.v1",
            Self::ApprovalUsed => "approval.used.v1",
            Self::ApprovalBreakGlass => "approval.break_glass.v1",
            Self::ApprovalDrill => "approval.drill.v1",
            Self::ApprovalDisabled => "approval.disabled.v1",
            Self::ApprovalEnabled => "approval.enabled.v1",
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

/// What happened to a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its own name; `word` spells it")]
pub enum Turn {
    Started,
    TakenOver,
    Set,
    Promoted,
    GraceEnded,
    Revoked,
    Skipped,
    Failed,
    Orphaned,
    Quarantined,
    Reenabled,
    Drift,
    Repaired,
    RolledBack,
    Suspended,
    Resumed,
    Unorphaned,
    Adopted,
}

impl Turn {
    fn word(self) -> &'static str {
        match self {
            Self::Started => "rotation.started.v1",
            Self::TakenOver => "rotation.taken_over.v1",
            Self::Set => "rotation.set.v1",
            Self::Promoted => "rotation.promoted.v1",
            Self::GraceEnded => "rotation.grace_ended.v1",
            Self::Revoked => "rotation.revoked.v1",
            Self::Skipped => "rotation.skipped.v1",
            Self::Failed => "rotation.failed.v1",
            Self::Orphaned => "rotation.orphaned.v1",
            Self::Quarantined => "rotation.quarantined.v1",
            Self::Reenabled => "rotation.reenabled.v1",
            Self::Drift => "rotation.drift.v1",
            Self::Repaired => "rotation.repaired.v1",
            Self::RolledBack => "rotation.rolled_back.v1",
            Self::Suspended => "rotation.suspended.v1",
            Self::Resumed => "rotation.resumed.v1",
            Self::Unorphaned => "rotation.unorphaned.v1",
            Self::Adopted => "rotation.adopted.v1",
        }
    }
}
