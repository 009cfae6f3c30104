//! The agent as a process: its config, its start, the events that it prints, its stop.
//!
//! Does not ask it for secrets: `scenes` does.

use crate::{
    events::Line,
    people::{People, Person},
    prepare::Prepared,
    upstream::Upstream,
    vault::Server,
};
use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

/// What a renewal may take to come: two thirds of a lifetime are usual, and the longest is 30 s.
const EVENT: Duration = Duration::from_secs(60);
/// What a stop may take: the agent's own limit is below.
const STOP: Duration = Duration::from_secs(15);

/// The running agent.
pub(crate) struct Agent {
    /// The socket of `report-job`.
    pub(crate) report_job: PathBuf,
    /// The socket of `billing-agent`.
    pub(crate) billing_agent: PathBuf,
    /// Every event so far, in order.
    pub(crate) events: Vec<Line>,
    child: Child,
    pid: u32,
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

/// Writes its files and starts it.
pub(crate) async fn start(
    server: &Server,
    prepared: &Prepared,
    people: &People,
    api: &Upstream,
) -> Result<Agent> {
    let home = server.home.path();
    let run = people.agent.folder(home, "run")?;
    let sockets = [people.agent.folder(&run, "report-job")?, people.agent.folder(&run, "billing-agent")?];
    let [report_job, billing_agent] = sockets.map(|folder| folder.join("claviger.sock"));
    let config = config(server, prepared, people, api, [&report_job, &billing_agent])?;
    let file = people.agent.file(home, "config.yaml", &serde_json::to_string_pretty(&config)?)?;
    let log = home.join("agent.log");
    let arguments = ["run", "--config", file.to_str().context("a folder whose name is no text")?];
    let mut command = people.agent.claviger(&arguments);
    command.stdout(Stdio::piped()).stderr(File::create(&log)?);
    let mut child = command.spawn().context("starting a process")?;
    let pid = child.id().context("it ended at once")?;
    let lines = BufReader::new(child.stdout.take().context("its output is missing")?).lines();
    let mut agent = Agent { report_job, billing_agent, events: Vec::new(), child, pid, lines, log };
    if let Err(error) = agent.event(|line| line.is("agent.started")).await {
        bail!("{error:#}; its log:\n{}", agent.last_log_lines());
    }
    Ok(agent)
}

/// JSON is YAML too.
fn config(
    server: &Server,
    prepared: &Prepared,
    people: &People,
    api: &Upstream,
    [report_job, billing_agent]: [&Path; 2],
) -> Result<serde_json::Value> {
    let home = server.home.path();
    let (role_id, secret_id) = &prepared.ids;
    let role_id = people.agent.file(home, "role_id", role_id)?;
    let secret_id = people.agent.file(home, "secret_id", secret_id)?;
    let mut vault = json!({"addresses": [server.address]});
    if let Some(vault) = vault.as_object_mut() {
        vault.extend(server.namespace.iter().map(|it| ("namespace".to_owned(), json!(it))));
        if let Some(file) = &server.ca_file {
            // A copy: the agent's uid may not reach the user's own files.
            let pem = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            vault.insert("ca_file".to_owned(), json!(people.agent.file(home, "vault-ca.pem", &pem)?));
        }
        if server.is_plain() && !server.is_here() {
            vault.insert("insecure_http".to_owned(), json!(true));
        }
    }
    let workload = |socket: &Path, person: Person, rules: serde_json::Value| {
        json!({
            "socket": {"path": socket}, "peer": {"uid": person.uid, "gid": person.gid}, "rules": rules,
        })
    };
    let api_ca = people.agent.file(home, "api-ca.pem", &api.ca)?;
    let keys = json!([{"name": "keys", "secrets": ["stripe", prepared.dynamic_secret()]}]);
    // The key that report-job reads is one that billing-agent may use.
    let hooks = json!([
        {"name": "hooks", "secrets": ["webhook"]},
        {"name": "charges", "upstream": "billing-api", "methods": ["POST"], "paths": ["v1/charges"]},
    ]);
    Ok(json!({
        "vault": vault,
        "identities": prepared.identities(&role_id, &secret_id),
        "secrets": prepared.secrets(),
        "upstreams": {"billing-api": {
            "url": format!("https://{}", api.address), "ca_file": api_ca, "allow_cidrs": ["127.0.0.0/8"],
            "inject": {"secret": "stripe", "header": "Authorization", "format": "Bearer {}"},
        }},
        "workloads": {
            "report-job": workload(report_job, people.report_job, keys),
            "billing-agent": workload(billing_agent, people.billing_agent, hooks),
        },
        "audit": {"journal": {"dir": people.agent.folder(home, "audit")?}},
        "health": {"listen": "127.0.0.1:0"},
    }))
}

impl Agent {
    /// One line about it, for the reader.
    pub(crate) fn said(&self, people: &People) -> String {
        let one = |name: &str, person: Person| format!("{name} (uid {})", person.uid);
        format!(
            "pid {}, uid {}; a socket each for {} and {}",
            self.pid,
            people.agent.uid,
            one("report-job", people.report_job),
            one("billing-agent", people.billing_agent)
        )
    }

    /// The first event that fits, waited for if it is not there yet.
    pub(crate) async fn event(&mut self, fits: impl Fn(&Line) -> bool) -> Result<Line> {
        if let Some(line) = self.events.iter().find(|line| fits(line)) {
            return Ok(line.clone());
        }
        let read = async {
            while let Some(text) = self.lines.next_line().await? {
                let line = Line::parse(text)?;
                self.events.push(line.clone());
                if fits(&line) {
                    return Ok(line);
                }
            }
            bail!("the agent's events ended")
        };
        tokio::time::timeout(EVENT, read).await.context("the event that was waited for did not come")?
    }

    /// Stops it as Kubernetes would, and reads its events to their end.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGTERM).context("asking the agent to stop")?;
        let ended = async {
            while let Some(text) = self.lines.next_line().await? {
                self.events.push(Line::parse(text)?);
            }
            anyhow::Ok(self.child.wait().await?)
        };
        let status = tokio::time::timeout(STOP, ended).await.context("the agent did not stop")??;
        anyhow::ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn last_log_lines(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }
}
