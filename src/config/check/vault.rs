//! `vault`: how Vault is reached.
//!
//! Pure. Never repeats an address: it may hold a password.

use super::super::reader::Leaf;
use super::milliseconds;
use crate::vault::{Budget, ClientCert, Settings};
use std::time::Duration;
use url::{Host, Url};

/// Whether plain HTTP may leave the machine.
#[derive(Clone, Copy, PartialEq)]
enum PlainHttp {
    Anywhere,
    Loopback,
}

pub(super) fn read(leaf: &Leaf<'_>) -> Option<Settings> {
    let mut map = leaf.map()?;
    let plain = map.or("insecure_http", PlainHttp::Loopback, |leaf| {
        Some(if leaf.flag()? { PlainHttp::Anywhere } else { PlainHttp::Loopback })
    });
    let addresses = map.need("addresses", "[https://vault:8200]", |leaf| {
        // Without a readable `insecure_http`, its own problem is enough.
        addresses(leaf, plain.unwrap_or(PlainHttp::Anywhere))
    });
    let ca_file = map.given("ca_file", Leaf::path);
    let client_cert = map.given("client_cert", client_cert);
    let server_name = map.given("server_name", server_name);
    let namespace = map.given("namespace", namespace);
    let timeout =
        map.or("timeout", Duration::from_secs(10), |leaf| leaf.duration(milliseconds(100, 300_000)));
    let budget = map.or("budget", Budget::default(), budget);
    map.finish();
    Some(Settings {
        addresses: addresses?,
        ca_file: ca_file?,
        client_cert: client_cert?,
        server_name: server_name?,
        namespace: namespace?,
        timeout: timeout?,
        budget: budget?,
    })
}

fn addresses(leaf: &Leaf<'_>, plain: PlainHttp) -> Option<Vec<Url>> {
    let members = leaf.list()?;
    if members.is_empty() {
        leaf.problem("an empty list", "write at least one address: [https://vault:8200]");
        return None;
    }
    let mut read: Vec<Option<Url>> = Vec::new();
    for member in &members {
        let url = address(member, plain);
        if url.is_some() && read.contains(&url) {
            member.problem("an address that stands here twice", "keep one of them");
        }
        read.push(url);
    }
    read.into_iter().collect()
}

fn address(leaf: &Leaf<'_>, plain: PlainHttp) -> Option<Url> {
    let url = Url::parse(&leaf.text()?)
        .ok()
        .filter(|url| url.has_host() && matches!(url.scheme(), "https" | "http"));
    let Some(url) = url else {
        leaf.problem("not the address of a Vault", "write https://HOST:PORT, as in https://vault:8200");
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        leaf.problem(
            "an address with a user or a password in it",
            "write https://HOST:PORT; identities log in",
        );
    } else if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        leaf.problem(
            "an address with a path, a query or a fragment",
            "write https://HOST:PORT and nothing after it",
        );
    } else if url.scheme() == "http" && plain == PlainHttp::Loopback && !is_loopback(&url) {
        leaf.problem(
            "plain http to another machine: whoever is on the way reads every secret",
            "write https, or set vault.insecure_http: true",
        );
    } else {
        return Some(url);
    }
    None
}

/// Whether what is sent there stays on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn client_cert(leaf: &Leaf<'_>) -> Option<ClientCert> {
    let mut map = leaf.map()?;
    let cert_file = map.need("cert_file", "/etc/claviger/tls.crt", Leaf::path);
    let key_file = map.need("key_file", "/etc/claviger/tls.key", Leaf::path);
    map.finish();
    Some(ClientCert { cert_file: cert_file?, key_file: key_file? })
}

fn server_name(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    let fits = text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b));
    if !fits {
        leaf.problem("not a host name", "write the name in Vault's certificate, as in vault.internal");
    }
    fits.then_some(text)
}

fn namespace(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    // It is sent as a header.
    let fits = text.bytes().all(|b| b.is_ascii_graphic()) && text.split('/').all(|part| !part.is_empty());
    if !fits {
        leaf.problem("not a namespace", "write its path without slashes at the ends, as in platform/team");
    }
    fits.then_some(text)
}

fn budget(leaf: &Leaf<'_>) -> Option<Budget> {
    let default = Budget::default();
    let mut map = leaf.map()?;
    let calls_per_second =
        map.or("calls_per_second", default.calls_per_second, |leaf| leaf.whole(1..=10_000));
    let burst = map.or("burst", default.burst, |leaf| leaf.whole(2..=100_000));
    map.finish();
    Some(Budget { calls_per_second: calls_per_second?, burst: burst? })
}
