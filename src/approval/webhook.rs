//! What a service of chat or paging is told of a request, and how what it answers is read.
//!
//! Pure. Believes nothing: an answer holds votes, and a vote is as good as its signature. No secret is in a message: it says what a ticket
//! says. `text` is what Slack's incoming webhooks and those like them show; the rest follows Standard Webhooks (specification 1.0).

use super::{
    Settings,
    fact::{Fact, Said},
    request::{Id, Request},
    shown::approvers,
    signed::Approver,
    ticket::{LONGEST_REASON, ShownApprover, Vote},
};
use crate::{
    clock::{Timestamp, rfc3339},
    crypto::hex,
    receiver::Receiver,
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};
use url::Url;

/// What the approver is called that a service itself is, by its own key.
pub const SERVICE: &str = "webhook";
/// What stands in a [`StatusUrl`] for the request's id.
pub const PLACE: &str = "{id}";
/// How much of an answer's votes is read.
const MOST: usize = 100;
/// The longest description in a message, in characters: chats cut longer ones off, at places of their own.
const LONGEST: usize = 1_500;

/// Who is told, and may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is told.
    pub to: Receiver,
    /// Where it is asked; `None`: what it says, it says in its answer to being told.
    pub status_url: Option<StatusUrl>,
    /// The key of the `webhook-signature` header.
    pub hmac_key_file: Option<PathBuf>,
    /// The token of the `Authorization` header.
    pub bearer_file: Option<PathBuf>,
    /// How often it is asked.
    pub poll: Duration,
    /// It is told what became of each request.
    pub outcomes: bool,
}

/// An address with [`PLACE`] in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusUrl(String);

impl StatusUrl {
    /// Reads one; what scheme it has is for others to judge.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = Self(text.to_owned());
        // An id is of hex digits and a hyphen: it makes no other address of it.
        let whole = Url::parse(&text.replace(PLACE, "0-0")).ok()?;
        let path_has_it = whole.path().contains("0-0") || whole.query().is_some_and(|q| q.contains("0-0"));
        (text.contains(PLACE) && whole.has_host() && path_has_it).then_some(url)
    }

    /// Where the request `id` is asked for.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<Url> {
        Url::parse(&self.0.replace(PLACE, id)).ok()
    }
}

/// What is told.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    r#type: &'static str,
    timestamp: String,
    /// For people.
    text: String,
    data: Data,
}

#[derive(Debug, Serialize)]
struct Data {
    id: String,
    approval: String,
    /// Hex of the SHA-256 of `ticket`.
    digest: String,
    /// Exactly the text that the digest is of.
    ticket: String,
    /// The act, in words.
    asks: String,
    workload: String,
    rule: String,
    quorum: u64,
    expires_at: String,
    /// What is signed, with three places to fill in.
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<&'static str>,
    approvers: Vec<ShownApprover>,
    /// What it is authorized by in Vault, where Vault itself asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    accessor: Option<String>,
}

/// See [`super::ticket::statement`].
const STATEMENT: &str = "claviger approval\n{decision}\n{digest}\n{reason}\n";

impl Message {
    /// What is told of `request`.
    pub(super) fn of(settings: &Settings, request: &Request, now: Timestamp) -> Self {
        let ticket = &request.ticket;
        let asks: String = ticket.to_string().chars().take(LONGEST).collect();
        let store = format!("{}/{}", settings.store.mount, settings.store.path);
        let accessor = request.accessor();
        let needed = match accessor {
            Some(_) => "the control group in Vault".to_owned(),
            None => settings.quorum.to_string(),
        };
        let text = format!(
            "{} wants to {} (rule {}, in {}). Approval {}: {} must say yes until {}. `claviger approve {id} --store {store} --reason …` or \
             `claviger refuse {id} --store {store} --reason …`",
            plain(&ticket.workload.name),
            plain(&asks),
            plain(&ticket.rule),
            plain(&ticket.workload.place),
            settings.name,
            needed,
            rfc3339(request.not_after),
            id = request.id,
        );
        Self {
            r#type: "claviger.approval.requested",
            timestamp: rfc3339(now),
            text,
            data: Data {
                id: request.id.to_string(),
                approval: settings.name.to_string(),
                digest: hex(request.digest()),
                ticket: request.text.clone(),
                asks,
                workload: ticket.workload.name.clone(),
                rule: ticket.rule.clone(),
                quorum: ticket.constraints.quorum,
                expires_at: rfc3339(request.not_after),
                statement: accessor.is_none().then_some(STATEMENT),
                approvers: approvers(settings),
                accessor,
            },
        }
    }

    /// As it is sent.
    pub(super) fn body(&self) -> Vec<u8> {
        // This shape cannot fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What is told of a request that is granted, refused, expired or used: so that the message about it can be put right.
#[derive(Debug, Serialize)]
pub(super) struct After<'a> {
    r#type: String,
    timestamp: String,
    /// For people.
    text: String,
    data: Became<'a>,
}

#[derive(Debug, Serialize)]
struct Became<'a> {
    id: &'a str,
    approval: &'a str,
    digest: &'a str,
    ticket: String,
    asks: String,
    workload: &'a str,
    rule: &'a str,
    /// `granted`, `refused`, `expired` or `used`.
    state: &'a str,
    /// Why it was refused: a word of a closed set.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Whose word that was.
    by: Vec<Person<'a>>,
}

#[derive(Debug, Serialize)]
struct Person<'a> {
    approver: &'a str,
    reason: &'a str,
}

impl<'a> After<'a> {
    /// What is told when that happened.
    pub(super) fn of(
        fact: &'a Fact,
        (state, reason): (&'a str, Option<&'a str>),
        by: &'a [Said],
        now: Timestamp,
    ) -> Self {
        let Fact { id, name, digest, ticket, .. } = fact;
        let asks: String = ticket.to_string().chars().take(LONGEST).collect();
        let said = by.iter().map(|said| match said.reason.as_str() {
            "" => plain(&said.by),
            reason => format!("{} ({})", plain(&said.by), plain(reason)),
        });
        let said: Vec<String> = said.collect();
        let who = if said.is_empty() { String::new() } else { format!(": {}", said.join(", ")) };
        let text = format!(
            "{state}, approval {name}: {} wanted to {} ({id}){who}",
            plain(&ticket.workload.name),
            plain(&asks),
        );
        Self {
            r#type: format!("claviger.approval.{state}"),
            timestamp: rfc3339(now),
            text,
            data: Became {
                id: id.as_str(),
                approval: name.as_str(),
                digest,
                ticket: ticket.text(),
                asks,
                workload: &ticket.workload.name,
                rule: &ticket.rule,
                state,
                reason,
                by: by.iter().map(|said| Person { approver: &said.by, reason: &said.reason }).collect(),
            },
        }
    }

    /// As it is sent.
    pub(super) fn body(&self) -> Vec<u8> {
        // This shape cannot fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What every message and question about a request is called, each time it is sent: who gets it twice knows that.
pub(super) fn message_id(id: &Id) -> String {
    format!("approval-{id}")
}

/// Without what a chat would make more of than letters: Slack's `<`, `>` and `&`, and marks of code.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => plain.push_str("&amp;"),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '`' => plain.push('\''),
            c if c.is_control() => plain.push('?'),
            c => plain.push(c),
        }
    }
    plain
}

/// One vote of an answer: whose, by the place in `approvers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Brought {
    pub(super) approver: usize,
    pub(super) vote: Vote,
}

/// What an answer holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) votes: Vec<Brought>,
    /// Votes of nobody whom the config names.
    pub(super) strangers: usize,
}

#[derive(Deserialize)]
struct Spoken {
    approver: Option<String>,
    decision: String,
    /// Absent: it is meant for this request, which its signature will tell.
    digest: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    signature: String,
}

/// The votes in `body`, which answers about the request with this digest: `{"decisions": [...]}`, or one decision. Whatever else it is holds
/// none: chats answer `ok`.
pub(super) fn answered(body: &[u8], approvers: &[Approver], digest: &str) -> Answered {
    let mut found = Answered::default();
    let Ok(serde_json::Value::Object(mut object)) = serde_json::from_slice(body) else { return found };
    let spoken = match object.remove("decisions") {
        Some(serde_json::Value::Array(all)) => all,
        Some(_) => return found,
        None if object.contains_key("decision") => vec![serde_json::Value::Object(object)],
        None => return found,
    };
    for one in spoken.into_iter().take(MOST) {
        let Ok(spoken) = serde_json::from_value::<Spoken>(one) else {
            found.strangers += 1;
            continue;
        };
        match whose(spoken.approver.as_deref(), approvers) {
            Some(approver) => found.votes.push(Brought { approver, vote: spoken.vote(digest) }),
            None => found.strangers += 1,
        }
    }
    found
}

/// Whose a vote is that says so, or does not: then the only one's, or the service's own.
fn whose(named: Option<&str>, approvers: &[Approver]) -> Option<usize> {
    match named {
        Some(name) => approvers.iter().position(|approver| approver.name == name),
        None if approvers.len() == 1 => Some(0),
        None => approvers.iter().position(|approver| approver.name == SERVICE),
    }
}

impl Spoken {
    fn vote(self, digest: &str) -> Vote {
        let Self { approver: _, decision, digest: of, reason, signature } = self;
        // What is longer is no reason, and is not kept.
        let reason = if reason.len() > LONGEST_REASON { String::new() } else { reason };
        Vote { decision, digest: of.unwrap_or_else(|| digest.to_owned()), reason, signature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::signed::Key;

    fn approvers(names: &[&str]) -> Vec<Approver> {
        names.iter().map(|name| Approver { name: (*name).into(), key: Key::Service([1; 32]) }).collect()
    }

    #[track_caller]
    fn check(body: &str, names: &[&str], expected: &[(usize, &str, &str)], strangers: usize) {
        let found = answered(body.as_bytes(), &approvers(names), "d");
        let votes: Vec<(usize, &str, &str)> = found
            .votes
            .iter()
            .map(|one| (one.approver, one.vote.decision.as_str(), one.vote.digest.as_str()))
            .collect();
        assert_eq!((votes.as_slice(), found.strangers), (expected, strangers), "{body}");
    }

    #[test]
    fn an_answer_holds_votes_or_none() {
        check("ok", &["lead"], &[], 0);
        check("", &["lead"], &[], 0);
        check(r#"{"ok": true}"#, &["lead"], &[], 0);
        check(r#"{"decision": "approve"}"#, &["lead"], &[(0, "approve", "d")], 0);
        check(r#"{"decision": "approve", "digest": "e"}"#, &["lead", SERVICE], &[(1, "approve", "e")], 0);
        check(r#"{"decision": "approve"}"#, &["lead", "owner"], &[], 1);
        check(
            r#"{"decisions": [{"approver": "owner", "decision": "refuse"}, {"approver": "x", "decision": "refuse"}, 7]}"#,
            &["lead", "owner"],
            &[(1, "refuse", "d")],
            2,
        );
        check(r#"{"decisions": 7}"#, &["lead"], &[], 0);
    }

    #[test]
    fn a_status_url_has_one_place_for_the_id_and_stays_at_its_host() {
        for (text, right) in [
            ("https://bot/approvals/{id}", true),
            ("https://bot/status?id={id}", true),
            ("https://bot/approvals", false),
            ("https://{id}/approvals", false),
            ("https://bot/#{id}", false),
            ("bot/{id}", false),
        ] {
            assert_eq!(StatusUrl::parse(text).is_some(), right, "{text}");
        }
        let url = StatusUrl::parse("https://bot/a/{id}").unwrap().of("6a1f3c20-9b1e42aa10f3").unwrap();
        assert_eq!(url.as_str(), "https://bot/a/6a1f3c20-9b1e42aa10f3");
    }

    #[test]
    fn what_a_workload_can_write_is_letters_to_a_chat() {
        assert_eq!(plain("<!channel> & `x`\n"), "&lt;!channel&gt; &amp; 'x'?");
    }
}
