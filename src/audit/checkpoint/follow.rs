//! Follows the journal and keeps the tree over this start's chain, on a thread of its own.
//!
//! Costs the journal nothing: it reads what is on disk, as a sink does. Does not sign.

use crate::audit::{
    Audit,
    chain::Position,
    journal::walk::{Walk, list},
    sink::tail::{Journal, Tail},
    tree::Tree,
};
use crate::crypto::{Hash, sha256};
use std::{io, path::PathBuf, sync::Arc, thread, time::Duration};
use tokio::sync::watch;

/// Events are gathered for this long, so that a busy journal costs few looks.
const GATHER: Duration = Duration::from_millis(20);
/// Before a journal that cannot be read is tried again.
const REST: Duration = Duration::from_secs(1);
/// How an event of ours ends that carries a checkpoint: no key stands behind its type.
const OURS: &[u8] = br#""type":"audit.checkpoint.v1"}"#;

/// How far the tree has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Grown {
    pub(super) tree: Tree,
    /// The hash of the last event.
    pub(super) head: Hash,
    /// Events that are no checkpoints: only these are worth a new one.
    pub(super) others: u64,
    /// Segments of the chain that were begun.
    pub(super) segments: usize,
    /// Events were gone before they were read: the tree is not the chain's any more.
    pub(super) is_broken: bool,
}

/// Follows the chain of `audit` until the journal is closed.
pub(super) fn follow(audit: &Audit) -> io::Result<watch::Receiver<Grown>> {
    let (sender, receiver) = watch::channel(Grown::default());
    let (tail, dir) = (Arc::clone(&audit.0.tail), audit.0.dir.clone());
    let walk = Walk::new(&dir, Some(Position { chain: audit.chain(), seq: 0 }));
    let follower = Follower { dir, tail, walk, sender };
    thread::Builder::new().name("audit-checkpoint".into()).spawn(|| follower.run())?;
    Ok(receiver)
}

struct Follower {
    dir: PathBuf,
    tail: Arc<Tail>,
    walk: Walk,
    sender: watch::Sender<Grown>,
}

impl Follower {
    fn run(mut self) {
        let mut grown = Grown::default();
        loop {
            let seen = self.tail.end();
            if let Err(error) = self.read(&mut grown, seen.position) {
                tracing::warn!(%error, "reading the audit journal for a checkpoint; trying again");
                self.tail.gather(seen, u64::MAX, REST);
            }
            if self.sender.send(grown.clone()).is_err() || seen.journal == Journal::Closed || grown.is_broken
            {
                return;
            }
            self.tail.wait(seen, None);
            self.tail.gather(seen, u64::MAX, GATHER);
        }
    }

    fn read(&mut self, grown: &mut Grown, end: Position) -> io::Result<()> {
        let names = list(&self.dir)?;
        while let Some(event) = self.walk.next(&names, Some(end))? {
            grown.tree.push(event);
            grown.head = sha256(event);
            grown.others = grown.others.saturating_add(u64::from(!event.ends_with(OURS)));
        }
        grown.segments = names.iter().filter(|name| name.chain == end.chain).count().max(grown.segments);
        grown.is_broken = self.walk.take_skipped() > 0;
        Ok(())
    }
}
