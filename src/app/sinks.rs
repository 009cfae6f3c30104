//! What the audit's sinks report, as events and metrics.
//!
//! Does not run them: `audit::sink` does. Dead letters are counted exactly and told of once a minute at most, since a
//! receiver that refuses everything would refuse that event too.

use crate::{
    audit::{
        event::{Event, Outcome, Reason, SinkRef, Type},
        sink::{Fact, What},
    },
    clock,
    name::SinkName,
    telemetry::metrics::Metrics,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

/// Between two events of one sink about the same loss.
const PATIENCE: Duration = Duration::from_secs(60);

/// Turns facts into events and counts. Clones are the same.
#[derive(Clone)]
pub(super) struct Ear {
    events: UnboundedSender<Event>,
    metrics: Metrics,
    losses: Arc<Mutex<BTreeMap<(SinkName, Reason), Loss>>>,
}

struct Loss {
    told: Instant,
    waiting: SinkRef,
}

impl Ear {
    pub(super) fn new(events: UnboundedSender<Event>, metrics: Metrics) -> Self {
        Self { events, metrics, losses: Arc::default() }
    }

    /// Takes one fact; called on the sinks' threads.
    pub(super) fn hear(&self, fact: Fact) {
        let Fact { sink, what } = fact;
        match what {
            What::Delivered { took } => self.metrics.sink_delivered(&sink, took),
            What::Failed(code) => self.metrics.sink_failed(&sink, &code.to_string()),
            What::Down(code) => {
                let about = SinkRef { code: Some(code.to_string()), ..SinkRef::new(sink) };
                self.tell(Type::AuditSinkDown, Some(Reason::SinkFailed), about);
            }
            What::Up => self.tell(Type::AuditSinkUp, None, SinkRef::new(sink)),
            What::Dead { events, of, code } => {
                self.metrics.dead_letters(events);
                let reason = if of.is_some() { Reason::SinkPartial } else { Reason::SinkRefused };
                let about =
                    SinkRef { code: Some(code.to_string()), events: Some(events), of, ..SinkRef::new(sink) };
                self.lost(reason, about);
            }
            What::Skipped { events } => {
                self.metrics.sink_failed(&sink, "skipped");
                self.lost(Reason::SinkBehind, SinkRef { events: Some(events), ..SinkRef::new(sink) });
            }
        }
    }

    /// Tells of losses that have waited long enough.
    pub(super) fn turn(&self) {
        self.tell_losses(|loss| loss.told.elapsed() >= PATIENCE);
    }

    /// Tells of all losses that were not told yet.
    pub(super) fn finish(&self) {
        self.tell_losses(|_| true);
    }

    fn lost(&self, reason: Reason, about: SinkRef) {
        let mut losses = self.losses();
        match losses.get_mut(&(about.name.clone(), reason)) {
            Some(loss) if loss.told.elapsed() < PATIENCE => loss.waiting.add(&about),
            _ => {
                let nothing = SinkRef { events: Some(0), of: about.of.map(|_| 0), ..about.clone() };
                losses.insert((about.name.clone(), reason), Loss { told: Instant::now(), waiting: nothing });
                drop(losses);
                self.tell(kind_of(reason), Some(reason), about);
            }
        }
    }

    fn tell_losses(&self, due: impl Fn(&Loss) -> bool) {
        let mut told = Vec::new();
        for ((_, reason), loss) in self.losses().iter_mut() {
            if loss.waiting.events > Some(0) && due(loss) {
                let nothing =
                    SinkRef { events: Some(0), of: loss.waiting.of.map(|_| 0), ..loss.waiting.clone() };
                loss.told = Instant::now();
                told.push((*reason, std::mem::replace(&mut loss.waiting, nothing)));
            }
        }
        for (reason, about) in told {
            self.tell(kind_of(reason), Some(reason), about);
        }
    }

    fn tell(&self, kind: Type, reason: Option<Reason>, about: SinkRef) {
        let outcome = if reason.is_some() { Outcome::Error } else { Outcome::Allow };
        let event = Event { reason, sink: Some(about), ..Event::new(kind, outcome, clock::now()) };
        // After the recorder's end there is nobody to tell.
        let _ = self.events.send(event);
    }

    fn losses(&self) -> MutexGuard<'_, BTreeMap<(SinkName, Reason), Loss>> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kind_of(reason: Reason) -> Type {
    if reason == Reason::SinkBehind { Type::AuditSinkDown } else { Type::AuditDlq }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sink::Code;

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_refuses_everything_makes_one_event_a_minute_with_the_exact_count() {
        let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let ear = Ear::new(events, Metrics::new());
        let sink = SinkName::new("siem").unwrap();
        let dead = |events, of| Fact {
            sink: sink.clone(),
            what: What::Dead { events, of, code: Code::Status(400) },
        };
        for _ in 0..100 {
            ear.hear(dead(1, None));
        }
        ear.hear(dead(3, Some(50)));
        ear.turn();
        let mut counts = || {
            let mut counts = Vec::new();
            while let Ok(event) = heard.try_recv() {
                let about = event.sink.unwrap();
                counts.push((event.kind, event.reason.unwrap(), about.events, about.of));
            }
            counts
        };
        assert_eq!(
            counts(),
            [
                (Type::AuditDlq, Reason::SinkRefused, Some(1), None),
                (Type::AuditDlq, Reason::SinkPartial, Some(3), Some(50)),
            ]
        );
        tokio::time::advance(PATIENCE).await;
        ear.turn();
        assert_eq!(counts(), [(Type::AuditDlq, Reason::SinkRefused, Some(99), None)]);
        ear.hear(dead(1, None));
        assert_eq!(counts(), []);
        ear.finish();
        assert_eq!(counts(), [(Type::AuditDlq, Reason::SinkRefused, Some(1), None)]);
    }
}
