//! Locked pages, cut into slots that secrets use one after the other.
//!
//! Pages are never given back to the system: a slot that is free again waits for the next secret of about its size, so that
//! what is locked is what was needed at most, and a value that is fetched again costs no system call. Does not know what a
//! secret is; whoever gives a slot back has wiped it.

use super::Memory;
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{SysconfVar, sysconf},
};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// A part of a page that belongs to one secret.
pub(super) type Slot = &'static mut [u8];

/// The memory of every secret of this process.
pub(super) static ARENA: Mutex<Arena> = Mutex::new(Arena::new());

/// The smallest slot. The others are powers of two above it.
const SMALLEST: usize = 64;
/// What is locked at a time, where pages are not larger.
const BLOCK: usize = 16 * 1024;

pub(super) struct Arena {
    /// By size.
    free: BTreeMap<usize, Vec<Slot>>,
    memory: Memory,
}

impl Arena {
    pub(super) const fn new() -> Self {
        Self { free: BTreeMap::new(), memory: Memory { locked: 0, unlocked: 0 } }
    }

    pub(super) fn memory(&self) -> Memory {
        self.memory
    }

    /// A slot of `length` bytes or more, all zero.
    pub(super) fn take(&mut self, length: usize) -> Slot {
        let size = length.max(SMALLEST).next_power_of_two();
        if let Some(slot) = self.free.get_mut(&size).and_then(Vec::pop) {
            return slot;
        }
        // A larger one is cut up only if it is of a shared block: the next large secret wants its own again.
        let larger = self.free.range_mut(size..).find(|(_, slots)| !slots.is_empty());
        let larger =
            larger.filter(|(larger, _)| **larger <= BLOCK.max(page())).and_then(|(_, slots)| slots.pop());
        let mut slot = larger.unwrap_or_else(|| self.grow(size));
        // Halves of halves, so that each remains a power of two.
        while slot.len() > size && slot.len().is_power_of_two() {
            let (first, second) = slot.split_at_mut(slot.len() / 2);
            self.give_back(second);
            slot = first;
        }
        slot
    }

    /// Takes a wiped slot back.
    pub(super) fn give_back(&mut self, slot: Slot) {
        if !slot.is_empty() {
            self.free.entry(slot.len()).or_default().push(slot);
        }
    }

    pub(super) fn give_back_after_taking(&mut self) {
        let slot = self.take(SMALLEST);
        self.give_back(slot);
    }

    /// Fresh pages, as one slot of `size` bytes or of a block if that is more.
    fn grow(&mut self, size: usize) -> Slot {
        let page = page();
        let size = size.max(BLOCK).max(page);
        let memory = vec![0_u8; size.saturating_add(page)].leak();
        let start = memory.as_ptr().align_offset(page).min(page);
        let (_, memory) = memory.split_at_mut(start);
        let (slot, _) = memory.split_at_mut(size);
        match region::lock(slot.as_ptr(), slot.len()) {
            Ok(lock) => {
                // The memory is ours until the process ends, and so is its lock.
                std::mem::forget(lock);
                self.memory.locked += size;
            }
            Err(error) => {
                self.memory.unlocked += size;
                warn(&error);
            }
        }
        slot
    }
}

/// Said once: what to do about it does not change.
fn warn(error: &region::Error) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        tracing::warn!(%error, "memory of secrets is not locked and may be swapped out; raise RLIMIT_MEMLOCK, or run without swap");
    }
}

/// Raises the soft limit of locked memory to the hard one.
pub(super) fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK)
        && soft < hard
    {
        // What is refused is seen when locking.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    }
}

fn page() -> usize {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| usize::try_from(page).ok()).filter(|page| page.is_power_of_two()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_and_again_without_more_memory() {
        let mut arena = Arena::new();
        let slot = arena.take(100);
        arena.give_back(slot);
        let before = arena.memory();
        for length in 0..1000 {
            let slot = arena.take(length % 100);
            assert!(slot.len() >= length % 100 && slot.iter().all(|byte| *byte == 0));
            arena.give_back(slot);
        }
        assert_eq!(arena.memory(), before);
    }

    #[test]
    fn a_thousand_small_secrets_share_few_pages() {
        let mut arena = Arena::new();
        let slots: Vec<Slot> = (0..1000).map(|_| arena.take(50)).collect();
        let Memory { locked, unlocked } = arena.memory();
        assert!(locked + unlocked <= 1000 * 64 + BLOCK.max(page()), "{locked} + {unlocked}");
        let mut starts: Vec<usize> = slots.iter().map(|slot| slot.as_ptr() as usize).collect();
        starts.sort_unstable();
        assert!(starts.windows(2).all(|two| two[1] - two[0] >= 64), "two secrets share bytes");
    }

    #[test]
    fn what_is_locked_says_the_kernel_too() {
        let locked = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
        };
        raise_limit();
        let mut arena = Arena::new();
        let _slot = arena.take(1_000_000);
        assert!(locked() >= arena.memory().locked);
        assert_eq!(arena.memory().locked + arena.memory().unlocked, 1 << 20);
    }
}
