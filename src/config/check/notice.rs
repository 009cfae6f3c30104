//! A rotation's `notice`: how long before a run begins watchers of what it changes are told.
//!
//! Pure.

use super::{super::reader::Map, DAY, schedule::nearest, seconds};
use crate::rotation::schedule::Schedule;
use std::time::Duration;

/// Without a word: a minute, or half of what lies between two slots.
const USUAL: Duration = Duration::from_secs(60);

pub(super) fn read(map: &mut Map<'_>, schedule: Option<&Schedule>) -> Option<Duration> {
    let between = schedule.and_then(nearest);
    let given = map.given("notice", |leaf| {
        let notice = leaf.duration(seconds(0, 30 * DAY))?;
        if between.is_some_and(|between| notice >= between) {
            leaf.problem(
                "a notice that is not shorter than the time between two slots",
                "make it shorter, or write notice: 0s for none",
            );
            return None;
        }
        Some(notice)
    })?;
    Some(given.unwrap_or_else(|| between.map_or(USUAL, |between| USUAL.min(between / 2))))
}
