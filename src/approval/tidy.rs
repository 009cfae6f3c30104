//! Takes requests that were over long ago out of the store: their votes, their uses, and what equal calls found them by.
//!
//! Nothing that may still be used, or joined, is touched, and a request stays a week for whoever wants to look. Needs the right to delete
//! metadata below the store; without it everything stays.

use super::{
    Folder, Id,
    ticket::{Shown, Ticket},
};
use crate::{
    clock::Timestamp,
    vault::{Vault, caller::BySession, error::Error, kv2::Kv2, limiter::Account, session::Session},
};
use jiff::SignedDuration;
use serde::{Deserialize, de::DeserializeOwned};

/// As long a request stays after its end.
pub const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// What is no request at all stays as long.
const STRANGE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Requests, and pointers to them, that one pass looks at.
const MOST: usize = 100;

/// The way to one store.
pub struct Tidy<'a> {
    /// The way to Vault.
    pub vault: &'a Vault,
    /// With whose token.
    pub session: &'a Session,
    /// Where.
    pub folder: &'a Folder,
    /// The time.
    pub now: Timestamp,
}

/// Of a request, or of what points to one.
#[derive(Deserialize)]
struct Pointer {
    not_after: Timestamp,
}

impl Tidy<'_> {
    /// One pass, the oldest first; gives how many requests were deleted.
    ///
    /// # Errors
    /// Vault refused, or did not answer: what was deleted until then is.
    pub async fn pass(&self) -> Result<usize, Error> {
        let (mut deleted, mut looked) = (0_usize, 0_usize);
        for name in self.names("").await? {
            // The names stand in the order of their time.
            let Some((id, made)) = name.strip_suffix('/').and_then(Id::parse).and_then(dated) else {
                continue;
            };
            if self.now.duration_since(made) <= KEPT || looked >= MOST {
                break;
            }
            looked += 1;
            if self.is_over(&id, made).await? {
                for part in self.names(&format!("{id}/")).await? {
                    self.delete(&format!("{id}/{part}")).await?;
                }
                deleted += 1;
            }
        }
        for name in self.names("open/").await?.into_iter().take(MOST) {
            let pointer: Option<Pointer> = self.read(&format!("open/{name}")).await?;
            if pointer.is_some_and(|pointer| self.now.duration_since(pointer.not_after) > KEPT) {
                self.delete(&format!("open/{name}")).await?;
            }
        }
        Ok(deleted)
    }

    /// Whether the request ended long ago, by its own words; what says nothing is judged by its age.
    async fn is_over(&self, id: &Id, made: Timestamp) -> Result<bool, Error> {
        let shown: Option<Shown> = self.read(&format!("{id}/request")).await?;
        let ticket = shown.and_then(|shown| serde_json::from_str::<Ticket>(&shown.ticket).ok());
        let end = ticket.and_then(|ticket| {
            let used = SignedDuration::from_secs(i64::try_from(ticket.constraints.valid_for).ok()?);
            ticket.not_after.parse::<Timestamp>().ok()?.checked_add(used).ok()
        });
        Ok(match end {
            Some(end) => self.now.duration_since(end) > KEPT,
            None => self.now.duration_since(made) > STRANGE,
        })
    }

    async fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        Kv2::by(&self.caller()).list(&self.folder.below(folder)).await
    }

    /// What stands there, if it is of that form.
    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let found = Kv2::by(&self.caller()).read(&self.folder.below(name)).await?;
        Ok(found.and_then(|found| found.value()))
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        Kv2::by(&self.caller()).delete(&self.folder.below(name)).await
    }

    fn caller(&self) -> BySession<'_> {
        BySession { vault: self.vault, session: self.session, account: Account::Refresh }
    }
}

/// A request, and when it was made.
fn dated(id: Id) -> Option<(Id, Timestamp)> {
    let seconds = i64::from_str_radix(id.as_str().get(..8)?, 16).ok()?;
    Some((id, Timestamp::from_second(seconds).ok()?))
}
