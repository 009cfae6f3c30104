//! `audit verify`: says whether the record is the one that was written, all of it, in its order.
//!
//! Does not judge: `audit::verify` does.

use super::{
    super::{
        answer,
        exit::{Exit, Failure},
    },
    inputs,
};
use crate::audit::{
    checkpoint::Anchor,
    verify::{Chain, Finding, MAX_UNSIGNED, Report, Terms, Verdict, Voucher, public_keys, verify},
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The largest key or anchor that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;
/// Findings that are shown to a person.
const SHOWN: usize = 20;

/// Check that nothing is missing, changed or forged
///
/// Reads a journal's directory, single segments, or the JSON lines that a sink printed, and checks each event: canonical JSON
/// (RFC 8785), its number, its id, and the hash of the event before it; how each chain ends and the next one continues it; in
/// segments also checksums and padding. Works offline, and beside a running agent. Several files are read in the order of
/// their first event. A line that came twice, byte by byte the same, is no fault: sinks deliver at least once.
///
/// What it cannot see without checkpoints: that the newest chain's last events were cut off, or that everything was written
/// anew by somebody with the agent's rights. With `audit.checkpoints` in the agent's config, --pubkey finds the second and
/// --anchor the first: neither needs Vault, only what was once read from it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger audit verify                            the journal in /var/lib/claviger/audit
  claviger audit verify /mnt/evidence/audit --json | jq .verdict
  claviger audit verify --pubkey transit.pub --anchor anchor.json
  kubectl logs app -c claviger | claviger audit verify -

Exit codes: 0 good, 1 an input cannot be read, 2 wrong command line, 10 altered or forged, 11 truncated or rolled back,
12 events are missing and the agent said so itself, 13 unsigned tail longer than allowed")]
pub(in crate::cli) struct Args {
    /// A journal's directory, segments, files of JSON lines, or - for standard input [default: /var/lib/claviger/audit]
    #[arg(value_name = "FILE|DIR|-")]
    inputs: Vec<PathBuf>,
    /// Vault's public key, that signs checkpoints or certifies the keys that do: PEM, or base64 as `vault read` prints it
    #[arg(long, value_name = "FILE")]
    pubkey: Option<PathBuf>,
    /// What is anchored in Vault, as `vault kv get -format=json` prints it
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// How many events may stand behind the last signature of a chain
    #[arg(long, value_name = "N", default_value_t = MAX_UNSIGNED)]
    max_unsigned: u64,
    /// The report as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let report = verify(&inputs(&args.inputs), terms(args)?)?;
    if report.chains.is_empty() && report.findings.is_empty() {
        let remedy = "a journal has one event at least from the first moment of its agent on";
        return Err(Failure::new(Exit::Failed, "there is no event in it").remedy(remedy));
    }
    let text = if args.json { format!("{}\n", as_json(&report)) } else { as_text(&report) };
    answer(text.as_bytes()).map(|_| exit(report.verdict))
}

/// What the options say.
fn terms(args: &Args) -> Result<Terms, Failure> {
    let keys = match &args.pubkey {
        None => Vec::new(),
        Some(path) => public_keys(&read(path)?).ok_or_else(|| {
            Failure::new(Exit::Failed, format!("{} holds no Ed25519 public key", path.display())).remedy(
                "write the key there that this prints: vault read -format=json transit/keys/NAME | jq -r '.data.keys[].public_key'",
            )
        })?,
    };
    let anchor = match &args.anchor {
        None => None,
        Some(path) => {
            let document = serde_json::from_str::<Value>(&read(path)?).ok();
            let anchor = document.as_ref().and_then(Anchor::of).ok_or_else(|| {
                Failure::new(Exit::Failed, format!("{} holds no anchor", path.display())).remedy(
                    "write there what this prints: vault kv get -format=json -mount=MOUNT PATH/HOST/claviger",
                )
            })?;
            Some(anchor)
        }
    };
    Ok(Terms { keys, anchor, max_unsigned: args.max_unsigned })
}

/// A small file as text.
fn read(path: &Path) -> Result<String, Failure> {
    let failed =
        |error: io::Error| Failure::new(Exit::Failed, format!("reading {}: {error}", path.display()));
    let mut text = String::new();
    let count =
        File::open(path).map_err(failed)?.take(LARGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if count as u64 > LARGEST {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}

fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Good => Exit::Done,
        Verdict::DeclaredGaps => Exit::DeclaredGaps,
        Verdict::UnsignedTail => Exit::UnsignedTail,
        Verdict::Truncated => Exit::Truncated,
        Verdict::Altered => Exit::Altered,
    }
}

fn as_text(report: &Report) -> String {
    let mut text = String::new();
    report.chains.iter().for_each(|chain| write_chain(&mut text, chain));
    for note in &report.notes {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "note: {note}");
    }
    for finding in report.findings.iter().take(SHOWN) {
        write_finding(&mut text, finding);
    }
    let rest = (report.findings.len().saturating_sub(SHOWN) as u64).saturating_add(report.more);
    if rest > 0 {
        let _ = writeln!(text, "and {rest} more; --json shows the first thousand");
    }
    let (chains, events) = (report.chains.len(), report.events());
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let _ = writeln!(
        text,
        "{}: {events} event{} in {chains} chain{}",
        report.verdict.word(),
        plural(events),
        plural(chains as u64),
    );
    // What stands in a record that somebody forged must not steer the terminal.
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn write_chain(text: &mut String, chain: &Chain) {
    let Chain {
        uid,
        source,
        first,
        last,
        events,
        repeats,
        first_time,
        last_time,
        gaps,
        ending,
        voucher,
        signed_up_to,
        verdict,
    } = chain;
    let mut row = |name: &str, value: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "  {name:<9}{value}");
    };
    row("chain", format_args!("{uid}  {source}"));
    row("events", format_args!("{events}, numbers {first} to {last}, {first_time} to {last_time}"));
    if *repeats > 0 {
        row("repeats", format_args!("{repeats} lines came twice, the same"));
    }
    for gap in gaps {
        let said =
            gap.declared.as_deref().map_or("nobody said so".to_owned(), |why| format!("declared: {why}"));
        row("missing", format_args!("{} to {} ({said})", gap.from, gap.to));
    }
    row("end", format_args!("{}", ending.word()));
    match signed_up_to {
        _ if *voucher == Voucher::Nobody => row("signed", format_args!("by nobody")),
        0 => row("signed", format_args!("not by a key that counts")),
        up_to => row("signed", format_args!("up to event {up_to}, {}", voucher.word())),
    }
    row("verdict", format_args!("{}\n", verdict.word()));
}

fn write_finding(text: &mut String, finding: &Finding) {
    let Finding { verdict, chain, seq, what, expected, found } = finding;
    let _ = write!(text, "{}: ", verdict.word());
    if let Some(seq) = seq {
        let _ = write!(text, "event {seq}");
    }
    if let Some(chain) = chain {
        let _ = write!(text, "{}chain {chain}", if seq.is_some() { " of " } else { "" });
    }
    let _ = writeln!(text, ": {what}");
    if let (Some(expected), Some(found)) = (expected, found) {
        let _ = writeln!(text, "  expected {expected}\n  found    {found}");
    }
}

fn as_json(report: &Report) -> Value {
    let gap =
        |gap: &crate::audit::verify::Gap| json!({"from": gap.from, "to": gap.to, "declared": gap.declared});
    let chain = |chain: &Chain| {
        json!({
            "chain": chain.uid, "source": chain.source, "events": chain.events, "first": chain.first, "last": chain.last,
            "first_time": chain.first_time, "last_time": chain.last_time, "repeats": chain.repeats,
            "gaps": chain.gaps.iter().map(gap).collect::<Vec<_>>(),
            "ending": chain.ending.key(), "signed_by": chain.voucher.key(),
            "signed_up_to": chain.signed_up_to, "verdict": chain.verdict.key(),
        })
    };
    let finding = |finding: &Finding| {
        json!({
            "verdict": finding.verdict.key(), "chain": finding.chain, "seq": finding.seq, "what": finding.what,
            "expected": finding.expected, "found": finding.found,
        })
    };
    json!({
        "verdict": report.verdict.key(), "exit": exit(report.verdict).code(), "events": report.events(),
        "chains": report.chains.iter().map(chain).collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "more": report.more, "notes": report.notes,
    })
}
