//! `rotation --once`: an agent without workloads, which does what is due of its rotations, records it as any agent does, and ends.
//!
//! Serves nobody and keeps no secret but the keys of the systems that it changes.

use super::{Agent, Before, TURN, name_of, rotations::reason_of};
use crate::{
    broker,
    config::{Config, Loaded},
    name::{IdentityName, RotationName, SecretName, UpstreamName},
    rotation::{self, fact::Failure, once::Done, system::System},
    shutdown::{self, Signal},
    telemetry::log::Log,
};
use anyhow::Context as _;
use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// What of `config` is needed for its rotations `names`; for all of them where none is named.
#[must_use]
pub fn only(mut config: Config, names: &[RotationName]) -> Config {
    config.rotations.retain(|rotation| names.is_empty() || names.contains(&rotation.name));
    (config.workloads, config.local, config.report) = (Vec::new(), Vec::new(), None);
    let systems: BTreeSet<UpstreamName> = config.rotations.iter().filter_map(upstream).cloned().collect();
    config.upstreams.retain(|upstream| systems.contains(&upstream.name));
    let keys: BTreeSet<SecretName> = config.upstreams.iter().flat_map(keys).collect();
    config.secrets.retain(|secret| keys.contains(&secret.name));
    let identities = needed(&config);
    config.identities.retain(|identity| identities.contains(&identity.name));
    // Nobody asks it how it is; and it may run beside an agent.
    config.health.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}

fn upstream(settings: &rotation::Settings) -> Option<&UpstreamName> {
    match &settings.kind {
        rotation::Kind::Issue(issue) => Some(&issue.provider.upstream),
        rotation::Kind::Credential(credential) => match &credential.system {
            System::Http(http) => Some(&http.upstream),
            System::Provider(provider) => Some(&provider.upstream),
            System::Exec(_) | System::Vault(_) => None,
        },
        _ => None,
    }
}

fn keys(upstream: &broker::Settings) -> Vec<SecretName> {
    std::iter::once(upstream.secret.clone()).chain(upstream.client_cert.clone()).collect()
}

fn needed(config: &Config) -> BTreeSet<IdentityName> {
    let rotations = config.rotations.iter().map(|rotation| &rotation.identity);
    let secrets = config.secrets.iter().map(|secret| &secret.identity);
    let approvals = config.approvals.iter().filter_map(|approval| approval.identity.as_ref());
    let checkpoints = config.audit.checkpoints.iter().filter_map(|settings| settings.identity.as_ref());
    let handoff = config.audit.handoff.iter().map(|handoff| &handoff.identity);
    rotations.chain(secrets).chain(approvals).chain(checkpoints).chain(handoff).cloned().collect()
}

/// Does what is due of the rotations of `loaded`, a config that [`only`] has narrowed and that was read from `path`; gives what came of
/// each. What is not over then, or at a signal, is left to the next one.
///
/// # Errors
/// What could not be started; or the task that ended by itself.
pub async fn once(path: &Path, loaded: Loaded, log: Log, before: Before) -> anyhow::Result<Vec<Done>> {
    let mut signals = shutdown::signals().context("listening for signals")?;
    let mut agent = Agent::start(path, loaded.config, log, before).await?;
    let failed = agent.serve_once(&mut signals).await;
    // Where a signal came first, they leave off now.
    let done = agent.rotations.leave_off().await;
    agent.end().await;
    match failed {
        None => Ok(done),
        Some(task) => anyhow::bail!("the task {task} ended by itself"),
    }
}

impl Agent {
    /// Until all is done, or a signal; gives the name of a task that ended before.
    async fn serve_once(&mut self, signals: &mut shutdown::Signals) -> Option<String> {
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => match signal {
                    Signal::Terminate => return None,
                    Signal::Reload => self.sinks.reopen(),
                },
                () = self.rotations.finished() => return None,
                Some(ended) = self.tasks.join_next() => return Some(name_of(ended)),
                () = self.handoff.taken() => self.start_sinks(),
                _ = turns.tick() => self.turn(),
            }
        }
    }
}

/// As long may it all take.
#[derive(Debug, Clone, Copy)]
pub struct Limit(pub Duration);

/// The word of a failure, as events have it.
#[must_use]
pub fn word_of(failure: Failure) -> &'static str {
    reason_of(failure).word()
}
