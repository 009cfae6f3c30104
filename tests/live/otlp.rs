//! Audit events at a real OpenTelemetry Collector, over HTTP with JSON.

use crate::rig::{PROGRAM, Plan, printed, until};
use lab::{Collector, Vault};
use serde_json::{Value, json};
use std::process::Command;

#[test]
fn a_real_collector_gets_every_event_once_in_order_with_its_line_as_the_body_and_its_attributes() {
    let Some(vault) = Vault::start() else { return };
    let Some(collector) = Collector::start() else { return };
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    plan.config["audit"]["sinks"] = json!({
        "console": {"kind": "stdout"},
        "otel": {"kind": "otlp", "url": collector.url(), "required": true},
    });
    let agent = plan.start();
    for _ in 0..600 {
        assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    }
    assert_eq!(agent.read("nothing").status, 403);
    let stopped = agent.stop();
    assert_eq!(stopped.code, Some(0));
    let exported =
        printed(Command::new(PROGRAM).args(["audit", "export"]).arg(stopped.folder.path().join("audit")));
    let lines: Vec<&str> = exported.lines().collect();
    assert!(lines.len() > 600, "{}", lines.len());
    let records = until("every event at the collector", || {
        let records = collector.records();
        (records.len() >= lines.len()).then_some(records)
    });
    let bodies: Vec<&str> = records.iter().map(|record| record.body.as_str()).collect();
    assert_eq!(bodies, lines, "byte for byte");
    for record in &records {
        let event: Value = serde_json::from_str(&record.body).unwrap();
        assert_eq!(record.event, event["type"].as_str().unwrap());
        let number = event["severity"].as_u64().unwrap();
        assert!(record.severity.ends_with(&format!("({number})")), "{record:?}");
        let (day, rest) = event["time"].as_str().unwrap().split_once('T').unwrap();
        assert!(record.time.starts_with(&format!("{day} {}", &rest[..8])), "{record:?}");
        let check = |key: &str, expected: &Value| {
            let expected = expected.as_str().map(|text| format!("Str({text})"));
            assert_eq!(record.attributes.get(key), expected.as_ref(), "{key} of {record:?}");
        };
        check("log.record.uid", &event["id"]);
        check("audit.sequence.prev_hash", &event["chain"]["prev"]);
        check("claviger.outcome", &event["outcome"]);
        check("error.type", &event["reason"]);
        check("claviger.workload", &event["workload"]);
        check("claviger.secret", &event["resource"]["secret"]);
        check("security_rule.name", &event["rule"]["name"]);
        let pid = event["actor"]["pid"].as_i64().map(|pid| format!("Int({pid})"));
        assert_eq!(record.attributes.get("process.pid"), pid.as_ref());
        assert_eq!(record.resource["service.name"], "Str(claviger)");
        assert_eq!(
            record.resource["service.instance.id"],
            format!("Str({})", event["source"].as_str().unwrap())
        );
    }
}
