//! A changed config file: taken over whole, or not at all.
//!
//! Does not read or compare configs itself: `config` does.

use super::{Agent, watched};
use crate::{
    audit::event::{AgentFacts, Event, Outcome, Reason, Type},
    clock,
    config::{self, Config, NeedsRestart},
};
use std::path::PathBuf;

impl Agent {
    /// Something that is watched has changed: the config, or a certificate.
    pub(super) fn files_changed(&mut self, files: &[PathBuf]) {
        if files.contains(&self.path) {
            self.reload();
        }
        if files.iter().any(|file| *file != self.path) {
            self.reload_certificates();
        }
    }

    /// Connects anew if a certificate changed. Asked now and then too: a login may have read one that was there for a
    /// moment only, and then nothing has changed for whoever watches.
    pub(super) fn reload_certificates(&self) {
        if let Err(error) = self.vault.reload_certificates() {
            tracing::error!(%error, "the old certificates stay in use");
        }
    }

    /// Reads the config again if it changed before it was watched.
    pub(super) fn catch_up(&mut self) {
        let unchanged = |loaded: config::Loaded| loaded.config.revision == self.config.revision;
        if !config::load(&self.path).is_ok_and(unchanged) {
            self.reload();
        }
    }

    /// Reads the config again. A bad one changes nothing, and is an event and a metric.
    pub(super) fn reload(&mut self) {
        let loaded = match config::load(&self.path) {
            Ok(loaded) => loaded,
            Err(rejected) => {
                for problem in &rejected.problems {
                    tracing::error!(%problem, "config rejected");
                }
                let problems = Some(rejected.problems.len() as u64);
                return self
                    .rejected(Reason::ConfigInvalid, AgentFacts { problems, ..AgentFacts::default() });
            }
        };
        if loaded.config.revision == self.config.revision {
            return tracing::info!("the config is the same as before");
        }
        match config::change(&self.config, &loaded.config, self.inside.plan()) {
            Err(NeedsRestart { keys }) => {
                tracing::error!(keys = keys.join(", "), "config rejected: only a restart can change these");
                self.rejected(Reason::NeedsRestart, AgentFacts { keys, ..AgentFacts::default() });
            }
            Ok(_) => {
                for warning in &loaded.warnings {
                    tracing::warn!(%warning, "config");
                }
                self.take_over(loaded.config);
            }
        }
    }

    fn take_over(&mut self, new: Config) {
        // First what may fail: after it, nothing does.
        if let Err(error) = self.vault.change(new.vault.clone()) {
            tracing::error!(%error, "config rejected");
            return self.rejected(Reason::CredentialFile, AgentFacts::default());
        }
        self.config = new;
        self.audit.apply(&self.config.audit);
        self.log.change(self.config.log);
        self.kept.take_over(&self.config);
        self.rotations.take_over(&self.config, &self.kept);
        self.workloads.take_over(&self.config);
        self.usage.take_over(&self.config);
        self.tidying.take_over(&self.config);
        if !self.handoff.is_taking() {
            self.sinks.take_over(&self.config.audit.sinks);
        }
        self.note();
        self.watch.follow(watched(&self.path, &self.config));
        tracing::info!(revision = %self.config.revision, "config taken over");
        self.recorder.metrics().config_reloaded("loaded");
        let revision = Some(self.config.revision.clone());
        let facts = AgentFacts { revision, ..AgentFacts::default() };
        let event = Event::new(Type::ConfigLoaded, Outcome::Allow, clock::now());
        self.recorder.record(Event { agent: Some(facts), ..event });
    }

    fn rejected(&self, reason: Reason, facts: AgentFacts) {
        self.recorder.metrics().config_reloaded("rejected");
        let event = Event::new(Type::ConfigRejected, Outcome::Error, clock::now());
        self.recorder.record(Event { reason: Some(reason), agent: Some(facts), ..event });
    }
}
