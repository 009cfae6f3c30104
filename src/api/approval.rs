//! What a client reads of a person's yes: that it is waited for, how it stands, or why there will be none.
//!
//! Does not decide.

use super::{
    Content,
    answer::{error, json, no_value, refused},
};
use crate::{
    access::{
        Answered, ApprovalEnded as Ended, ApprovalState as State, ApprovalStatus as Status, Reason,
        Unapproved, Why, Wish,
    },
    clock::rfc3339,
    name::WorkloadName,
};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::time::Duration;

/// When it is worth asking again whether persons have answered.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// When a request of the workload may have got out of the way.
const CROWDED: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Pending<'a> {
    errors: [&'a str; 1],
    reason: &'a str,
    request_id: String,
    approval_id: &'a str,
    approval: &'a str,
    status_url: String,
    expires_at: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    approval_id: &'a str,
    approval: &'a str,
    state: &'a str,
    reason: Option<&'a str>,
    approved_by: &'a [String],
    /// Absent where Vault's policy says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    needed: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notified: Option<bool>,
    expires_at: String,
}

/// What is answered for want of a person's yes.
pub(super) fn unapproved(
    refusal: &Unapproved,
    status: StatusCode,
    reason: Reason,
    id: Option<String>,
) -> Response<Content> {
    let (text, retry) = match refusal {
        Unapproved::Pending { id: approval, name, until } => {
            let text = format!(
                "a person must say yes first; ask again with the same request once one of approvals.{name} has run: claviger approve {approval} --reason '…'"
            );
            let body = Pending {
                errors: [&text],
                reason: reason.word(),
                request_id: id.unwrap_or_default(),
                approval_id: approval.as_str(),
                approval: name.as_str(),
                status_url: format!("/approvals/{approval}"),
                expires_at: rfc3339(*until),
            };
            let mut response = json(&body);
            *response.status_mut() = status;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ASK_AGAIN.as_secs()));
            return response;
        }
        Unapproved::Ended { .. } => (refusal.to_string(), None),
        Unapproved::Unreachable { name, .. } => (
            format!(
                "persons said yes, and the webhook of approvals.{name} does not answer whether that still stands"
            ),
            Some(ASK_AGAIN),
        ),
        Unapproved::Unguarded { name } => (
            format!(
                "Vault did this without asking anybody, since its policy has no control_group on this path, and approvals.{name} says that \
                 it asks: nothing of its answer is given. Correct the policy of the identity, or take the approval from the rule"
            ),
            None,
        ),
        Unapproved::Crowded => (
            "as many requests of this workload as may wait for a person's yes are waiting; ask again later"
                .to_owned(),
            Some(CROWDED),
        ),
        Unapproved::Missing => ("nobody can be asked for a person's yes now".to_owned(), Some(ASK_AGAIN)),
        Unapproved::Vault(error) => {
            let text = format!("a person must say yes first, and cannot be asked: {}", no_way(reason));
            (text, Some(error.retry_after().unwrap_or(ASK_AGAIN)))
        }
    };
    error(status, reason, &text, id, retry)
}

/// What is answered to a wish that was not fulfilled. What waits for a yes is 202 where no client takes that for success: on the routes
/// that are ours.
pub(super) fn unfulfilled(workload: &WorkloadName, why: &Why, answered: &Answered) -> Response<Content> {
    let mut response = refused(workload, why, Some(answered.receipt().id().to_string()));
    if response.status() == StatusCode::CONFLICT && !matches!(answered.wish(), Wish::Vault(_)) {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    response
}

fn no_way(reason: Reason) -> &'static str {
    match reason {
        Reason::VaultAway => "Vault cannot be reached",
        Reason::VaultSealed => "Vault is sealed",
        Reason::VaultDenied => {
            "Vault refuses the store, or sys/control-group/request, to the identity; correct the policies of approvals.*.identity"
        }
        Reason::VaultMissing => "Vault has no such store; correct approvals.*.store",
        Reason::Budget | Reason::VaultSlow => "too many calls to Vault; ask again later",
        reason => no_value(reason),
    }
}

/// How a request stands.
pub(super) fn shown(workload: &WorkloadName, status: Option<&Status>) -> Response<Content> {
    let Some(status) = status else {
        let text = format!("workloads.{workload} has no request of this id, or has none any more");
        return error(StatusCode::FORBIDDEN, Reason::NoRule, &text, None, None);
    };
    let (state, reason) = match status.state {
        State::Pending => ("pending", None),
        State::Granted => ("granted", None),
        State::Ended(why) => {
            let state = match why {
                Ended::Expired => "expired",
                Ended::Used => "used",
                _ => "refused",
            };
            (state, Some(why.word()))
        }
    };
    json(&Shown {
        approval_id: status.id.as_str(),
        approval: status.name.as_str(),
        state,
        reason,
        approved_by: &status.by,
        needed: Some(status.quorum).filter(|needed| *needed > 0),
        notified: status.notified,
        expires_at: rfc3339(status.until),
    })
}
