//! Secret bytes: in locked memory, wiped when dropped, never printed, never copied by accident.
//!
//! `expose` is the only way to the bytes; `tests/architecture.rs` lists who may call it. What a secret passes through before
//! it is one, and when it is sent on, is ordinary memory.

mod arena;

use arena::{ARENA, Slot};
use std::{fmt, sync::PoisonError};
use zeroize::Zeroize as _;

/// A secret text. Holding one obliges: no log, no error, no `Debug` shows it, and it is not cloned.
///
/// Its bytes are in memory that is locked (mlock(2)): it is never written to a swap device. Where the kernel refuses to lock
/// (`RLIMIT_MEMLOCK`) they are in ordinary memory, and [`memory`] says how many.
pub struct SecretValue {
    slot: Slot,
    length: usize,
}

/// How much memory holds secrets, used or waiting to be used again, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Never written to a swap device.
    pub locked: usize,
    /// The kernel refused to lock it.
    pub unlocked: usize,
}

impl Memory {
    /// Whether every secret is in locked memory.
    #[must_use]
    pub fn is_locked(self) -> bool {
        self.unlocked == 0
    }
}

impl SecretValue {
    /// Takes over `text`; the caller keeps no copy.
    #[must_use]
    pub fn new(mut text: String) -> Self {
        let slot = arena().take(text.len());
        let length = text.len();
        if let Some(part) = slot.get_mut(..length) {
            part.copy_from_slice(text.as_bytes());
        }
        text.zeroize();
        Self { slot, length }
    }

    /// The text itself, for the few places that must send it on.
    #[must_use]
    pub fn expose(&self) -> &str {
        // They were a text when they came in.
        self.slot.get(..self.length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        if let Some(part) = self.slot.get_mut(..self.length) {
            part.zeroize();
        }
        arena().give_back(std::mem::take(&mut self.slot));
    }
}

impl PartialEq for SecretValue {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for SecretValue {}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Sets the first memory for secrets aside, and says whether it is locked. Raises the limit of locked memory as far as the
/// kernel lets us. To be called once, before the first secret; without it the first secret does the same.
pub fn prepare() -> Memory {
    arena::raise_limit();
    arena().give_back_after_taking();
    memory()
}

/// How much memory holds secrets.
#[must_use]
pub fn memory() -> Memory {
    arena().memory()
}

fn arena() -> std::sync::MutexGuard<'static, arena::Arena> {
    // Whoever panicked while holding it left slots behind at worst.
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_text() {
        assert_eq!(format!("{:?}", SecretValue::new("hunter2".into())), "[redacted]");
    }

    #[test]
    fn a_secret_of_any_size_is_given_back_as_it_came() {
        for length in [0, 1, 63, 64, 65, 4096, 16 * 1024, 16 * 1024 + 1, 200_000] {
            let text = "ä".repeat(length);
            let secret = SecretValue::new(text.clone());
            assert_eq!((secret.expose(), secret.is_empty()), (text.as_str(), length == 0));
        }
    }

    #[test]
    fn secrets_are_equal_by_their_text() {
        let secret = |text: &str| SecretValue::new(text.to_owned());
        assert_eq!(secret("a"), secret("a"));
        assert_ne!(secret("a"), secret("ab"));
    }
}
