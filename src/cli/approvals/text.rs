//! Requests in plain words, and as JSON. Pure.

use super::{desk::Standing, group::InVault};
use crate::clock::rfc3339;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// All of them.
pub(super) fn plain(all: &[Standing]) -> String {
    if all.is_empty() {
        return "nothing waits for a person's yes\n".to_owned();
    }
    all.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// One of them.
pub(super) fn one(request: &Standing) -> String {
    let Standing { id, ticket, not_after, votes, digest, .. } = request;
    let who = &ticket.workload;
    let mut text = format!("{id}  {} until {}\n", request.state(), rfc3339(*not_after));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {} wants to {}", who.name, shown(&ticket.to_string()));
    let parts = [("namespace", &who.namespace), ("service account", &who.service_account)];
    let mut place: Vec<String> =
        parts.iter().filter_map(|(word, part)| Some(format!("{word} {}", part.as_ref()?))).collect();
    place.push(match who.uid {
        Some(uid) => format!("uid {uid}, in {}", who.place),
        None => format!("one of the agents that share the journal {}", who.place),
    });
    place.extend(who.exe_sha256.as_ref().map(|hash| format!("program sha256 {hash}")));
    let _ = writeln!(text, "  who: {}", shown(&place.join(", ")));
    let constraints = &ticket.constraints;
    let times = if constraints.uses == 1 { "once".to_owned() } else { format!("{} times", constraints.uses) };
    let when = match ticket.resource.kind.as_str() {
        "rotation" => format!("by {}, as {}; {times}, and in that slot", ticket.rule, ticket.identity),
        "break_glass" if ticket.op == "review" => {
            format!(
                "by the rule {}, as {}; a no, or silence, disables that rule",
                ticket.rule, ticket.identity
            )
        }
        "break_glass" => format!("by the rule {}, as {}", ticket.rule, ticket.identity),
        _ => format!(
            "by the rule {}, as {}; {times} within {} s",
            ticket.rule, ticket.identity, constraints.valid_for
        ),
    };
    let _ = writeln!(
        text,
        "  {when}; approval {} needs {}",
        ticket.approval,
        match &request.in_vault {
            Some(_) => "those whom its control group in Vault names".to_owned(),
            None => {
                let names: Vec<&str> = request.shown.approvers.iter().map(|one| one.name.as_str()).collect();
                format!("{} of: {}", constraints.quorum, names.join(", "))
            }
        },
    );
    for by in request.in_vault.iter().flat_map(InVault::authorized) {
        let _ = writeln!(text, "  authorized by {}", shown(&by));
    }
    for (name, vote) in votes {
        let _ = writeln!(text, "  {name}: {}, {}", shown(&vote.decision), shown(&vote.reason));
    }
    let _ = writeln!(text, "  digest {digest}");
    text
}

/// Without what could play with a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// All of them.
pub(super) fn json(all: &[Standing]) -> String {
    let of =
        |request: &Standing| {
            let votes: Vec<Value> = request.votes.iter().map(|(name, vote)| {
            json!({"approver": name, "decision": vote.decision, "reason": vote.reason})
        }).collect();
            let authorized = request.in_vault.as_ref().map(InVault::authorized);
            json!({
                "authorized_by": authorized,
                "id": request.id.as_str(), "state": request.state(), "asks": request.ticket.to_string(),
                "digest": request.digest, "ticket": request.ticket, "votes": votes, "used": request.used,
            })
        };
    format!("{}\n", json!({"approvals": all.iter().map(of).collect::<Vec<_>>()}))
}
