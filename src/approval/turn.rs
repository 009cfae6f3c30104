//! One turn at Vault for one request: whoever has it asks, looks for votes, and spends a use.
//!
//! Does not know who waits. Between being granted and being used, the service that may have taken a yes back is asked, without the turn.

use super::{
    Id, Refusal, Spent, State, Status,
    desk::Inner,
    entry::Entry,
    group::Door,
    request::{Around, Look, Request},
};
use crate::{crypto::hex, vault::error::Error};
use std::sync::Arc;

impl Inner {
    /// Asks, if nobody has yet, and spends a use, if there is one.
    pub(super) async fn step(
        &self,
        entry: &Arc<Entry>,
        door: Option<&dyn Door>,
    ) -> Result<(Status, Option<Spent>), Refusal> {
        let tell = |fact| self.tell(fact);
        let around = self.around(entry, &tell).map_err(Refusal::Vault)?;
        let mut turn = entry.request.lock().await;
        let request = match &mut *turn {
            Some(request) => request,
            None => {
                let opened = match open(&around, entry, door).await {
                    Ok(opened) => opened,
                    Err(refusal) => {
                        // It takes no room: the next one asks.
                        self.lock().open.remove(&entry.fingerprint);
                        return Err(refusal);
                    }
                };
                self.lock().known.insert(opened.id.clone(), Arc::clone(entry));
                let request = turn.insert(opened);
                entry.note(request);
                self.opened.notify_one();
                request
            }
        };
        if request.granted.is_none()
            && let Err(error) = request.look(&around, Look::New).await
        {
            // Nobody has said yes as far as we know.
            tracing::debug!(%error, "looking for votes");
        }
        request.release(&around).await;
        let status = entry.note(request);
        if status.state != State::Granted {
            return Ok((status, None));
        }
        let digest = hex(request.digest());
        drop(turn);
        self.spend(entry, &around, (&status.id, &digest)).await
    }

    /// Spends a use of what is granted, if nobody has taken that back.
    async fn spend(
        &self,
        entry: &Arc<Entry>,
        around: &Around<'_>,
        of: (&Id, &str),
    ) -> Result<(Status, Option<Spent>), Refusal> {
        let unsaid = |_| Refusal::Unreachable { id: of.0.clone(), name: entry.settings.name.clone() };
        let votes = self.ask_before_use(entry, of).await.map_err(unsaid)?;
        let mut turn = entry.request.lock().await;
        let request = turn.as_mut().ok_or(Refusal::Missing)?;
        request.bring(around, &votes).await.map_err(Refusal::Vault)?;
        let spent = request.spend(around, None).await;
        request.release(around).await;
        let status = entry.note(request);
        spent.map(|spent| (status, spent)).map_err(Refusal::Vault)
    }

    /// Looks for votes, and spends nothing.
    pub(super) async fn look(&self, entry: &Entry) -> Result<(), Error> {
        let tell = |fact| self.tell(fact);
        let around = self.around(entry, &tell)?;
        let mut turn = entry.request.lock().await;
        let Some(request) = &mut *turn else { return Ok(()) };
        let looked = if request.granted.is_some() {
            request.expire(&around);
            Ok(())
        } else {
            request.look(&around, Look::New).await
        };
        request.release(&around).await;
        entry.note(request);
        looked
    }
}

/// Asks, as the approval's kind does.
async fn open(around: &Around<'_>, entry: &Entry, door: Option<&dyn Door>) -> Result<Request, Refusal> {
    match (&entry.settings.group, door) {
        (None, _) => Request::open(around, &entry.ticket).await.map_err(Refusal::Vault),
        (Some(group), Some(door)) => Request::knock(around, &entry.ticket, (group, door)).await,
        // What no request to Vault stands behind cannot be asked of it.
        (Some(_), None) => Err(Refusal::Missing),
    }
}
