//! `rotation status|rollback|reenable|coordinate`: the journals in Vault, read and written as the rotation's identity.

use super::{
    super::{answer, block_on},
    Source, chosen, load, name,
};
use crate::{
    cli::exit::{Exit, Failure},
    clock::rfc3339,
    config::Config,
    crypto,
    name::RotationName,
    rotation::{
        Kind, Settings,
        asked::{Asked, Stand},
        desk::{Desk, Status},
        suspend::Suspended,
    },
    vault::{
        Vault, keepalive,
        session::{Identity, Start, State, Terms},
    },
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long a login may take.
const LOGIN: Duration = Duration::from_secs(30);

/// Show how rotations stand
///
/// Phase, last success, who works on it: by the journals in Vault, which all replicas share.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger rotation status --config /etc/claviger/config.yaml

Exit codes: 0 done, 1 failed, 2 wrong command line, 64 bad config")]
pub(super) struct StatusArgs {
    /// One rotation only
    #[arg(value_parser = name)]
    name: Option<RotationName>,
    #[command(flatten)]
    source: Source,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Let consumers read again what they read before
///
/// Of kind two-slot, while the grace lasts: the user before is still valid, and is read again at once. The new value stays valid
/// until the next run replaces it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger rotation rollback orders-db --config /etc/claviger/config.yaml
  claviger rotation rollback orders-db --reason 'the report job cannot log in' --config /etc/claviger/config.yaml

Exit codes: 0 done, 1 not in its grace, or failed, 2 wrong command line, 64 bad config")]
pub(super) struct RollbackArgs {
    /// Which rotation
    #[arg(value_parser = name)]
    name: RotationName,
    /// Why, for the record
    #[arg(long, value_parser = super::now::reason)]
    reason: Option<String>,
    #[command(flatten)]
    source: Source,
}

/// Change what decides among replicas
///
/// The journal says which coordination its replicas have, and refuses every other one. Stop the agents that have the old one, then
/// run this with the new config: the journal says the new one from then on. Not while a run is under way.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger rotation coordinate webhook --config /etc/claviger/config.yaml    from vault to kubernetes, say

Exit codes: 0 done, 1 a run is under way, or failed, 2 wrong command line, 64 bad config")]
pub(super) struct CoordinateArgs {
    /// Which rotation
    #[arg(value_parser = name)]
    name: RotationName,
    #[command(flatten)]
    source: Source,
}

/// Let in again whom the end of a grace shut out
///
/// Of kind two-slot with a `quarantine`: after the grace the user before is out of use, and until the quarantine is over an agent gives
/// him his value again, within half a minute, and another grace. What consumers read stays; see `rollback` for that.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger rotation reenable orders-db --config /etc/claviger/config.yaml    somebody still uses the old login

Exit codes: 0 done, 1 not in quarantine, or failed, 2 wrong command line, 64 bad config")]
pub(super) struct ReenableArgs {
    /// Which rotation
    #[arg(value_parser = name)]
    name: RotationName,
    #[command(flatten)]
    source: Source,
}

pub(super) fn reenable(args: &ReenableArgs) -> Result<Exit, Failure> {
    write(&args.source, &args.name, async |desk| desk.re_enable().await)
}

pub(super) fn coordinate(args: &CoordinateArgs) -> Result<Exit, Failure> {
    write(&args.source, &args.name, async |desk| desk.coordinate().await)
}

pub(super) fn rollback(args: &RollbackArgs) -> Result<Exit, Failure> {
    write(&args.source, &args.name, async |desk| desk.roll_back(args.reason.as_deref()).await)
}

pub(super) fn status(args: &StatusArgs) -> Result<Exit, Failure> {
    let config = match load(&args.source.config) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let mut all = Vec::new();
    for settings in chosen(&config, args.name.as_ref())? {
        let status = at_desk(&config, settings, async |desk| desk.status().await)?;
        all.push((settings, status));
    }
    let text = if args.json {
        let list: Vec<Value> =
            all.iter().map(|(settings, status)| as_json(settings, status.as_ref())).collect();
        format!("{}\n", json!({"rotations": list}))
    } else {
        all.iter().map(|(settings, status)| as_text(settings, status.as_ref())).collect()
    };
    answer(text.as_bytes())
}

fn write(
    source: &Source,
    name: &RotationName,
    act: impl AsyncFnOnce(Desk) -> Result<(), crate::rotation::desk::Error>,
) -> Result<Exit, Failure> {
    let config = match load(&source.config) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let chosen = chosen(&config, Some(name))?;
    let [settings] = *chosen.as_slice() else { return Ok(Exit::Failed) };
    at_desk(&config, settings, act).map(|()| Exit::Done)
}

/// Does `act` with a login of the rotation's identity, which is revoked after it.
pub(super) fn at_desk<T>(
    config: &Config,
    settings: &Settings,
    act: impl AsyncFnOnce(Desk) -> Result<T, crate::rotation::desk::Error>,
) -> Result<T, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::of(Exit::Failed, error);
    let login = config.identities.iter().find(|identity| identity.name == settings.identity);
    let login =
        login.ok_or_else(|| Failure::new(Exit::Failed, "the rotation's identity is not there"))?.clone();
    crypto::install();
    block_on(async {
        let vault = Vault::new(config.vault.clone()).map_err(|error| failed(&error))?;
        let terms = Terms::new(Duration::ZERO, login.revoke_on_exit);
        let (facts, _heard) = mpsc::unbounded_channel();
        let (identity, keepalive) = keepalive::identity(login, vault.clone(), terms, Start::Fresh, facts);
        if matches!(settings.kind, Kind::Bootstrap(_)) {
            // Its journal is a file; and a login might use up what the agent needs.
            return act(Desk::new(settings, vault, identity)).await.map_err(|error| failed(&error));
        }
        let (exit, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(keepalive.run(exit.clone()));
        let done = match live(&identity).await {
            Ok(()) => act(Desk::new(settings, vault, identity)).await.map_err(|error| failed(&error)),
            Err(failure) => Err(failure),
        };
        exit.cancel();
        while tasks.join_next().await.is_some() {}
        done
    })?
}

async fn live(identity: &Identity) -> Result<(), Failure> {
    let mut state = identity.state.clone();
    let over = timeout(LOGIN, state.wait_for(|state| !matches!(state, State::Starting))).await;
    match over {
        Ok(Ok(state)) => match &*state {
            State::Down(error) => Err(Failure::of(Exit::Failed, error)),
            State::Live(_) | State::Starting => Ok(()),
        },
        _ => Err(Failure::new(Exit::Failed, "the login to Vault takes too long")),
    }
}

fn as_json(settings: &Settings, status: Option<&Status>) -> Value {
    let status = status.map(|status| {
        json!({
            "phase": status.phase.word(), "id": status.id, "slot": status.slot, "holder": status.holder,
            "epoch": status.epoch, "succeeded": rfc3339(status.succeeded), "settled": rfc3339(status.settled),
            "grace_until": status.grace_until.map(rfc3339), "asked": status.asked, "orphaned": status.orphaned,
            "user": status.user, "approval": status.approval, "suspended": status.suspended,
        })
    });
    json!({
        "name": settings.name.as_str(), "kind": settings.kind.word(), "path": settings.kind.path(),
        "coordination": settings.coordination.word(), "lease": settings.coordination.lease(), "status": status,
    })
}

/// How a person's yes stands.
fn yes(asked: &Asked) -> String {
    let Asked { id, slot_time, until, state, by, why, .. } = asked;
    let said = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
    match state {
        Stand::Pending => {
            format!("waits for a yes to slot {slot_time}: request {id} until {}{said}", rfc3339(*until))
        }
        Stand::Granted | Stand::Spending => format!("has its yes to slot {slot_time}{said}: request {id}"),
        Stand::Used => format!("slot {slot_time} began with a yes{said}: request {id}"),
        Stand::Ended => {
            let why = why.as_deref().unwrap_or("approval");
            format!("slot {slot_time} skipped: {why}{said}, request {id}")
        }
    }
}

/// Who lets no run begin.
pub(super) fn suspended(suspended: &Suspended) -> String {
    let Suspended { by, reason, at, .. } = suspended;
    format!(", suspended since {} by {by}: {reason}", rfc3339(*at))
}

fn as_text(settings: &Settings, status: Option<&Status>) -> String {
    let Some(status) = status else {
        return format!("{}: no agent has run it yet\n", settings.name);
    };
    let of =
        |label: &str, text: Option<&str>| text.map(|text| format!(", {label} {text}")).unwrap_or_default();
    let until = status.grace_until.map(rfc3339);
    format!(
        "{}: {}{}, last success {}{}{}{}{}{}{}{}{}\n",
        settings.name,
        status.phase.word(),
        status.suspended.as_ref().map(suspended).unwrap_or_default(),
        rfc3339(status.succeeded),
        of("slot", status.slot.as_deref()),
        of("of", status.user.as_deref()),
        of("by", status.holder.as_deref()),
        of("Lease", settings.coordination.lease().as_deref()),
        of("old value until", until.as_deref()),
        of("asked for:", status.asked.as_deref()),
        of("waits for a person:", status.orphaned.as_deref()),
        status.approval.as_ref().map(|asked| format!(", {}", yes(asked))).unwrap_or_default(),
    )
}
