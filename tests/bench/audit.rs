//! The journal by itself: synced events a second, and how long a caller waits for its own, through the library.
//!
//! Callers and journal share this process and all cores that it may use; nothing listens, no sink reads behind.

use super::{
    Outcome, disk,
    load::Times,
    table::{Bound, Table, micros, rate},
    verify,
};
use claviger::{
    audit::{Audit, Error},
    policy::rule::AuditMode,
};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What one run gave.
struct Run {
    rate: f64,
    times: Times,
}

/// Has 1, 8 and 64 callers record reads for `span` each, one after the other's receipt.
pub(super) fn measure(warm: Duration, span: Duration, table: &mut Table) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (callers, goal) in [(1, None), (8, Some(20_000_u32)), (64, Some(50_000))] {
        runtime.block_on(run(callers, warm))?;
        let Run { rate: found, times } = runtime.block_on(run(callers, span))?;
        let plural = if callers == 1 { "" } else { "s" };
        let what = format!("strict events on disk, {callers} caller{plural}, all cores");
        let text = format!("{}, {}", rate(found), micros(&times));
        match goal {
            None => table.note(&what, &text),
            Some(goal) => {
                let bound = Bound::AtLeast(found, f64::from(goal));
                table.goal(&what, &text, &format!(">= {}", rate(f64::from(goal))), bound);
            }
        }
        if callers == 8 {
            let bound = Bound::AtMost(times.p99.as_secs_f64(), 2e-3);
            table.goal("what that adds to a read, 8 callers", &micros(&times), "p99 <= 2 ms", bound);
        }
    }
    Ok(())
}

async fn run(callers: usize, span: Duration) -> Outcome<Run> {
    let folder = tempfile::tempdir_in(disk::folder())?;
    let audit = Audit::open(&verify::settings(folder.path(), AuditMode::Strict), |_| {})?;
    let event = verify::event()?;
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..callers {
        let (audit, event) = (audit.clone(), event.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < span {
                let asked = Instant::now();
                audit.record(event.clone(), AuditMode::Strict).await?;
                times.push(asked.elapsed());
            }
            Ok::<_, Error>(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times??);
    }
    let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
    audit.close().await?;
    Ok(Run { rate, times: Times::of(all) })
}
