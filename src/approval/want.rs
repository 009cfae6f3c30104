//! For want of what there is no grant, in one word. Pure.

/// Why a request will not be granted, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Ended {
    /// One who may say yes said no.
    #[error("it was refused")]
    Refused,
    /// Nobody answered in time, or the time in which a yes may be used is over.
    #[error("its time is over")]
    Expired,
    /// A vote is signed for another request.
    #[error("a vote was given for another request")]
    Replayed,
    /// A vote is not signed by whom it is of.
    #[error("a vote is not signed by its approver")]
    Forged,
    /// An approver is the identity whose act it is, or one who may not say yes.
    #[error("an approver may not say yes to this")]
    OwnApproval,
    /// What was asked is not what stands in the store.
    #[error("what is asked was changed in the store")]
    Changed,
    /// Somebody else has had done what waited in Vault, or ended it.
    #[error("somebody else has unwrapped or ended it in Vault")]
    Taken,
    /// It was used as often as it may be.
    #[error("it is used up")]
    Used,
}

impl Ended {
    /// The word of the answers, the events and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Refused => "approval_refused",
            Self::Expired => "approval_expired",
            Self::Replayed => "approval_replayed",
            Self::Forged => "approval_forged",
            Self::OwnApproval => "approval_self",
            Self::Changed => "approval_changed",
            Self::Taken => "approval_taken",
            Self::Used => "approval_used",
        }
    }

    /// Whether the same may be asked for again at once. A no stands until its request's time is over.
    pub(super) fn may_ask_again(self) -> bool {
        matches!(self, Self::Expired | Self::Used | Self::Taken)
    }
}

/// For want of what there is no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// A yes to a slot of a rotation.
    Yes,
    /// A person's answer.
    Pending,
    /// Room: as many requests of the workload wait as may.
    Crowded,
    /// The service's word that the yes still stands.
    Unreachable,
    /// A review of what was done in an emergency: the rule has disabled itself.
    Disabled,
    /// Vault's own question: it did what was asked for at once.
    Unguarded,
    /// A yes that counts.
    Ended(Ended),
}

impl Want {
    /// The word of the answers, the events and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "approval",
            Self::Pending => "approval_pending",
            Self::Crowded => "approval_crowded",
            Self::Unreachable => "approval_unreachable",
            Self::Disabled => "glass_disabled",
            Self::Unguarded => "approval_unguarded",
            Self::Ended(why) => why.word(),
        }
    }
}
