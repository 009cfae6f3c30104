//! What operators see: the log, the metrics, the health port. Never a secret, never a value.

pub mod forwarded;
pub mod findings;
pub mod approvals;
pub mod health;
mod labels;
pub mod log;
pub mod metrics;
pub mod rotations;
pub mod upstreams;

/// Which library speaks TLS in this build.
pub const TLS: &str = if cfg!(feature = "aws-lc") { "aws-lc" } else { "ring" };

/// The log: to stderr, since stdout belongs to the audit sink of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// What is written.
    pub level: LogLevel,
    /// How.
    pub format: LogFormat,
}

/// The least important line that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are the field's own")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Json }
    }
}
