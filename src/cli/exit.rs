//! How the process ends, in one number. Pure.

use std::process::ExitCode;

/// The exit codes: a stable interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed, for a reason that is on stderr.
    Failed,
    /// The command line is wrong; nothing was done.
    Usage,
    /// Policy says no.
    Refused,
    /// There is no value yet, and the time to wait is over.
    NotReady,
    /// `audit verify`: bytes were changed, added, moved or forged.
    Altered,
    /// `audit verify`: an end, a beginning or a whole chain is missing.
    Truncated,
    /// `audit verify`: events are missing, and the agent said so.
    DeclaredGaps,
    /// `audit verify`: too many events stand behind the last signature.
    UnsignedTail,
    /// A report found something as bad as was asked about.
    Findings,
    /// The config is wrong; nothing was started.
    BadConfig,
    /// `exec`: a failure of ours, before the command ran.
    Ours,
    /// `exec`: the command is there and cannot be run, as a shell says it.
    NotRunnable,
    /// `exec`: there is no such command, as a shell says it.
    NotFound,
    /// `bridge`: the command ended, with this code of its own.
    Command(u8),
}

impl Exit {
    /// The number that the caller sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotReady => 4,
            Self::Altered => 10,
            Self::Truncated => 11,
            Self::DeclaredGaps => 12,
            Self::UnsignedTail => 13,
            Self::Findings => 14,
            // EX_USAGE of sysexits.h is 64 too; here it is the config that was used wrongly.
            Self::BadConfig => 64,
            Self::Ours => 125,
            Self::NotRunnable => 126,
            Self::NotFound => 127,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it was asked for: for people, and for the exit code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// How the process ends.
    pub(super) exit: Exit,
    /// What went wrong, with its causes. No secret in it.
    pub(super) text: String,
    /// What to look at or to do.
    pub(super) remedy: Option<String>,
}

impl Failure {
    /// A failure without a remedy.
    pub(super) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), remedy: None }
    }

    /// A failure of the kind `exit` whose causes are in `error`.
    pub(super) fn of(exit: Exit, error: &dyn std::error::Error) -> Self {
        Self::new(exit, chain(error))
    }

    /// The same, with what to do about it.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
