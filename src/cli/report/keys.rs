//! `report keys`: brings together the config, the record and Vault's word, and prints what is judged of them.

use super::{login, merged};
use crate::{
    app::keys::subject,
    audit::verify::{Input, export},
    cli::{
        answer,
        exit::{Exit, Failure},
        rotation::load,
        terminal,
    },
    clock, config,
    report::{File, Report, Terms, finding::Severity, judge, page::Format},
    usage::reader::Reader,
};
use std::{path::PathBuf, time::Duration};

/// Judge every rule, credential and grant
///
/// Reads the config, the record of its agents (by default the config's own journal; or directories, segments and JSON lines of any
/// number of pods, which are counted together), and, with a login, what Vault says. Looks for KA001 to KA017; what cannot be judged is named
/// with the reason. Only grants older than the period are judged by their use. The policy that it prints for each identity was
/// tried on every recorded request. Values that stand where they must not (KA011) are seen by agents alone, whose config has report.exposure: what
/// they saw, and where they could not look, is in their record.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger report keys --config /etc/claviger/config.yaml
  claviger report keys --config config.yaml --since 30d --login --format json | jq '.findings[].id'
  claviger report keys --config config.yaml --merged --token-file ~/.vault-token
  kubectl logs -l app=reports -c claviger --tail=-1 | claviger report keys --config config.yaml -
  claviger report keys --config config.yaml --format hcl > reports.hcl

Two ways to ask Vault: --login logs in as each identity of the config does (and revokes that token after it); --token-file asks with
a person's token, who may read policies and roles that the agent may not. Both together tell most.

Exit codes: 0 done, 1 failed, 2 wrong command line, 14 findings of --fail-on's severity or worse, 64 bad config")]
pub(in crate::cli) struct Args {
    /// Journals' directories, segments, files of JSON lines, or - for standard input [default: the config's journal]
    #[arg(value_name = "FILE|DIR|-")]
    inputs: Vec<PathBuf>,
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How far back use counts
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = period)]
    since: Duration,
    /// How to print it: md, json, sarif, ocsf, hcl or html
    #[arg(long, value_name = "FORMAT", default_value = "md", value_parser = format)]
    format: Format,
    /// Exit with 14 if there is a finding of this severity or worse: low, medium, high or critical
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    fail_on: Option<Severity>,
    /// Count what other pods left in Vault, too (report.merge of the config)
    #[arg(long)]
    merged: bool,
    /// Ask Vault as the identities of the config
    #[arg(long)]
    login: bool,
    /// Ask Vault with the token in this file, for what the identities may not read themselves
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let config = match load(&args.config) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let (mut reader, terms) = (Reader::default(), Terms { now: clock::now(), period: args.since });
    let by = login::By { own: args.login, token_file: args.token_file.as_deref() };
    for fault in export(&inputs(args, &config), &mut reader)? {
        terminal::say(&format!("warning: {fault}\n"));
    }
    if args.merged {
        merged::read(&config, &by, &mut reader, terms.since())?;
    }
    let (subject, (record, others)) = (subject(&config), reader.finish());
    if others > 0 {
        terminal::say(&format!("warning: {others} lines are no events\n"));
    }
    let granted = if args.login || args.token_file.is_some() {
        login::granted(&config, &subject, &record, &by)?
    } else {
        Vec::new()
    };
    let text = std::fs::read_to_string(&args.config).unwrap_or_default();
    let file = File { path: args.config.display().to_string(), text };
    let report = Report { file: Some(file), ..judge(&subject, &record, &granted, terms) };
    answer(args.format.render(&report).as_bytes())?;
    Ok(if args.fail_on.is_some_and(|least| report.fails_on(least)) { Exit::Findings } else { Exit::Done })
}

fn inputs(args: &Args, config: &config::Config) -> Vec<Input> {
    let one = |path: &PathBuf| match path.as_os_str() {
        dash if dash == "-" => Input::Stdin,
        _ => Input::Path(path.clone()),
    };
    let own = &config.audit.journal.dir;
    match args.inputs.as_slice() {
        // A person elsewhere has the ledgers alone.
        [] if args.merged && !own.exists() => Vec::new(),
        [] => vec![Input::Path(own.clone())],
        paths => paths.iter().map(one).collect(),
    }
}

fn period(text: &str) -> Result<Duration, String> {
    let wrong = || "not a duration; write 90d, 24h or 1d12h".to_owned();
    config::duration(text).filter(|period| !period.is_zero()).ok_or_else(wrong)
}

fn format(text: &str) -> Result<Format, String> {
    let found = Format::WORDS.iter().find(|(word, _)| *word == text).map(|(_, format)| *format);
    found.ok_or_else(|| "write md, json, sarif, ocsf, hcl or html".to_owned())
}

fn severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    let found = all.into_iter().find(|severity| severity.word() == text);
    found.ok_or_else(|| "write low, medium, high or critical".to_owned())
}
