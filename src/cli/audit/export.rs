//! `audit export`: every event as one JSON line, exactly the bytes that were hashed.

use super::{
    super::{
        exit::{Exit, Failure},
        terminal,
    },
    inputs,
};
use crate::audit::verify::{Unreadable, export};
use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
};

/// Write every event as one JSON line
///
/// Chains come oldest first, the events of each in their order, byte by byte as they were hashed: what comes out can be
/// verified again. Segments and directories are sorted; lines of a file keep the order of the file. Does not judge:
/// `claviger audit verify` does.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger audit export > events.jsonl
  claviger audit export /mnt/evidence/audit | jq 'select(.type == \"secret.read.v1\")'

Exit codes: 0 everything, 1 something could not be read (stderr says what; the rest was written), 2 wrong command line")]
pub(in crate::cli) struct Args {
    /// Journals' directories, segments, files of JSON lines, or - for standard input [default: /var/lib/claviger/audit]
    #[arg(value_name = "FILE|DIR|-")]
    inputs: Vec<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("writing the events: {error}"));
    let out = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
    let mut out = BufWriter::with_capacity(256 * 1024, out);
    let faults = match export(&inputs(&args.inputs), &mut out) {
        // `claviger audit export | head`: the reader has what it wanted.
        Err(Unreadable::Write { source }) if source.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(Exit::Failed);
        }
        other => other?,
    };
    out.flush().map_err(failed)?;
    faults.iter().for_each(|fault| terminal::say(&format!("{fault}\n")));
    Ok(if faults.is_empty() { Exit::Done } else { Exit::Failed })
}
