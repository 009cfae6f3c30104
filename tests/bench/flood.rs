//! A flood of refusals from a permitted uid (the fault case A14): what one costs, and how the journal grows.

use super::{
    Outcome, Plan,
    agent::Agent,
    load,
    table::{Bound, Table, bytes, rate},
};
use std::time::Instant;

/// Refusals a second that one core must bear.
const FLOOD: f64 = 50_000.0;

/// Has the agent refuse on 64 connections as fast as it can.
pub(super) fn measure(plan: &Plan, agent: &Agent, table: &mut Table) -> Outcome<()> {
    let (before, started) = (agent.journal_bytes()?, Instant::now());
    let spans = (plan.warm, plan.load);
    let load = load::refused(agent.socket(), &agent.forbidden(), 64, spans, agent.process())?;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let each = load.cpu_each().as_secs_f64();
    table.goal(
        "refusals, 64 connections",
        &load.to_string(),
        &format!("{} in one core: <= 20 us CPU each", rate(FLOOD)),
        Bound::AtMost(each, 1.0 / FLOOD),
    );
    let a_minute = agent.journal_bytes()?.saturating_sub(before) as f64 / minutes;
    table.goal(
        "what they add to the journal",
        &format!("{} a minute, the first burst included", bytes(a_minute as u64)),
        "< 1 MiB a minute",
        Bound::AtMost(a_minute, 1024.0 * 1024.0),
    );
    Ok(())
}
