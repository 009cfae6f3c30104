//! A list that grows by pages, and an index of numbers by hash. Pure.
//!
//! What doubles its room copies itself, and leaves behind what it was: these leave little.

use std::collections::HashMap;

/// Things of one page.
const PAGE: usize = 128;

/// A list; nothing is taken out of it.
#[derive(Debug)]
pub(super) struct Pages<T>(Vec<Vec<T>>);

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Pages<T> {
    pub(super) fn len(&self) -> usize {
        let last = self.0.last().map_or(0, Vec::len);
        self.0.len().saturating_sub(1).saturating_mul(PAGE).saturating_add(last)
    }

    pub(super) fn push(&mut self, thing: T) {
        match self.0.last_mut().filter(|page| page.len() < PAGE) {
            Some(page) => page.push(thing),
            None => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(thing);
                self.0.push(page);
            }
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at / PAGE)?.get(at % PAGE)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.get_mut(at / PAGE)?.get_mut(at % PAGE)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }
}

/// Numbers by the hash of what they stand for; two of one hash take the next free one.
#[derive(Debug, Default)]
pub(super) struct Index(HashMap<u32, u32>);

impl Index {
    /// The number of that hash of which `is_it` says that it is the one.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut hash = short(hash);
        loop {
            let number = *self.0.get(&hash)?;
            if is_it(number) {
                return Some(number);
            }
            hash = hash.wrapping_add(1);
        }
    }

    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let mut hash = short(hash);
        while self.0.contains_key(&hash) {
            hash = hash.wrapping_add(1);
        }
        self.0.insert(hash, number);
    }
}

fn short(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_pages_is_a_list() {
        let mut pages = Pages::default();
        assert_eq!((pages.len(), pages.get(0)), (0, None));
        (0..300).for_each(|n| pages.push(n));
        assert_eq!(
            (pages.len(), pages.get(0), pages.get(128), pages.get(299), pages.get(300)),
            (300, Some(&0), Some(&128), Some(&299), None)
        );
        pages.iter_mut().for_each(|n| *n += 1);
        *pages.get_mut(5).unwrap() = 0;
        assert_eq!(pages.iter().sum::<i32>(), (1..=300).sum::<i32>() - 6);
    }

    #[test]
    fn two_of_one_hash_are_told_apart() {
        let mut index = Index::default();
        (1..=3).for_each(|number| index.insert(7 << 32, number));
        index.insert(8 << 32, 4);
        for number in 1..=3 {
            assert_eq!(index.find(7 << 32, |found| found == number), Some(number));
        }
        assert_eq!(index.find(8 << 32, |found| found == 4), Some(4));
        assert_eq!((index.find(7 << 32, |_| false), index.find(1 << 32, |_| true)), (None, None));
    }
}
