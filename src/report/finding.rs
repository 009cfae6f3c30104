//! What can be found, how bad it is, and what a finding says. Pure.

use crate::clock::Timestamp;
use std::fmt;

/// How bad a finding is, the least bad first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth a look.
    Low,
    /// To be mended.
    Medium,
    /// To be mended soon.
    High,
    /// To be mended now.
    Critical,
}

impl Severity {
    /// The word of the command line, the reports and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Which finding. The names are a stable interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u8);

macro_rules! ids {
    ($($name:ident $number:literal $severity:ident $title:literal $meaning:literal;)*) => {
        impl Id {
            $(#[doc = $title] pub const $name: Self = Self($number);)*
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self.0 { $($number => Severity::$severity,)* _ => Severity::Low }
            }

            /// What it is, in few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self.0 { $($number => $title,)* _ => "" }
            }

            /// What is wrong about it.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self.0 { $($number => $meaning,)* _ => "" }
            }
        }
    };
}

ids! {
    UNUSED_RULE 1 Medium "unused rule" "A rule that nobody uses is a way in that nobody watches.";
    UNUSED_CAPABILITY 2 Medium "unused capability" "More may be done than ever is: a mistake or a thief could use it.";
    WIDE_WILDCARD 3 High "wildcard wider than use" "A wildcard also grants what is put there tomorrow.";
    ADMIN_TOKEN 4 Critical "root, sudo or admin policy on the agent's token" "Whoever gets this token owns Vault.";
    NO_EXPIRY 5 High "credential without an early end" "What is stolen today still works next week.";
    OVER_AGE 6 High "credential over its age" "An old credential has been in many hands.";
    NOT_ROTATED 7 High "rotation that does not happen" "A rotation that is configured and does not run protects nothing.";
    SHARED 8 Medium "one credential for several workloads" "A leak cannot be traced to a workload, nor one be cut off alone.";
    STALE_VERSION 9 High "old version used after its grace" "A consumer has missed the rotation, or somebody kept a copy.";
    SAME_VALUE 10 Medium "one value in several places" "Rotating one place leaves the value valid in the other.";
    EXPOSED 11 Critical "value found outside" "A value that was seen outside is known to strangers.";
    WEAK_AUDIT 12 Medium "weak record" "Events can be lost or rewritten before anybody looks at them.";
    RETRIED 13 Low "denied, and tried again and again" "Either a rule is missing, or somebody is looking for a way in.";
    UNATTRIBUTED 14 Medium "reads that cannot be told apart" "The record names a user whom several workloads share.";
    GLASS 15 High "approval passed by, or break glass open" "What nobody said yes to, or was let through in an emergency, has to be looked at, and ended.";
    BEYOND_RULES 16 High "Vault grants more than the rules" "The agent's token can do what no rule allows: only the agent stands between.";
    WEAK_VALUE 17 Medium "weak value" "It can be guessed, or is written where values must not be.";
}

impl Id {
    /// Its number: 1 of `KA001`.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// A name for programs: `unused-rule`.
    #[must_use]
    pub fn slug(self) -> String {
        self.title()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
            .replace("--", "-")
            .to_ascii_lowercase()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KA{:03}", self.0)
    }
}

/// What mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// In words.
    pub text: String,
    /// What to write, and in which language: `yaml`, `hcl`, `sh`.
    pub code: Option<(&'static str, String)>,
}

impl Fix {
    /// In words alone.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: None }
    }

    /// With what to write.
    #[must_use]
    pub fn code(mut self, language: &'static str, code: impl Into<String>) -> Self {
        self.code = Some((language, code.into()));
        self
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub id: Id,
    /// How bad.
    pub severity: Severity,
    /// What it is about: `workloads.report-job.rules.spare`.
    pub about: String,
    /// What shows it.
    pub evidence: Vec<String>,
    /// What mends it.
    pub fix: Fix,
    /// When it was last used, if it ever was.
    pub last: Option<Timestamp>,
    /// How many privileges nobody uses, where that is what was found.
    pub unused: Option<usize>,
}

impl Finding {
    /// A finding of the severity that its kind has.
    pub(super) fn new(id: Id, about: impl Into<String>, evidence: Vec<String>, fix: Fix) -> Self {
        Self { id, severity: id.severity(), about: about.into(), evidence, fix, last: None, unused: None }
    }
}
