//! The handle: one call from its arrival to its answer, with the scripts in between, and the record of calls.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::body::Reply;
use crate::calls::Call;
use crate::fault::{Fault, ScriptId, Scripts, Times};
use crate::matcher::Matcher;
use crate::outcome::json_response;
use crate::state::State;

/// An in-memory Vault. Clones are handles to the same one.
///
/// It starts active and unsealed with a root token and no mounts; [`DevVault::serve`] gives it a socket,
/// [`DevVault::answer`] needs none. All its time is tokio's, so a paused clock rules it.
#[derive(Clone)]
pub struct DevVault {
    shared: Arc<Shared>,
}

struct Shared {
    root: String,
    state: Mutex<State>,
    record: Mutex<Record>,
    /// Counts changes of the record, so that waiters look again.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Record {
    calls: Vec<Call>,
    scripts: Scripts,
}

/// The connection ended before a whole answer was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLost;

impl std::fmt::Display for ConnectionLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the scripted connection was lost")
    }
}

impl std::error::Error for ConnectionLost {}

/// Nothing that fits came within the limit.
#[derive(Debug)]
pub struct NotCalled {
    /// What was waited for.
    pub wanted: Matcher,
    /// What came instead.
    pub calls: Vec<Call>,
}

impl std::fmt::Display for NotCalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no call fitted {:?} in time; there were: {:?}", self.wanted, self.calls)
    }
}

impl std::error::Error for NotCalled {}

impl Default for DevVault {
    fn default() -> DevVault {
        DevVault::new()
    }
}

impl std::fmt::Debug for DevVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevVault").finish_non_exhaustive()
    }
}

impl DevVault {
    /// A new server; every one gives out the same ids in the same order.
    pub fn new() -> DevVault {
        DevVault::seeded(1)
    }

    /// A new server whose ids and tokens differ from those of another seed.
    pub fn seeded(seed: u64) -> DevVault {
        let mut state = State::new(seed);
        let terms = crate::token::TokenTerms {
            policies: vec!["root".into()],
            display_name: "root".into(),
            path: "auth/token/root".into(),
            ..Default::default()
        };
        let (root, _) = state.mint(terms);
        let shared = Shared {
            root,
            state: Mutex::new(state),
            record: Mutex::default(),
            changes: watch::Sender::new(0),
        };
        DevVault { shared: Arc::new(shared) }
    }

    /// The root token.
    pub fn root_token(&self) -> String {
        self.shared.root.clone()
    }

    /// Answers one request without a socket. A call that a script never answers stays pending; one whose
    /// connection a script drops gives [`ConnectionLost`].
    pub async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ConnectionLost> {
        let (head, body) = self.reply(request).await?.into_parts();
        Ok(Response::from_parts(head, body.gathered().ok_or(ConnectionLost)?))
    }

    /// As [`DevVault::exchange`]; a lost connection is an empty 502, as a proxy in between would say.
    pub async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.exchange(request).await.unwrap_or_else(|ConnectionLost| json_response(502, None))
    }

    pub(crate) async fn reply(&self, request: Request<Bytes>) -> Result<Response<Reply>, ConnectionLost> {
        let (number, call) = self.note(&request);
        let mut after = None;
        let fault = loop {
            match self.fault(&call, after) {
                Some((id, Fault::Delay(time))) => {
                    after = Some(id);
                    tokio::time::sleep(time).await;
                }
                Some((id, Fault::Hold(gate))) => {
                    after = Some(id);
                    gate.pass().await;
                }
                other => break other.map(|(_, fault)| fault),
            }
        };
        let reply = match fault {
            Some(Fault::Hang) => pending().await,
            Some(Fault::Drop) => return Err(ConnectionLost),
            Some(Fault::LoseAnswer) => {
                self.state().answer(&request);
                return Err(ConnectionLost);
            }
            fault => self.made(&request, fault),
        };
        self.note_status(number, reply.status());
        Ok(reply)
    }

    fn made(&self, request: &Request<Bytes>, fault: Option<Fault>) -> Response<Reply> {
        let whole = |response: Response<Bytes>| response.map(|b| Reply::Whole(Some(b)));
        match fault {
            Some(Fault::Answer { status, headers, body }) => whole(scripted(status, &headers, body)),
            Some(Fault::Garbage) => whole(scripted(200, &[], "<html>not what you asked for</html>".into())),
            Some(Fault::Redirect(to)) => {
                let target = request.uri().path_and_query().map_or("", |p| p.as_str());
                let location = format!("{}{target}", to.trim_end_matches('/'));
                whole(scripted(307, &[("location".into(), location)], String::new()))
            }
            Some(Fault::Huge(bytes)) => json_response(200, None).map(|_| Reply::flood(bytes)),
            Some(Fault::Truncate) => self.state().answer(request).map(|body| {
                let promised = body.len() as u64;
                Reply::Cut { part: Some(body.slice(..body.len() / 2)), promised, paused: false }
            }),
            Some(Fault::Edit(edit)) => {
                let mut response = self.state().answer(request);
                (edit.0)(&mut response);
                whole(response)
            }
            _ => whole(self.state().answer(request)),
        }
    }

    fn note(&self, request: &Request<Bytes>) -> (usize, Call) {
        let mut call = {
            let mut state = self.state();
            state.advance();
            let mut call = Call::of(request, state.now);
            if let Some(token) = call.token.as_ref().and_then(|t| state.tokens.get(t)) {
                call.accessor = Some(token.accessor.clone()).filter(|a| !a.is_empty());
                call.role = token.terms.role.clone();
            }
            call
        };
        call.status = None;
        let mut record = self.record();
        record.calls.push(call.clone());
        let number = record.calls.len() - 1;
        drop(record);
        self.changed();
        (number, call)
    }

    fn note_status(&self, number: usize, status: StatusCode) {
        if let Some(call) = self.record().calls.get_mut(number) {
            call.status = Some(status.as_u16());
        }
        self.changed();
    }

    fn changed(&self) {
        self.shared.changes.send_modify(|n| *n += 1);
    }

    fn fault(&self, call: &Call, after: Option<ScriptId>) -> Option<(ScriptId, Fault)> {
        self.record().scripts.take(call, after)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.shared.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Scripts and the record of calls.
impl DevVault {
    /// Does this to calls that fit. Of several scripts for one call the oldest acts; delays and holds let the next one act too.
    pub fn script(&self, matcher: Matcher, fault: Fault, times: Times) -> ScriptId {
        self.record().scripts.add(matcher, fault, times)
    }

    /// Ends one script.
    pub fn clear(&self, id: ScriptId) {
        self.record().scripts.clear(id);
    }

    /// Ends all scripts.
    pub fn clear_scripts(&self) {
        self.record().scripts.clear_all();
    }

    /// Answers every call with 429 and `Retry-After` until cleared.
    pub fn slow_down(&self, retry_after: Duration) -> ScriptId {
        self.script(Matcher::any(), Fault::slow_down(429, retry_after), Times::Always)
    }

    /// All calls so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.record().calls.clone()
    }

    /// The calls that fit.
    pub fn calls_matching(&self, matcher: &Matcher) -> Vec<Call> {
        self.record().calls.iter().filter(|c| matcher.fits(c)).cloned().collect()
    }

    /// How many calls fit.
    pub fn count_calls(&self, matcher: &Matcher) -> usize {
        self.record().calls.iter().filter(|c| matcher.fits(c)).count()
    }

    /// The most calls that fit within any stretch of this length: what a budget is held to.
    pub fn busiest(&self, matcher: &Matcher, stretch: Duration) -> usize {
        let record = self.record();
        let times: Vec<_> = record.calls.iter().filter(|c| matcher.fits(c)).map(|c| c.at).collect();
        let mut first = times.iter().peekable();
        let mut most = 0;
        let mut within = 0;
        for at in &times {
            within += 1;
            while first.next_if(|f| at.duration_since(**f) >= stretch).is_some() {
                within -= 1;
            }
            most = most.max(within);
        }
        most
    }

    /// Forgets the calls so far. Calls under way are forgotten too.
    pub fn forget_calls(&self) {
        self.record().calls.clear();
    }

    /// Whether any call carried this token.
    pub fn token_seen(&self, token: &str) -> bool {
        self.record().calls.iter().any(|c| c.carried(token))
    }

    /// Waits until a call that fits has come (or, for a matcher with a status, was so answered). Past calls count.
    pub async fn wait_for_call(&self, matcher: &Matcher, limit: Duration) -> Result<Call, NotCalled> {
        self.wait_for_calls(matcher, 1, limit).await
    }

    /// Waits until so many calls that fit have come; gives the last of them.
    pub async fn wait_for_calls(
        &self,
        matcher: &Matcher,
        count: usize,
        limit: Duration,
    ) -> Result<Call, NotCalled> {
        let mut changes = self.shared.changes.subscribe();
        let nth = |vault: &DevVault| vault.calls_matching(matcher).into_iter().nth(count.saturating_sub(1));
        let waited = timeout(limit, async {
            loop {
                if let Some(call) = nth(self) {
                    return call;
                }
                // The sender lives in `self`, so waiting cannot fail.
                let _ = changes.changed().await;
            }
        });
        waited.await.map_err(|_| NotCalled { wanted: matcher.clone(), calls: self.calls() })
    }
}

fn scripted(status: u16, headers: &[(String, String)], body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
