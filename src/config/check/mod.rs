//! The tree as written -> the settings of every module, or everything that is wrong with it.
//!
//! Pure. Reads nothing but the tree and the `Environment`: whether a file exists or Vault answers is found out when running.

mod approvals;
mod around;
mod audit;
mod bootstrap;
mod calls;
mod checkpoints;
mod consent;
mod coordination;
mod credentials;
mod forwards;
mod generate;
mod glass;
mod group;
mod identities;
mod issue;
mod place;
mod program;
mod local;
mod notice;
mod rotations;
mod rules;
mod schedule;
mod secrets;
mod signing;
mod sinks;
mod systems;
mod upstreams;
mod vault;
mod webhook;
mod workloads;
mod wrap;

use super::{
    Config, Environment, Loaded, Workload,
    file::{Node, Raw},
    problem::{Problem, Rejected},
    reader::{Findings, Leaf, Map, Table, under},
};
use crate::{
    audit::sink::{Need, Settings as Sink},
    policy::rule::AuditMode,
    sandbox::Mode,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What the sections must know of one another.
struct Context<'a> {
    environment: &'a Environment,
    identities: Table<'a>,
    /// The name of the one identity, where there is one.
    only_identity: Option<&'a str>,
    /// Whose each secret is.
    identity_of: BTreeMap<&'a str, &'a str>,
    /// `vault.namespace`.
    namespace: Option<&'a str>,
    secrets: Table<'a>,
    /// Those that are a token for each process.
    own: BTreeSet<&'a str>,
    upstreams: Table<'a>,
    approvals: Table<'a>,
    /// Those that Vault itself asks by.
    groups: BTreeSet<&'a str>,
    client_cert: ClientCert,
    sandbox: Mode,
    revision: &'a str,
}

/// Whether `vault.client_cert` is there.
#[derive(Clone, Copy, PartialEq)]
enum ClientCert {
    Given,
    Missing,
}

/// Checks everything.
pub(super) fn check(root: &Node, revision: &str, environment: &Environment) -> Result<Loaded, Rejected> {
    let findings = Findings::default();
    let given = under(root, "vault").and_then(|vault| under(vault, "client_cert")).is_some();
    let context = Context {
        environment,
        identities: Table::of(root, "identities", "identity"),
        only_identity: only(root, "identities"),
        identity_of: identity_of(root),
        namespace: namespace(root),
        secrets: Table::of(root, "secrets", "secret"),
        own: own(root),
        upstreams: Table::of(root, "upstreams", "upstream"),
        approvals: Table::of(root, "approvals", "approval"),
        groups: group::named(root),
        sandbox: around::peek_sandbox(root),
        client_cert: if given { ClientCert::Given } else { ClientCert::Missing },
        revision,
    };
    let config = Leaf::root(root, &findings).map().and_then(|map| config(map, &context));
    let (mut problems, warnings) = findings.into_lists();
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, warnings }),
        _ => {
            if problems.is_empty() {
                problems.push(unexplained());
            }
            Err(Rejected { problems })
        }
    }
}

/// The one name in `section`, where there is one.
fn only<'a>(root: &'a Node, section: &str) -> Option<&'a str> {
    match under(root, section).map(|node| &node.raw) {
        Some(Raw::Map(entries)) if entries.len() == 1 => entries.first().map(|entry| entry.key.as_str()),
        _ => None,
    }
}

/// The identity that each secret names, whatever else is wrong with it.
fn identity_of(root: &Node) -> BTreeMap<&str, &str> {
    let Some(Raw::Map(secrets)) = under(root, "secrets").map(|node| &node.raw) else {
        return BTreeMap::new();
    };
    let mut identities = BTreeMap::new();
    for entry in secrets {
        if let Some(Raw::Text(text)) = under(&entry.node, "identity").map(|node| &node.raw) {
            identities.insert(entry.key.as_str(), text.as_str());
        }
    }
    identities
}

/// `vault.namespace`, whatever else is wrong with it.
fn namespace(root: &Node) -> Option<&str> {
    match under(root, "vault").and_then(|vault| under(vault, "namespace")).map(|node| &node.raw) {
        Some(Raw::Text(text)) => Some(text),
        _ => None,
    }
}

/// The secrets that are a token for each process, whatever else is wrong with them.
fn own(root: &Node) -> BTreeSet<&str> {
    let Some(Raw::Map(secrets)) = under(root, "secrets").map(|node| &node.raw) else {
        return BTreeSet::new();
    };
    let is_own = |node| matches!(under(node, "per_process").map(|node| &node.raw), Some(Raw::Flag(true)));
    secrets.iter().filter(|entry| is_own(&entry.node)).map(|entry| entry.key.as_str()).collect()
}

/// Never seen, as far as the tests go; a config without settings must be refused all the same.
fn unexplained() -> Problem {
    Problem {
        path: String::new(),
        line: None,
        found: "the config cannot be used, and claviger cannot say why".to_owned(),
        would_be_right: "this is a fault of claviger: please report it".to_owned(),
    }
}

fn config(mut root: Map<'_>, context: &Context<'_>) -> Option<Config> {
    let vault = root.need("vault", "{addresses: [https://vault:8200]}", vault::read);
    let identities = root.or("identities", Vec::new(), |leaf| identities::read(leaf, context));
    let secrets = root.or("secrets", Vec::new(), |leaf| secrets::read(leaf, context));
    let approvals = root.or("approvals", Vec::new(), |leaf| approvals::read(leaf, context));
    let (rotations, local) = root
        .or("rotations", (Vec::new(), Vec::new()), |leaf| {
            let of = (secrets.as_deref().unwrap_or_default(), identities.as_deref().unwrap_or_default());
            rotations::read(leaf, context, of, approvals.as_deref().unwrap_or_default())
        })
        .unzip();
    let report = root.given("report", |leaf| around::report(leaf, context));
    let mut audit = root.need("audit", "{mode: strict, journal: {dir: /var/lib/claviger/audit}}", |leaf| {
        audit::read(leaf, context)
    });
    // A faulty mode was written down already: no rule is weaker than the weakest.
    let mode = audit.as_ref().map_or(AuditMode::BestEffort, |audit| audit.mode);
    let upstreams =
        root.or("upstreams", Vec::new(), |leaf| upstreams::read(leaf, context, secrets.as_deref()));
    systems::check(
        &mut root,
        rotations.as_deref().unwrap_or_default(),
        upstreams.as_deref().unwrap_or_default(),
    );
    let around = workloads::Around {
        mode,
        secrets: secrets.as_deref(),
        upstreams: upstreams.as_deref(),
        approvals: approvals.as_deref(),
    };
    let workloads = root.or("workloads", Vec::new(), |leaf| workloads::read(leaf, context, &around));
    let health = root.or("health", around::default_health(), around::health);
    let shutdown = root.or("shutdown", crate::shutdown::Settings::default(), around::shutdown);
    let log = root.or("log", crate::telemetry::LogSettings::default(), around::log);
    let sandbox = root.or("sandbox", Mode::default(), around::sandbox);
    if let (Some(audit), Some(workloads)) = (&mut audit, &workloads) {
        audit.workloads = workloads.len();
        strict_remote(&mut root, audit, workloads);
    }
    if let (Some(audit), Some(shutdown)) = (&audit, &shutdown) {
        handoff(&mut root, audit, *shutdown);
    }
    unused(&mut root, context);
    root.finish();
    Some(Config {
        vault: vault?,
        identities: identities?,
        secrets: secrets?,
        upstreams: upstreams?,
        workloads: workloads?,
        approvals: approvals?,
        rotations: rotations?,
        report: report?,
        local: local?,
        audit: audit?,
        health: health?,
        sandbox: sandbox?,
        shutdown: shutdown?,
        log: log?,
        revision: context.revision.to_owned(),
    })
}

/// What waits for an acknowledgement needs somebody who can give it.
fn strict_remote(root: &mut Map<'_>, audit: &crate::audit::Settings, workloads: &[Workload]) {
    let rules = workloads.iter().flat_map(|workload| workload.policy.all());
    let wanted =
        rules.filter_map(|rule| rule.audit).chain([audit.mode]).max() == Some(AuditMode::StrictRemote);
    let counts = |sink: &Sink| sink.required == Need::Required && sink.kind.is_remote();
    if wanted
        && !audit.sinks.iter().any(counts)
        && let Some(leaf) = root.find("audit")
    {
        leaf.problem(
            "strict-remote, and no required sink that is not on this machine",
            "set required: true in a sink of kind http, otlp, splunk or syslog (tls or tcp)",
        );
    }
}

/// A handoff takes its time from the grace, which the usual one leaves none of.
fn handoff(root: &mut Map<'_>, audit: &crate::audit::Settings, shutdown: crate::shutdown::Settings) {
    if audit.handoff.is_some()
        && shutdown.grace <= Duration::from_secs(5)
        && let Some(map) = root.find("audit").and_then(|leaf| leaf.map())
        && let Some((_, leaf)) = map.children().find(|(name, _)| *name == "handoff")
    {
        leaf.problem(
            "a handoff with a shutdown.grace of 5s or less",
            "write shutdown: {grace: 10s} or more, and a longer terminationGracePeriodSeconds",
        );
    }
}

/// Warns of what nobody can use.
fn unused(root: &mut Map<'_>, context: &Context<'_>) {
    for (section, table, found, right) in [
        (
            "identities",
            &context.identities,
            "no secret and no rule uses this identity",
            "remove it, or name it in a secret or a rule",
        ),
        (
            "secrets",
            &context.secrets,
            "no rule allows this secret",
            "remove it, or name it in a rule's secrets",
        ),
        (
            "upstreams",
            &context.upstreams,
            "no rule allows calling this upstream",
            "remove it, or name it in a rule's upstream",
        ),
        (
            "approvals",
            &context.approvals,
            "no rule and no rotation names this approval",
            "remove it, or name it in the approval of a rule or a rotation",
        ),
    ] {
        let Some(map) = root.find(section).filter(Leaf::is_map).and_then(|leaf| leaf.map()) else { continue };
        for leaf in map.children().filter(|(name, _)| !table.is_used(name)).map(|(_, leaf)| leaf) {
            leaf.warn(found, right);
        }
    }
}

/// From `least` to `most` milliseconds.
const fn milliseconds(least: u64, most: u64) -> std::ops::RangeInclusive<Duration> {
    Duration::from_millis(least)..=Duration::from_millis(most)
}

/// From `least` to `most` seconds.
const fn seconds(least: u64, most: u64) -> std::ops::RangeInclusive<Duration> {
    milliseconds(least * 1000, most * 1000)
}

const DAY: u64 = 24 * 3600;

/// A path in Vault: two segments or more, none empty, `.` or `..`.
fn vault_path(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    if text.starts_with('/') || text.ends_with('/') {
        leaf.problem(
            "a path in Vault that begins or ends with a slash",
            "write MOUNT/PATH, as in secret/payments/stripe",
        );
    } else if text.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        leaf.problem(
            "a path in Vault with an empty, `.` or `..` segment",
            "write MOUNT/PATH, as in secret/payments/stripe",
        );
    } else if !text.contains('/') {
        leaf.problem("a path in Vault of one segment", "write MOUNT/PATH, as in secret/payments/stripe");
    } else {
        return Some(text);
    }
    None
}

/// A mount without `auth/` and slashes at the ends.
fn mount(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    if text.starts_with("auth/") {
        leaf.problem("a mount with auth/ in front", "leave auth/ out: kubernetes, not auth/kubernetes");
    } else if text.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        leaf.problem(
            "a mount with a slash at an end, or with an empty, `.` or `..` segment",
            "write where it is mounted, as in kubernetes or clusters/blue",
        );
    } else {
        return Some(text);
    }
    None
}
