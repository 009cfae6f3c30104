//! Room for a request's body that is held while it is decided what becomes of it: of the same store as those of calls, 4 MiB of a
//! workload and 16 MiB in all.
//!
//! Does not read bodies: `api` does.

use super::Access;
use crate::broker::buffers::Room;
use bytes::Bytes;

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
}

/// `bytes`, which have `room` as long as they are there.
#[must_use]
pub fn roomed(bytes: Bytes, room: Room) -> Bytes {
    Bytes::from_owner(Roomed { bytes, _room: room })
}
