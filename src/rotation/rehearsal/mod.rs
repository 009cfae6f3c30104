//! What a run would do, and what stands in its way: looked at, and nothing changed.
//!
//! Asks Vault as the rotation's identity, and the system whether it accepts what consumers read. A Lease of Kubernetes is asked for by
//! agents alone, and persons are not asked here.

mod rights;
mod steps;

pub use steps::Step;

use super::{
    Kind,
    coordination::Coordination,
    desk::{Desk, Error},
    document::Document,
    driver::Driver,
    group,
    phase::{Phase, Target},
    schedule::{local, plus},
    system::{Act, Ask, Order, Said},
};
use crate::{
    clock::{self, Timestamp, rfc3339},
    vault::{endpoint::Request, kv2::Place},
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use steps::Known;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal {
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What a run would do.
    pub steps: Vec<Step>,
    /// When it would begin; `None`: not before a person does something.
    pub begins: Option<Timestamp>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: `journal`, `lease`, `right`, `secret`, `target`, …
    pub check: &'static str,
    /// How it stands.
    pub state: Stand,
    /// What was found.
    pub says: String,
    /// Until when it stands in the way, where that is known.
    pub until: Option<String>,
    /// What a person can do about it.
    pub remedy: Option<String>,
    /// Of a right, which path of Vault's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// And which capabilities a run needs there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<&'static [&'static str]>,
}

impl Check {
    fn new(check: &'static str, state: Stand, says: impl Into<String>) -> Self {
        Self { check, state, says: says.into(), until: None, remedy: None, path: None, needs: None }
    }
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stand {
    /// Nothing stands in the way.
    Fine,
    /// Something would stay undone, or could not be looked at.
    Warned,
    /// The run waits for it.
    Waits,
    /// There is no run before a person does something.
    Blocked,
}

impl Stand {
    /// The word of the command.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warned => "warned",
            Self::Waits => "waits",
            Self::Blocked => "blocked",
        }
    }
}

/// The clocks may differ by as much as for any run.
const SKEW: Duration = Duration::from_secs(60);

impl Desk {
    /// Looks at all that a run which a person asks for now would need.
    ///
    /// # Errors
    /// Of kind `bootstrap` nothing can be asked without the agent's own login.
    pub async fn rehearse(&self, outside: Arc<dyn Ask>) -> Result<Rehearsal, Error> {
        if matches!(self.settings.kind, Kind::Bootstrap(_)) {
            return Err(Error::Unrehearsed);
        }
        let driver = Driver::new(self.settings.kind.clone(), self.store.clone(), outside);
        let mut look =
            Look { desk: self, driver, now: clock::now(), begins: clock::now(), checks: Vec::new() };
        look.journal().await;
        look.lease();
        let (known, place) = look.secret().await;
        look.clock();
        look.blackout();
        look.approval();
        look.group().await;
        look.rights(place.as_ref()).await;
        look.target().await;
        let Look { checks, begins, .. } = look;
        let is_blocked = checks.iter().any(|check| check.state == Stand::Blocked);
        let steps = steps::of(&self.settings, &known);
        Ok(Rehearsal { checks, steps, begins: Some(begins).filter(|_| !is_blocked) })
    }
}

struct Look<'a> {
    desk: &'a Desk,
    driver: Driver,
    now: Timestamp,
    begins: Timestamp,
    checks: Vec<Check>,
}

impl Look<'_> {
    fn add(&mut self, check: &'static str, state: Stand, says: impl Into<String>) {
        self.checks.push(Check::new(check, state, says));
    }

    fn blocked(&mut self, check: &'static str, says: impl Into<String>, remedy: impl Into<String>) {
        let remedy = Some(remedy.into());
        self.checks.push(Check { remedy, ..Check::new(check, Stand::Blocked, says) });
    }

    fn waits(&mut self, check: &'static str, says: impl Into<String>, until: Option<Timestamp>) {
        self.begins = self.begins.max(until.unwrap_or(self.begins));
        let until = until.map(rfc3339);
        self.checks.push(Check { until, ..Check::new(check, Stand::Waits, says) });
    }

    async fn journal(&mut self) {
        match self.desk.journal.read().await {
            Err(error) => {
                let error = Error::from(error);
                self.blocked("journal", error.to_string(), "make the journal readable for the identity");
            }
            Ok((None, _)) => {
                self.blocked("journal", "no agent has run this rotation yet", "start an agent that has it");
            }
            Ok((Some(document), _)) => self.document(&document),
        }
    }

    fn document(&mut self, document: &Document) {
        let Document { state, grace_until, asked, orphaned, suspended, .. } = document;
        if let Some(suspended) = suspended {
            let (by, since) = (&suspended.by, rfc3339(suspended.at));
            let says = format!("suspended since {since} by {by}: {}", suspended.reason);
            self.blocked("suspended", says, format!("claviger rotation resume {}", self.desk.settings.name));
        }
        if let Some(asked) = asked {
            self.add("asked", Stand::Fine, format!("a run is asked for already: {asked}"));
        }
        match state.phase {
            Phase::Idle => self.add("journal", Stand::Fine, "no run is under way"),
            Phase::Orphaned => {
                let why = orphaned.as_deref().unwrap_or("journal");
                let remedy = format!("look, and then claviger rotation unorphan {}", self.desk.settings.name);
                self.blocked("journal", format!("a run waits for a person: {why}"), remedy);
            }
            phase => {
                let says =
                    format!("a run is under way, in phase {}: the next one begins after it", phase.word());
                self.waits("journal", says, *grace_until);
            }
        }
        if let Some(holder) = &document.lease.holder {
            self.add("lease", Stand::Fine, format!("{holder} has it, number {}", document.lease.epoch));
        }
        let rested = plus(document.succeeded, self.desk.settings.schedule.min_interval);
        let last = rfc3339(document.succeeded);
        if rested > self.now {
            self.waits("min_interval", format!("the last success was at {last}"), Some(rested));
        } else {
            self.add("min_interval", Stand::Fine, format!("the last success was at {last}"));
        }
    }

    fn lease(&mut self) {
        match &self.desk.settings.coordination {
            Coordination::Vault => {
                self.add("lease", Stand::Fine, "in the journal: whoever writes first has it");
            }
            it @ Coordination::Kubernetes(_) => {
                self.add("lease", Stand::Warned, format!("{it}: only an agent asks for it"));
            }
        }
    }

    /// What consumers read, and where.
    async fn secret(&mut self) -> (Known, Option<Place>) {
        if self.driver.target() == Target::Vault {
            return (Known::default(), None);
        }
        let path = self.desk.settings.kind.path().to_owned();
        let place = match self.desk.store.place(&path).await {
            Ok(place) => place,
            Err(error) => {
                self.blocked("secret", error.to_string(), format!("let the identity read {path}, in KV 2"));
                return (Known::default(), None);
            }
        };
        match self.desk.store.read(&place).await {
            Ok(newest) => {
                let fields = newest.fields.unwrap_or_default();
                let (reads, user) = match &self.desk.settings.kind {
                    Kind::Credential(credential) => {
                        (credential.current_user(&fields), Some(credential.next_user(&fields)))
                    }
                    _ => (None, None),
                };
                let by = user.as_ref().map(|user| format!("; the run changes {user}")).unwrap_or_default();
                self.add("secret", Stand::Fine, format!("{path} has version {}{by}", newest.version));
                (Known { version: newest.version, reads, user }, Some(place))
            }
            Err(error) => {
                self.blocked("secret", error.to_string(), format!("let the identity read {path}"));
                (Known::default(), Some(place))
            }
        }
    }

    fn clock(&mut self) {
        let skew = self.desk.store.skew();
        if skew > SKEW {
            let says = format!("Vault's clock and this machine's differ by {} s", skew.as_secs());
            self.blocked("clock", says, "no run begins above 60 s: set the clocks");
        } else {
            self.add("clock", Stand::Fine, "Vault's clock and this machine's agree");
        }
    }

    fn blackout(&mut self) {
        let schedule = &self.desk.settings.schedule;
        let says = match schedule.blackout_at(self.now) {
            Some(until) => {
                let until = local(&schedule.zone(), until).strftime("%a %Y-%m-%d %H:%M %:z").to_string();
                format!("one lasts until {until}: what a person asks for begins all the same")
            }
            None => "none now".to_owned(),
        };
        self.add("blackout", Stand::Fine, says);
    }

    fn approval(&mut self) {
        let Some(consent) = self.desk.settings.consent.clone() else {
            return self.add("approval", Stand::Fine, "none is needed");
        };
        let (name, quorum) = (consent.settings.name, consent.settings.quorum);
        if consent.settings.observe {
            return self.add("approval", Stand::Fine, format!("{name} only observes"));
        }
        let who: Vec<String> = consent.settings.approvers.iter().map(|one| one.name.to_string()).collect();
        let says = format!("{quorum} of {} must say yes ({name}); an agent asks them first", who.join(", "));
        self.waits("approval", says, None);
    }

    async fn group(&mut self) {
        let Some(group) = self.desk.settings.group.clone() else { return };
        match group::free(&self.desk.store, &self.desk.settings, self.now).await {
            Ok(Some((until, by))) => {
                self.waits(
                    "group",
                    format!("{by} of the group {} began a moment ago", group.name),
                    Some(until),
                );
            }
            Ok(None) => self.add("group", Stand::Fine, format!("no other of {} is too near", group.name)),
            Err(error) => {
                self.blocked("group", error.to_string(), "let the identity read the group's record")
            }
        }
    }

    async fn rights(&mut self, consumer: Option<&Place>) {
        let rights = rights::needed(&self.desk.settings, consumer);
        let paths: Vec<&str> = rights.iter().map(|right| right.path.as_str()).collect();
        let request = Request::write("sys/capabilities-self", &serde_json::json!({"paths": paths}));
        let granted = match self.desk.store.call(&request).await {
            Ok(answer) => answer.data::<BTreeMap<String, serde_json::Value>>(),
            Err(error) => Err(error),
        };
        let granted = match granted {
            Ok(granted) => granted,
            Err(error) => {
                let says = format!("what the identity may do could not be asked: {error}");
                return self.add("right", Stand::Warned, says);
            }
        };
        for right in &rights {
            let words = granted.get(&right.path).and_then(serde_json::Value::as_array);
            let words: Vec<String> =
                words.into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect();
            let missing = right.missing(&words);
            let (state, says, remedy) = if missing.is_empty() {
                (Stand::Fine, format!("{}: {} ({})", right.path, right.needs.join(", "), right.why), None)
            } else {
                let state = if right.weight == rights::Weight::Must { Stand::Blocked } else { Stand::Warned };
                let says = format!("{}: no {} ({})", right.path, missing.join(", "), right.why);
                (state, says, Some(right.stanza()))
            };
            let (path, needs) = (Some(right.path.clone()), Some(right.needs));
            self.checks.push(Check { remedy, path, needs, ..Check::new("right", state, says) });
        }
    }

    /// Whether the system can be reached, and accepts what consumers read.
    async fn target(&mut self) {
        if let Kind::Trigger(trigger) = &self.desk.settings.kind {
            return match trigger.mark(&self.desk.store).await {
                Ok(_) => self.add("target", Stand::Fine, "Vault's own record can be read"),
                Err(error) => self.blocked("target", error.to_string(), "let the identity read the record"),
            };
        }
        if self.driver.target() == Target::Nothing {
            return;
        }
        let current = match self.driver.current().await {
            Ok(Some(current)) => current,
            Ok(None) => {
                let says = "consumers read nobody that is known: whether the system answers is not tried";
                return self.add("target", Stand::Warned, says);
            }
            // It was said of the secret.
            Err(_) => return,
        };
        let until = clock::since_boot().saturating_add(self.desk.settings.lease.call);
        let rotation = &self.desk.settings.name;
        let (user, value) = (current.user.as_str(), &current.value);
        let order = Order { act: Act::Test, rotation, id: "dry-run", user, value, until };
        match self.driver.ask(order).await {
            Ok(Said::Done) => {
                self.add("target", Stand::Fine, format!("it lets {user} in with what consumers read"))
            }
            Ok(Said::Refused) => {
                let says = format!("it answers, and does not let {user} in with what consumers read");
                self.add("target", Stand::Warned, says);
            }
            Err(unknown) => {
                self.blocked("target", unknown.to_string(), "make the system reachable from here")
            }
        }
    }
}
