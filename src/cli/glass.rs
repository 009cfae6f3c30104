//! `break-glass`: a rule for emergencies, for a while, with a reason and a ticket; a drill of that; and such a rule again that has disabled itself.
//!
//! Asks the agent, which decides.

use super::{
    Socket, answer, block_on,
    client::Error,
    exit::{Exit, Failure},
};
use crate::name::RuleName;
use serde::Deserialize;
use serde_json::json;
use std::{fmt::Write as _, time::Duration};

/// A receiver elsewhere must have the event first.
const WITHIN: Duration = Duration::from_secs(30);

/// Have a rule for emergencies for a while
///
/// Rules with break_glass hold only after this, for this user, and for as long as the rule says (30 minutes at most). The reason and the ticket
/// are on record elsewhere before anything is given; what is taken is rotated afterwards. Where the rule names a review, persons must say yes to it
/// in time, or the rule disables itself until persons say that it may hold again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger break-glass emergency --reason 'both approvers are away' --ticket INC-1234
  claviger get root-db                          as long as the glass is broken
  claviger break-glass emergency --drill        would it work? opens nothing, and is on record elsewhere as a drill
  claviger break-glass emergency --enable --reason 'reviewed late' --ticket INC-1234
                                                ask persons to have a rule again that has disabled itself

A drill tries what an emergency needs: that a required receiver elsewhere acknowledges its event, that there are values to give, and where the
rule names a review that its store can be written, that the rule is not disabled, that each approver has a key and that the service answers which is
told.

Exit codes: 0 broken, would work, or asked, 1 failed, or would not work, 2 wrong command line, 3 no such rule, or refused by policy, 4 it cannot be
put on record elsewhere")]
pub(super) struct Args {
    /// Which rule, as the refusal of what it allows names it
    #[arg(value_parser = rule)]
    rule: RuleName,
    /// Why: one line
    #[arg(long, value_parser = line, required_unless_present = "drill")]
    reason: Option<String>,
    /// Where that is written down: a ticket, an incident
    #[arg(long, value_parser = line, required_unless_present = "drill")]
    ticket: Option<String>,
    /// Only try whether it would work
    #[arg(long, conflicts_with = "enable")]
    drill: bool,
    /// Ask persons to have a rule again that has disabled itself
    #[arg(long)]
    enable: bool,
    /// The answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Deserialize)]
struct Opened {
    id: String,
    expires_at: String,
    review: Option<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    approval_id: String,
    expires_at: String,
}

#[derive(Deserialize)]
struct Drilled {
    ready: bool,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    ok: bool,
    said: String,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let act = match (args.drill, args.enable) {
        (true, _) => "drill",
        (_, true) => "enable",
        _ => "break",
    };
    let client = args.socket.client()?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let body = json!({"act": act, "reason": text(&args.reason), "ticket": text(&args.ticket)}).to_string();
    let reply = block_on(client.post(&format!("/break-glass/{}", args.rule), body, WITHIN))??;
    let (said, exit) = match act {
        "drill" => drilled(args, &reply.body)?,
        "enable" => (asked(args, &reply.body)?, Exit::Done),
        _ => (opened(args, &reply.body)?, Exit::Done),
    };
    let written = match args.json {
        true => answer(&[&reply.body, b"\n".as_slice()].concat())?,
        false => answer(said.as_bytes())?,
    };
    Ok(if written == Exit::Done { exit } else { written })
}

fn opened(args: &Args, body: &[u8]) -> Result<String, Failure> {
    let Opened { id, expires_at, review } = serde_json::from_slice(body).map_err(Error::Nonsense)?;
    let ticket = args.ticket.as_deref().unwrap_or_default();
    let mut said = format!("{} holds until {expires_at} ({id}, {ticket})\n", args.rule);
    if let Some(Asked { approval_id, expires_at }) = review {
        said.push_str(&format!(
            "it disables itself unless this is reviewed until {expires_at}: claviger approve {approval_id} --reason …\n"
        ));
    }
    Ok(said)
}

fn asked(args: &Args, body: &[u8]) -> Result<String, Failure> {
    let Asked { approval_id, expires_at } = serde_json::from_slice(body).map_err(Error::Nonsense)?;
    let rule = &args.rule;
    Ok(format!(
        "{rule} holds again once persons have said yes until {expires_at}: claviger approve {approval_id} --reason …\n"
    ))
}

fn drilled(args: &Args, body: &[u8]) -> Result<(String, Exit), Failure> {
    let Drilled { ready, checks } = serde_json::from_slice(body).map_err(Error::Nonsense)?;
    let mut said = String::new();
    for Check { name, ok, said: found } in checks {
        let word = if ok { "ok" } else { "WRONG" };
        // A string takes everything.
        let _ = writeln!(said, "{word:<6}{name:<10}{found}");
    }
    let (would, exit) = if ready { ("would", Exit::Done) } else { ("would not", Exit::Failed) };
    let _ = writeln!(said, "{} {would} hold in an emergency; nothing was opened", args.rule);
    Ok((said, exit))
}

fn rule(text: &str) -> Result<RuleName, String> {
    RuleName::new(text).map_err(|error| error.to_string())
}

fn line(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > 200 || text.chars().any(char::is_control) {
        return Err("write up to 200 characters on one line".to_owned());
    }
    Ok(text.to_owned())
}
