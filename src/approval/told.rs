//! Who tells a service of a request: the one that says so in the store first, so that people are not asked by each replica, nor again after
//! a restart.
//!
//! Tells nobody itself. One who said so and then vanished is followed by another a minute later; a service knows the second message by its id.

use super::{
    request::{Around, Request},
    store::Written,
};
use crate::{
    clock::{self, Timestamp, rfc3339},
    crypto::{hex, random},
    vault::error::Error,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where it stands, below the request.
pub const SLOT: &str = "told";
/// How long one may take who said that it tells.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Told {
    by: String,
    at: String,
    done: bool,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Teller {
    /// We tell it.
    Us,
    /// Another does, at this moment.
    Another,
    /// It is told.
    Done,
}

/// A name for one who tells.
pub(super) fn somebody() -> String {
    random::<8>().map(|bytes| hex(&bytes)).unwrap_or_default()
}

impl Request {
    /// Says that `us` tells the service, unless another does or did.
    pub(super) async fn teller(&self, around: &Around<'_>, us: &str) -> Result<Teller, Error> {
        let place = format!("{}/{SLOT}", self.id);
        let found = around.store.read(&place).await?;
        let now = clock::now();
        let told = found.data.and_then(|data| serde_json::from_value::<Told>(data).ok());
        match told {
            Some(Told { done: true, .. }) => return Ok(Teller::Done),
            Some(told) if told.by == us => return Ok(Teller::Us),
            Some(told) if told.at.parse::<Timestamp>().is_ok_and(|at| is_fresh(at, now)) => {
                return Ok(Teller::Another);
            }
            Some(_) | None => {}
        }
        let ours = Told { by: us.to_owned(), at: rfc3339(now), done: false };
        let written = around.store.write(&place, &ours, found.version).await?;
        Ok(if written == Written::Done { Teller::Us } else { Teller::Another })
    }

    /// Says that it is told, and that what it answered is in the store.
    pub(super) async fn told(&self, around: &Around<'_>, us: &str) -> Result<(), Error> {
        let place = format!("{}/{SLOT}", self.id);
        let version = around.store.read(&place).await?.version;
        let done = Told { by: us.to_owned(), at: rfc3339(clock::now()), done: true };
        around.store.write(&place, &done, version).await.map(drop)
    }
}

/// A clock that is behind ours by more than that is not believed either.
fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    let patience = jiff::SignedDuration::try_from(PATIENCE).unwrap_or_default();
    now.duration_since(at).abs() < patience
}
