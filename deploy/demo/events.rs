//! One line of audit, as a reader of the agent's output sees it.
//!
//! Reads the JSON only; does not check the chain.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// The line itself.
    pub(crate) text: String,
    json: Value,
}

impl Line {
    /// Reads a line.
    pub(crate) fn parse(text: String) -> Result<Self> {
        let json =
            serde_json::from_str(&text).with_context(|| format!("an event that is not JSON: {text}"))?;
        Ok(Self { text, json })
    }

    /// Whether it is of this type, whichever version.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.text_at("/type").strip_prefix(kind).is_some_and(|rest| rest.starts_with(".v"))
    }

    /// Whether it is about this secret.
    pub(crate) fn is_about(&self, secret: &str) -> bool {
        self.text_at("/resource/secret") == secret
    }

    /// The text at `pointer` (RFC 6901); empty if there is none.
    pub(crate) fn text_at(&self, pointer: &str) -> &str {
        self.json.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number at `pointer`.
    pub(crate) fn number_at(&self, pointer: &str) -> Option<u64> {
        self.json.pointer(pointer).and_then(Value::as_u64)
    }

    /// Time, type, outcome, who, what.
    pub(crate) fn short(&self) -> String {
        let time = self.text_at("/time");
        let time = time.split_once('T').map_or(time, |(_, time)| time.get(..12).unwrap_or(time));
        let kind = self.text_at("/type");
        let kind = kind.rsplit_once(".v").map_or(kind, |(kind, _)| kind);
        let who = match (self.text_at("/workload"), self.number_at("/actor/uid")) {
            ("", _) => "agent".to_owned(),
            (workload, Some(uid)) => format!("{workload}, uid {uid}"),
            (workload, None) => workload.to_owned(),
        };
        let what = [
            self.text_at("/resource/secret").to_owned(),
            self.text_at("/identity").to_owned(),
            self.number_at("/vault/ttl").map(|seconds| format!("for {seconds} s")).unwrap_or_default(),
            self.text_at("/reason").to_owned(),
        ];
        let what: Vec<String> = what.into_iter().filter(|word| !word.is_empty()).collect();
        let outcome = self.text_at("/outcome");
        format!("{time} {kind:<14} {outcome:<5}  {who:<24}  {}", what.join(" ")).trim_end().to_owned()
    }
}
