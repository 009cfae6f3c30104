//! Kind `lease`: a dynamic credential gets a new lease on a schedule, before Vault would end it; both overlap.
//!
//! The secret's keeper makes the new one and revokes the old one after the secret's own grace. A replica that starts has a new lease
//! anyway, so nothing is remembered over a start.

use super::{Run, Task};
use crate::{
    clock::{self, Timestamp},
    crypto,
    keeper::notice::{Eye, What},
    rotation::{
        fact::{Act, Failure},
        schedule::{self, Past, Schedule, plus},
    },
};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a new lease is waited for before the run is told as failed. The keeper goes on trying.
const PATIENCE: Duration = Duration::from_secs(60);

impl Task {
    pub(super) async fn replace(&self, schedule: &Schedule, stop: &CancellationToken) {
        let begun = clock::now();
        let mut past = Past { settled: begun, succeeded: begun, not_before: None };
        loop {
            let now = clock::now();
            let turn = schedule.decide(&self.settings.name, &past, now);
            for skipped in turn.skipped {
                past.settled = past.settled.max(skipped.slot);
                let slot = Some(schedule.spell(skipped.slot));
                self.report(Act::Skipped(skipped.why), Run { slot, ..Run::default() });
            }
            let until = match turn.act {
                schedule::Act::Wait(until) => until,
                schedule::Act::Begin(slot) => {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = self.renew(schedule, slot, &mut past) => {}
                    }
                    continue;
                }
            };
            self.stand(past.succeeded, Some(until));
            let wait = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // The wall clock may jump meanwhile.
                () = sleep(wait.min(Duration::from_secs(60))) => {}
            }
        }
    }

    async fn renew(&self, schedule: &Schedule, slot: Timestamp, past: &mut Past) {
        let id = crypto::random::<8>().map(|bytes| crypto::hex(&bytes)).unwrap_or_default();
        let run = |from, to| Run { id: Some(id.clone()), slot: Some(schedule.spell(slot)), from, to };
        let mut eye = Eye::new(&self.shared.keeper, self.settings.serves.clone(), None, None);
        let from = std::iter::from_fn(|| eye.notice()).find(|notice| notice.what == What::Promoted);
        let from = from.map(|notice| notice.generation);
        past.settled = past.settled.max(slot);
        self.report(Act::Started, run(from, None));
        self.look_again(Some(&id));
        let made = timeout(PATIENCE, async {
            loop {
                match eye.notice() {
                    Some(notice) if notice.what == What::Promoted => return notice.generation,
                    Some(_) => {}
                    None => eye.changed().await,
                }
            }
        });
        match made.await {
            Ok(to) => {
                past.succeeded = clock::now();
                self.report(Act::Promoted, run(from, Some(to)));
            }
            Err(_) => {
                past.not_before = Some(plus(clock::now(), PATIENCE));
                self.report(Act::Failed(Failure::NotDone), run(from, None));
            }
        }
    }
}
