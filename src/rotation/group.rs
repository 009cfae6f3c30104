//! Members of a group keep their distance: who begins writes so, by check-and-set, where all members look.
//!
//! Does not order them: whoever is due first is first.

use super::{
    Settings,
    schedule::plus,
    store::{Store, Written},
};
use crate::{clock::Timestamp, vault::error::Error};
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
    let place = settings.journal.below(&format!("groups/{}", group.name));
    let newest = store.read(&place).await?;
    let last = newest.fields.and_then(|fields| super::journal::json_of(&fields, "last"));
    let last: Option<Last> = last.and_then(|text| serde_json::from_str(&text).ok());
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
    match store.write(&place, object.as_bytes(), newest.version).await? {
        Written::As(_) => Ok(None),
        // Another member was faster: how much later is read next time.
        Written::Overtaken => Ok(Some(plus(now, std::time::Duration::from_secs(1)))),
    }
}
