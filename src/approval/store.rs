//! The place in Vault where requests and votes meet: a folder of KV 2, written by check-and-set.
//!
//! `ID/request` is what is asked, `ID/SLOT` a vote, `ID/uses` how often a yes was used, `open/FINGERPRINT` which request equal calls
//! join, `glass/HASH` how a rule for emergencies stands. Each call has a hard end. Decides nothing.

use super::{group::HELD, outcome, ticket::Vote, told, webhook::SERVICE};
use crate::{
    crypto::{PublicKey, hex},
    name::IdentityName,
    vault::{
        Vault,
        answer::Answer,
        caller::{Caller, Calling},
        endpoint::Request,
        error::{Class, Error},
        kv2::{self, Kv2},
        limiter::Account,
        session::{Identity, Session, State},
    },
};
use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The longest that one call may take.
const LIMIT: Duration = Duration::from_secs(10);
/// What the store is called in errors.
const DOING: &str = "asking for a person's yes";

/// A folder in a KV 2 engine.
pub type Folder = kv2::Place;

/// Every identity that runs.
pub(super) type Identities = Arc<ArcSwap<BTreeMap<IdentityName, Identity>>>;

/// Names beside a request that are no approver's.
pub const TAKEN: [&str; 6] = ["request", "uses", told::SLOT, outcome::SLOT, SERVICE, HELD];

/// Whether somebody's word is there.
pub(super) fn beside(slot: &str) -> bool {
    !TAKEN.contains(&slot) && !slot.ends_with('/')
}

/// The way to one folder.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) vault: &'a Vault,
    pub(super) identities: &'a Identities,
    pub(super) identity: &'a IdentityName,
    pub(super) folder: &'a Folder,
}

/// The newest version of something.
pub(super) struct Newest {
    /// 0: there never was one.
    pub(super) version: u64,
    /// `None` where it is deleted, or never was.
    pub(super) data: Option<Value>,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there.
    Done,
    /// Somebody wrote before us.
    Overtaken,
}

/// Which request equal calls join.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pointer {
    pub(super) id: String,
    pub(super) not_after: String,
}

/// How often a yes was used.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Uses {
    /// When enough had said yes.
    pub(super) granted: String,
    pub(super) used: u32,
    /// The run of a rotation that used it: it may go on after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<String>,
}

impl Store<'_> {
    fn session(&self, identity: &IdentityName) -> Result<(Identity, Session), Error> {
        let identity = self.identities.load().get(identity).cloned();
        let identity = identity.ok_or_else(|| Error::new(Class::Away, DOING, "the identity is not there"))?;
        let session = match &*identity.state.borrow() {
            State::Live(session) => session.clone(),
            State::Starting => return Err(Error::new(Class::Away, DOING, "the login is not over")),
            State::Down(error) => return Err(error.clone()),
        };
        Ok((identity, session))
    }

    /// What `identity` acts with now.
    pub(super) fn acting(&self, identity: &str) -> Result<Session, Error> {
        let unknown = |_| Error::new(Class::Away, DOING, "the identity is not there");
        self.session(&IdentityName::new(identity).map_err(unknown)?).map(|(_, session)| session)
    }

    pub(super) async fn call(&self, request: &Request) -> Result<Answer, Error> {
        let (identity, session) = self.session(self.identity)?;
        self.call_as((&identity, &session), request).await
    }

    async fn call_as(
        &self,
        (identity, session): (&Identity, &Session),
        request: &Request,
    ) -> Result<Answer, Error> {
        let called = tokio::time::timeout(LIMIT, self.vault.call(&Account::Refresh, session, request)).await;
        let answer = called
            .unwrap_or_else(|_| Err(Error::new(Class::Away, DOING, "the call took longer than it may")));
        if answer.as_ref().is_err_and(|error| error.class() == Class::Denied) {
            identity.doubt(session);
        }
        answer
    }

    fn kv2(&self) -> Kv2<'_> {
        Kv2::by(self)
    }

    /// The newest version of `name`.
    pub(super) async fn read(&self, name: &str) -> Result<Newest, Error> {
        let newest = self.kv2().newest(&self.folder.below(name)).await?;
        Ok(Newest { version: newest.version, data: newest.value() })
    }

    /// Writes `name` if `version` is the newest.
    pub(super) async fn write(
        &self,
        name: &str,
        value: &impl Serialize,
        version: u64,
    ) -> Result<Written, Error> {
        Ok(match self.kv2().write(&self.folder.below(name), value, version).await? {
            kv2::Written::As(_) => Written::Done,
            kv2::Written::Overtaken => Written::Overtaken,
        })
    }

    /// What stands beside a request.
    pub(super) async fn slots(&self, id: &str) -> Result<Vec<String>, Error> {
        self.kv2().list(&self.folder.below(id)).await
    }

    /// The vote in a slot; `None` where there is none, and an empty one for what is none.
    pub(super) async fn vote(&self, id: &str, slot: &str) -> Result<Option<Vote>, Error> {
        let newest = self.read(&format!("{id}/{slot}")).await?;
        let nothing = || Vote {
            decision: String::new(),
            digest: String::new(),
            reason: String::new(),
            signature: String::new(),
        };
        Ok(newest.data.map(|data| serde_json::from_value(data).unwrap_or_else(|_| nothing())))
    }

    /// The public halves of a transit key of type ed25519, by version.
    pub(super) async fn keys(&self, mount: &str, key: &str) -> Result<BTreeMap<u64, PublicKey>, Error> {
        #[derive(Deserialize)]
        struct Key {
            keys: BTreeMap<String, Version>,
        }
        #[derive(Deserialize)]
        struct Version {
            public_key: String,
        }
        let answer = self.call(&Request::transit_key(mount, key)?).await?;
        let key: Key = answer.data()?;
        let keys = key.keys.into_iter().filter_map(|(version, key)| {
            let bytes = STANDARD.decode(key.public_key).ok()?;
            Some((version.parse().ok()?, bytes.try_into().ok()?))
        });
        Ok(keys.collect())
    }

    /// The entity in Vault that `identity` is, with the number of the login that said so.
    pub(super) async fn entity(&self, identity: &IdentityName) -> Result<(u64, String), Error> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            entity_id: String,
        }
        let (identity, session) = self.session(identity)?;
        let answer = self.call_as((&identity, &session), &Request::lookup_self()?).await?;
        Ok((session.number(), answer.data::<Token>()?.entity_id))
    }

    /// Which login of `identity` is in use.
    pub(super) fn login(&self, identity: &IdentityName) -> Result<u64, Error> {
        Ok(self.session(identity)?.1.number())
    }
}

impl Caller for Store<'_> {
    fn call<'a>(&'a self, request: &'a Request) -> Calling<'a> {
        Box::pin(Store::call(self, request))
    }
}

/// Which entity in Vault each identity is, as long as one login lasts.
#[derive(Default)]
pub(super) struct Entities(Mutex<BTreeMap<IdentityName, (u64, String)>>);

impl Entities {
    /// The entity of `identity`; empty where its token has none.
    pub(super) async fn of(&self, store: &Store<'_>, identity: &IdentityName) -> Result<String, Error> {
        let login = store.login(identity)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(identity).cloned();
        if let Some((_, entity)) = known.filter(|(of, _)| *of == login) {
            return Ok(entity);
        }
        let (login, entity) = store.entity(identity).await?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(identity.clone(), (login, entity.clone()));
        Ok(entity)
    }
}

/// Where equal calls find their request.
pub(super) fn pointer(fingerprint: &[u8]) -> String {
    format!("open/{}", hex(fingerprint))
}

/// There are no random bytes, of which ids are made.
pub(super) fn unrandom() -> Error {
    Error::new(Class::Credential, "asking for a person's yes", "the system gives no random bytes")
}
