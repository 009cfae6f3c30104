//! What an earlier agent handed over comes into the journal, as a segment of the old chain.
//!
//! The event that says so is on disk before the segment has its name, so whoever reads the directory knows where each chain in
//! it comes from. Killed in between, the segment is missing until the next start takes it over again.

use super::{Fault, Journal, recovery::end_of, segment};
use crate::{
    audit::{
        chain::Chain,
        event::{Event, Outcome, Type},
    },
    crypto::sha256,
};
use std::{io, sync::Arc};

impl Journal {
    /// Takes in `events` of an earlier chain, which continue `before`: for the sinks, before they begin.
    pub(in crate::audit) fn adopt(&mut self, before: &Chain, events: &[Vec<u8>]) -> Result<(), Fault> {
        let (mut records, mut after) = (Vec::new(), *before);
        for event in events {
            let start = segment::begin(&mut records);
            records.extend_from_slice(event);
            segment::finish(&mut records, start)
                .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
            after = after.with(sha256(event));
        }
        let Some(aside) = self.files.set_aside(before, &records).map_err(Arc::new)? else { return Ok(()) };
        // What waits is kept whatever happens: only the one event is taken back.
        self.note()?;
        self.settle()?;
        let mut event = Event::new(Type::AuditRecovered, Outcome::Allow, self.now);
        event.agent = Some(end_of(&after));
        self.place(&event)?;
        self.settle()?;
        self.files.take_in(aside).map_err(Arc::new)
    }
}
