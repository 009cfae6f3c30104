//! `rotation unorphan`: a person has looked at a run that nobody dared to finish, and says how it goes on.
//!
//! Does not look itself: what is true of the system only that person knows.

use super::{
    Source, name,
    suspend::{Who, act},
};
use crate::{
    cli::exit::{Exit, Failure},
    name::RotationName,
};

/// Let an orphaned rotation go on
///
/// A person has looked at what is true. The run is dropped and its slot settled; what consumers read stays. Where a person wrote what
/// consumers read while a run was under way, that value is never overwritten by the run; with --adopt an agent gives it to the system, within
/// half a minute, and tries it (`rotation.repaired`). If the system refuses it, the rotation is orphaned again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger rotation unorphan webhook --config /etc/claviger/config.yaml
  claviger rotation unorphan orders-db --adopt --reason 'ours is the one' --config config.yaml   the system gets what the secret says

Exit codes: 0 done, 1 not orphaned, or failed, 2 wrong command line, 64 bad config")]
pub(super) struct Args {
    /// Which rotation
    #[arg(value_parser = name)]
    name: RotationName,
    /// Give the system what consumers read now, of kinds two-slot and single
    #[arg(long)]
    adopt: bool,
    /// Why, for the record
    #[arg(long, value_parser = super::now::reason)]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    source: Source,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let (by, reason) = (args.who.name(), args.reason.as_deref());
    let done = act(&args.source, &args.name, async |desk| match args.adopt {
        true => desk.adopt(&by, reason).await,
        false => desk.unorphan(&by, reason).await,
    })?;
    Ok(done.map_or_else(|exit| exit, |()| Exit::Done))
}
