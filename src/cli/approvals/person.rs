//! A person's own login to Vault, found where the vault command finds it.
//!
//! Does not log in, renew or revoke: the token is the person's.

use super::super::exit::{Exit, Failure};
use crate::{
    secret::SecretValue,
    vault::{
        Budget, ClientCert, Settings, Vault,
        caller::{Caller, Calling},
        endpoint::Request,
        error::{Class, Error},
        limiter::Account,
    },
};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use url::{Host, Url};

/// A way to Vault, and who goes it.
pub(super) struct Person {
    vault: Vault,
    token: SecretValue,
}

impl Person {
    /// Whoever runs the command.
    pub(super) fn of_environment() -> Result<Self, Failure> {
        let address = variable("VAULT_ADDR").unwrap_or_else(|| "https://127.0.0.1:8200".to_owned());
        let address = Url::parse(&address)
            .ok()
            .filter(|url| url.scheme() == "https" || (url.scheme() == "http" && is_here(url)))
            .ok_or_else(|| {
                Failure::new(
                    Exit::Usage,
                    "VAULT_ADDR is not an https:// address, nor an http:// one of this machine",
                )
            })?;
        if variable("VAULT_SKIP_VERIFY").is_some_and(|text| !["0", "false", "f"].contains(&text.as_str())) {
            let failure =
                Failure::new(Exit::Usage, "VAULT_SKIP_VERIFY is set: a certificate is always verified");
            return Err(failure.remedy("unset it, and name the authority in VAULT_CACERT"));
        }
        let file = |name| variable(name).map(PathBuf::from);
        let client_cert = match (file("VAULT_CLIENT_CERT"), file("VAULT_CLIENT_KEY")) {
            (Some(cert_file), Some(key_file)) => Some(ClientCert { cert_file, key_file }),
            _ => None,
        };
        let settings = Settings {
            addresses: vec![address],
            ca_file: file("VAULT_CACERT"),
            client_cert,
            server_name: variable("VAULT_TLS_SERVER_NAME"),
            namespace: variable("VAULT_NAMESPACE").map(|name| name.trim_matches('/').to_owned()),
            timeout: Duration::from_secs(30),
            budget: Budget { calls_per_second: 1_000, burst: 1_000 },
        };
        let vault = Vault::new(settings).map_err(|error| Failure::of(Exit::Failed, &error))?;
        Ok(Self { vault, token: token()? })
    }
}

impl Caller for Person {
    fn call<'a>(&'a self, request: &'a Request) -> Calling<'a> {
        Box::pin(self.vault.call_as(&Account::Upkeep, &self.token, request))
    }
}

/// What a failed call means for whoever made it.
pub(super) fn failed(error: &Error) -> Failure {
    let exit = if error.class() == Class::Denied { Exit::Refused } else { Exit::Failed };
    let failure = Failure::of(exit, error);
    match error.class() {
        Class::Denied => failure.remedy(
            "log in again (vault login) if the token has ended; else ask for the policy that `claviger approve --help` shows",
        ),
        _ => failure,
    }
}

fn token() -> Result<SecretValue, Failure> {
    let file = variable("HOME").map(|home| Path::new(&home).join(".vault-token"));
    let of_file = || std::fs::read_to_string(file?).ok();
    let token = variable("VAULT_TOKEN").or_else(of_file).map(|text| text.trim().to_owned());
    let token = token.filter(|text| !text.is_empty()).ok_or_else(|| {
        Failure::new(Exit::Failed, "there is no token of yours: neither VAULT_TOKEN nor ~/.vault-token")
            .remedy("run vault login")
    })?;
    Ok(SecretValue::new(token))
}

fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

#[expect(clippy::disallowed_methods, reason = "the commands may read the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
