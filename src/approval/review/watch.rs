//! Looks what becomes of reviews, on every replica, and has what became of them put on record by whoever writes it down first.
//!
//! Does not judge votes.

use super::{
    super::{
        Approvals, Id, State,
        fact::{Act, Fact},
        slot::Asking,
        store::Written,
        want::Ended,
    },
    Reviewed,
    book::{About, Waiting},
};
use crate::{clock, vault::error::Error};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a rule is looked at for which persons are asked, and one that another replica may have asked them for.
const BRISK: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(30);
/// How often it is looked whether it is time.
const TURN: Duration = Duration::from_secs(1);

/// What is known of one rule.
struct Known {
    rule: Arc<Reviewed>,
    asking: BTreeMap<Id, Asking>,
    /// What is to be told once it is known that it is written down.
    owed: Vec<Fact>,
    next: Instant,
}

/// Looks at all of them until `stop`.
pub(in super::super) async fn run(approvals: Approvals, stop: CancellationToken) {
    let mut known: Vec<Known> = Vec::new();
    loop {
        let rules = approvals.inner().reviews.all();
        known.retain(|one| rules.contains(&one.rule));
        for rule in rules {
            if known.iter().all(|one| one.rule != rule) {
                known.push(Known { rule, asking: BTreeMap::new(), owed: Vec::new(), next: Instant::now() });
            }
        }
        for one in &mut known {
            if Instant::now() < one.next {
                continue;
            }
            let looked = tokio::select! {
                () = stop.cancelled() => return,
                looked = one.look(&approvals) => looked,
            };
            one.next = Instant::now()
                + looked.unwrap_or_else(|error| {
                    tracing::debug!(rule = %one.rule.rule, %error, "looking for reviews");
                    BRISK
                });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = approvals.inner().reviews.news.notified() => known.iter_mut().for_each(|one| one.next = Instant::now()),
            () = tokio::time::sleep(TURN) => {}
        }
    }
}

impl Known {
    /// Looks once, and writes down what came of it; gives how long nothing more is expected.
    async fn look(&mut self, approvals: &Approvals) -> Result<Duration, Error> {
        let (mut book, version) = approvals.book(&self.rule).await?;
        let (waiting, mut facts, mut settled) = (book.waiting.clone(), Vec::new(), BTreeSet::new());
        let owed = std::mem::take(&mut self.owed);
        if owed.iter().all(|fact| waiting.iter().all(|one| one.id != fact.id.as_str())) {
            // The answer to our write was lost, or another was faster: better told twice than never.
            approvals.tell_of(&self.rule, owed);
        }
        self.asking.retain(|id, _| waiting.iter().any(|one| one.id == id.as_str()));
        for one in waiting {
            let (state, mut heard) = self.state(approvals, &one).await?;
            match state {
                State::Pending => continue,
                State::Granted => book.grant(&one.id),
                State::Ended(why) => {
                    if book.refuse(&one.id, why, clock::now()) {
                        heard.extend(self.fact(approvals, &one, Act::Disabled(why)));
                    }
                }
            }
            if let (State::Granted, About::Enable) = (state, one.about) {
                let by = heard.iter().find_map(|fact| match &fact.act {
                    Act::Granted(said) => Some(said.clone()),
                    _ => None,
                });
                heard.extend(self.fact(approvals, &one, Act::Enabled(by.unwrap_or_default())));
            }
            facts.append(&mut heard);
            settled.insert(one.id);
        }
        if !settled.is_empty() {
            // What is not written down by us is looked at anew, by what then stands there.
            self.asking.retain(|id, _| !settled.contains(id.as_str()));
            self.owed = facts;
            let written = approvals.write(&self.rule, &mut book, version).await?;
            let facts = std::mem::take(&mut self.owed);
            if written == Written::Overtaken {
                return Ok(Duration::ZERO);
            }
            approvals.tell_of(&self.rule, facts);
        }
        approvals.inner().reviews.note(&self.rule, &book, clock::now());
        if !book.holds(clock::now()) {
            approvals.mend(&self.rule.workload, &self.rule.rule);
        }
        let is_open = approvals.is_broken(&self.rule.workload, &self.rule.rule);
        Ok(if is_open || !book.waiting.is_empty() { BRISK } else { IDLE })
    }

    /// How one request stands, and what happened to it since.
    async fn state(&mut self, approvals: &Approvals, waiting: &Waiting) -> Result<(State, Vec<Fact>), Error> {
        let changed = || {
            // What is not the request that we would have written is none.
            let is_over = clock::now() > waiting.until;
            (if is_over { State::Ended(Ended::Changed) } else { State::Pending }, Vec::new())
        };
        let Some(id) = waiting.id() else { return Ok(changed()) };
        if !self.asking.contains_key(&id) {
            let (settings, identity) = (self.rule.settings(waiting.until), self.rule.identity.clone());
            let ticket = approvals.ticket(&self.rule, waiting);
            let found = Asking::resume(approvals, settings, identity, &ticket, id.clone()).await?;
            let Some(found) = found else { return Ok(changed()) };
            self.asking.insert(id.clone(), found);
        }
        match self.asking.get_mut(&id) {
            Some(asking) => asking.look(approvals).await,
            None => Ok(changed()),
        }
    }

    /// What happened to the rule by a request.
    fn fact(&self, approvals: &Approvals, waiting: &Waiting, act: Act) -> Option<Fact> {
        Some(Fact {
            id: waiting.id()?,
            name: self.rule.settings.name.clone(),
            workload: Some(self.rule.workload.clone()),
            digest: String::new(),
            ticket: Arc::new(approvals.ticket(&self.rule, waiting)),
            act,
        })
    }
}
