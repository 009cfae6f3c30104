//! Requests that Vault itself asks persons about: how they stand there, and a person's word on them.
//!
//! A yes is said to Vault, with the person's own login. A no is left in the store, since Vault takes none: the agent ends the request
//! there when it sees it.

use super::{
    super::{
        exit::{Exit, Failure},
        terminal,
    },
    desk::{Desk, Standing},
    person::failed,
};
use crate::{
    approval::ticket::{Decision, Shown, Ticket, Vote},
    secret::SecretValue,
    vault::{
        caller::Caller as _,
        endpoint::Request,
        error::Class,
        group::{self, is_gone},
    },
};
use serde::Deserialize;
use serde_json::json;

/// How such a request stands in Vault.
pub(super) enum InVault {
    /// As it says.
    Known(group::Standing),
    /// It is over there: used, ended, or out of time.
    Gone,
    /// Whoever asks may not know.
    Hidden,
}

impl InVault {
    /// The word of the list; `None`: others decide it.
    pub(super) fn state(&self) -> Option<&'static str> {
        match self {
            Self::Known(standing) if standing.approved => Some("approved"),
            Self::Known(_) | Self::Hidden => None,
            Self::Gone => Some("ended"),
        }
    }

    /// Whether a word in the store is of interest: a no always, a reason if its yes counts or nobody can tell.
    pub(super) fn shows(&self, entity: &str, vote: &Vote) -> bool {
        match self {
            Self::Known(standing) if vote.decision() == Some(Decision::Approve) => {
                standing.authorizations.iter().any(|yes| yes.entity_id == entity)
            }
            Self::Known(_) | Self::Gone | Self::Hidden => true,
        }
    }

    /// Who authorized it, for people.
    pub(super) fn authorized(&self) -> Vec<String> {
        let Self::Known(standing) = self else { return Vec::new() };
        standing.authorizations.iter().map(|yes| format!("{} ({})", yes.entity_name, yes.entity_id)).collect()
    }
}

/// What Vault knows it by.
fn named<'a>(shown: &Shown, ticket: &'a Ticket) -> Option<(SecretValue, Option<&'a str>)> {
    let accessor = SecretValue::new(shown.accessor.clone()?);
    Some((accessor, ticket.resource.namespace.as_deref()))
}

impl Desk {
    /// How a request stands in Vault; `None`: Vault does not ask about it.
    pub(super) async fn in_vault(&self, shown: &Shown, ticket: &Ticket) -> Result<Option<InVault>, Failure> {
        let Some((accessor, namespace)) = named(shown, ticket) else { return Ok(None) };
        let asked = self.person().call(&Request::group_standing(&accessor, namespace)).await;
        Ok(Some(match asked.and_then(|answer| answer.data()) {
            Ok(standing) => InVault::Known(standing),
            Err(error) if is_gone(&error) => InVault::Gone,
            Err(error) if error.class() == Class::Denied => InVault::Hidden,
            Err(error) => return Err(failed(&error)),
        }))
    }

    /// A person's word on such a request.
    pub(super) async fn say_in_vault(
        &self,
        request: &Standing,
        (decision, reason): (Decision, &str),
    ) -> Result<(), Failure> {
        let Some((accessor, namespace)) = named(&request.shown, &request.ticket) else { return Ok(()) };
        let entity = self.entity().await?;
        let word = self.leave(request, &entity, (decision, reason)).await;
        if decision == Decision::Refuse {
            word?;
            terminal::say("the agent sees it within a second or two, and ends the request in Vault\n");
            return Ok(());
        }
        if word.is_err() {
            terminal::say("the reason is not on record: your policy has no place for it in the store\n");
        }
        let authorize = Request::group_authorize(&accessor, namespace);
        let answer = self.person().call(&authorize).await.map_err(|error| failed(&error))?;
        #[derive(Deserialize)]
        struct Authorized {
            approved: bool,
        }
        let Authorized { approved } = answer.data().map_err(|error| failed(&error))?;
        if let Some(InVault::Known(standing)) = self.in_vault(&request.shown, &request.ticket).await?
            && !standing.authorizations.iter().any(|yes| yes.entity_id == entity)
        {
            let text = format!(
                "Vault does not count your yes to {}: your entity {entity} is in no group that may",
                request.id
            );
            return Err(Failure::new(Exit::Refused, text)
                .remedy("ask for a group that the control_group of that path names in group_names"));
        }
        terminal::say(if approved {
            "Vault lets it be done now\n"
        } else {
            "Vault waits for the yes of others\n"
        });
        Ok(())
    }

    /// Leaves a word beside the request, in the person's own place.
    async fn leave(
        &self,
        request: &Standing,
        entity: &str,
        (decision, reason): (Decision, &str),
    ) -> Result<(), Failure> {
        let place = format!("{}/{entity}", request.id);
        let version = self.read::<Vote>(&place).await?.map_or(0, |(_, version)| version);
        let word = json!({
            "decision": decision.word(), "digest": request.digest, "reason": reason, "signature": "",
        });
        self.write(&place, &word, version).await
    }

    /// Who the person is to Vault.
    async fn entity(&self) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            entity_id: String,
        }
        let look = Request::lookup_self().map_err(|error| failed(&error))?;
        let answer = self.person().call(&look).await.map_err(|error| failed(&error))?;
        let Token { entity_id } = answer.data().map_err(|error| failed(&error))?;
        if entity_id.is_empty() {
            let failure = Failure::new(
                Exit::Refused,
                "your login has no entity in Vault: nobody knows whose word it is",
            );
            return Err(failure.remedy("log in as yourself, not with a root token"));
        }
        Ok(entity_id)
    }
}
