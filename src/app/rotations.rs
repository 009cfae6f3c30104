//! The rotations that run, how a changed config is taken over, and what they report.
//!
//! Does not rotate anything itself: `rotation::task` does.

use super::{
    glass::Emergencies,
    kept::Kept,
    once::Limit,
    record::{Recorder, outcome_of},
};
use crate::{
    approval::{Approvals, Want},
    audit::event::{ApprovalRef, Event, Outcome, Reason, Resource, RotationRef, Turn, Type},
    clock,
    config::Config,
    crypto,
    name::RotationName,
    rotation::{
        Settings,
        fact::{Act, Fact, Failure, Yes},
        kubernetes::Trouble,
        local,
        once::Done,
        phase::Orphaned,
        schedule::Why,
        standing::{Board, Standing},
        system::outside::Outside,
        task::{Shared, Task},
    },
    telemetry::{metrics::Metrics, rotations::RotationGauge},
    vault::Vault,
};
use anyhow::Context as _;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Every rotation that runs.
pub(super) struct Rotations {
    shared: Shared,
    running: BTreeMap<RotationName, (Settings, CancellationToken)>,
    local: BTreeMap<RotationName, (local::Settings, CancellationToken)>,
    tasks: JoinSet<()>,
    /// Those that do what is due, and end.
    once: JoinSet<Done>,
    done: Vec<Done>,
    pub(super) emergencies: Emergencies,
}

impl Rotations {
    /// None yet; `kept` has the identities of `config` already.
    pub(super) fn new(
        config: &Config,
        kept: &Kept,
        vault: &Vault,
        recorder: &mut Recorder,
        (outside, approvals, pod): (Outside, Approvals, Option<&str>),
    ) -> anyhow::Result<Self> {
        let start = crypto::hex(&crypto::random::<6>().context("making an id of this start")?);
        let shared = Shared {
            vault: vault.clone(),
            keeper: kept.keeper(),
            // Names this agent among its replicas, and this start of it.
            holder: format!("{}/{start}", config.audit.source).into(),
            facts: recorder.rotations(),
            board: Board::default(),
            outside: Arc::new(outside),
            replica: replica(config, pod).into(),
            approvals,
        };
        Ok(Self {
            shared,
            running: BTreeMap::new(),
            local: BTreeMap::new(),
            tasks: JoinSet::new(),
            once: JoinSet::new(),
            done: Vec::new(),
            emergencies: Emergencies::new(),
        })
    }

    /// Those of `config`: for as long as the agent runs, or `once`.
    pub(super) fn start(&mut self, config: &Config, kept: &Kept, once: Option<Limit>) {
        let Some(Limit(limit)) = once else { return self.take_over(config, kept) };
        for settings in &config.rotations {
            let Some(identity) = kept.identity(&settings.identity) else { continue };
            let stop = CancellationToken::new();
            let task = Task::new(settings.clone(), identity, self.shared.clone());
            self.once.spawn(task.once(stop.clone(), limit));
            self.running.insert(settings.name.clone(), (settings.clone(), stop));
        }
    }

    /// Waits until each has done once what was due.
    pub(super) async fn finished(&mut self) {
        while let Some(done) = self.once.join_next().await {
            self.done.extend(done);
        }
    }

    /// The same, with what is not over left to others; gives what came of each.
    pub(super) async fn leave_off(&mut self) -> Vec<Done> {
        self.running.values().for_each(|(_, stop)| stop.cancel());
        self.finished().await;
        self.done.sort_by(|one, other| one.name.cmp(&other.name));
        std::mem::take(&mut self.done)
    }

    /// Makes what runs fit `config`; `kept` has its identities already.
    pub(super) fn take_over(&mut self, config: &Config, kept: &Kept) {
        let board = &self.shared.board;
        self.running.retain(|name, (settings, stop)| {
            let stays = config.rotations.contains(settings);
            if !stays {
                stop.cancel();
                board.forget(name);
            }
            stays
        });
        for settings in &config.rotations {
            let Some(identity) = kept.identity(&settings.identity) else { continue };
            if self.running.contains_key(&settings.name) {
                continue;
            }
            let stop = CancellationToken::new();
            let task = Task::new(settings.clone(), identity, self.shared.clone());
            self.tasks.spawn(task.run(stop.clone()));
            self.running.insert(settings.name.clone(), (settings.clone(), stop));
        }
        self.take_over_local(config, kept);
        while self.tasks.try_join_next().is_some() {}
    }

    fn take_over_local(&mut self, config: &Config, kept: &Kept) {
        let board = &self.shared.board;
        self.local.retain(|name, (settings, stop)| {
            let stays = config.local.contains(settings);
            if !stays {
                stop.cancel();
                board.forget(name);
            }
            stays
        });
        for settings in &config.local {
            let Some(identity) = kept.identity(&settings.identity) else { continue };
            if self.local.contains_key(&settings.name) {
                continue;
            }
            let stop = CancellationToken::new();
            let task = local::Task::new(settings.clone(), identity, self.shared.clone());
            self.tasks.spawn(task.run(stop.clone()));
            self.local.insert(settings.name.clone(), (settings.clone(), stop));
        }
    }

    /// Those that change what agents share.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.running.values().map(|(settings, _)| settings)
    }

    pub(super) fn approvals(&self) -> &Approvals {
        &self.shared.approvals
    }

    pub(super) fn vault(&self) -> Vault {
        self.shared.vault.clone()
    }

    /// How they stand, for metrics.
    pub(super) fn board(&self) -> Board {
        self.shared.board.clone()
    }

    /// Stops all of them; leases are given up while there is a token to do it with.
    pub(super) async fn end(&mut self) {
        let local = self.local.values().map(|(_, stop)| stop);
        self.running.values().map(|(_, stop)| stop).chain(local).for_each(CancellationToken::cancel);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The same after each start of this agent, and no other one's: the pod's uid, else what tells agents of one machine apart.
fn replica(config: &Config, pod: Option<&str>) -> String {
    let dir = config.audit.journal.dir.as_os_str().as_encoded_bytes();
    let other = || crypto::sha256_of(&[config.audit.source.as_bytes(), b"|", dir]);
    pod.map_or_else(|| crypto::hex(other().first_chunk::<8>().unwrap_or(&[0; 8])), str::to_owned)
}

/// What the gauges say of `board`.
pub(super) fn gauges(board: &Board) -> Vec<RotationGauge> {
    let now = clock::now();
    let gauge = |(name, standing): (RotationName, Standing)| RotationGauge {
        name,
        phase: standing.phase.word(),
        age: Duration::try_from(now.duration_since(standing.succeeded)).unwrap_or_default(),
        next: standing.next.map(|next| next.as_second()),
        unacked: standing.unacked,
        suspended: standing.suspended.is_some(),
        max_age: standing.max_age,
    };
    board.read().into_iter().map(gauge).collect()
}

/// Counts what a rotation reports.
pub(super) fn count(metrics: &Metrics, fact: &Fact) {
    let (rotations, name) = (metrics.rotations(), &fact.rotation);
    match fact.act {
        Act::Promoted => rotations.promoted(name, fact.gap),
        Act::TakenOver => rotations.taken_over(name),
        Act::Skipped(why) => rotations.skipped(name, why.word()),
        Act::Failed(failure) => rotations.failed(name, fact.phase.word(), reason_of(failure).word()),
        Act::Orphaned(why) => rotations.failed(name, fact.phase.word(), why.word()),
        Act::Drifted => rotations.drifted(name),
        Act::Passed(took) => rotations.passed(name, fact.phase.word(), took),
        Act::Started
        | Act::Set
        | Act::GraceEnded
        | Act::Revoked
        | Act::Repaired
        | Act::Quarantined
        | Act::Reenabled
        | Act::RolledBack
        | Act::Suspended
        | Act::Resumed
        | Act::Unorphaned
        | Act::Adopted => {}
    }
}

/// The event of what a rotation reports; `None`: it is only measured.
pub(super) fn event(fact: Fact) -> Option<Event> {
    let (kind, reason) = match fact.act {
        Act::Passed(_) => return None,
        Act::Drifted => (Type::Rotation(Turn::Drift), Some(Reason::Refused)),
        Act::Repaired => (Type::Rotation(Turn::Repaired), None),
        Act::Quarantined => (Type::Rotation(Turn::Quarantined), None),
        Act::Reenabled => (Type::Rotation(Turn::Reenabled), None),
        Act::Started => (Type::Rotation(Turn::Started), None),
        Act::TakenOver => (Type::Rotation(Turn::TakenOver), None),
        Act::Set => (Type::Rotation(Turn::Set), None),
        Act::Promoted => (Type::Rotation(Turn::Promoted), None),
        Act::GraceEnded => (Type::Rotation(Turn::GraceEnded), None),
        Act::Revoked => (Type::Rotation(Turn::Revoked), None),
        Act::RolledBack => (Type::Rotation(Turn::RolledBack), None),
        Act::Suspended => (Type::Rotation(Turn::Suspended), None),
        Act::Resumed => (Type::Rotation(Turn::Resumed), None),
        Act::Unorphaned => (Type::Rotation(Turn::Unorphaned), None),
        Act::Adopted => (Type::Rotation(Turn::Adopted), None),
        Act::Skipped(why) => (Type::Rotation(Turn::Skipped), Some(skip_reason(why))),
        Act::Failed(failure) => (Type::Rotation(Turn::Failed), Some(reason_of(failure))),
        Act::Orphaned(why) => (Type::Rotation(Turn::Orphaned), Some(orphan_reason(why))),
    };
    let outcome: Outcome = outcome_of(reason.is_none());
    Some(Event {
        reason,
        resource: Some(Resource { path: Some(fact.path), ..Resource::default() }),
        rotation: Some(Box::new(RotationRef {
            name: fact.rotation,
            kind: fact.kind,
            phase: fact.phase.word(),
            id: fact.id.filter(|id| !id.is_empty()),
            asked: fact.reason,
            by: fact.by,
            slot: fact.slot,
            from: fact.from,
            to: fact.to,
            epoch: fact.epoch,
        })),
        approval: fact.yes.map(|yes| Box::new(about(*yes))),
        ..Event::new(kind, outcome, clock::now())
    })
}

fn about(yes: Yes) -> ApprovalRef {
    let Yes { name, id, by } = yes;
    let how = id.is_none().then_some("observed");
    ApprovalRef { name, id, digest: None, by, said: Vec::new(), how, ticket: None }
}

pub(super) fn reason_of(failure: Failure) -> Reason {
    match failure {
        Failure::Vault(class) => class.into(),
        Failure::Conflict => Reason::Conflict,
        Failure::Target => Reason::TargetAway,
        Failure::Refused => Reason::Refused,
        Failure::NotDone => Reason::NotDone,
        Failure::Unacked => Reason::Unacked,
        Failure::OverAge => Reason::OverAge,
        Failure::Clock => Reason::ClockSkew,
        Failure::Journal => Reason::RotationJournal,
        Failure::Lease(Trouble::Denied) => Reason::LeaseDenied,
        Failure::Lease(Trouble::Away) => Reason::LeaseAway,
        Failure::Lease(Trouble::Held) => Reason::LeaseHeld,
    }
}

fn skip_reason(why: Why) -> Reason {
    match why {
        Why::Missed => Reason::Missed,
        Why::Blackout => Reason::Blackout,
        Why::MinInterval => Reason::MinInterval,
        Why::Group => Reason::Group,
        Why::Approval => Reason::Approval(Want::Yes),
        Why::Suspended => Reason::Suspended,
    }
}

fn orphan_reason(why: Orphaned) -> Reason {
    match why {
        Orphaned::Refused => Reason::Refused,
        Orphaned::Conflict => Reason::Conflict,
        Orphaned::Journal => Reason::RotationJournal,
    }
}
