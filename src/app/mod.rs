//! Builds every part, starts the tasks, waits, and stops in order.
//!
//! The only place where the parts meet: nothing is decided here. A task that ends before a stop was asked for ends the
//! process, since half an agent is worse than none.

mod approvals;
mod checkpoints;
mod exposure;
mod glass;
pub mod grants;
mod handoff;
mod kept;
pub mod keys;
pub mod ledgers;
pub mod once;
mod record;
mod reload;
mod reports;
mod reviews;
mod rotations;
mod sight;
mod sinks;
mod tidying;
mod usage;
mod workloads;

use crate::{
    audit::{
        self, Audit,
        event::{AgentFacts, Event, Outcome, Pod, Signed, Type},
        sink::Sinks,
    },
    broker::Broker,
    clock,
    config::{Config, Loaded, watch::Watch},
    forward::Forward,
    peer::attestor::{self, Attestor},
    rotation::system::outside::{Outside, Programs},
    sandbox::{Dumpable, Inside},
    shutdown::{self, Ended as Stopped, Phase, REVOKE_WITHIN, Signal, Stop},
    telemetry::{
        health::{Health, Note, Port, Ready},
        log::Log,
        metrics::Metrics,
    },
    vault::{Vault, session::Start},
};
use anyhow::Context;
use kept::Kept;
use nix::unistd::geteuid;
use record::Recorder;
use rotations::Rotations;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use workloads::Workloads;

/// How often readiness, the clock and what waits for its turn are looked at.
const TURN: Duration = Duration::from_secs(1);
/// How often an earlier address of Vault is asked whether it is active again.
const FAIL_BACK: Duration = Duration::from_secs(30);
/// Requests that run may hold up revocation this long: Kubernetes may leave no more than 2 s for both.
const HEAD_START: Duration = Duration::from_millis(200);
/// How long the last events may take to reach the disk and the sinks.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// What must be there before the process has a second thread.
#[derive(Debug)]
pub struct Before {
    /// What the process has given up.
    pub inside: Inside,
    /// Started outside of that; `None` where the config needs none.
    pub attestor: Option<attestor::Started>,
    /// The same of the programs that rotations run.
    pub programs: Programs,
    /// Where the process is.
    pub pod: Pod,
    /// Rotations do what is due, and end.
    pub once: Option<once::Limit>,
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By a signal, in order.
    Stopped,
}

/// The running agent.
struct Agent {
    path: PathBuf,
    config: Config,
    log: Log,
    inside: Inside,
    vault: Vault,
    audit: Audit,
    recorder: Recorder,
    checkpoints: checkpoints::Running,
    handoff: handoff::Running,
    kept: Kept,
    rotations: Rotations,
    workloads: Workloads,
    health: Health,
    ready: Option<Ready>,
    stop: Stop,
    /// What must not end before a stop was asked for; each says its name.
    tasks: JoinSet<&'static str>,
    sinks: Sinks,
    ear: sinks::Ear,
    usage: usage::Usage,
    tidying: tidying::Tidying,
    unfinished: TaskTracker,
    watch: Watch,
    clock: sight::Clock,
}

/// Runs the agent of the config at `path`, which `loaded` was read from, until a signal ends it.
///
/// # Errors
/// What could not be started; or the task that ended by itself.
pub async fn run(path: &Path, loaded: Loaded, log: Log, before: Before) -> anyhow::Result<Ended> {
    // Before anything else, so that no signal ends the process without order.
    let mut signals = shutdown::signals().context("listening for signals")?;
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "config");
    }
    let mut agent = Agent::start(path, loaded.config, log, before).await?;
    agent.catch_up();
    let failed = agent.serve(&mut signals).await;
    agent.end().await;
    match failed {
        None => Ok(Ended::Stopped),
        Some(task) => anyhow::bail!("the task {task} ended by itself"),
    }
}

impl Agent {
    async fn start(path: &Path, config: Config, log: Log, before: Before) -> anyhow::Result<Self> {
        let Before { inside, attestor, programs, pod, once } = before;
        let (stop, metrics) = (Stop::new(), Metrics::new());
        let start = if has_run_before(&config.audit) { Start::Again } else { Start::Fresh };
        let planned = checkpoints::Planned::new(&config.audit, clock::now())?;
        let place = approvals::place(&config.audit, &pod);
        let audit = open(&config.audit, pod.clone(), metrics.clone())?;
        let port = Port::bind(&config.health).await.context("binding health.listen")?;
        let (health, ready) = Health::new();
        let mut recorder = Recorder::new(audit.clone(), metrics.clone());
        recorder.record(started(&config, &port, &inside, planned.declaration()));
        let vault = Vault::new(config.vault.clone()).context("preparing the way to Vault")?;
        let unfinished = TaskTracker::new();
        let mut kept = Kept::new(vault.clone(), &mut recorder, stop.token(Phase::Revoke).clone(), start)?;
        kept.take_over(&config);
        let (broker, outside) = callers(&config, programs, &kept)?;
        let approvals = recorder.approvals(&vault, kept.identities(), place);
        let outside = (outside, approvals.clone(), pod.uid.as_deref());
        let mut rotations = Rotations::new(&config, &kept, &vault, &mut recorder, outside)?;
        rotations.start(&config, &kept, once);
        let signing = (&kept, &vault, &metrics);
        let checkpoints = planned.start(&config.audit, &audit, signing, stop.token(Phase::Accept).clone())?;
        let handoff = handoff::Running::start(&config.audit, &audit, (&kept, &vault));
        let attestor = attestor.map(Attestor::of).transpose().context("joining the attestor")?;
        let (forward, tracker) = (Forward::new(vault.clone(), kept.identities()), unfinished.clone());
        let acts = (kept.keeper(), forward, broker, approvals);
        let mut workloads = Workloads::new(acts, attestor, audit.clone(), metrics.clone(), tracker, &stop);
        workloads.bind(&config)?;
        let (ear, hearing) = (recorder.ear(), recorder.ear());
        let sinks = Sinks::new(&audit, move |fact| hearing.hear(fact));
        let mut agent = Self {
            usage: usage::Usage::start(&config, &audit, (&kept, &vault, &metrics), workloads.looker()),
            tidying: tidying::Tidying::start(&config, (&kept, &vault)),
            watch: Watch::new(watched(path, &config)),
            path: path.to_owned(),
            config,
            log,
            inside,
            vault,
            audit,
            recorder,
            checkpoints,
            handoff,
            kept,
            rotations,
            workloads,
            health,
            ready: Some(ready),
            stop,
            tasks: JoinSet::new(),
            sinks,
            ear,
            unfinished,
            clock: sight::Clock::new(),
        };
        agent.begin(port, metrics);
        Ok(agent)
    }

    /// All parts are there.
    fn begin(&mut self, port: Port, metrics: Metrics) {
        self.note();
        self.open_port(port, metrics);
        if !self.handoff.is_taking() {
            self.start_sinks();
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), revision = %self.config.revision, "claviger runs");
    }

    /// Nothing more comes from earlier agents.
    fn start_sinks(&mut self) {
        self.sinks.take_over(&self.config.audit.sinks);
        self.handoff.forget(&self.config.audit, &self.kept);
    }

    fn open_port(&mut self, port: Port, metrics: Metrics) {
        let gauges = sight::Gauging::new(
            &self.kept,
            &self.workloads,
            self.vault.clone(),
            &self.audit,
            (self.sinks.lags(), self.rotations.board(), self.usage.reports.board()),
        );
        let (health, gauges) = (self.health.clone(), gauges);
        tracing::info!(address = %port.address(), "health is served");
        self.tasks.spawn(async move {
            port.serve(health, move || metrics.scrape(&gauges.read())).await;
            "health"
        });
    }

    /// Serves until a signal; gives the name of a task that ended before one.
    async fn serve(&mut self, signals: &mut shutdown::Signals) -> Option<String> {
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fail_backs = interval(FAIL_BACK);
        fail_backs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => match signal {
                    Signal::Terminate => return None,
                    Signal::Reload => {
                        self.sinks.reopen();
                        self.reload();
                    }
                },
                files = self.watch.changed() => self.files_changed(&files),
                Some(ended) = self.tasks.join_next() => return Some(name_of(ended)),
                () = self.handoff.taken() => self.start_sinks(),
                () = self.kept.changed() => self.look(),
                _ = turns.tick() => {
                    self.turn();
                    // From inside the sandbox nothing starts it again, and without it permitted peers are refused.
                    if !self.workloads.attestor_runs() {
                        return Some("attestor".to_owned());
                    }
                }
                _ = fail_backs.tick() => {
                    self.kept.fail_back();
                    self.reload_certificates();
                }
            }
        }
    }

    /// What is looked at again and again; running it twice does no harm.
    fn turn(&mut self) {
        if let Some(jump) = self.clock.jumped(self.vault.skew_ms()) {
            self.recorder.record(jump);
        }
        self.kept.turn();
        self.rotations.mend(&self.recorder, (&self.config, &self.kept));
        self.workloads.sweep();
        self.ear.turn();
        self.look();
    }

    /// Says how the agent is.
    fn look(&mut self) {
        let reasons = sight::reasons(&self.kept, &self.workloads, &self.audit, &self.config);
        // Started means that everything is in hand for the first time: what waits for it may begin its work.
        if reasons.is_empty()
            && let Some(ready) = self.ready.take()
        {
            ready.say();
            tracing::info!("ready");
        }
        self.health.set(reasons);
    }

    /// Says what a person should know of the config that runs.
    fn note(&self) {
        let exposed =
            self.inside.dumpable() == Dumpable::AtExec && self.config.has_workload_of(geteuid().as_raw());
        self.health.note(exposed.then_some(Note::DumpableAtExec).into_iter().collect());
    }

    async fn end(mut self) {
        let begun = Instant::now();
        self.health.set(vec![sight::stopping()]);
        // It may be asking Vault.
        self.usage.reports.finish().await;
        if self.handoff.is_taking() {
            self.start_sinks();
        }
        let (cut, finished) = (self.workloads.cut(), CancellationToken::new());
        let requests = async {
            let requests = self.workloads.finish();
            if self.stop.run(Phase::Accept, self.config.shutdown.grace, requests).await == Stopped::CutOff {
                cut.cancel();
            }
            finished.cancel();
        };
        let revocation = async {
            let head_start = tokio::time::timeout(HEAD_START, finished.cancelled());
            let rotations = tokio::time::timeout(HEAD_START, self.rotations.end());
            let ledger = self.usage.ledgers.last();
            let _ = tokio::join!(head_start, self.checkpoints.before_revocation(), rotations, ledger);
            // What is revoked and flushed after it has its time within the grace too.
            let until = begun + self.config.shutdown.grace.saturating_sub(REVOKE_WITHIN + FLUSH_WITHIN);
            self.handoff.give(&self.config.audit, &self.kept, &self.sinks.lags(), until).await;
            self.stop.run(Phase::Revoke, REVOKE_WITHIN, self.kept.end()).await;
        };
        tokio::join!(requests, revocation);
        self.unfinished.close();
        // The last reporters: what they sent is on its way to the recorder.
        self.workloads.approvals().close();
        drop((self.kept, self.rotations));
        let audit = async {
            self.unfinished.wait().await;
            self.ear.finish();
            self.usage.finish().await;
            let (lags, sinks) = (self.sinks.lags(), &self.config.audit.sinks);
            let last = async { stopped(handoff::undelivered(&lags, sinks).await) };
            self.recorder.finish(&self.audit, last).await;
            self.checkpoints.last().await;
            if let Err(error) = self.audit.close().await {
                tracing::error!(%error, "the last events are not on disk");
            }
            self.sinks.end().await;
        };
        self.stop.run(Phase::Audit, FLUSH_WITHIN, audit).await;
    }
}

/// Who calls upstreams, and by what rotations change other systems.
fn callers(config: &Config, programs: Programs, kept: &Kept) -> anyhow::Result<(Broker, Outside)> {
    let broker = Broker::new(kept.keeper()).context("preparing the calls of upstreams")?;
    // The rotations that begin now may call them.
    broker.replace(&config.upstreams);
    let outside = Outside::new(programs, broker.clone(), kept.keeper()).context("joining the runners")?;
    Ok((broker, outside))
}

fn open(settings: &audit::Settings, pod: Pod, metrics: Metrics) -> Result<Audit, audit::Error> {
    Audit::open(&in_pod(settings, pod), move |took| metrics.audit_committed(took))
}

fn name_of(ended: Result<&'static str, tokio::task::JoinError>) -> String {
    ended.map_or_else(|error| format!("that panicked ({error})"), str::to_owned)
}

/// Whether the journal holds events of an earlier agent.
fn has_run_before(settings: &audit::Settings) -> bool {
    audit::journal::read(&settings.journal.dir).is_ok_and(|mut events| events.next().is_some())
}

/// What the config does not know of where events come from.
fn in_pod(settings: &audit::Settings, pod: Pod) -> audit::Settings {
    let source = pod.source().unwrap_or_else(|| settings.source.clone());
    let known = pod != Pod { cluster: pod.cluster.clone(), ..Pod::default() };
    audit::Settings { source, pod: known.then_some(pod), ..settings.clone() }
}

fn started(config: &Config, port: &Port, inside: &Inside, signed: Option<Box<Signed>>) -> Event {
    let facts = AgentFacts {
        version: Some(env!("CARGO_PKG_VERSION")),
        revision: Some(config.revision.clone()),
        health: Some(port.address()),
        sandbox: Some(inside.to_string()),
        signed,
        ..AgentFacts::default()
    };
    Event { agent: Some(facts), ..Event::new(Type::AgentStarted, Outcome::Allow, clock::now()) }
}

fn stopped(undelivered: u64) -> Event {
    let facts = AgentFacts { undelivered: Some(undelivered), ..AgentFacts::default() };
    Event { agent: Some(facts), ..Event::new(Type::AgentStopped, Outcome::Allow, clock::now()) }
}

fn watched(path: &Path, config: &Config) -> impl Iterator<Item = PathBuf> + use<> {
    std::iter::once(path.to_owned()).chain(config.tls_files())
}
