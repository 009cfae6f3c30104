//! `claviger report keys` on the real Vault: what it grants beyond the rules is found, and the policy that the report prints is
//! enough for everything on record and for nothing else.

use crate::rig::{Agent, PROGRAM, Plan, output, until};
use lab::Vault;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
};

/// What the workload asks of Vault's API in this test: method, path, body.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("GET", "/v1/secret/data/reports/a", ""),
    ("GET", "/v1/secret/metadata/reports?list=true", ""),
    ("POST", "/v1/secret/data/reports/b", r#"{"data":{"x":"1"}}"#),
    ("DELETE", "/v1/secret/data/reports/b", ""),
];

/// What nobody asked for, and what the role could do before.
const OTHERS: &[(&str, &str)] = &[
    ("GET", "secret/data/other"),
    ("GET", "secret/data/reports/c"),
    ("GET", "secret/data/stripe2"),
    ("POST", "secret/data/stripe"),
    ("POST", "secret/data/reports/a"),
    ("GET", "secret/metadata/?list=true"),
    ("GET", "database/creds/app"),
    ("GET", "sys/mounts"),
    ("POST", "auth/token/create"),
    ("POST", "sys/leases/revoke"),
];

fn request(socket: &Path, (method, target, body): (&str, &str, &str)) -> u16 {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn report(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    command.args(["report", "keys", "--config"]).arg(folder.join("claviger.yaml")).args(args).env_clear();
    let ran = output(&mut command);
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(err.is_empty(), "{err}");
    (ran.status.code(), out.into_owned())
}

fn judged(folder: &Path, args: &[&str]) -> Value {
    let (code, text) = report(folder, &[args, &["--format", "json"]].concat());
    assert_eq!(code, Some(0), "{text}");
    serde_json::from_str(&text).unwrap()
}

fn finding<'a>(report: &'a Value, id: &str) -> Option<&'a Value> {
    report["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == id)
}

/// The status of one request with a token of the role.
fn status(vault: &Vault, token: &str, method: &str, path: &str) -> u16 {
    let client = vault.client(token);
    let answer =
        if method == "GET" { client.get(path) } else { client.post(path, &json!({"data": {"x": "1"}})) };
    answer.status
}

fn all_pass(agent: &Agent) {
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    for wanted in REQUESTS {
        let status = request(&agent.socket(), *wanted);
        assert!((200..300).contains(&status), "{wanted:?}: {status}");
    }
}

#[test]
fn an_agent_reports_on_its_own_keys_by_schedule_as_events_and_as_numbers() {
    let Some(vault) = Vault::start() else { return };
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    plan.config["report"] = json!({"every": "5s", "since": "30d"});
    plan.config["health"]["names"] = json!(true);
    let agent = plan.start();
    agent.value("stripe");
    let finding = agent.event("report.finding.v1", |event| event["report"]["id"] == "KA016");
    assert_eq!((&finding["severity"], &finding["report"]["severity"]), (&json!(17), &json!("high")));
    assert!(finding["report"]["evidence"].to_string().contains("policy path secret/*"), "{finding:#}");
    let whole = agent.event("report.generated.v1", |_| true);
    assert!(whole["report"]["counts"]["high"].as_u64() >= Some(1), "{whole:#}");
    let metrics = agent.health("/metrics").text;
    assert!(metrics.contains(r#"key_findings{id="KA016",severity="high"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"key_findings{id="KA004",severity="critical"} 0"#), "{metrics}");
    // Switched off while it runs: the numbers go.
    let mut agent = agent;
    agent.change(|config| drop(config.as_object_mut().unwrap().remove("report")));
    agent.event("config.loaded.v1", |_| true);
    until("no numbers", || (!agent.health("/metrics").text.contains("KA016")).then_some(()));
    assert_eq!(agent.stop().code, Some(0));
}

#[test]
fn the_policy_that_a_report_prints_is_enough_for_all_that_was_recorded_and_for_nothing_else() {
    let Some(vault) = Vault::start() else { return };
    let root = vault.root();
    for name in ["reports/a", "other"] {
        root.post(&format!("secret/data/{name}"), &json!({"data": {"x": "1"}})).expect_success();
    }
    let wide = r#"path "secret/data/reports/*" { capabilities = ["create", "read", "update", "delete"] }
        path "secret/metadata/*" { capabilities = ["read", "list"] }"#;
    root.put("sys/policies/acl/ci-read", &json!({"policy": wide})).expect_success();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    let tree = json!({"name": "tree", "vault": {
        "identity": "reports", "methods": ["GET", "LIST", "POST", "DELETE"],
        "paths": ["secret/data/reports/*", "secret/metadata/reports/*"],
    }});
    plan.config["workloads"]["job"]["rules"].as_array_mut().unwrap().push(tree);
    let agent = plan.start();
    all_pass(&agent);

    // Beside the running agent: Vault grants more than the rules, and the record is on one machine alone.
    let folder = agent.folder().to_owned();
    let before = judged(&folder, &["--login"]);
    let beyond = finding(&before, "KA016").unwrap_or_else(|| panic!("no KA016 in {before:#}"));
    let evidence = beyond["evidence"].to_string();
    assert!(evidence.contains("policy path secret/*") && evidence.contains("claviger-canary"), "{evidence}");
    assert!(finding(&before, "KA012").is_some() && finding(&before, "KA004").is_none(), "{before:#}");
    // Who may read the role sees that its secret ids never end.
    let token = folder.join("root-token");
    std::fs::write(&token, vault.root_token()).unwrap();
    let by_person = judged(&folder, &["--login", "--token-file", token.to_str().unwrap()]);
    assert!(finding(&by_person, "KA005").is_some(), "{by_person:#}");
    assert_eq!(report(&folder, &["--fail-on", "critical"]).0, Some(0));
    assert_eq!(report(&folder, &["--fail-on", "medium"]).0, Some(14));

    let stopped = agent.stop();
    assert!(!stopped.events("usage.snapshot.v1").is_empty());
    let policy = &judged(&folder, &["--login"])["policies"][0];
    assert_eq!(policy["denied"], json!([]), "{policy:#}");
    let (_, hcl) = report(&folder, &["--login", "--format", "hcl"]);
    assert!(hcl.starts_with("# 0 of "), "{hcl}");
    root.put("sys/policies/acl/reports", &json!({"policy": hcl})).expect_success();
    root.post("auth/approle/role/app", &json!({"token_policies": ["reports"]})).expect_success();

    // The same again, with nothing but that policy.
    let agent = Agent::again(stopped);
    all_pass(&agent);
    let secret_id = std::fs::read_to_string(folder.join("secret_id")).unwrap();
    let role_id = std::fs::read_to_string(folder.join("role_id")).unwrap();
    let login = root.post("auth/approle/login", &json!({"role_id": role_id, "secret_id": secret_id}));
    let token = login.expect_success()["auth"]["client_token"].as_str().unwrap().to_owned();
    for (method, path) in OTHERS {
        assert_eq!(status(&vault, &token, method, path), 403, "{method} {path}");
    }
    let after = judged(&folder, &["--login"]);
    assert!(finding(&after, "KA016").is_none(), "{after:#}");
    assert_eq!(after["record"]["starts"], 2, "{after:#}");
    assert_eq!(agent.stop().code, Some(0));
}
