//! What Vault grants: KA002 of Vault's policies, KA004, KA005, KA016. Pure.
//!
//! By Vault's own word, where somebody was logged in to ask; else it is said that nobody was.

use super::{Facts, Findings, some};
use crate::report::{
    acl::{Acl, Capability},
    finding::{Finding, Fix, Id},
    granted::{Granted, Role, Token},
    need,
};
use std::collections::BTreeSet;

/// The longest life of a token that is no finding, in seconds.
const LONGEST: u64 = 24 * 3600;
/// Names by which people call policies that allow everything.
const ADMIN: &[&str] =
    &["admin", "admins", "administrator", "superuser", "super-user", "sudo", "vault-admin"];
/// Shown of a list.
const SHOWN: usize = 12;

pub(super) fn judge(facts: &Facts<'_>, findings: &mut Findings) {
    for identity in &facts.subject.identities {
        let about = format!("identities.{}", identity.name);
        let Some(granted) = facts.granted(&identity.name) else {
            for id in [Id::ADMIN_TOKEN, Id::NO_EXPIRY, Id::BEYOND_RULES] {
                findings
                    .cannot(id, format!("{about}: Vault was not asked; --login asks it as this identity"));
            }
            continue;
        };
        for refused in &granted.refused {
            findings.cannot(Id::BEYOND_RULES, format!("{about}: {refused}"));
        }
        if let Some(admin) = admin(granted, &about) {
            // Everything else follows from it.
            findings.add(admin);
            continue;
        }
        expiry(granted, &about, findings);
        unused(facts, granted, &about, findings);
        beyond(facts, granted, &about, findings);
    }
}

fn admin(granted: &Granted, about: &str) -> Option<Finding> {
    let policies = granted.token.iter().flat_map(|token| &token.policies);
    let named = policies.filter(|name| *name == "root" || ADMIN.contains(&name.as_str()));
    let mut evidence: Vec<String> = named.map(|name| format!("its token has the policy {name}")).collect();
    if granted.acl.as_ref().is_some_and(|acl| acl.root) && evidence.is_empty() {
        evidence.push("its token is a root token".to_owned());
    }
    let sudo = granted.acl.iter().flat_map(Acl::paths).filter(|(_, words)| words.contains(&Capability::Sudo));
    evidence.extend(some(sudo.map(|(path, _)| format!("sudo on {path}")), SHOWN));
    let asked = granted.asked.iter().filter(|(_, words)| words.contains(&Capability::Sudo));
    if evidence.is_empty() {
        evidence.extend(asked.map(|(path, _)| format!("sudo on {path}")));
    }
    if evidence.is_empty() {
        return None;
    }
    let fix = Fix::text(
        "Give its role the policy that claviger report keys --format hcl prints, and no other.",
    )
    .code(
        "sh",
        format!(
            "claviger report keys --format hcl --config CONFIG > {0}.hcl\nvault policy write {0} {0}.hcl\n\
             vault write {1} token_policies={0}",
            granted.identity,
            role(granted)
        ),
    );
    Some(Finding::new(Id::ADMIN_TOKEN, about, evidence, fix))
}

/// Where its role is in Vault.
fn role(granted: &Granted) -> &str {
    granted.role_path.as_deref().unwrap_or("auth/METHOD/role/ROLE")
}

fn expiry(granted: &Granted, about: &str, findings: &mut Findings) {
    let mut evidence = Vec::new();
    let mut settings = BTreeSet::new();
    if let Some(Token { ttl, period, .. }) = &granted.token {
        if *ttl == 0 {
            evidence.push("its token never ends".to_owned());
        } else if *period > 0 {
            evidence.push(format!("its token is periodic ({period} s): it can be renewed for ever"));
            settings.insert("token_period=0");
        } else if *ttl > LONGEST {
            evidence.push(format!("its token lives for {ttl} s; {LONGEST} s are the most"));
        }
        if !evidence.is_empty() {
            settings.extend(["token_ttl=1h", "token_max_ttl=24h"]);
        }
    }
    if let Some(Role { secret_id_ttl, secret_id_uses }) = &granted.role {
        if *secret_id_ttl == 0 {
            evidence.push("its secret ids never end".to_owned());
            settings.insert("secret_id_ttl=24h");
        }
        if *secret_id_uses == 0 {
            evidence.push("its secret ids can be used without limit".to_owned());
            settings.insert("secret_id_num_uses=10");
        }
    }
    if evidence.is_empty() {
        return;
    }
    let settings = settings.into_iter().collect::<Vec<_>>().join(" ");
    let fix = Fix::text("Let its role give what ends early; the agent renews, and logs in again.")
        .code("sh", format!("vault write {} {settings}", role(granted)));
    findings.add(Finding::new(Id::NO_EXPIRY, about, evidence, fix));
}

fn hcl(facts: &Facts<'_>, granted: &Granted) -> Fix {
    let Some(policy) = facts.policy(&granted.identity) else {
        return Fix::text("Write a policy by hand: the identity is not in the config.");
    };
    let (denied, requests) = (policy.denied.len(), policy.requests);
    if denied > 0 {
        return Fix::text(format!(
            "Write a policy by hand: of the one that was made of the record, {denied} of {requests} recorded requests would be denied."
        ));
    }
    let text = format!("Use this policy: {denied} of {requests} recorded requests would be denied.");
    Fix::text(text).code("hcl", policy.hcl.as_str())
}

/// More capabilities on a path that is needed than are needed there.
fn unused(facts: &Facts<'_>, granted: &Granted, about: &str, findings: &mut Findings) {
    if !facts.is_covered() {
        return findings.cannot(
            Id::UNUSED_CAPABILITY,
            format!("{about}: the record is shorter than the period of {} days", facts.days),
        );
    }
    let mut evidence = Vec::new();
    let mut count = 0_usize;
    for (path, (needed, _)) in facts.needs(&granted.identity).into_iter().flatten() {
        let told = granted.asked.get(path).cloned();
        let by_acl = || Some(granted.acl.as_ref()?.capabilities(path, Capability::Read));
        let may: BTreeSet<Capability> = told.or_else(by_acl).unwrap_or_default();
        // What a writer needs is granted as one.
        let writes = needed.contains(&Capability::Update) || needed.contains(&Capability::Create);
        let is_spare = |one: &Capability| {
            !needed.contains(one) && *one != Capability::Deny && !(writes && *one == Capability::Create)
        };
        let spare: BTreeSet<Capability> = may.into_iter().filter(is_spare).collect();
        if !spare.is_empty() && !path.starts_with("auth/token/") {
            count = count.saturating_add(spare.len());
            evidence.push(format!("{path}: {} granted, {} needed", need::words(&spare), need::words(needed)));
        }
    }
    if evidence.is_empty() {
        return;
    }
    let finding = Finding::new(Id::UNUSED_CAPABILITY, about, some(evidence, SHOWN), hcl(facts, granted));
    findings.add(Finding { unused: Some(count), ..finding });
}

fn beyond(facts: &Facts<'_>, granted: &Granted, about: &str, findings: &mut Findings) {
    let beyond = need::beyond(facts, granted);
    if beyond.is_empty() {
        return;
    }
    let count = beyond.len();
    let finding = Finding::new(Id::BEYOND_RULES, about, some(beyond, SHOWN), hcl(facts, granted));
    findings.add(Finding { unused: Some(count), ..finding });
}
