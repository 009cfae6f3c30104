//! `rotations.N.coordination`: what decides which replica works on a rotation.
//!
//! Pure. Whether the pod may have the Lease is found out when running.

use super::super::{
    environment::Cluster,
    reader::{Leaf, Map},
};
use crate::{
    name::RotationName,
    rotation::{Settings, coordination::Coordination, kubernetes},
};
use std::path::PathBuf;
use url::Url;

/// Where the kubelet puts a ServiceAccount's token of the API server's own audience, and the CA beside it.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The API server's name in each cluster.
const SERVER: &str = "https://kubernetes.default.svc";

pub(super) fn read(map: &mut Map<'_>, name: &RotationName, cluster: &Cluster) -> Option<Coordination> {
    map.or("coordination", Coordination::Vault, |leaf| {
        let settings = if leaf.is_map() {
            let mut map = leaf.map()?;
            let settings = map.need("kubernetes", "{namespace: team-a, lease: rot-webhook}", |leaf| {
                let mut map = leaf.map()?;
                let settings = settings(&mut map, name, cluster);
                map.finish();
                settings
            });
            map.finish();
            settings
        } else if leaf.word(&[("vault", false), ("kubernetes", true)])? {
            defaults(leaf, name, cluster)
        } else {
            return Some(Coordination::Vault);
        };
        settings.map(|settings| Coordination::Kubernetes(Box::new(settings)))
    })
}

fn settings(map: &mut Map<'_>, name: &RotationName, cluster: &Cluster) -> Option<kubernetes::Settings> {
    let known = defaults_of(name, cluster);
    let namespace = match (map.find("namespace"), known.namespace) {
        (Some(leaf), _) => label(&leaf),
        (None, Some(namespace)) => Some(namespace),
        (None, None) => nowhere(map.leaf()),
    };
    let lease = match map.find("lease") {
        Some(leaf) => subdomain(&leaf),
        None => named(map.leaf(), known.lease),
    };
    let server = map.find("server").map_or(known.server, |leaf| https(&leaf));
    let ca_file = map.or("ca_file", known.ca_file, Leaf::path);
    let token_file = map.or("token_file", known.token_file, Leaf::path);
    Some(kubernetes::Settings {
        namespace: namespace?,
        lease: lease?,
        server: server?,
        ca_file: ca_file?,
        token_file: token_file?,
    })
}

fn defaults(leaf: &Leaf<'_>, name: &RotationName, cluster: &Cluster) -> Option<kubernetes::Settings> {
    let known = defaults_of(name, cluster);
    Some(kubernetes::Settings {
        namespace: known.namespace.or_else(|| nowhere(leaf))?,
        lease: named(leaf, known.lease)?,
        server: known.server?,
        ca_file: known.ca_file,
        token_file: known.token_file,
    })
}

/// What is not written.
struct Known {
    namespace: Option<String>,
    lease: String,
    server: Option<Url>,
    ca_file: PathBuf,
    token_file: PathBuf,
}

fn defaults_of(name: &RotationName, cluster: &Cluster) -> Known {
    let said = cluster.server.as_deref().and_then(|server| Url::parse(server).ok());
    Known {
        namespace: cluster.namespace.clone(),
        lease: format!("rot-{name}"),
        server: said.or_else(|| Url::parse(SERVER).ok()),
        ca_file: PathBuf::from(ACCOUNT).join("ca.crt"),
        token_file: PathBuf::from(ACCOUNT).join("token"),
    }
}

/// Replicas of different namespaces would each have a Lease of their own: none is guessed.
fn nowhere<T>(leaf: &Leaf<'_>) -> Option<T> {
    leaf.problem(
        "a Lease in no namespace: CLAVIGER_NAMESPACE, which the chart gives the sidecar, is not set here",
        "write {kubernetes: {namespace: NAME}}, or set CLAVIGER_NAMESPACE",
    );
    None
}

/// The name of a rotation may end in what no name of Kubernetes ends in.
fn named(leaf: &Leaf<'_>, lease: String) -> Option<String> {
    if lease.split('.').all(is_label) {
        return Some(lease);
    }
    leaf.problem(format!("{lease} is not a name of Kubernetes"), "write {kubernetes: {lease: NAME}}");
    None
}

/// Two rotations with one Lease would give it back for one another.
pub(super) fn apart(leaf: &Leaf<'_>, settings: &Settings, all: &[Settings]) {
    let lease = settings.coordination.lease();
    let same = |other: &&Settings| lease.is_some() && other.coordination.lease() == lease;
    if let Some(other) = all.iter().find(same) {
        leaf.problem(
            format!("it has the Lease of rotations.{}", other.name),
            "write another coordination.kubernetes.lease: each rotation needs one of its own",
        );
    }
}

/// RFC 1123, as Kubernetes names namespaces.
fn label(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    if !is_label(&text) {
        leaf.problem("not a name of Kubernetes", "write 1 to 63 of a-z, 0-9 and -, with no - at either end");
        return None;
    }
    Some(text)
}

/// The same with dots, as it names Leases.
fn subdomain(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    if text.len() > 253 || !text.split('.').all(is_label) {
        leaf.problem(
            "not a name of Kubernetes",
            "write a-z, 0-9, - and ., each part between dots with no - at either end",
        );
        return None;
    }
    Some(text)
}

fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The token goes there: nobody may read along.
fn https(leaf: &Leaf<'_>) -> Option<Url> {
    let url = Url::parse(&leaf.text()?).ok().filter(|url| {
        url.scheme() == "https"
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if url.is_none() {
        leaf.problem(
            "not the URL of an API server",
            "write https://HOST:PORT, as in https://kubernetes.default.svc",
        );
    }
    url
}
