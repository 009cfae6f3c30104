//! `approvals`, `approve` and `refuse`: what waits for a person's yes, and the person's word.
//!
//! Run by a person, with that person's own login to Vault, wherever they are: nothing but Vault stands between them and the agent,
//! which believes nothing here but the signature.

mod desk;
mod group;
mod person;
mod sign;
mod text;

use super::{
    answer, block_on,
    exit::{Exit, Failure},
    terminal,
};
use crate::{
    approval::{
        Id,
        ticket::{Decision, is_reason},
    },
    crypto,
};
use desk::Desk;
use person::Person;
use std::path::PathBuf;

/// The environment variable that names the store.
const STORE_VARIABLE: &str = "CLAVIGER_APPROVALS";
/// Where requests are when nothing says otherwise.
const STORE: &str = "kv/approvals";

/// Show what waits for a person's yes
///
/// Reads the store in Vault with your own login, as the vault command finds it: VAULT_ADDR, VAULT_TOKEN or ~/.vault-token,
/// VAULT_NAMESPACE, VAULT_CACERT, VAULT_CLIENT_CERT and VAULT_CLIENT_KEY, VAULT_TLS_SERVER_NAME.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger approvals                            what waits, in plain words
  claviger approvals --all --json               what is over too, as JSON
  claviger approvals --store secret/approvals   the store of another agent: approvals.NAME.store of its config

Votes are shown as they stand in the store. Only the agent checks their signatures.

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 refused by Vault")]
pub(super) struct ListArgs {
    /// What is over, too
    #[arg(long)]
    all: bool,
    /// As one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Say yes to a request
///
/// Shows what is asked, signs its digest with a key that only you can use, and leaves the signature in the store: the transit key
/// approver-ENTITY of your own entity in Vault, or an SSH key. The agent takes it from there, within a second or two.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger approve 6a1f3c20-9b1e42aa10f3 --reason 'release 7'
  claviger approve 6a1f3c20-9b1e42aa10f3 --reason 'release 7' --ssh-key ~/.ssh/id_ed25519

The policy in Vault that an approver needs, one for all of them (here the store is kv/approvals):
  path \"kv/metadata/approvals/*\"                       { capabilities = [\"list\"] }
  path \"kv/data/approvals/+/+\"                         { capabilities = [\"read\"] }
  path \"kv/data/approvals/+/{{identity.entity.id}}\"    { capabilities = [\"create\", \"update\", \"read\"] }
  path \"transit/sign/approver-{{identity.entity.id}}\"  { capabilities = [\"update\"] }
and, once for each person: vault write transit/keys/approver-ENTITY type=ed25519
With an SSH key: kv/data/approvals/+/NAME in place of the last two, and no transit key.
Of an approval of kind control_group Vault itself asks: your login authorizes the request there, and nothing is signed.
In place of the last one, and of the transit key:
  path \"sys/control-group/authorize\"                  { capabilities = [\"update\"] }
  path \"sys/control-group/request\"                    { capabilities = [\"update\"] }

Exit codes: 0 said, 1 failed, 2 wrong command line, 3 you are no approver of it, or refused by Vault")]
pub(super) struct ApproveArgs {
    #[command(flatten)]
    word: Word,
}

/// Say no to a request
///
/// One no ends a request, also one that is granted and not used yet, and also after your own yes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger refuse 6a1f3c20-9b1e42aa10f3 --reason 'not on a Friday'

It needs what `claviger approve --help` says.
What waits in a control group of Vault, which knows no no, is ended there by the agent when it sees yours in the store.

Exit codes: 0 said, 1 failed, 2 wrong command line, 3 you are no approver of it, or refused by Vault")]
pub(super) struct RefuseArgs {
    #[command(flatten)]
    word: Word,
}

#[derive(Debug, clap::Args)]
struct Word {
    /// Which request, as `claviger approvals` and the agent's answer name it
    #[arg(value_parser = id)]
    id: Id,
    /// Why, for the record: one line
    #[arg(long, value_parser = reason)]
    reason: String,
    /// Sign with this SSH key (ed25519), by ssh-keygen, in place of your key in Vault
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Where requests are in Vault [default: CLAVIGER_APPROVALS, else kv/approvals]
    #[arg(long, value_name = "MOUNT/PATH")]
    store: Option<String>,
}

pub(super) fn list(args: &ListArgs) -> Result<Exit, Failure> {
    let text = at_desk(&args.place, async |desk| {
        let all = desk.all(args.all).await?;
        Ok(if args.json { text::json(&all) } else { text::plain(&all) })
    })?;
    answer(text.as_bytes())
}

pub(super) fn approve(args: &ApproveArgs) -> Result<Exit, Failure> {
    say(&args.word, Decision::Approve)
}

pub(super) fn refuse(args: &RefuseArgs) -> Result<Exit, Failure> {
    say(&args.word, Decision::Refuse)
}

fn say(word: &Word, decision: Decision) -> Result<Exit, Failure> {
    at_desk(&word.place, async |desk| {
        let request = desk.request(&word.id).await?;
        terminal::say(&text::one(&request));
        desk.say(&request, decision, &word.reason, word.ssh_key.as_deref()).await
    })?;
    Ok(Exit::Done)
}

#[expect(clippy::disallowed_methods, reason = "the commands may read the environment")]
fn at_desk<T>(place: &Place, act: impl AsyncFnOnce(&Desk) -> Result<T, Failure>) -> Result<T, Failure> {
    let named = std::env::var(STORE_VARIABLE).ok().filter(|named| !named.is_empty());
    let store = place.store.clone().or(named).unwrap_or_else(|| STORE.to_owned());
    crypto::install();
    block_on(async {
        let desk = Desk::open(Person::of_environment()?, &store).await?;
        act(&desk).await
    })?
}

fn id(text: &str) -> Result<Id, String> {
    Id::parse(text).ok_or_else(|| "not the id of a request; `claviger approvals` shows them".to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    if is_reason(text) { Ok(text.to_owned()) } else { Err("write up to 200 bytes on one line".to_owned()) }
}
