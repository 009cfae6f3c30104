//! How many bytes of a segment are whose.
//!
//! Reads; what follows from it is for `share` to say.

use super::segment::{Name, PREFIX, SegmentReader, Step};
use crate::{
    audit::{chain::Position, share::Weights},
    name::WorkloadName,
};
use std::{io, path::Path};

/// The bytes of each workload's events in the segment `name`, and the last event; `None` if there is none that can be read.
pub(in crate::audit) fn weigh(dir: &Path, name: Name) -> io::Result<Option<(Position, Weights)>> {
    let Some(mut reader) = SegmentReader::open(&dir.join(name.file()))? else { return Ok(None) };
    let (mut last, mut weights) = (None, Weights::new());
    loop {
        match reader.step()? {
            Step::Record(seq) => {
                last = Some(Position { chain: name.chain, seq });
                if let Some(workload) = workload_of(reader.record()) {
                    let held = weights.entry(workload).or_default();
                    *held = held.saturating_add(reader.record().len().saturating_add(PREFIX) as u64);
                }
            }
            Step::Damaged if reader.resync()?.is_some() => {}
            Step::Damaged | Step::End => return Ok(last.map(|last| (last, weights))),
        }
    }
}

/// The workload that an event names. Its key is the last one of the line, and a quote inside a JSON text is escaped.
fn workload_of(event: &[u8]) -> Option<WorkloadName> {
    let rest = event.strip_suffix(b"\"}")?;
    let start = rest.iter().rposition(|byte| *byte == b'"')?.checked_add(1)?;
    let (head, name) = rest.split_at_checked(start)?;
    head.ends_with(b",\"workload\":\"").then_some(())?;
    WorkloadName::new(std::str::from_utf8(name).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_of_an_event_is_its_last_key() {
        let check = |event: &str, expected: Option<&str>| {
            let found = workload_of(event.as_bytes());
            assert_eq!(found.as_ref().map(WorkloadName::as_str), expected, "{event}");
        };
        check(r#"{"type":"secret.read.v1","workload":"job"}"#, Some("job"));
        check(r#"{"type":"agent.started.v1"}"#, None);
        check(r#"{"type":"x","workload":"\"job"}"#, None);
        check(r#"{"actor":{"workload":"job"}}"#, None);
        check(r#"{"a":"b","workload":"job","z":"x"}"#, None);
    }
}
