//! How much of requests' bodies may be held in memory at a time: 16 MiB in all, 4 MiB of one workload.
//!
//! Pure. Holds no body itself.

use crate::name::WorkloadName;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Of all workloads, in bytes.
const ALL: usize = 16 * 1024 * 1024;
/// Of one, in bytes.
const EACH: usize = 4 * 1024 * 1024;

/// What is taken. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<BTreeMap<WorkloadName, usize>>>);

/// Room for one body, until it is dropped.
#[derive(Debug)]
pub struct Room {
    taken: Buffers,
    workload: WorkloadName,
    bytes: usize,
}

impl Buffers {
    /// Room for nothing yet.
    #[must_use]
    pub fn of(&self, workload: &WorkloadName) -> Room {
        Room { taken: self.clone(), workload: workload.clone(), bytes: 0 }
    }

    /// Takes room for `bytes`; `None`: there is not as much left.
    #[must_use]
    pub fn take(&self, workload: &WorkloadName, bytes: usize) -> Option<Room> {
        let mut room = self.of(workload);
        room.grow(bytes).then_some(room)
    }
}

impl Room {
    /// Takes more; false: there is not as much left, and nothing was taken.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let mut taken = self.taken.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&self.workload).copied().unwrap_or_default();
        let all: usize = taken.values().sum();
        let fits = own + bytes <= EACH && all + bytes <= ALL;
        if fits && bytes > 0 {
            taken.insert(self.workload.clone(), own + bytes);
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut taken = self.taken.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.workload) {
            Some(own) if *own > self.bytes => *own -= self.bytes,
            _ => drop(taken.remove(&self.workload)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_workload_takes_all_and_all_together_no_more_than_there_is() {
        let buffers = Buffers::default();
        let name = |n: usize| WorkloadName::new(&format!("w{n}")).unwrap();
        let mut rooms: Vec<Room> = (0..8).filter_map(|_| buffers.take(&name(0), 1024 * 1024)).collect();
        assert_eq!(rooms.len(), 4);
        for n in 1..8 {
            rooms.extend(buffers.take(&name(n), EACH));
        }
        assert_eq!(rooms.len(), 4 + 3);
        rooms.clear();
        assert!(buffers.0.lock().unwrap().is_empty());
        assert!(buffers.take(&name(0), EACH + 1).is_none());
        let mut room = buffers.take(&name(0), 0).unwrap();
        assert!(room.grow(EACH) && !room.grow(1));
        assert!(buffers.take(&name(0), 1).is_none());
        drop(room);
        assert!(buffers.take(&name(0), EACH).is_some());
    }
}
