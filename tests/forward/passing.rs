//! What of a request and of its answer goes on unchanged, what does not go on, and by whose word.

use crate::{
    rig::{Agent, Plan, printed, until},
    scene::{Said, ask, make_token, say},
    taker::Taker,
    uploads::agent,
};
use lab::Vault;
use serde_json::{Value, json};
use std::process::Command;

fn read(agent: &Agent, path: &str, headers: &[&str]) -> Said {
    ask(&agent.socket(), "GET", path, headers, "")
}

/// The names of the headers that came to the server, or to the client.
fn names(head: &str) -> Vec<String> {
    let lines = head.split("\r\n\r\n").next().unwrap().lines().skip(1);
    let mut names: Vec<String> =
        lines.filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase())).collect();
    names.sort();
    names
}

#[test]
fn of_the_headers_few_go_on_either_way() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |_| {});
    let sent = [
        "X-Vault-Token: hvs.another",
        "Authorization: Bearer hvs.another",
        "X-Vault-Namespace: root",
        "X-Vault-Policy-Override: true",
        "X-Vault-MFA: x",
        "X-Vault-Forward: active-node",
        "X-Vault-Inconsistent: forward-active-node",
        "X-Vault-No-Request-Forwarding: true",
        "X-Vault-AWS-IAM-Server-ID: x",
        "X-Forwarded-For: 10.0.0.1",
        "Cookie: a=b",
        "User-Agent: me",
        "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Accept-Encoding: gzip",
        "X-Vault-Wrap-Format: jwt",
        "X-Vault-Index: index",
        "If-None-Match: \"tag\"",
        "If-Modified-Since: then",
        "Content-Type: application/json",
    ];
    let said = read(&agent, "take/headers", &sent);
    let head = said.json()["data"]["head"].as_str().unwrap().to_owned();
    let ours = ["accept", "host", "x-vault-request", "x-vault-token"];
    let theirs = ["content-type", "if-modified-since", "if-none-match", "x-vault-index"];
    let mut expected: Vec<&str> = ours.into_iter().chain(theirs).collect();
    expected.sort_unstable();
    assert_eq!(names(&head), expected, "{head}");
    assert!(!head.contains("hvs.another"), "{head}");
    let ours = ["cache-control", "connection"];
    let theirs = ["content-length", "content-type", "etag", "last-modified", "x-vault-index"];
    let mut expected: Vec<&str> = ours.into_iter().chain(theirs).collect();
    expected.sort_unstable();
    assert_eq!(names(&said.raw), expected, "{said:?}");
}

#[test]
fn what_vault_says_comes_back_as_it_says_it_whatever_its_status() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |_| {});
    for status in [200, 202, 400, 403, 404, 405, 412, 429, 472, 473, 500, 501, 502, 503] {
        let path = format!("take/status-{status}");
        let said = read(&agent, &path, &[]);
        assert_eq!(said.status, status, "{said:?}");
        assert!(said.raw.ends_with("{ \"errors\":[\"as it is\"],\n\"warnings\":[\"w\"] }"), "{said:?}");
        let event = agent.event("vault.called.v1", |event| event["resource"]["path"] == path);
        assert_eq!(event["outcome"] == "allow", status < 400, "{event}");
        assert_eq!(
            event["vault"]["status"].as_u64(),
            (status >= 400).then_some(u64::from(status)),
            "{event}"
        );
    }
    let head = ask(&agent.socket(), "HEAD", "take/status-200", &[], "");
    assert!(head.status == 200 && head.raw.ends_with("\r\n\r\n"), "{head:?}");
    // What no client of Vault sends.
    for method in ["OPTIONS", "TRACE", "SCAN"] {
        assert_eq!(ask(&agent.socket(), method, "take/status-200", &[], "").status, 400, "{method}");
    }
    // One connection serves many.
    let one = "GET /v1/take/status-200 HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = one.replace("Host: x", "Host: x\r\nConnection: close");
    let said = say(&agent.socket(), format!("{one}{one}{last}").as_bytes());
    assert_eq!(said.raw.matches("HTTP/1.1 200").count(), 3, "{said:?}");
}

#[test]
fn header_and_path_prefix_name_the_one_namespace_that_vault_is_asked_in() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let agent = agent(vault, &taker, |config| {
        config["workloads"]["job"]["rules"][0]["vault"]["namespace"] = json!("team/ns1");
    });
    for (path, header, status) in [
        ("take/headers", "X-Vault-Namespace: team/ns1", 200),
        ("take/headers", "X-Vault-Namespace: /team/ns1/", 200),
        ("ns1/take/headers", "X-Vault-Namespace: team", 200),
        ("team/ns1/take/headers", "X: y", 200),
        ("take/headers", "X: y", 200),
        ("take/headers", "X-Vault-Namespace: team", 403),
        ("take/headers", "X-Vault-Namespace: team/ns1/below", 403),
        ("team/ns1/take/headers", "X-Vault-Namespace: team/ns1", 403),
        ("take/headers", "X-Vault-Namespace: team/../ns1", 400),
    ] {
        let said = read(&agent, path, &[header]);
        assert_eq!(said.status, status, "{path} {header}: {said:?}");
        if status == 200 {
            let head = said.json()["data"]["head"].as_str().unwrap().to_owned();
            assert!(head.starts_with("GET /v1/take/headers HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("\r\nx-vault-namespace: team/ns1\r\n"), "{head}");
        }
    }
}

#[test]
fn at_each_level_a_request_says_how_surely_its_peer_was_known() {
    let Some(vault) = Vault::shared() else { return };
    let taker = Taker::start(vault);
    let create = "http://x/v1/auth/token/create";
    for level in ["reach", "user", "process"] {
        let agent = agent(vault, &taker, |config| {
            let peer = &mut config["workloads"]["job"]["peer"];
            match level {
                // It proves no uid.
                "reach" => *peer = json!({"level": level}),
                level => peer["level"] = json!(level),
            }
        });
        assert_eq!(read(&agent, "take/status-200", &[]).status, 200, "{level}");
        let event = agent.event("vault.called.v1", |_| true);
        assert_eq!(event["actor"]["level"], level, "{event}");
        // A child of a process that nobody can name has its own end only.
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--unix-socket"]).arg(agent.socket()).args(["-d", "{}", create]);
        let child: Value = serde_json::from_str(&printed(&mut curl)).unwrap();
        let accessor = json!({"accessor": child["auth"]["accessor"]});
        let lives = || vault.root().post("auth/token/lookup-accessor", &accessor).status == 200;
        match level {
            "process" => until("its end", || (!lives()).then_some(())),
            _ => assert!(lives(), "{level}"),
        }
        let revoked = agent.events().iter().filter(|event| event["type"] == "lease.revoked.v1").count();
        assert_eq!(revoked > 0, level == "process", "{level}");
    }
}

#[test]
fn a_request_waits_a_little_for_a_token_and_is_then_told_when_to_ask_again() {
    let Some(vault) = Vault::shared() else { return };
    let mut plan = Plan::new(vault);
    let file = plan.file("token", &make_token(vault).0);
    plan.identity(json!({"method": "token_file", "token_file": file}));
    // Nobody listens there.
    plan.config["vault"]["addresses"] = json!(["http://127.0.0.1:9"]);
    plan.config["workloads"]["job"]["rules"] = json!([{"name": "tree", "vault": {"paths": ["secret/*"]}}]);
    let agent = plan.start();
    let said = read(&agent, "secret/data/a", &[]);
    assert_eq!((said.status, &said.json()["reason"]), (503, &json!("vault_away")), "{said:?}");
    assert!(said.raw.contains("\r\nretry-after: "), "{said:?}");
}
