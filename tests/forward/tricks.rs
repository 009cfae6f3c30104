//! Requests that mean one thing to claviger and another to Vault, if anybody lets them: paths, lengths, lines.

use crate::scene::{Scene, say};
use lab::Vault;
use serde_json::json;

fn scene(vault: &Vault) -> Scene {
    vault.root().post("secret/data/reports/q1", &json!({"data": {"sum": "yes"}})).expect_success();
    vault.root().post("secret/data/salaries", &json!({"data": {"sum": "no"}})).expect_success();
    Scene::of(
        vault,
        json!([{"name": "reports", "vault": {"paths": ["secret/data/reports/+", "secret/metadata/reports/*"], "methods": ["GET", "LIST"]}}]),
    )
}

#[test]
fn no_spelling_of_a_path_reaches_what_no_rule_allows() {
    let Some(vault) = Vault::start() else { return };
    let scene = scene(&vault);
    for (path, status) in [
        ("secret/data/reports/q1", 200),
        ("secret/data/re%70orts/q1", 200),
        ("http://vault.internal:8200/v1/secret/data/reports/q1", 200),
        ("secret/data/salaries", 403),
        ("secret/data/reports/../salaries", 400),
        ("secret/data/reports/%2e%2e/salaries", 400),
        ("secret/data/reports/..%2fsalaries", 400),
        ("secret/data/reports/%2e%2e%2fsalaries", 400),
        ("secret/data/reports/.%2e/salaries", 400),
        ("secret/data/reports/%252e%252e/salaries", 400),
        ("secret/data/reports/..;/salaries", 400),
        ("secret/data/reports/q1;/../../salaries", 400),
        ("secret/data//reports/q1", 400),
        ("/secret/data/reports/q1", 400),
        ("./secret/data/reports/q1", 400),
        ("secret/data/reports/./q1", 400),
        ("secret/data/reports/q1/", 400),
        ("secret/data/reports/q1%00", 400),
        ("secret/data/reports/q1%0d%0aX-Vault-Token:%20x", 400),
        ("secret/data/reports/q1%5c..%5csalaries", 400),
        ("SECRET/data/reports/q1", 403),
        ("secret/data/Reports/q1", 403),
        ("ns1/secret/data/reports/q1", 403),
        ("secret/data/reports", 403),
        ("secret/data/reports/q1/x", 403),
        ("secret/data/salaries?x=/../reports/q1", 403),
        ("secret/data/salaries%3f/reports/q1", 403),
        ("secret/data/reports/q1?list=true", 403),
        ("secret/data/reports/q1?help=1", 400),
        ("secret/metadata/reports?list=true", 200),
        ("secret/metadata?list=true", 403),
    ] {
        let said = scene.read(path);
        assert_eq!(said.status, status, "{path}: {said:?}");
        assert!(!said.raw.contains("\"no\""), "{path}: {said:?}");
    }
    for host in ["", "vault", "169.254.169.254", "%2Frun%2Fsocket", "evil:1/v1/x"] {
        let text =
            format!("GET /v1/secret/data/reports/q1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let said = say(&scene.agent.socket(), text.as_bytes());
        assert_eq!(said.status, 200, "{host}: {said:?}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        assert_eq!(scene.ask(method, "secret/data/reports/q1", &[], "{}").status, 403, "{method}");
    }
    let headers = [
        "X-Vault-Policy-Override: true",
        "X-Vault-MFA: x",
        "X-Vault-Forward: active-node",
        "X-HTTP-Method-Override: DELETE",
        "Connection: X-Vault-Request",
    ];
    assert_eq!(scene.ask("GET", "secret/data/reports/q1", &headers, "").status, 200);
}

/// A request that hides in the body of another. Whatever is made of it, the hidden one does what any request may.
#[test]
fn a_request_in_the_body_of_another_is_refused_or_is_only_a_body() {
    let Some(vault) = Vault::start() else { return };
    let scene = scene(&vault);
    let hidden = "GET /v1/secret/data/salaries HTTP/1.1\r\nHost: x\r\n\r\n";
    let line = "POST /v1/secret/data/reports/q1 HTTP/1.1\r\nHost: x\r\n";
    let length = hidden.len();
    for head in [
        format!("{line}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{line}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{line}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("{line}Content-Length: +{length}\r\n\r\n{hidden}"),
        format!("{line}Content-Length: {length}, 0\r\n\r\n{hidden}"),
        format!("{line}Transfer-Encoding: identity\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("{line}Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{line}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{line}X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("{line}X: a\rTransfer-Encoding: chunked\r\n\r\n{hidden}"),
        format!("{line}Content-Length: {length}\r\n\r\n{hidden}"),
        format!(
            "GET /v1/secret/data/reports/q1 HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{hidden}"
        ),
    ] {
        let text = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let said = say(&scene.agent.socket(), text.as_bytes());
        assert!(!said.raw.contains("\"no\""), "{head}: {said:?}");
        assert!(said.raw.matches("HTTP/1.1 200").count() <= 1, "{head}: {said:?}");
    }
    assert_eq!(scene.read("secret/data/reports/q1").status, 200);
    // What was written meanwhile is nothing.
    let kept = vault.root().get("secret/data/reports/q1").expect_success();
    assert_eq!(kept["data"]["metadata"]["version"], 1);
}
