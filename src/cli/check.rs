//! `check`: reads a config as `run` would, and says everything that is wrong with it.

use super::{
    answer,
    exit::{Exit, Failure},
    terminal,
};
use crate::config::{self, Loaded, Problem, Rejected};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Check a config file
///
/// Reads the file as `claviger run` would and reports everything that is wrong with it at once, each problem on a line:
/// where in the file, what was found, what would be right. Calls nobody and starts nothing.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger check /etc/claviger/config.yaml
  claviger check config.yaml --json | jq -r '.problems[].path'

Exit codes: 0 good (warnings may be on stderr), 2 wrong command line, 64 bad config")]
pub(super) struct Args {
    /// The config file
    file: PathBuf,
    /// Problems and warnings as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let checked = config::load(&args.file);
    let exit = if checked.is_ok() { Exit::Done } else { Exit::BadConfig };
    if args.json {
        let (problems, warnings, counts) = match &checked {
            Ok(Loaded { config, warnings }) => (Vec::new(), &**warnings, counts(config)),
            Err(Rejected { problems }) => (problems.clone(), &[][..], Value::Null),
        };
        let report = json!({
            "ok": checked.is_ok(), "problems": list(&problems), "warnings": list(warnings), "counts": counts,
        });
        return answer(format!("{report}\n").as_bytes()).map(|_| exit);
    }
    match checked {
        Ok(Loaded { config, warnings }) => {
            warnings.iter().for_each(|warning| terminal::say(&format!("warning: {warning}\n")));
            let (workloads, secrets, identities) =
                (config.workloads.len(), config.secrets.len(), config.identities.len());
            answer(summary(&args.file, workloads, secrets, identities).as_bytes())
        }
        Err(rejected) => {
            reject(&args.file, &rejected);
            Ok(exit)
        }
    }
}

/// Says everything that is wrong with `file` on stderr.
pub(super) fn reject(file: &Path, rejected: &Rejected) {
    let problems = match rejected.problems.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    terminal::say(&format!("{rejected}\n{problems} in {}\n", file.display()));
}

fn summary(file: &Path, workloads: usize, secrets: usize, identities: usize) -> String {
    let count =
        |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    format!(
        "{} is good: {}, {}, {}\n",
        file.display(),
        count(workloads, "workload", "workloads"),
        count(secrets, "secret", "secrets"),
        count(identities, "identity", "identities"),
    )
}

fn counts(config: &config::Config) -> Value {
    json!({
        "workloads": config.workloads.len(),
        "secrets": config.secrets.len(),
        "identities": config.identities.len(),
    })
}

fn list(problems: &[Problem]) -> Value {
    let one = |Problem { path, line, found, would_be_right }: &Problem| json!({"path": path, "line": line, "found": found, "would_be_right": would_be_right});
    problems.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_is_summed_up_in_one_line() {
        assert_eq!(
            summary(Path::new("a.yaml"), 2, 1, 1),
            "a.yaml is good: 2 workloads, 1 secret, 1 identity\n"
        );
        assert_eq!(
            summary(Path::new("a.yaml"), 1, 0, 2),
            "a.yaml is good: 1 workload, 0 secrets, 2 identities\n"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_bad_config() {
        for json in [false, true] {
            let args = Args { file: "/nowhere/claviger.yaml".into(), json };
            assert_eq!(run(&args), Ok(Exit::BadConfig));
        }
    }
}
