//! The steps of a run of kind `bootstrap`, each journalled before the next one changes anything.
//!
//! Does not decide which step comes next (`phase` does).

use super::{Bootstrap, number};
use crate::{
    clock::{self, Timestamp},
    rotation::{
        document::{Document, Ids},
        fact::{Act as Did, Failure},
        journal::{self, Entry},
        phase::{Applied, Facts, Orphaned, Probe, State, Works},
        run::{Broken, Next, Work},
        store::{Store, Written},
        system::Unknown,
        task::Task,
    },
    secret::SecretValue,
    vault::{
        approle::{Found, Label},
        error::{Class, Error},
        session::State as Standing,
    },
};
use std::sync::Arc;

impl Task {
    /// Whether Vault knows the secret id of the run; what is there and nobody knows is destroyed.
    pub(in crate::rotation) async fn find_secret_id(&mut self, work: &mut Work) -> Result<(), Broken> {
        work.facts.probe = Some(Probe::AcceptsNone);
        let Some((bootstrap, store)) = self.driver.bootstrap() else { return Ok(()) };
        let document = &work.entry.document;
        match document.value(1).filter(|value| !value.is_empty()) {
            // Without a token nobody can be asked. It may be the only one that works: then the login that tries it says so.
            Some(_) if store.session().is_err() => work.facts.probe = Some(Probe::Accepts(1)),
            Some(value) => {
                if let Some(found) = bootstrap.find(store, value).await? {
                    self.know(work, &found).await?;
                    work.facts.probe = Some(Probe::Accepts(1));
                }
            }
            None if document.aim.ids.as_ref().is_some_and(|ids| ids.asked) => {
                self.clear_strays(work).await?;
            }
            None => {}
        }
        Ok(())
    }

    /// Destroys secret ids that Vault made for this run, and whose value was told to somebody who could not record it.
    async fn clear_strays(&mut self, work: &mut Work) -> Result<(), Broken> {
        self.fence(work).await?;
        let Some((bootstrap, store)) = self.driver.bootstrap() else { return Ok(()) };
        let document = &work.entry.document;
        let run = document.run.as_ref().map_or("", |run| run.id.as_str());
        let strays = match bootstrap.made_for(store, run).await {
            // Without the right to list them they live to their ends, which must not keep us from a new one.
            Err(error) if error.class() == Class::Denied => {
                tracing::warn!(rotation = %self.settings.name, %error, "a secret id that nobody has may live to its end");
                return Ok(());
            }
            strays => strays?,
        };
        for accessor in strays {
            tracing::warn!(rotation = %self.settings.name, "a secret id that nobody has is destroyed");
            bootstrap.destroy(store, &accessor).await?;
        }
        Ok(())
    }

    /// Asks Vault for a new secret id, and has it in the journal before anything else is done.
    pub(in crate::rotation) async fn make_secret_id(&mut self, work: &mut Work) -> Result<Next, Broken> {
        work.facts.probe = None;
        let mut document = work.entry.document.clone();
        if let Some(ids) = &mut document.aim.ids {
            *ids = Ids { asked: true, former: ids.former.clone(), of: ids.of.clone(), ..Ids::default() };
        }
        // What Vault made and no longer knows cannot be made again.
        let is_custom = self.driver.bootstrap().is_some_and(|(bootstrap, _)| bootstrap.custom.is_some());
        if !is_custom {
            document.values = vec![(1, Arc::new(SecretValue::new(String::new())))];
        }
        // From here on there may be one that nobody knows; this renews the lease too.
        self.write(work, document).await?;
        let Some((bootstrap, store)) = self.driver.bootstrap() else { return Ok(Next::Step) };
        let mut document = work.entry.document.clone();
        let custom = document.value(1).filter(|_| is_custom).cloned();
        let run = document.run.as_ref().map_or("", |run| run.id.as_str());
        let label = Label { rotation: self.settings.name.as_str(), run };
        let made = bootstrap.make(store, label, custom.as_deref()).await?;
        document.values = vec![(1, Arc::new(made.secret_id))];
        if let Some(ids) = &mut document.aim.ids {
            ids.accessor = Some(made.accessor);
        }
        self.write(work, document).await?;
        work.facts.applied = Some(Applied::Done);
        self.report(&work.entry.document, Did::Set);
        Ok(Next::Step)
    }

    /// Keeps what Vault says of the new one: at its end nobody may be there to ask.
    async fn know(&mut self, work: &mut Work, found: &Found) -> Result<(), Broken> {
        let mut document = work.entry.document.clone();
        if let Some(ids) = &mut document.aim.ids {
            ids.accessor = Some(found.accessor.clone());
            (ids.made, ids.due, ids.uses) = (number(found.made), found.due(), found.uses);
        }
        if document.aim == work.entry.document.aim { Ok(()) } else { self.write(work, document).await }
    }

    /// Whether a login with the new one works. One that does not is destroyed, and another one made.
    pub(in crate::rotation) async fn try_secret_id(&mut self, work: &mut Work) -> Result<Next, Broken> {
        let document = &work.entry.document;
        let (Some((bootstrap, store)), Some(value)) = (self.driver.bootstrap(), document.value(1)) else {
            return self.orphan(work, Orphaned::Journal).await;
        };
        let name = &self.settings.name;
        if let Some(uses) = document.aim.ids.as_ref().map(|ids| ids.uses).filter(|uses| *uses > 0) {
            let remedy = "set secret_id_num_uses=0 in the role: each start takes one, and the last one would be the end";
            tracing::error!(rotation = %name, uses, remedy, "a secret id that is good for so many logins is of no use");
            return self.discard(work).await;
        }
        match bootstrap.log_in(store, value).await {
            Ok(()) => {
                work.facts.tested = Some(Works::Yes);
                Ok(Next::Step)
            }
            Err(error) if error.class() == Class::Invalid => {
                tracing::error!(rotation = %name, %error, "Vault refuses the secret id that it just made");
                self.discard(work).await
            }
            // Also where the role is shut out for a while: then it says 403, whatever it is shown.
            Err(error) => Err(error.into()),
        }
    }

    async fn discard(&mut self, work: &mut Work) -> Result<Next, Broken> {
        self.report(&work.entry.document, Did::Failed(Failure::Refused));
        self.fence(work).await?;
        self.destroy_new(work).await?;
        let mut document = work.entry.document.clone();
        document.aim.attempts = document.aim.attempts.saturating_add(1);
        let attempts = usize::try_from(document.aim.attempts).unwrap_or(usize::MAX);
        if attempts >= self.cycles() {
            return self.orphan(work, Orphaned::Refused).await;
        }
        let value = Arc::new(self.driver.value().await?);
        document.state = State::begun(Some(1), document.state.before);
        document.values = vec![(1, value)];
        if let Some(ids) = &mut document.aim.ids {
            *ids = Ids { former: ids.former.clone(), of: ids.of.clone(), ..Ids::default() };
        }
        self.write(work, document).await?;
        work.facts = Facts::default();
        self.rest_a_while(work);
        Ok(Next::Step)
    }

    async fn destroy_new(&self, work: &Work) -> Result<(), Broken> {
        let ids = work.entry.document.aim.ids.as_ref();
        if let (Some((bootstrap, store)), Some(accessor)) =
            (self.driver.bootstrap(), ids.and_then(|ids| ids.accessor.as_deref()))
        {
            bootstrap.destroy(store, accessor).await?;
        }
        Ok(())
    }

    /// It waits for a person; but where one put another secret id into the file, theirs stays, and ours is destroyed.
    pub(in crate::rotation) async fn orphan_or_give_way(
        &mut self,
        work: &mut Work,
        why: Orphaned,
    ) -> Result<Next, Broken> {
        if why != Orphaned::Conflict || self.driver.bootstrap().is_none() {
            return self.orphan(work, why).await;
        }
        self.fence(work).await?;
        self.destroy_new(work).await?;
        self.report(&work.entry.document, Did::Failed(Failure::Conflict));
        self.give_up(work).await
    }

    /// Destroys the secret id from before, once the identity lives by the new one, as the file has it.
    pub(in crate::rotation) async fn destroy_former(&mut self, work: &mut Work) -> Result<(), Broken> {
        let Some((bootstrap, store)) = self.driver.bootstrap() else { return Ok(()) };
        let text = bootstrap.file.read()?.ok_or_else(|| bootstrap.fault("it is not there"))?;
        if !self.lives_by(store, text.hash).await {
            store.log_in_again();
            let said = "the identity does not live by the new secret id yet; the old one stays".to_owned();
            return Err(Broken::System(Unknown { act: "revoke", said }));
        }
        self.fence(work).await?;
        let Some((bootstrap, store)) = self.driver.bootstrap() else { return Ok(()) };
        if let Some(ids) = &work.entry.document.aim.ids
            && ids.accessor.as_ref() != Some(&ids.former)
        {
            bootstrap.destroy(store, &ids.former).await?;
        }
        Ok(())
    }

    /// Waits, for as long as one call may take, until the login in use was made by what has this hash.
    async fn lives_by(&self, store: &Store, hash: [u8; 32]) -> bool {
        let mut state = store.state();
        let is_so = |state: &Standing| match state {
            Standing::Live(session) => session.made_by().is_some_and(|made_by| made_by.text == hash),
            Standing::Starting | Standing::Down(_) => false,
        };
        tokio::time::timeout(self.settings.lease.call, state.wait_for(is_so))
            .await
            .is_ok_and(|said| said.is_ok())
    }

    /// Between runs: what somebody else put into the file is taken note of, and lived by from now on. Gives whether it was another one.
    pub(in crate::rotation) async fn mind_secret_id(&self, entry: &Entry) -> Result<bool, journal::Error> {
        let Some((bootstrap, store)) = self.driver.bootstrap() else { return Ok(false) };
        let known = entry.document.own.as_ref();
        if !bootstrap.is_another(known.map(|known| known.of.as_str()))? {
            return Ok(false);
        }
        let (text, found) = bootstrap.current(store).await?;
        let mut document = entry.document.clone();
        document.own = Some(Bootstrap::known_of(&text, &found));
        let written = self.journal.write(&document, entry.version).await?;
        Ok(matches!(written, Written::As(_) | Written::Overtaken))
    }
}

impl Bootstrap {
    /// Whether the file holds something else than what has this hash.
    fn is_another(&self, of: Option<&str>) -> Result<bool, Error> {
        let text = self.file.read()?;
        let hash = text.map(|text| crate::crypto::hex(&text.hash));
        Ok(hash.as_deref() != of)
    }
}

impl Document {
    /// When the secret id must be another one, whatever the schedule says.
    pub(in crate::rotation) fn due(&self) -> Option<Timestamp> {
        self.own.as_ref()?.due
    }

    /// Whether that is so now.
    pub(in crate::rotation) fn is_overdue(&self) -> bool {
        self.due().is_some_and(|due| due <= clock::now())
    }
}
