//! What the journal's own events say of other events: gaps, and where an earlier chain ended.
//!
//! Pure. Reads the `agent` object of a line that is known to be canonical.

use crate::{
    audit::chain::ChainId,
    crypto::{Hash, unhex},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Raw {
    chain: Option<String>,
    from: Option<String>,
    to: Option<String>,
    last_seq: Option<String>,
    last_hash: Option<String>,
    signed: Option<Signed>,
}

/// Who signs, in `agent.started`; a checkpoint, in `audit.checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Signed {
    /// `boot` or `transit`.
    pub(super) by: String,
    /// Base64.
    pub(super) key: Option<String>,
    /// A signed note.
    pub(super) cert: Option<String>,
    /// A signed note.
    pub(super) note: Option<String>,
}

/// What an event says of signatures.
pub(super) fn signed(agent: &[u8]) -> Option<Signed> {
    serde_json::from_slice::<Raw>(agent).ok()?.signed
}

/// `audit.gap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    /// The chain that has lost events.
    pub(super) chain: ChainId,
    /// First lost number.
    pub(super) from: u64,
    /// Last lost number.
    pub(super) to: u64,
    /// The agent's word for why.
    pub(super) reason: String,
    /// The chain of the agent that says so.
    pub(super) by: ChainId,
}

/// `audit.recovered`: the end of the chain before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Continued {
    /// That chain.
    pub(super) chain: ChainId,
    /// Its last event.
    pub(super) seq: u64,
    /// That event's hash.
    pub(super) hash: Hash,
}

/// What an `audit.gap` declares, if it names a chain and numbers.
pub(super) fn declared(agent: &[u8], reason: &[u8], by: ChainId) -> Option<Declared> {
    let raw: Raw = serde_json::from_slice(agent).ok()?;
    let chain = ChainId::parse(raw.chain?.as_bytes())?;
    let (from, to) = (raw.from?.parse().ok()?, raw.to?.parse().ok()?);
    Some(Declared { chain, from, to, reason: String::from_utf8_lossy(reason).into_owned(), by })
}

/// What an `audit.recovered` says of the chain before.
pub(super) fn continued(agent: &[u8]) -> Option<Continued> {
    let raw: Raw = serde_json::from_slice(agent).ok()?;
    Some(Continued {
        chain: ChainId::parse(raw.chain?.as_bytes())?,
        seq: raw.last_seq?.parse().ok()?,
        hash: unhex(raw.last_hash?.as_bytes())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_chain_is_read_back_as_it_is_written() {
        let chain = ChainId::new(7, [7; 10]);
        let hash = "ab".repeat(32);
        let agent =
            format!(r#"{{"chain":"{chain}","last_hash":"{hash}","last_seq":"00000000000000000007"}}"#);
        assert_eq!(continued(agent.as_bytes()), Some(Continued { chain, seq: 7, hash: [0xab; 32] }));
        assert_eq!(continued(b"{}"), None);
        let agent =
            format!(r#"{{"chain":"{chain}","from":"00000000000000000002","to":"00000000000000000003"}}"#);
        let expected = Declared { chain, from: 2, to: 3, reason: "journal_damaged".into(), by: chain };
        assert_eq!(declared(agent.as_bytes(), b"journal_damaged", chain), Some(expected));
    }
}
