//! The review after an emergency: persons are asked for it, and where they do not say yes in time the rule disables itself, on all replicas and
//! over restarts, until persons have said that it may hold again.
//!
//! What is not known holds nothing: while the store cannot be read or written no such glass breaks. Whether a person said yes is judged as
//! for every other request.

mod book;
mod watch;

use super::{
    Approvals, Id, Settings,
    fact::Fact,
    glass::Broken,
    hook::{Hook, in_time},
    request::TRIES,
    slot::Asking,
    store::{Newest, Written},
    ticket::{Asker, Constraints, Resource, Ticket},
};
use crate::{
    clock::{self, Timestamp},
    crypto::{hex, sha256},
    name::{IdentityName, RuleName, WorkloadName},
    vault::error::{Class, Error},
};
use book::{About, Book, Waiting};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

pub(super) use watch::run;

const DOING: &str = "reading what became of a rule's emergencies";
/// What [`Resource::kind`] is of such a request.
pub const KIND: &str = "break_glass";

/// A rule for emergencies that are reviewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// Whose rule.
    pub workload: WorkloadName,
    /// Which.
    pub rule: RuleName,
    /// Who must say yes.
    pub settings: Settings,
    /// How long they have for it.
    pub within: Duration,
    /// Whose token acts by the rule.
    pub identity: IdentityName,
}

/// What a request for persons is called, and until when they may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its id.
    pub id: Id,
    /// Until when.
    pub until: Timestamp,
}

/// What somebody says who wants to have a rule again.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The user.
    pub uid: u32,
    /// Why.
    pub reason: &'a str,
    /// Where that is written down.
    pub ticket: &'a str,
}

/// What a drill found out.
#[derive(Debug)]
pub struct Drilled {
    /// Whether the rule holds; the store could be written for that.
    pub holds: bool,
    /// Approvers whose key in Vault could not be read: nobody could check their word.
    pub unknown: Vec<String>,
    /// The service that is told of requests, if there is one.
    pub service: Option<Service>,
}

/// What a drill found out of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// It answers when it is asked of a request.
    Answers,
    /// It cannot be asked, and is told of nothing by a drill.
    Unasked,
    /// It does not answer, for this reason.
    Silent(String),
}

/// The rules that are reviewed, and how each stood when it was last looked at.
#[derive(Default)]
pub(super) struct Reviews {
    rules: Mutex<Vec<Arc<Reviewed>>>,
    standing: Mutex<BTreeMap<(WorkloadName, RuleName), Stands>>,
    /// There is something to look at.
    news: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stands {
    disabled: u64,
    unreviewed: u64,
}

impl Reviews {
    fn all(&self) -> Vec<Arc<Reviewed>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, rule: &Reviewed, book: &Book, now: Timestamp) {
        let stands = Stands { disabled: u64::from(!book.holds(now)), unreviewed: book.unreviewed() as u64 };
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.insert((rule.workload.clone(), rule.rule.clone()), stands);
    }
}

impl Reviewed {
    /// The settings of one request that ends at `until`; a clock that is behind ours may have written it.
    fn settings(&self, until: Timestamp) -> Settings {
        let left = Duration::try_from(until.duration_since(clock::now())).unwrap_or_default();
        let ttl = left.saturating_add(Duration::from_secs(60));
        // Where nobody can say yes, nobody does.
        let quorum = self.settings.quorum.max(1);
        Settings { ttl, uses: 1, quorum, ..self.settings.clone() }
    }
}

impl Approvals {
    /// From now on these rules are reviewed, and no others.
    pub fn review(&self, rules: Vec<Reviewed>) {
        let reviews = &self.inner().reviews;
        let is_there = |of: &(WorkloadName, RuleName)| {
            rules.iter().any(|rule| rule.workload == of.0 && rule.rule == of.1)
        };
        reviews.standing.lock().unwrap_or_else(PoisonError::into_inner).retain(|of, _| is_there(of));
        *reviews.rules.lock().unwrap_or_else(PoisonError::into_inner) =
            rules.into_iter().map(Arc::new).collect();
        reviews.news.notify_one();
    }

    /// How a rule is reviewed; `None`: it is not.
    #[must_use]
    pub fn reviewed(&self, workload: &WorkloadName, rule: &RuleName) -> Option<Arc<Reviewed>> {
        self.inner().reviews.all().into_iter().find(|one| one.workload == *workload && one.rule == *rule)
    }

    /// How many rules are disabled, and how many emergencies wait for their review, as far as we know.
    #[must_use]
    pub fn reviews(&self) -> (u64, u64) {
        let standing = self.inner().reviews.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.values().fold((0, 0), |(disabled, unreviewed), stands| {
            (disabled + stands.disabled, unreviewed + stands.unreviewed)
        })
    }

    /// Whether the rule holds at all.
    ///
    /// # Errors
    /// The store could not be read: that is not known.
    pub async fn holds(&self, rule: &Reviewed) -> Result<bool, Error> {
        self.charge(rule)?;
        let (book, _) = self.book(rule).await?;
        self.inner().reviews.note(rule, &book, clock::now());
        Ok(book.holds(clock::now()))
    }

    /// Asks persons to review an emergency. Whoever calls has put that on record, and breaks the glass only after this.
    ///
    /// # Errors
    /// The store could not be read or written: nobody will review it.
    pub async fn open_review(&self, rule: &Reviewed, broken: &Broken) -> Result<Opened, Error> {
        let within = jiff::SignedDuration::try_from(rule.within).unwrap_or_default();
        let said = format!("{} ({}, emergency {})", broken.reason, broken.ticket, broken.id);
        self.ask(rule, (About::Review, said, broken.uid), clock::now() + within).await
    }

    /// Asks persons whether a rule that is disabled may hold again; `None`: it holds. Whoever asks while they are asked joins.
    ///
    /// # Errors
    /// The store could not be read or written: nobody was asked.
    pub async fn ask_to_enable(&self, rule: &Reviewed, said: Said<'_>) -> Result<Option<Opened>, Error> {
        self.charge(rule)?;
        let (book, _) = self.book(rule).await?;
        let now = clock::now();
        if book.holds(now) {
            return Ok(None);
        }
        let asked = book.waiting.iter().find(|one| one.about == About::Enable && now <= one.until);
        if let Some((until, id)) = asked.and_then(|one| Some((one.until, one.id()?))) {
            return Ok(Some(Opened { id, until }));
        }
        let ttl = jiff::SignedDuration::try_from(rule.settings.ttl).unwrap_or_default();
        let Said { uid, reason, ticket } = said;
        let said = format!("{reason} ({ticket})");
        self.ask(rule, (About::Enable, said, uid), now + ttl).await.map(Some)
    }

    /// Whether a review could be asked for, and would be heard. Opens nothing, and asks nobody.
    ///
    /// # Errors
    /// The store could not be read or written.
    pub async fn try_review(&self, rule: &Reviewed) -> Result<Drilled, Error> {
        self.charge(rule)?;
        let book = self.change(rule, |book| book.drilled = Some(clock::now())).await?;
        let around = self.around((&rule.settings, &rule.identity), &|_| {})?;
        let mut unknown = Vec::new();
        for approver in &rule.settings.approvers {
            let Some(key) = approver.unpinned() else { continue };
            match around.store.keys(&rule.settings.transit, &key).await {
                Ok(keys) if !keys.is_empty() => {}
                Ok(_) => unknown.push(approver.name.clone()),
                Err(error) if matches!(error.class(), Class::Missing | Class::Denied | Class::Invalid) => {
                    unknown.push(approver.name.clone());
                }
                Err(error) => return Err(error),
            }
        }
        let service = match self.hook(&rule.settings.name) {
            Some(hook) => Some(try_service(&hook, rule).await?),
            None => None,
        };
        Ok(Drilled { holds: book.holds(clock::now()), unknown, service })
    }

    /// Takes a call from what the rule's workload may cause.
    fn charge(&self, rule: &Reviewed) -> Result<(), Error> {
        let around = self.around((&rule.settings, &rule.identity), &|_| {})?;
        around.store.vault.charge(&rule.workload, DOING)
    }

    async fn ask(
        &self,
        rule: &Reviewed,
        (about, said, uid): (About, String, u32),
        until: Timestamp,
    ) -> Result<Opened, Error> {
        let place = self.inner().place.uid.clone();
        let waiting = Waiting { id: String::new(), about, until, said, uid, place };
        let (ticket, identity) = (self.ticket(rule, &waiting), rule.identity.clone());
        let (asking, facts) = Asking::begin(self, rule.settings(until), identity, &ticket, until).await?;
        let waiting = Waiting { id: asking.id().to_string(), until: asking.until(), ..waiting };
        self.change(rule, |book| {
            if book.waiting.iter().all(|known| known.id != waiting.id) {
                book.waiting.push(waiting.clone());
            }
        })
        .await?;
        self.tell_of(rule, facts);
        self.inner().reviews.news.notify_one();
        Ok(Opened { id: asking.id().clone(), until: asking.until() })
    }

    /// What persons are asked by `waiting`: the same on all replicas.
    fn ticket(&self, rule: &Reviewed, waiting: &Waiting) -> Ticket {
        let Reviewed { workload, rule: name, settings, identity, .. } = rule;
        let place = &self.inner().place;
        Ticket {
            approval: settings.name.to_string(),
            constraints: Constraints {
                quorum: settings.quorum as u64,
                uses: 1,
                valid_for: settings.valid_for.as_secs(),
            },
            identity: identity.to_string(),
            nonce: String::new(),
            not_after: String::new(),
            op: waiting.about.word().to_owned(),
            resource: Resource {
                kind: KIND.to_owned(),
                name: Some(name.to_string()),
                reason: Some(waiting.said.clone()),
                ..Resource::default()
            },
            rule: name.to_string(),
            workload: Asker {
                exe_sha256: None,
                name: workload.to_string(),
                namespace: place.namespace.clone(),
                place: waiting.place.clone(),
                service_account: place.service_account.clone(),
                uid: Some(waiting.uid),
            },
        }
    }

    /// Puts on record what happened to a request about the rule.
    fn tell_of(&self, rule: &Reviewed, facts: Vec<Fact>) {
        let of_rule = |fact| Fact { workload: Some(rule.workload.clone()), ..fact };
        self.tell(facts.into_iter().map(of_rule).collect());
    }

    /// What stands in the store of the rule, and which version of it that is.
    async fn book(&self, rule: &Reviewed) -> Result<(Book, u64), Error> {
        let around = self.around((&rule.settings, &rule.identity), &|_| {})?;
        let Newest { version, data } = around.store.read(&self.place_of(rule)).await?;
        let strange = |_| Error::new(Class::Invalid, DOING, "what stands in the store is something else");
        let book = data.map(serde_json::from_value).transpose().map_err(strange)?;
        Ok((book.unwrap_or_default(), version))
    }

    /// Changes it, by check-and-set; gives what it is then.
    async fn change(&self, rule: &Reviewed, change: impl Fn(&mut Book)) -> Result<Book, Error> {
        for _ in 0..TRIES {
            let (mut book, version) = self.book(rule).await?;
            change(&mut book);
            if self.write(rule, &mut book, version).await? == Written::Done {
                return Ok(book);
            }
        }
        Err(Error::new(Class::Away, DOING, "others change it all the time"))
    }

    async fn write(&self, rule: &Reviewed, book: &mut Book, version: u64) -> Result<Written, Error> {
        (book.workload, book.rule) = (rule.workload.to_string(), rule.rule.to_string());
        let around = self.around((&rule.settings, &rule.identity), &|_| {})?;
        let written = around.store.write(&self.place_of(rule), book, version).await?;
        if written == Written::Done {
            self.inner().reviews.note(rule, book, clock::now());
        }
        Ok(written)
    }

    /// Where that is: the same for all replicas of a ServiceAccount, and outside of Kubernetes for each start of an agent.
    fn place_of(&self, rule: &Reviewed) -> String {
        let place = &self.inner().place;
        let whose = match (&place.namespace, &place.service_account) {
            (Some(namespace), Some(account)) => format!("{namespace}/{account}"),
            _ => place.uid.clone(),
        };
        let text = format!("{whose}\n{}\n{}", rule.workload, rule.rule);
        let name: String = hex(&sha256(text.as_bytes())).chars().take(32).collect();
        format!("glass/{name}")
    }
}

/// Asks the service of a request that there is not: that it knows none is an answer.
async fn try_service(hook: &Hook, rule: &Reviewed) -> Result<Service, Error> {
    if hook.settings().status_url.is_none() {
        return Ok(Service::Unasked);
    }
    let of = (&Id::new(clock::now())?, hex(&[0; 32]));
    let asked = in_time(hook.ask((of.0, &of.1), &rule.settings.approvers)).await;
    Ok(asked.map_or_else(|fault| Service::Silent(fault.why), |_| Service::Answers))
}
