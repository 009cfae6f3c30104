//! One value of the file: read as what it should be, or written down as a problem.
//!
//! Pure. Repeats a value only where names, words, numbers and units belong.

use super::{Findings, Map, Place, Table};
use crate::{
    config::{
        file::{Entry, Node, Raw},
        problem::quote,
        unit,
    },
    name::NotAName,
};
use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

/// One value of the file with its place.
#[derive(Debug, Clone)]
pub(in crate::config) struct Leaf<'a> {
    pub(super) place: Place,
    pub(super) raw: &'a Raw,
    pub(super) findings: &'a Findings,
}

impl<'a> Leaf<'a> {
    /// The whole document.
    pub(in crate::config) fn root(node: &'a Node, findings: &'a Findings) -> Self {
        Self { place: Place { path: String::new(), line: node.line }, raw: &node.raw, findings }
    }

    /// Writes down that this value is wrong.
    pub(in crate::config) fn problem(&self, found: impl Into<String>, would_be_right: &str) {
        Findings::add(&self.findings.problems, &self.place, found.into(), would_be_right);
    }

    /// Writes down that a person should look at this value.
    pub(in crate::config) fn warn(&self, found: impl Into<String>, would_be_right: &str) {
        Findings::add(&self.findings.warnings, &self.place, found.into(), would_be_right);
    }

    /// Its line.
    pub(in crate::config) fn line(&self) -> u32 {
        self.place.line
    }

    /// Writes down that the value is of a wrong type. Numbers and flags are named by their kind, since a text key may hold
    /// anything.
    fn wrong(&self, would_be_right: &str) {
        let found = match self.raw {
            Raw::Nothing => "nothing",
            Raw::Flag(_) => "true or false",
            Raw::Whole(_) | Raw::Fraction(_) => "a number",
            Raw::Text(_) => "a text",
            Raw::List(_) => "a list",
            Raw::Map(_) => "a map",
        };
        self.problem(format!("{found} stands here"), would_be_right);
    }

    /// The text that stands here, if it is one; nothing is said of anything else.
    pub(in crate::config) fn peek(&self) -> Option<&'a str> {
        match self.raw {
            Raw::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A text with something in it and no control characters; never repeated in a problem.
    pub(in crate::config) fn text(&self) -> Option<String> {
        match self.raw {
            Raw::Text(text) if text.is_empty() => {
                self.problem("an empty text", "write something, or remove the key")
            }
            Raw::Text(text) if text.chars().any(char::is_control) => {
                self.problem("a text with line breaks or control characters", "write it on one line");
            }
            Raw::Text(text) => return Some(text.clone()),
            Raw::Whole(_) | Raw::Fraction(_) | Raw::Flag(_) => self.wrong("write a text: put it in quotes"),
            _ => self.wrong("write a text"),
        }
        None
    }

    /// One of a closed set of words.
    pub(in crate::config) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let list = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let Raw::Text(text) = self.raw else {
            self.wrong(&format!("write one of {}", list()));
            return None;
        };
        let found = words.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let right = match self.findings.advice(text, words.iter().map(|(word, _)| *word)) {
                Some(word) => format!("did you mean {word}? It is one of {}", list()),
                None => format!("write one of {}", list()),
            };
            self.problem(format!("{} is not known here", quote(text)), &right);
        }
        found
    }

    /// A name of our own alphabet.
    pub(in crate::config) fn name<N>(&self, make: fn(&str) -> Result<N, NotAName>) -> Option<N> {
        const RIGHT: &str = "names are 1 to 63 of a-z, 0-9 and -";
        let Raw::Text(text) = self.raw else {
            self.wrong(match self.raw {
                Raw::Whole(_) | Raw::Flag(_) => "write a name: put it in quotes",
                _ => RIGHT,
            });
            return None;
        };
        let name = make(text).ok();
        if name.is_none() {
            self.problem(format!("{} is not a name", quote(text)), RIGHT);
        }
        name
    }

    /// A name that another section gives; it counts as used.
    pub(in crate::config) fn refers<N>(
        &self,
        table: &Table<'_>,
        make: fn(&str) -> Result<N, NotAName>,
    ) -> Option<N> {
        let name = self.name(make)?;
        let (Raw::Text(text), Some(names)) = (self.raw, &table.names) else { return Some(name) };
        if let Some(known) = names.get(text.as_str()) {
            table.used.borrow_mut().insert(known);
            return Some(name);
        }
        let what = table.what;
        let right = match self.findings.advice(text, names.iter().copied()) {
            Some(known) => format!("did you mean {}?", quote(known)),
            None => format!("write the name of one of {}", section_of(what)),
        };
        self.problem(format!("there is no {what} {}", quote(text)), &right);
        None
    }

    /// A duration within `range`.
    pub(in crate::config) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        const RIGHT: &str = "write a number and a unit (ms, s, m, h, d), as in 10s, 5m or 1h30m";
        let duration = match self.raw {
            Raw::Whole(number) => {
                self.problem(
                    format!("{number} has no unit"),
                    &format!("write {number}s if seconds are meant"),
                );
                return None;
            }
            Raw::Text(text) => unit::duration(text).or_else(|| {
                self.problem(format!("{} is not a duration", quote(text)), RIGHT);
                None
            })?,
            _ => {
                self.wrong(RIGHT);
                return None;
            }
        };
        self.within(duration, range, unit::spell_duration)
    }

    /// A size in bytes within `range`.
    pub(in crate::config) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        const RIGHT: &str = "write a whole number and a unit (B, KiB, MiB, GiB), as in 64KiB";
        let size = match self.raw {
            Raw::Whole(number) => {
                self.problem(format!("{number} has no unit"), &format!("write {number}B if bytes are meant"));
                return None;
            }
            Raw::Text(text) => unit::size(text).or_else(|| {
                self.problem(format!("{} is not a size", quote(text)), RIGHT);
                None
            })?,
            _ => {
                self.wrong(RIGHT);
                return None;
            }
        };
        self.within(size, range, unit::spell_size)
    }

    /// A whole number within `range`.
    pub(in crate::config) fn whole<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<u64> + Into<u64> + Copy,
    {
        let number = match self.raw {
            Raw::Whole(number) => *number,
            // Helm prints whole numbers from a million on as 1.00065e+09.
            Raw::Fraction(number) if number.fract() == 0.0 && (1e6..9e15).contains(number) => *number as i128,
            Raw::Text(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                self.problem(
                    format!("{} is a text", quote(text)),
                    "write the number without quotes and leading zeros",
                );
                return None;
            }
            _ => {
                self.wrong("write a whole number");
                return None;
            }
        };
        let (least, most) = ((*range.start()).into(), (*range.end()).into());
        let fits = u64::try_from(number).ok().filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            self.problem(format!("{number} is out of range"), &format!("write {least} to {most}"));
        }
        fits.and_then(|number| T::try_from(number).ok())
    }

    /// A share of something, within `range`.
    pub(in crate::config) fn share(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.raw {
            Raw::Fraction(number) => *number,
            Raw::Whole(number) => *number as f64,
            _ => {
                self.wrong("write a number, as in 0.66");
                return None;
            }
        };
        self.within(number, range, |number| number.to_string())
    }

    fn within<T: PartialOrd + Copy>(
        &self,
        value: T,
        range: RangeInclusive<T>,
        spell: fn(T) -> String,
    ) -> Option<T> {
        if range.contains(&value) {
            return Some(value);
        }
        let right = format!("write {} to {}", spell(*range.start()), spell(*range.end()));
        self.problem(format!("{} is out of range", spell(value)), &right);
        None
    }

    /// `true` or `false`.
    pub(in crate::config) fn flag(&self) -> Option<bool> {
        match self.raw {
            Raw::Flag(flag) => Some(*flag),
            Raw::Text(text) => {
                self.problem(format!("{} is a text", quote(text)), "write true or false, without quotes");
                None
            }
            _ => {
                self.wrong("write true or false");
                None
            }
        }
    }

    /// An absolute path without `.` and `..`, which does not end in a slash.
    pub(in crate::config) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if !text.starts_with('/') {
            self.problem("a path that is not absolute", "write it from / on");
        } else if text.ends_with('/') {
            self.problem("a path that ends in a slash", "leave the slash out");
        } else if text.split('/').any(|part| part == "." || part == "..") {
            self.problem("a path with `.` or `..` in it", "write where it really is");
        } else {
            return Some(PathBuf::from(text));
        }
        None
    }

    /// The members of a list.
    pub(in crate::config) fn list(&self) -> Option<Vec<Self>> {
        let Raw::List(nodes) = self.raw else {
            self.wrong("write a list: [a, b]");
            return None;
        };
        Some(nodes.iter().enumerate().map(|(n, node)| self.member(n, node)).collect())
    }

    /// The members of a list, or the one value that stands in its place.
    pub(in crate::config) fn one_or_many(&self) -> Option<Vec<Self>> {
        if matches!(self.raw, Raw::List(_)) { self.list() } else { Some(vec![self.clone()]) }
    }

    /// Every member read by `read`; `None` when one of them is faulty.
    pub(in crate::config) fn each<T>(&self, read: impl Fn(&Self) -> Option<T>) -> Option<Vec<T>> {
        // Collected in two steps, so that a faulty member does not hide the ones after it.
        let read: Vec<Option<T>> = self.list()?.iter().map(read).collect();
        read.into_iter().collect()
    }

    fn member(&self, n: usize, node: &'a Node) -> Self {
        let place = Place { path: format!("{}[{n}]", self.place.path), line: node.line };
        Self { place, raw: &node.raw, findings: self.findings }
    }

    /// A map of known keys.
    pub(in crate::config) fn map(&self) -> Option<Map<'a>> {
        let Raw::Map(entries) = self.raw else {
            self.wrong("write keys and values here");
            return None;
        };
        Some(Map { leaf: self.clone(), entries, asked: Vec::new() })
    }

    /// A map whose keys are names; a key that is none is a problem, and left out.
    pub(in crate::config) fn named<N>(
        &self,
        make: fn(&str) -> Result<N, NotAName>,
    ) -> Option<Vec<(N, Self)>> {
        let Raw::Map(entries) = self.raw else {
            self.wrong("write names here, each with its settings");
            return None;
        };
        let mut found = Vec::new();
        for entry in entries {
            let leaf = self.entry(entry);
            match make(&entry.key) {
                Ok(name) => found.push((name, leaf)),
                Err(NotAName) => leaf.problem(
                    format!("the key {} is not a name", quote(&entry.key)),
                    "names are 1 to 63 of a-z, 0-9 and -",
                ),
            }
        }
        Some(found)
    }

    /// Whether keys and values stand here.
    pub(in crate::config) fn is_map(&self) -> bool {
        matches!(self.raw, Raw::Map(_))
    }

    /// Any value as JSON, for the parameters of a call to Vault.
    pub(in crate::config) fn json(&self) -> Option<serde_json::Value> {
        use serde_json::{Map, Number, Value};
        Some(match self.raw {
            Raw::Nothing => Value::Null,
            Raw::Flag(flag) => Value::Bool(*flag),
            Raw::Whole(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => Value::Number(number.into()),
                (_, Ok(number)) => Value::Number(number.into()),
                _ => {
                    self.problem("a number of more than 64 bits", "put it in quotes");
                    return None;
                }
            },
            Raw::Fraction(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Raw::Text(text) => Value::String(text.clone()),
            Raw::List(_) => Value::Array(self.each(Self::json)?),
            Raw::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| Some((entry.key.clone(), self.entry(entry).json()?)))
                    .collect::<Option<Map<String, Value>>>()?,
            ),
        })
    }

    pub(super) fn entry(&self, entry: &'a Entry) -> Self {
        Self {
            place: self.place.under(&entry.key, entry.line),
            raw: &entry.node.raw,
            findings: self.findings,
        }
    }
}

fn section_of(what: &str) -> &'static str {
    match what {
        "identity" => "identities",
        "secret" => "secrets",
        "upstream" => "upstreams",
        _ => "approvals",
    }
}
