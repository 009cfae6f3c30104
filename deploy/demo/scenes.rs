//! What is shown, in order; each scene fails if what it shows is not so.
//!
//! Asks the agent only as a workload can: by a process of its own, over the socket.

use crate::{
    agent::Agent,
    events::Line,
    people::{People, Person},
    prepare::{API_KEY, Dynamic, Prepared},
    screen::Screen,
};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;

/// What a client command came to.
struct Asked {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Everything.
pub(crate) async fn all(
    screen: &Screen,
    agent: &mut Agent,
    prepared: &Prepared,
    people: &People,
) -> Result<()> {
    permitted(screen, agent, people).await?;
    refused(screen, agent, people).await?;
    used(screen, agent, people).await?;
    renewed(screen, agent, prepared, people).await?;
    token_renewed(screen, agent).await?;
    agent.stop().await?;
    on_record(screen, agent, prepared, people)
}

async fn permitted(screen: &Screen, agent: &Agent, people: &People) -> Result<()> {
    screen.title("1. A permitted process reads an API key over its socket");
    let who = format!("report-job, uid {}", people.report_job.uid);
    // `--wait`: the first answer of a Vault may take a moment.
    let asked = ask(people.report_job, &agent.report_job, &["stripe", "--wait", "20s"]).await?;
    screen.typed(&who, "claviger get stripe");
    ensure!(asked.code == Some(0) && asked.out.trim_end() == API_KEY, "it got no key: {}", asked.err);
    screen.line(asked.out.trim_end());
    Ok(())
}

async fn refused(screen: &Screen, agent: &Agent, people: &People) -> Result<()> {
    let title = if people.differ() {
        "2. Another uid is refused, on that socket by the kernel's word and on its own by policy"
    } else {
        "2. Another socket's workload is refused (a second uid needs root with all its rights)"
    };
    screen.title(title);
    let mut tries = vec![("billing-agent's socket", &agent.billing_agent, "(reason no_rule,")];
    if people.differ() {
        tries.insert(0, ("report-job's socket", &agent.report_job, "(reason uid,"));
    }
    for (place, socket, reason) in tries {
        let asked = ask(people.billing_agent, socket, &["stripe"]).await?;
        let who = format!("billing-agent, uid {}, at {place}", people.billing_agent.uid);
        screen.typed(&who, "claviger get stripe");
        let said = asked.err.lines().next().unwrap_or_default();
        ensure!(asked.code == Some(3) && asked.out.is_empty(), "it was not refused: {said}");
        ensure!(said.contains(reason), "it was refused for another reason: {said}");
        screen.line(&format!("{said}, exit code 3"));
    }
    Ok(())
}

async fn used(screen: &Screen, agent: &mut Agent, people: &People) -> Result<()> {
    screen.title("3. That workload calls an API with the key that it could not read");
    let socket = agent.billing_agent.to_str().context("a folder whose name is no text")?;
    let path = "/upstreams/billing-api/v1/charges";
    let output = people.billing_agent.caller(socket, path).output().await.context("starting a process")?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let who = format!("billing-agent, uid {}", people.billing_agent.uid);
    screen.typed(&who, &format!("POST {path}"));
    ensure!(output.status.success(), "it was not called: {out}{}", String::from_utf8_lossy(&output.stderr));
    let masked = format!("\"authorization\":\"Bearer {}\"", "*".repeat(API_KEY.len()));
    ensure!(out.contains("\"did\":\"POST /v1/charges\"") && out.contains(&masked), "another answer: {out}");
    screen.line(&out);
    screen.line("the API had the key, and said so; what it gave back of it is masked on the way");
    agent.event(|line| line.is("upstream.result")).await?;
    Ok(())
}

async fn renewed(screen: &Screen, agent: &mut Agent, prepared: &Prepared, people: &People) -> Result<()> {
    screen.title(match prepared.dynamic() {
        Dynamic::DatabaseLogin => "4. A dynamic lease is renewed before it ends, and stays the same login",
        Dynamic::ChildToken => "4. A child token is renewed before it ends, and stays the same token",
    });
    let secret = prepared.dynamic_secret();
    // Only the fields that may be shown: the password is compared, not printed.
    let (args, shown): (&[&str], _) = match prepared.dynamic() {
        Dynamic::DatabaseLogin => (&[secret, "--field", "username"], "the user"),
        Dynamic::ChildToken => (&[secret], "a child token (this Vault cannot reach a database here)"),
    };
    let first = ask(people.report_job, &agent.report_job, &[args, &["--wait", "20s"]].concat()).await?;
    ensure!(first.code == Some(0), "there is no lease: {}", first.err);
    let line = agent.event(|line| line.is("lease.renewed") && line.is_about(secret)).await?;
    ensure!(line.text_at("/outcome") == "allow", "the renewal failed: {}", line.text);
    let second = ask(people.report_job, &agent.report_job, args).await?;
    ensure!(second.out == first.out, "the lease was replaced, not renewed");
    let what = match prepared.dynamic() {
        Dynamic::DatabaseLogin => format!("{shown} {}", first.out.trim_end()),
        Dynamic::ChildToken => shown.to_owned(),
    };
    let seconds = line.number_at("/vault/ttl").context("the event has no ttl")?;
    screen.line(&format!("{secret}: {what}, renewed for {seconds} s"));
    Ok(())
}

async fn token_renewed(screen: &Screen, agent: &mut Agent) -> Result<()> {
    screen.title("5. The agent's own token is renewed; no workload ever sees it");
    let line = agent.event(|line| line.is("auth.renew")).await?;
    ensure!(line.text_at("/outcome") == "allow", "the renewal failed: {}", line.text);
    let seconds = line.number_at("/vault/ttl").context("the event has no ttl")?;
    screen.line(&format!("identity {}, renewed for {seconds} s", line.text_at("/identity")));
    Ok(())
}

/// The events of everything above, each once, in the order of the journal.
fn on_record(screen: &Screen, agent: &Agent, prepared: &Prepared, people: &People) -> Result<()> {
    screen.title("6. All of it is on record, in a journal on disk before the answer was sent");
    let secret = prepared.dynamic_secret();
    let mut wanted: Vec<(&str, Option<&str>)> = vec![
        ("agent.started", None),
        ("auth.login", None),
        ("secret.read", Some("stripe")),
        ("secret.denied", None),
        ("upstream.intent", Some("stripe")),
        ("upstream.result", Some("stripe")),
        ("secret.read", Some(secret)),
        ("lease.renewed", Some(secret)),
        ("auth.renew", None),
        ("auth.revoke", None),
        ("agent.stopped", None),
    ];
    if people.differ() {
        wanted.push(("peer.rejected", None));
    }
    let mut lines: Vec<&Line> = Vec::new();
    for (kind, about) in wanted {
        let fits = |line: &&Line| line.is(kind) && about.is_none_or(|secret| line.is_about(secret));
        let line = agent.events.iter().find(fits);
        lines.push(line.with_context(|| format!("there is no event {kind} {}", about.unwrap_or_default()))?);
    }
    lines.sort_by_key(|line| line.text_at("/seq"));
    for line in lines {
        screen.line(&line.short());
    }
    let whole = agent.events.iter().find(|line| line.is("secret.read")).context("there is no read")?;
    screen.line("and the read in full:");
    screen.line(&whole.text);
    ensure!(agent.events.iter().all(|line| !line.text.contains(API_KEY)), "an event holds the key");
    Ok(())
}

/// `claviger get` as a process of `person`'s.
async fn ask(person: Person, socket: &Path, arguments: &[&str]) -> Result<Asked> {
    let socket = socket.to_str().context("a folder whose name is no text")?;
    let command = [&["get"], arguments, &["--socket", socket]].concat();
    let output = person.claviger(&command).output().await.context("starting a process")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Asked { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}
