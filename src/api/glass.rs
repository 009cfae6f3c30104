//! `POST /break-glass/RULE`: who says why, and where that is written down, has the rule for a while.
//!
//! Does not decide.

use super::{
    Silence,
    answer::{self, json},
    bad::Bad,
    content::Content,
    native::{Bound, whole},
};
use crate::{
    access::{Access, Arrival, Emergency, Glass},
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
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
}

/// Reads the body: `{"reason": "…", "ticket": "…"}`, both with something in them.
pub(super) async fn read<B>(rule: &str, body: B, bound: Bound) -> Result<Emergency, Bad>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let bytes = whole(body, bound).await?;
    let bad = || {
        Bad::request(
            "breaking a glass needs {\"reason\": \"…\", \"ticket\": \"…\"}, each one line of at most 200 bytes",
        )
    };
    let Said { reason, ticket } = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let is_line =
        |text: &str| !text.trim().is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control);
    if !is_line(&reason) || !is_line(&ticket) {
        return Err(bad());
    }
    Ok(Emergency { rule: RuleName::new(rule).ok(), reason, ticket })
}

/// Breaks it, and says until when that counts.
pub(super) async fn serve(
    access: &Access,
    peer: &Peer,
    wanted: Emergency,
    arrival: Arrival,
) -> Result<Response<Content>, Silence> {
    match access.break_glass(peer, wanted, arrival).await {
        Ok(Glass::Broken(broken)) => Ok(json(&Opened {
            id: broken.id.as_str(),
            rule: broken.rule.as_str(),
            ticket: &broken.ticket,
            expires_at: rfc3339(broken.until),
        })),
        Ok(Glass::Whole { why, .. }) if why.is_silent() => Err(Silence),
        Ok(Glass::Whole { why, id }) => Ok(answer::refused(peer.workload(), &why, Some(id))),
        Err(unaudited) => Ok(answer::unaudited(&unaudited)),
    }
}
