//! Walks the tree key by key and collects everything that is wrong on the way: types, units, ranges, unknown keys.
//!
//! Pure. Every `None` of a reading function stands for a problem that was written down, so a caller only passes it on.

mod leaf;

pub(in crate::config) use leaf::Leaf;

use super::{
    file::{Entry, Node, Raw},
    problem::{Problem, nearest, quote, segment},
};
use std::{cell::RefCell, collections::BTreeSet};

/// What was found so far.
#[derive(Debug, Default)]
pub(in crate::config) struct Findings {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Findings {
    /// Problems and warnings, each in the order of the file.
    pub(in crate::config) fn into_lists(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |list: RefCell<Vec<Problem>>| {
            let mut list = list.into_inner();
            list.sort_by_key(|problem| problem.line);
            list
        };
        (sorted(self.problems), sorted(self.warnings))
    }

    /// The one of `known` that `text` was probably meant to be. After a hundred problems there is no more advice: comparing
    /// every name of a large file with every other would stop the one thread for long.
    fn advice<'w>(&self, text: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
        if self.problems.borrow().len() < 100 { nearest(text, known) } else { None }
    }

    fn add(list: &RefCell<Vec<Problem>>, place: &Place, found: String, would_be_right: &str) {
        let (path, line) = (place.path.clone(), Some(place.line));
        list.borrow_mut().push(Problem { path, line, found, would_be_right: would_be_right.to_owned() });
    }
}

/// A place in the file.
#[derive(Debug, Clone)]
struct Place {
    path: String,
    line: u32,
}

impl Place {
    fn under(&self, key: &str, line: u32) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{}{dot}{}", self.path, segment(key)), line }
    }
}

/// The names that one section of the config gives, and which of them were used.
#[derive(Debug)]
pub(in crate::config) struct Table<'a> {
    what: &'static str,
    // None: the section is no map, which is a problem of its own; then any name may be meant.
    names: Option<BTreeSet<&'a str>>,
    used: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Table<'a> {
    /// The keys of `section` under `root`, whatever else is wrong with them; each is called a `what`.
    pub(in crate::config) fn of(root: &'a Node, section: &str, what: &'static str) -> Self {
        let names = match under(root, section).map(|node| &node.raw) {
            Some(Raw::Map(entries)) => Some(entries.iter().map(|entry| entry.key.as_str()).collect()),
            Some(_) => None,
            None => Some(BTreeSet::new()),
        };
        Self { what, names, used: RefCell::default() }
    }

    /// Takes `name` as referred to, though nothing spells it.
    pub(in crate::config) fn uses(&self, name: &'a str) {
        self.used.borrow_mut().insert(name);
    }

    /// Whether a reference to `name` was read.
    pub(in crate::config) fn is_used(&self, name: &str) -> bool {
        self.used.borrow().contains(name)
    }
}

/// What stands under `key` of `node`, if it is a map that has the key.
pub(in crate::config) fn under<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match &node.raw {
        Raw::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
        _ => None,
    }
}

/// A map of known keys. [`Map::finish`] reports the keys that nobody asked for.
#[derive(Debug)]
pub(in crate::config) struct Map<'a> {
    leaf: Leaf<'a>,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
}

impl<'a> Map<'a> {
    /// The map as a value, to write problems down at its place.
    pub(in crate::config) fn leaf(&self) -> &Leaf<'a> {
        &self.leaf
    }

    /// What stands under `key`, if it is there.
    pub(in crate::config) fn find(&mut self, key: &'static str) -> Option<Leaf<'a>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.leaf.entry(entry))
    }

    /// What stands under `key`, which must be there; `example` shows how it would look.
    pub(in crate::config) fn need<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Leaf<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.find(key) {
            Some(leaf) => read(&leaf),
            None => {
                let place = self.leaf.place.under(key, self.leaf.place.line);
                let right = format!("write {key}: {example}");
                Findings::add(&self.leaf.findings.problems, &place, "missing".to_owned(), &right);
                None
            }
        }
    }

    /// What stands under `key`, else `default`.
    pub(in crate::config) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Leaf<'a>) -> Option<T>,
    ) -> Option<T> {
        self.find(key).map_or(Some(default), |leaf| read(&leaf))
    }

    /// What stands under `key`, if anything; the outer `None` means that it is faulty.
    pub(in crate::config) fn given<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Leaf<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.find(key).map_or(Some(None), |leaf| read(&leaf).map(Some))
    }

    /// Every key with its value, known or not.
    pub(in crate::config) fn children(&self) -> impl Iterator<Item = (&'a str, Leaf<'a>)> + '_ {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.leaf.entry(entry)))
    }

    /// Reports the keys that nobody asked for.
    pub(in crate::config) fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            let right = match self.leaf.findings.advice(&entry.key, self.asked.iter().copied()) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known here: {}", self.asked.join(", ")),
            };
            self.leaf.entry(entry).problem(format!("unknown key {}", quote(&entry.key)), &right);
        }
    }
}
