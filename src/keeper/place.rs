//! Places in Vault whose value is known to be dead for a moment, as [`super::hold`] knows it of secrets: reads in Vault's own API wait
//! there too, and then get what is alive.
//!
//! Does not find out that it is dead: the rotation says so. Pure but for the waiting.

use super::{Keeper, error::Error};
use crate::name::SecretName;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The dead places. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    /// Where, by whose rotation, and as long does a read wait.
    dead: BTreeMap<String, (SecretName, Duration)>,
    /// How often one came to life again: what was read before is of no use after.
    turns: u64,
}

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Keeper {
    /// What is at `path` (of KV 2 without `data/`) is dead; it is called `name`. Reads of it wait up to `limit`.
    pub fn hold_place(&self, path: &str, name: &SecretName, limit: Duration) {
        self.places
            .0
            .send_if_modified(|state| state.dead.insert(path.to_owned(), (name.clone(), limit)).is_none());
    }

    /// It is alive.
    pub fn free_place(&self, path: &str) {
        self.places.0.send_if_modified(|state| {
            let was_dead = state.dead.remove(path).is_some();
            state.turns += u64::from(was_dead);
            was_dead
        });
    }

    /// Waits while what is read at `path`, as Vault's API spells it, is dead; gives how often places came to life so far.
    ///
    /// # Errors
    /// It is dead for longer than a read waits.
    pub async fn wait_for_place(&self, path: &str) -> Result<u64, Error> {
        let mut state = self.places.0.subscribe();
        let held =
            state.borrow().dead.iter().find(|(dead, _)| is_at(path, dead)).map(|(_, held)| held.clone());
        let Some((name, limit)) = held else { return Ok(state.borrow().turns) };
        let is_alive = |state: &State| !state.dead.keys().any(|dead| is_at(path, dead));
        let waited = tokio::time::timeout(limit, state.wait_for(is_alive)).await;
        match waited {
            Ok(Ok(state)) => Ok(state.turns),
            _ => Err(Error::NotReady { name, because: None }),
        }
    }
}

/// Whether `path` is `dead`, with or without the `data` of KV 2 after any of its segments.
fn is_at(path: &str, dead: &str) -> bool {
    path == dead
        || path.match_indices("/data/").any(|(at, part)| {
            let (mount, rest) = path.split_at(at);
            rest.strip_prefix(part).is_some_and(|rest| {
                dead.strip_prefix(mount).and_then(|dead| dead.strip_prefix('/')) == Some(rest)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_kv_is_known_by_the_path_of_its_data() {
        for (path, dead, expected) in [
            ("secret/data/orders", "secret/orders", true),
            ("teams/a/data/orders/db", "teams/a/orders/db", true),
            ("secret/data/data/orders", "secret/data/orders", true),
            ("database/static-creds/app", "database/static-creds/app", true),
            ("secret/data/orders/db", "secret/orders", false),
            ("secret/metadata/orders", "secret/orders", false),
            ("other/data/orders", "secret/orders", false),
        ] {
            assert_eq!(is_at(path, dead), expected, "{path} {dead}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_of_a_dead_place_waits_until_it_is_alive_and_no_longer_than_it_may() {
        let (keeper, name) = (Keeper::default(), SecretName::new("orders").unwrap());
        let read = || keeper.wait_for_place("secret/data/orders");
        assert_eq!(read().await.unwrap(), 0);
        keeper.hold_place("secret/orders", &name, Duration::from_secs(2));
        assert_eq!(keeper.wait_for_place("secret/data/other").await.unwrap(), 0);
        assert!(read().await.is_err(), "patience has an end, and it is still dead");
        let free = async {
            tokio::task::yield_now().await;
            keeper.free_place("secret/orders");
        };
        let (turns, ()) = tokio::join!(read(), free);
        assert_eq!(turns.unwrap(), 1, "what was kept from before is of no use");
        assert_eq!(read().await.unwrap(), 1);
    }
}
