//! A value that is known to be dead before its successor is in Vault: a rotation has changed the one password of a user, and
//! consumers do not read the new one yet. Reads wait for a moment, or get the new one as soon as it was seen to work.
//!
//! Does not find out that it is dead: the rotation says so. One of the few places that look at the bytes of a secret.

use super::{
    Held, Holding, Keeper, Served, Shelf, Slot,
    value::{Content, Value},
};
use crate::{clock, name::SecretName, secret::SecretValue};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use zeroize::Zeroizing;

/// Whether the value of a place is dead. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Hold(Arc<watch::Sender<Option<Dead>>>);

/// Which value is dead.
#[derive(Clone, Debug)]
struct Dead {
    tag: String,
    /// As long does a read wait.
    limit: Duration,
    /// Its successor, once it was seen to work.
    pending: Option<Arc<Value>>,
    /// From when on Vault's word counts: whatever is confirmed after it is not dead.
    settled: Option<Instant>,
}

/// What may be handed out of a shelf.
pub(super) enum Verdict {
    /// What is on it.
    Free,
    /// The value that is about to be on it.
    Pending(Box<Served>),
    /// Nothing; a read may wait as long.
    Dead(Duration),
}

impl Default for Hold {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Hold {
    /// What may be handed out of `shelf`.
    pub(super) fn verdict(&self, shelf: &Shelf) -> Verdict {
        let state = self.0.borrow();
        let (Some(dead), Some(held)) = (&*state, &shelf.current) else { return Verdict::Free };
        let is_confirmed = dead.settled.is_some_and(|settled| held.confirmed > settled);
        if held.value.tag() != dead.tag || is_confirmed {
            return Verdict::Free;
        }
        match &dead.pending {
            None => Verdict::Dead(dead.limit),
            Some(pending) => {
                let held = Held { value: Arc::clone(pending), confirmed: Instant::now(), ..held.clone() };
                Verdict::Pending(Box::new(Served {
                    held,
                    previous: None,
                    stale: false,
                    age: Duration::ZERO,
                    soon: None,
                    late: None,
                }))
            }
        }
    }
}

impl Slot {
    /// How long a read must wait even if it does not ask to.
    pub(super) fn hold_limit(&self) -> Option<Duration> {
        match self.hold.verdict(&self.shelf.borrow()) {
            Verdict::Dead(limit) => Some(limit),
            Verdict::Free | Verdict::Pending(_) => None,
        }
    }

    /// Whether a read gets something else than what has the tag `since`.
    pub(super) fn has_newer(&self, since: Option<&str>) -> bool {
        self.served(Instant::now()).is_some_and(|served| Some(served.held.value.tag()) != since)
    }

    /// Waits up to `limit` until it does.
    pub(super) async fn wait_newer(&self, since: Option<&str>, limit: Duration) {
        let (mut shelf, mut said) = (self.shelf.clone(), self.hold.0.subscribe());
        let _ = tokio::time::timeout(limit, async {
            while !self.has_newer(since) {
                tokio::select! {
                    // The sender ends with its task: then what is in hand is all there will be.
                    changed = shelf.changed() => if changed.is_err() { return },
                    _ = said.changed() => {}
                }
            }
        })
        .await;
    }

    /// What a read gets of what is in hand; see [`Self::served`].
    pub(super) fn unforeseen(&self, now: Instant) -> Option<Served> {
        let shelf = self.shelf.borrow();
        match self.hold.verdict(&shelf) {
            Verdict::Free => shelf.served(now),
            Verdict::Pending(served) => Some(*served),
            Verdict::Dead(_) => None,
        }
    }
}

impl Keeper {
    /// The value of `name` that is in hand is dead, if it has `field`: reads of it wait up to `limit` for the next one.
    pub fn hold(&self, name: &SecretName, field: &str, limit: Duration) {
        self.on(name, |slot| {
            let shelf = slot.shelf.borrow();
            let Some(held) = &shelf.current else { return };
            if held.value.has(field) {
                let tag = held.value.tag().to_owned();
                slot.hold.0.send_if_modified(|dead| {
                    let is_new =
                        dead.as_ref().is_none_or(|known| known.tag != tag || known.settled.is_some());
                    if is_new {
                        *dead = Some(Dead { tag, limit, pending: None, settled: None });
                    }
                    is_new
                });
            }
        });
    }

    /// What comes after the dead value of `name` was seen to work: reads get it, as generation `generation`.
    pub fn hand_out_pending(&self, name: &SecretName, field: &str, text: &SecretValue, generation: u64) {
        self.on(name, |slot| {
            let shelf = slot.shelf.borrow();
            let Some(held) = &shelf.current else { return };
            slot.hold.0.send_if_modified(|dead| match dead {
                Some(dead) if dead.tag == held.value.tag() && dead.pending.is_none() => {
                    dead.pending = Some(Arc::new(held.value.with(field, text, generation)));
                    true
                }
                _ => false,
            });
        });
    }

    /// Whatever Vault has of `name` from now on is not dead: it is looked at again, and served when it is confirmed.
    pub fn settle(&self, name: &SecretName) {
        let mut is_new = false;
        self.on(name, |slot| {
            slot.hold.0.send_if_modified(|dead| {
                is_new = dead.as_ref().is_some_and(|dead| dead.settled.is_none());
                if let Some(dead) = dead.as_mut().filter(|_| is_new) {
                    dead.settled = Some(Instant::now());
                }
                is_new
            });
        });
        if is_new {
            self.look_again(name, None);
        }
    }

    /// The value of `name` that is in hand is not dead after all, or nobody knows.
    pub fn let_go(&self, name: &SecretName) {
        self.on(name, |slot| {
            slot.hold.0.send_if_modified(|dead| dead.take().is_some());
        });
    }

    fn on(&self, name: &SecretName, act: impl FnOnce(&Slot)) {
        if let Some(Holding::Shared(slot)) = self.holdings.load().get(name) {
            act(slot);
        }
    }
}

impl Value {
    fn has(&self, field: &str) -> bool {
        match &self.content {
            Content::One(_) => self.field.as_deref() == Some(field),
            Content::Fields(fields) => fields.iter().any(|(name, _)| name == field),
        }
    }

    /// The same with the text `text` in `field`.
    fn with(&self, field: &str, text: &SecretValue, generation: u64) -> Self {
        let json = || {
            let mut json = Zeroizing::new(Vec::with_capacity(6 * text.expose().len() + 2));
            // A text always has a spelling.
            let _ = serde_json::to_writer(&mut *json, text.expose());
            SecretValue::new(String::from_utf8_lossy(&json).into_owned())
        };
        let content = match &self.content {
            Content::One(_) => Content::One(json()),
            Content::Fields(fields) => {
                let same = |held: &SecretValue| SecretValue::new(held.expose().to_owned());
                let with = |(name, held): &(String, SecretValue)| {
                    (name.clone(), if name == field { json() } else { same(held) })
                };
                Content::Fields(fields.iter().map(with).collect())
            }
        };
        Self {
            name: self.name.clone(),
            kind: self.kind,
            mount: self.mount.clone(),
            path: self.path.clone(),
            field: self.field.clone(),
            generation,
            tag: format!("{}-pending-{generation}", self.tag),
            content,
            issued_at: clock::now(),
            lease: None,
            request_id: None,
            rotation: None,
            fingerprint: None,
            session: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Keeper, *};
    use std::collections::BTreeMap;

    fn shelf(generation: u64) -> Shelf {
        let fields = [("username", "\"app\""), ("password", "\"old\"")];
        let fields = fields.map(|(name, text)| (name.to_owned(), SecretValue::new(text.to_owned())));
        let value = Value::for_test("db", generation, Content::Fields(fields.into()));
        let held = Held {
            value: Arc::new(value),
            confirmed: Instant::now(),
            expires_at: None,
            serve_until: None,
            stale_from: None,
        };
        Shelf { current: Some(held), ..Shelf::default() }
    }

    fn password(served: &Served) -> String {
        let Content::Fields(fields) = served.held.value.content() else { unreachable!() };
        fields[1].1.expose().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_value_is_given_to_nobody_and_its_successor_as_soon_as_it_works() {
        let (filled, shelves) = watch::channel(shelf(1));
        let name = SecretName::new("db").unwrap();
        let keeper = Keeper::of(BTreeMap::from([(name.clone(), shelves)]));
        let slot = match keeper.holdings.load().get(&name) {
            Some(Holding::Shared(slot)) => slot.clone(),
            _ => unreachable!(),
        };
        let limit = Duration::from_secs(2);
        let served = || slot.served(Instant::now());
        keeper.hold(&name, "other", limit);
        assert!(slot.hold_limit().is_none() && served().is_some(), "it has no such field");
        keeper.hold(&name, "password", limit);
        assert!(slot.hold_limit() == Some(limit) && served().is_none());
        slot.wait_newer(None, limit).await;
        assert!(served().is_none(), "patience has an end, and it is still dead");
        let give = async {
            tokio::task::yield_now().await;
            keeper.hand_out_pending(&name, "password", &SecretValue::new("new".into()), 2);
        };
        tokio::join!(slot.wait_newer(None, Duration::MAX), give);
        let pending = served().unwrap();
        assert_eq!((password(&pending).as_str(), pending.held.value.generation()), ("\"new\"", 2));
        assert!(pending.previous.is_none() && slot.hold_limit().is_none());
        filled.send(shelf(2)).unwrap();
        assert_eq!(served().unwrap().held.value.tag(), "boot-2");
        keeper.hold(&name, "password", limit);
        let let_go = async {
            tokio::task::yield_now().await;
            keeper.let_go(&name);
        };
        tokio::join!(slot.wait_newer(None, Duration::MAX), let_go);
        assert_eq!(served().unwrap().held.value.tag(), "boot-2", "it was not dead");
        keeper.hold(&name, "password", limit);
        keeper.settle(&name);
        assert!(served().is_none(), "Vault was not asked yet");
        tokio::time::advance(limit).await;
        filled.send(shelf(2)).unwrap();
        assert_eq!(served().unwrap().held.value.tag(), "boot-2", "Vault has it");
    }
}
