//! `claviger audit verify` over a journal that the library wrote: events a second on one core, by the program itself.

use super::{
    Outcome, disk,
    process::Cores,
    table::{Bound, Table, rate},
};
use claviger::{
    audit::{
        Audit, Journal, Settings,
        event::{Actor, Cache, Event, Outcome as Ended, Resource, RuleRef, Type},
    },
    clock,
    name::{IdentityName, RuleName, SecretName, WorkloadName},
    peer::level::Level,
    policy::rule::AuditMode,
};
use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Writers at a time: the journal takes what they say in large batches.
const WRITERS: usize = 512;

/// Writes `count` events of reads, as large as they are in life, and verifies them.
pub(super) fn measure(count: usize, program: &Path, cores: &Cores, table: &mut Table) -> Outcome<()> {
    let folder = tempfile::tempdir_in(disk::folder())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let size = runtime.block_on(write(count, folder.path()))?;
    table.note("journal bytes of one event of a read", &format!("{} bytes", size / count as u64));
    let mut took = Vec::new();
    for _ in 0..5 {
        let mut command = cores.measured(program);
        command.args(["audit", "verify"]).arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let started = Instant::now();
        let status = command.status()?;
        took.push(started.elapsed());
        if !status.success() {
            return Err(format!("verify ended with {status}").into());
        }
    }
    took.sort_unstable();
    let middle = took.get(took.len() / 2).copied().unwrap_or_default().as_secs_f64();
    let found = count as f64 / middle;
    let text = format!("{} ({count} events, the middle one of {})", rate(found), took.len());
    table.goal("audit verify, one core", &text, ">= 200,000/s", Bound::AtLeast(found, 200_000.0));
    Ok(())
}

/// Gives the journal's bytes.
async fn write(count: usize, dir: &Path) -> Outcome<u64> {
    let audit = Audit::open(&settings(dir, AuditMode::Buffered), |_| {})?;
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let audit = audit.clone();
        let event = event()?;
        writers.spawn(async move {
            for _ in 0..count / WRITERS {
                audit.record(event.clone(), AuditMode::Buffered).await?;
            }
            Ok::<(), claviger::audit::Error>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    for _ in 0..count % WRITERS {
        audit.record(event()?, AuditMode::Buffered).await?;
    }
    audit.close().await?;
    let files = std::fs::read_dir(dir)?.filter_map(|entry| entry.ok()?.metadata().ok());
    // What is held back is taken for the journal and not for events.
    let held_back = std::fs::metadata(dir.join("reserve")).map_or(0, |found| found.len());
    Ok(files.map(|found| found.len()).sum::<u64>().saturating_sub(held_back))
}

/// A journal of 4 GiB in `dir`, without a sink.
pub(super) fn settings(dir: &Path, mode: AuditMode) -> Settings {
    Settings {
        mode,
        journal: Journal { dir: dir.to_owned(), max_size: 4 << 30, segment: 4 << 20, retain: Duration::ZERO },
        sinks: Vec::new(),
        workloads: 1,
        source: "urn:claviger:payments-api-7c9d/claviger".into(),
        hash_paths: false,
        pod: None,
        fingerprint_key: None,
        checkpoints: None,
        handoff: None,
    }
}

/// A read, as large as it is in life.
pub(super) fn event() -> Outcome<Event> {
    let mut event = Event::new(Type::SecretRead, Ended::Allow, clock::now());
    event.workload = Some(WorkloadName::new("report-job")?);
    event.identity = Some(IdentityName::new("reports")?);
    event.actor = Some(Actor {
        uid: 20_001,
        gid: 20_001,
        pid: Some(4_242),
        start_time: Some(118_273),
        pidfd_ino: Some(88_123),
        level: Level::Process,
        exe_sha256: None,
        container: None,
    });
    event.resource = Some(Resource {
        operation: None,
        secret: Some(SecretName::new("stripe")?),
        kind: Some("kv"),
        mount: Some("secret".into()),
        path: Some("secret/payments/stripe".into()),
        fingerprint: None,
        field: Some("api_key".into()),
        version: Some(7),
        lease_id_hash: None,
    });
    event.rule = Some(RuleRef {
        name: RuleName::new("payments-stripe")?,
        revision: "sha256:77ab0123456789ab".into(),
        mode: AuditMode::Strict,
    });
    event.cache = Some(Cache { hit: true, age: Duration::from_millis(812) });
    event.latency = Some(Duration::from_micros(183));
    Ok(event)
}
