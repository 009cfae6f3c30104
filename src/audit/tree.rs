//! The Merkle tree over a chain's events, kept as it grows: its root says in 32 bytes what all events were.
//!
//! Pure. RFC 6962 section 2.1, so that transparency logs' own tools (C2SP tlog-tiles) can be fed from it. Gives no proofs.

use crate::crypto::{Hash, sha256, sha256_of};

/// A tree of any size, as the roots of its full subtrees: at most 64 of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// Largest first: one for each bit of `size`.
    peaks: Vec<Hash>,
}

impl Tree {
    /// A tree without events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Events in it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next event by its bytes.
    pub fn push(&mut self, event: &[u8]) {
        self.push_leaf(leaf(event));
    }

    /// Adds the next event by its [`leaf`].
    pub fn push_leaf(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            node = parent(&left, &node);
        }
        self.peaks.push(node);
        self.size = self.size.saturating_add(1);
    }

    /// The root over everything in it.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => sha256(b""),
            Some(last) => peaks.fold(*last, |right, left| parent(left, &right)),
        }
    }
}

/// The hash of one event as the tree keeps it, unlike that of any node.
#[must_use]
pub fn leaf(event: &[u8]) -> Hash {
    sha256_of(&[&[0], event])
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    sha256_of(&[&[1], left, right])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;
    use proptest::prelude::{any, prop, proptest};

    /// The definition of RFC 6962 section 2.1, word for word.
    fn by_definition(events: &[Vec<u8>]) -> Hash {
        match events {
            [] => sha256(b""),
            [one] => sha256(&[&[0], &one[..]].concat()),
            many => {
                let half = many.len().next_power_of_two() / 2;
                let (left, right) = (by_definition(&many[..half]), by_definition(&many[half..]));
                sha256(&[&[1], &left[..], &right[..]].concat())
            }
        }
    }

    #[test]
    fn an_empty_tree_has_the_hash_of_nothing() {
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(&Tree::new().root()), expected);
    }

    proptest! {
        #[test]
        fn a_growing_tree_has_at_every_size_the_root_that_rfc_6962_defines(
            events in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..70),
        ) {
            let mut tree = Tree::new();
            for (size, event) in events.iter().enumerate() {
                assert_eq!((tree.size(), tree.root()), (size as u64, by_definition(&events[..size])));
                tree.push(event);
            }
            assert_eq!(tree.root(), by_definition(&events));
        }
    }
}
