//! One upstream: its connections, and one request over one of them.
//!
//! Does not decide and does not attach the key. No redirect is followed, nothing is sent twice once a byte of it may have left,
//! and nothing is read from the environment.

pub mod address;
pub mod line;
pub mod outgoing;
pub mod reply;
mod sender;
mod tls;

use super::{Settings, fault::Fault};
use crate::keeper::value::Value;
use http::{Request, Response};
use hyper::body::Incoming;
use line::{Facts, Line, Resolve};
use outgoing::{Outgoing, Sent};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tls::Trust;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

/// How long a connection waits for its next request.
const IDLE: Duration = Duration::from_secs(30);
/// How many wait at most.
const KEPT: usize = 64;

/// The connections to one upstream.
pub(super) struct Pool {
    resolver: Arc<dyn Resolve>,
    idle: Mutex<Idle>,
    trust: Mutex<Option<Arc<Trust>>>,
    tasks: TaskTracker,
}

/// Those that wait, all of one version of the key: what was logged in to with another one is not used for this one.
#[derive(Default)]
struct Idle {
    version: String,
    lines: Vec<Line>,
}

/// What a connection is made with: one for the next call is used only if it was made with the same.
pub(super) struct Bound {
    /// Names the version of the key, and that of the certificate, if there is one.
    pub(super) version: String,
    /// The certificate that is shown.
    shown: Option<Arc<Value>>,
}

impl Bound {
    pub(super) fn new(key: &str, shown: Option<Arc<Value>>) -> Self {
        let version = match &shown {
            None => key.to_owned(),
            Some(shown) => format!("{key} {}", shown.tag()),
        };
        Self { version, shown }
    }
}

/// An answer's head, and the connection that its body comes by.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) line: Line,
}

/// Why there is no answer, and what is known of the connection, if there was one.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) fault: Fault,
    pub(super) facts: Option<Facts>,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, facts: None }
    }
}

impl Pool {
    pub(super) fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, idle: Mutex::default(), trust: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// Sends `request` over a connection that waits, or a new one, and gives the answer's head. A connection that turns out
    /// to be closed before a byte was written is no attempt: the next one is taken.
    pub(super) async fn send(
        &self,
        settings: &Settings,
        bound: &Bound,
        mut request: Request<Outgoing>,
        sent: &Sent,
    ) -> Result<Answered, Failed> {
        loop {
            let waiting = self.take(&bound.version);
            let is_fresh = waiting.is_none();
            let mut line = match waiting {
                Some(line) => line,
                None => self.open(settings, bound).await?,
            };
            let facts = Some(line.facts);
            let failed = |fault| Failed { fault, facts };
            let answered = {
                let mut answer = std::pin::pin!(line.sender.send(request));
                let (limit, mut seen) = (settings.timeouts.first_byte, sent.bytes());
                loop {
                    match timeout(limit, answer.as_mut()).await {
                        Ok(answered) => break answered,
                        // The client may take its time for a large body.
                        Err(_) if sent.bytes() > seen => seen = sent.bytes(),
                        Err(_) => return Err(failed(Fault::UpstreamTimeout)),
                    }
                }
            };
            match answered {
                // Nothing was asked for that could be answered with this.
                Ok(response) if response.status().is_informational() => {
                    return Err(failed(Fault::UpstreamProtocol));
                }
                Ok(response) => return Ok(Answered { response, line }),
                Err(unsent) => match unsent.request {
                    Some(unsent) if !is_fresh => request = unsent,
                    _ if sent.is_too_large() => return Err(failed(Fault::TooLarge)),
                    _ => {
                        tracing::warn!(upstream = %settings.name, error = %unsent.error, "no answer of an upstream");
                        return Err(failed(Fault::UpstreamProtocol));
                    }
                },
            }
        }
    }

    /// Takes a connection back whose answer was read to its end.
    pub(super) fn give_back(&self, version: &str, mut line: Line) {
        line.idle_since = Instant::now();
        let mut idle = self.idle();
        if idle.version != version || line.sender.is_closed() {
            return;
        }
        if line.sender.another().is_some() {
            // It was shared all the time.
            idle.lines.iter_mut().for_each(|line| line.idle_since = Instant::now());
        } else if idle.lines.len() < KEPT {
            idle.lines.push(line);
        }
    }

    /// Closes what has waited too long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.idle().lines.retain(|line| line.idle_since + IDLE > now && !line.sender.is_closed());
    }

    fn take(&self, version: &str) -> Option<Line> {
        let mut idle = self.idle();
        if idle.version != version {
            *idle = Idle { version: version.to_owned(), lines: Vec::new() };
            return None;
        }
        let now = Instant::now();
        idle.lines.retain(|line| line.idle_since + IDLE > now && !line.sender.is_closed());
        let ready = idle.lines.iter().rposition(|line| line.sender.is_ready())?;
        match idle.lines.get(ready).and_then(Line::another) {
            Some(shared) => Some(shared),
            None => Some(idle.lines.swap_remove(ready)),
        }
    }

    async fn open(&self, settings: &Settings, bound: &Bound) -> Result<Line, Failed> {
        let trust = if settings.base.is_tls { Some(self.trust(settings, bound)?) } else { None };
        let line = line::open(settings, trust.as_deref(), &*self.resolver, &self.tasks).await?;
        let mut idle = self.idle();
        if let Some(shared) = line.another().filter(|_| idle.version == bound.version) {
            idle.lines.push(shared);
        }
        drop(idle);
        Ok(line)
    }

    fn trust(&self, settings: &Settings, bound: &Bound) -> Result<Arc<Trust>, Fault> {
        let mut trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = Trust::renewed(trust.take(), settings, bound.shown.as_deref())?;
        Ok(Arc::clone(trust.insert(renewed)))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
