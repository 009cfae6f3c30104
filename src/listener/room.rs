//! Who has how many of a socket's places: each user its own, and all whom the settings refuse a few.
//!
//! Does not know sockets and does not look at anybody. What is taken is given back when it is dropped.

use super::Limits;
use crate::peer::Cause;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// How many of those who are refused are told why at the same time: of those whom the settings refuse, and of those who may
/// connect and are over their limits. Each is told within a second.
const PARTINGS: u32 = 8;

/// The places of one socket.
#[derive(Default)]
pub(super) struct Room(Arc<Mutex<Taken>>);

/// How many are taken, by whose they are. Never 0, so that there are no more entries than connections.
type Taken = BTreeMap<Whose, u32>;

/// Whose a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    /// A user's.
    User(u32),
    /// Of somebody who is told that it is over its limits.
    Over,
    /// Of somebody who is told that it may not be here.
    Stranger,
}

/// A place, until it is dropped.
pub(super) struct Place {
    taken: Arc<Mutex<Taken>>,
    whose: Whose,
}

/// How many connections a socket has at most, where `users` may connect; any may if that is 0, and then they share one share.
pub(super) fn total(limits: &Limits, users: usize) -> usize {
    let each = usize::try_from(limits.connections).unwrap_or(usize::MAX);
    each.saturating_mul(users.max(1)).saturating_add(2 * PARTINGS as usize)
}

impl Room {
    /// A place of this user, which may connect.
    ///
    /// # Errors
    /// [`Cause::Connections`].
    pub(super) fn take(&self, uid: u32, limits: &Limits) -> Result<Place, Cause> {
        self.place(Whose::User(uid), limits.connections).ok_or(Cause::Connections)
    }

    /// A place to tell somebody why it is refused; `None`: too many are being told, and this one is not.
    pub(super) fn part(&self, cause: &Cause) -> Option<Place> {
        let whose = match cause {
            Cause::Connections | Cause::Rate(_) => Whose::Over,
            _ => Whose::Stranger,
        };
        self.place(whose, PARTINGS)
    }

    fn place(&self, whose: Whose, limit: u32) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.get(&whose).copied().unwrap_or_default();
        (held < limit).then(|| {
            taken.insert(whose, held + 1);
            Place { taken: Arc::clone(&self.0), whose }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.whose) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(taken.remove(&self.whose)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32) -> Limits {
        Limits { connections, ..Limits::default() }
    }

    #[test]
    fn each_user_has_places_of_its_own_and_gives_them_back() {
        let (room, limits) = (Room::default(), limits(2));
        let first: Vec<_> = (0..2).filter_map(|_| room.take(1, &limits).ok()).collect();
        assert!(matches!(room.take(1, &limits).err(), Some(Cause::Connections)));
        let _second = room.take(2, &limits);
        drop(first);
        assert!(room.take(1, &limits).is_ok());
        assert_eq!(*room.0.lock().unwrap(), BTreeMap::from([(Whose::User(2), 1)]));
    }

    #[test]
    fn those_who_are_refused_have_a_few_places_and_no_user_s() {
        let (room, limits) = (Room::default(), limits(1));
        let strangers: Vec<_> = (0..9).filter_map(|_| room.part(&Cause::Uid(1))).collect();
        let over: Vec<_> = (0..9).filter_map(|_| room.part(&Cause::Connections)).collect();
        assert_eq!((strangers.len(), over.len()), (8, 8));
        assert!(room.take(1, &limits).is_ok());
        // Everybody who has a place, or is told why it has none, fits.
        assert_eq!([0, 1, 3].map(|users| total(&limits, users)), [1 + 8 + 8, 1 + 8 + 8, 3 + 8 + 8]);
    }
}
