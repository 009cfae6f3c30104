//! A config, its record and Vault's word without a fault, and each fault by itself and all of them together.

use super::{
    acl::{Acl, Capability},
    finding::Id,
    granted::{Engine, Granted, Metadata, Role, Token},
    page::Format,
    subject::{Audit, Forward, Identity, Rotation, Rule, Secret, Subject, Want, Where, Workload},
    *,
};
use crate::usage::{
    Entry,
    exposed::{Exposed, Looked},
    glass::{Glass, Standing, Touched},
    history::RotationMarks,
    told,
};
use std::collections::{BTreeMap, BTreeSet};

const NOW: i64 = 1_795_000_000;

fn ago(days: i64) -> Timestamp {
    Timestamp::from_second(NOW - days * 24 * 3600).unwrap()
}

#[derive(Clone)]
struct World {
    subject: Subject,
    record: Record,
    granted: Granted,
}

impl World {
    fn report(&self) -> Report {
        let period = Duration::from_secs(90 * 24 * 3600);
        judge(&self.subject, &self.record, std::slice::from_ref(&self.granted), Terms { now: ago(0), period })
    }

    fn found(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.report().findings.iter().map(|finding| finding.id.to_string()).collect();
        found.sort_unstable();
        found
    }
}

fn entry(workload: &str, rule: &str, secret: &str) -> Entry {
    Entry {
        workload: workload.into(),
        rule: Some(rule.into()),
        secret: Some(secret.into()).filter(|secret: &String| !secret.is_empty()),
        upstream: None,
        path: Some(format!("secret/{secret}")),
        mount: Some("secret".into()),
        field: None,
        version: Some(3),
        fingerprint: Some(format!("k1:hmac-sha256:{secret}")),
        capability: told::Capability::Read,
        first: ago(200),
        last: ago(1),
        allow: 40,
        approved: 0,
        asked: None,
        unasked: Some(ago(1)),
        deny: 0,
        exe: None,
        stale: 0,
        level: Some("process"),
    }
}

fn forwarded(path: &str, capability: told::Capability) -> Entry {
    Entry {
        path: Some(path.into()),
        capability,
        version: None,
        fingerprint: None,
        mount: None,
        ..entry("job", "tree", "")
    }
}

fn rule(name: &str, secrets: &[&str]) -> Rule {
    Rule {
        name: name.into(),
        secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
        forward: None,
        ..Rule::default()
    }
}

fn secret(name: &str) -> Secret {
    Secret {
        name: name.into(),
        identity: "reports".into(),
        kind: "kv",
        path: Some(format!("secret/{name}")),
        field: Some("key".into()),
    }
}

fn want(name: &str) -> Want {
    Want {
        path: Where::Kv(format!("secret/{name}")),
        capabilities: &[Capability::Read],
        why: format!("the secret {name}"),
    }
}

fn workload(name: &str, uid: u32, rules: Vec<Rule>) -> Workload {
    Workload { name: name.into(), uids: vec![uid], rules }
}

/// Everything is used, young, narrow and well kept.
#[expect(clippy::too_many_lines, reason = "one world, written down")]
fn clean() -> World {
    let tree = Forward {
        identity: "reports".into(),
        paths: vec!["secret/data/reports/a".into()],
        operations: vec![told::Capability::Read, told::Capability::List],
    };
    let tree = Rule { name: "tree".into(), secrets: Vec::new(), forward: Some(tree), ..Rule::default() };
    let subject = Subject {
        revision: "sha256:77ab".into(),
        workloads: vec![
            workload("job", 1, vec![rule("keys", &["stripe", "mail"]), tree]),
            workload("other", 2, vec![rule("own", &["db"])]),
        ],
        identities: vec![Identity {
            name: "reports".into(),
            wants: ["stripe", "mail", "db"].map(want).into(),
        }],
        secrets: ["stripe", "mail", "db"].map(secret).into(),
        rotations: vec![Rotation {
            name: "hook".into(),
            path: "secret/mail".into(),
            serves: vec!["mail".into()],
            places: vec!["secret/mail".into(), "secret/data/mail".into()],
            weak: None,
            max_age: None,
            made_by: None,
            journal: Some("kv/rotation/hook".into()),
        }],
        audit: Audit { mode: "strict", strict: true, remote: true, signed: true },
    };
    let mut record = Record {
        entries: vec![
            entry("job", "keys", "stripe"),
            entry("job", "keys", "mail"),
            entry("other", "own", "db"),
            forwarded("secret/data/reports/a", told::Capability::Read),
            forwarded("secret/data/reports/a", told::Capability::List),
        ],
        span: Some((ago(200), ago(0))),
        ..Record::default()
    };
    let promoted =
        RotationMarks { promoted: Some(ago(20)), ended: Some((ago(19), 2)), ..RotationMarks::default() };
    record.marks.rotations.insert("hook".into(), promoted);
    let looked = Looked { at: ago(0), processes: 2, files: 1, unseen: Vec::new() };
    record.marks.exposures.looked.insert("urn:claviger:a".into(), looked);
    let paths = ["stripe", "mail", "db"].map(|name| format!("secret/{name}"));
    let engine = Engine { mount: "secret".into(), has_versions: true };
    let young = Metadata { version: 3, made: Some(ago(20)), suspects: Vec::new() };
    let mut granted = Granted {
        identity: "reports".into(),
        token: Some(Token {
            policies: vec!["default".into(), "reports".into()],
            ttl: 3600,
            max_ttl: 0,
            period: 0,
        }),
        acl: Some(Acl::default()),
        role: Some(Role { secret_id_ttl: 3600, secret_id_uses: 5 }),
        engines: paths.iter().map(|path| (path.clone(), engine.clone())).collect(),
        values: paths.iter().map(|path| (path.clone(), young.clone())).collect(),
        ..Granted::default()
    };
    granted.canaries.insert("sys/audit".into());
    granted.asked.insert("sys/audit".into(), BTreeSet::new());
    let mut world = World { subject, record, granted };
    let least = world.report().policies[0].hcl.clone();
    let mut acl = Acl::default();
    acl.read(&least).unwrap();
    acl.grant("sys/capabilities-self", [Capability::Update]);
    world.granted.acl = Some(acl);
    world
}

fn grant(world: &mut World, path: &str, capability: Capability) {
    world.granted.acl.get_or_insert_default().grant(path, [capability]);
}

/// The newest version of `stripe`, as somebody's environment has it.
fn exposed() -> Exposed {
    Exposed {
        secret: Some("stripe".into()),
        field: Some("key".into()),
        kind: Some("kv".into()),
        version: Some(3),
        about: Some("job".into()),
        place: "the environment of /usr/bin/job (pid 7): variable KEY".into(),
        source: "urn:claviger:a".into(),
        first: ago(2),
        last: ago(1),
    }
}

fn see(world: &mut World, exposed: Exposed) {
    world.record.marks.exposures.found.insert(exposed.place.clone(), exposed);
}

type Fault = (Id, fn(&mut World));

/// One instance of each finding.
const FAULTS: &[Fault] = &[
    (Id::UNUSED_RULE, |world| {
        world.subject.workloads[0].rules.push(rule("spare", &["mail"]));
        world.record.entries.push(Entry { allow: 0, ..entry("job", "spare", "mail") });
    }),
    (Id::UNUSED_CAPABILITY, |world| grant(world, "secret/data/stripe", Capability::Delete)),
    (Id::WIDE_WILDCARD, |world| {
        let forward = world.subject.workloads[0].rules[1].forward.as_mut().unwrap();
        forward.paths = vec!["secret/data/reports/*".into()];
    }),
    (Id::ADMIN_TOKEN, |world| {
        let identity = Identity { name: "boss".into(), wants: Vec::new() };
        world.subject.identities.push(identity);
        world.granted.token.as_mut().unwrap().policies.push("admin".into());
    }),
    (Id::NO_EXPIRY, |world| world.granted.role = Some(Role { secret_id_ttl: 0, secret_id_uses: 5 })),
    (Id::OVER_AGE, |world| world.granted.values.get_mut("secret/stripe").unwrap().made = Some(ago(91))),
    (Id::NOT_ROTATED, |world| {
        world.record.marks.rotations.get_mut("hook").unwrap().skips =
            [("a".into(), ago(9)), ("b".into(), ago(2))].into();
    }),
    (Id::SHARED, |world| {
        world.record.entries.push(Entry {
            workload: "other".into(),
            rule: Some("own".into()),
            ..entry("job", "keys", "stripe")
        });
    }),
    (Id::STALE_VERSION, |world| {
        world.record.entries.push(Entry {
            version: Some(2),
            fingerprint: None,
            ..entry("job", "keys", "mail")
        });
    }),
    (Id::SAME_VALUE, |world| world.record.entries[1].fingerprint = Some("k1:hmac-sha256:stripe".into())),
    (Id::EXPOSED, |world| see(world, exposed())),
    (Id::WEAK_AUDIT, |world| world.subject.audit.remote = false),
    (Id::RETRIED, |world| {
        let denied = Entry {
            rule: None,
            allow: 0,
            deny: 5_000,
            first: ago(2),
            fingerprint: None,
            ..entry("job", "", "root-key")
        };
        world.record.entries.push(denied);
    }),
    (Id::UNATTRIBUTED, |world| world.subject.workloads[0].uids = Vec::new()),
    (Id::GLASS, |world| {
        let glass = Glass {
            at: ago(3),
            workload: Some("job".into()),
            rule: Some("keys".into()),
            ticket: None,
            touched: BTreeMap::new(),
            ended: None,
        };
        world.record.marks.glass.insert("a1".into(), glass);
    }),
    (Id::BEYOND_RULES, |world| {
        world.granted.asked.insert("sys/audit".into(), BTreeSet::from([Capability::Read]));
    }),
    (Id::WEAK_VALUE, |world| {
        world.subject.rotations[0].weak = Some("it makes values of 8 characters".into())
    }),
];

#[test]
fn a_clean_config_has_no_finding() {
    let report = clean().report();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.unjudged.iter().map(|one| one.id).collect::<Vec<_>>(), [Id::GLASS]);
}

#[test]
fn each_fault_is_the_one_finding_that_it_is_and_all_together_are_all_of_them() {
    let mut all = clean();
    for (id, fault) in FAULTS {
        let mut one = clean();
        fault(&mut one);
        assert_eq!(one.found(), [id.to_string()], "{:#?}", one.report().findings);
        let finding = &one.report().findings[0];
        assert!(
            !finding.evidence.is_empty() && !finding.fix.text.is_empty() && !finding.about.is_empty(),
            "{id}"
        );
        assert_eq!(finding.severity, id.severity());
        // An admin's token hides what follows from it.
        if *id != Id::ADMIN_TOKEN {
            fault(&mut all);
        }
    }
    assert_eq!(FAULTS.len(), Id::ALL.len());
    let expected: Vec<String> =
        Id::ALL.iter().filter(|id| **id != Id::ADMIN_TOKEN).map(ToString::to_string).collect();
    assert_eq!(all.found(), expected);
    assert!(all.report().fails_on(Severity::Critical) && !clean().report().fails_on(Severity::Low));
}

#[test]
fn a_rotation_without_a_journal_that_nobody_has_seen_happen_is_a_finding() {
    let mut world = clean();
    let followed =
        Rotation { name: "static".into(), path: "database/static-creds/app".into(), ..Rotation::default() };
    world.subject.rotations.push(followed);
    assert_eq!(world.found(), [Id::NOT_ROTATED.to_string()]);
    let finding = &world.report().findings[0];
    assert_eq!(finding.evidence, ["no success on record"]);
    assert!(finding.fix.code.as_ref().unwrap().1.starts_with("vault read database/static-creds/app"));
    let promoted = RotationMarks { promoted: Some(ago(20)), ..RotationMarks::default() };
    world.record.marks.rotations.insert("static".into(), promoted);
    assert!(world.found().is_empty());
}

#[test]
fn what_one_program_tries_again_and_again_is_told_from_what_many_try_once() {
    let mut world = clean();
    let denied = |exe, deny| Entry {
        rule: None,
        allow: 0,
        deny,
        exe,
        first: ago(1),
        fingerprint: None,
        ..entry("job", "", "root-key")
    };
    world.record.entries.extend((1..=30).map(|exe| denied(Some(exe), 10)));
    assert!(world.found().is_empty());
    world.record.entries.push(denied(Some(0xab), 500));
    let report = world.report();
    let [finding] = report.findings.as_slice() else { panic!("{:#?}", report.findings) };
    assert_eq!(finding.id, Id::RETRIED);
    assert!(finding.evidence[0].ends_with("begins with 00000000000000ab"), "{:?}", finding.evidence);
}

#[test]
fn what_was_taken_in_an_emergency_is_a_finding_until_it_is_rotated() {
    let world = |rotated: i64, is_replaced: bool| {
        let mut world = clean();
        let touched = Touched { at: ago(3), version: Some(1), is_replaced };
        let glass = Glass {
            at: ago(3),
            workload: Some("job".into()),
            rule: Some("keys".into()),
            ticket: Some("INC-1".into()),
            touched: BTreeMap::from([("stripe".to_owned(), touched)]),
            ended: Some(ago(3)),
        };
        world.record.marks.glass.insert("a1".into(), glass);
        world.subject.rotations[0].serves = vec!["stripe".into()];
        let name = world.subject.rotations[0].name.clone();
        world.record.marks.rotations.entry(name).or_default().promoted = Some(ago(rotated));
        world
    };
    let found = |world: &World| world.found().contains(&Id::GLASS.to_string());
    let open = world(4, false);
    assert!(found(&open));
    let report = open.report();
    let finding = report.findings.iter().find(|finding| finding.id == Id::GLASS).unwrap();
    assert!(finding.evidence[0].contains("ticket INC-1") && finding.evidence[0].contains("stripe"));
    assert!(!found(&world(2, false)), "rotated since");
    assert!(!found(&world(4, true)), "a newer version was seen since");
    // The same of what was read in Vault's own API.
    let by_path = |rotated: i64| {
        let mut world = world(rotated, false);
        let glass = world.record.marks.glass.get_mut("a1").unwrap();
        let touched = glass.touched.remove("stripe").unwrap();
        glass.touched.insert("secret/data/mail".into(), touched);
        world
    };
    assert!(found(&by_path(4)));
    assert!(!found(&by_path(2)), "rotated since");
}

#[test]
fn a_rule_that_disabled_itself_is_a_finding_until_it_holds_again() {
    let world = |enabled: Option<i64>| {
        let mut world = clean();
        let why = Some("approval_expired".to_owned());
        let standing = Standing { disabled: Some(ago(3)), why, enabled: enabled.map(ago) };
        world.record.marks.behind_glass.insert("job/fire".into(), standing);
        world
    };
    let report = world(Some(4)).report();
    let finding = report.findings.iter().find(|finding| finding.id == Id::GLASS).unwrap();
    assert_eq!(finding.about, "workloads.job.rules.fire");
    assert!(finding.evidence[0].contains("approval_expired"), "{:?}", finding.evidence);
    assert!(!world(Some(2)).found().contains(&Id::GLASS.to_string()), "it holds again");
}

#[test]
fn a_value_that_was_seen_outside_is_a_finding_until_it_is_another_one() {
    let found = |change: &dyn Fn(&mut World)| {
        let mut world = clean();
        see(&mut world, exposed());
        change(&mut world);
        world.found().contains(&Id::EXPOSED.to_string())
    };
    assert!(found(&|_| {}));
    // Taken away there: it is known all the same.
    assert!(found(&|world| world.record.marks.exposures.looked.clear()));
    // A newer version is in Vault, or in use.
    assert!(!found(&|world| world.granted.values.get_mut("secret/stripe").unwrap().version = 4));
    assert!(!found(&|world| {
        world.record.entries.push(Entry { version: Some(4), ..entry("job", "keys", "stripe") });
    }));
    // What ends by itself is over once a later look has not seen it; a look that came before says nothing.
    let lease = |at: i64| {
        move |world: &mut World| {
            see(world, Exposed { kind: Some("lease".into()), ..exposed() });
            world.record.marks.exposures.looked.get_mut("urn:claviger:a").unwrap().at = ago(at);
        }
    };
    assert!(!found(&lease(0)) && found(&lease(1)) && found(&lease(2)));
    let mut world = clean();
    see(&mut world, exposed());
    let report = world.report();
    let finding = &report.findings[0];
    assert_eq!((finding.about.as_str(), finding.last), ("secrets.stripe", Some(ago(1))));
    assert_eq!(
        finding.evidence[0].split(", last").next(),
        Some("its value key of version 3 was seen in the environment of /usr/bin/job (pid 7): variable KEY")
    );
    assert!(finding.fix.code.as_ref().unwrap().1.starts_with("vault kv patch secret/stripe key=-"));
}

#[test]
fn where_nobody_could_look_is_named_and_never_clean() {
    let unjudged = |world: &World| {
        let report = world.report();
        let mut all = report.unjudged.iter().filter(|one| one.id == Id::EXPOSED).map(|one| one.why.clone());
        (all.next().unwrap_or_default(), all.count())
    };
    let mut world = clean();
    let looked = world.record.marks.exposures.looked.get_mut("urn:claviger:a").unwrap();
    looked.unseen.push("the environment of /usr/bin/job (pid 7) of workload job: we may not read it".into());
    let (why, others) = unjudged(&world);
    assert!(why.starts_with("not looked at by urn:claviger:a on 2026-") && why.contains("pid 7"), "{why}");
    assert_eq!(others, 0);
    // A look of long ago is none.
    world.record.marks.exposures.looked.get_mut("urn:claviger:a").unwrap().at = ago(91);
    assert!(unjudged(&world).0.starts_with("nobody looked"));
    world.record.marks.exposures.looked.clear();
    assert!(unjudged(&world).0.starts_with("nobody looked"));
}

#[test]
fn what_nobody_used_is_no_finding_any_more_once_somebody_does() {
    let mut world = clean();
    FAULTS[0].1(&mut world);
    assert_eq!(world.found(), [Id::UNUSED_RULE.to_string()]);
    world.record.entries.push(Entry { first: ago(0), last: ago(0), ..entry("job", "spare", "mail") });
    assert!(world.found().is_empty());
    // A version that is old by the rotation's own word, and a new one.
    let mut world = clean();
    world.subject.rotations[0].max_age = Some(Duration::from_secs(19 * 24 * 3600));
    assert_eq!(world.found(), [Id::OVER_AGE.to_string()]);
    world.granted.values.get_mut("secret/mail").unwrap().made = Some(ago(18));
    assert!(world.found().is_empty());
}

/// SARIF 2.1.0 (OASIS), the required properties of sections 3.13 to 3.52, and what GitHub asks for beyond ("SARIF support for code scanning").
#[test]
fn sarif_has_what_its_readers_require() {
    let mut world = clean();
    FAULTS.iter().for_each(|(_, fault)| fault(&mut world));
    let file = File { path: "config.yaml".into(), text: "identities:\n  reports: {}\n".into() };
    let report = Report { file: Some(file), ..world.report() };
    let log: serde_json::Value = serde_json::from_str(&Format::Sarif.render(&report)).unwrap();
    assert_eq!((&log["version"], log["runs"].as_array().unwrap().len()), (&"2.1.0".into(), 1));
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert!(run["tool"]["driver"]["name"].is_string() && rules.len() == Id::ALL.len());
    for rule in rules {
        let is_text = |key: &str| rule[key]["text"].as_str().is_some_and(|text| !text.is_empty());
        assert!(rule["id"].is_string() && is_text("shortDescription") && is_text("help"), "{rule}");
        let score: f64 = rule["properties"]["security-severity"].as_str().unwrap().parse().unwrap();
        assert!((0.0..=10.0).contains(&score));
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), report.findings.len());
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()));
        let location = &result["locations"][0];
        assert!(location["logicalLocations"][0]["fullyQualifiedName"].is_string(), "{result}");
        let place = &location["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "config.yaml");
        assert!(place["region"]["startLine"].as_u64() >= Some(1));
        assert!(result["partialFingerprints"]["claviger/v1"].is_string());
    }
    let invocation = &run["invocations"][0];
    assert!(invocation["executionSuccessful"].is_boolean());
    for note in invocation["toolExecutionNotifications"].as_array().unwrap() {
        assert!(note["message"]["text"].is_string() && note["associatedRule"]["id"].is_string(), "{note}");
    }
}

#[test]
fn what_was_had_without_a_yes_after_the_rule_had_asked_for_one_is_a_finding() {
    let found = |asked: Option<i64>, is_asked: bool| {
        let mut world = clean();
        let rule = &mut world.subject.workloads[1].rules[0];
        rule.is_asked = is_asked;
        let entry = world.record.entries.iter_mut().find(|entry| entry.workload == "other").unwrap();
        (entry.approved, entry.asked) = (u64::from(asked.is_some()), asked.map(ago));
        world.found().contains(&Id::GLASS.to_string())
    };
    assert!(found(Some(9), true));
    // Before it asked; while it only observes; and where nothing says since when it asks.
    assert!(!found(Some(1), true) && !found(Some(9), false) && !found(None, true));
}

#[test]
fn what_is_younger_than_the_period_is_not_judged_and_said_so() {
    let mut world = clean();
    world.record.entries.iter_mut().for_each(|entry| entry.first = ago(80));
    world.record.span = Some((ago(80), ago(0)));
    FAULTS[0].1(&mut world);
    world.record.entries.last_mut().unwrap().first = ago(80);
    grant(&mut world, "secret/data/stripe", Capability::Delete);
    let report = world.report();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    for id in [Id::UNUSED_RULE, Id::UNUSED_CAPABILITY, Id::WIDE_WILDCARD] {
        assert!(report.unjudged.iter().any(|one| one.id == id && one.why.contains("period")), "{id}");
    }
}

#[test]
fn without_vaults_word_what_only_vault_knows_is_named_as_not_judged() {
    let World { subject, record, .. } = clean();
    let report =
        judge(&subject, &record, &[], Terms { now: ago(0), period: Duration::from_secs(90 * 24 * 3600) });
    for id in [Id::ADMIN_TOKEN, Id::NO_EXPIRY, Id::BEYOND_RULES] {
        assert!(report.unjudged.iter().any(|one| one.id == id), "{id}");
    }
}

#[test]
fn the_least_policy_denies_nothing_that_is_on_record_and_everything_beside_it() {
    let report = clean().report();
    let [policy] = report.policies.as_slice() else { panic!("{:?}", report.policies) };
    assert_eq!((policy.denied.as_slice(), policy.requests), (&[] as &[String], 11));
    let mut acl = Acl::default();
    acl.read(&policy.hcl).unwrap();
    for (path, wanted, expected) in [
        ("secret/data/stripe", Capability::Read, true),
        ("secret/metadata/stripe", Capability::Read, true),
        ("secret/data/reports/a", Capability::List, true),
        ("secret/data/stripe", Capability::Update, false),
        ("secret/data/stripes", Capability::Read, false),
        ("secret/data/reports/b", Capability::Read, false),
        ("sys/mounts", Capability::Read, false),
    ] {
        assert_eq!(acl.allows(path, wanted), expected, "{path}");
    }
}

#[test]
fn a_policy_that_would_deny_what_is_on_record_is_not_shown() {
    let mut world = clean();
    world.record.entries.push(forwarded("sha256:77ab", told::Capability::Read));
    let report = world.report();
    assert_eq!((report.policies[0].denied.len(), report.policies[0].requests), (1, 12));
    let hcl = Format::Hcl.render(&report);
    assert!(
        hcl.starts_with("# 1 of 12 recorded requests would be denied.") && !hcl.contains("path \""),
        "{hcl}"
    );
}

#[test]
fn every_format_tells_every_finding_and_what_the_record_says_stays_text() {
    let mut world = clean();
    for (_, fault) in FAULTS {
        fault(&mut world);
    }
    let evil = "secret/<script>alert(1)</script>`|\"*";
    see(&mut world, Exposed { place: evil.into(), ..exposed() });
    let report = world.report();
    for (word, format) in Format::WORDS {
        let text = format.render(&report);
        for finding in report.findings.iter().filter(|_| *format != Format::Hcl) {
            assert!(text.contains(&finding.id.to_string()), "{word} without {}", finding.id);
        }
        if matches!(format, Format::Json | Format::Sarif) {
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
        if *format == Format::Ocsf {
            assert_eq!(text.lines().count(), report.findings.len());
            text.lines().for_each(|line| assert!(serde_json::from_str::<serde_json::Value>(line).is_ok()));
        }
        assert!(!text.contains("<script>") || *format != Format::Html, "{word}");
    }
    let page = Format::Html.render(&report);
    // Nothing is loaded from anywhere.
    for outside in ["http://", "https://", " src=", "@import", "url(", "<link", "<img"] {
        let of_fixes = page.replace("https://siem.internal/claviger", "");
        assert!(!of_fixes.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), 3);
    let hcl = Format::Hcl.render(&report);
    assert!(hcl.starts_with("# 0 of "), "{hcl}");
}

/// A page with everything that can be on one.
fn looked_at() -> String {
    let mut world = clean();
    for (id, fault) in FAULTS {
        if *id != Id::ADMIN_TOKEN {
            fault(&mut world);
        }
    }
    for (n, days) in [4_i64, 12, 33, 61, 88, 95, 140, 210].into_iter().enumerate() {
        let name = format!("service-{n}");
        world.subject.secrets.push(Secret { path: None, ..secret(&name) });
        let used = Entry { first: ago(days), last: ago(days / 2), ..entry("job", "keys", &name) };
        world.record.entries.push(used);
        world.subject.secrets.last_mut().unwrap().path = Some(format!("secret/{name}"));
        world.subject.workloads[0].rules[0].secrets.push(name);
    }
    Format::Html.render(&world.report())
}

/// `cargo test --lib -- --ignored --nocapture report_of_ten_thousand` prints what it takes.
#[test]
#[ignore = "a measurement; run it alone"]
#[expect(clippy::print_stdout, reason = "it prints what it measured")]
fn a_report_of_ten_thousand_rows_is_measured() {
    let mut world = clean();
    for n in 0..10_000 {
        let path = format!("secret/data/reports/{n}");
        world.record.entries.push(Entry {
            fingerprint: Some(format!("k1:hmac-sha256:{n:064x}")),
            ..forwarded(&path, told::Capability::Read)
        });
    }
    let page = std::env::temp_dir().join("claviger-keys.html");
    std::fs::write(&page, looked_at()).unwrap();
    println!("a page to look at: {}", page.display());
    let began = std::time::Instant::now();
    let report = world.report();
    let judged = began.elapsed();
    let size = Format::Html.render(&report).len();
    let asking = std::time::Instant::now();
    let (single, canaries) = need::asked(&world.subject, &world.record, &world.granted);
    let asked = asking.elapsed();
    println!("{} paths and {} canaries to be asked about in {asked:?}", single.len(), canaries.len());
    println!("judged in {judged:?}, written as {size} bytes of HTML in {:?}", asking - began - judged);
}
