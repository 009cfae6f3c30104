//! The Vault side of the agent on a bench: identities and keepers over an in-memory Vault, with tokio's paused clock.

use bytes::Bytes;
use claviger::{
    approval::{self, Grant},
    keeper::{self, Holding, Keeper, Kind, Shared, Shelf, kv::Engines, own, task::keep},
    name::{IdentityName, RuleName, SecretName, WorkloadName},
    peer::{self, level::Level},
    policy::{self, Policy, rule::Rule},
    vault::{
        Budget, Settings, Vault,
        endpoint::TransitKey,
        keepalive,
        login::{self, Method, SecretId},
        session::{self, Identity, Start, State, Terms},
        wire::{Connect, Lost, Reply, Wire},
    },
};
use devvault::{DevVault, RoleIds};
use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;
use zeroize::Zeroizing;

/// A wire that ends in an in-memory Vault.
struct DevWire(DevVault);

impl Wire for DevWire {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, Lost>> + Send + '_>> {
        Box::pin(async move {
            let answer = self.0.exchange(request).await;
            let (parts, body) = answer.map_err(|lost| Lost::Unanswered(lost.to_string()))?.into_parts();
            if body.len() > claviger::vault::wire::LARGEST_ANSWER {
                return Err(Lost::TooLarge);
            }
            Ok(Reply {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: Zeroizing::new(body.to_vec()),
                room: None,
                rest: None,
            })
        })
    }
}

/// One Vault, and what of ours speaks to it.
pub(crate) struct Bench {
    pub(crate) vault: Vault,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) stop: CancellationToken,
    pub(crate) facts: mpsc::UnboundedReceiver<session::Fact>,
    pub(crate) leases: mpsc::UnboundedReceiver<keeper::fact::Fact>,
    facts_in: mpsc::UnboundedSender<session::Fact>,
    shared: Shared,
    tasks: JoinSet<()>,
}

impl Bench {
    /// A bench around `dev`, with the default budget.
    pub(crate) fn new(dev: &DevVault) -> Self {
        Self::with(&[("http://127.0.0.1:8200", dev)], Budget::default())
    }

    /// A bench with several addresses, each with a Vault behind it.
    pub(crate) fn with(servers: &[(&str, &DevVault)], budget: Budget) -> Self {
        let addresses: Vec<Url> = servers.iter().map(|(url, _)| Url::parse(url).unwrap()).collect();
        let known: Vec<(Url, DevVault)> =
            addresses.iter().cloned().zip(servers.iter().map(|(_, dev)| (*dev).clone())).collect();
        let connect: Box<Connect> = Box::new(move |_, address, _| {
            let dev = known.iter().find(|(url, _)| url == address).map(|(_, dev)| dev.clone()).unwrap();
            Ok(Arc::new(DevWire(dev)))
        });
        let settings = Settings {
            addresses,
            ca_file: None,
            client_cert: None,
            server_name: None,
            namespace: None,
            timeout: Duration::from_secs(10),
            budget,
        };
        let vault = Vault::over(settings, connect).unwrap();
        let (facts_in, facts) = mpsc::unbounded_channel();
        let (leases_in, leases) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let shared = Shared {
            vault: vault.clone(),
            engines: Engines::default(),
            fingerprint_key: Arc::default(),
            boot: "boot".into(),
            tags: Arc::default(),
            facts: leases_in,
            exit: stop.clone(),
        };
        Self {
            vault,
            folder: tempfile::tempdir().unwrap(),
            stop,
            facts,
            leases,
            facts_in,
            shared,
            tasks: JoinSet::new(),
        }
    }

    /// Writes a credential file.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// An AppRole identity whose credentials are `ids`.
    pub(crate) fn approle(&self, ids: &RoleIds) -> login::Settings {
        login::Settings {
            name: IdentityName::new("reports").unwrap(),
            method: Method::AppRole {
                mount: "approle".into(),
                role_id_file: self.file("role_id", &ids.role_id),
                secret_id: SecretId::Plain { file: self.file("secret_id", &ids.secret_id) },
            },
            revoke_on_exit: true,
        }
    }

    /// Starts an identity.
    pub(crate) fn identity(&mut self, settings: login::Settings) -> Identity {
        let terms = Terms::new(Duration::from_secs(60), settings.revoke_on_exit);
        let (identity, keepalive) =
            keepalive::identity(settings, self.vault.clone(), terms, Start::Fresh, self.facts_in.clone());
        self.tasks.spawn(keepalive.run(self.stop.clone()));
        identity
    }

    /// Values to come are fingerprinted by this key.
    pub(crate) fn fingerprint_by(&self, mount: &str, name: &str) {
        let key = TransitKey { mount: mount.into(), name: name.into() };
        self.shared.fingerprint_key.store(Some(Arc::new(key)));
    }

    /// Starts keeping a secret.
    pub(crate) fn keep(
        &mut self,
        identity: &Identity,
        secret: &str,
        kind: Kind,
    ) -> tokio::sync::watch::Receiver<Shelf> {
        self.keep_for(identity, secret, kind).0
    }

    /// The same, with the keeper that hands it out.
    pub(crate) fn keep_for(
        &mut self,
        identity: &Identity,
        secret: &str,
        kind: Kind,
    ) -> (tokio::sync::watch::Receiver<Shelf>, Keeper) {
        let (slot, task) = keep(settings(secret, kind), identity.clone(), self.shared.clone());
        let shelf = slot.shelf();
        let keeper = Keeper::default();
        keeper.replace([(name(secret), Holding::Shared(slot))].into());
        self.tasks.spawn(task.run(self.stop.child_token()));
        (shelf, keeper)
    }

    /// Starts keeping a token for each process, until the token that comes with its keeper is cancelled.
    pub(crate) fn keep_own(
        &mut self,
        identity: &Identity,
        secret: &str,
        kind: Kind,
    ) -> (Keeper, CancellationToken) {
        let (own, group) = own::keep(settings(secret, kind), identity.clone(), self.shared.clone());
        let keeper = Keeper::default();
        keeper.replace([(name(secret), Holding::Own(own))].into());
        let stop = self.stop.child_token();
        self.tasks.spawn(group.run(stop.clone()));
        (keeper, stop)
    }

    /// Stops everything and waits for it.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

fn settings(secret: &str, kind: Kind) -> keeper::Settings {
    keeper::Settings {
        name: name(secret),
        identity: IdentityName::new("reports").unwrap(),
        kind,
        grace: Duration::from_secs(60),
    }
}

/// A secret's name.
pub(crate) fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

/// Waits until the identity stands as wanted.
pub(crate) async fn until(identity: &mut Identity, wanted: impl Fn(&State) -> bool) -> State {
    let limit = Duration::from_secs(24 * 3600);
    tokio::time::timeout(limit, identity.state.wait_for(|state| wanted(state)))
        .await
        .unwrap()
        .unwrap()
        .clone()
}

/// A grant of `secret` for this very process, by the whole path up to it.
pub(crate) fn grant(secret: &str) -> Grant {
    let (ours, _theirs) = tokio::net::UnixStream::pair().unwrap();
    grant_to(&ours, Level::User, secret)
}

/// A grant of `secret` for whoever made the other end of `ours`.
pub(crate) fn grant_to(ours: &tokio::net::UnixStream, level: Level, secret: &str) -> Grant {
    let workload = WorkloadName::new("job").unwrap();
    let anyone = peer::Settings {
        uids: vec![],
        gids: vec![],
        groups: vec![],
        level,
        strangers: peer::Strangers::default(),
        program: None,
    };
    let peer = peer::identify(ours, &anyone, &workload).unwrap();
    let rule = Rule {
        name: RuleName::new("keys").unwrap(),
        secrets: vec![name(secret)],
        audit: None,
        requests_per_second: None,
        break_glass: None,
        approval: None,
    };
    let policy = Policy::of(&policy::Settings {
        workload,
        rules: vec![rule],
        forwards: Vec::new(),
        calls: Vec::new(),
        bridge: policy::Bridge::Deny,
        revision: "sha256:0".into(),
    });
    approval::waive(policy::decide(&policy, &peer, Some(&name(secret))).unwrap())
}
