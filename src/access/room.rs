//! A request's body that is held while it is decided what becomes of it: within its bound and its time, and with room of the same store as
//! those of calls, 4 MiB of a workload and 16 MiB in all.
//!
//! Does not know what is in it.

use super::{Access, Call, Fault, Room};
use crate::upload::{Cut, Upload};
use bytes::Bytes;
use std::time::Duration;
use tokio::{runtime::Handle, time::timeout};

/// How long a body that is held may take to come in.
const WITHIN: Duration = Duration::from_secs(10);

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unheld {
    /// It must be held, and is longer than so many bytes.
    #[error(
        "the body is larger than the {0} bytes of limits.body, and must be read whole before this is done"
    )]
    OverHeld(u64),
    /// It is longer than the so many bytes that its rule lets be sent.
    #[error("the body is larger than the {0} bytes that max_request of the rule's vault lets be sent")]
    OverRule(u64),
    /// Too many are held at the moment.
    #[error("{}", Fault::BuffersFull)]
    Full,
    /// It did not come, or not whole.
    #[error(transparent)]
    Cut(#[from] Cut),
}

/// A body with its room, which is given back when the last clone of the body is dropped.
struct Roomed {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Roomed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Access {
    /// Room for nothing yet.
    #[must_use]
    pub fn room(&self) -> Room {
        self.parts.broker.buffers().of(&self.workload)
    }

    /// Reads all of a body that is not held yet.
    pub(super) async fn hold_all(&self, call: &mut Call) -> Result<(), Unheld> {
        let Some(upload) = &call.upload else { return Ok(()) };
        let most = upload.largest_held();
        call.body = hold(upload, most, self.room()).await?.ok_or(Unheld::OverHeld(most))?;
        call.upload = None;
        Ok(())
    }

    /// What is left of a body once its request is answered is thrown away for a moment, so that its client reads the answer.
    pub fn spill(&self, upload: Upload) {
        let stopping = self.parts.stopping.clone();
        let spilling = async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = upload.spill() => {}
            }
        };
        if let Ok(runtime) = Handle::try_current() {
            self.parts.unfinished.spawn_on(spilling, &runtime);
        }
    }
}

/// All of a body that has `most` bytes at most, with its room; `None`: it has more, and nothing of it is lost.
///
/// # Errors
/// [`Unheld::Full`] or [`Unheld::Cut`].
pub async fn hold(upload: &Upload, most: u64, mut room: Room) -> Result<Option<Bytes>, Unheld> {
    if upload.length().is_some_and(|length| length > most) {
        return Ok(None);
    }
    // In a box: a request holds its future for as long as it waits.
    let holding = Box::pin(async {
        let (mut first, mut more) = (Bytes::new(), Vec::new());
        let whole =
            |first: Bytes, more: &[u8]| if more.is_empty() { first } else { [&first, more].concat().into() };
        while let Some(piece) = upload.piece().await {
            let piece = piece?;
            if !room.grow(piece.len()) {
                return Err(Unheld::Full);
            }
            match first.is_empty() {
                true => first = piece,
                // Most come in one piece.
                false => more.extend_from_slice(&piece),
            }
            if (first.len() + more.len()) as u64 > most {
                upload.put_back(roomed(whole(first, &more), room));
                return Ok(None);
            }
        }
        let whole = whole(first, &more);
        Ok(Some(if whole.is_empty() { whole } else { roomed(whole, room) }))
    });
    timeout(WITHIN, holding).await.unwrap_or(Err(Unheld::Cut(Cut::Late)))
}

/// `bytes`, which have `room` as long as they are there.
fn roomed(bytes: Bytes, room: Room) -> Bytes {
    Bytes::from_owner(Roomed { bytes, _room: room })
}
