//! What whoever watches a secret is told of it: from what is seen of its shelf, and from what was told before, to the next notice.
//!
//! Does not hand out values. What was told is a text that the watcher gives back, so nothing is kept for one that is away.

use super::{Held, Holding, Keeper, Shelf, soon::Soon, value::Value};
use crate::{clock::Timestamp, crypto, name::SecretName, peer::process::Process};
use std::{
    fmt::Write as _,
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// The share of its grace after which an old value is said to end soon.
const ENDING: f64 = 0.8;

/// One thing to be told.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Which secret.
    pub name: SecretName,
    /// What happened to it.
    pub what: What,
    /// Of which generation this is said: the one that is new, ends or has ended.
    pub generation: u64,
    /// Until when that one may be used, where it has an end.
    pub valid_until: Option<Timestamp>,
    /// When it is to have a new value, of what is told ahead of that.
    pub at: Option<Timestamp>,
    /// The value that is current now, for the record; `None`: there is none.
    pub current: Option<Arc<Value>>,
}

/// What happened to a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// It has a new value.
    Promoted,
    /// The value before it can be used for a fifth of its grace only.
    GraceEnding,
    /// A value is no longer handed out.
    Revoked,
    /// It will have a new value soon.
    PendingSoon,
}

impl What {
    /// The word of the stream.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::GraceEnding => "grace_ending",
            Self::Revoked => "revoked",
            Self::PendingSoon => "pending_soon",
        }
    }
}

/// A value, by the number in its tag and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    tag: u64,
    generation: u64,
}

/// Whether it was said that a value ends soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Valid,
    Ending,
}

/// What was told of one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Told {
    current: Option<Mark>,
    previous: Option<(u64, Stage)>,
    /// When it will be another one, as was told last.
    soon: Option<i64>,
}

/// What is seen of one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    current: Option<Mark>,
    previous: Option<(u64, Stage)>,
    soon: Option<i64>,
}

impl Told {
    /// What is to be told next, and is told from then on.
    fn next(&mut self, seen: Seen) -> Option<(What, u64)> {
        let is_seen = |generation| {
            seen.current.is_some_and(|mark| mark.generation == generation)
                || seen.previous.is_some_and(|(previous, _)| previous == generation)
        };
        if let Some((generation, _)) = self.previous.take_if(|(generation, _)| !is_seen(*generation)) {
            return Some((What::Revoked, generation));
        }
        match (self.current, seen.current) {
            (Some(told), None) => {
                self.current = None;
                return Some((What::Revoked, told.generation));
            }
            (told, Some(mark)) if told != Some(mark) => {
                let before = told.map(|told| (told.generation, Stage::Valid));
                let before = before.or(seen.previous.map(|(generation, _)| (generation, Stage::Valid)));
                self.current = Some(mark);
                self.previous = before.filter(|(generation, _)| *generation != mark.generation);
                return Some((What::Promoted, mark.generation));
            }
            _ => {}
        }
        match (self.previous, seen.previous) {
            (Some((told, Stage::Valid)), Some((generation, Stage::Ending))) if told == generation => {
                self.previous = seen.previous;
                Some((What::GraceEnding, generation))
            }
            _ => self.foretold(seen),
        }
    }

    fn foretold(&mut self, seen: Seen) -> Option<(What, u64)> {
        let (told, current) = (std::mem::replace(&mut self.soon, seen.soon), self.current?);
        (seen.soon.is_some() && seen.soon != told).then_some((What::PendingSoon, current.generation))
    }

    fn write(&self, out: &mut String) {
        // Writing to a text cannot fail.
        let _ = match self.current {
            Some(Mark { tag, generation }) => write!(out, ".{tag:x}-{generation:x}"),
            None => write!(out, ".0"),
        };
        if let Some((generation, stage)) = self.previous {
            let _ = write!(out, "-{generation:x}{}", if stage == Stage::Valid { "v" } else { "x" });
        }
        if let Some(soon) = self.soon {
            let _ = write!(out, "+{soon:x}");
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (text, soon) = match text.split_once('+') {
            Some((text, soon)) => (text, Some(i64::from_str_radix(soon, 16).ok()?)),
            None => (text, None),
        };
        let mut parts = text.split('-');
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let tag = number(parts.next()?)?;
        let mut told = Self { soon, ..Self::default() };
        if tag > 0 {
            told.current = Some(Mark { tag, generation: number(parts.next()?)? });
        }
        if let Some(previous) = parts.next() {
            let (generation, stage) = match previous.strip_suffix('v') {
                Some(generation) => (generation, Stage::Valid),
                None => (previous.strip_suffix('x')?, Stage::Ending),
            };
            told.previous = Some((number(generation)?, stage));
        }
        parts.next().is_none().then_some(told)
    }
}

/// Looks at some secrets for one watcher.
#[derive(Debug)]
pub struct Eye {
    keeper: Keeper,
    process: Option<Process>,
    replaced: watch::Receiver<u64>,
    looks: Vec<Look>,
    /// The first part of the tags of this start, as soon as a value is seen.
    boot: Option<String>,
}

#[derive(Debug)]
struct Look {
    name: SecretName,
    shelf: Option<watch::Receiver<Shelf>>,
    soon: Option<(Soon, watch::Receiver<()>)>,
    told: Told,
}

impl Eye {
    /// Looks at `names` for `process`, from where the watcher stopped as `since` says. Without it, and where another start or a
    /// watcher of other names made it, what is there now is told first.
    #[must_use]
    pub fn new(
        keeper: &Keeper,
        names: Vec<SecretName>,
        process: Option<&Process>,
        since: Option<&str>,
    ) -> Self {
        let look = |name| Look { name, shelf: None, soon: None, told: Told::default() };
        let mut eye = Self {
            keeper: keeper.clone(),
            process: process.cloned(),
            replaced: keeper.replaced.subscribe(),
            looks: names.into_iter().map(look).collect(),
            boot: None,
        };
        eye.find();
        if let Some(told) = since.and_then(|since| eye.read(since)) {
            eye.looks.iter_mut().zip(told).for_each(|(look, told)| look.told = told);
        }
        eye
    }

    /// The next thing to be told; `None`: nothing before [`Self::changed`].
    pub fn notice(&mut self) -> Option<Notice> {
        let now = Instant::now();
        let mut boot = None;
        let found = self.looks.iter_mut().find_map(|look| {
            let shelf = look.shelf.as_mut()?.borrow_and_update().clone();
            boot = boot.take().or_else(|| shelf.current.as_ref().map(|held| boot_of(&held.value)));
            let soon = look.soon.as_mut().and_then(|(soon, changes)| {
                changes.mark_unchanged();
                soon.at()
            });
            let (what, generation) = look.told.next(Seen { soon, ..seen(&shelf, now) })?;
            let of = |held: &Option<Held>| {
                held.as_ref().filter(|held| held.value.generation() == generation)?.expires_at
            };
            Some(Notice {
                name: look.name.clone(),
                what,
                generation,
                valid_until: if what == What::Revoked {
                    None
                } else {
                    of(&shelf.current).or_else(|| of(&shelf.previous))
                },
                at: soon.filter(|_| what == What::PendingSoon).and_then(|at| Timestamp::from_second(at).ok()),
                current: shelf.current.map(|held| held.value),
            })
        });
        self.boot = boot.or(self.boot.take());
        found
    }

    /// What was told so far, as a text for [`Self::new`]: opaque, visible ASCII.
    #[must_use]
    pub fn told(&self) -> String {
        let mut text = format!("{}.{}", self.boot.as_deref().unwrap_or("0"), self.names());
        self.looks.iter().for_each(|look| look.told.write(&mut text));
        text
    }

    /// Waits until there may be something to tell.
    pub async fn changed(&mut self) {
        let now = Instant::now();
        let next = self.looks.iter().filter_map(|look| turn(&look.shelf.as_ref()?.borrow(), now)).min();
        let replaced = self.replaced.changed();
        let mut shelves: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
        let looks = self.looks.iter_mut();
        for (shelf, soon) in looks.filter_map(|look| Some((look.shelf.as_mut()?, look.soon.as_mut()))) {
            if let Some((_, changes)) = soon {
                shelves.push(Box::pin(async move {
                    if changes.changed().await.is_err() {
                        pending::<()>().await;
                    }
                }));
            }
            shelves.push(Box::pin(async move {
                if shelf.changed().await.is_err() {
                    // Its task has ended; another one's shelf comes with the next holdings.
                    pending::<()>().await;
                }
            }));
        }
        let any = poll_fn(|context| {
            let any = shelves.iter_mut().any(|shelf| shelf.as_mut().poll(context).is_ready());
            if any { Poll::Ready(()) } else { Poll::Pending }
        });
        let again = tokio::select! {
            biased;
            () = any => false,
            // The keeper's last clone is ours: it never ends.
            _ = replaced => true,
            () = async { match next { Some(at) => sleep_until(at).await, None => pending().await } } => false,
        };
        drop(shelves);
        if again {
            self.find();
        }
    }

    /// Looks for shelves that there were not: a token of a process's own is made when it asks.
    pub fn find(&mut self) {
        let holdings = self.keeper.holdings.load();
        for look in &mut self.looks {
            look.soon = match holdings.get(&look.name) {
                Some(Holding::Shared(slot)) => Some((slot.soon(), slot.soon().changes())),
                _ => None,
            };
            look.shelf = match holdings.get(&look.name) {
                Some(Holding::Shared(slot)) => Some(slot.shelf()),
                Some(Holding::Own(own)) => {
                    self.process.as_ref().and_then(|it| own.of(it)).map(|slot| slot.shelf())
                }
                None => None,
            };
        }
    }

    fn names(&self) -> String {
        let names: String = self.looks.iter().flat_map(|look| [look.name.as_str(), ","]).collect();
        crypto::sha256(names.as_bytes())
            .first_chunk::<4>()
            .map(|bytes| crypto::hex(bytes))
            .unwrap_or_default()
    }

    fn read(&self, since: &str) -> Option<Vec<Told>> {
        let mut parts = since.split('.');
        let (boot, names) = (parts.next()?, parts.next()?);
        let is_ours = |look: &Look| {
            look.shelf.as_ref().is_some_and(|shelf| {
                shelf.borrow().current.as_ref().is_some_and(|held| boot_of(&held.value) == boot)
            })
        };
        if names != self.names() || !self.looks.iter().any(is_ours) {
            return None;
        }
        let told: Vec<Told> = parts.map(Told::read).collect::<Option<_>>()?;
        (told.len() == self.looks.len()).then_some(told)
    }
}

fn boot_of(value: &Value) -> String {
    value.tag().rsplit_once('-').map_or_else(String::new, |(boot, _)| boot.to_owned())
}

fn seen(shelf: &Shelf, now: Instant) -> Seen {
    let mark = |held: &Held| {
        let tag = held.value.tag().rsplit_once('-').and_then(|(_, number)| number.parse().ok())?;
        Some(Mark { tag, generation: held.value.generation() })
    };
    let valid = |held: &&Held| held.serve_until.is_none_or(|end| now < end);
    let previous = shelf.previous.as_ref().filter(valid).map(|held| {
        let is_ending = ending(shelf).is_some_and(|at| at <= now);
        (held.value.generation(), if is_ending { Stage::Ending } else { Stage::Valid })
    });
    Seen { current: shelf.current.as_ref().and_then(mark), previous, soon: None }
}

/// When the previous value has a fifth of its grace left.
fn ending(shelf: &Shelf) -> Option<Instant> {
    let (current, previous) = (shelf.current.as_ref()?, shelf.previous.as_ref()?);
    let whole = previous.expires_at?.duration_since(current.value.issued_at());
    let left = Duration::try_from(whole).unwrap_or_default().mul_f64(1.0 - ENDING);
    previous.serve_until?.checked_sub(left)
}

/// When what is seen of a shelf changes next by time alone.
fn turn(shelf: &Shelf, now: Instant) -> Option<Instant> {
    let end = shelf.previous.as_ref().and_then(|held| held.serve_until);
    ending(shelf).into_iter().chain(end).filter(|at| *at > now).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u64) -> Option<Mark> {
        Some(Mark { tag: number + 40, generation: number })
    }

    fn shows(current: u64, previous: Option<(u64, Stage)>) -> Seen {
        Seen { current: mark(current).filter(|_| current > 0), previous, soon: None }
    }

    /// What is told of these looks, one after the other; what was told goes through its text each time.
    fn check(looks: &[Seen], expected: &[(What, u64)]) {
        let mut told = Told::default();
        let mut found = Vec::new();
        for seen in looks {
            while let Some(next) = told.next(*seen) {
                found.push(next);
                let mut text = String::new();
                told.write(&mut text);
                assert_eq!(Told::read(&text[1..]), Some(told), "{text}");
            }
        }
        assert_eq!(found, expected, "{looks:?}");
    }

    #[test]
    fn each_change_is_told_once_and_in_order() {
        use Stage::{Ending, Valid};
        use What::{GraceEnding, Promoted, Revoked};
        check(&[shows(0, None)], &[]);
        check(&[shows(1, None), shows(1, None)], &[(Promoted, 1)]);
        let grace = [shows(1, None), shows(2, Some((1, Valid))), shows(2, Some((1, Ending))), shows(2, None)];
        check(&grace, &[(Promoted, 1), (Promoted, 2), (GraceEnding, 1), (Revoked, 1)]);
        // Without a grace the old one ends at once.
        check(&[shows(1, None), shows(2, None)], &[(Promoted, 1), (Promoted, 2), (Revoked, 1)]);
        // A second change within the grace of the first.
        let twice = [shows(1, None), shows(2, Some((1, Valid))), shows(3, Some((2, Valid))), shows(3, None)];
        check(&twice, &[(Promoted, 1), (Promoted, 2), (Revoked, 1), (Promoted, 3), (Revoked, 2)]);
        check(&[shows(1, None), shows(0, None)], &[(Promoted, 1), (Revoked, 1)]);
        // Who comes in the middle of a grace is told of its end too.
        check(
            &[shows(2, Some((1, Ending))), shows(2, None)],
            &[(Promoted, 2), (GraceEnding, 1), (Revoked, 1)],
        );
    }

    #[test]
    fn what_comes_soon_is_told_once_for_each_time_and_not_without_a_value() {
        use What::{PendingSoon, Promoted};
        let soon = |current, soon| Seen { soon, ..shows(current, None) };
        check(&[soon(0, Some(60))], &[]);
        let once = [soon(1, Some(60)), soon(1, Some(60)), soon(1, None), soon(2, None)];
        check(&once[..3], &[(Promoted, 1), (PendingSoon, 1)]);
        check(&[soon(1, Some(60)), soon(1, Some(90))], &[(Promoted, 1), (PendingSoon, 1), (PendingSoon, 1)]);
    }

    #[test]
    fn a_watcher_that_was_away_is_told_what_it_missed() {
        let mut told = Told::read("29-1").unwrap();
        let seen = shows(3, Some((2, Stage::Valid)));
        let missed: Vec<_> = std::iter::from_fn(|| told.next(seen)).collect();
        assert_eq!(missed, [(What::Promoted, 3), (What::Revoked, 1)]);
        for text in ["", "x", "1", "1-2-3", "1-2-3v-4", "0-"] {
            assert_eq!(Told::read(text), None, "{text}");
        }
    }
}
