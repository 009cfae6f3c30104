//! Requests whose answer may be in hand, or on its way for somebody else of the workload.
//!
//! Each has a permit of its own. Whoever is given a lease that another process of the workload asked for has it too: it lives until the
//! last of them ends.

use super::{Access, Answer, NotForwarded, Peer};
use crate::forward::{
    Found, Sending,
    cache::{Counts, Entered, Flight, Key, Landed, Stored},
};
use crate::peer::roster::Roster;
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// How a request goes on.
pub(super) enum Way {
    /// It is answered.
    Answered(Result<Answer, NotForwarded>),
    /// It is to be sent; with a flight, others wait for it.
    Send(Option<Flight>),
}

impl Access {
    /// The processes that were admitted, where somebody wants to know.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.provers.roster
    }

    /// Looks for the answer, and waits for it where it is on its way.
    pub(super) async fn way(&self, peer: &Peer, key: Key, sending: &Sending) -> Way {
        loop {
            match self.cache.enter(key, sending.login(), Instant::now()) {
                Entered::Hit(stored) => match self.take(peer, &stored) {
                    Some(answer) => return Way::Answered(Ok(answer)),
                    None => self.cache.forget(key),
                },
                Entered::Lead(flight) => return Way::Send(Some(flight)),
                Entered::Follow(landed) => match wait(landed).await {
                    Landed::Shared(answered) => {
                        self.cache.hit();
                        let found = Some(Found::Hit(Duration::ZERO));
                        return Way::Answered((*answered).map(|answer| Answer { found, ..answer }));
                    }
                    Landed::Alone => return Way::Send(None),
                    // It is there now; or whoever asked was cut off, and somebody else is to ask.
                    Landed::Held | Landed::Flying => {}
                },
            }
        }
    }

    /// What is known of the workload's cache.
    #[must_use]
    pub fn cached(&self) -> Counts {
        self.cache.counts()
    }

    fn take(&self, peer: &Peer, stored: &Stored) -> Option<Answer> {
        let end = match stored.lease() {
            Some(lease) => Some(self.leases.end(lease)?),
            None => None,
        };
        let answer = stored.answer(end, Instant::now())?;
        let has_it = stored.lease().is_none_or(|lease| self.leases.join(lease, peer.process()));
        if has_it {
            self.cache.hit();
        }
        has_it.then_some(answer)
    }
}

async fn wait(mut landed: watch::Receiver<Landed>) -> Landed {
    match landed.wait_for(|landed| !matches!(landed, Landed::Flying)).await {
        Ok(landed) => landed.clone(),
        Err(_) => Landed::Flying,
    }
}
