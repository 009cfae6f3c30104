//! Why something was refused or failed, in one word. Which word the refusals and failures of the other modules get is in `because`.
//!
//! Pure.

use super::kind::Outcome;
use crate::{approval::Want, broker::fault::Fault};

/// Why something was refused or failed: a closed set, the same words in answers (`reason`), events and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No rule of the workload names it, or it does not exist: the two answer alike.
    NoRule,
    /// No rule can allow it.
    NeverForwarded,
    /// It asks for a wrapped answer.
    Wrapped,
    /// What came back had our own token in it.
    OwnToken,
    /// A child token was asked for, or came back, that is more than the rule's terms.
    TokenTerms,
    /// The peer's uid may not use this socket.
    Uid,
    /// The peer's gid may not use this socket.
    Gid,
    /// The peer lacks a supplementary group.
    Groups,
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
    /// The peer's process is hidden from us, and the level needs to see it.
    PidNotVisible,
    /// The peer is in another container than the one that uses the socket, or in none that can be told for sure.
    Container,
    /// The peer does not descend from its container's main process.
    Ancestry,
    /// The peer has a terminal.
    Tty,
    /// The peer's executable cannot be read.
    ExeUnreadable,
    /// The peer's executable has no name any more.
    ExeDeleted,
    /// The peer's executable is larger than what is hashed.
    ExeTooBig,
    /// The peer's executable is not one of those that are permitted.
    Digest,
    /// The peer executes code from a file that is not permitted.
    MappingNotAllowed,
    /// The peer can execute memory that is no file's.
    AnonExec,
    /// The peer's code in memory is not that of its file.
    TextModified,
    /// The peer is being traced.
    Traced,
    /// The peer executes another program than when it was looked at.
    ImageChanged,
    /// The peer did not send back the nonce of its connection.
    NoNonce,
    /// The peer may gain privileges by executing.
    NoNewPrivs,
    /// The peer has no seccomp filter.
    Seccomp,
    /// The peer's program does whatever its arguments and input say.
    Steerable,
    /// What looks at peers failed.
    AttestorFailed,
    /// Looking at the peer took too long.
    Timeout,
    /// The policy changed while the peer was being looked at.
    PolicyReload,
    /// Over this workload's connections, or the processes that can be told apart.
    Connections,
    /// The request is malformed.
    BadRequest,
    /// A head, body or parameter is over its cap.
    TooLarge,
    /// Over this workload's rate.
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
    /// Events were dropped while the journal could not be written: nobody had waited for them.
    Dropped,
    /// A sink's receiver cannot be reached, or does not take events now.
    SinkFailed,
    /// A sink's receiver will never take an event.
    SinkRefused,
    /// A sink's receiver rejected some of a batch, and does not say which.
    SinkPartial,
    /// A sink was so far behind that events were gone before it could have them.
    SinkBehind,
    /// The journal is older than what was anchored in Vault.
    RolledBack,
    /// The journal is empty, and events of it are anchored in Vault.
    JournalMissing,
    /// Somebody else wrote what was to be rotated: their value stays.
    Conflict,
    /// What Vault was told to do was not done.
    NotDone,
    /// Workloads have not said that they use the new value.
    Unacked,
    /// A credential is older than its `max_age`, and its rotation is suspended.
    OverAge,
    /// A person lets no run of the rotation begin.
    Suspended,
    /// Our clock and Vault's differ too much for a slot to be told.
    ClockSkew,
    /// The journal of a rotation cannot be gone on with.
    RotationJournal,
    /// The API server does not let this pod have the Lease of a rotation.
    LeaseDenied,
    /// The API server that has the Lease of a rotation cannot be reached.
    LeaseAway,
    /// Somebody has the Lease of a rotation all the time, and works on nothing.
    LeaseHeld,
    /// The target refused every value of a rotation.
    Refused,
    /// The system whose credential is rotated did not answer, or not what was expected.
    TargetAway,
    /// Nobody ran a slot in its time.
    Missed,
    /// A slot fell into a blackout.
    Blackout,
    /// A slot came too soon after the last success.
    MinInterval,
    /// A slot came too soon after another of its group.
    Group,
    /// A person must say yes first.
    Approval(Want),
    /// A rule for emergencies allows it, and nobody broke its glass.
    GlassWhole,
    /// A call of another API was not made, or did not end well.
    Upstream(Fault),
    /// Something of ours is broken.
    Internal,
}

impl Reason {
    /// The word of the answers, the events and the metrics.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a list: one line a word")]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::NeverForwarded => "never_forwarded",
            Self::Wrapped => "wrapped",
            Self::OwnToken => "own_token",
            Self::TokenTerms => "token_terms",
            Self::Uid => "uid",
            Self::Gid => "gid",
            Self::Groups => "groups",
            Self::PeerUnknown => "peer_unknown",
            Self::LevelNotReached => "level_not_reached",
            Self::OverflowId => "overflow_id",
            Self::CredsDrift => "creds_drift",
            Self::PeerExited => "peer_exited",
            Self::WriterMismatch => "writer_mismatch",
            Self::FdsPassed => "fds_passed",
            Self::ControlTruncated => "control_truncated",
            Self::KernelTooOld => "kernel_too_old",
            Self::PidNotVisible => "pid_not_visible",
            Self::Container => "container",
            Self::Ancestry => "ancestry",
            Self::Tty => "tty",
            Self::ExeUnreadable => "exe_unreadable",
            Self::ExeDeleted => "exe_deleted",
            Self::ExeTooBig => "exe_too_big",
            Self::Digest => "digest",
            Self::MappingNotAllowed => "mapping_not_allowed",
            Self::AnonExec => "anon_exec",
            Self::TextModified => "text_modified",
            Self::Traced => "traced",
            Self::ImageChanged => "image_changed",
            Self::NoNonce => "no_nonce",
            Self::NoNewPrivs => "no_new_privs",
            Self::Seccomp => "seccomp",
            Self::Steerable => "steerable",
            Self::AttestorFailed => "attestor_failed",
            Self::Timeout => "timeout",
            Self::PolicyReload => "policy_reload",
            Self::Connections => "connections",
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
            Self::Dropped => "dropped",
            Self::SinkFailed => "sink_failed",
            Self::SinkRefused => "sink_refused",
            Self::SinkPartial => "sink_partial",
            Self::SinkBehind => "sink_behind",
            Self::RolledBack => "rolled_back",
            Self::JournalMissing => "journal_missing",
            Self::Conflict => "conflict",
            Self::NotDone => "not_done",
            Self::Unacked => "unacked",
            Self::OverAge => "over_age",
            Self::Suspended => "suspended",
            Self::ClockSkew => "clock_skew",
            Self::RotationJournal => "rotation_journal",
            Self::LeaseDenied => "lease_denied",
            Self::LeaseAway => "lease_away",
            Self::LeaseHeld => "lease_held",
            Self::Refused => "refused",
            Self::TargetAway => "target_away",
            Self::Missed => "missed",
            Self::Blackout => "blackout",
            Self::MinInterval => "min_interval",
            Self::Group => "group",
            Self::Approval(want) => want.word(),
            Self::GlassWhole => "glass_whole",
            Self::Upstream(fault) => fault.word(),
            Self::Internal => "internal",
        }
    }

    /// How a request ends for this reason: refused, or permitted and failed.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Upstream(fault) if fault.is_refusal() => Outcome::Deny,
            Self::NoRule
            | Self::NeverForwarded
            | Self::Wrapped
            | Self::OwnToken
            | Self::TokenTerms
            | Self::Uid
            | Self::Gid
            | Self::Groups
            | Self::PeerUnknown
            | Self::LevelNotReached
            | Self::OverflowId
            | Self::CredsDrift
            | Self::PeerExited
            | Self::WriterMismatch
            | Self::FdsPassed
            | Self::ControlTruncated
            | Self::KernelTooOld
            | Self::PidNotVisible
            | Self::Container
            | Self::Ancestry
            | Self::Tty
            | Self::ExeUnreadable
            | Self::ExeDeleted
            | Self::ExeTooBig
            | Self::Digest
            | Self::MappingNotAllowed
            | Self::AnonExec
            | Self::TextModified
            | Self::Traced
            | Self::ImageChanged
            | Self::NoNonce
            | Self::NoNewPrivs
            | Self::Seccomp
            | Self::Steerable
            | Self::AttestorFailed
            | Self::Timeout
            | Self::PolicyReload
            | Self::Connections
            | Self::TooManyProcesses
            | Self::RateLimited
            | Self::GlassWhole
            | Self::Approval(
                Want::Pending | Want::Crowded | Want::Disabled | Want::Unguarded | Want::Ended(_),
            ) => Outcome::Deny,
            _ => Outcome::Error,
        }
    }
}
