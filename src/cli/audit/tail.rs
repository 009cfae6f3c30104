//! `audit tail`: the newest events of a journal, one line each, for people.
//!
//! Shows what stands there and judges nothing.

use super::{
    super::{
        answer, block_on,
        exit::{Exit, Failure},
    },
    JOURNAL,
};
use crate::audit::journal::{Reader, read};
use serde_json::Value;
use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
    io,
    path::PathBuf,
    time::Duration,
};

/// Between two looks at a journal that is followed.
const PAUSE: Duration = Duration::from_millis(250);

/// Show the newest events
///
/// Reads the journal itself, so it shows what is on disk, whatever the sinks do. Needs the rights of the agent's user.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger audit tail                              the last ten events in /var/lib/claviger/audit
  claviger audit tail -n 100 --follow              the last hundred, and what comes
  claviger audit tail --json --follow | jq -r .type

Exit codes: 0 shown, 1 the journal cannot be read, 2 wrong command line")]
pub(in crate::cli) struct Args {
    /// The journal's directory
    #[arg(value_name = "DIR", default_value = JOURNAL)]
    dir: PathBuf,
    /// How many events
    #[arg(short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    count: u32,
    /// Go on with what comes
    #[arg(long, short = 'f')]
    follow: bool,
    /// The events as they are, one JSON line each
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let failed = |error: &io::Error| {
        let text = format!("reading the journal in {}: {error}", args.dir.display());
        Failure::new(Exit::Failed, text)
            .remedy("name the directory of audit.journal.dir, as the agent's user or root")
    };
    let mut reader = read(&args.dir).map_err(|error| failed(&error))?;
    let mut newest: VecDeque<Vec<u8>> = VecDeque::new();
    let mut open = BTreeSet::new();
    let count = usize::try_from(args.count).unwrap_or(usize::MAX);
    for (_, bytes) in reader.by_ref() {
        note(&mut open, &bytes);
        newest.push_back(bytes);
        if newest.len() > count {
            newest.pop_front();
        }
    }
    let mut text = Vec::new();
    newest.iter().for_each(|bytes| show(&mut text, bytes, args, &open));
    let shown = answer(&text)?;
    if let Some(error) = reader.failed() {
        return Err(failed(error));
    }
    if !args.follow || shown == Exit::Failed {
        return Ok(shown);
    }
    block_on(follow(args, &mut reader))?
}

async fn follow(args: &Args, reader: &mut Reader) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    loop {
        tokio::time::sleep(PAUSE).await;
        // A listing that fails is tried again: the journal may be made anew.
        if reader.look_again().is_err() {
            continue;
        }
        text.clear();
        // What comes may have its result yet to come.
        reader.by_ref().for_each(|(_, bytes)| show(&mut text, &bytes, args, &BTreeSet::new()));
        if !text.is_empty() && answer(&text)? == Exit::Failed {
            return Ok(Exit::Done);
        }
    }
}

/// Keeps the ids of intents that have no result. Nothing else is read.
fn note(open: &mut BTreeSet<String>, bytes: &[u8]) {
    #[derive(serde::Deserialize)]
    struct Event {
        id: String,
        upstream: Upstream,
    }
    #[derive(serde::Deserialize)]
    struct Upstream {
        intent: Option<String>,
    }
    let has = |kind: &[u8]| bytes.windows(kind.len()).any(|part| part == kind);
    if has(b"\"upstream.intent.v1\"") || has(b"\"upstream.result.v1\"") {
        match serde_json::from_slice(bytes) {
            Ok(Event { upstream: Upstream { intent: Some(intent) }, .. }) => drop(open.remove(&intent)),
            Ok(Event { id, .. }) => drop(open.insert(id)),
            Err(_) => {}
        }
    }
}

fn show(out: &mut Vec<u8>, bytes: &[u8], args: &Args, open: &BTreeSet<String>) {
    if args.json {
        out.extend_from_slice(bytes);
        out.push(b'\n');
        return;
    }
    match serde_json::from_slice(bytes) {
        Ok(event) => out.extend_from_slice(spell(&event, open).as_bytes()),
        Err(_) => out.extend_from_slice(b"(an event that cannot be read)\n"),
    }
}

/// `2026-11-23 21:44:00.123 allow secret.read report-job stripe [rule payments, uid 20001 pid 4242 process]`.
fn spell(event: &Value, open: &BTreeSet<String>) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let time = text("/time").unwrap_or("?").replace('T', " ");
    let time = time.get(..23).unwrap_or(&time);
    let kind = text("/type").unwrap_or("?");
    let kind = kind.strip_suffix(".v1").unwrap_or(kind);
    let mut line = format!("{time} {:<5} {kind}", text("/outcome").unwrap_or("?"));
    let thing = text("/resource/secret").or(text("/resource/path")).or(text("/agent/chain"));
    for part in [text("/workload"), text("/identity"), thing, text("/reason")].into_iter().flatten() {
        // Writing to a String cannot fail, here and below.
        let _ = write!(line, " {}", printable(part));
    }
    if let Some(upstream) = event.get("upstream") {
        for part in ["name", "method", "path"] {
            let _ = write!(line, " {}", printable(upstream.get(part).and_then(Value::as_str).unwrap_or("?")));
        }
    }
    let mut about = Vec::new();
    if text("/id").is_some_and(|id| open.contains(id)) {
        about.push("result unknown: it may have been sent".to_owned());
    }
    if let Some(rule) = text("/rule/name") {
        about.push(format!("rule {rule}"));
    }
    if let Some(actor) = event.get("actor") {
        let pid = actor.get("pid").map(ToString::to_string).unwrap_or_default();
        let uid = actor.get("uid").map(ToString::to_string).unwrap_or_default();
        let level = text("/actor/level").unwrap_or("?");
        about.push(format!("uid {uid} pid {} {level}", pid.trim_matches('"')));
    }
    if let (Some(from), Some(to)) = (text("/agent/from"), text("/agent/to")) {
        let short = |seq: &str| seq.trim_start_matches('0').to_owned();
        about.push(format!("events {} to {}", short(from), short(to)));
    }
    if !about.is_empty() {
        let _ = write!(line, " [{}]", printable(&about.join(", ")));
    }
    line.push('\n');
    line
}

/// What a peer chose must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(event: &Value, expected: &str) {
        assert_eq!(spell(event, &BTreeSet::from(["01X-7".to_owned()])), format!("{expected}\n"));
    }

    #[test]
    fn an_event_is_one_line_that_says_who_did_what() {
        check(
            &json!({
                "actor": {"uid": 20001, "gid": 20001, "pid": 4242, "level": "process"}, "outcome": "allow",
                "resource": {"secret": "stripe"}, "rule": {"name": "payments"}, "time": "2026-11-23T21:44:00.123456Z",
                "type": "secret.read.v1", "workload": "report-job",
            }),
            "2026-11-23 21:44:00.123 allow secret.read report-job stripe [rule payments, uid 20001 pid 4242 process]",
        );
        check(
            &json!({
                "agent": {"chain": "01X", "from": "00000000000000000007", "to": "00000000000000000009"}, "outcome": "error",
                "reason": "journal_damaged", "time": "2026-11-23T21:44:00.123456Z", "type": "audit.gap.v1",
            }),
            "2026-11-23 21:44:00.123 error audit.gap 01X journal_damaged [events 7 to 9]",
        );
    }

    #[test]
    fn a_call_without_a_result_is_unknown() {
        let intent = |id: &str| {
            json!({
                "id": id, "outcome": "allow", "resource": {"secret": "stripe"}, "time": "2026-11-23T21:44:00.123456Z",
                "type": "upstream.intent.v1", "upstream": {"name": "api", "method": "POST", "path": "/v1"}, "workload": "w",
            })
        };
        let line = "2026-11-23 21:44:00.123 allow upstream.intent w stripe api POST /v1";
        check(&intent("01X-7"), &format!("{line} [result unknown: it may have been sent]"));
        check(&intent("01X-8"), line);
        let mut open = BTreeSet::new();
        note(&mut open, intent("a").to_string().as_bytes());
        note(&mut open, intent("b").to_string().as_bytes());
        note(
            &mut open,
            json!({"id": "c", "type": "upstream.result.v1", "upstream": {"intent": "a"}})
                .to_string()
                .as_bytes(),
        );
        assert_eq!(open, BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn nothing_in_an_event_can_steer_the_terminal() {
        let event = json!({"workload": "a\u{1b}[2Jb", "type": "x", "time": "t", "outcome": "deny"});
        assert!(!spell(&event, &BTreeSet::new()).trim_end().contains(char::is_control));
    }
}
