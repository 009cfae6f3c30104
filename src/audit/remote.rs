//! How far the required receivers of events have come, and the wait of those who may be answered only after them.
//!
//! Does not send anything, and does not know receivers: whoever sends events on says here what was acknowledged. Only mode
//! `strict-remote` waits here.

use super::Error;
use crate::name::SinkName;
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::watch, time::timeout};

/// As many must have acknowledged an event.
pub(super) const QUORUM: usize = 1;
/// They have this long.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// The number of the last event of this chain that each required receiver has acknowledged; all before it are too.
pub struct Remote {
    acknowledged: watch::Sender<BTreeMap<SinkName, u64>>,
}

impl Default for Remote {
    fn default() -> Self {
        Self { acknowledged: watch::Sender::new(BTreeMap::new()) }
    }
}

impl Remote {
    /// From now on these count, and no others.
    pub fn require(&self, names: impl IntoIterator<Item = SinkName>) {
        self.acknowledged.send_modify(|acknowledged| {
            let before = std::mem::take(acknowledged);
            *acknowledged = names
                .into_iter()
                .map(|name| {
                    let seq = before.get(&name).copied().unwrap_or(0);
                    (name, seq)
                })
                .collect();
        });
    }

    /// `name` has acknowledged every event of this chain up to number `seq`. Of one that is not required nothing is noted.
    pub fn acknowledge(&self, name: &SinkName, seq: u64) {
        self.acknowledged.send_if_modified(|acknowledged| match acknowledged.get_mut(name) {
            Some(known) if *known < seq => {
                *known = seq;
                true
            }
            _ => false,
        });
    }

    /// Waits until `quorum` of the required receivers have event number `seq`, up to `limit`. Where fewer are required,
    /// nobody needs to wait for the answer.
    pub(super) async fn acknowledged_by(
        &self,
        quorum: usize,
        seq: u64,
        limit: Duration,
    ) -> Result<(), Error> {
        let mut acknowledged = self.acknowledged.subscribe();
        let decided = |all: &BTreeMap<SinkName, u64>| {
            all.len() < quorum || all.values().filter(|known| **known >= seq).count() >= quorum
        };
        match timeout(limit, acknowledged.wait_for(decided)).await {
            Ok(Ok(all)) if all.len() >= quorum => Ok(()),
            _ => Err(Error::Unacknowledged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn name(name: &str) -> SinkName {
        SinkName::new(name).unwrap()
    }

    fn board(names: &[&str]) -> Remote {
        let remote = Remote::default();
        remote.require(names.iter().copied().map(name));
        remote
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_waits_until_as_many_as_must_have_it() {
        let remote = board(&["siem", "archive", "third"]);
        remote.acknowledge(&name("siem"), 7);
        remote.acknowledge(&name("stranger"), 9);
        assert!(remote.acknowledged_by(1, 7, LIMIT).await.is_ok());
        let (waited, ()) = tokio::join!(remote.acknowledged_by(2, 8, LIMIT), async {
            for (sink, seq) in [("siem", 8), ("archive", 7), ("third", 6), ("archive", 9)] {
                tokio::time::sleep(Duration::from_millis(100)).await;
                remote.acknowledge(&name(sink), seq);
            }
        });
        assert!(waited.is_ok());
        // What was acknowledged is not taken back.
        remote.acknowledge(&name("archive"), 1);
        assert!(remote.acknowledged_by(2, 8, LIMIT).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_limit_it_is_refused_and_with_nobody_to_wait_for_at_once() {
        let (remote, started) = (board(&["siem"]), Instant::now());
        assert!(matches!(remote.acknowledged_by(1, 1, LIMIT).await, Err(Error::Unacknowledged)));
        assert_eq!(started.elapsed(), LIMIT);
        assert!(remote.acknowledged_by(2, 1, LIMIT).await.is_err());
        assert!(board(&[]).acknowledged_by(1, 1, LIMIT).await.is_err());
        assert_eq!(started.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_is_no_longer_required_ends_the_wait_for_it() {
        let (remote, started) = (board(&["siem"]), Instant::now());
        let (waited, ()) = tokio::join!(remote.acknowledged_by(1, 1, LIMIT), async { remote.require(None) });
        assert!(waited.is_err());
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
