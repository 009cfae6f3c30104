//! The newest checkpoint in Vault, out of reach of whoever can write to the journal: what it says, and whether it fits ours.
//!
//! Pure, but for [`local`], which looks into the journal. Does not call Vault.

use super::text::Checkpoint;
use crate::{
    audit::{
        chain::{ChainId, Position},
        event::Signed,
        journal::walk::{Walk, list},
        note::Note,
    },
    crypto::{Hash, sha256},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{io, path::Path};

/// What is anchored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The chain.
    pub(in crate::audit) chain: ChainId,
    /// How far it had come.
    pub(in crate::audit) checkpoint: Checkpoint,
    /// Its note, with the signatures.
    pub(in crate::audit) note: Note,
}

impl Anchor {
    /// What the document says: as it is written, or in the envelopes of `vault kv get -format=json` and of Vault's API.
    #[must_use]
    pub fn of(document: &Value) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            note: String,
        }
        if let Some(inner) = document.get("data").filter(|_| document.get("note").is_none()) {
            return Self::of(inner);
        }
        let document = Document::deserialize(document).ok()?;
        let note = Note::parse(&document.note)?;
        let checkpoint = Checkpoint::of(&note)?;
        let (_, chain) = checkpoint.origin.rsplit_once('/')?;
        Some(Self { chain: ChainId::parse(chain.as_bytes())?, checkpoint, note })
    }
}

impl Anchor {
    /// Whether this event is the last that is anchored.
    pub(in crate::audit) fn is_at(&self, chain: ChainId, seq: u64) -> bool {
        (self.chain, self.checkpoint.size) == (chain, seq)
    }
}

/// The document of one signed checkpoint.
pub(super) fn document(signed: &Signed) -> Value {
    json!({"note": signed.note, "key": signed.key, "certificate": signed.certificate})
}

/// What the journal has of the event that is anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Local {
    /// An event of this hash.
    Holds(Hash),
    /// The chain, but only up to this event.
    UpTo(u64),
    /// Nothing of the chain any more: all there is, is newer.
    TooOld,
    /// Nothing of the chain, though older events are there.
    Gone,
    /// No event of an earlier start.
    Empty,
}

/// Whether what is anchored fits this journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does.
    Agrees,
    /// The journal was empty when this start began: events from 1 to the anchored one are not in it.
    Lost,
    /// It does not: from the first number on.
    Contradicts(u64),
}

/// Compares an anchor of an earlier chain than `own` with what the journal has.
pub(super) fn compare(anchor: &Anchor, own: ChainId, local: Local) -> Standing {
    let Checkpoint { size, head, .. } = &anchor.checkpoint;
    match local {
        // Another agent with our name is newer than we are.
        _ if anchor.chain > own => Standing::Contradicts(1),
        Local::Holds(hash) if hash == *head => Standing::Agrees,
        Local::Holds(_) => Standing::Contradicts(*size),
        Local::UpTo(last) => Standing::Contradicts(last.saturating_add(1)),
        Local::TooOld => Standing::Agrees,
        Local::Gone => Standing::Contradicts(1),
        Local::Empty => Standing::Lost,
    }
}

/// What the journal in `dir` has of the event `wanted`, which is of an earlier chain than `own`.
pub(super) fn local(dir: &Path, own: ChainId, wanted: Position) -> io::Result<Local> {
    let names = list(dir)?;
    let mut chains: Vec<ChainId> = names.iter().map(|name| name.chain).filter(|chain| *chain < own).collect();
    chains.dedup();
    match chains.first() {
        None => return Ok(Local::Empty),
        Some(oldest) if wanted.chain < *oldest => return Ok(Local::TooOld),
        Some(_) if !chains.contains(&wanted.chain) => return Ok(Local::Gone),
        Some(_) => {}
    }
    let begins = names.iter().find(|name| name.chain == wanted.chain).map_or(1, |name| name.first);
    if begins > wanted.seq {
        return Ok(Local::TooOld);
    }
    let mut walk = Walk::new(dir, Some(Position { seq: begins.saturating_sub(1), ..wanted }));
    let mut last = begins.saturating_sub(1);
    while let Some(event) = walk.next(&names, Some(wanted))? {
        if event.is_empty() {
            break;
        }
        let hash = sha256(event);
        match walk.last() {
            Some(place) if place == wanted => return Ok(Local::Holds(hash)),
            Some(place) if place.chain == wanted.chain => last = place.seq,
            _ => break,
        }
    }
    Ok(Local::UpTo(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(chain: ChainId) -> Anchor {
        let checkpoint =
            Checkpoint { origin: format!("urn:claviger:a/{chain}"), size: 7, root: [1; 32], head: [2; 32] };
        let note = Note::new(checkpoint.text()).signed("k", &[3; 32], &[4; 64]);
        Anchor { chain, checkpoint, note }
    }

    #[test]
    fn an_anchor_is_read_as_it_is_written_and_as_vault_wraps_it() {
        let expected = anchor(ChainId::new(5, [0; 10]));
        let signed =
            Signed { by: "boot", key: None, certificate: None, note: Some(expected.note.to_string()) };
        let document = document(&signed);
        for wrapped in [document.clone(), json!({"data": {"data": document.clone(), "metadata": {}}})] {
            assert_eq!(Anchor::of(&wrapped).as_ref(), Some(&expected));
        }
        for bad in [json!({}), json!([]), json!({"note": "x"}), json!({"data": {"data": null}})] {
            assert_eq!(Anchor::of(&bad), None);
        }
    }

    #[test]
    fn a_journal_that_has_less_than_is_anchored_contradicts_it() {
        let (old, own, newer) =
            (ChainId::new(5, [0; 10]), ChainId::new(6, [0; 10]), ChainId::new(7, [0; 10]));
        for (local, expected) in [
            (Local::Holds([2; 32]), Standing::Agrees),
            (Local::Holds([9; 32]), Standing::Contradicts(7)),
            (Local::UpTo(4), Standing::Contradicts(5)),
            (Local::TooOld, Standing::Agrees),
            (Local::Gone, Standing::Contradicts(1)),
            (Local::Empty, Standing::Lost),
        ] {
            assert_eq!(compare(&anchor(old), own, local), expected, "{local:?}");
            assert_eq!(compare(&anchor(newer), own, local), Standing::Contradicts(1), "{local:?}");
        }
    }
}
