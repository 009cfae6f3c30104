//! Answers of Vault that may be given again to the same workload, and requests that wait for one that is on its way.
//!
//! Does not decide whether an answer may be had: a permit does, for each request. Does not renew anything, and does not know processes:
//! whoever gives a lease out of it asks first whether it lives. Bounded in entries and in bytes.

use super::{Answer, Error, Found, Sending, body, envelope};
use crate::{
    crypto::{self, Hash},
    policy::forward::{Cache as Wanted, Forwarding, Operation},
    vault::{passage::Passage, session::State as Login},
};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// So many answers are held for a workload.
pub const MOST: usize = 1024;
/// So many bytes of bodies are held for a workload.
pub const MOST_BYTES: usize = 4 * 1024 * 1024;
/// A lease is given again until so much of its life is left: one part of so many.
const LAST_PART: u32 = 10;
const JSON: &[u8] = b"application/json";

/// What an answer is found by: SHA-256 of what it answers. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Hash);

/// The answers of one workload.
#[derive(Default)]
pub struct Cache {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Key, Entry>,
    flights: BTreeMap<Key, watch::Receiver<Landed>>,
    bytes: usize,
    uses: u64,
    /// Counts writes: what was read before one is not held after it.
    writes: u64,
    /// How often what is read at some place had become another value.
    turns: u64,
    counts: Counts,
}

struct Entry {
    stored: Arc<Stored>,
    login: u64,
    used: u64,
}

/// What is known of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Answered without Vault.
    pub hits: u64,
    /// Asked of Vault, though they might have been there.
    pub misses: u64,
    /// Answers that are held.
    pub entries: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// One answer.
pub struct Stored {
    answer: Answer,
    place: Place,
    since: Instant,
    /// Its whole life: of a lease, as Vault gave it first.
    life: Duration,
    /// Where in the body the seconds of a lease stand.
    seconds: Option<Range<usize>>,
}

/// Where in Vault it is.
struct Place {
    namespace: Option<String>,
    path: String,
}

/// What became of the request that others wait for.
#[derive(Clone, Default)]
pub enum Landed {
    /// Nothing yet.
    #[default]
    Flying,
    /// There is an answer that is good for all.
    Shared(Box<Result<Answer, Error>>),
    /// The answer is held.
    Held,
    /// It was only for whoever asked.
    Alone,
}

/// How a request goes on.
pub enum Entered {
    /// There is an answer.
    Hit(Arc<Stored>),
    /// It is to be sent; others wait for it.
    Lead(Flight),
    /// The same is on its way.
    Follow(watch::Receiver<Landed>),
}

/// A request that others wait for. Dropped without landing, they go on by themselves.
pub struct Flight {
    cache: Arc<Cache>,
    key: Key,
    writes: u64,
    tell: watch::Sender<Landed>,
}

impl Sending {
    /// The number of the login whose token its identity has.
    #[must_use]
    pub fn login(&self) -> Option<u64> {
        match &*self.forward.identity(&self.forwarding.identity).ok()?.state.borrow() {
            Login::Live(session) => Some(session.number()),
            Login::Starting | Login::Down(_) => None,
        }
    }
}

/// What the answer to `passage` is found by, if the rule lets it be held. No header is part of it: a body that is not sent as JSON is not
/// looked for.
pub(super) fn key(forwarding: &Forwarding, passage: &Passage) -> Option<Key> {
    let may_be_held = match (forwarding.cache, forwarding.operation) {
        (Wanted::Leases, Operation::Read | Operation::Write) | (Wanted::Kv(_), Operation::Read) => true,
        (Wanted::Off | Wanted::Leases | Wanted::Kv(_), _) => false,
    };
    let is_json = passage.headers.get("content-type").is_none_or(|kind| kind.as_bytes().starts_with(JSON));
    if !may_be_held || !is_json || forwarding.own.is_some() || passage.method == http::Method::HEAD {
        return None;
    }
    let mut query: Vec<&str> = passage.query.as_deref().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    let namespace = forwarding.namespace.as_deref().unwrap_or_default();
    let (operation, query) = (forwarding.operation.word(), query.join("&"));
    let mut text = Vec::new();
    for part in [forwarding.identity.as_str(), namespace, operation, &passage.path, &query] {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    // An object's members come out in one order, however they came in. A child's are so already.
    let sorted = || serde_json::from_slice::<serde_json::Value>(&passage.body).ok();
    match forwarding.child.is_none().then(sorted).flatten() {
        Some(body) => text.extend_from_slice(body.to_string().as_bytes()),
        None => text.extend_from_slice(&passage.body),
    }
    Some(Key(crypto::sha256(&text)))
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every step leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for what `key` finds, of the login that is in use now.
    #[must_use]
    pub fn enter(self: &Arc<Self>, key: Key, login: Option<u64>, now: Instant) -> Entered {
        let mut state = self.lock();
        state.uses += 1;
        let used = state.uses;
        if let Some(entry) = state.entries.get_mut(&key) {
            if Some(entry.login) == login && !entry.stored.is_over(now) {
                entry.used = used;
                return Entered::Hit(Arc::clone(&entry.stored));
            }
            state.remove(key);
        }
        if let Some(flight) = state.flights.get(&key) {
            return Entered::Follow(flight.clone());
        }
        let (tell, landed) = watch::channel(Landed::Flying);
        state.flights.insert(key, landed);
        state.counts.misses += 1;
        let (cache, writes) = (Arc::clone(self), state.writes);
        drop(state);
        Entered::Lead(Flight { cache, key, writes, tell })
    }

    /// Counts an answer that was given out of it, or shared.
    pub fn hit(&self) {
        self.lock().counts.hits += 1;
    }

    /// Forgets one answer, whose lease is over.
    pub fn forget(&self, key: Key) {
        self.lock().remove(key);
    }

    /// Forgets what is of a lease.
    pub fn forget_lease(&self, id_hash: &str) {
        self.forget_where(|stored| stored.lease().is_some_and(|lease| lease == id_hash));
    }

    /// Forgets what a write to `path` may have changed: all that is no lease and begins with the same segment.
    pub fn written(&self, namespace: Option<&str>, path: &str) {
        self.lock().writes += 1;
        let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
        let mount = first(path);
        self.forget_where(|stored| {
            stored.lease().is_none()
                && stored.place.namespace.as_deref() == namespace
                && first(&stored.place.path) == mount
        });
    }

    /// Forgets everything, unless places had other values `turns` times before too.
    pub fn turned(&self, turns: u64) {
        if std::mem::replace(&mut self.lock().turns, turns) != turns {
            self.lock().writes += 1;
            self.clear();
        }
    }

    /// Forgets what is below a path, in a namespace.
    pub fn forget_below(&self, namespace: Option<&str>, path: &str) {
        self.forget_where(|stored| {
            stored.place.namespace.as_deref() == namespace && stored.place.path.starts_with(path)
        });
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.forget_where(|_| true);
    }

    fn forget_where(&self, is_over: impl Fn(&Stored) -> bool) {
        let mut state = self.lock();
        let over = state.entries.iter().filter(|(_, entry)| is_over(&entry.stored)).map(|(key, _)| *key);
        for key in over.collect::<Vec<_>>() {
            state.remove(key);
        }
    }

    /// What is known of it.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { entries: state.entries.len() as u64, bytes: state.bytes as u64, ..state.counts }
    }
}

impl State {
    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.stored.answer.body.len();
        }
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        let length = entry.stored.answer.body.len();
        if length > MOST_BYTES {
            return;
        }
        self.remove(key);
        while self.entries.len() >= MOST || self.bytes + length > MOST_BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
            let Some(oldest) = oldest else { break };
            self.remove(oldest);
        }
        self.bytes += length;
        self.entries.insert(key, entry);
    }
}

impl Flight {
    /// Holds the answer, if it may be held, and tells those who wait. Whether it is held.
    #[must_use]
    pub fn land(self, sending: &Sending, answered: &Result<Answer, Error>) -> bool {
        let landed = match answered {
            Ok(answer) if self.store(sending, answer) => Landed::Held,
            // Whoever has a lease is known by it; and a change is for each to make.
            Ok(answer) if answer.lease.is_some() || sending.forwarding.operation.changes() => Landed::Alone,
            answered => Landed::Shared(Box::new(answered.clone())),
        };
        let is_held = matches!(landed, Landed::Held);
        self.cache.lock().flights.remove(&self.key);
        self.tell.send_replace(landed);
        is_held
    }

    fn store(&self, sending: &Sending, answer: &Answer) -> bool {
        let forwarding = &sending.forwarding;
        let Some((life, seconds)) = life(forwarding.cache, answer) else { return false };
        let path = forwarding.path.as_str().to_owned();
        let place = Place { namespace: forwarding.namespace.clone(), path };
        // Its own copy: what came back takes of the room for answers that are on their way.
        let answer = Answer { body: body(answer.body.to_vec()), ..answer.clone() };
        let mut state = self.cache.lock();
        let (Some(login), true) = (answer.login, answer.lease.is_some() || state.writes == self.writes)
        else {
            return false;
        };
        state.uses += 1;
        let used = state.uses;
        let stored = Arc::new(Stored { answer, place, since: Instant::now(), life, seconds });
        state.insert(self.key, Entry { stored, login, used });
        true
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.cache.lock().flights.remove(&self.key);
    }
}

/// How long an answer may be given again, and where in it the seconds of its lease stand; `None`: it may not.
fn life(wanted: Wanted, answer: &Answer) -> Option<(Duration, Option<Range<usize>>)> {
    let is_json = |value: &http::HeaderValue| value.as_bytes().starts_with(JSON);
    if answer.status != 200 || !answer.headers.get("content-type").is_some_and(is_json) {
        return None;
    }
    match (wanted, &answer.lease) {
        (Wanted::Kv(time), None) => Some((time, None)),
        (Wanted::Leases, Some(lease)) if !lease.is_counted() => {
            let (seconds, at) = envelope::seconds(&answer.body)?;
            Some((Duration::from_secs(seconds), Some(at)))
        }
        _ => None,
    }
}

impl Stored {
    /// The lease in it, by its hash.
    #[must_use]
    pub fn lease(&self) -> Option<&str> {
        self.answer.lease.as_ref().map(|lease| lease.id_hash.as_str())
    }

    /// Whether it is over, whatever Vault says of its lease.
    fn is_over(&self, now: Instant) -> bool {
        self.lease().is_none() && now >= self.since + self.life
    }

    /// The answer as of `now`, with the seconds that are left of its lease, which ends at `end`; `None` if it may not be given any more.
    #[must_use]
    pub fn answer(&self, end: Option<Instant>, now: Instant) -> Option<Answer> {
        let bytes = &self.answer.body;
        let found = Some(Found::Hit(now.saturating_duration_since(self.since)));
        let (Some(at), Some(end)) = (&self.seconds, end) else {
            return (!self.is_over(now)).then(|| Answer { found, ..self.answer.clone() });
        };
        let is_child = self.answer.lease.as_ref().is_some_and(|lease| lease.is_child());
        // A child that is renewed is so by its client.
        let end = if is_child { self.since + self.life } else { end };
        let left = end.saturating_duration_since(now);
        if left <= self.life / LAST_PART || left.as_secs() == 0 {
            return None;
        }
        let left = left.as_secs().to_string();
        let (before, after) = (bytes.get(..at.start)?, bytes.get(at.end..)?);
        let mut whole = Vec::with_capacity(bytes.len() + left.len());
        whole.extend_from_slice(before);
        whole.extend_from_slice(left.as_bytes());
        whole.extend_from_slice(after);
        Some(Answer { body: body(whole), found, ..self.answer.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn stored(life_s: u64, body: &'static str) -> Stored {
        let answer = Answer {
            status: 200,
            headers: http::HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            stream: None,
            request_id: None,
            lease: None,
            found: None,
            login: None,
            wrapped: false,
        };
        let place = Place { namespace: None, path: "database/creds/app".into() };
        let seconds = envelope::seconds(body.as_bytes()).map(|(_, at)| at);
        Stored { answer, place, since: Instant::now(), life: Duration::from_secs(life_s), seconds }
    }

    #[track_caller]
    fn check(stored: &Stored, after_s: u64, left: Option<u64>) {
        let now = stored.since + Duration::from_secs(after_s);
        let said = stored.answer(Some(stored.since + stored.life), now);
        let seconds = said.map(|answer| envelope::seconds(&answer.body).unwrap().0);
        assert_eq!(seconds, left, "after {after_s} s");
    }

    #[tokio::test]
    async fn what_is_left_of_a_lease_is_said_and_the_last_part_of_it_is_for_nobody_new() {
        let stored = stored(100, r#"{"lease_id":"a/b","lease_duration":100,"data":{"lease_duration":7}}"#);
        check(&stored, 0, Some(100));
        check(&stored, 1, Some(99));
        check(&stored, 89, Some(11));
        check(&stored, 90, None);
        check(&stored, 200, None);
        let renewed = stored.answer(Some(stored.since + Duration::from_secs(500)), stored.since);
        let body = renewed.unwrap().body;
        assert_eq!(&body[..], br#"{"lease_id":"a/b","lease_duration":500,"data":{"lease_duration":7}}"#);
    }

    fn entry(state: &mut State, number: u8, bytes: usize) {
        state.uses += 1;
        let used = state.uses;
        let mut stored = stored(60, "{}");
        stored.answer.body = vec![b'x'; bytes].into();
        let key = Key([number; 32]);
        state.insert(key, Entry { stored: Arc::new(stored), login: 1, used });
    }

    #[tokio::test]
    async fn what_was_used_longest_ago_makes_room_and_what_is_too_large_is_not_held() {
        let cache = Arc::new(Cache::default());
        let half = MOST_BYTES / 2;
        entry(&mut cache.lock(), 1, half);
        entry(&mut cache.lock(), 2, half);
        let hit = |number| matches!(cache.enter(Key([number; 32]), Some(1), Instant::now()), Entered::Hit(_));
        assert!(hit(1));
        entry(&mut cache.lock(), 3, half);
        assert!(hit(1) && hit(3));
        assert!(!hit(2));
        entry(&mut cache.lock(), 4, MOST_BYTES + 1);
        assert_eq!((cache.counts().entries, cache.counts().bytes), (2, 2 * half as u64));
        for number in 0..=u8::MAX {
            entry(&mut cache.lock(), number, 1);
        }
        assert!(cache.counts().bytes <= MOST_BYTES as u64);
        cache.clear();
        assert_eq!((cache.counts().entries, cache.counts().bytes), (0, 0));
    }

    #[tokio::test]
    async fn a_new_login_and_a_write_below_the_same_mount_end_what_is_held() {
        let cache = Arc::new(Cache::default());
        entry(&mut cache.lock(), 1, 1);
        assert!(matches!(cache.enter(Key([1; 32]), Some(2), Instant::now()), Entered::Lead(_)));
        entry(&mut cache.lock(), 2, 1);
        cache.written(Some("ns"), "database/x");
        cache.written(None, "secret/x");
        assert_eq!(cache.counts().entries, 1);
        cache.written(None, "database/roles/app");
        assert_eq!(cache.counts().entries, 0);
    }

    #[tokio::test]
    async fn one_request_is_on_its_way_for_all_and_when_it_is_given_up_the_next_one_goes() {
        let cache = Arc::new(Cache::default());
        let enter = || cache.enter(Key([1; 32]), Some(1), Instant::now());
        let Entered::Lead(flight) = enter() else { panic!("it is not sent") };
        let Entered::Follow(mut landed) = enter() else { panic!("it is sent twice") };
        drop(flight);
        assert!(landed.changed().await.is_err());
        assert!(matches!(enter(), Entered::Lead(_)));
    }
}
