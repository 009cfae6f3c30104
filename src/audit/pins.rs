//! How far the required sinks have come, which is what may leave the journal, and what dead letters take of its room.
//!
//! Does not delete anything: the journal does, and asks here first.

use super::{
    chain::Position,
    journal::Name,
    queue::lock,
    sink::{self, cursor::Cursor},
};
use crate::name::SinkName;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Shared by the journal and all sinks.
pub(super) struct Pins {
    dir: PathBuf,
    /// Each required sink, and the last event that is known on its own disk or at its receiver.
    required: Mutex<BTreeMap<SinkName, Option<Position>>>,
    dead_bytes: AtomicU64,
}

/// What the required sinks still need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// No sink is required.
    Nothing,
    /// One of them has taken nothing yet.
    Everything,
    /// All of them have taken everything up to here.
    Behind(Position),
}

impl Hold {
    /// Whether no required sink needs the segment `name`, which `next` follows.
    pub(super) fn lets_go(self, name: Name, next: Option<Name>) -> bool {
        match self {
            Self::Nothing => true,
            Self::Everything => false,
            Self::Behind(place) if place.chain > name.chain => true,
            Self::Behind(place) => next.is_some_and(|next| {
                next.chain == name.chain
                    && place.chain == name.chain
                    && place.seq >= next.first.saturating_sub(1)
            }),
        }
    }
}

impl Pins {
    /// Reads from `dir` how far the required ones of `sinks` have come.
    pub(super) fn open(dir: &Path, sinks: &[sink::Settings]) -> io::Result<Self> {
        let pins = Self { dir: dir.to_owned(), required: Mutex::default(), dead_bytes: AtomicU64::new(0) };
        pins.require(sinks);
        pins.weigh_dead_letters()?;
        Ok(pins)
    }

    /// From now on the required ones of `sinks` hold the journal, and no others.
    pub(super) fn require(&self, sinks: &[sink::Settings]) {
        let mut required = lock(&self.required);
        let before = std::mem::take(&mut *required);
        for sink in sinks.iter().filter(|sink| sink.required == sink::Need::Required) {
            let place = match before.get(&sink.name) {
                Some(place) => *place,
                // One that cannot be read holds everything: its sink will say what is wrong.
                None => Cursor::open(&self.dir, &sink.name).ok().and_then(|cursor| cursor.saved()),
            };
            required.insert(sink.name.clone(), place);
        }
    }

    /// The cursor of `sink` is on disk at `place`. Whether that may free room.
    pub(super) fn passed(&self, sink: &SinkName, place: Position) -> bool {
        lock(&self.required).get_mut(sink).is_some_and(|pin| {
            *pin = Some(place);
            true
        })
    }

    /// What the required sinks still need.
    pub(super) fn hold(&self) -> Hold {
        let required = lock(&self.required);
        if required.is_empty() {
            return Hold::Nothing;
        }
        required
            .values()
            .copied()
            .collect::<Option<Vec<_>>>()
            .and_then(|places| places.into_iter().min())
            .map_or(Hold::Everything, Hold::Behind)
    }

    /// Bytes that dead letters take of the journal's room.
    pub(super) fn dead_bytes(&self) -> u64 {
        self.dead_bytes.load(Ordering::Relaxed)
    }

    /// Looks again at what dead letters take.
    pub(super) fn weigh_dead_letters(&self) -> io::Result<()> {
        let mut sum = 0_u64;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with("dlq-")) {
                sum = sum.saturating_add(entry.metadata().map_or(0, |found| found.len()));
            }
        }
        self.dead_bytes.store(sum, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::ChainId;

    #[test]
    fn a_segment_may_go_when_the_slowest_required_sink_has_passed_it() {
        let chain = |n: u8| ChainId::new(u64::from(n), [n; 10]);
        let name = |n, first| Name { chain: chain(n), first };
        let check = |hold, segment, next, expected| {
            assert_eq!(Hold::lets_go(hold, segment, next), expected, "{hold:?} {segment:?} {next:?}");
        };
        let behind = |n, seq| Hold::Behind(Position { chain: chain(n), seq });
        check(Hold::Nothing, name(1, 1), None, true);
        check(Hold::Everything, name(1, 1), Some(name(1, 9)), false);
        check(behind(1, 7), name(1, 1), Some(name(1, 9)), false);
        check(behind(1, 8), name(1, 1), Some(name(1, 9)), true);
        check(behind(1, 8), name(1, 9), Some(name(1, 20)), false);
        // The last segment of a chain: nobody knows its end but who has gone on to the next chain.
        check(behind(1, 99), name(1, 9), Some(name(2, 1)), false);
        check(behind(2, 0), name(1, 9), Some(name(2, 1)), true);
        check(behind(1, 99), name(1, 9), None, false);
    }
}
