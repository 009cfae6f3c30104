//! What it costs to know a peer more surely: the same reads at several levels, in turns.
//!
//! Compares processor time of the agent and its attestor for one answer, which waits and the load's own work do not blur.

use super::{
    Outcome, Plan,
    agent::{Agent, Level},
    load::{self, First, Load},
    table::{Bound, Table},
};
use std::time::Duration;

/// How often each level has its turn; the middle one counts.
const TURNS: usize = 5;

/// Adds a row for fresh connections and one for a kept one, for each level above `user`.
pub(super) fn measure(plan: &Plan, agent: &Agent, table: &mut Table) -> Outcome<()> {
    let span = (plan.warm / 2, plan.load / 3);
    let kept = |level: Level| {
        load::kept(&agent.socket_of(level), agent.request(), first(level), span, agent.process())
    };
    let fresh = |level: Level| {
        load::fresh(&agent.socket_of(level), agent.request(), first(level), span, agent.process())
    };
    rows(table, "a request on a kept connection", [Some(5), None], kept)?;
    rows(table, "a fresh connection and its request", [Some(30), Some(300)], fresh)
}

fn first(level: Level) -> First {
    match level {
        Level::User | Level::Process => First::Plain,
        Level::Program => First::Challenged,
    }
}

/// `goals` are those of the levels above `user`, in microseconds.
fn rows(
    table: &mut Table,
    what: &str,
    goals: [Option<u64>; 2],
    mut run: impl FnMut(Level) -> Outcome<Load>,
) -> Outcome<()> {
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (level, took) in Level::ALL.into_iter().zip(&mut took) {
            let load = run(level)?;
            took.push((load.cpu_each(), load.times.p50));
        }
    }
    let [user, others @ ..] = took.map(|took| {
        let (cpu, wall) = took.into_iter().unzip();
        (middle(cpu), middle(wall))
    });
    for ((level, (cpu, wall)), goal) in Level::ALL.into_iter().skip(1).zip(others).zip(goals) {
        let more = cpu - user.0;
        let what = format!("level {}, {what}", level.word());
        let times = format!("p50 {wall:.0} us, {:.0} at user", user.1);
        let text = format!("{more:+.1} us CPU ({cpu:.1}, {:.1} at user); {times}", user.0);
        match goal {
            Some(goal) => {
                table.goal(&what, &text, &format!("<= {goal} us"), Bound::AtMost(more, goal as f64));
            }
            None => table.note(&what, &text),
        }
    }
    Ok(())
}

/// The middle one, in microseconds.
fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(TURNS / 2).map(|time| time.as_secs_f64() * 1e6).unwrap_or_default()
}
