//! The workloads' sockets and the path behind each.
//!
//! Does not read requests: `listener` and `api` do.

use super::exposure::Looker;
use crate::{
    access::{Access, CallStep, Observe, Outcome, Parts, Reason, Rules, Seen, Type},
    api::Root,
    approval::Approvals,
    audit::Audit,
    broker::Broker,
    config::{Config, Workload},
    forward::Forward,
    keeper::Keeper,
    listener::{HEAD, HEAD_OF_CALLS, Limits, Listener, Settings, Standing},
    name::{RotationName, RuleName, UpstreamName, WorkloadName},
    peer::attestor::Attestor,
    policy::Policy,
    shutdown::{Phase, Stop},
    telemetry::metrics::{Metrics, Request},
};
use anyhow::Context;
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::Ordering},
};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What requests come to.
pub(super) type Acts = (Keeper, Forward, Broker, Approvals);

pub(super) struct Workloads {
    parts: Parts,
    stop: CancellationToken,
    cut: CancellationToken,
    serving: BTreeMap<WorkloadName, Serving>,
    listeners: JoinSet<()>,
}

struct Serving {
    access: Arc<Access>,
    limits: Arc<ArcSwap<Limits>>,
    standing: Arc<Standing>,
    /// Those of the sockets of its upstreams.
    upstreams: Vec<Arc<Standing>>,
}

impl Workloads {
    pub(super) fn new(
        (keeper, forward, broker, approvals): Acts,
        attestor: Option<Attestor>,
        audit: Audit,
        metrics: Metrics,
        unfinished: TaskTracker,
        stop: &Stop,
    ) -> Self {
        let stop = stop.token(Phase::Accept).clone();
        let observe = Arc::new(Counting(metrics));
        let forward = Some(forward);
        let stopping = stop.clone();
        let parts =
            Parts { keeper, forward, approvals, broker, attestor, audit, observe, unfinished, stopping };
        Self {
            parts,
            stop,
            cut: CancellationToken::new(),
            serving: BTreeMap::new(),
            listeners: JoinSet::new(),
        }
    }

    /// Binds every socket of `config`.
    pub(super) fn bind(&mut self, config: &Config) -> anyhow::Result<()> {
        self.take_over_shared(config);
        self.listeners.spawn(self.parts.approvals.clone().run(self.stop.clone()));
        for workload in &config.workloads {
            let name = &workload.listener.workload;
            let access = Arc::new(Access::new(name.clone(), rules(workload), self.parts.clone()));
            access.roster().set(config.looks_into_processes());
            let limits = Arc::new(ArcSwap::from_pointee(workload.listener.limits));
            let head = if workload.upstreams.is_empty() { HEAD } else { HEAD_OF_CALLS };
            let root = (Root::Workload, head);
            let listener =
                Listener::bind_root(&workload.listener, root, Arc::clone(&limits), Arc::clone(&access))
                    .with_context(|| format!("binding workloads.{name}.socket"))?;
            let standing = listener.standing();
            let mut upstreams = Vec::new();
            for (upstream, path) in &workload.upstreams {
                let settings = Settings { path: path.clone(), ..workload.listener.clone() };
                let root = (Root::Upstream(upstream.clone()), HEAD_OF_CALLS);
                let own = Listener::bind_root(&settings, root, Arc::clone(&limits), Arc::clone(&access))
                    .with_context(|| format!("binding the socket of {upstream} of workloads.{name}"))?;
                upstreams.push(own.standing());
                self.listeners.spawn(own.run(self.stop.clone(), self.cut.clone()));
            }
            tracing::info!(workload = %name, level = %workload.peer.level, "serving");
            self.listeners.spawn(listener.run(self.stop.clone(), self.cut.clone()));
            self.serving.insert(name.clone(), Serving { access, limits, standing, upstreams });
        }
        Ok(())
    }

    /// Takes over the rules, peers and limits of a changed config; sockets stay as they are.
    pub(super) fn take_over(&self, config: &Config) {
        self.take_over_shared(config);
        for workload in &config.workloads {
            if let Some(serving) = self.serving.get(&workload.listener.workload) {
                serving.access.replace(rules(workload));
                serving.limits.store(Arc::new(workload.listener.limits));
            }
        }
    }

    fn take_over_shared(&self, config: &Config) {
        self.parts.broker.replace(&config.upstreams);
        let secrets = config.secrets.iter().map(|secret| (secret.name.clone(), secret.identity.clone()));
        self.parts.approvals.replace(&config.approvals, secrets);
        self.parts.approvals.review(super::reviews::reviewed(config));
    }

    /// What asks persons.
    pub(super) fn approvals(&self) -> Approvals {
        self.parts.approvals.clone()
    }

    /// What looks for values where they must not be.
    pub(super) fn looker(&self) -> Looker {
        Looker::new(self.parts.keeper.clone(), self.parts.attestor.clone(), self.accesses())
    }

    /// Closes connections to upstreams that have waited too long.
    pub(super) fn sweep(&self) {
        self.parts.broker.sweep();
    }

    /// No, if there was an attestor and it has ended.
    pub(super) fn attestor_runs(&self) -> bool {
        self.parts.attestor.as_ref().is_none_or(Attestor::is_running)
    }

    /// How the sockets of each workload stand.
    pub(super) fn sockets(&self) -> Vec<(WorkloadName, Vec<Arc<Standing>>)> {
        let all = |(name, serving): (&WorkloadName, &Serving)| {
            let all = std::iter::once(&serving.standing).chain(&serving.upstreams).cloned().collect();
            (name.clone(), all)
        };
        self.serving.iter().map(all).collect()
    }

    /// The path behind each socket, for as long as it is there.
    pub(super) fn accesses(&self) -> Vec<(WorkloadName, Weak<Access>)> {
        self.serving.iter().map(|(name, serving)| (name.clone(), Arc::downgrade(&serving.access))).collect()
    }

    /// The workloads whose socket was removed or replaced and could not be bound again.
    pub(super) fn lost(&self) -> impl Iterator<Item = &WorkloadName> {
        let is_lost = |standing: &Arc<Standing>| standing.lost.load(Ordering::Relaxed);
        let lost =
            move |serving: &Serving| is_lost(&serving.standing) || serving.upstreams.iter().any(is_lost);
        self.serving.iter().filter(move |(_, serving)| lost(serving)).map(|(name, _)| name)
    }

    /// Cancelled, it drops every request that still runs.
    pub(super) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Waits until every listener has ended.
    pub(super) async fn finish(&mut self) {
        while self.listeners.join_next().await.is_some() {}
    }
}

fn rules(workload: &Workload) -> Rules {
    Rules { peer: workload.peer.clone(), policy: Policy::of(&workload.policy) }
}

struct Counting(Metrics);

impl Observe for Counting {
    fn late(&self, rotation: &RotationName) {
        self.0.rotations().stale_read(rotation);
    }

    fn seen(&self, seen: &Seen<'_>) {
        let Seen { workload, peer, rule, outcome, reason, took } = *seen;
        let reason = reason.inspect(|reason| {
            if *reason == Reason::AuditUnavailable {
                self.0.audit_denied(reason.word());
            }
        });
        self.0.request(&Request {
            workload,
            outcome: outcome.word(),
            reason: reason.map(Reason::word),
            rule,
            level: peer.map(|peer| peer.level().word()),
            took,
        });
    }

    fn recorded(&self, kind: Type, outcome: Outcome) {
        self.0.audit_recorded(kind.word(), outcome.word());
    }

    fn called(&self, upstream: &UpstreamName, rule: &RuleName, step: CallStep) {
        let calls = self.0.upstreams();
        match step {
            CallStep::Began => calls.began(upstream, rule),
            CallStep::Heard(after) => calls.heard(upstream, rule, after),
            CallStep::Ended { outcome, reason, masked } => {
                calls.ended(upstream, rule, (outcome.word(), reason.map(Reason::word)), masked);
            }
        }
    }
}
