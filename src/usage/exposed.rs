//! What the record says of values that were seen where they must not be, and of where nobody could look. Pure.
//!
//! Holds no value: names, versions and places.

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write as _};

/// Places that are remembered: somebody could make up as many as they like.
const MOST: usize = 1_000;

/// What one event tells of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<'a> {
    /// `environment`, `arguments` or `file`; of a look as a whole `None`.
    pub place: Option<&'a str>,
    /// The program that has it.
    pub exe: Option<&'a str>,
    /// Its process.
    pub pid: Option<u64>,
    /// The variable that has it, or the file.
    pub name: Option<&'a str>,
    /// The argument, or the line, that has it.
    pub number: Option<u64>,
    /// How it is spelled there: `raw`, `base64` and the like.
    pub form: Option<&'a str>,
    /// Of a look as a whole: how many processes were looked at.
    pub processes: u64,
    /// And how many files.
    pub files: u64,
    /// What could not be looked at, and why.
    pub unseen: &'a [String],
}

/// Everything that looks told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exposures {
    /// Values that were seen, by what is the same in each look.
    pub found: BTreeMap<String, Exposed>,
    /// The last look of each agent.
    pub looked: BTreeMap<String, Looked>,
}

/// One value, seen in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// Which secret; `None` where somebody else wrote the event, who knew but a path.
    pub secret: Option<String>,
    /// Its field.
    #[serde(default)]
    pub field: Option<String>,
    /// `kv`, `lease`, `token`, `certificate`.
    #[serde(default)]
    pub kind: Option<String>,
    /// Which version.
    pub version: Option<u64>,
    /// Whose process, or else where in Vault it is.
    pub about: Option<String>,
    /// Where it was seen, in words.
    pub place: String,
    /// Which agent saw it.
    pub source: String,
    /// First.
    pub first: Timestamp,
    /// Last.
    pub last: Timestamp,
}

/// The last look of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// When.
    pub at: Timestamp,
    /// At how many processes.
    pub processes: u64,
    /// At how many files.
    pub files: u64,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

impl Exposures {
    /// Takes what an event tells of a value that was seen.
    pub(super) fn find(&mut self, told: &super::told::Told<'_>, at: Timestamp) {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let place = told.exposure.map_or_else(|| "an event says so".to_owned(), |seen| seen.words());
        let source = told.source.unwrap_or_default();
        let name = told.secret.or(told.path).or(told.workload).unwrap_or("unknown");
        let version = told.version.map_or(String::new(), |version| version.to_string());
        let field = told.field.unwrap_or_default();
        let key = format!("{source} {name} {field} {version} {place}");
        if let Some(known) = self.found.get_mut(&key) {
            (known.first, known.last) = (known.first.min(at), known.last.max(at));
        } else if self.found.len() < MOST {
            let exposed = Exposed {
                secret: text(told.secret),
                field: text(told.field),
                kind: text(told.sort),
                version: told.version,
                about: text(told.workload.or(told.path)),
                place,
                source: source.to_owned(),
                first: at,
                last: at,
            };
            self.found.insert(key, exposed);
        }
    }

    /// Takes what an event tells of a look as a whole.
    pub(super) fn look(&mut self, told: &super::told::Told<'_>, at: Timestamp) {
        let Some(Told { processes, files, unseen, .. }) = told.exposure else { return };
        let source = told.source.unwrap_or_default();
        if self.looked.get(source).is_some_and(|known| known.at > at) {
            return;
        }
        if self.looked.len() < MOST || self.looked.contains_key(source) {
            let looked = Looked { at, processes, files, unseen: unseen.to_vec() };
            self.looked.insert(source.to_owned(), looked);
        }
    }

    /// Says whose it is, where that goes without saying in the agent itself.
    pub(super) fn sign(&mut self, source: &str) {
        if let Some(own) = self.looked.remove("") {
            self.looked.insert(source.to_owned(), own);
        }
        let own: Vec<String> = self.found.keys().filter(|key| key.starts_with(' ')).cloned().collect();
        for key in own {
            if let Some(exposed) = self.found.remove(&key) {
                self.found.insert(format!("{source}{key}"), Exposed { source: source.to_owned(), ..exposed });
            }
        }
    }

    /// Adds what another ledger has.
    pub(super) fn join(&mut self, other: &Self) {
        for (key, exposed) in &other.found {
            match self.found.get_mut(key) {
                Some(known) => {
                    (known.first, known.last) =
                        (known.first.min(exposed.first), known.last.max(exposed.last));
                }
                None => drop(self.found.insert(key.clone(), exposed.clone())),
            }
        }
        for (source, looked) in &other.looked {
            if self.looked.get(source).is_none_or(|known| known.at < looked.at) {
                self.looked.insert(source.clone(), looked.clone());
            }
        }
    }
}

impl Told<'_> {
    /// Where it was seen.
    fn words(&self) -> String {
        let mut words = match self.place {
            Some("file") => format!("the file {}", self.name.unwrap_or("unknown")),
            place => {
                let mut words =
                    format!("the {} of {}", place.unwrap_or("place"), self.exe.unwrap_or("a process"));
                if let Some(pid) = self.pid {
                    let _ = write!(words, " (pid {pid})");
                }
                words
            }
        };
        match (self.place, self.name, self.number) {
            (Some("environment"), Some(name), _) => drop(write!(words, ": variable {name}")),
            (Some("arguments"), _, Some(number)) => drop(write!(words, ": argument {number}")),
            (Some("file"), _, Some(number)) => drop(write!(words, ": line {number}")),
            _ => {}
        }
        if let Some(form) = self.form.filter(|form| *form != "raw") {
            let _ = write!(words, ", as {form}");
        }
        words
    }
}
