//! From what became of a request to HTTP: the one table of statuses, and every text that a client may see.
//!
//! Public text only: what failed inside goes to the log and the audit, not to the socket.

use super::{Content, approval, glass, passed, upstream, value};
use crate::{
    access::{
        Act, Answered, Bridge, Denial, Done, Form, Held, NotForwarded, Outcome, Read, Reason, Served,
        TurnedAway, Unaudited, Unheld, Want, Why, Wish,
    },
    clock,
    name::{RuleName, SecretName, WorkloadName},
    peer::{Cause, Peer, level::Level},
    upload::Cut,
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// When another place may be free.
const SOON: Duration = Duration::from_secs(1);

/// The one table from reason to status.
pub(super) fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::BadRequest => StatusCode::BAD_REQUEST,
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::RateLimited
        | Reason::Connections
        | Reason::TooManyProcesses
        | Reason::Approval(Want::Crowded) => StatusCode::TOO_MANY_REQUESTS,
        Reason::Approval(Want::Pending) => StatusCode::CONFLICT,
        Reason::Upstream(fault) => upstream::status(fault),
        Reason::VaultDenied => StatusCode::FORBIDDEN,
        Reason::VaultNonsense | Reason::OwnToken => StatusCode::BAD_GATEWAY,
        Reason::NotReady
        | Reason::Approval(Want::Unreachable)
        | Reason::VaultAway
        | Reason::VaultSealed
        | Reason::VaultMissing
        | Reason::VaultInvalid
        | Reason::VaultSlow
        | Reason::CredentialFile
        | Reason::Budget
        | Reason::AuditUnavailable
        | Reason::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        refused if refused.outcome() == Outcome::Deny => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const NOT_ON_RECORD: &str = "the audit journal cannot be written, so nothing is given out";

/// What a client reads about a request that Vault did not answer.
fn not_forwarded(reason: Reason) -> &'static str {
    match reason {
        Reason::VaultNonsense => "Vault's answer is too large, or makes no sense",
        Reason::VaultInvalid => "the request cannot be sent to Vault as it is",
        Reason::NotReady => "the identity has no token yet",
        Reason::VaultAway => "Vault cannot be reached, or gave no answer in time; a write may have been done",
        reason => no_value(reason),
    }
}

/// What a client reads about a request that was to be sent on, and when it is worth asking again.
fn unanswered(workload: &WorkloadName, error: &NotForwarded, reason: Reason) -> (String, Option<Duration>) {
    match error {
        NotForwarded::Tainted => {
            ("there was a token in Vault's answer, so nothing of it is given".to_owned(), None)
        }
        NotForwarded::Child(_) => (format!("{error}; it has been revoked"), None),
        NotForwarded::Upload(cut @ Cut::TooLarge(_)) => {
            let key = format!("max_request of the rule's vault in workloads.{workload}.rules");
            (format!("{cut}, which is {key}; Vault got a part of it, and no end"), None)
        }
        NotForwarded::Upload(cut) => (format!("{cut}; Vault got a part of it, and no end"), None),
        NotForwarded::Expired => {
            let text = "Vault no longer knew the identity's token, and did nothing; claviger logs in anew, and has not kept this body: \
                        send it again";
            (text.to_owned(), Some(error.retry_after()))
        }
        error => (not_forwarded(reason).to_owned(), Some(error.retry_after())),
    }
}

/// What a client reads about a value that there is not.
pub(super) fn no_value(reason: Reason) -> &'static str {
    match reason {
        Reason::LevelNotReached => {
            "this is a token for each process, and level user names none; ask for level process"
        }
        Reason::TooManyProcesses => {
            "as many processes as may have a token of this secret have one; wait until one of them ends"
        }
        Reason::VaultAway => "no valid value is in hand, and Vault cannot be reached",
        Reason::VaultSealed => "no valid value is in hand, and Vault is sealed",
        Reason::VaultDenied => {
            "Vault refuses to give this to the identity; ask for it in the policies of its role in Vault"
        }
        Reason::VaultMissing => "Vault has nothing there; write it, or correct the path in secrets",
        Reason::VaultInvalid => "Vault calls the request wrong; correct the secret's settings in secrets",
        Reason::VaultSlow => "no valid value is in hand, and Vault asks us to slow down",
        Reason::VaultNonsense => "Vault's answer makes no sense",
        Reason::CredentialFile => "no valid value is in hand, and a credential file of ours cannot be read",
        Reason::Budget => "no valid value is in hand, and our budget of calls is used up",
        _ => "there is no valid value yet",
    }
}

/// What is answered once the event is on disk.
pub(super) fn answered(workload: &WorkloadName, answered: &Answered) -> Response<Content> {
    let done = match answered.outcome() {
        Ok(done) => done,
        Err(refusal) => return approval::unfulfilled(workload, &refusal.why, answered),
    };
    match done {
        Done::Listed(secrets) => json(&List { secrets: secrets.iter().map(line).collect() }),
        Done::Forwarded(_, answer) => passed::answer(answer),
        Done::Acked(_, value) => json(&Acked { name: value.name().as_str(), generation: value.generation() }),
        Done::Unchanged(_, served) => {
            let mut response = plain_response(StatusCode::NOT_MODIFIED, Bytes::new(), JSON);
            response.headers_mut().remove(header::CONTENT_TYPE);
            tag(&mut response, &served.held);
            foretell(&mut response, served);
            response
        }
        Done::Read(_, served) => {
            let mut response = match (form(answered.wish()), value::plain(served)) {
                (Form::Plain, Some(bytes)) => plain_response(StatusCode::OK, bytes, TEXT),
                (form, _) => plain_response(StatusCode::OK, value::json(served, form), JSON),
            };
            tag(&mut response, &served.held);
            let headers = response.headers_mut();
            headers.insert(header::AGE, HeaderValue::from(served.age.as_secs()));
            if served.stale {
                headers.insert("claviger-stale", HeaderValue::from_static("true"));
            }
            foretell(&mut response, served);
            response
        }
    }
}

/// When it is to be replaced, where that is soon: also for who waits for the next value.
fn foretell(response: &mut Response<Content>, served: &Served) {
    if let Some(soon) = served.soon
        && let Ok(soon) = HeaderValue::from_str(&clock::rfc3339(soon))
    {
        response.headers_mut().insert("claviger-rotates-at", soon);
    }
}

/// What is answered to a wish that was not fulfilled.
pub(super) fn refused(workload: &WorkloadName, why: &Why, id: Option<String>) -> Response<Content> {
    let (text, retry) = match why {
        Why::Rejected(cause) => (format!("{cause}; ask for it in workloads.{workload}.peer"), None),
        Why::Denied(Denial::Malformed(malformed)) => (malformed.0.to_owned(), None),
        Why::Denied(Denial::Wrapped) => (
            format!(
                "this answer may not be wrapped, or not for so long: ask without X-Vault-Wrap-TTL, or see wrap in workloads.{workload}.rules"
            ),
            None,
        ),
        Why::NotForwarded(error) => unanswered(workload, error, why.reason()),
        Why::Body(unheld) => {
            let retry = matches!(unheld, Unheld::Full).then_some(SOON);
            (format!("{unheld}; see workloads.{workload}"), retry)
        }
        Why::GlassWhole(rule) => (glass::whole(rule), None),
        Why::GlassDisabled(rule) => (glass::disabled(rule), None),
        Why::GlassSound(rule) => (glass::sound(rule), None),
        Why::Unapproved(none) => return approval::unapproved(none, status(why.reason()), why.reason(), id),
        Why::Unrecorded(unaudited) => (NOT_ON_RECORD.to_owned(), Some(unaudited.retry_after)),
        Why::Denied(denial @ (Denial::Ambiguous | Denial::Terms(_))) => (denial.to_string(), None),
        Why::Denied(Denial::NoRule | Denial::Never) => {
            let text = format!(
                "no rule allows this, or there is no such secret; ask for the rule in workloads.{workload}.rules"
            );
            (text, None)
        }
        Why::RateLimited(wait) => {
            ("over the rule's requests_per_second; wait and ask again".to_owned(), Some(*wait))
        }
        Why::NoValue(error) => (no_value(why.reason()).to_owned(), Some(error.retry_after())),
        Why::Call(fault) => (fault.to_string(), upstream::retry_after(*fault)),
        Why::NotOneField(names) => {
            (format!("text/plain needs a secret of one field; this one has: {}", names.join(", ")), None)
        }
        Why::OtherGeneration(number) => {
            (format!("generation {number} is neither the current nor the previous one"), None)
        }
    };
    let mut response = error(status(why.reason()), why.reason(), &text, id, retry);
    if matches!(why, Why::Rejected(_)) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What a peer is told that may not connect at all.
pub(super) fn rejected(turned_away: &TurnedAway) -> Response<Content> {
    let rejected = &turned_away.rejected;
    let reason = Reason::from(&rejected.cause);
    let (retry, remedy) = match &rejected.cause {
        Cause::Connections => (Some(SOON), "close some, or raise workloads.*.limits.connections"),
        Cause::Rate(wait) => (Some(*wait), "keep them open, or raise workloads.*.limits.requests_per_second"),
        _ => (None, "ask for it in workloads.*.peer"),
    };
    let text = format!("{}; {}", rejected.cause, remedy.replace('*', rejected.workload.as_str()));
    error(status(reason), reason, &text, Some(turned_away.receipt().id().to_string()), retry)
}

/// What is answered when no event can be written: nothing, whatever was asked for.
pub(super) fn unaudited(unaudited: &Unaudited) -> Response<Content> {
    let reason = Reason::AuditUnavailable;
    let text = if unaudited.is_of_workload() {
        "what this workload read fills its half of the audit journal until it is delivered, so nothing more is given out to it"
    } else {
        "the audit journal cannot be written, so nothing is given out"
    };
    error(status(reason), reason, text, None, Some(unaudited.retry_after))
}

/// What we see of the peer.
pub(super) fn whoami(peer: &Peer, rules: &[RuleName], required: Level, bridge: Bridge) -> Response<Content> {
    let pid = peer.pid().map_or_else(|| "hidden".into(), serde_json::Value::from);
    json(&WhoAmI {
        workload: peer.workload().as_str(),
        uid: peer.uid(),
        gid: peer.gid(),
        groups: peer.groups(),
        pid,
        level: peer.level().word(),
        level_required: required.word(),
        rules: rules.iter().map(RuleName::as_str).collect(),
        bridge: bridge.word(),
    })
}

/// A nonce for the peer to send back.
pub(super) fn challenge(nonce: std::io::Result<String>) -> Response<Content> {
    match nonce {
        Ok(nonce) => json(&Challenge { nonce: &nonce }),
        Err(_) => {
            let reason = Reason::Internal;
            error(status(reason), reason, "the system has no random numbers", None, None)
        }
    }
}

#[derive(Serialize)]
struct Challenge<'a> {
    nonce: &'a str,
}

#[derive(Serialize)]
struct Refused<'a> {
    errors: [&'a str; 1],
    reason: &'a str,
    request_id: String,
}

#[derive(Serialize)]
struct List<'a> {
    secrets: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    kind: Option<&'a str>,
    generation: Option<u64>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct Acked<'a> {
    name: &'a str,
    generation: u64,
}

#[derive(Serialize)]
struct WhoAmI<'a> {
    workload: &'a str,
    uid: u32,
    gid: u32,
    groups: &'a [u32],
    pid: serde_json::Value,
    level: &'a str,
    level_required: &'a str,
    rules: Vec<&'a str>,
    bridge: &'a str,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn line((name, held): &(SecretName, Option<Held>)) -> Line<'_> {
    Line {
        name: name.as_str(),
        kind: held.as_ref().map(|held| held.value.kind()),
        generation: held.as_ref().map(|held| held.value.generation()),
        expires_at: held.as_ref().and_then(|held| held.expires_at).map(clock::rfc3339),
    }
}

fn form(wish: &Wish) -> Form {
    match wish {
        Wish::Secret { act: Act::Read(Read { form, .. }), .. } => *form,
        _ => Form::Json,
    }
}

fn tag(response: &mut Response<Content>, held: &Held) {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", held.value.tag())) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}

pub(super) fn error(
    status: StatusCode,
    reason: Reason,
    text: &str,
    id: Option<String>,
    retry: Option<Duration>,
) -> Response<Content> {
    let request_id = id.unwrap_or_else(request_id);
    let mut response = json(&Refused { errors: [text], reason: reason.word(), request_id });
    *response.status_mut() = status;
    if let Some(wait) = retry {
        // Whole seconds, rounded up, so that whoever obeys is not early (RFC 9110 section 10.2.3).
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

pub(super) fn json(body: &impl Serialize) -> Response<Content> {
    // These shapes cannot fail to serialise.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    plain_response(StatusCode::OK, bytes.into(), JSON)
}

fn plain_response(status: StatusCode, body: Bytes, media: HeaderValue) -> Response<Content> {
    let mut response = Response::new(Content::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An id for what has no event: unique in this process, and hardly ever that of another.
fn request_id() -> String {
    static BOOT: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{:016x}-{}", *BOOT, COUNT.fetch_add(1, Ordering::Relaxed))
}
