//! `cargo bench --bench agent`: how fast, how small and how soon ready the agent is, beside `vault proxy` in the same run.
//!
//! Prints one table and asserts nothing: a slow machine is no failure. The agent and its peer run on one core each their turn,
//! load and Vault on another. `-- --quick` is a short run whose numbers are only a hint; `-- --program FILE` measures a
//! program that is there already; `-- --only audit` measures the journal, its verifier and reads beside a dead receiver alone,
//! `-- --only attestation` what the levels cost, `-- --only broker` what calls of upstreams cost, `-- --only forward` what Vault's own API
//! costs beside `vault proxy`, `-- --only report` how long a report on keys takes.
#![expect(clippy::print_stdout, reason = "its output is the table")]

mod agent;
mod attestation;
mod audit;
mod binary;
mod blackhole;
mod broker;
mod cgroup;
mod disk;
mod flood;
mod load;
mod machine;
mod process;
mod proxy;
mod report;
mod table;
mod vault;
mod verify;

use agent::{Agent, Mode};
use binary::Binaries;
use load::{Load, Times};
use process::{Cores, pause};
use proxy::Proxy;
use std::{path::PathBuf, time::Duration};
use table::{Bound, Table, bytes, micros, rate};
use vault::Vault;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How long each part runs.
struct Plan {
    warm: Duration,
    load: Duration,
    idle: Duration,
    starts: u32,
    syncs: usize,
    events: usize,
    program: Option<PathBuf>,
    parts: Parts,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    All,
    /// The journal, its verifier, and reads beside a dead receiver.
    Audit,
    /// What the levels cost.
    Attestation,
    /// What calls of upstreams cost.
    Broker,
    /// What Vault's own API costs, and `vault proxy` beside it.
    Forward,
    /// How long a report on keys takes.
    Report,
}

/// What `vault proxy` is compared with, at 64 connections.
struct Ours {
    idle: u64,
    strict: Load,
    passed_on: Load,
    held: Load,
}

impl Plan {
    fn of(arguments: &[String]) -> Self {
        let after = |option: &str| arguments.iter().skip_while(|word| *word != option).nth(1);
        let parts = match after("--only").map(String::as_str) {
            Some("audit") => Parts::Audit,
            Some("attestation") => Parts::Attestation,
            Some("broker") => Parts::Broker,
            Some("forward") => Parts::Forward,
            Some("report") => Parts::Report,
            _ => Parts::All,
        };
        let full = Self {
            warm: Duration::from_secs(1),
            load: Duration::from_secs(6),
            idle: Duration::from_secs(30),
            starts: 5,
            syncs: 400,
            events: 400_000,
            program: after("--program").map(PathBuf::from),
            parts,
        };
        if !arguments.iter().any(|word| word == "--quick") {
            return full;
        }
        let second = Duration::from_secs(1);
        Self { load: 2 * second, idle: 5 * second, starts: 3, syncs: 100, events: 100_000, ..full }
    }
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some((_, [first, rest @ ..])) = arguments.split_first().filter(|(_, rest)| !rest.is_empty())
        && first == broker::DIRECT
    {
        return broker::direct(rest);
    }
    if !arguments.iter().any(|word| word == "--bench") {
        println!("nothing measured: this is for `cargo bench --bench agent`");
        return Ok(());
    }
    let plan = Plan::of(&arguments);
    let binaries = Binaries::build(plan.program.as_deref())?;
    let cores = Cores::choose()?;
    let _own = cgroup::Own::enter()?;
    let mut table = Table::new(machine::describe(&binaries, &cores));
    binaries.measure(&mut table);
    match plan.parts {
        Parts::All => measure_all(&plan, &binaries, &cores, &mut table)?,
        Parts::Audit => {
            measure_journal(&plan, &cores, &mut table)?;
            verify::measure(plan.events, &binaries.program, &cores, &mut table)?;
            let vault = Vault::start(&cores)?;
            blackhole::measure(&plan, &binaries.program, &cores, &vault, &mut table)?;
            let agent = Agent::start(&binaries.program, &cores, &vault, Mode::Strict)?;
            flood::measure(&plan, &agent, &mut table)?;
        }
        Parts::Attestation => {
            cores.put_load(std::process::id())?;
            let vault = Vault::start(&cores)?;
            let agent = Agent::start(&binaries.program, &cores, &vault, Mode::Buffered)?;
            attestation::measure(&plan, &agent, &mut table)?;
        }
        Parts::Report => report::measure(&binaries.program, &cores, &mut table)?,
        Parts::Broker => {
            cores.put_load(std::process::id())?;
            let vault = Vault::start(&cores)?;
            broker::measure(&plan, &binaries.program, &cores, &vault, &mut table)?;
        }
        Parts::Forward => {
            cores.put_load(std::process::id())?;
            let vault = Vault::start(&cores)?;
            let agent = Agent::start(&binaries.program, &cores, &vault, Mode::Strict)?;
            pause(Duration::from_secs(3));
            let idle = agent.process().rss()?.all;
            let strict =
                load::run(agent.socket(), agent.request(), 64, (plan.warm, plan.load), agent.process())?;
            let (passed_on, held) = measure_forward(&plan, &agent, &mut table)?;
            drop(agent);
            measure_beside(&plan, &cores, &vault, &Ours { idle, strict, passed_on, held }, &mut table)?;
        }
    }
    println!("{table}");
    Ok(())
}

/// The journal by itself; from then on this process is load. Gives what a sync of this disk takes.
fn measure_journal(plan: &Plan, cores: &Cores, table: &mut Table) -> Outcome<Times> {
    audit::measure(plan.warm, plan.load, table)?;
    cores.put_load(std::process::id())?;
    let sync = disk::sync_latency(plan.syncs)?;
    table.note("fdatasync of this disk, 1 KiB at a time, nothing of ours", &micros(&sync));
    Ok(sync)
}

fn measure_all(plan: &Plan, binaries: &Binaries, cores: &Cores, table: &mut Table) -> Outcome<()> {
    let sync = measure_journal(plan, cores, table)?;
    let vault = Vault::start(cores)?;
    measure_start(plan, binaries, cores, &vault, table)?;
    let agent = Agent::start(&binaries.program, cores, &vault, Mode::Strict)?;
    let idle = measure_idle(plan, &agent, table)?;
    let strict = measure_reads(plan, &agent, table, sync.p99)?;
    let (passed_on, held) = measure_forward(plan, &agent, table)?;
    table.note("RSS after all that load", &bytes(agent.process().rss()?.all));
    flood::measure(plan, &agent, table)?;
    drop(agent);
    let agent = Agent::start(&binaries.program, cores, &vault, Mode::Buffered)?;
    measure_reads(plan, &agent, table, sync.p99)?;
    attestation::measure(plan, &agent, table)?;
    drop(agent);
    blackhole::measure(plan, &binaries.program, cores, &vault, table)?;
    broker::measure(plan, &binaries.program, cores, &vault, table)?;
    verify::measure(plan.events, &binaries.program, cores, table)?;
    report::measure(&binaries.program, cores, table)?;
    measure_beside(plan, cores, &vault, &Ours { idle, strict, passed_on, held }, table)
}

fn measure_beside(plan: &Plan, cores: &Cores, vault: &Vault, ours: &Ours, table: &mut Table) -> Outcome<()> {
    match Proxy::start(cores, vault)? {
        Some(proxy) => measure_proxy(plan, &proxy, ours, table),
        None => {
            table.note("vault proxy", "not measured: tests/lab/build vault");
            Ok(())
        }
    }
}

fn measure_start(
    plan: &Plan,
    binaries: &Binaries,
    cores: &Cores,
    vault: &Vault,
    table: &mut Table,
) -> Outcome<()> {
    let mut took = Vec::new();
    for _ in 0..plan.starts {
        took.push(Agent::start(&binaries.program, cores, vault, Mode::Strict)?.first_secret_after());
    }
    took.sort_unstable();
    let middle = took.get(took.len() / 2).copied().unwrap_or_default();
    let text = format!("{:.1} ms, the middle one of {}", middle.as_secs_f64() * 1e3, took.len());
    table.goal(
        "start to first secret, from exec",
        &text,
        "<= 100 ms",
        Bound::AtMost(middle.as_secs_f64(), 0.1),
    );
    Ok(())
}

/// Gives the idle RSS in bytes.
fn measure_idle(plan: &Plan, agent: &Agent, table: &mut Table) -> Outcome<u64> {
    pause(Duration::from_secs(3));
    let process = agent.process();
    let idle = process.rss()?;
    let text = format!("{} ({} anonymous)", bytes(idle.all), bytes(idle.anonymous));
    let what = format!("idle RSS, three secrets, one identity, {}", agent.transport());
    table.goal(&what, &text, "<= 6.0 MB", Bound::AtMost(idle.all as f64, 6e6));
    let before = process.cpu()?;
    pause(plan.idle);
    let an_hour = process.cpu()?.saturating_sub(before).as_secs_f64() * 3600.0 / plan.idle.as_secs_f64();
    let text = format!("{an_hour:.2} s, from {} s", plan.idle.as_secs());
    table.goal("idle CPU in an hour", &text, "< 1 s", Bound::AtMost(an_hour, 1.0));
    let open = load::open(agent.socket(), agent.request(), 1000)?;
    let busy = process.rss()?;
    drop(open);
    process.wait_for_descriptors(100)?;
    pause(Duration::from_secs(2));
    let after = process.rss()?;
    table.note("RSS with 1,000 connections open, one read on each", &bytes(busy.all));
    let grown = format!("{} ({:+} KiB)", bytes(after.all), kib(after.all) - kib(idle.all));
    let back = Bound::AtMost(after.all as f64, 1.05 * idle.all as f64);
    table.goal("RSS once they are closed", &grown, "as before, give or take 5 %", back);
    Ok(idle.all)
}

fn kib(bytes: u64) -> i64 {
    i64::try_from(bytes / 1024).unwrap_or(i64::MAX)
}

/// Gives the read rate at 64 connections.
fn measure_reads(plan: &Plan, agent: &Agent, table: &mut Table, sync: Duration) -> Outcome<Load> {
    let mode = agent.mode().word();
    let run = |connections| {
        let process = agent.process();
        load::run(agent.socket(), agent.request(), connections, (plan.warm, plan.load), process)
    };
    let (one, many) = (run(1)?, run(64)?);
    let what = format!("cached read, audited, {mode}");
    match agent.mode() {
        Mode::Strict => {
            let allowed = Duration::from_micros(500) + sync;
            let goal = format!("p99 <= 0.5 ms + one fdatasync: {:.1} ms", allowed.as_secs_f64() * 1e3);
            let bound = Bound::AtMost(one.times.p99.as_secs_f64(), allowed.as_secs_f64());
            table.goal(&format!("{what}, 1 connection"), &one.to_string(), &goal, bound);
            let bound = Bound::AtLeast(many.rate(), 20_000.0);
            table.goal(&format!("{what}, 64 connections"), &many.to_string(), ">= 20,000/s", bound);
        }
        Mode::Buffered => {
            let bound = Bound::AtMost(one.times.p50.as_secs_f64(), 80e-6);
            table.goal(&format!("{what}, 1 connection"), &one.to_string(), "p50 <= 80 us", bound);
            let bound = Bound::AtLeast(many.rate(), 50_000.0);
            table.goal(&format!("{what}, 64 connections"), &many.to_string(), ">= 50,000/s", bound);
        }
    }
    Ok(many)
}

/// Gives both at 64 connections: what is passed on to Vault, and what the cache answers.
fn measure_forward(plan: &Plan, agent: &Agent, table: &mut Table) -> Outcome<(Load, Load)> {
    let run = |request: &[u8], connections| {
        let process = agent.process();
        load::run(agent.socket(), request, connections, (plan.warm, plan.load), process)
    };
    let mut measure = |what: &str, request: &[u8]| {
        let (one, many) = (run(request, 1)?, run(request, 64)?);
        let what = format!("{what}, audited, {}", agent.mode().word());
        table.note(&format!("{what}, 1 connection"), &one.to_string());
        table.note(&format!("{what}, 64 connections"), &many.to_string());
        Outcome::Ok(many)
    };
    let passed_on = measure("KV read passed on to Vault", agent.passed_on())?;
    let held = measure("cached token in Vault's API", &agent.held())?;
    table.note("RSS after Vault's API under load", &bytes(agent.process().rss()?.all));
    Ok((passed_on, held))
}

fn measure_proxy(plan: &Plan, proxy: &Proxy, ours: &Ours, table: &mut Table) -> Outcome<()> {
    let Ours { idle, strict, passed_on, held } = ours;
    pause(Duration::from_secs(3));
    let theirs = proxy.process().rss()?;
    let ratio = theirs.all as f64 / *idle as f64;
    let text =
        format!("{} ({} anonymous): {ratio:.1} times ours", bytes(theirs.all), bytes(theirs.anonymous));
    table.goal("vault proxy: idle RSS", &text, "ours <= 1/20 of it", Bound::AtLeast(ratio, 20.0));
    for (what, request) in [("KV read (never cached)", proxy.kv()), ("cached token", proxy.token())] {
        for connections in [1, 64] {
            let span = (plan.warm, plan.load);
            let theirs = load::run(proxy.socket(), request, connections, span, proxy.process())?;
            let plural = if connections == 1 { "" } else { "s" };
            let name = format!("vault proxy: {what}, {connections} connection{plural}, no audit");
            let beside = if connections == 64 {
                format!("; our strict read: {:.1} times as many", strict.rate() / theirs.rate())
            } else {
                String::new()
            };
            table.note(&name, &format!("{theirs}{beside}"));
            if connections == 64 && request == proxy.kv() {
                let share = passed_on.cpu_each().as_secs_f64() / theirs.cpu_each().as_secs_f64();
                let goal = Bound::AtMost(share, 1.0 / 3.0);
                let name = "KV read passed on, 64 connections: CPU of ours for one of vault proxy's";
                table.goal(name, &format!("{share:.2}"), "<= 1/3", goal);
            }
            if connections == 64 && request == proxy.token() {
                let times = held.rate() / theirs.rate();
                let name =
                    "cached token, 64 connections: our rate, with the record on disk, for vault proxy's";
                table.goal(name, &format!("{times:.2}"), ">= 3", Bound::AtLeast(times, 3.0));
            }
        }
    }
    table.note("vault proxy: RSS after all that load", &bytes(proxy.process().rss()?.all));
    table.note("our strict read, 64 connections, again", &rate(strict.rate()));
    Ok(())
}
