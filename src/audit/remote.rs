//! How far the required receivers of events have come, and the wait of those who may be answered only after them.
//!
//! Does not send anything: whoever sends events on says here what was acknowledged. Only mode `strict-remote` waits here.

use super::{Error, sink};
use crate::name::SinkName;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// As many must have acknowledged an event.
pub(super) const QUORUM: usize = 1;
/// They have this long.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// As many events that a receiver refused are remembered: far more than can be waited for.
const MISSED: usize = 4_096;

/// What each required receiver elsewhere has acknowledged.
pub(super) struct Remote {
    acknowledged: watch::Sender<BTreeMap<SinkName, Acknowledged>>,
}

/// What one receiver has acknowledged of this chain.
#[derive(Debug, Clone, Default)]
struct Acknowledged {
    /// Everything up to this number,
    through: u64,
    /// but for these.
    missed: BTreeSet<u64>,
}

impl Acknowledged {
    fn has(&self, seq: u64) -> bool {
        self.through >= seq && !self.missed.contains(&seq)
    }
}

impl Remote {
    /// The required ones of `sinks` count; nothing of this chain is acknowledged yet.
    pub(super) fn of(sinks: &[sink::Settings]) -> Self {
        let remote = Self { acknowledged: watch::Sender::new(BTreeMap::new()) };
        remote.require(sinks);
        remote
    }

    /// From now on the required ones of `sinks` count, if they are not on this machine, and no others.
    pub(super) fn require(&self, sinks: &[sink::Settings]) {
        let counts = |sink: &&sink::Settings| sink.required == sink::Need::Required && sink.kind.is_remote();
        self.acknowledged.send_modify(|acknowledged| {
            let mut before = std::mem::take(acknowledged);
            let mut known = |name: &SinkName| before.remove(name).unwrap_or_default();
            *acknowledged =
                sinks.iter().filter(counts).map(|sink| (sink.name.clone(), known(&sink.name))).collect();
        });
    }

    /// The receiver of `name` is done with every event of this chain up to number `seq`, and has them, but for those that it
    /// `missed`. Of one that does not count nothing is noted.
    pub(super) fn acknowledge(&self, name: &SinkName, seq: u64, missed: impl Iterator<Item = u64>) {
        self.acknowledged.send_if_modified(|acknowledged| {
            let Some(known) = acknowledged.get_mut(name) else { return false };
            known.missed.extend(missed);
            while known.missed.len() > MISSED {
                known.missed.pop_first();
            }
            let more = known.through < seq;
            known.through = known.through.max(seq);
            more
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
        let have = |all: &BTreeMap<SinkName, Acknowledged>| all.values().filter(|it| it.has(seq)).count();
        let come = |all: &BTreeMap<SinkName, Acknowledged>| {
            // Those that are past it and missed it will not have it.
            all.values().filter(|it| it.has(seq) || it.through < seq).count()
        };
        let decided = |all: &BTreeMap<SinkName, Acknowledged>| have(all) >= quorum || come(all) < quorum;
        match timeout(limit, acknowledged.wait_for(decided)).await {
            Ok(Ok(all)) if have(&all) >= quorum => Ok(()),
            _ => Err(Error::Unacknowledged),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tokio::time::Instant;

    fn name(name: &str) -> SinkName {
        SinkName::new(name).unwrap()
    }

    pub(in crate::audit) fn required(names: &[&str]) -> Vec<sink::Settings> {
        let to = sink::settings::Receiver {
            url: "http://127.0.0.1:1/".parse().unwrap(),
            tls: sink::settings::Tls::default(),
            timeout: Duration::from_secs(1),
        };
        let http = sink::settings::Http { to, hmac_key_file: None, bearer_file: None };
        let sink = |name: &&str| sink::Settings {
            name: self::name(name),
            kind: if *name == "console" { sink::Kind::Stdout } else { sink::Kind::Http(http.clone()) },
            format: sink::Format::Native,
            required: sink::Need::Required,
        };
        names.iter().map(sink).collect()
    }

    fn board(names: &[&str]) -> Remote {
        let optional = required(&["optional"]).into_iter();
        let optional = optional.map(|sink| sink::Settings { required: sink::Need::Optional, ..sink });
        let remote = Remote::of(&required(names).into_iter().chain(optional).collect::<Vec<_>>());
        // Neither counts: the one is not required, the other is on this machine.
        acknowledge(&remote, "optional", 1_000);
        acknowledge(&remote, "console", 1_000);
        remote
    }

    fn acknowledge(remote: &Remote, name: &str, seq: u64) {
        remote.acknowledge(&self::name(name), seq, std::iter::empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_waits_until_as_many_as_must_have_it() {
        let remote = board(&["console", "siem", "archive", "third"]);
        acknowledge(&remote, "siem", 7);
        assert!(remote.acknowledged_by(1, 7, LIMIT).await.is_ok());
        let (waited, ()) = tokio::join!(remote.acknowledged_by(2, 8, LIMIT), async {
            for (sink, seq) in [("siem", 8), ("archive", 7), ("third", 6), ("archive", 9)] {
                tokio::time::sleep(Duration::from_millis(100)).await;
                acknowledge(&remote, sink, seq);
            }
        });
        assert!(waited.is_ok());
        // What was acknowledged is not taken back.
        acknowledge(&remote, "archive", 1);
        assert!(remote.acknowledged_by(2, 8, LIMIT).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_limit_it_is_refused_and_with_nobody_to_wait_for_at_once() {
        let (remote, started) = (board(&["siem"]), Instant::now());
        assert!(matches!(remote.acknowledged_by(1, 1, LIMIT).await, Err(Error::Unacknowledged)));
        assert_eq!(started.elapsed(), LIMIT);
        assert!(remote.acknowledged_by(2, 1, LIMIT).await.is_err());
        assert!(board(&["console"]).acknowledged_by(1, 1, LIMIT).await.is_err());
        assert_eq!(started.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_is_no_longer_required_ends_the_wait_for_it() {
        let (remote, started) = (board(&["siem"]), Instant::now());
        let (waited, ()) = tokio::join!(remote.acknowledged_by(1, 1, LIMIT), async { remote.require(&[]) });
        assert!(waited.is_err());
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_receiver_refused_is_not_acknowledged_by_what_came_after_it() {
        let (remote, started) = (board(&["siem"]), Instant::now());
        remote.acknowledge(&name("siem"), 9, [7].into_iter());
        assert!(remote.acknowledged_by(1, 8, LIMIT).await.is_ok());
        assert!(remote.acknowledged_by(1, 7, LIMIT).await.is_err());
        assert_eq!(started.elapsed(), Duration::ZERO, "there is nothing to wait for");
    }
}
