//! `rotation now`: a person's wish for a run, written into the journal; an agent does the rest.
//!
//! Where the run needs a yes, the agent asks for it, and this waits until it has.

use super::{super::answer, Source, chosen, desk::at_desk, load, name};
use crate::{
    cli::exit::{Exit, Failure},
    clock::rfc3339,
    name::RotationName,
    rotation::{
        asked::{Asked, Stand},
        desk::{Desk, Error},
    },
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// An agent looks at the journal each half minute at least.
const PATIENCE: Duration = Duration::from_secs(45);

/// Ask for a run outside of the schedule
///
/// Writes the wish into the journal; a running agent begins within half a minute, unless the last success is nearer than
/// min_interval. The reason is in the events of the run. Where the rotation names an approval, an agent asks persons first:
/// their request's id is the answer, and the run begins within seconds of their yes.
///
/// With --dry-run nothing is asked for and nothing changes: it shows what the run would do step by step, and looks at what can be looked at:
/// the journal, the rights of the identity in Vault, whether the system can be reached and accepts what consumers read, the lease,
/// approvals, blackouts, the group's distance.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger rotation now webhook --reason 'leaked in a log' --config /etc/claviger/config.yaml
  claviger rotation now orders-db --reason 'leaked in a log' --config config.yaml --json
  claviger rotation now orders-db --dry-run --config config.yaml       what would be done, and what is in its way

Exit codes: 0 asked for, or with --dry-run it would begin, at once or later; 1 failed, or it would not begin; 2 wrong command line, 64 bad config")]
pub(super) struct Args {
    /// Which rotation
    #[arg(value_parser = name)]
    pub(super) name: RotationName,
    /// Why, for the record and for whoever must say yes
    #[arg(long, value_parser = reason, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Show what would be done and what stands in its way, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) source: Source,
    /// As one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What came of it.
enum Said {
    /// An agent begins.
    Begins,
    /// Persons are asked.
    Waits(Box<Asked>),
    /// No agent has asked them yet.
    Unasked,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let reason = match &args.reason {
        Some(reason) if !args.dry_run => reason,
        _ => return super::rehearse::run(args),
    };
    let config = match load(&args.source.config) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let chosen = chosen(&config, Some(&args.name))?;
    let [settings] = *chosen.as_slice() else { return Ok(Exit::Failed) };
    let needs_yes = settings.consent.as_ref().is_some_and(|consent| !consent.settings.observe);
    let said = at_desk(&config, settings, async |desk| {
        desk.ask(reason).await?;
        if needs_yes { request(&desk, reason).await } else { Ok(Said::Begins) }
    })?;
    answer(text(args, &said).as_bytes())
}

/// The request that an agent makes of the wish.
async fn request(desk: &Desk, reason: &str) -> Result<Said, Error> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let asked = desk.status().await?.and_then(|status| status.approval);
        let is_it = |asked: &Asked| asked.state == Stand::Pending && asked.reason.as_deref() == Some(reason);
        if let Some(asked) = asked.filter(is_it) {
            return Ok(Said::Waits(Box::new(asked)));
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(Said::Unasked)
}

fn text(args: &Args, said: &Said) -> String {
    let name = args.name.as_str();
    if args.json {
        let said = match said {
            Said::Begins => json!({"name": name, "state": "asked"}),
            Said::Unasked => json!({"name": name, "state": "unasked"}),
            Said::Waits(asked) => json!({
                "name": name, "state": "pending", "approval_id": asked.id, "until": rfc3339(asked.until),
            }),
        };
        return format!("{said}\n");
    }
    match said {
        Said::Begins => String::new(),
        Said::Waits(asked) => format!(
            "{name}: waits for a person's yes until {}: claviger approve {} --reason …\n",
            rfc3339(asked.until),
            asked.id
        ),
        Said::Unasked => format!(
            "{name}: no agent has asked for a person's yes yet; claviger rotation status {name} will show the request\n"
        ),
    }
}

pub(super) fn reason(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > 200 || text.chars().any(char::is_control) {
        return Err("write up to 200 characters on one line".to_owned());
    }
    Ok(text.to_owned())
}
