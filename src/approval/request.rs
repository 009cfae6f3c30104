//! One request: written to the store, looked at until enough have said yes or one has said no, and spent use by use.
//!
//! Every step asks Vault and may fail; a step that fails changes nothing, and is never a yes. Does not know who waits for it.

use super::{
    Ended, Settings, Spent,
    fact::{Act, Fact, Joined, Said},
    group::Guard,
    shown::shown,
    signed::{Approver, Found, judge},
    store::{Entities, Pointer, Store, Uses, Written, pointer, unrandom},
    ticket::{Decision, Shown, Ticket, Vote, digest},
};
use crate::{
    clock::{self, Timestamp, rfc3339},
    crypto::{Hash, PublicKey, hex, random},
    name::{IdentityName, WorkloadName},
    vault::error::{Class, Error},
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// How often a write that somebody else overtook is tried again.
pub(super) const TRIES: usize = 4;
/// How often it is looked whether another that says that it asks has asked, and how long before each: then it is taken for dead.
const LOOKS: usize = 10;
pub(super) const BEGUN: Duration = Duration::from_millis(300);

/// What a request is called: seconds since 1970 and random digits, both hex, so that the names stand in the order of their time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

impl Id {
    /// Reads one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (time, rest) = text.split_once('-')?;
        let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (time.len() == 8 && rest.len() == 12 && is_hex(time) && is_hex(rest)).then(|| Self(text.into()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn new(now: Timestamp) -> Result<Self, Error> {
        let random = random::<6>().map_err(|_| unrandom())?;
        Ok(Self(format!("{:08x}-{}", now.as_second(), hex(&random)).into()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may not say yes to a request, and what else a step needs to know.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) store: Store<'a>,
    pub(super) settings: &'a Settings,
    pub(super) workload: Option<&'a WorkloadName>,
    pub(super) entities: &'a Entities,
    pub(super) tell: &'a (dyn Fn(Fact) + Sync),
    /// Whether the service that is to be told has been.
    pub(super) notified: Option<bool>,
    /// When a new request ends; `None`: after its `ttl`.
    pub(super) until: Option<Timestamp>,
}

/// A request that is in the store.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) id: Id,
    pub(super) ticket: Arc<Ticket>,
    pub(super) text: String,
    digest: Hash,
    pub(super) not_after: Timestamp,
    /// Who said yes so far.
    pub(super) yes: BTreeMap<String, Said>,
    /// When we saw that enough had.
    pub(super) granted: Option<Timestamp>,
    /// When somebody in our place saw it, by what stands in the store: it can only shorten the time.
    since: Option<Timestamp>,
    pub(super) used: u32,
    /// The run of a rotation that used it.
    run: Option<String>,
    pub(super) ended: Option<Ended>,
    /// Where Vault itself asks: what waits there.
    pub(super) guard: Option<Guard>,
}

/// Which votes are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Those that were not there before.
    New,
    /// All: one who said yes may have thought better of it.
    All,
}

impl Request {
    /// Joins the request of `ticket` that waits in the store, or writes a new one.
    pub(super) async fn open(around: &Around<'_>, ticket: &Ticket) -> Result<Self, Error> {
        let place = pointer(&ticket.fingerprint());
        let (mut tries, mut looks) = (TRIES, LOOKS);
        while tries > 0 {
            let found = around.store.read(&place).await?;
            let now = clock::now();
            let known = found.data.and_then(|data| serde_json::from_value::<Pointer>(data).ok());
            if let Some(known) = known.filter(|known| known.not_after.parse().is_ok_and(|end| now < end)) {
                let id = Id::parse(&known.id);
                if let Some(joined) = Self::join(around, ticket, known).await? {
                    joined.tell(around, Act::Requested { joined: Joined::Earlier });
                    return Ok(joined);
                }
                if looks > 0
                    && let Some(id) = id
                    && around.store.read(&format!("{id}/request")).await?.version == 0
                {
                    looks -= 1;
                    tokio::time::sleep(BEGUN).await;
                    continue;
                }
            }
            tries -= 1;
            let new = Self::new(around, ticket, now)?;
            let own = Pointer { id: new.id.to_string(), not_after: rfc3339(new.not_after) };
            if around.store.write(&place, &own, found.version).await? == Written::Overtaken {
                continue;
            }
            let shown = shown(around.settings, &new.text);
            if around.store.write(&format!("{}/request", new.id), &shown, 0).await? == Written::Done {
                new.tell(around, Act::Requested { joined: Joined::New });
                return Ok(new);
            }
        }
        Err(Error::new(Class::Away, "asking for a person's yes", "others ask for the same all the time"))
    }

    pub(super) fn new(around: &Around<'_>, ticket: &Ticket, now: Timestamp) -> Result<Self, Error> {
        let ttl = jiff::SignedDuration::try_from(around.settings.ttl).unwrap_or_default();
        let not_after = around.until.unwrap_or(now + ttl);
        let nonce = hex(&random::<16>().map_err(|_| unrandom())?);
        Ok(Self::of(Id::new(now)?, ticket, nonce, not_after))
    }

    /// What asks for the same as `ticket` under this id and nonce until that moment; nobody has said anything yet.
    fn of(id: Id, ticket: &Ticket, nonce: String, not_after: Timestamp) -> Self {
        let ticket = Ticket { nonce, not_after: rfc3339(not_after), ..ticket.clone() };
        let text = ticket.text();
        Self {
            id,
            digest: digest(&text),
            ticket: Arc::new(ticket),
            text,
            not_after,
            yes: BTreeMap::new(),
            granted: None,
            since: None,
            used: 0,
            run: None,
            ended: None,
            guard: None,
        }
    }

    /// The request that another start of the agent wrote, if it asks for exactly this. Of what stands in the store only nonce and end
    /// are taken; the rest is what we would write ourselves.
    async fn join(around: &Around<'_>, ticket: &Ticket, known: Pointer) -> Result<Option<Self>, Error> {
        let Some(id) = Id::parse(&known.id) else { return Ok(None) };
        let joined = Self::find(around, ticket, id).await?;
        Ok(joined.filter(|joined| joined.used < around.settings.uses))
    }

    /// The request of that id, if it asks for exactly this, whatever became of it.
    pub(super) async fn find(around: &Around<'_>, ticket: &Ticket, id: Id) -> Result<Option<Self>, Error> {
        let found = around.store.read(&format!("{id}/request")).await?;
        let Some(shown) = found.data.and_then(|data| serde_json::from_value::<Shown>(data).ok()) else {
            return Ok(None);
        };
        let Ok(theirs) = serde_json::from_str::<Ticket>(&shown.ticket) else { return Ok(None) };
        let longest = jiff::SignedDuration::try_from(around.settings.ttl).unwrap_or_default();
        let Ok(not_after) = theirs.not_after.parse::<Timestamp>() else { return Ok(None) };
        let mut joined = Self::of(id, ticket, theirs.nonce, not_after);
        if joined.text != shown.ticket || not_after.duration_since(clock::now()) > longest {
            return Ok(None);
        }
        joined.read_uses(around).await?;
        Ok(Some(joined))
    }

    /// What is signed for.
    pub(super) fn digest(&self) -> &Hash {
        &self.digest
    }

    /// Looks at the votes, and at the clock.
    pub(super) async fn look(&mut self, around: &Around<'_>, look: Look) -> Result<(), Error> {
        if self.ended.is_some() {
            return Ok(());
        }
        let looked = self.votes(around, look).await;
        // Whether Vault can be asked or not.
        self.expire(around);
        if self.ended.is_some() { Ok(()) } else { looked }
    }

    /// Ends it if its time is over; asks nobody.
    pub(super) fn expire(&mut self, around: &Around<'_>) {
        if self.ended.is_none() && self.is_over(around.settings) {
            self.end(around, Ended::Expired, Vec::new());
        }
    }

    fn is_over(&self, settings: &Settings) -> bool {
        let window = jiff::SignedDuration::try_from(settings.valid_for).unwrap_or_default();
        let granted = self.granted.map(|ours| self.since.map_or(ours, |since| ours.min(since)));
        let end = granted.map_or(self.not_after, |granted| granted.min(self.not_after) + window);
        clock::now() > end || self.guard.as_ref().is_some_and(Guard::is_over)
    }

    async fn votes(&mut self, around: &Around<'_>, look: Look) -> Result<(), Error> {
        if let Some(guard) = self.guard.clone() {
            return self.look_at_group(around, &guard).await;
        }
        let slots = around.store.slots(self.id.as_str()).await?;
        for approver in &around.settings.approvers {
            let is_known = self.yes.contains_key(&approver.name);
            if !slots.iter().any(|slot| slot == approver.slot()) || (is_known && look == Look::New) {
                continue;
            }
            let Some(vote) = around.store.vote(self.id.as_str(), approver.slot()).await? else { continue };
            self.count(around, approver, vote).await?;
            if self.ended.is_some() {
                return Ok(());
            }
        }
        if self.granted.is_none() && self.yes.len() >= around.settings.quorum {
            self.granted = Some(clock::now());
            self.tell(around, Act::Granted(self.yes.values().cloned().collect()));
        }
        Ok(())
    }

    pub(super) async fn keys(
        &self,
        around: &Around<'_>,
        approver: &Approver,
    ) -> Result<BTreeMap<u64, PublicKey>, Error> {
        match approver.unpinned() {
            Some(key) => around.store.keys(&around.settings.transit, &key).await,
            None => Ok(BTreeMap::new()),
        }
    }

    pub(super) async fn count(
        &mut self,
        around: &Around<'_>,
        approver: &Approver,
        vote: Vote,
    ) -> Result<(), Error> {
        let keys = self.keys(around, approver).await?;
        let by = approver.name.clone();
        let unsigned = Said { by: by.clone(), reason: String::new() };
        match judge(approver, &vote, &self.digest, &keys) {
            Found::Said(Decision::Approve) => {
                if self.may_not(around, approver).await? {
                    self.end(around, Ended::OwnApproval, vec![Said { by, reason: vote.reason }]);
                    return Ok(());
                }
                self.yes.insert(by.clone(), Said { by, reason: vote.reason });
            }
            Found::Said(Decision::Refuse) => {
                self.end(around, Ended::Refused, vec![Said { by, reason: vote.reason }]);
            }
            Found::Forged => self.end(around, Ended::Forged, vec![unsigned]),
            Found::OfAnother => {
                let found = around.store.read(&format!("{}/request", self.id)).await?;
                let shown = found.data.and_then(|data| serde_json::from_value::<Shown>(data).ok());
                let is_ours = shown.is_some_and(|shown| shown.ticket == self.text);
                let why = if is_ours { Ended::Replayed } else { Ended::Changed };
                self.end(around, why, vec![unsigned]);
            }
        }
        Ok(())
    }

    /// Whether an approver's yes must not count: it would be the identity's own, or is excluded.
    async fn may_not(&self, around: &Around<'_>, approver: &Approver) -> Result<bool, Error> {
        let Some(entity) = approver.entity() else { return Ok(false) };
        if around.settings.exclude.iter().any(|excluded| excluded == entity) {
            return Ok(true);
        }
        // That of the act is one of the config's: a name.
        let Ok(acting) = IdentityName::new(&self.ticket.identity) else { return Ok(true) };
        for name in std::iter::once(&acting).chain(&around.settings.identity) {
            if around.entities.of(&around.store, name).await? == entity {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Spends one use, after one more look at the votes; `run` names the run of a rotation, which may come twice. `None`: it is not
    /// granted (any more).
    pub(super) async fn spend(
        &mut self,
        around: &Around<'_>,
        run: Option<&str>,
    ) -> Result<Option<Spent>, Error> {
        self.look(around, Look::All).await?;
        for _ in 0..TRIES {
            let Some(granted) = self.granted.filter(|_| self.ended.is_none()) else { return Ok(None) };
            let version = self.read_uses(around).await?;
            let is_ours = run.is_some() && self.run.as_deref() == run;
            if self.used >= around.settings.uses && !is_ours {
                self.end(around, Ended::Used, Vec::new());
                return Ok(None);
            }
            if is_ours {
                return Ok(Some(self.spent(around)));
            }
            if self.is_over(around.settings) {
                self.end(around, Ended::Expired, Vec::new());
                return Ok(None);
            }
            let since = self.since.map_or(granted, |since| since.min(granted));
            let run = run.map(str::to_owned);
            let uses = Uses { granted: rfc3339(since), used: self.used + 1, run: run.clone() };
            if around.store.write(&format!("{}/uses", self.id), &uses, version).await? == Written::Overtaken {
                continue;
            }
            self.used += 1;
            self.tell(around, Act::Used(self.yes.values().cloned().collect()));
            if self.used >= around.settings.uses && run.is_none() {
                self.ended = Some(Ended::Used);
            }
            self.run = run;
            return Ok(Some(self.spent(around)));
        }
        Err(Error::new(Class::Away, "spending a person's yes", "others spend it all the time"))
    }

    fn spent(&self, around: &Around<'_>) -> Spent {
        Spent {
            id: self.id.clone(),
            name: around.settings.name.clone(),
            digest: hex(&self.digest),
            by: self.yes.keys().cloned().collect(),
            key: self.guard.as_ref().map(Guard::key),
        }
    }

    /// What the store says of uses; never less than what we know. Gives the version that it is of.
    async fn read_uses(&mut self, around: &Around<'_>) -> Result<u64, Error> {
        let found = around.store.read(&format!("{}/uses", self.id)).await?;
        if let Some(uses) = found.data.and_then(|data| serde_json::from_value::<Uses>(data).ok()) {
            self.used = self.used.max(uses.used);
            self.since = uses.granted.parse().ok();
            self.run = uses.run;
        } else if found.version > 0 {
            // Somebody took it away: how often it was used is not known.
            self.used = u32::MAX;
        }
        Ok(found.version)
    }

    pub(super) fn end(&mut self, around: &Around<'_>, why: Ended, by: Vec<Said>) {
        self.ended = Some(why);
        self.tell(around, Act::Ended { why, by, notified: around.notified });
    }

    pub(super) fn tell(&self, around: &Around<'_>, act: Act) {
        (around.tell)(self.fact(around, act));
    }

    /// What happened to it.
    pub(super) fn fact(&self, around: &Around<'_>, act: Act) -> Fact {
        Fact {
            id: self.id.clone(),
            name: around.settings.name.clone(),
            workload: around.workload.cloned(),
            digest: hex(&self.digest),
            ticket: Arc::clone(&self.ticket),
            act,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_nothing_else_is_one() {
        let id = Id::new(clock::now()).unwrap();
        assert_eq!(Id::parse(id.as_str()), Some(id));
        for bad in ["", "open", "6a1f3c20-9b1e42aa10f", "6A1F3C20-9b1e42aa10f3", "../../x-9b1e42aa10f3"] {
            assert_eq!(Id::parse(bad), None, "{bad}");
        }
    }
}
