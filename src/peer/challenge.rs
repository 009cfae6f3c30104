//! The challenge of one connection: a nonce that only somebody who reads the connection after it was asked for can send back.
//!
//! Does not look at the process. An echo proves nothing by itself: it does beside a pin that was made before the nonce and is
//! looked at again after the echo.

use super::Cause;
use crate::crypto;
use std::{
    io,
    sync::{Mutex, PoisonError},
};

/// 128 bits: nobody guesses one.
const LENGTH: usize = 16;

/// The challenge of one connection.
#[derive(Debug, Default)]
pub struct Challenge(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Unasked,
    Asked(String),
    Met(Met),
}

/// When a challenge was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// Nobody has looked since.
    JustNow,
    /// It was looked at before.
    Before,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unasked => "Unasked",
            Self::Asked(_) => "Asked([redacted])",
            Self::Met(_) => "Met",
        })
    }
}

impl Challenge {
    /// A new nonce in hex, which from now on is the only one that counts; a challenge that was met must be met again.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn ask(&self) -> io::Result<String> {
        let nonce = crypto::hex(&crypto::random::<LENGTH>()?);
        self.with(|state| *state = State::Asked(nonce.clone()));
        Ok(nonce)
    }

    /// Takes what the peer sends back. One try for each nonce: after a wrong one another must be asked for.
    pub fn hear(&self, echo: &[u8]) {
        self.with(|state| {
            if let State::Asked(nonce) = state {
                // Whoever is wrong learns nothing from how long that took: the nonce is used up.
                *state = if nonce.as_bytes() == echo { State::Met(Met::JustNow) } else { State::Unasked };
            }
        });
    }

    /// # Errors
    /// [`Cause::Unchallenged`] unless the last nonce was sent back.
    pub(super) fn check(&self) -> Result<Met, Cause> {
        self.with(|state| match state {
            State::Met(met) => Ok(std::mem::replace(met, Met::Before)),
            _ => Err(Cause::Unchallenged),
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_nonce_counts_and_each_only_once() {
        let challenge = Challenge::default();
        let met = || challenge.check().is_ok();
        challenge.hear(b"");
        assert!(!met());
        let first = challenge.ask().unwrap();
        let second = challenge.ask().unwrap();
        assert!(first != second && first.len() == 32 && !met());
        challenge.hear(first.as_bytes());
        challenge.hear(second.as_bytes());
        assert!(!met(), "a wrong echo uses the nonce up");
        let third = challenge.ask().unwrap();
        challenge.hear(third.as_bytes());
        assert_eq!(challenge.check().unwrap(), Met::JustNow);
        assert_eq!(challenge.check().unwrap(), Met::Before);
        challenge.hear(b"what comes later says nothing any more");
        assert!(met());
        challenge.ask().unwrap();
        assert!(!met());
        assert!(!format!("{challenge:?}").contains(&challenge.ask().unwrap()));
    }
}
