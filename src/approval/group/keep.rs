//! Asks by knocking, and keeps what waits behind: in the store for those who say yes, and for another start of the agent.
//!
//! What is taken from the store is what we sealed there ourselves, for exactly this request; anything else is asked for anew.

use super::{Door, Group, Guard, HELD, Wrapped};
use crate::{
    approval::{
        Id, Refusal,
        fact::{Act, Joined},
        request::{Around, BEGUN, Request, TRIES},
        shown::shown,
        store::{Pointer, Written, pointer},
        ticket::{Shown, Ticket},
    },
    clock::{self, rfc3339},
    secret::SecretValue,
    vault::{
        endpoint::{Request as Call, TransitKey},
        error::{Class, Error},
        group::{Wrapping, is_gone},
    },
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

const DOING: &str = "asking for a person's yes";

/// The token in the store.
#[derive(Serialize, Deserialize)]
struct Held {
    /// By the transit key, for this digest alone.
    sealed: String,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Inner {
    token: Zeroizing<String>,
    accessor: Zeroizing<String>,
}

impl Request {
    /// Joins the request that waits in Vault by the word of the store, or asks Vault by `door`.
    pub(in crate::approval) async fn knock(
        around: &Around<'_>,
        ticket: &Ticket,
        (group, door): (&Group, &dyn Door),
    ) -> Result<Self, Refusal> {
        let place = pointer(&ticket.fingerprint());
        for round in 1..=TRIES {
            let found = around.store.read(&place).await.map_err(Refusal::Vault)?;
            let known = found.data.and_then(|data| serde_json::from_value::<Pointer>(data).ok());
            let alive = known.filter(|known| known.not_after.parse().is_ok_and(|end| clock::now() < end));
            if let (Some(known), Some(key)) = (alive.as_ref(), &group.transit_key) {
                if let Some(joined) =
                    Self::rejoin(around, ticket, known, key).await.map_err(Refusal::Vault)?
                {
                    joined.tell(around, Act::Requested { joined: Joined::Earlier });
                    return Ok(joined);
                }
                if round == 1 {
                    // Another one may have begun to ask.
                    tokio::time::sleep(BEGUN).await;
                    continue;
                }
            }
            let Some(wrapped) = door.knock().await else {
                return Err(Refusal::Unguarded { name: around.settings.name.clone() });
            };
            let asked = Self::behind(around, ticket, wrapped).map_err(Refusal::Vault)?;
            match asked.keep(around, (&place, found.version), group).await {
                Ok(Written::Done) => {
                    asked.tell(around, Act::Requested { joined: Joined::New });
                    return Ok(asked);
                }
                Ok(Written::Overtaken) => asked.let_go(around).await,
                Err(error) => {
                    asked.let_go(around).await;
                    return Err(Refusal::Vault(error));
                }
            }
        }
        let said = "others ask for the same all the time";
        Err(Refusal::Vault(Error::new(Class::Away, DOING, said)))
    }

    /// The request that waits behind `wrapped`.
    fn behind(around: &Around<'_>, ticket: &Ticket, wrapped: Wrapped) -> Result<Self, Error> {
        let now = clock::now();
        let left = wrapped.until.saturating_duration_since(Instant::now());
        let ttl = jiff::SignedDuration::try_from(around.settings.ttl.min(left)).unwrap_or_default();
        let until = Some(now + ttl);
        let mut asked = Self::new(&Around { until, ..*around }, ticket, now)?;
        asked.guard = Some(Guard::new(wrapped));
        Ok(asked)
    }

    /// Puts it where persons find it, and looks whether it can be asked how it stands.
    async fn keep(
        &self,
        around: &Around<'_>,
        (place, version): (&str, u64),
        group: &Group,
    ) -> Result<Written, Error> {
        let Some(guard) = &self.guard else { return Ok(Written::Overtaken) };
        self.standing(around, guard).await?;
        let own = Pointer { id: self.id.to_string(), not_after: rfc3339(self.not_after) };
        if around.store.write(place, &own, version).await? == Written::Overtaken {
            return Ok(Written::Overtaken);
        }
        if let Some(key) = &group.transit_key {
            let held = Held { sealed: seal(around, key, &guard.wrapped.wrapping, self.digest()).await? };
            around.store.write(&format!("{}/{HELD}", self.id), &held, 0).await?;
        }
        let shown = Shown { accessor: self.accessor(), ..shown(around.settings, &self.text) };
        around.store.write(&format!("{}/request", self.id), &shown, 0).await
    }

    /// What persons authorize it by, where Vault itself asks.
    pub(in crate::approval) fn accessor(&self) -> Option<String> {
        self.guard.as_ref().map(|guard| guard.accessor().expose().to_owned())
    }

    /// Nobody will use it.
    pub(in crate::approval) async fn let_go(mut self, around: &Around<'_>) {
        if let Some(guard) = self.guard.take() {
            guard.end(around.store.vault).await;
        }
    }

    /// The request that another start of the agent asked Vault, if it still waits there.
    async fn rejoin(
        around: &Around<'_>,
        ticket: &Ticket,
        known: &Pointer,
        key: &TransitKey,
    ) -> Result<Option<Self>, Error> {
        let Some(id) = Id::parse(&known.id) else { return Ok(None) };
        let Some(mut joined) = Self::find(around, ticket, id).await? else { return Ok(None) };
        let found = around.store.read(&format!("{}/{HELD}", joined.id)).await?;
        let held = found.data.and_then(|data| serde_json::from_value::<Held>(data).ok());
        let Some(held) = held.filter(|_| joined.used < around.settings.uses) else { return Ok(None) };
        let unsealed = around.store.call(&Call::transit_decrypt(key, &held.sealed, joined.digest())).await;
        let bytes = match unsealed {
            Ok(answer) => answer.unsealed()?,
            // Sealed by another key, or for another request.
            Err(error) if matches!(error.class(), Class::Invalid | Class::Missing) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(Inner { mut token, mut accessor }) = serde_json::from_slice::<Inner>(&bytes) else {
            return Ok(None);
        };
        let take = |text: &mut Zeroizing<String>| SecretValue::new(std::mem::take(&mut **text));
        let left = Duration::try_from(joined.not_after.duration_since(clock::now())).unwrap_or_default();
        let wrapping = Wrapping { token: take(&mut token), accessor: take(&mut accessor), ttl: left };
        let session = around.store.acting(&joined.ticket.identity)?;
        let namespace = joined.ticket.resource.namespace.clone();
        let guard = Guard::new(Wrapped { wrapping, session, namespace, until: Instant::now() + left });
        match joined.standing(around, &guard).await {
            Ok(_) => {
                joined.guard = Some(guard);
                Ok(Some(joined))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

async fn seal(
    around: &Around<'_>,
    key: &TransitKey,
    wrapping: &Wrapping,
    digest: &[u8],
) -> Result<String, Error> {
    let text = |secret: &SecretValue| Zeroizing::new(secret.expose().to_owned());
    let inner = Inner { token: text(&wrapping.token), accessor: text(&wrapping.accessor) };
    let invalid = |_| Error::new(Class::Invalid, DOING, "it is no JSON");
    let bytes = Zeroizing::new(serde_json::to_vec(&inner).map_err(invalid)?);
    around.store.call(&Call::transit_encrypt(key, &bytes, digest)).await?.sealed()
}
