//! What it costs to know a peer more surely: the same reads at two levels, in turns.
//!
//! Compares processor time of the agent for one answer, which waits and the load's own work do not blur.

use super::{
    Outcome, Plan,
    agent::{Agent, Level},
    load::{self, Load},
    table::{Bound, Table},
};
use std::time::Duration;

/// How often each level has its turn; the middle one counts.
const TURNS: usize = 5;

/// Adds a row for fresh connections and one for a kept one.
pub(super) fn measure(plan: &Plan, agent: &Agent, table: &mut Table) -> Outcome<()> {
    let span = (plan.warm / 2, plan.load / 3);
    let kept = |level| load::run(&agent.socket_of(level), agent.request(), 1, span, agent.process());
    let fresh = |level| load::fresh(&agent.socket_of(level), agent.request(), span, agent.process());
    row(table, "a request on a kept connection", 5, kept)?;
    row(table, "a fresh connection and its request", 30, fresh)
}

fn row(
    table: &mut Table,
    what: &str,
    goal_us: u64,
    mut run: impl FnMut(Level) -> Outcome<Load>,
) -> Outcome<()> {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (level, took) in Level::ALL.into_iter().zip(&mut took) {
            took.push(run(level)?.cpu_each());
        }
    }
    let [user, process] = took.map(|mut took| {
        took.sort_unstable();
        took.get(TURNS / 2).copied().unwrap_or_default()
    });
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let more = micros(process) - micros(user);
    let text = format!("{more:+.1} us CPU ({:.1} at user, {:.1} at process)", micros(user), micros(process));
    let goal = format!("<= {goal_us} us");
    table.goal(&format!("level process, {what}"), &text, &goal, Bound::AtMost(more, goal_us as f64));
    Ok(())
}
