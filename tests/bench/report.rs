//! `claviger report keys` over a record of ten thousand different uses, by the program itself: how long it takes.

use super::{
    Outcome, disk,
    process::Cores,
    table::{Bound, Table},
    verify,
};
use claviger::{
    audit::{
        Audit,
        event::{Actor, Event, Outcome as Ended, Resource, RuleRef, Type},
    },
    clock,
    name::{RuleName, WorkloadName},
    peer::level::Level,
    policy::rule::AuditMode,
};
use std::{path::Path, process::Stdio, time::Instant};

/// As many rows as a ledger has.
const ROWS: usize = claviger::usage::MOST;

/// A config with one rule, by which all of them were had.
const CONFIG: &str = "vault: {addresses: [\"http://127.0.0.1:1\"]}
identities: {reports: {method: token_file, token_file: /nowhere}}
workloads:
  job:
    socket: {path: /run/claviger/job.sock}
    peer: {uid: 1}
    rules:
    - {name: tree, vault: {identity: reports, paths: [\"secret/data/reports/*\"], methods: [GET]}}
";

/// Writes the record, and has it reported on as a page.
pub(super) fn measure(program: &Path, cores: &Cores, table: &mut Table) -> Outcome<()> {
    let folder = tempfile::tempdir_in(disk::folder())?;
    let (journal, config) = (folder.path().join("audit"), folder.path().join("config.yaml"));
    std::fs::create_dir(&journal)?;
    std::fs::write(&config, format!("{CONFIG}audit: {{journal: {{dir: \"{}\"}}}}\n", journal.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(write(&journal))?;
    let mut took = Vec::new();
    for _ in 0..5 {
        let mut command = cores.measured(program);
        command.args(["report", "keys", "--format", "html", "--config"]).arg(&config);
        let started = Instant::now();
        let ran = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        took.push(started.elapsed());
        let page = ran.stdout.len();
        if !ran.status.success() || page < ROWS * 50 {
            return Err(format!("the report ended with {} and {page} bytes", ran.status).into());
        }
    }
    took.sort_unstable();
    let middle = took.get(took.len() / 2).copied().unwrap_or_default().as_secs_f64();
    let text = format!("{:.0} ms ({ROWS} rows, the middle one of {})", middle * 1000.0, took.len());
    table.goal("report keys, as a page", &text, "<= 1 s", Bound::AtMost(middle, 1.0));
    Ok(())
}

async fn write(dir: &Path) -> Outcome<()> {
    let audit = Audit::open(&verify::settings(dir, AuditMode::Buffered), |_| {})?;
    for number in 0..ROWS {
        audit.record(event(number)?, AuditMode::Buffered).await?;
    }
    audit.close().await?;
    Ok(())
}

fn event(number: usize) -> Outcome<Event> {
    let mut event = Event::new(Type::VaultCalled, Ended::Allow, clock::now());
    event.workload = Some(WorkloadName::new("job")?);
    let (uid, gid, level) = (1, 1, Level::Process);
    event.actor = Some(Actor {
        uid,
        gid,
        pid: Some(7),
        start_time: None,
        pidfd_ino: None,
        level,
        exe_sha256: None,
        container: None,
    });
    event.rule = Some(RuleRef {
        name: RuleName::new("tree")?,
        revision: "sha256:77ab".to_owned(),
        mode: AuditMode::Buffered,
    });
    event.resource = Some(Resource {
        operation: Some("read"),
        path: Some(format!("secret/data/reports/{number}")),
        ..Resource::default()
    });
    Ok(event)
}
