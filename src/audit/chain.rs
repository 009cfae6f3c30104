//! The numbering of events: one chain for each start of the agent, contiguous numbers, each event naming the hash of
//! the one before.
//!
//! Pure. Does not hash or write: it only remembers where the chain stands.

use crate::crypto::Hash;
use std::fmt;

/// The name of one chain: a ULID, so that names sort by the time of their start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId([u8; ChainId::LEN]);

/// Crockford's base 32: no I, L, O, U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl ChainId {
    /// Characters in a name.
    pub(super) const LEN: usize = 26;

    /// The name of a chain that starts at `millis` since 1970, made unlike all others by `random`.
    pub(super) fn new(millis: u64, random: [u8; 10]) -> Self {
        let mut value = u128::from(millis & ((1 << 48) - 1));
        for byte in random {
            value = value << 8 | u128::from(byte);
        }
        let mut text = [0; Self::LEN];
        for place in text.iter_mut().rev() {
            *place =
                usize::try_from(value & 31).ok().and_then(|digit| DIGITS.get(digit)).copied().unwrap_or(b'0');
            value >>= 5;
        }
        Self(text)
    }

    /// The name that `text` spells.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; Self::LEN] = text.try_into().ok()?;
        (text.iter().all(|c| DIGITS.contains(c)) && text.first().is_some_and(|c| *c <= b'7'))
            .then_some(Self(text))
    }

    /// When the chain started, in milliseconds since 1970.
    pub(super) fn millis(&self) -> u64 {
        let digits = self.0.iter().take(10);
        digits.fold(0, |sum, c| sum << 5 | DIGITS.iter().position(|d| d == c).map_or(0, |digit| digit as u64))
    }

    /// The name as events print it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where one event, or one sink, stands: chains sort by their start, numbers within a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The chain.
    pub(super) chain: ChainId,
    /// The number of the last event; 0 is before the first.
    pub(super) seq: u64,
}

/// The end of a chain: what the next event must continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// The last event's place.
    pub(super) last: Position,
    /// Its hash; zeros before the first.
    pub(super) hash: Hash,
}

impl Chain {
    /// A chain without events.
    pub(super) fn new(chain: ChainId) -> Self {
        Self { last: Position { chain, seq: 0 }, hash: [0; 32] }
    }

    /// The number of the next event.
    pub(super) fn next(&self) -> u64 {
        self.last.seq.saturating_add(1)
    }

    /// The chain with the next event, whose hash is `hash`.
    pub(super) fn with(&self, hash: Hash) -> Self {
        Self { last: Position { seq: self.next(), ..self.last }, hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_id_is_a_ulid() {
        let id = ChainId::new(1_469_918_176_385, [0xff; 10]);
        assert_eq!(id.as_str(), "01ARYZ6S41ZZZZZZZZZZZZZZZZ");
        assert_eq!(id.millis(), 1_469_918_176_385);
        assert_eq!(ChainId::parse(id.as_str().as_bytes()), Some(id));
        for bad in
            ["", "01ARYZ6S41ZZZZZZZZZZZZZZZ", "01aryz6s41zzzzzzzzzzzzzzzz", "81ARYZ6S41ZZZZZZZZZZZZZZZZ"]
        {
            assert_eq!(ChainId::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn chains_sort_by_their_start() {
        assert!(ChainId::new(5, [255; 10]) < ChainId::new(6, [0; 10]));
    }
}
