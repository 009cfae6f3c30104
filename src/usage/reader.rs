//! Takes the record as it is read, line by line, and keeps none of it: what it says of use is the history.
//!
//! Does not read: `audit` does, and writes here.

use super::{
    history::{History, Record},
    shared::Shared,
};
use std::io::{self, Write};

/// Something to write the lines of the record to.
#[derive(Debug, Default)]
pub struct Reader {
    history: History,
    begun: Vec<u8>,
    others: u64,
}

impl Reader {
    /// Takes a part of a ledger that an agent left in Vault: before the record is written here.
    pub fn join(&mut self, part: &Shared) {
        self.history.join(part);
    }

    /// What the record says, and how many of its lines are no events.
    #[must_use]
    pub fn finish(mut self) -> (Record, u64) {
        let last = std::mem::take(&mut self.begun);
        self.take(&last);
        (self.history.finish(), self.others)
    }

    fn take(&mut self, line: &[u8]) {
        if !line.is_empty() && !self.history.take(line) {
            self.others = self.others.saturating_add(1);
        }
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            if self.begun.is_empty() {
                self.take(line);
            } else {
                self.begun.extend_from_slice(line);
                let line = std::mem::take(&mut self.begun);
                self.take(&line);
            }
            rest = after.get(1..).unwrap_or_default();
        }
        self.begun.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
