//! `break-glass`: a rule for emergencies, for a while, with a reason and a ticket.
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
use std::time::Duration;

/// A receiver elsewhere must have the event first.
const WITHIN: Duration = Duration::from_secs(30);

/// Have a rule for emergencies for a while
///
/// Rules with break_glass hold only after this, for this user, and for as long as the rule says (30 minutes at most). The reason and the ticket
/// are on record elsewhere before anything is given; what is taken is rotated afterwards.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger break-glass emergency --reason 'both approvers are away' --ticket INC-1234
  claviger get root-db                          as long as the glass is broken
  claviger break-glass emergency --reason drill --ticket DRILL-7 --json

A drill is the same command: it shows that the alert comes, and that what was taken is rotated.

Exit codes: 0 broken, 1 failed, 2 wrong command line, 3 no such rule, or refused by policy, 4 it cannot be put on record elsewhere")]
pub(super) struct Args {
    /// Which rule, as the refusal of what it allows names it
    #[arg(value_parser = rule)]
    rule: RuleName,
    /// Why: one line
    #[arg(long, value_parser = line)]
    reason: String,
    /// Where that is written down: a ticket, an incident
    #[arg(long, value_parser = line)]
    ticket: String,
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
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let client = args.socket.client()?;
    let body = json!({"reason": args.reason, "ticket": args.ticket}).to_string();
    let reply = block_on(client.post(&format!("/break-glass/{}", args.rule), body, WITHIN))??;
    if args.json {
        return answer(&[&reply.body, b"\n".as_slice()].concat());
    }
    let Opened { id, expires_at } = serde_json::from_slice(&reply.body).map_err(Error::Nonsense)?;
    answer(format!("{} holds until {expires_at} ({id}, {})\n", args.rule, args.ticket).as_bytes())
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
