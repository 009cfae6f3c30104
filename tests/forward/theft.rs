//! Ways to get at the token that requests are made with. The rules are the widest that a config can have, and the token may do
//! anything.

use crate::scene::Scene;
use lab::Vault;
use serde_json::json;

/// Method, path, headers, body, and the status that answers it.
type Attempt<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, u16);

const WRAP: &[&str] = &["X-Vault-Wrap-TTL: 60s"];
const SELF: &str = "auth/token/lookup-self";

fn attempts<'a>(by_token: &'a str, by_accessor: &'a str) -> Vec<Attempt<'a>> {
    vec![
        // The one that gives the token out of `vault proxy` 1.21.1, and its kin.
        ("GET", SELF, WRAP, "", 403),
        ("GET", SELF, &["X-Vault-Wrap-TTL: 1h", "X-Vault-Wrap-Format: jwt"], "", 403),
        ("POST", "auth/token/renew-self", WRAP, "{}", 403),
        ("GET", "%61uth/token/lookup-sel%66", WRAP, "", 403),
        ("GET", "secret/data/x", WRAP, "", 403),
        ("POST", "sys/wrapping/unwrap", &[], "{}", 403),
        ("POST", "sys/wrapping/unwrap", &[], by_token, 403),
        ("POST", "sys/wrapping/lookup", &[], by_token, 403),
        ("POST", "sys/wrapping/rewrap", &[], by_token, 403),
        ("POST", "sys/wrapping/wrap", WRAP, "{\"a\": 1}", 403),
        // Asking for it, or for what names it.
        ("GET", SELF, &[], "", 200),
        ("GET", SELF, &["X-Vault-Token: hvs.another", "Authorization: Bearer hvs.another"], "", 200),
        ("POST", "auth/token/lookup", &[], "{}", 403),
        ("POST", "auth/token/lookup", &[], by_token, 403),
        ("POST", "auth/token/lookup-accessor", &[], by_accessor, 403),
        ("LIST", "auth/token/accessors", &[], "", 403),
        ("GET", "auth/token/accessors?list=true", &[], "", 403),
        ("GET", "sys/in-flight-req", &[], "", 403),
        ("GET", "sys/pprof/heap", &[], "", 403),
        ("GET", "sys/raw/sys/token", &[], "", 403),
        ("GET", "sys/internal/inspect/router/root", &[], "", 403),
        (
            "POST",
            "sys/audit/thief",
            &[],
            "{\"type\": \"file\", \"options\": {\"file_path\": \"/dev/stdout\", \"log_raw\": \"true\"}}",
            403,
        ),
        ("POST", "sys/capabilities", &[], by_token, 403),
        // Another one, with the same power or more.
        ("POST", "auth/token/create", &[], "{}", 403),
        ("POST", "auth/token/create-orphan", &[], "{}", 403),
        ("POST", "auth/token/create/role", &[], "{}", 403),
        ("POST", "auth/approle/login", &[], "{\"role_id\": \"x\"}", 403),
        ("POST", "auth/userpass/login/me", &[], "{\"password\": \"x\"}", 403),
        ("POST", "sys/generate-root/attempt", &[], "{}", 403),
        // Its place for secrets of its own, and ends of it.
        ("GET", "cubbyhole/response", &[], "", 403),
        ("POST", "cubbyhole/mine", &[], "{\"a\": 1}", 403),
        ("POST", "auth/token/renew-self", &[], "{\"increment\": \"768h\"}", 200),
        ("POST", "auth/token/renew", &[], by_token, 403),
        ("POST", "auth/token/revoke", &[], by_token, 403),
        ("POST", "auth/token/revoke-accessor", &[], by_accessor, 403),
        ("POST", "auth/token/revoke-self", &[], "", 204),
        ("POST", "sys/leases/revoke-prefix/auth/token", &[], "{}", 403),
        ("POST", "sys/revoke-force/auth/token", &[], "{}", 403),
        // The same by other spellings.
        ("GET", "ns1/auth/token/lookup-self", &[], "", 403),
        ("GET", SELF, &["X-Vault-Namespace: ns1"], "", 403),
        ("GET", "ns1/sys/wrapping/lookup", &[], "", 403),
        ("GET", "AUTH/Token/Lookup-Self", &[], "", 403),
        ("GET", "http://169.254.169.254/v1/auth/token/lookup", &[], "", 403),
        ("GET", "auth%2ftoken%2flookup-self", &[], "", 400),
        ("GET", "auth//token/lookup-self", &[], "", 400),
        ("GET", "auth/./token/lookup-self", &[], "", 400),
        ("GET", "secret/../auth/token/lookup-self", &[], "", 400),
        ("GET", "secret/%2e%2e/auth/token/lookup-self", &[], "", 400),
        ("GET", "auth/token/lookup-self;x", &[], "", 400),
        ("GET", "auth/token/lookup-self/", &[], "", 400),
        ("GET", "auth/token/lookup-self%00", &[], "", 400),
        ("GET", "auth/token/lookup-self?list=1", &[], "", 400),
    ]
}

#[test]
fn no_way_to_ask_for_the_token_gives_it_and_each_is_on_record() {
    let Some(vault) = Vault::start() else { return };
    let scene = Scene::wide(&vault);
    let (by_token, by_accessor) = named(&scene);
    let attempts = attempts(&by_token, &by_accessor);
    assert!(attempts.len() >= 30);
    come_to_nothing(&vault, scene, &attempts);
}

/// What names the token, in bodies.
fn named(scene: &Scene) -> (String, String) {
    (json!({"token": scene.token}).to_string(), json!({"accessor": scene.accessor}).to_string())
}

fn come_to_nothing(vault: &Vault, scene: Scene, attempts: &[Attempt<'_>]) {
    for (method, path, headers, body, status) in attempts {
        let said = scene.ask(method, path, headers, body);
        assert_eq!(said.status, *status, "{method} {path}: {said:?}");
        for secret in [&scene.token, &scene.accessor] {
            assert!(!said.raw.contains(secret.as_str()), "{method} {path}: {said:?}");
        }
        assert!(!said.raw.contains("hvs."), "{method} {path}: {said:?}");
    }
    let events = scene.events(attempts.len());
    assert_eq!(events.len(), attempts.len(), "{events:#?}");
    for (event, (method, path, _, _, status)) in events.iter().zip(attempts) {
        let expected = if *status < 300 { "vault.called.v1" } else { "vault.denied.v1" };
        assert_eq!(event["type"], expected, "{method} {path}: {event}");
    }
    // Nothing of it had an effect.
    let lookup = vault.root().post("auth/token/lookup", &json!({"token": scene.token})).expect_success();
    assert!(lookup["data"]["ttl"].as_u64().unwrap() <= 3600, "{lookup}");
    let stopped = scene.agent.stop();
    for (place, bytes) in stopped.written() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(&scene.token) && !text.contains(&scene.accessor), "{}", place.display());
    }
}

#[test]
fn what_is_said_of_the_token_is_true_but_for_what_it_is() {
    let Some(vault) = Vault::start() else { return };
    let scene = Scene::wide(&vault);
    let said = scene.read(SELF).json();
    assert_eq!(said["data"]["policies"], json!(["anything", "default"]));
    assert!(said["data"]["ttl"].as_u64().is_some_and(|ttl| ttl > 3000 && ttl <= 3600), "{said}");
    assert!(said["data"].get("id").is_none() && said["data"].get("accessor").is_none(), "{said}");
    let renewed = scene.ask("PUT", "auth/token/renew-self", &[], "{}").json();
    assert_eq!(renewed["auth"]["client_token"], "");
    assert!(renewed["auth"]["lease_duration"].as_u64().is_some_and(|ttl| ttl > 3000), "{renewed}");
}

/// A secret that somebody gave our own token to: an answer with it in it is not given at all.
#[test]
fn an_answer_that_has_the_token_or_its_accessor_in_it_is_withheld_and_on_record() {
    let Some(vault) = Vault::start() else { return };
    let scene = Scene::wide(&vault);
    for (name, text) in [("token", &scene.token), ("accessor", &scene.accessor)] {
        let data = json!({"data": {"note": format!("x{text}y")}});
        vault.root().post(&format!("secret/data/{name}"), &data).expect_success();
        let said = scene.read(&format!("secret/data/{name}"));
        assert_eq!(said.status, 502, "{said:?}");
        assert!(!said.raw.contains(text.as_str()), "{said:?}");
        let event = scene.agent.event("vault.called.v1", |event| event["reason"] == "own_token");
        assert_eq!(event["outcome"], "deny");
    }
    // As the name of a secret in a list, and in the text of an error.
    vault
        .root()
        .post(&format!("secret/data/{}", scene.accessor), &json!({"data": {"a": 1}}))
        .expect_success();
    assert_eq!(scene.ask("LIST", "secret/metadata", &[], "").status, 502);
    let missing = scene.read(&format!("secret/data/{}/none", scene.token));
    assert!(missing.status == 404 || missing.status == 502, "{missing:?}");
    assert!(!missing.raw.contains(&scene.token), "{missing:?}");
}

/// A rule that lets answers be wrapped says nothing of where: what could have our token in it never is.
#[test]
fn no_way_to_ask_for_the_token_gives_it_where_answers_may_be_wrapped() {
    let Some(vault) = Vault::start() else { return };
    let scene = Scene::wrapping(&vault);
    let (by_token, by_accessor) = named(&scene);
    let is_elsewhere = |attempt: &Attempt<'_>| attempt.1 != "secret/data/x";
    let mut attempts: Vec<_> = attempts(&by_token, &by_accessor).into_iter().filter(is_elsewhere).collect();
    attempts.extend([
        ("POST", "auth/token/create", WRAP, "{}", 403),
        ("POST", "auth/approle/login", WRAP, "{\"role_id\": \"x\"}", 403),
        ("GET", "ns1/auth/token/lookup-self", WRAP, "", 403),
        ("GET", "sys/mounts", WRAP, "", 403),
        ("LIST", "identity/entity/id", WRAP, "", 403),
        ("GET", "cubbyhole/mine", WRAP, "", 403),
        ("GET", "secret/data/x", &["X-Vault-Wrap-TTL: 6m"] as &[&str], "", 403),
        ("GET", "secret/data/x", &["X-Vault-Wrap-TTL: 1m", "X-Vault-Wrap-TTL: 9h"], "", 403),
        ("GET", "secret/data/x", &["X-Vault-Wrap-TTL: forever"], "", 403),
    ]);
    come_to_nothing(&vault, scene, &attempts);
}

#[test]
fn a_value_is_wrapped_for_somebody_else_where_its_rule_says_so_and_is_had_once() {
    let Some(vault) = Vault::start() else { return };
    let scene = Scene::wrapping(&vault);
    vault.root().post("secret/data/handed", &json!({"data": {"pin": "4711-0815"}})).expect_success();
    let said = scene.ask("GET", "secret/data/handed", WRAP, "");
    assert_eq!(said.status, 200, "{said:?}");
    assert!(!said.raw.contains("4711-0815"), "{said:?}");
    let wrapped = said.json()["wrap_info"].clone();
    assert_eq!((&wrapped["creation_path"], &wrapped["ttl"]), (&json!("secret/data/handed"), &json!(60)));
    let token = wrapped["token"].as_str().unwrap().to_owned();
    let event = scene.agent.event("vault.called.v1", |event| event["resource"]["kind"] == "wrapped");
    assert_eq!((&event["vault"]["ttl"], &event["outcome"]), (&json!(60), &json!("allow")), "{event}");
    let unwrap = || vault.root().post("sys/wrapping/unwrap", &json!({"token": token}));
    assert_eq!(unwrap().expect_success()["data"]["data"]["pin"], "4711-0815");
    assert_eq!(unwrap().status, 400);
    // An answer that says nothing is not wrapped by Vault, whatever was asked for.
    assert_eq!(scene.ask("DELETE", "secret/data/handed", WRAP, "").status, 204);
    let event =
        scene.agent.event("vault.result.v1", |event| event["resource"]["path"] == "secret/data/handed");
    assert_eq!((&event["resource"]["kind"], &event["vault"]["ttl"]), (&json!(null), &json!(null)), "{event}");
    for (place, bytes) in scene.agent.stop().written() {
        assert!(!String::from_utf8_lossy(&bytes).contains(&token), "{}", place.display());
    }
}
