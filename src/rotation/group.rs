//! Members of a group keep their distance: who begins writes so, by check-and-set, where all members look.
//!
//! Does not order them: whoever is due first is first.

use super::{
    Group, Settings,
    schedule::plus,
    store::{Store, Written},
};
use crate::{
    clock::Timestamp,
    vault::{error::Error, kv2::Place},
};
use serde::{Deserialize, Serialize};

/// The last member that began.
#[derive(Serialize, Deserialize)]
struct Last {
    at: Timestamp,
    by: String,
    slot: Timestamp,
}

/// Before when `settings`' rotation may not begin its run for `slot`; `None`: it may now, and no other member may.
pub(super) async fn claim(
    store: &Store,
    settings: &Settings,
    slot: Timestamp,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    let Some(group) = &settings.group else { return Ok(None) };
    let place = place(settings, group);
    let (last, version) = read(store, &place).await?;
    if let Some(last) = last {
        if last.by == settings.name.as_str() && last.slot == slot {
            // Another replica, or we before a crash, claimed it for the same run.
            return Ok(None);
        }
        let free = plus(last.at, group.min_gap);
        if free > now {
            return Ok(Some(free));
        }
    }
    let last = Last { at: now, by: settings.name.as_str().to_owned(), slot };
    let object = serde_json::json!({"last": last}).to_string();
    match store.write(&place, object.as_bytes(), version).await? {
        Written::As(_) => Ok(None),
        // Another member was faster: how much later is read next time.
        Written::Overtaken => Ok(Some(plus(now, std::time::Duration::from_secs(1)))),
    }
}

/// Before when no run of `settings`' rotation may begin, and for whose sake; nothing is claimed.
pub(super) async fn free(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
) -> Result<Option<(Timestamp, String)>, Error> {
    let Some(group) = &settings.group else { return Ok(None) };
    let last = read(store, &place(settings, group)).await?.0;
    let free = last.map(|last| (plus(last.at, group.min_gap), last.by));
    Ok(free.filter(|(free, _)| *free > now))
}

async fn read(store: &Store, place: &Place) -> Result<(Option<Last>, u64), Error> {
    let newest = store.read(place).await?;
    let last = newest.fields.and_then(|fields| super::journal::json_of(&fields, "last"));
    Ok((last.and_then(|text| serde_json::from_str(&text).ok()), newest.version))
}

fn place(settings: &Settings, group: &Group) -> Place {
    settings.journal.below(&format!("groups/{}", group.name))
}
