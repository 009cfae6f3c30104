//! What the judge says.
//!
//! Pure. Does not print: `cli/audit` does.

use super::signed::Voucher;

/// The outcome, from good to worst: the worst finding decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is missing and nothing was changed, as far as the input can tell.
    Good,
    /// Events are missing, and the agent itself said so.
    DeclaredGaps,
    /// More events than allowed stand behind the last signature.
    UnsignedTail,
    /// The end of a chain, its beginning or a whole chain is missing.
    Truncated,
    /// Bytes were changed, added, moved, taken out of the middle, or signed by a stranger.
    Altered,
}

impl Verdict {
    /// The word of the report.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::DeclaredGaps => "declared gaps",
            Self::UnsignedTail => "unsigned tail too long",
            Self::Truncated => "truncated or rolled back",
            Self::Altered => "altered or forged",
        }
    }

    /// The word of the report in JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::DeclaredGaps => "declared_gaps",
            Self::UnsignedTail => "unsigned_tail",
            Self::Truncated => "truncated",
            Self::Altered => "altered",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// The chain, if it is known.
    pub chain: Option<String>,
    /// The first bad event.
    pub seq: Option<u64>,
    /// What is wrong, in words.
    pub what: String,
    /// The hash that should be there, hex.
    pub expected: Option<String>,
    /// The hash that is there, hex.
    pub found: Option<String>,
}

/// Events that are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// First missing number.
    pub from: u64,
    /// Last missing number.
    pub to: u64,
    /// Why, in the agent's word, if it declared the gap.
    pub declared: Option<String>,
}

/// How a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By a stop in order, and the next chain says the same of it, or none follows.
    Stopped,
    /// Without a stop; the next chain seals it by naming its last event.
    SealedBySuccessor,
    /// Without a stop, and nothing follows: it still runs, or was killed, or its end was cut off.
    Open,
    /// The next chain began in an empty journal, and says nothing of this one.
    Unknown,
}

impl Ending {
    /// The words of the report.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "in order",
            Self::SealedBySuccessor => "without a stop; sealed by the next chain",
            Self::Open => "open: it runs, or was killed; only an anchor could tell that its end was cut off",
            Self::Unknown => "unknown: the next chain began in an empty journal",
        }
    }

    /// The word of the report in JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::SealedBySuccessor => "sealed_by_successor",
            Self::Open => "open",
            Self::Unknown => "unknown",
        }
    }
}

/// One chain: one run of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub uid: String,
    /// Whose it is.
    pub source: String,
    /// Number of the first event that is here.
    pub first: u64,
    /// Number of the last event that is here.
    pub last: u64,
    /// Events that are here, repeats not counted.
    pub events: u64,
    /// Lines that came again, byte by byte the same.
    pub repeats: u64,
    /// Time of the first event that is here, RFC 3339.
    pub first_time: String,
    /// Time of the last event.
    pub last_time: String,
    /// What is missing in it.
    pub gaps: Vec<Gap>,
    /// How it ends.
    pub ending: Ending,
    /// Who vouches for it.
    pub voucher: Voucher,
    /// The last event that is signed; 0 without a signature that counts.
    pub signed_up_to: u64,
    /// The worst that was found in it.
    pub verdict: Verdict,
}

/// What the judge says of everything that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Oldest first.
    pub chains: Vec<Chain>,
    /// In the order of the input; a thousand at most.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
    /// What is no fault and good to know.
    pub notes: Vec<String>,
    /// The worst of all findings.
    pub verdict: Verdict,
}

impl Report {
    /// Events in all chains.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.chains.iter().map(|chain| chain.events).fold(0, u64::saturating_add)
    }
}
