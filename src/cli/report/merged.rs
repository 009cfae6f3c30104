//! What other pods left in Vault (`report.merge`), read with a login of that identity, or with a person's token.
//!
//! Deletes nothing there.

use super::login::{By, Login, person};
use crate::{
    app::ledgers::Folder,
    cli::{
        block_on,
        exit::{Exit, Failure},
        terminal,
    },
    clock::Timestamp,
    config::Config,
    crypto,
    usage::reader::Reader,
    vault::Vault,
};

/// Has `reader` take it; gives how many ledgers were too many to be read.
pub(super) fn read(
    config: &Config,
    by: &By<'_>,
    reader: &mut Reader,
    since: Timestamp,
) -> Result<usize, Failure> {
    let merge = config.report.as_ref().and_then(|report| report.merge.as_ref());
    let merge = merge.ok_or_else(|| {
        Failure::new(Exit::Usage, "the config says of no place where pods leave their ledgers")
            .remedy("write report: {merge: {identity: NAME, mount: kv, path: usage}}, or leave --merged out")
    })?;
    crypto::install();
    block_on(async {
        let failed = |error: &dyn std::error::Error| Failure::of(Exit::Failed, error);
        let vault = Vault::new(config.vault.clone()).map_err(|error| failed(&error))?;
        let own = config.identities.iter().find(|identity| identity.name == merge.identity).cloned();
        let settings = match (by.token_file, own) {
            (Some(file), _) => person(file)?,
            (None, Some(own)) => own,
            (None, None) => return Err(Failure::new(Exit::Failed, "its identity is not there")),
        };
        let login = Login::new(&vault, settings);
        let read = match login.session().await {
            Ok(session) => {
                Folder::new(&vault, &session, merge).read(reader, since).await.map_err(|error| failed(&error))
            }
            Err(text) => Err(Failure::new(Exit::Failed, text)),
        };
        login.end().await;
        let unread = read?.unread;
        if unread > 0 {
            terminal::say(&format!("warning: {unread} ledgers in Vault are too many to be read\n"));
        }
        Ok(unread)
    })?
}
