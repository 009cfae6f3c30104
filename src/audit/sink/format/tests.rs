//! Every form of every kind of event, against the published schemas in `tests/schemas`.

use super::{super::tests::chained, *};
use crate::{
    audit::event::{
        Actor, AgentFacts, Cache, Event, Outcome, Reason, Resource, RuleRef, SinkRef, Trace, Turn, Type,
        VaultRef,
    },
    clock::Timestamp,
    crypto::{hex, sha256},
    name::{IdentityName, RuleName, SecretName, SinkName, WorkloadName},
    peer::level::Level,
    policy::rule::AuditMode,
};
use std::time::Duration;

const TYPES: &[Type] = &[
    Type::AgentStarted,
    Type::AgentStopped,
    Type::AgentClockJump,
    Type::ConfigLoaded,
    Type::ConfigRejected,
    Type::AuthLogin,
    Type::AuthRenew,
    Type::AuthRevoke,
    Type::AuthFailed,
    Type::PeerRejected,
    Type::PeerExited,
    Type::SecretRead,
    Type::SecretDenied,
    Type::SecretAcked,
    Type::SecretStaleServed,
    Type::SecretWatchOpened,
    Type::SecretWatchTold,
    Type::VaultCalled,
    Type::VaultIntent,
    Type::VaultResult,
    Type::VaultDenied,
    Type::LeaseRenewed,
    Type::LeaseRevoked,
    Type::AuditGap,
    Type::AuditRecovered,
    Type::AuditSinkDown,
    Type::AuditSinkUp,
    Type::AuditDlq,
    Type::Rotation(Turn::Started),
    Type::Rotation(Turn::TakenOver),
    Type::Rotation(Turn::Set),
    Type::Rotation(Turn::Promoted),
    Type::Rotation(Turn::GraceEnded),
    Type::Rotation(Turn::Revoked),
    Type::Rotation(Turn::Skipped),
    Type::Rotation(Turn::Failed),
    Type::Rotation(Turn::Orphaned),
    Type::Rotation(Turn::Quarantined),
    Type::Rotation(Turn::Reenabled),
    Type::Rotation(Turn::Drift),
    Type::Rotation(Turn::Repaired),
    Type::Rotation(Turn::RolledBack),
    Type::Rotation(Turn::Suspended),
    Type::Rotation(Turn::Resumed),
    Type::Rotation(Turn::Unorphaned),
    Type::Rotation(Turn::Adopted),
    Type::UsageSnapshot,
    Type::ReportGenerated,
    Type::ReportFinding,
    Type::ExposureFound,
    Type::ExposureLooked,
    Type::ApprovalRequested,
    Type::ApprovalGranted,
    Type::ApprovalRefused,
    Type::ApprovalExpired,
    Type::ApprovalUsed,
    Type::ApprovalBreakGlass,
    Type::ApprovalDrill,
    Type::ApprovalDisabled,
    Type::ApprovalEnabled,
];

/// Every type, each way it can end, with nothing known and with everything known.
fn events() -> Vec<Item> {
    let time = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
    let mut events = Vec::new();
    for kind in TYPES.iter().copied() {
        for outcome in [Outcome::Allow, Outcome::Deny, Outcome::Error] {
            let bare = Event::new(kind, outcome, time);
            let reason = (outcome != Outcome::Allow).then_some(Reason::NoRule);
            let bare = Event { reason, ..bare };
            for pid in [Some(4242), None] {
                events.push(Event {
                    actor: Some(Actor {
                        uid: 0,
                        gid: 7,
                        pid,
                        start_time: None,
                        pidfd_ino: None,
                        level: Level::User,
                        exe_sha256: None,
                        container: None,
                    }),
                    ..full(&bare)
                });
            }
            events.push(bare);
        }
    }
    chained(events)
}

fn full(bare: &Event) -> Event {
    Event {
        workload: Some(WorkloadName::new("report-job").unwrap()),
        identity: Some(IdentityName::new("reports").unwrap()),
        resource: Some(Resource {
            operation: None,
            secret: Some(SecretName::new("stripe").unwrap()),
            kind: Some("kv"),
            path: Some("secret/payments/\"stripe\"\u{1}".into()),
            field: Some("api_key".into()),
            version: Some(7),
            lease_id_hash: Some("ab".into()),
            mount: Some("secret".into()),
            fingerprint: Some(format!("k1:hmac-sha256:{}", "0".repeat(64))),
        }),
        trace: Some(Trace { id: [0x4b; 16], span: [7; 8] }),
        rule: Some(RuleRef {
            name: RuleName::new("payments").unwrap(),
            revision: "sha256:77ab".into(),
            mode: AuditMode::Strict,
        }),
        vault: Some(VaultRef { request_id: Some("r-1".into()), status: Some(403), ..VaultRef::default() }),
        cache: Some(Cache { hit: true, age: Duration::from_millis(812) }),
        latency: Some(Duration::from_micros(183)),
        agent: Some(AgentFacts { version: Some("1"), ..AgentFacts::default() }),
        sink: Some(SinkRef::new(SinkName::new("siem").unwrap())),
        ..bare.clone()
    }
}

fn rendered(format: Format) -> Vec<(Item, Value)> {
    let parse = |item: &Item| {
        let bytes = format.render(item);
        assert!(!bytes.contains(&b'\n'));
        serde_json::from_slice(&bytes).unwrap()
    };
    events().into_iter().map(|item| (item.clone(), parse(&item))).collect()
}

fn schema(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What [`conforms`] understands.
const KNOWN: &[&str] = &[
    "$schema",
    "description",
    "type",
    "properties",
    "required",
    "definitions",
    "minLength",
    "format",
    "examples",
    "additionalProperties",
    "anyOf",
    "const",
    "enum",
    "items",
];

/// As much of JSON schema, draft 7, as the schemas of CloudEvents and OCSF use.
fn conforms(value: &Value, schema: &Value, root: &Value) {
    if let Some(reference) = schema["$ref"].as_str() {
        return conforms(value, root.pointer(reference.trim_start_matches('#')).unwrap(), root);
    }
    assert!(schema.is_object(), "{value}: what was kept of the schema says nothing of it");
    for (key, _) in schema.as_object().unwrap() {
        assert!(KNOWN.contains(&key.as_str()), "the schema says {key}, which nobody checks");
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = &schema["type"];
    assert!(types == kind || types.as_array().is_some_and(|types| types.contains(&kind.into())), "{value}");
    is_one_of(value, schema);
    for value in value.as_array().into_iter().flatten() {
        conforms(value, &schema["items"], root);
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            conforms(value, schema, root);
        }
    }
    if let (Some(text), Some(least)) = (value.as_str(), schema["minLength"].as_u64()) {
        assert!(text.len() as u64 >= least);
    }
    match schema["format"].as_str() {
        Some("date-time") => drop(value.as_str().unwrap().parse::<Timestamp>().unwrap()),
        Some("uri-reference") => assert!(value.as_str().unwrap().bytes().all(|b| b.is_ascii_graphic())),
        Some(other) => panic!("the schema says format {other}, which nobody checks"),
        None => {}
    }
}

/// What a schema says of the value as a whole: its members' names, and words to choose from.
fn is_one_of(value: &Value, schema: &Value) {
    let has_all = |schema: &Value| {
        let names = schema["required"].as_array().into_iter().flatten();
        names.filter(|name| value[name.as_str().unwrap()].is_null()).count() == 0
    };
    assert!(has_all(schema), "one of {} is missing in {value}", schema["required"]);
    let ways = schema["anyOf"].as_array();
    assert!(ways.is_none_or(|ways| ways.iter().any(has_all)), "{value}");
    assert!(schema["const"].is_null() || schema["const"] == *value, "{value} is not {}", schema["const"]);
    let words = schema["enum"].as_array();
    assert!(words.is_none_or(|words| words.contains(value)), "{value} is none of {words:?}");
    if schema["additionalProperties"] == false {
        let strange = value.as_object().unwrap().keys().find(|name| schema["properties"].get(name).is_none());
        assert_eq!(strange, None, "{value}");
    }
}

#[test]
fn cloudevents_conform_to_their_schema_and_hold_the_event_byte_for_byte() {
    let schema = schema(include_str!("../../../../tests/schemas/cloudevents-1.0.json"));
    for (item, event) in rendered(Format::CloudEvents) {
        conforms(&event, &schema, &schema);
        for (name, value) in event.as_object().unwrap() {
            // Section 3.1 of the specification: lower-case letters and digits; and only `data` may be an object.
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{name}");
            assert!(name == "data" || value.is_string() || value.is_u64(), "{name}: {value}");
        }
        assert_eq!((&event["specversion"], &event["id"]), (&"1.0".into(), &item.id().into()));
        let text = String::from_utf8(Format::CloudEvents.render(&item)).unwrap();
        assert!(text.contains(&format!("\"data\":{}", std::str::from_utf8(&item.native).unwrap())));
        assert!(!text.split("\"data\":").next().unwrap().contains("secret/"), "no path outside of data");
    }
    let items = events();
    let (kind, body) = Format::CloudEvents.document(&items[..3]);
    let batch: Vec<Value> = serde_json::from_slice(&body).unwrap();
    assert_eq!((kind, batch.len()), ("application/cloudevents-batch+json", 3));
}

/// One event of OCSF, and the schema that it must follow.
struct Ocsf<'a> {
    schema: &'a Value,
    /// The profiles that the event says it has.
    profiles: &'a Value,
}

impl Ocsf<'_> {
    /// One object: nothing unknown, nothing missing, every type and every enum right.
    fn check(&self, value: &Value, definition: &Value, path: &str) {
        let object = value.as_object().unwrap_or_else(|| panic!("{path} is no object"));
        let attributes = definition["attributes"].as_object().unwrap();
        for (name, attribute) in attributes {
            let required = attribute["requirement"] == "required" && self.has_profile(attribute);
            assert!(!required || object.contains_key(name), "{path}.{name} is missing");
        }
        if let Some(one_of) = definition["constraints"]["at_least_one"].as_array() {
            assert!(
                one_of.iter().any(|name| object.contains_key(name.as_str().unwrap())),
                "{path}: {one_of:?}"
            );
        }
        for (name, value) in object {
            let path = format!("{path}.{name}");
            if path == "event.attestation" {
                continue;
            }
            let attribute = attributes.get(name).unwrap_or_else(|| panic!("{path} is not in the schema"));
            assert!(self.has_profile(attribute), "{path} needs a profile: {attribute}");
            let many = attribute["is_array"] == true;
            let values = if many { value.as_array().unwrap().clone() } else { vec![value.clone()] };
            values.iter().for_each(|value| self.check_value(value, attribute, &path));
        }
    }

    fn has_profile(&self, attribute: &Value) -> bool {
        let has = |profile: &Value| self.profiles.as_array().unwrap().contains(profile);
        attribute["profiles"].as_array().is_none_or(|profiles| profiles.iter().any(has))
    }

    fn check_value(&self, value: &Value, attribute: &Value, path: &str) {
        match attribute["type"].as_str().unwrap() {
            "object_t" => {
                let name = attribute["object_type"].as_str().unwrap();
                let definition = &self.schema["objects"][name];
                assert!(definition.is_object(), "{path}: {name} is not in the schema that was kept");
                self.check(value, definition, path);
            }
            "integer_t" | "long_t" | "timestamp_t" => {
                assert!(value.is_i64() || value.is_u64(), "{path}: {value}");
                if let Some(values) = attribute["enum"].as_array() {
                    assert!(
                        values.contains(&value.to_string().into()),
                        "{path}: {value} is not in {values:?}"
                    );
                }
            }
            "boolean_t" => assert!(value.is_boolean(), "{path}: {value}"),
            "json_t" => {}
            kind => {
                assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{path}: {value} is no {kind}")
            }
        }
    }
}

#[test]
fn ocsf_conforms_to_its_schema() {
    let schema = schema(include_str!("../../../../tests/schemas/ocsf-1.8.0.json"));
    for (_, event) in rendered(Format::Ocsf) {
        let class = &schema["classes"][event["class_uid"].to_string()];
        assert!(class.is_object(), "{event}");
        Ocsf { schema: &schema, profiles: &event["metadata"]["profiles"] }.check(&event, class, "event");
        assert_eq!((&event["class_uid"], &event["category_uid"]), (&class["uid"], &class["category_uid"]));
        let uid = event["class_uid"].as_u64().unwrap() * 100 + event["activity_id"].as_u64().unwrap();
        assert_eq!(event["type_uid"], uid);
    }
}

/// What `report keys --format ocsf` prints has no chain and nobody behind it.
#[test]
fn a_report_of_the_command_line_conforms_to_the_schema_of_ocsf_too() {
    use crate::report::{self, page, subject::Subject};
    let terms = report::Terms {
        now: Timestamp::from_second(1_795_000_000).unwrap(),
        period: Duration::from_secs(3600),
    };
    let report = report::judge(&Subject::default(), &crate::usage::history::Record::default(), &[], terms);
    let text = page::Format::Ocsf.render(&report);
    assert!(text.lines().count() > 0, "a config that keeps no record is a finding");
    let schema = schema(include_str!("../../../../tests/schemas/ocsf-1.8.0.json"));
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        Ocsf { schema: &schema, profiles: &Value::Array(Vec::new()) }.check(
            &event,
            &schema["classes"]["2008"],
            "event",
        );
        assert!(event["permission_analysis_results"][0]["unused_privileges_count"].is_u64());
        assert!(
            event["finding_info"]["last_seen_time"].is_i64()
                || event["finding_info"]["last_seen_time"].is_u64()
        );
    }
}

/// Of 1.9.0 one class is published in a package, and with it the objects that all classes share.
#[test]
fn ocsf_conforms_to_what_is_published_of_1_9() {
    let schema = schema(include_str!("../../../../tests/schemas/ocsf-1.9.0.json"));
    let mut findings = 0;
    for (_, mut event) in rendered(Format::Ocsf) {
        let attributes = event.as_object_mut().unwrap();
        // These two are of profiles, and the class was published without any.
        for object in ["attestation", "actor"] {
            conforms(&attributes.remove(object).unwrap(), &schema["$defs"][object], &schema);
        }
        conforms(&event["metadata"], &schema["$defs"]["metadata"], &schema);
        conforms(&event["raw_data_hash"], &schema["$defs"]["fingerprint"], &schema);
        assert_eq!(event["metadata"]["version"], "1.9.0");
        if event["class_uid"] == 2004 {
            conforms(&event, &schema["class"], &schema);
            findings += 1;
        }
    }
    assert!(findings > 0);
}

/// The object `attestation` of OCSF 1.9: a fingerprint or a signature at least; `prev_event` absent in the first event
/// of a chain only, and then with the uid of an event.
#[test]
fn ocsf_carries_the_chain_so_that_it_can_be_checked_behind_the_sink() {
    let mut before: Option<(Value, String)> = None;
    for (item, event) in rendered(Format::Ocsf) {
        let raw = event["raw_data"].as_str().unwrap();
        assert_eq!(raw.as_bytes(), item.native);
        let hash = hex(&sha256(raw.as_bytes()));
        let attestation = &event["attestation"];
        assert!(event["metadata"]["profiles"].as_array().unwrap().contains(&"record_integrity".into()));
        for fingerprint in [&attestation["fingerprint"], &event["raw_data_hash"]] {
            assert_eq!(
                (&fingerprint["value"], &fingerprint["algorithm_id"]),
                (&hash.as_str().into(), &3.into())
            );
        }
        match &before {
            None => assert!(attestation.get("prev_event").is_none()),
            Some((uid, hash)) => {
                assert_eq!(attestation["prev_event"]["uid"], *uid);
                assert_eq!(attestation["prev_event"]["fingerprint"]["value"], hash.as_str());
            }
        }
        before = Some((event["metadata"]["uid"].clone(), hash));
    }
}

/// The values that ECS 8 allows for `event.category`, and for `event.type` under each (its field reference, "event").
const ECS: [(&str, &[&str]); 8] = [
    (
        "api",
        &[
            "access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start",
            "user",
        ],
    ),
    ("authentication", &["start", "end", "info"]),
    ("configuration", &["access", "change", "creation", "deletion", "info"]),
    ("host", &["access", "change", "end", "info", "start"]),
    ("iam", &["admin", "change", "creation", "deletion", "group", "info", "user"]),
    ("network", &["access", "allowed", "connection", "denied", "end", "info", "protocol", "start"]),
    ("process", &["access", "change", "end", "info", "start"]),
    ("session", &["start", "end", "info"]),
];

#[test]
fn ecs_uses_the_words_that_the_schema_allows() {
    for (item, event) in rendered(Format::Ecs) {
        let category = event["event"]["category"][0].as_str().unwrap();
        let (_, types) = ECS.iter().find(|(name, _)| *name == category).unwrap();
        for kind in event["event"]["type"].as_array().unwrap() {
            assert!(types.contains(&kind.as_str().unwrap()), "{category}: {kind}");
        }
        assert!(["success", "failure", "unknown"].contains(&event["event"]["outcome"].as_str().unwrap()));
        assert_eq!(event["event"]["original"].as_str().unwrap().as_bytes(), item.native);
        assert_eq!(event["event"]["hash"], hex(&sha256(&item.native)));
        assert!(event["@timestamp"].is_string() && event["ecs"]["version"].is_string());
    }
}

#[test]
fn a_form_leaves_no_empty_value_behind() {
    fn check(value: &Value) {
        match value {
            Value::Null => panic!("a null"),
            Value::Object(map) => {
                assert!(!map.is_empty());
                map.values().for_each(check);
            }
            Value::Array(list) => list.iter().for_each(check),
            _ => {}
        }
    }
    for format in [Format::Ocsf, Format::Ecs] {
        rendered(format).iter().for_each(|(_, event)| check(event));
    }
}
