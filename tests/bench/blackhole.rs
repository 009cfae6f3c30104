//! A strict read while a required receiver is in a black hole, beside one without a receiver: the same program, the same
//! secrets, in turns. The structural proof that no request waits for a sink is a test; this is what it costs.

use super::{
    Outcome, Plan,
    agent::{Agent, Mode, Sinks},
    load,
    process::Cores,
    table::{Bound, Table},
    vault::Vault,
};
use std::{net::TcpListener, path::Path, time::Duration};

/// Turns of each, of which the middle one counts.
const TURNS: usize = 5;

/// Takes turns with both agents.
pub(super) fn measure(
    plan: &Plan,
    program: &Path,
    cores: &Cores,
    vault: &Vault,
    table: &mut Table,
) -> Outcome<()> {
    // The kernel takes connections for it, and nobody ever reads or answers.
    let hole = TcpListener::bind("127.0.0.1:0")?;
    let beside = Sinks::BlackHole(hole.local_addr()?);
    let without = Agent::start_with(program, cores, vault, Mode::Strict, Sinks::Roomy)?;
    let with = Agent::start_with(program, cores, vault, Mode::Strict, beside)?;
    for connections in [1, 8] {
        let mut p99s: [Vec<Duration>; 2] = Default::default();
        for _ in 0..TURNS {
            for (agent, p99s) in [&without, &with].into_iter().zip(&mut p99s) {
                let spans = (plan.warm, plan.load);
                let load = load::run(agent.socket(), agent.request(), connections, spans, agent.process())?;
                p99s.push(load.times.p99);
            }
        }
        let [without, with] = p99s.map(|mut p99s| {
            p99s.sort_unstable();
            p99s.get(p99s.len() / 2).copied().unwrap_or_default().as_secs_f64()
        });
        let plural = if connections == 1 { "" } else { "s" };
        table.goal(
            &format!(
                "strict read, p99, a required receiver in a black hole, {connections} connection{plural}"
            ),
            &format!("{:.0} us; without it {:.0} us (the middle ones of {TURNS})", with * 1e6, without * 1e6),
            "<= 15 % more",
            Bound::AtMost(with, without * 1.15),
        );
    }
    Ok(())
}
