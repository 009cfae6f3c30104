//! Emergencies that are over: the rotations of what was taken are asked for, and then the end is on record.
//!
//! An agent that ended in between finds them in its journal when it starts again. Does not rotate: `rotation` does, as soon as its own terms
//! allow.

use super::{kept::Kept, record::Recorder, rotations::Rotations};
use crate::{
    approval::{
        Id,
        glass::{Broken, Mended, Taken},
    },
    audit::{
        self,
        event::{ApprovalRef, Event, Outcome, RuleRef, Type},
    },
    clock::{self, Timestamp},
    config::Config,
    crypto,
    name::{ApprovalName, RuleName, SecretName, WorkloadName},
    policy::rule::AuditMode,
    rotation::{Settings, desk::Desk},
    usage::{glass::Glass, history::History},
    vault::{Vault, session::Identity},
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

/// The first wait after a journal of a rotation could not be written, and the longest one.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What is done about them.
pub(super) struct Emergencies {
    marking: JoinSet<Mended>,
    /// What an earlier start left; `None` once that was looked for.
    before: Option<Timestamp>,
    left: Option<mpsc::UnboundedReceiver<Mended>>,
}

impl Emergencies {
    pub(super) fn new() -> Self {
        Self { marking: JoinSet::new(), before: Some(clock::now()), left: None }
    }

    /// Looks in the journal for what an earlier start left, beside everything else.
    fn look_back(&mut self, config: &Config) {
        let has_glass =
            |workload: &crate::config::Workload| workload.policy.all().any(|rule| rule.break_glass.is_some());
        let Some(before) = self.before.take().filter(|_| config.workloads.iter().any(has_glass)) else {
            return;
        };
        let (found, left) = mpsc::unbounded_channel();
        self.left = Some(left);
        let dir = config.audit.journal.dir.clone();
        let read = tokio::task::spawn_blocking(move || {
            for mended in left_over(&dir, before) {
                // Who stops does not hear it, and the next start does.
                let _ = found.send(mended);
            }
        });
        // It goes on by itself.
        drop(read);
    }
}

impl Rotations {
    /// Asks for the rotations of what was taken in emergencies that are over, and puts on record which are.
    pub(super) fn mend(&mut self, recorder: &Recorder, (config, kept): (&Config, &Kept)) {
        self.emergencies.look_back(config);
        let metrics = recorder.metrics();
        metrics.glasses(self.approvals().glasses());
        metrics.reviews(self.approvals().reviews());
        let mut over = self.approvals().mended();
        while let Some(mended) = self.emergencies.left.as_mut().and_then(|left| left.try_recv().ok()) {
            over.push(mended);
        }
        for mended in over {
            let marks: Vec<(Settings, Identity)> = self
                .settings()
                .filter(|one| mended.touched.iter().any(|taken| changes(one, taken)))
                .filter_map(|one| Some((one.clone(), kept.identity(&one.identity)?)))
                .collect();
            for taken in &mended.touched {
                if !marks.iter().any(|(one, _)| changes(one, taken)) {
                    let what = match taken {
                        Taken::Secret(secret) => secret.as_str(),
                        Taken::Path(path) => path,
                    };
                    tracing::warn!(what, id = %mended.broken.id, "taken in an emergency, and no rotation changes it: rotate it by hand");
                }
            }
            self.emergencies.marking.spawn(mark(mended, marks, self.vault()));
        }
        while let Some(marked) = self.emergencies.marking.try_join_next() {
            if let Ok(mended) = marked {
                recorder.record(ended(&mended.broken));
            }
        }
    }
}

/// Whether a rotation changes what was taken.
fn changes(rotation: &Settings, taken: &Taken) -> bool {
    match taken {
        Taken::Secret(secret) => rotation.serves.contains(secret),
        Taken::Path(path) => rotation.kind.places().contains(path),
    }
}

/// Asks for each of these rotations, however long that takes.
async fn mark(mended: Mended, marks: Vec<(Settings, Identity)>, vault: Vault) -> Mended {
    let Broken { id, ticket, .. } = &*mended.broken;
    let reason: String = format!("break glass {id}: {ticket}").chars().take(200).collect();
    for (settings, identity) in marks {
        let desk = Desk::new(&settings, vault.clone(), identity);
        let (mut failures, begun) = (0_u32, Instant::now());
        while let Err(error) = desk.ask(&reason).await {
            failures = failures.saturating_add(1);
            let ceiling = FIRST.saturating_mul(1 << failures.min(6)).min(LONGEST);
            let rotation = &settings.name;
            tracing::warn!(%rotation, %error, since = ?begun.elapsed(), "what was taken in an emergency is not marked for rotation yet");
            sleep(ceiling.mul_f64(crypto::chance().max(0.1))).await;
        }
    }
    mended
}

fn ended(broken: &Broken) -> Event {
    let Broken { id, rule, workload, reason, ticket, .. } = broken;
    let rule = RuleRef { name: rule.clone(), revision: String::new(), mode: AuditMode::StrictRemote };
    let approval = ApprovalName::new("break-glass").ok().map(|name| {
        Box::new(ApprovalRef {
            name,
            id: Some(id.to_string()),
            digest: None,
            by: Vec::new(),
            said: vec![reason.clone()],
            how: Some("break_glass"),
            ticket: Some(ticket.clone()),
        })
    });
    Event {
        workload: Some(workload.clone()),
        rule: Some(rule),
        approval,
        ..Event::new(Type::ApprovalExpired, Outcome::Allow, clock::now())
    }
}

/// Emergencies before that moment whose end is not in the journal.
fn left_over(dir: &Path, before: Timestamp) -> Vec<Mended> {
    let Ok(events) = audit::journal::read(dir) else { return Vec::new() };
    let mut history = History::default();
    for (_, line) in events {
        history.take(&line);
    }
    let glasses = history.finish().marks.glass.into_iter();
    let open = glasses.filter(|(_, glass)| glass.ended.is_none() && glass.at < before);
    open.filter_map(|(id, glass)| mended(&id, glass)).collect()
}

fn mended(id: &str, glass: Glass) -> Option<Mended> {
    let Glass { at, workload, rule, ticket, touched, .. } = glass;
    let broken = Broken {
        id: Id::parse(id)?,
        rule: RuleName::new(rule.as_deref()?).ok()?,
        workload: WorkloadName::new(workload.as_deref()?).ok()?,
        uid: 0,
        reason: "its agent ended before it did".to_owned(),
        ticket: ticket.unwrap_or_default(),
        until: at,
        review: None,
    };
    // No secret has a slash in its name.
    let taken = |what: String| match SecretName::new(&what) {
        Ok(secret) => Taken::Secret(secret),
        Err(_) => Taken::Path(what),
    };
    let touched = touched.into_keys().map(taken).collect();
    Some(Mended { broken: Arc::new(broken), touched })
}
