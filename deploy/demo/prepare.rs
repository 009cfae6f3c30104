//! What Vault needs before claviger can work: two engines, a login, a policy. The same HTTP calls for every server.
//!
//! In a server of the user's, every name is new and everything is removed again; what was there is never touched.

use crate::{
    api::{Api, text},
    database::{self, Database},
    vault::{Owner, Server},
};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::time::Duration;

/// How long a token lives without a renewal, in seconds: so short that one is seen soon.
const TOKEN: u64 = 10;
/// The same for a lease.
const LEASE: u64 = 8;
/// The same for a child token: the shortest that claviger asks for.
const CHILD: u64 = 30;
/// A new KV engine of version 2 refuses everything while it prepares its storage; that takes less than a second.
const KV_READY: Duration = Duration::from_secs(20);
/// The API key that the permitted workload reads.
pub(crate) const API_KEY: &str = "sk_demo_4eC39HqLyjWDarjtT1";

/// The secret that is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dynamic {
    /// A database login, from a database engine whose database is the stand-in.
    DatabaseLogin,
    /// A child token: a Vault on another machine cannot reach the stand-in.
    ChildToken,
}

/// What was made, and how it is unmade.
pub(crate) struct Prepared {
    api: Api,
    owner: Owner,
    name: String,
    made: Vec<String>,
    database: Option<Database>,
    dynamic: Dynamic,
    /// The AppRole's two ids.
    pub(crate) ids: (String, String),
}

impl Prepared {
    /// Nothing made yet.
    pub(crate) fn new(server: &Server) -> Result<Self> {
        let name = match server.owner {
            Owner::Demo => "demo".to_owned(),
            Owner::User => {
                format!("claviger-demo-{}", claviger::crypto::hex(&claviger::crypto::random::<4>()?))
            }
        };
        let dynamic = if server.is_here() { Dynamic::DatabaseLogin } else { Dynamic::ChildToken };
        let (api, owner) = (server.api.clone(), server.owner);
        Ok(Self { api, owner, name, made: Vec::new(), database: None, dynamic, ids: Default::default() })
    }

    /// Makes everything. What was made before a failure is known to [`Prepared::undo`].
    pub(crate) async fn make(&mut self) -> Result<()> {
        self.keys().await?;
        if self.dynamic == Dynamic::DatabaseLogin {
            self.logins_of_a_database().await?;
        }
        self.login().await
    }

    async fn keys(&mut self) -> Result<()> {
        let mount = format!("{}-kv", self.name);
        self.enable(&format!("sys/mounts/{mount}"), &json!({"type": "kv", "options": {"version": "2"}}))
            .await?;
        let key = json!({"data": {"api_key": API_KEY}});
        let path = format!("{mount}/data/payments/stripe");
        let end = tokio::time::Instant::now() + KV_READY;
        while let Err(error) = self.api.write(&path, &key).await {
            anyhow::ensure!(tokio::time::Instant::now() < end, error);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let webhook = json!({"data": {"key": "whsec_demo_7f2a"}});
        self.api.write(&format!("{mount}/data/payments/webhook"), &webhook).await?;
        Ok(())
    }

    async fn logins_of_a_database(&mut self) -> Result<()> {
        let database = database::start().await?;
        let mount = format!("{}-db", self.name);
        self.enable(&format!("sys/mounts/{mount}"), &json!({"type": "database"})).await?;
        let connection = json!({
            "plugin_name": "influxdb-database-plugin", "allowed_roles": "orders",
            "host": database.address.ip().to_string(), "port": database.address.port(), "tls": false,
            "username": database::ADMIN, "password": database::ADMIN,
        });
        self.api.write(&format!("{mount}/config/orders"), &connection).await?;
        let role = json!({
            "db_name": "orders", "default_ttl": format!("{LEASE}s"), "max_ttl": "1h",
            "creation_statements": ["CREATE USER \"{{username}}\" WITH PASSWORD '{{password}}'"],
        });
        self.api.write(&format!("{mount}/roles/orders"), &role).await?;
        self.database = Some(database);
        Ok(())
    }

    async fn login(&mut self) -> Result<()> {
        let name = self.name.clone();
        let policy = format!(
            r#"path "{name}-kv/data/payments/*" {{ capabilities = ["read"] }}
path "{name}-kv/metadata/payments/*" {{ capabilities = ["read"] }}
path "{name}-db/creds/orders" {{ capabilities = ["read"] }}
path "auth/token/create" {{ capabilities = ["update"] }}
path "auth/token/renew-self" {{ capabilities = ["update"] }}"#
        );
        let path = format!("sys/policies/acl/{name}");
        self.api.write(&path, &json!({"policy": policy})).await?;
        self.made.push(path);
        self.enable(&format!("sys/auth/{name}"), &json!({"type": "approle"})).await?;
        let role = format!("auth/{name}/role/reports");
        let settings = json!({"token_policies": [name], "token_ttl": format!("{TOKEN}s")});
        self.api.write(&role, &settings).await?;
        let role_id = self.api.read(&format!("{role}/role-id")).await?;
        let secret_id = self.api.write(&format!("{role}/secret-id"), &json!({})).await?;
        self.ids =
            (text(&role_id, "/data/role_id")?.to_owned(), text(&secret_id, "/data/secret_id")?.to_owned());
        Ok(())
    }

    async fn enable(&mut self, path: &str, body: &serde_json::Value) -> Result<()> {
        self.api.write(path, body).await?;
        self.made.push(path.to_owned());
        Ok(())
    }

    /// Removes what was made in a server of the user's, last first. A server of the demo's ends as a whole.
    pub(crate) async fn undo(&mut self) -> Result<()> {
        let mut first = Ok(());
        while let Some(path) = self.made.pop().filter(|_| self.owner == Owner::User) {
            let removed = self.api.delete(&path).await.map(drop);
            first = first.and(removed.with_context(|| format!("{path} is still in your Vault")));
        }
        first
    }
}

/// What the rest of the demo asks.
impl Prepared {
    /// One line about it, for the reader.
    pub(crate) fn said(&self) -> &'static str {
        match self.dynamic {
            Dynamic::DatabaseLogin => {
                "an API key (KV 2), a database role whose database is a stand-in that says yes, a login, a policy"
            }
            Dynamic::ChildToken => {
                "an API key (KV 2), a login, a policy that allows child tokens; they live 30 s, so this takes 20 s"
            }
        }
    }

    /// What is gone in the end.
    pub(crate) fn traces(&self) -> &'static str {
        match self.owner {
            Owner::Demo => "Vault stopped, every file",
            Owner::User => "what was made in your Vault and every file",
        }
    }

    /// The secrets section of the agent's config.
    pub(crate) fn secrets(&self) -> serde_json::Value {
        let name = &self.name;
        let dynamic = match self.dynamic {
            Dynamic::DatabaseLogin => json!({"kind": "lease", "path": format!("{name}-db/creds/orders")}),
            Dynamic::ChildToken => json!({"kind": "token", "policies": [name], "ttl": format!("{CHILD}s")}),
        };
        let mut secrets = json!({
            "stripe": {"kind": "kv", "path": format!("{name}-kv/payments/stripe"), "field": "api_key"},
            "webhook": {"kind": "kv", "path": format!("{name}-kv/payments/webhook"), "field": "key"},
        });
        if let Some(secrets) = secrets.as_object_mut() {
            secrets.insert(self.dynamic_secret().to_owned(), dynamic);
            for secret in secrets.values_mut().filter_map(|secret| secret.as_object_mut()) {
                secret.insert("identity".to_owned(), json!("reports"));
            }
        }
        secrets
    }

    /// The name of the secret that is renewed.
    pub(crate) fn dynamic_secret(&self) -> &'static str {
        match self.dynamic {
            Dynamic::DatabaseLogin => "orders-db",
            Dynamic::ChildToken => "ci-token",
        }
    }

    /// What kind of secret that is.
    pub(crate) fn dynamic(&self) -> Dynamic {
        self.dynamic
    }

    /// The identities section of the agent's config, with the ids in these files.
    pub(crate) fn identities(
        &self,
        role_id: &std::path::Path,
        secret_id: &std::path::Path,
    ) -> serde_json::Value {
        json!({"reports": {
            "method": "approle", "mount": self.name, "role_id_file": role_id, "secret_id_file": secret_id,
        }})
    }
}
