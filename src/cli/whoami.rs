//! `whoami`: what the agent sees of this process.

use super::{
    Socket, answer, block_on,
    client::Error,
    exit::{Exit, Failure},
};
use serde_json::{Map, Value};
use std::time::Duration;

/// What the answer may take: the agent has it in hand.
const WITHIN: Duration = Duration::from_secs(10);

/// Ask what the sidecar sees of this process
///
/// Shows uid, gid and pid as the kernel told the sidecar, the level that this workload requires and the one that was
/// proved, the rules that hold, and the uid that the kernel says the sidecar runs as. The first thing to look at when a secret is refused.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger whoami
  claviger whoami --json | jq .rules

Exit codes: 0 shown, 1 failed, 2 wrong command line, 3 this process may not use this socket")]
pub(super) struct Args {
    /// The sidecar's answer, and the uid that it runs as, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let client = args.socket.client()?;
    let reply = block_on(client.ask("/whoami", WITHIN))??;
    let mut facts: Map<String, Value> = serde_json::from_slice(&reply.body).map_err(Error::Nonsense)?;
    facts.insert("server_uid".to_owned(), reply.server_uid.into());
    if args.json {
        return answer(format!("{}\n", Value::Object(facts)).as_bytes());
    }
    answer(lines(&facts).as_bytes())
}

/// One fact a line: `uid: 20001`, `rules: database, reports-tree`.
fn lines(facts: &Map<String, Value>) -> String {
    facts.iter().map(|(word, fact)| format!("{word}: {}\n", spell(fact))).collect()
}

fn spell(fact: &Value) -> String {
    match fact {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(spell).collect::<Vec<_>>().join(", "),
        Value::Object(facts) => {
            facts.iter().map(|(word, fact)| format!("{word} {}", spell(fact))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_lines_for_people() {
        let json = r#"{"workload":"report-job","uid":20001,"pid":"hidden","groups":[],"rules":["a","b"],"level":{"required":"user","proved":"user"}}"#;
        let text = lines(&serde_json::from_str(json).unwrap());
        let mut found: Vec<&str> = text.lines().collect();
        found.sort_unstable();
        let expected = [
            "groups: none",
            "level: proved user required user",
            "pid: hidden",
            "rules: a, b",
            "uid: 20001",
            "workload: report-job",
        ];
        assert_eq!(found, expected);
    }
}
