//! Where events go on to, each with a cursor of its own.
//!
//! No request ever waits for a sink: sinks read what is on disk already, on threads of their own.

mod batch;
mod courier;
pub(super) mod cursor;
mod dead;
mod fact;
mod file;
mod format;
mod head;
mod http;
mod otlp;
pub(super) mod outlet;
pub(super) mod runner;
pub mod settings;
mod splunk;
pub(super) mod stdout;
mod syslog;
pub(super) mod tail;
#[cfg(test)]
mod tests;

pub use fact::{Fact, SinkRef, What};
pub use format::Format;
pub use outlet::Code;
pub use settings::{Kind, Need, Settings};

use super::{Audit, queue::lock};
use crate::name::SinkName;
use courier::Tell;
use outlet::Outlet;
use runner::{Control, Make, Source};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};
use tokio::{sync::watch, task::JoinSet};

/// The sinks that run.
pub struct Sinks {
    audit: Source,
    tell: Tell,
    running: BTreeMap<SinkName, Running>,
    lags: Lags,
    tasks: JoinSet<()>,
}

struct Running {
    settings: Settings,
    control: Arc<Control>,
    /// Closed when it has ended.
    ended: watch::Receiver<()>,
}

/// How many events wait for each sink; readable while the sinks run.
#[derive(Clone)]
pub struct Lags {
    running: Arc<Mutex<BTreeMap<SinkName, Arc<Control>>>>,
    tail: Arc<tail::Tail>,
}

impl Lags {
    /// Each sink, and how many events of the journal it has not delivered.
    #[must_use]
    pub fn read(&self) -> Vec<(SinkName, u64)> {
        let end = self.tail.end().position.seq;
        let running = lock(&self.running);
        running.iter().map(|(name, control)| (name.clone(), control.lag(end))).collect()
    }
}

/// The sinks that count when it is asked whether everything is delivered: the required ones, or all where none is.
#[must_use]
pub fn counted(sinks: &[Settings]) -> Vec<SinkName> {
    let any = sinks.iter().any(|sink| sink.required == Need::Required);
    let counts = sinks.iter().filter(|sink| !any || sink.required == Need::Required);
    counts.map(|sink| sink.name.clone()).collect()
}

impl Sinks {
    /// No sink of `audit` yet. `tell` hears of everything that happens to them, on their threads: it must not wait.
    #[must_use]
    pub fn new(audit: &Audit, tell: impl Fn(Fact) + Send + Sync + 'static) -> Self {
        let audit = audit.source();
        let lags = Lags { running: Arc::default(), tail: Arc::clone(&audit.tail) };
        Self { audit, tell: Arc::new(tell), running: BTreeMap::new(), lags, tasks: JoinSet::new() }
    }

    /// Makes what runs fit `settings`. A changed sink ends before its successor begins, which goes on from its place.
    pub fn take_over(&mut self, settings: &[Settings]) {
        while self.tasks.try_join_next().is_some() {}
        let mut before = BTreeMap::new();
        self.running.retain(|name, running| {
            let same = settings.contains(&running.settings);
            if !same {
                running.control.stop.cancel();
                before.insert(name.clone(), running.ended.clone());
            }
            same
        });
        for sink in settings {
            if !self.running.contains_key(&sink.name) {
                self.start(sink.clone(), before.remove(&sink.name));
            }
        }
        let controls = self.running.iter().map(|(name, run)| (name.clone(), Arc::clone(&run.control)));
        *lock(&self.lags.running) = controls.collect();
    }

    /// Has sinks that write to files open them anew: what SIGHUP asks for.
    pub fn reopen(&self) {
        for running in self.running.values() {
            running.control.reopen();
        }
    }

    /// How far each is behind.
    #[must_use]
    pub fn lags(&self) -> Lags {
        self.lags.clone()
    }

    /// Has all of them deliver what is left, for a second at most, and waits for their end.
    pub async fn end(&mut self) {
        for running in self.running.values() {
            running.control.stop.cancel();
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn start(&mut self, settings: Settings, before: Option<watch::Receiver<()>>) {
        let (name, control) = (settings.name.clone(), Arc::new(Control::default()));
        let (alive, ended) = watch::channel(());
        let run = runner::run(
            self.audit.clone(),
            name.clone(),
            maker(settings.clone()),
            Arc::clone(&self.tell),
            Arc::clone(&control),
        );
        self.tasks.spawn(async move {
            if let Some(mut before) = before {
                while before.changed().await.is_ok() {}
            }
            run.await;
            drop(alive);
        });
        self.running.insert(name, Running { settings, control, ended });
    }
}

fn maker(settings: Settings) -> Make {
    Box::new(move || -> io::Result<Box<dyn Outlet>> {
        let format = settings.format;
        Ok(match &settings.kind {
            Kind::Stdout => Box::new(stdout::Stdout::of_process(format)?),
            Kind::File(settings) => Box::new(file::Appender::new(settings.clone(), format)),
            Kind::Http(settings) => Box::new(http::Webhook::new(settings.clone(), format)),
            Kind::Otlp(settings) => Box::new(otlp::Logs::new(settings.clone())),
            Kind::Splunk(settings) => Box::new(splunk::Collector::new(settings.clone(), format)?),
            Kind::Syslog(settings) => Box::new(syslog::Syslog::new(settings.clone(), format)),
        })
    })
}
