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

/// How often each level has its turn, in the order of the levels; the middle one of the differences within a turn counts, since
/// a machine is not as fast now as it was a second ago.
const TURNS: usize = 25;

/// Adds rows for fresh connections, for one that is kept, and for many that are kept and busy, for each level above `user`. Between
/// the requests of one connection the processor sleeps, and finds nothing in its caches when it wakes; with many it does not.
pub(super) fn measure(plan: &Plan, agent: &Agent, table: &mut Table) -> Outcome<()> {
    let turn = |all: Duration| all / u32::try_from(TURNS).unwrap_or(u32::MAX);
    let span = (turn(plan.warm), turn(plan.load * 3));
    let kept = |count: usize, level: Level| {
        let asked = (count, first(level));
        load::kept(&agent.socket_of(level), agent.request(), asked, span, agent.process())
    };
    let fresh = |level: Level| {
        load::fresh(&agent.socket_of(level), agent.request(), first(level), span, agent.process())
    };
    rows(table, "a request on a kept connection, nothing else going on", [Some(5), None], |level| {
        kept(1, level)
    })?;
    rows(table, "a request on one of 64 busy connections", [Some(5), None], |level| kept(64, level))?;
    rows(table, "a fresh connection and its request", [Some(30), Some(300)], fresh)
}

fn first(level: Level) -> First {
    match level {
        Level::User | Level::Process => First::Plain,
        Level::Program => First::Challenged,
    }
}

/// What one turn of one level cost, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    cpu: f64,
    wall: f64,
}

/// `goals` are those of the levels above `user`, in microseconds.
fn rows(
    table: &mut Table,
    what: &str,
    goals: [Option<u64>; 2],
    mut run: impl FnMut(Level) -> Outcome<Load>,
) -> Outcome<()> {
    let mut turns = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        let mut cost = |level| {
            run(level).map(|load| Cost { cpu: micros(load.cpu_each()), wall: micros(load.times.p50) })
        };
        turns.push((cost(Level::User)?, [cost(Level::Process)?, cost(Level::Program)?]));
    }
    let user = middle(turns.iter().map(|(user, _)| user.cpu));
    for (at, goal) in goals.into_iter().enumerate() {
        let Some(level) = Level::ALL.get(at + 1) else { continue };
        let costs = || turns.iter().filter_map(|(user, others)| Some((user, others.get(at)?)));
        let more = middle(costs().map(|(user, other)| other.cpu - user.cpu));
        let wall = middle(costs().map(|(user, other)| other.wall - user.wall));
        let what = format!("level {}, {what}", level.word());
        let text = format!("{more:+.1} us CPU beside {user:.1} at user; p50 {wall:+.1} us");
        match goal {
            Some(goal) => {
                table.goal(&what, &text, &format!("<= {goal} us"), Bound::AtMost(more, goal as f64));
            }
            None => table.note(&what, &text),
        }
    }
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The middle one.
fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
