//! The first look at whoever connected, by which it is counted before anything that costs more is done for it.
//!
//! Does not count, and proves too little to serve anybody.

use super::{Cause, Peer, Rejected, Settings};
use crate::name::WorkloadName;
use tokio::net::UnixStream;

/// Who connected, by no more than its ids as they were then (`SO_PEERCRED`): enough to count it, too little to serve it.
#[derive(Debug)]
pub struct Caller(Box<Peer>);

/// Takes one look, of one system call, at who is at the other end: whoever knocks may knock often, and must not cost us more
/// before it is counted. Its uid and gid are checked, and not its groups.
///
/// # Errors
/// [`Rejected`], with its ids for the event.
pub fn glance(stream: &UnixStream, settings: &Settings, workload: &WorkloadName) -> Result<Caller, Rejected> {
    let rejected = |peer, cause| Rejected { workload: workload.clone(), peer, cause };
    let known = stream.peer_cred().map_err(|error| rejected(None, Cause::Unknown(error)))?;
    let peer = Box::new(Peer::of(&known, Vec::new(), settings.level, workload));
    match peer.check_own_ids(settings) {
        Ok(()) => Ok(Caller(peer)),
        Err(cause) => Err(rejected(Some(peer), cause)),
    }
}

impl Caller {
    /// Effective user id when it connected.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// It may not be here after all.
    #[must_use]
    pub fn refuse(self, cause: Cause) -> Rejected {
        Rejected { workload: self.0.workload.clone(), peer: Some(self.0), cause }
    }
}
