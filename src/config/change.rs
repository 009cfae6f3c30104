//! What differs between the config that runs and a new one: may it be taken over while running?
//!
//! Pure. Takes nothing over.

use super::{Config, Workload};
use crate::{
    audit::{self, Journal},
    listener,
    peer::level::Level,
    policy, rotation,
    sandbox::Plan,
    vault::login,
};
use std::{collections::BTreeMap, fmt};

/// A change that may be taken over while running.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// What changes: `vault`, `secrets.stripe`, `workloads.report-job.rules`. Empty when nothing does.
    pub keys: Vec<String>,
}

/// A change that would need a restart. Nothing of it may be taken over, the live parts neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NeedsRestart {
    /// What cannot change while running: `health.listen`, `workloads.report-job.socket.path`. Never empty.
    pub keys: Vec<String>,
}

impl fmt::Display for NeedsRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "only a restart can change {}", self.keys.join(", "))
    }
}

#[derive(Default)]
struct Changes {
    live: Vec<String>,
    restart: Vec<String>,
}

impl Changes {
    fn live<T: PartialEq + ?Sized>(&mut self, key: impl Into<String>, old: &T, new: &T) {
        if old != new {
            self.live.push(key.into());
        }
    }

    fn restart<T: PartialEq + ?Sized>(&mut self, key: impl Into<String>, old: &T, new: &T) {
        if old != new {
            self.restart.push(key.into());
        }
    }
}

/// Compares `old`, which runs, with `new`. Revisions may differ without any change: a comment has one too. What `new` needs
/// must be within `plan`, to which the sandbox was closed at the start; `None`: there is no sandbox.
///
/// # Errors
/// The keys that only a restart can change.
pub fn change(old: &Config, new: &Config, plan: Option<&Plan>) -> Result<Live, NeedsRestart> {
    // Taken apart, so that a new field cannot be forgotten.
    let Config {
        vault,
        identities,
        secrets,
        upstreams,
        workloads,
        approvals,
        rotations,
        report,
        local,
        audit,
        health,
        sandbox,
        shutdown,
        log,
        revision: _,
    } = new;
    let mut changes = Changes::default();
    changes.live("vault", &old.vault, vault);
    for (name, pair) in pairs(&old.identities, identities, |identity| identity.name.clone()) {
        identity(&mut changes, &format!("identities.{name}"), pair);
    }
    named(&mut changes, "secrets", (&old.secrets, secrets), |secret| secret.name.clone());
    named(&mut changes, "upstreams", (&old.upstreams, upstreams), |upstream| upstream.name.clone());
    for (name, pair) in pairs(&old.workloads, workloads, |workload| workload.listener.workload.clone()) {
        if let (false, (_, Some(new))) = (old.needs_attestor(), pair)
            && new.peer.level >= Level::Container
        {
            // The attestor is started before the agent gives up starting anything.
            changes.restart.push(format!("workloads.{name}.peer.level"));
        }
        workload(&mut changes, &format!("workloads.{name}"), pair);
    }
    named(&mut changes, "approvals", (&old.approvals, approvals), |approval| approval.name.clone());
    for (name, pair) in pairs(&old.rotations, rotations, |rotation| rotation.name.clone()) {
        rotation(&mut changes, &format!("rotations.{name}"), pair);
    }
    named(&mut changes, "rotations", (&old.local, local), |rotation| rotation.name.clone());
    changes.live("report", &old.report, report);
    if new.looks_into_processes() && !old.needs_attestor() {
        changes.restart.push("report.exposure.processes".to_owned());
    }
    record(&mut changes, &old.audit, audit);
    changes.restart("health.listen", &old.health.listen, &health.listen);
    changes.restart("health.names", &old.health.names, &health.names);
    changes.restart("sandbox", &old.sandbox, sandbox);
    changes.live("shutdown", &old.shutdown, shutdown);
    changes.live("log", &old.log, log);
    for key in plan.map(|plan| new.beyond(plan)).unwrap_or_default() {
        // A key that could not change anyway is named already.
        if !changes.restart.contains(&key) {
            changes.restart.push(key);
        }
    }
    if changes.restart.is_empty() {
        Ok(Live { keys: changes.live })
    } else {
        Err(NeedsRestart { keys: changes.restart })
    }
}

/// What may come, change and go while running.
fn named<N: Ord + fmt::Display, T: PartialEq>(
    changes: &mut Changes,
    section: &str,
    (old, new): (&[T], &[T]),
    name: impl Fn(&T) -> N,
) {
    for (name, (old, new)) in pairs(old, new, name) {
        changes.live(format!("{section}.{name}"), &old, &new);
    }
}

/// An identity may come while running, but not change or go: what was made with its token hangs on it.
fn identity(changes: &mut Changes, key: &str, pair: (Option<&login::Settings>, Option<&login::Settings>)) {
    match pair {
        (Some(old), Some(new)) => {
            let login::Settings { name: _, method, revoke_on_exit } = new;
            changes.restart(key, &old.method, method);
            changes.live(format!("{key}.revoke_on_exit"), &old.revoke_on_exit, revoke_on_exit);
        }
        (None, _) => changes.live.push(key.to_owned()),
        (Some(_), None) => changes.restart.push(key.to_owned()),
    }
}

/// A program that a rotation runs cannot come while running: its runner is started before the agent gives up starting anything.
fn rotation(
    changes: &mut Changes,
    key: &str,
    (old, new): (Option<&rotation::Settings>, Option<&rotation::Settings>),
) {
    changes.live(key, &old, &new);
    // Replicas that are still told otherwise would be refused the journal, or have another Lease.
    if let (Some(old), Some(new)) = (old, new) {
        changes.restart(format!("{key}.coordination"), &old.coordination, &new.coordination);
    }
    let program = |rotation: Option<&rotation::Settings>| {
        rotation.and_then(|rotation| rotation.kind.program()).map(<[String]>::to_vec)
    };
    if program(new).is_some() && program(old) != program(new) {
        changes.restart.push(format!("{key}.driver"));
    }
}

fn workload(changes: &mut Changes, key: &str, pair: (Option<&Workload>, Option<&Workload>)) {
    let (Some(old), Some(new)) = pair else {
        // It comes or goes with its socket.
        changes.restart.push(format!("{key}.socket"));
        return;
    };
    let Workload { listener, upstreams, peer, policy } = new;
    let listener::Settings { workload: _, path, mode, limits } = listener;
    changes.restart(format!("{key}.socket.path"), &old.listener.path, path);
    changes.restart(format!("{key}.socket.mode"), &old.listener.mode, mode);
    changes.live(format!("{key}.limits"), &old.listener.limits, limits);
    changes.live(format!("{key}.peer"), &old.peer, peer);
    // Sockets come at the start, and stay.
    changes.restart(format!("{key}.rules (the sockets of upstreams)"), &old.upstreams, upstreams);
    let policy::Settings { workload: _, rules, forwards, calls, bridge, revision: _ } = policy;
    changes.live(format!("{key}.bridge"), &old.policy.bridge, bridge);
    let before = (&old.policy.rules, &old.policy.forwards, &old.policy.calls);
    changes.live(format!("{key}.rules"), &before, &(rules, forwards, calls));
}

fn record(changes: &mut Changes, old: &audit::Settings, new: &audit::Settings) {
    journal(changes, &old.journal, &new.journal);
    changes.live("audit.mode", &old.mode, &new.mode);
    changes.live("audit.sinks", &old.sinks, &new.sinks);
    changes.live("audit.hash_paths", &old.hash_paths, &new.hash_paths);
    changes.live("audit.fingerprint_key", &old.fingerprint_key, &new.fingerprint_key);
    changes.live("audit.handoff", &old.handoff, &new.handoff);
    // The key of this start signs for the whole of its chain.
    changes.restart("audit.checkpoints", &old.checkpoints, &new.checkpoints);
}

fn journal(changes: &mut Changes, old: &Journal, new: &Journal) {
    let Journal { dir, max_size, segment, retain } = new;
    changes.restart("audit.journal.dir", &old.dir, dir);
    changes.live("audit.journal.max_size", &old.max_size, max_size);
    changes.live("audit.journal.segment", &old.segment, segment);
    changes.live("audit.journal.retain", &old.retain, retain);
}

type Pairs<'a, N, T> = BTreeMap<N, (Option<&'a T>, Option<&'a T>)>;

/// What has the same name, old and new.
fn pairs<'a, N: Ord, T>(old: &'a [T], new: &'a [T], name: impl Fn(&T) -> N) -> Pairs<'a, N, T> {
    let mut pairs: Pairs<'a, N, T> = old.iter().map(|old| (name(old), (Some(old), None))).collect();
    for new in new {
        pairs.entry(name(new)).or_default().1 = Some(new);
    }
    pairs
}
