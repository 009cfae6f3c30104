//! Logs in to Vault to ask what identities may do, and out again: as they do, with a person's token, or both.
//!
//! An identity that cannot log in here (its credentials are in its pod) is said to be so, and is no failure.

use crate::{
    app::grants::Asker,
    cli::{
        block_on,
        exit::{Exit, Failure},
        terminal,
    },
    config::Config,
    crypto,
    name::IdentityName,
    report::{granted::Granted, subject::Subject},
    usage::history::Record,
    vault::{
        Vault, keepalive,
        login::{Method, Settings},
        session::{Identity, Session, Start, State, Terms},
    },
};
use std::{path::Path, time::Duration};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long a login may take.
const LOGIN: Duration = Duration::from_secs(30);

/// Who asks.
pub(super) struct By<'a> {
    pub(super) own: bool,
    pub(super) token_file: Option<&'a Path>,
}

/// What Vault says of each identity.
pub(super) fn granted(
    config: &Config,
    subject: &Subject,
    record: &Record,
    by: &By<'_>,
) -> Result<Vec<Granted>, Failure> {
    crypto::install();
    block_on(async {
        let failed = |error: &dyn std::error::Error| Failure::of(Exit::Failed, error);
        let vault = Vault::new(config.vault.clone()).map_err(|error| failed(&error))?;
        let person = match by.token_file {
            Some(file) => Some(Login::new(&vault, person(file)?)),
            None => None,
        };
        let mut all = Vec::new();
        for settings in &config.identities {
            let mut granted = if by.own { own(&vault, settings, subject, record).await } else { None };
            if let Some(person) = &person {
                let session = person.session().await.map_err(|text| Failure::new(Exit::Failed, text))?;
                let asker = Asker::new(&vault, &session);
                granted = asker.for_another(granted, settings, subject).await;
            }
            all.extend(granted);
        }
        if let Some(person) = person {
            person.end().await;
        }
        Ok(all)
    })?
}

async fn own(vault: &Vault, settings: &Settings, subject: &Subject, record: &Record) -> Option<Granted> {
    let login = Login::new(vault, settings.clone());
    let granted = match login.session().await {
        Ok(session) => Some(Asker::new(vault, &session).own(&settings.name, subject, record).await),
        Err(text) => {
            terminal::say(&format!("warning: identity {}: {text}\n", settings.name));
            None
        }
    };
    login.end().await;
    granted
}

/// A person's token is nobody's to revoke here.
pub(super) fn person(file: &Path) -> Result<Settings, Failure> {
    let name = IdentityName::new("person").map_err(|error| Failure::of(Exit::Failed, &error))?;
    Ok(Settings { name, method: Method::TokenFile { token_file: file.to_owned() }, revoke_on_exit: false })
}

pub(super) struct Login {
    identity: Identity,
    exit: CancellationToken,
    tasks: JoinSet<()>,
}

impl Login {
    pub(super) fn new(vault: &Vault, settings: Settings) -> Self {
        let terms = Terms::new(Duration::ZERO, settings.revoke_on_exit);
        let (facts, _heard) = mpsc::unbounded_channel();
        let (identity, keepalive) = keepalive::identity(settings, vault.clone(), terms, Start::Fresh, facts);
        let (exit, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(keepalive.run(exit.clone()));
        Self { identity, exit, tasks }
    }

    pub(super) async fn session(&self) -> Result<Session, String> {
        let mut state = self.identity.state.clone();
        let over = timeout(LOGIN, state.wait_for(|state| !matches!(state, State::Starting))).await;
        match over {
            Ok(Ok(state)) => match &*state {
                State::Down(error) => Err(error.to_string()),
                State::Live(session) => Ok(session.clone()),
                State::Starting => Err("the login is not over".to_owned()),
            },
            _ => Err("the login to Vault takes too long".to_owned()),
        }
    }

    pub(super) async fn end(mut self) {
        self.exit.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
