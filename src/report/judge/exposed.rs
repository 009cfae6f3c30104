//! Values that stand where they must not: KA011. Pure.
//!
//! By what agents saw when they looked, and never clean where nobody could look. A value that was seen stays a finding until it is
//! another one: taken away from there, it is known all the same.

use super::{Facts, Findings, some};
use crate::{
    report::finding::{Finding, Fix, Id},
    usage::exposed::{Exposed, Looked},
};
use std::collections::BTreeMap;

/// Shown of a list.
const SHOWN: usize = 12;

pub(super) fn judge(facts: &Facts<'_>, findings: &mut Findings) {
    let exposures = &facts.record.marks.exposures;
    let mut open: BTreeMap<String, Vec<&Exposed>> = BTreeMap::new();
    for exposed in exposures.found.values().filter(|exposed| !is_over(facts, exposed)) {
        let about = match &exposed.secret {
            Some(secret) => format!("secrets.{secret}"),
            None => exposed.about.clone().unwrap_or_else(|| "unknown".to_owned()),
        };
        open.entry(about).or_default().push(exposed);
    }
    for (about, seen) in open {
        findings.add(finding(facts, about, &seen));
    }
    let looks: Vec<(&String, &Looked)> =
        exposures.looked.iter().filter(|(_, looked)| looked.at >= facts.since).collect();
    if looks.is_empty() {
        let text = "nobody looked: report: {exposure: {processes: true, files: [FILE]}} has agents look, and these events are not on record";
        return findings.cannot(Id::EXPOSED, text);
    }
    for (source, looked) in looks {
        for unseen in &looked.unseen {
            findings.cannot(Id::EXPOSED, format!("not looked at by {source} on {:.0}: {unseen}", looked.at));
        }
    }
}

/// How many processes and files all agents looked at last.
pub(super) fn looked(facts: &Facts<'_>) -> Option<(u64, u64)> {
    let looks = facts.record.marks.exposures.looked.values().filter(|looked| looked.at >= facts.since);
    looks.map(|looked| (looked.processes, looked.files)).reduce(|(processes, files), (more, other)| {
        (processes.saturating_add(more), files.saturating_add(other))
    })
}

/// Whether what was seen is no longer the value, so that it need not be changed.
fn is_over(facts: &Facts<'_>, exposed: &Exposed) -> bool {
    let Some(secret) = &exposed.secret else { return false };
    if exposed.kind.as_deref() != Some("kv") {
        // It has its own end: a later look, with all that is in hand, has not seen it.
        let looked = facts.record.marks.exposures.looked.get(&exposed.source);
        return looked.is_some_and(|looked| looked.at > exposed.last) || exposed.last < facts.since;
    }
    let settings = facts.subject.secrets.iter().find(|settings| settings.name == *secret);
    let told = settings.and_then(|settings| {
        facts.granted(&settings.identity)?.values.get(settings.path.as_ref()?).map(|told| told.version)
    });
    let used = facts.uses(secret).filter_map(|entry| entry.version).max();
    told.max(used) > exposed.version
}

fn finding(facts: &Facts<'_>, about: String, seen: &[&Exposed]) -> Finding {
    let one = |exposed: &&Exposed| {
        let field = exposed.field.as_ref().map_or(String::new(), |field| format!(" {field}"));
        let version = exposed.version.map_or(String::new(), |version| format!(" of version {version}"));
        format!("its value{field}{version} was seen in {}, last on {:.0}", exposed.place, exposed.last)
    };
    let evidence = some(seen.iter().map(one), SHOWN);
    let last = seen.iter().map(|exposed| exposed.last).max();
    let secret = seen.iter().find_map(|exposed| exposed.secret.as_ref());
    let serves = |secret: &String| facts.subject.rotations.iter().find(|one| one.serves.contains(secret));
    let fix = Fix::text(
        "Take it away there, let its consumer read it from the socket, and change it now: whoever saw it has it.",
    );
    let settings = secret.and_then(|secret| facts.subject.secrets.iter().find(|one| one.name == *secret));
    let fix = match (secret.and_then(serves), settings) {
        (Some(rotation), _) => {
            let code = format!("claviger rotation now {} --reason exposed --config CONFIG", rotation.name);
            fix.code("sh", code)
        }
        (None, Some(settings)) if settings.kind == "kv" => {
            let path = settings.path.as_deref().unwrap_or_default();
            let field = settings.field.as_deref().unwrap_or("FIELD");
            fix.code("sh", format!("vault kv patch {path} {field}=-    # the new value on standard input"))
        }
        (None, Some(settings)) if settings.kind == "lease" => {
            let path = settings.path.as_deref().unwrap_or_default();
            fix.code("sh", format!("vault lease revoke -prefix {path}    # each agent has a new one made"))
        }
        _ => fix,
    };
    Finding { last, ..Finding::new(Id::EXPOSED, about, evidence, fix) }
}
