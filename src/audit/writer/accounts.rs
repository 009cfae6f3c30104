//! What the journal's thread counts beside writing: refusals that come too fast, and what each workload holds.
//!
//! Does not decide: `flood` and `share` do.

use super::Writer;
use crate::audit::{
    Error, Settings,
    event::{Agg, Event, Outcome, Reason, Type},
    flood::Verdict,
    journal::{Fault, Name, weigh},
    loose::Taken,
    queue::Adoption,
    share::Full,
    used::told,
};
use std::time::Instant;

impl Writer {
    /// The same as [`Writer::append`], for an event that somebody waits for: none beyond its workload's share.
    pub(super) fn admit(&mut self, event: &Event) -> Result<u64, Error> {
        if let Some(full) = self.shares.refuse(event) {
            say(&full);
            return Err(Error::ShareFull);
        }
        self.append(event).map_err(Error::from)
    }

    pub(super) fn apply(&mut self, settings: &Settings) {
        self.journal.apply(settings);
        self.shares.apply(settings);
        self.shares.let_go(self.journal.pins().hold());
    }

    pub(super) fn tidy(&mut self) {
        self.journal.tidy();
        self.shares.let_go(self.journal.pins().hold());
    }

    pub(super) fn adopt(&mut self, adoption: &Adoption) -> Result<(), Error> {
        let Adoption { before, events } = adoption;
        let adopted = self.journal.adopt(before, events);
        self.synced();
        self.unweighed.push(Name { chain: before.last.chain, first: before.next() });
        adopted.map_err(Error::from)
    }

    /// Gives the number under which it, or one that is equal but for its time, is on record.
    pub(super) fn append(&mut self, event: &Event) -> Result<u64, Fault> {
        if let Verdict::Counted(seq) = self.floods.admit(event, self.started.elapsed()) {
            self.ledger.note(&told(event), seq, event.time);
            return Ok(seq);
        }
        let before = self.journal.unsynced();
        let seq = self.journal.append(event)?;
        let bytes = self.journal.unsynced();
        // Where it began a segment, what was before it was synced.
        self.shares.took(event, seq, bytes.checked_sub(before).unwrap_or(bytes));
        self.floods.written(event, seq);
        self.ledger.note(&told(event), seq, event.time);
        Ok(seq)
    }

    /// Counts whose events one segment of an earlier chain holds. No, if none is left.
    pub(super) fn weigh_one(&mut self) -> bool {
        let Some(name) = self.unweighed.pop().filter(|_| self.shares.is_counting()) else { return false };
        match weigh(&self.dir, name) {
            Ok(found) => found.into_iter().for_each(|(end, held)| self.shares.found(end, held)),
            // What was let go meanwhile is nobody's.
            Err(error) => tracing::debug!(segment = name.file(), %error, "weighing an old segment"),
        }
        self.shares.let_go(self.journal.pins().hold());
        true
    }

    /// Puts on record how many events were dropped that nobody waited for.
    pub(super) fn report_dropped(&mut self) {
        if let Some(lost) = self.shares.take_dropped() {
            self.place(Taken { lost: Some(lost), ..Taken::default() }, Instant::now());
        }
    }

    /// Puts on record how many refusals were counted. A count that does not reach the disk is kept.
    pub(super) fn report_floods(&mut self) {
        let (started, now) = (Instant::now(), self.started.elapsed());
        let (mut appended, mut left) = (Vec::new(), Vec::new());
        self.journal.begin();
        for owed in self.floods.take(now) {
            match if left.is_empty() { self.journal.append(&owed.event()).ok() } else { None } {
                Some(seq) => appended.push((seq, owed)),
                None => left.push(owed),
            }
        }
        if appended.is_empty() && left.is_empty() {
            return;
        }
        // Whether it worked, the numbers say.
        let _ = self.settle(started);
        let synced = self.journal.synced();
        left.extend(appended.into_iter().filter(|(seq, _)| *seq > synced).map(|(_, owed)| owed));
        self.floods.restore(left, now);
    }
}

/// Says once that a workload is refused for want of room.
pub(super) fn say(full: &Full) {
    if let Full::First(workload) = full {
        tracing::error!(%workload, "its events fill half of the audit journal: it gets nothing more until required sinks have them");
    }
}

/// The event that says how many were dropped, and when.
pub(super) fn dropped(lost: Agg) -> Event {
    let event = Event::new(Type::AuditGap, Outcome::Error, lost.last);
    Event { reason: Some(Reason::Dropped), agg: Some(lost), ..event }
}
