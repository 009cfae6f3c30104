//! Scripted faults: what to do to the next calls of a kind instead of, before, or after answering them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::sync::watch;

use crate::calls::Call;
use crate::matcher::Matcher;

/// What happens to a call. Faults named *after* let the call take effect first: a login makes its token, a renewal renews.
#[derive(Clone)]
pub enum Fault {
    /// Answers with this, without effect.
    Answer {
        /// The status code.
        status: u16,
        /// Headers beside the usual ones.
        headers: Vec<(String, String)>,
        /// The body, as it is.
        body: String,
    },
    /// Waits, then goes on to the next script that fits, or to the true answer.
    Delay(Duration),
    /// Waits until the gate opens, then goes on as after a delay.
    Hold(Gate),
    /// Never answers; the connection stays open.
    Hang,
    /// Closes the connection without an answer and without effect.
    Drop,
    /// Closes the connection without an answer, *after* the call took effect.
    LoseAnswer,
    /// Promises the whole body and closes after half of it, *after* the call took effect.
    Truncate,
    /// 200 with a body that is not JSON, without effect.
    Garbage,
    /// 200 with a JSON body of this many bytes, streamed, without effect.
    Huge(u64),
    /// 307 to this URL plus the path that was asked for, without effect.
    Redirect(String),
    /// Changes the true answer, *after* the call took effect.
    Edit(Edit),
}

type Change = dyn Fn(&mut Response<Bytes>) + Send + Sync;

/// A change to an answer.
#[derive(Clone)]
pub struct Edit(pub(crate) Arc<Change>);

impl Edit {
    /// Changes the answer by this.
    pub fn new(change: impl Fn(&mut Response<Bytes>) + Send + Sync + 'static) -> Edit {
        Edit(Arc::new(change))
    }
}

impl Fault {
    /// Vault's error body with a status.
    pub fn error(status: u16, error: &str) -> Fault {
        let body = serde_json::json!({ "errors": if error.is_empty() { vec![] } else { vec![error] } });
        Fault::Answer {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string(),
        }
    }

    /// 403 `permission denied`.
    pub fn denied() -> Fault {
        Fault::error(403, "permission denied")
    }

    /// 429 or 503 with `Retry-After`, in whole seconds.
    pub fn slow_down(status: u16, retry_after: Duration) -> Fault {
        match Fault::error(status, "request path: rate limit quota exceeded") {
            Fault::Answer { status, mut headers, body } => {
                headers.push(("retry-after".into(), retry_after.as_secs().to_string()));
                Fault::Answer { status, headers, body }
            }
            other => other,
        }
    }

    /// Changes the true answer after the call took effect.
    pub fn edit(change: impl Fn(&mut Response<Bytes>) + Send + Sync + 'static) -> Fault {
        Fault::Edit(Edit::new(change))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Answer { status, .. } => write!(f, "Answer({status})"),
            Fault::Delay(d) => write!(f, "Delay({d:?})"),
            Fault::Hold(_) => f.write_str("Hold"),
            Fault::Hang => f.write_str("Hang"),
            Fault::Drop => f.write_str("Drop"),
            Fault::LoseAnswer => f.write_str("LoseAnswer"),
            Fault::Truncate => f.write_str("Truncate"),
            Fault::Garbage => f.write_str("Garbage"),
            Fault::Huge(n) => write!(f, "Huge({n})"),
            Fault::Redirect(to) => write!(f, "Redirect({to})"),
            Fault::Edit(_) => f.write_str("Edit"),
        }
    }
}

/// Holds calls back until a test opens it. Clones are one gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    /// Lets all pass, those that wait and those to come.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Returns once the gate is open.
    pub(crate) async fn pass(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// For how many calls a script acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next so many calls that fit.
    Next(u32),
    /// Every call that fits, until cleared.
    Always,
}

/// Names a script, to clear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptId(pub(crate) u64);

/// One script.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) id: ScriptId,
    matcher: Matcher,
    fault: Fault,
    times: Times,
}

/// All scripts, oldest first: the first that fits acts.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    list: Vec<Script>,
    count: u64,
}

impl Scripts {
    pub(crate) fn add(&mut self, matcher: Matcher, fault: Fault, times: Times) -> ScriptId {
        self.count += 1;
        let id = ScriptId(self.count);
        self.list.push(Script { id, matcher, fault, times });
        id
    }

    pub(crate) fn clear(&mut self, id: ScriptId) {
        self.list.retain(|s| s.id != id);
    }

    pub(crate) fn clear_all(&mut self) {
        self.list.clear();
    }

    /// Takes the fault for a call among the scripts younger than `after`, and counts its use.
    pub(crate) fn take(&mut self, call: &Call, after: Option<ScriptId>) -> Option<(ScriptId, Fault)> {
        let young = |s: &Script| after.is_none_or(|a| s.id.0 > a.0);
        let script =
            self.list.iter_mut().find(|s| young(s) && s.times != Times::Next(0) && s.matcher.fits(call))?;
        if let Times::Next(left) = &mut script.times {
            *left -= 1;
        }
        Some((script.id, script.fault.clone()))
    }
}
