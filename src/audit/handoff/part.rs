//! One part: events as lines, and what a part must be before it is believed.
//!
//! Pure. Whether the events are the ones that were written is for the verifier to say: only what would confuse our journal
//! and sinks is refused.

use crate::{
    audit::{
        chain::{Chain, ChainId, Position},
        journal::segment::LONGEST,
    },
    crypto::{Hash, sha256, unhex},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

/// Bytes of the lines of one part, at most, unless one event alone is longer: in base64, with what stands around them,
/// 512 KiB.
pub(super) const FULL: usize = 380 * 1024;

/// Events of one chain without a hole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The chain before the first of them.
    pub(super) before: Chain,
    /// The chain with the last of them.
    pub(super) after: Chain,
    pub(super) events: Vec<Vec<u8>>,
}

/// The document of `lines`, each of which ends in a line feed.
pub(super) fn document(lines: &[u8]) -> Value {
    json!({"lines": STANDARD.encode(lines)})
}

/// The events of a document; `None` if it is no part.
pub(super) fn runs(document: &Value) -> Option<Vec<Run>> {
    let lines = STANDARD.decode(document.get("lines")?.as_str()?).ok()?;
    let mut runs: Vec<Run> = Vec::new();
    for line in lines.strip_suffix(b"\n")?.split(|byte| *byte == b'\n') {
        let (place, prev) = place(line)?;
        let (here, hash) = (Position { seq: place.seq.checked_sub(1)?, ..place }, sha256(line));
        match runs.last_mut().filter(|run| run.after.last == here) {
            Some(run) if run.after.hash != prev => return None,
            Some(run) => {
                run.after = run.after.with(hash);
                run.events.push(line.to_vec());
            }
            None => {
                let before = Chain { last: here, hash: prev };
                runs.push(Run { before, after: before.with(hash), events: vec![line.to_vec()] });
            }
        }
    }
    Some(runs)
}

/// Where an event stands, and the hash before it.
fn place(line: &[u8]) -> Option<(Position, Hash)> {
    #[derive(Deserialize)]
    struct Event {
        id: String,
        seq: String,
        chain: Link,
    }
    #[derive(Deserialize)]
    struct Link {
        uid: String,
        prev: String,
    }
    if line.len() > LONGEST {
        return None;
    }
    let Event { id, seq, chain } = serde_json::from_slice(line).ok()?;
    let place = Position { chain: ChainId::parse(chain.uid.as_bytes())?, seq: seq.parse().ok()? };
    let fits = id == format!("{}-{:020}", place.chain, place.seq) && seq.len() == 20;
    Some((place, unhex(chain.prev.as_bytes())?)).filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    fn line(chain: ChainId, seq: u64, prev: Hash) -> Vec<u8> {
        let id = format!("{chain}-{seq:020}");
        let event = json!({"chain": {"prev": hex(&prev), "uid": chain.as_str()}, "id": id, "seq": format!("{seq:020}")});
        event.to_string().into_bytes()
    }

    #[test]
    fn a_part_is_read_back_as_runs_of_each_chain_and_what_is_none_is_refused() {
        let (a, b) = (ChainId::new(1, [1; 10]), ChainId::new(2, [2; 10]));
        let first = line(a, 7, [9; 32]);
        let second = line(a, 8, sha256(&first));
        let third = line(b, 1, [0; 32]);
        let joined =
            |lines: &[&[u8]]| lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<u8>>();
        let read = runs(&document(&joined(&[&first, &second, &third]))).unwrap();
        let spans: Vec<_> = read.iter().map(|run| (run.before.last, run.after.last)).collect();
        let at = |chain, seq| Position { chain, seq };
        assert_eq!(spans, [(at(a, 6), at(a, 8)), (at(b, 0), at(b, 1))]);
        assert_eq!(read[0].before.hash, [9; 32]);
        assert_eq!(read[0].events, [first.clone(), second.clone()]);
        let forged = line(a, 8, [3; 32]);
        for bad in
            [joined(&[&first, &forged]), joined(&[b"{}"]), joined(&[&line(a, 0, [0; 32])]), first, Vec::new()]
        {
            assert_eq!(runs(&document(&bad)), None);
        }
        assert_eq!(runs(&json!({})), None);
    }
}
