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
    /// Takes a call from what the workload may cause, where there is a login to make it with: who asks before that is there would have
    /// nothing left once it is.
    pub(super) fn charge(&self, entry: &Arc<Entry>) -> Result<(), Refusal> {
        let around = self.around(entry, &|_| {}).map_err(Refusal::Vault)?;
        if let Err(error) = around.store.login(around.store.identity) {
            if entry.status().is_none() {
                // It takes no room: the next one asks.
                self.lock().open.remove(&entry.fingerprint);
            }
            return Err(Refusal::Vault(error));
        }
        let charged = around.store.vault.charge(&entry.workload, "asking for a person's yes");
        charged.map_err(Refusal::Vault)
    }

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

#[cfg(test)]
mod tests {
    use crate::{
        approval::{Approvals, Asked, Folder, Place, Refusal, Settings, ticket::Resource},
        crypto,
        name::{ApprovalName, IdentityName, RuleName, SecretName, WorkloadName},
        peer::Peer,
        policy::{self, Bridge, Permit, Policy, rule::Rule},
        vault::{self, Budget, Vault, error::Class},
    };
    use std::time::Duration;

    fn permit() -> Permit {
        let (workload, secret) = (WorkloadName::new("job").unwrap(), SecretName::new("stripe").unwrap());
        let rule = Rule {
            name: RuleName::new("keys").unwrap(),
            secrets: vec![secret.clone()],
            audit: None,
            requests_per_second: None,
            approval: Some(ApprovalName::new("two").unwrap()),
            break_glass: None,
        };
        let policy = Policy::of(&policy::Settings {
            workload: workload.clone(),
            rules: vec![rule],
            calls: Vec::new(),
            forwards: Vec::new(),
            bridge: Bridge::Deny,
            revision: "r".into(),
        });
        policy::decide(&policy, &Peer::for_test(&workload, 1, 1, &[]), Some(&secret)).unwrap()
    }

    fn settings() -> Settings {
        Settings {
            name: ApprovalName::new("two").unwrap(),
            identity: None,
            store: Folder { mount: "kv".into(), path: "approvals".into() },
            approvers: Vec::new(),
            transit: "transit".into(),
            quorum: 1,
            exclude: Vec::new(),
            ttl: Duration::from_secs(900),
            valid_for: Duration::from_secs(600),
            uses: 1,
            hold: Duration::ZERO,
            pending_max: 1,
            observe: false,
            webhook: None,
            group: None,
        }
    }

    #[tokio::test]
    async fn who_asks_before_there_is_a_login_uses_up_nothing_and_takes_no_room() {
        crypto::install();
        let vault = Vault::new(vault::Settings {
            addresses: vec!["http://127.0.0.1:1".parse().unwrap()],
            ca_file: None,
            client_cert: None,
            server_name: None,
            namespace: None,
            timeout: Duration::from_secs(1),
            budget: Budget { calls_per_second: 10, burst: 20 },
        })
        .unwrap();
        let (facts, _facts) = tokio::sync::mpsc::unbounded_channel();
        let approvals =
            Approvals::new(vault, super::super::store::Identities::default(), Place::default(), facts);
        approvals.replace(&[settings()], std::iter::empty());
        let asked = |_: &Permit| Asked {
            op: "read".into(),
            resource: Resource::default(),
            identity: IdentityName::new("reports").ok(),
            uid: 1,
            exe_sha256: None,
            door: None,
        };
        for _ in 0..50 {
            let (_, refusal) = approvals.obtain(permit(), asked, None).await.unwrap_err();
            let Refusal::Vault(error) = refusal else { panic!("{refusal:?}") };
            assert_eq!(error.class(), Class::Away, "{error}");
        }
    }
}
