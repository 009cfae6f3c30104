//! A child token in an answer of Vault: whether it is what was allowed.
//!
//! A token role, or the groups of the identity's entity, may make of a token more than the rule allows, whatever is asked for: then it
//! is ended at once, and nobody gets it.

use super::{
    Answer, Error, Forward,
    lease::{self, Lease},
};
use crate::policy::child::Child;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use zeroize::Zeroizing;

#[derive(Deserialize)]
struct Envelope {
    auth: Made,
}

/// What Vault says of it.
#[derive(Deserialize)]
struct Made {
    client_token: Zeroizing<String>,
    accessor: Zeroizing<String>,
    /// Its own, and those of its entity.
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    orphan: bool,
    #[serde(default)]
    num_uses: u32,
    #[serde(default)]
    token_type: String,
}

/// The answer with the child that `made_by` made, if it is what `allowed` says.
///
/// # Errors
/// [`Error::Child`]: it is more, and has been revoked.
pub(super) async fn checked(
    forward: &Forward,
    made_by: lease::Made,
    allowed: &Child,
    answer: Answer,
) -> Result<Answer, Error> {
    if answer.status >= 300 {
        return Ok(answer);
    }
    let read: Result<Envelope, _> = serde_json::from_slice(&answer.body);
    let Ok(Envelope { auth: made }) = read else { return Err(Error::Tainted) };
    let child = Lease::child(&made.client_token, &made.accessor, allowed, made_by);
    match beyond(&made, allowed) {
        None => Ok(Answer { lease: Some(Arc::new(child)), ..answer }),
        Some(why) => {
            if let Err(error) = forward.revoke(&child).await {
                tracing::warn!(%error, "a child token that nobody got lives until its own end");
            }
            Err(Error::Child(why))
        }
    }
}

/// In what it is more than `allowed`.
fn beyond(made: &Made, allowed: &Child) -> Option<&'static str> {
    let longest = allowed.longest + Duration::from_secs(1);
    if made.orphan {
        return Some(
            "the token role makes tokens without a parent, which would outlive the one that made them",
        );
    }
    if made.policies.iter().any(|policy| !allowed.policies.contains(policy)) {
        return Some(
            "the child has policies that the rule's tokens does not list, by its token role or by its identity's entity and groups",
        );
    }
    if made.lease_duration == 0 || Duration::from_secs(made.lease_duration) > longest {
        return Some("the child lives longer than the rule's tokens allows");
    }
    if allowed.uses > 0 && (made.num_uses == 0 || made.num_uses > allowed.uses) {
        return Some("the child has more uses than the rule's tokens allows");
    }
    (made.accessor.is_empty() || made.token_type == "batch")
        .then_some("the token role makes batch tokens, which cannot be revoked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(auth: serde_json::Value, expected: &str) {
        let allowed = Child {
            body: bytes::Bytes::new(),
            policies: vec!["ci-read".into()],
            longest: Duration::from_secs(60),
            uses: 2,
        };
        let mut whole = json!({
            "client_token": "hvs.x", "accessor": "a", "policies": ["ci-read"], "lease_duration": 60, "orphan": false, "num_uses": 2,
            "token_type": "service", "identity_policies": null,
        });
        whole.as_object_mut().unwrap().extend(auth.as_object().unwrap().clone());
        let Envelope { auth } = serde_json::from_value(json!({"auth": whole})).unwrap();
        let beyond = beyond(&auth, &allowed).unwrap_or("nothing");
        assert!(beyond.contains(expected), "{beyond}");
    }

    #[test]
    fn a_child_that_is_more_than_was_allowed_is_seen() {
        check(json!({}), "nothing");
        check(json!({"policies": ["ci-read", "admins"]}), "policies");
        check(json!({"lease_duration": 3600}), "longer");
        check(json!({"lease_duration": 0}), "longer");
        check(json!({"num_uses": 0}), "more uses");
        check(json!({"orphan": true}), "without a parent");
        check(json!({"token_type": "batch", "accessor": ""}), "batch");
    }
}
