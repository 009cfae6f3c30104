//! `POST /break-glass/RULE`: who says why, and where that is written down, has the rule for a while, or tries whether that would be so.
//!
//! Does not decide.

use super::{
    Silence,
    answer::{self, json},
    bad::Bad,
    content::Content,
    native::{Bound, whole as whole_body},
};
use crate::{
    access::{Access, Arrival, Drill, Emergency, Glass},
    clock::rfc3339,
    name::RuleName,
    peer::Peer,
};
use bytes::Bytes;
use http::Response;
use hyper::body::Body;
use serde::{Deserialize, Serialize};
use std::error::Error;

/// The longest reason and the longest ticket, in bytes.
const LONGEST: usize = 200;

/// What is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Act {
    /// The rule, for a while.
    #[default]
    Break,
    /// To know whether it would hold.
    Drill,
    /// A rule again that is disabled.
    Enable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    act: Act,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    ticket: String,
}

#[derive(Serialize)]
struct Opened<'a> {
    id: &'a str,
    rule: &'a str,
    ticket: &'a str,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<Asked<'a>>,
}

/// What persons are asked.
#[derive(Serialize)]
struct Asked<'a> {
    approval_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<&'a str>,
    expires_at: String,
}

#[derive(Serialize)]
struct Drilled<'a> {
    rule: &'a str,
    ready: bool,
    window_seconds: u64,
    checks: Vec<Check<'a>>,
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Check<'a> {
    name: &'a str,
    ok: bool,
    said: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Reads the body: `{"reason": "…", "ticket": "…"}`, both with something in them; or with `"act": "drill"`, which needs neither, or `"enable"`.
pub(super) async fn read<B>(rule: &str, body: B, bound: Bound) -> Result<(Act, Emergency), Bad>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let bytes = whole_body(body, bound).await?;
    let bad = || {
        Bad::request(
            "breaking a glass needs {\"reason\": \"…\", \"ticket\": \"…\"}, each one line of at most 200 bytes; a drill {\"act\": \"drill\"}",
        )
    };
    let Said { act, reason, ticket } = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let is_line = |text: &str| text.len() <= LONGEST && !text.chars().any(char::is_control);
    let is_said = |text: &str| act == Act::Drill || !text.trim().is_empty();
    if ![&reason, &ticket].into_iter().all(|text| is_line(text) && is_said(text)) {
        return Err(bad());
    }
    Ok((act, Emergency { rule: RuleName::new(rule).ok(), reason, ticket }))
}

/// Does it, and says what came of it.
pub(super) async fn serve(
    access: &Access,
    peer: &Peer,
    (act, wanted): (Act, Emergency),
    arrival: Arrival,
) -> Result<Response<Content>, Silence> {
    let done = match act {
        Act::Break => access.break_glass(peer, wanted, arrival).await,
        Act::Drill => access.drill(peer, wanted, arrival).await,
        Act::Enable => access.ask_to_enable(peer, wanted, arrival).await,
    };
    match done {
        Ok(Glass::Broken(broken)) => {
            let asked = |review| asked(review, None);
            Ok(json(&Opened {
                id: broken.id.as_str(),
                rule: broken.rule.as_str(),
                ticket: &broken.ticket,
                expires_at: rfc3339(broken.until),
                review: broken.review.as_ref().map(asked),
            }))
        }
        Ok(Glass::Asked(opened, name)) => Ok(json(&asked(&opened, Some(name.as_str())))),
        Ok(Glass::Drilled(drill)) => Ok(drilled(&drill)),
        Ok(Glass::Whole { why, .. }) if why.is_silent() => Err(Silence),
        Ok(Glass::Whole { why, id }) => Ok(answer::refused(peer.workload(), &why, Some(id))),
        Err(unaudited) => Ok(answer::unaudited(&unaudited)),
    }
}

fn asked<'a>(opened: &'a crate::access::Review, approval: Option<&'a str>) -> Asked<'a> {
    Asked { approval_id: opened.id.as_str(), approval, expires_at: rfc3339(opened.until) }
}

fn drilled(drill: &Drill) -> Response<Content> {
    let checks = drill.checks.iter().map(|check| Check {
        name: check.name,
        ok: check.wrong.is_none(),
        said: &check.said,
        reason: check.wrong.map(|reason| reason.word()),
    });
    json(&Drilled {
        rule: drill.rule.as_str(),
        ready: drill.is_good(),
        window_seconds: drill.window.as_secs(),
        checks: checks.collect(),
        request_id: drill.id.as_deref(),
    })
}

/// What is said where only a rule for emergencies allows something.
pub(super) fn whole(rule: &RuleName) -> String {
    format!(
        "only the rule {rule} allows this, which is for emergencies: claviger break-glass {rule} --reason … --ticket …"
    )
}

/// What is said of one that has disabled itself.
pub(super) fn disabled(rule: &RuleName) -> String {
    format!(
        "the rule {rule} has disabled itself, since an emergency was not reviewed; ask to have it again: claviger break-glass {rule} --enable --reason … \
         --ticket …"
    )
}

/// What is said where it was to be had again, and holds.
pub(super) fn sound(rule: &RuleName) -> String {
    format!("the rule {rule} is not disabled: there is nothing to have again")
}
