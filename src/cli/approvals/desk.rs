//! The store in Vault, as a person reads it and writes into it.
//!
//! Checks no signature: the agent does.

use super::{
    super::exit::{Exit, Failure},
    group::InVault,
    person::{Person, failed},
    sign,
};
use crate::{
    approval::{
        Id, TAKEN,
        ticket::{Decision, Shown, ShownApprover, Ticket, Vote, digest, statement},
    },
    clock::{self, Timestamp},
    crypto::hex,
    vault::{
        caller::Caller as _,
        endpoint::Request,
        error::Class,
        kv2::{Kv2, Place, Written},
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use std::path::Path;

/// A store, and who reads it.
pub(super) struct Desk {
    person: Person,
    store: Place,
}

/// A request as it stands in the store.
pub(super) struct Standing {
    pub(super) id: Id,
    pub(super) shown: Shown,
    pub(super) ticket: Ticket,
    pub(super) digest: String,
    pub(super) not_after: Timestamp,
    /// Who has said what.
    pub(super) votes: Vec<(String, Vote)>,
    pub(super) used: u64,
    /// Where Vault itself asks: how it stands there.
    pub(super) in_vault: Option<InVault>,
}

impl Standing {
    /// How it stands, by votes that nobody has checked here.
    pub(super) fn state(&self) -> &'static str {
        let says = |decision: Decision| {
            self.votes.iter().filter(|(_, vote)| vote.decision() == Some(decision)).count() as u64
        };
        let constraints = &self.ticket.constraints;
        if says(Decision::Refuse) > 0 {
            "refused"
        } else if self.used >= constraints.uses {
            "used"
        } else if let Some(state) = self.in_vault.as_ref().and_then(InVault::state) {
            // What is over there by its time is over here too.
            if state == "ended" && clock::now() > self.not_after { "expired" } else { state }
        } else if self.in_vault.is_none() && says(Decision::Approve) >= constraints.quorum {
            "approved"
        } else if clock::now() > self.not_after {
            "expired"
        } else {
            "pending"
        }
    }
}

impl Desk {
    /// The store at `place`, `MOUNT/PATH`.
    pub(super) async fn open(person: Person, place: &str) -> Result<Self, Failure> {
        let store = Kv2::by(&person).place(place.trim_matches('/')).await;
        let store = store.map_err(|error| match error.class() {
            Class::Invalid => Failure::of(Exit::Usage, &error).remedy("write MOUNT/PATH"),
            _ => failed(&error),
        })?;
        Ok(Self { person, store })
    }

    /// What waits; with `all`, what is over too. Oldest first.
    pub(super) async fn all(&self, all: bool) -> Result<Vec<Standing>, Failure> {
        let mut found = Vec::new();
        for name in self.names("").await? {
            let Some(id) = name.strip_suffix('/').and_then(Id::parse) else { continue };
            // One that is damaged must not hide the others.
            let Ok(standing) = self.request(&id).await else { continue };
            if all || standing.state() == "pending" {
                found.push(standing);
            }
        }
        Ok(found)
    }

    /// One request.
    pub(super) async fn request(&self, id: &Id) -> Result<Standing, Failure> {
        let missing = || {
            Failure::new(Exit::Failed, format!("there is no request {id} in {}", self.store))
                .remedy("name the store of its agent: --store MOUNT/PATH")
        };
        let (shown, _) = self.read::<Shown>(&format!("{id}/request")).await?.ok_or_else(missing)?;
        let damaged =
            || Failure::new(Exit::Failed, format!("what stands in the store of {id} is no request"));
        let ticket: Ticket = serde_json::from_str(&shown.ticket).map_err(|_| damaged())?;
        let not_after = ticket.not_after.parse().map_err(|_| damaged())?;
        let slots = self.names(&format!("{id}/")).await?;
        let mut votes = Vec::new();
        for approver in shown.approvers.iter().filter(|approver| slots.contains(&approver.slot)) {
            if let Some((vote, _)) = self.read::<Vote>(&format!("{id}/{}", approver.slot)).await? {
                votes.push((approver.name.clone(), vote));
            }
        }
        let in_vault = self.in_vault(&shown, &ticket).await?;
        for slot in slots.iter().filter(|slot| !TAKEN.contains(&slot.as_str())) {
            let Some(in_vault) = &in_vault else { break };
            let vote = self.read::<Vote>(&format!("{id}/{slot}")).await?.map(|(vote, _)| vote);
            votes.extend(vote.filter(|vote| in_vault.shows(slot, vote)).map(|vote| (slot.clone(), vote)));
        }
        let uses = self.read::<serde_json::Value>(&format!("{id}/uses")).await?;
        let used = uses.and_then(|(uses, _)| uses.get("used")?.as_u64()).unwrap_or(0);
        let digest = hex(&digest(&shown.ticket));
        Ok(Standing { id: id.clone(), shown, ticket, digest, not_after, votes, used, in_vault })
    }

    /// Leaves a person's word beside a request.
    pub(super) async fn say(
        &self,
        request: &Standing,
        decision: Decision,
        reason: &str,
        ssh_key: Option<&Path>,
    ) -> Result<(), Failure> {
        if clock::now() > request.not_after && decision == Decision::Approve {
            return Err(Failure::new(Exit::Failed, format!("the time of request {} is over", request.id)));
        }
        if request.in_vault.is_some() {
            let with_key =
                || Failure::new(Exit::Usage, format!("{} is answered to Vault, not signed", request.id));
            return match ssh_key {
                Some(_) => Err(with_key().remedy("leave --ssh-key out: your login in Vault is what counts")),
                None => self.say_in_vault(request, (decision, reason)).await,
            };
        }
        let text = statement(decision, &digest(&request.shown.ticket), reason);
        let (approver, signature) = match ssh_key {
            Some(key) => sign::by_ssh(&request.shown, key, &text)?,
            None => {
                let approver = self.me(request).await?;
                let signature = self.by_vault(&request.shown.transit, &approver, &text).await?;
                (approver, signature)
            }
        };
        let place = format!("{}/{}", request.id, approver.slot);
        let vote = json!({
            "decision": decision.word(), "digest": request.digest, "reason": reason, "signature": signature,
        });
        let before = self.read::<Vote>(&place).await?;
        let version = match &before {
            Some((vote, _)) if decision == Decision::Approve => {
                let said = format!("{} has said {} already: {}", approver.name, vote.decision, vote.reason);
                return Err(Failure::new(Exit::Failed, said));
            }
            Some((_, version)) => *version,
            None => 0,
        };
        self.write(&place, &vote, version).await
    }

    /// Writes what must stand there as this version so far.
    pub(super) async fn write(
        &self,
        name: &str,
        value: &serde_json::Value,
        version: u64,
    ) -> Result<(), Failure> {
        let place = self.store.below(name);
        match Kv2::by(&self.person).write(&place, value, version).await.map_err(|error| failed(&error))? {
            Written::As(_) => Ok(()),
            Written::Overtaken => {
                let said = format!("somebody has written to {place} meanwhile");
                Err(Failure::new(Exit::Failed, said).remedy("look at the request again"))
            }
        }
    }

    /// Who reads it.
    pub(super) fn person(&self) -> &Person {
        &self.person
    }

    /// Which approver the person is, by the entity of the token.
    async fn me(&self, request: &Standing) -> Result<ShownApprover, Failure> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            entity_id: String,
        }
        let look = Request::lookup_self().map_err(|error| failed(&error))?;
        let answer = self.person.call(&look).await.map_err(|error| failed(&error))?;
        let Token { entity_id } = answer.data().map_err(|error| failed(&error))?;
        let is_mine = |approver: &&ShownApprover| approver.entity_id.as_deref() == Some(&*entity_id);
        let me = request.shown.approvers.iter().find(is_mine).filter(|_| !entity_id.is_empty()).cloned();
        me.ok_or_else(|| {
            let names: Vec<&str> = request.shown.approvers.iter().map(|one| one.name.as_str()).collect();
            let text = format!("you are no approver of {}: these are {}", request.id, names.join(", "));
            Failure::new(Exit::Refused, text)
                .remedy("log in as one of them, or sign with --ssh-key if that is how you are known")
        })
    }

    async fn by_vault(&self, transit: &str, me: &ShownApprover, text: &str) -> Result<String, Failure> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        #[derive(Deserialize)]
        struct Signed {
            signature: String,
        }
        let key = crate::approval::signed::transit_key(me.entity_id.as_deref().unwrap_or_default());
        let sign = Request::transit_sign(transit, &key, STANDARD.encode(text));
        let sign = sign.map_err(|error| failed(&error))?;
        let answer = self.person.call(&sign).await.map_err(|error| failed(&error))?;
        Ok(answer.data::<Signed>().map_err(|error| failed(&error))?.signature)
    }

    /// The names in the folder of that name below the store; in the store itself where it is empty.
    async fn names(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let names = Kv2::by(&self.person).list(&self.store.below(folder)).await;
        names.map_err(|error| failed(&error))
    }

    /// What stands there, if it is of that form, and its version.
    pub(super) async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<(T, u64)>, Failure> {
        let found = Kv2::by(&self.person).read(&self.store.below(name)).await;
        let found = found.map_err(|error| failed(&error))?;
        Ok(found.and_then(|found| Some((found.value()?, found.version))))
    }
}
