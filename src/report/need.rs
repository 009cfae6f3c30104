//! What each identity needs in Vault: by what the agent does itself, and by what its workloads did. Pure.
//!
//! The least policy is made of it, and tried by its own text on every request before anybody sees it.

use super::{
    Policy, Terms,
    acl::{Acl, Capability},
    granted::{Engine, Granted},
    hcl::stanza,
    judge::Facts,
    subject::{Subject, Want, Where},
};
use crate::{
    clock::Timestamp,
    usage::{Entry, history::Record, told},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What every token needs for itself; in Vault's policy `default` too.
const OWN: &[(&str, &[Capability])] = &[
    ("auth/token/lookup-self", &[Capability::Read]),
    ("auth/token/renew-self", &[Capability::Update]),
    ("auth/token/revoke-self", &[Capability::Update]),
];

/// By path: what is needed there, and what for.
pub(super) type Needs = BTreeMap<String, (BTreeSet<Capability>, String)>;

/// What `identity` needs.
pub(super) fn needs(facts: &Facts<'_>, identity: &str) -> Needs {
    let mut needs = Needs::new();
    let mut add = |path: String, capabilities: &[Capability], why: &str| {
        let (words, _) = needs.entry(path).or_insert_with(|| (BTreeSet::new(), why.to_owned()));
        words.extend(capabilities);
    };
    for (path, capabilities) in OWN {
        add((*path).to_owned(), capabilities, "the agent's own token");
    }
    let wants = facts.subject.identities.iter().filter(|one| one.name == identity).flat_map(|one| &one.wants);
    for Want { path, capabilities, why } in wants {
        match path {
            Where::Api(path) => add(path.clone(), capabilities, why),
            Where::Kv(path) => {
                let Engine { mount, has_versions } = engine(facts, identity, path);
                let rest = path.strip_prefix(&mount).unwrap_or(path).trim_start_matches('/');
                if has_versions {
                    add(format!("{mount}/data/{rest}"), capabilities, why);
                    add(format!("{mount}/metadata/{rest}"), &[Capability::Read], why);
                } else {
                    add(path.clone(), capabilities, why);
                }
            }
        }
    }
    for (entry, capabilities) in forwarded(facts, identity).filter(|(entry, _)| !is_hashed(entry)) {
        let path = entry.path.clone().unwrap_or_default();
        let by = entry.rule.as_deref().unwrap_or_default();
        let why = format!("used by {} under its rule {by}", entry.workload);
        // A policy names the folder that is listed without its slash or with it: without, it also fits a list of the folder alone.
        add(path, capabilities, &why);
    }
    needs
}

/// What was sent on with the token of `identity`, each with what that needs.
fn forwarded<'a>(
    facts: &Facts<'a>,
    identity: &str,
) -> impl Iterator<Item = (&'a Entry, &'static [Capability])> + use<'a> {
    let mut rules = BTreeSet::new();
    for workload in &facts.subject.workloads {
        for rule in &workload.rules {
            if rule.forward.as_ref().is_some_and(|forward| forward.identity == identity) {
                rules.insert((workload.name.as_str(), rule.name.as_str()));
            }
        }
    }
    let is_own = move |entry: &&Entry| {
        let rule = entry.rule.as_deref().unwrap_or_default();
        entry.had() > 0 && rules.contains(&(entry.workload.as_str(), rule)) && entry.path.is_some()
    };
    facts.record.entries.iter().filter(is_own).map(|entry| (entry, capabilities(entry.capability)))
}

/// Whether the record has but the hash of its path (`audit.hash_paths`).
fn is_hashed(entry: &Entry) -> bool {
    entry.path.as_ref().is_some_and(|path| path.starts_with("sha256:"))
}

/// What Vault asks for.
pub(super) fn capabilities(done: told::Capability) -> &'static [Capability] {
    match done {
        told::Capability::Read => &[Capability::Read],
        told::Capability::List => &[Capability::List],
        told::Capability::Write => &[Capability::Create, Capability::Update],
        told::Capability::Patch => &[Capability::Patch],
        told::Capability::Delete => &[Capability::Delete],
    }
}

/// The engine of a kv path: by Vault's word, else by the record's, else the first segment, with versions.
pub(super) fn engine(facts: &Facts<'_>, identity: &str, path: &str) -> Engine {
    let told = facts.granted(identity).and_then(|granted| granted.engines.get(path));
    told.cloned().unwrap_or_else(|| {
        let first = || path.split('/').next().unwrap_or_default();
        Engine { mount: facts.mount(path).unwrap_or_else(first).to_owned(), has_versions: true }
    })
}

/// The least policy of `identity`, and what it would deny of what is needed.
pub(super) fn policy(facts: &Facts<'_>, identity: &str) -> Policy {
    let none = Needs::new();
    let needs = facts.needs(identity).unwrap_or(&none);
    let mut hcl = format!("# The least that identity {identity} needs, by config {}", facts.subject.revision);
    hcl.push_str(&match facts.record.span {
        Some((first, last)) => format!(" and by what was used from {first:.0} to {last:.0}.\n"),
        None => ".\n".to_owned(),
    });
    let assumed =
        facts.subject.secrets.iter().any(|secret| secret.identity == identity && secret.kind == "kv")
            && facts.granted(identity).is_none_or(|granted| granted.engines.is_empty());
    if assumed {
        hcl.push_str(
            "# That each KV engine has versions is assumed: Vault was not asked (--login asks it).\n",
        );
    }
    for (path, (capabilities, why)) in needs {
        hcl.push('\n');
        hcl.push_str(&stanza(path, capabilities, why));
    }
    let mut acl = Acl::default();
    let is_read = acl.read(&hcl).is_ok();
    let mut requests: BTreeSet<(Cow<'_, str>, Capability)> = BTreeSet::new();
    for (path, (capabilities, _)) in needs {
        // One path of those that a pattern stands for.
        let is_one = !path.contains(['+', '*']);
        let path = if is_one { Cow::Borrowed(path.as_str()) } else { path.replace(['+', '*'], "x").into() };
        requests.extend(capabilities.iter().map(|one| (path.clone(), *one)));
    }
    let denies = |(path, wanted): &&(Cow<'_, str>, Capability)| !is_read || !acl.allows(path, *wanted);
    let denied = requests.iter().filter(denies).map(|(path, wanted)| format!("{} {path}", wanted.word()));
    let hashed = forwarded(facts, identity).filter(|(entry, _)| is_hashed(entry));
    let hashed: Vec<String> = hashed
        .map(|(entry, _)| format!("{} of a path that is on record as a hash alone", entry.capability.word()))
        .collect();
    let requests = requests.len().saturating_add(hashed.len());
    Policy { identity: identity.to_owned(), hcl, denied: denied.chain(hashed).collect(), requests }
}

/// The kv paths that `identity` asks for, without `data/`.
#[must_use]
pub fn kv_paths(subject: &Subject, identity: &str) -> BTreeSet<String> {
    let wants = subject.identities.iter().filter(|one| one.name == identity).flat_map(|one| &one.wants);
    let kv = |want: &Want| match &want.path {
        Where::Kv(path) => Some(path.clone()),
        Where::Api(_) => None,
    };
    wants.filter_map(kv).collect()
}

/// The single paths that Vault should be asked about: those that are needed, and others that nobody should have.
#[must_use]
pub fn asked(subject: &Subject, record: &Record, granted: &Granted) -> (Vec<String>, Vec<String>) {
    let all = std::slice::from_ref(granted);
    let facts =
        Facts::new(subject, record, all, Terms { now: Timestamp::UNIX_EPOCH, period: Duration::ZERO });
    let needs = needs(&facts, &granted.identity);
    let patterns: Vec<&String> = needs.keys().filter(|path| super::acl::is_pattern(path)).collect();
    let mut canaries: BTreeSet<String> = CANARIES.iter().map(|path| (*path).to_owned()).collect();
    let kv: Vec<&str> = needs.keys().map(String::as_str).filter(|path| path.contains("/data/")).collect();
    for path in &kv {
        // Beside it, where there are not too many to be asked about, and beside its folder.
        if kv.len() <= BESIDE {
            canaries.insert(format!("{}-{CANARY}", path.trim_end_matches(['*', '/'])));
        } else if let Some((folder, _)) = path.trim_end_matches(['*', '/']).rsplit_once('/') {
            canaries.insert(format!("{folder}/{CANARY}"));
        }
        let mount = path.split("/data/").next().unwrap_or_default();
        canaries.insert(format!("{mount}/data/{CANARY}"));
    }
    let is_needed = |path: &String| {
        needs.contains_key(path) || patterns.iter().any(|need| super::acl::matches(need, path))
    };
    canaries.retain(|path| !is_needed(path) && !allows_pattern(&facts, granted, path));
    let single = needs.into_keys().filter(|path| !super::acl::is_pattern(path));
    (single.collect(), canaries.into_iter().collect())
}

/// As many kv paths have a canary each.
const BESIDE: usize = 200;
/// A name that nobody uses.
const CANARY: &str = "claviger-canary";
/// What no agent needs.
const CANARIES: &[&str] = &[
    "auth/token/create",
    "auth/token/create-orphan",
    "identity/entity",
    "sys/audit",
    "sys/auth/claviger-canary",
    "sys/mounts/claviger-canary",
    "sys/policies/acl/claviger-canary",
];

/// What Vault grants to `granted` beyond what is needed: single paths, and paths of its policies.
pub(super) fn beyond(facts: &Facts<'_>, granted: &Granted) -> Vec<String> {
    let mut beyond = Vec::new();
    let Some(needs) = facts.needs(&granted.identity) else { return beyond };
    let patterns: Vec<&String> = needs.keys().filter(|need| super::acl::is_pattern(need)).collect();
    let canaries = granted.asked.iter().filter(|(path, _)| granted.canaries.contains(*path));
    for (path, capabilities) in canaries.filter(|(_, words)| can_anything(words)) {
        beyond.push(format!("{path}: {}, and nothing of the config is there", words(capabilities)));
    }
    for (path, capabilities) in
        granted.acl.iter().flat_map(Acl::paths).filter(|(_, words)| can_anything(words))
    {
        let is_default = DEFAULT.iter().any(|own| path.starts_with(own));
        let is_needed =
            needs.contains_key(path) || patterns.iter().any(|need| super::acl::matches(need, path));
        if !is_default && !is_needed && !allows_pattern(facts, granted, path) {
            beyond.push(format!("policy path {path}: {}", words(capabilities)));
        }
    }
    beyond
}

/// Whether a rule grants the very pattern.
fn allows_pattern(facts: &Facts<'_>, granted: &Granted, path: &str) -> bool {
    let rules = facts.subject.workloads.iter().flat_map(|workload| &workload.rules);
    let forwards =
        rules.filter_map(|rule| rule.forward.as_ref()).filter(|forward| forward.identity == granted.identity);
    forwards.flat_map(|forward| &forward.paths).any(|pattern| {
        pattern == path || (!super::acl::is_pattern(path) && super::acl::matches(pattern, path))
    })
}

/// What Vault's own policy `default` begins its paths with.
const DEFAULT: &[&str] = &[
    "auth/token/lookup-self",
    "auth/token/renew-self",
    "auth/token/revoke-self",
    "cubbyhole/",
    "identity/entity/",
    "identity/oidc/provider/",
    "sys/capabilities-self",
    "sys/control-group/request",
    "sys/internal/ui/resultant-acl",
    "sys/leases/lookup",
    "sys/leases/renew",
    "sys/renew",
    "sys/tools/hash",
    "sys/wrapping/",
];

fn can_anything(words: &BTreeSet<Capability>) -> bool {
    !words.is_empty() && !words.contains(&Capability::Deny)
}

pub(super) fn words(capabilities: &BTreeSet<Capability>) -> String {
    capabilities.iter().map(|one| one.word()).collect::<Vec<_>>().join(", ")
}
