//! What only the double can do: scripted faults, recorded calls, paused time, state changed behind claviger's back.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use devvault::{
    ConnectionLost, ControlGroup, DevVault, Fault, Gate, Kind, Matcher, RoleIds, RoleSettings, Standing,
    Times,
};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);

fn request(method: &str, path: &str, token: &str, body: Value) -> Request<Bytes> {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let builder = Request::builder().method(method).uri(format!("/v1/{path}")).header("x-vault-token", token);
    builder.body(body).unwrap()
}

async fn call(vault: &DevVault, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
    let response = vault.answer(request(method, path, token, body)).await;
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
}

async fn login(vault: &DevVault, ids: &RoleIds) -> String {
    let body = json!({ "role_id": ids.role_id, "secret_id": ids.secret_id });
    let (status, answer) = call(vault, "POST", "auth/approle/login", "", body).await;
    assert_eq!(status, 200, "{answer}");
    answer["auth"]["client_token"].as_str().unwrap().to_string()
}

async fn lookup(vault: &DevVault, token: &str) -> u16 {
    call(vault, "GET", "auth/token/lookup-self", token, Value::Null).await.0
}

fn minute() -> RoleSettings {
    RoleSettings::policies(&["reports"]).ttl(60 * SECOND).max_ttl(150 * SECOND)
}

#[tokio::test(start_paused = true)]
async fn a_token_lives_by_the_paused_clock() {
    let vault = DevVault::new();
    let token = login(&vault, &vault.approle("approle", "app", minute())).await;
    tokio::time::advance(59 * SECOND).await;
    let (status, renewed) = call(&vault, "POST", "auth/token/renew-self", &token, json!({})).await;
    assert_eq!((status, &renewed["auth"]["lease_duration"]), (200, &json!(60)));
    tokio::time::advance(59 * SECOND).await;
    let (_, renewed) = call(&vault, "POST", "auth/token/renew-self", &token, json!({})).await;
    assert_eq!(renewed["auth"]["lease_duration"], 32, "max_ttl cuts the last one");
    tokio::time::advance(32 * SECOND).await;
    assert_eq!(lookup(&vault, &token).await, 403);
    assert!(vault.tokens().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_runs_see_the_same_ids() {
    let run = || async {
        let vault = DevVault::new();
        login(&vault, &vault.approle("approle", "app", minute())).await
    };
    assert_eq!(run().await, run().await);
    assert_ne!(DevVault::seeded(1).root_token(), DevVault::seeded(2).root_token());
}

#[tokio::test(start_paused = true)]
async fn leases_die_with_their_token_and_are_seen() {
    let vault = DevVault::new();
    vault.database_role("database", "orders", 60 * SECOND, 300 * SECOND);
    vault.policy("reports", &[("database/creds/orders", &["read"])]);
    let token = login(&vault, &vault.approle("approle", "app", minute())).await;
    let (status, made) = call(&vault, "GET", "database/creds/orders", &token, Value::Null).await;
    assert_eq!((status, &made["renewable"]), (200, &json!(true)));
    let seen = vault.leases();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].id, made["lease_id"].as_str().unwrap());
    assert_eq!(seen[0].owner.as_deref(), Some(vault.tokens()[0].accessor.as_str()));
    vault.revoke_behind_back(&token);
    assert!(vault.leases().is_empty());
    assert_eq!(lookup(&vault, &token).await, 403);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_can_be_cut_short() {
    let vault = DevVault::new();
    let token = login(&vault, &vault.approle("approle", "app", minute())).await;
    vault.truncate_renewals(Some(5 * SECOND));
    let (_, renewed) = call(&vault, "POST", "auth/token/renew-self", &token, json!({})).await;
    assert_eq!(renewed["auth"]["lease_duration"], 5);
    vault.truncate_renewals(None);
    let (_, renewed) = call(&vault, "POST", "auth/token/renew-self", &token, json!({})).await;
    assert_eq!(renewed["auth"]["lease_duration"], 60);
}

#[tokio::test(start_paused = true)]
async fn a_script_acts_so_often_and_no_more() {
    let vault = DevVault::new();
    let root = vault.root_token();
    vault.script(Matcher::path("auth/token/+"), Fault::denied(), Times::Next(2));
    for expected in [403, 403, 200] {
        assert_eq!(lookup(&vault, &root).await, expected);
    }
    let id = vault.script(Matcher::any().method("get"), Fault::error(500, "broken"), Times::Always);
    assert_eq!(lookup(&vault, &root).await, 500);
    vault.clear(id);
    assert_eq!(lookup(&vault, &root).await, 200);
    vault.slow_down(7 * SECOND);
    let slow = vault.answer(request("GET", "sys/mounts", &root, Value::Null)).await;
    assert_eq!((slow.status().as_u16(), slow.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    vault.clear_scripts();
    assert_eq!(lookup(&vault, &root).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_delay_takes_its_time_and_lets_the_next_script_act() {
    let vault = DevVault::new();
    vault.script(Matcher::any(), Fault::Delay(9 * SECOND), Times::Next(1));
    vault.script(Matcher::any(), Fault::denied(), Times::Next(1));
    let begun = Instant::now();
    assert_eq!(lookup(&vault, &vault.root_token()).await, 403);
    assert_eq!(begun.elapsed(), 9 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_held_call_waits_for_its_gate() {
    let vault = DevVault::new();
    let gate = Gate::new();
    vault.script(Matcher::any(), Fault::Hold(gate.clone()), Times::Always);
    let root = vault.root_token();
    let (status, ()) = tokio::join!(lookup(&vault, &root), async {
        vault.wait_for_call(&Matcher::path("auth/token/lookup-self"), LIMIT).await.unwrap();
        assert_eq!(vault.calls()[0].status, None, "it came and waits");
        gate.open();
    });
    assert_eq!(status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_is_recorded_and_never_answered() {
    let vault = DevVault::new();
    vault.script(Matcher::any(), Fault::Hang, Times::Next(1));
    let root = vault.root_token();
    let hanging = tokio::time::timeout(3600 * SECOND, lookup(&vault, &root)).await;
    assert!(hanging.is_err());
    assert_eq!((vault.calls().len(), vault.calls()[0].status), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_took_effect_and_a_dropped_call_did_not() {
    let vault = DevVault::new();
    let ids = vault.approle("approle", "app", minute());
    let body = json!({ "role_id": ids.role_id, "secret_id": ids.secret_id });
    for (fault, live) in [(Fault::Drop, 0), (Fault::LoseAnswer, 1), (Fault::Truncate, 2)] {
        vault.script(Matcher::login(), fault, Times::Next(1));
        let lost = vault.exchange(request("POST", "auth/approle/login", "", body.clone())).await;
        assert_eq!(lost.unwrap_err(), ConnectionLost);
        assert_eq!(vault.tokens().len(), live);
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_can_be_garbage_huge_edited_or_redirected() {
    let vault = DevVault::new();
    let once = |fault| {
        vault.script(Matcher::any(), fault, Times::Next(1));
        vault.answer(request("GET", "secret/data/a?version=1", &vault.root_token(), Value::Null))
    };
    let garbage = once(Fault::Garbage).await;
    assert_eq!(garbage.status(), 200);
    assert!(serde_json::from_slice::<Value>(garbage.body()).is_err());
    let huge = once(Fault::Huge(1_000_000)).await;
    assert_eq!(huge.body().len(), 1_000_000);
    assert!(serde_json::from_slice::<Value>(huge.body()).is_ok());
    let away = once(Fault::Redirect("http://other:8200".into())).await;
    assert_eq!(
        (away.status().as_u16(), away.headers()["location"].to_str().unwrap()),
        (307, "http://other:8200/v1/secret/data/a?version=1")
    );
    let edit =
        Fault::edit(|response: &mut Response<Bytes>| *response.status_mut() = http::StatusCode::IM_A_TEAPOT);
    assert_eq!(once(edit).await.status(), 418);
}

#[tokio::test(start_paused = true)]
async fn calls_tell_who_came_but_never_the_token() {
    let vault = DevVault::new();
    vault.mount("secret", Kind::KvV2);
    vault.put_kv("secret/a", &[("k", "v")]);
    let token = login(&vault, &vault.approle("approle", "app", minute())).await;
    let mut read = request("GET", "secret/data/a?version=1", &token, Value::Null);
    read.headers_mut().insert("x-vault-namespace", "team".parse().unwrap());
    vault.answer(read).await;
    let calls =
        vault.calls_matching(&Matcher::path("secret/data/*").namespace("team").role("app").status(403));
    assert_eq!(calls.len(), 1);
    let call = &calls[0];
    assert_eq!((call.parameter("version").as_deref(), call.accessor.is_some()), (Some("1"), true));
    assert!(call.carried(&token) && vault.token_seen(&token) && !vault.token_seen("other"));
    assert_eq!(call.header("x-vault-token"), None);
    assert!(!format!("{calls:?}{vault:?}").contains(&token));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_call_ends_at_its_limit_and_says_what_came() {
    let vault = DevVault::new();
    lookup(&vault, "nonsense").await;
    let wanted = Matcher::renew_self();
    let missed = vault.wait_for_call(&wanted, LIMIT).await.unwrap_err();
    assert!(missed.to_string().contains("GET auth/token/lookup-self by nobody -> 403"), "{missed}");
    let any = Matcher::any();
    let (found, _) = tokio::join!(vault.wait_for_calls(&any, 2, LIMIT), lookup(&vault, "nonsense"));
    assert_eq!(found.unwrap().path, "auth/token/lookup-self");
}

#[tokio::test(start_paused = true)]
async fn each_standing_has_its_health_and_its_answer() {
    let vault = DevVault::new();
    let root = vault.root_token();
    let standby = |active: Option<&str>| Standing::Standby { active: active.map(str::to_string) };
    for (standing, health, other) in [
        (standby(Some("http://active:8200")), 429, 307),
        (standby(None), 429, 500),
        (Standing::PerformanceStandby, 473, 200),
        (Standing::DisasterRecovery, 472, 400),
        (Standing::Uninitialized, 501, 503),
        (Standing::Active, 200, 200),
    ] {
        vault.standing(standing.clone());
        let (status, _) = call(&vault, "GET", "sys/health", "", Value::Null).await;
        assert_eq!((status, lookup(&vault, &root).await), (health, other), "{standing:?}");
    }
    vault.seal();
    assert_eq!(lookup(&vault, &root).await, 503);
    vault.unseal();
    assert_eq!(lookup(&vault, &root).await, 200);
}

#[tokio::test(start_paused = true)]
async fn the_wall_clock_can_be_elsewhere() {
    let vault = DevVault::new();
    let date = async || {
        let answer = vault.answer(request("GET", "sys/health", "", Value::Null)).await;
        answer.headers()["date"].to_str().unwrap().to_string()
    };
    let before = date().await;
    vault.shift_clock(jiff::SignedDuration::from_hours(5));
    assert_ne!(before, date().await);
}

#[tokio::test(start_paused = true)]
async fn a_wrapped_secret_id_opens_once_and_tells_its_path() {
    let vault = DevVault::new();
    vault.approle("approle", "app", minute());
    let token = vault.wrapped_secret_id("approle", "app", 60 * SECOND).unwrap();
    let (_, told) = call(&vault, "POST", "sys/wrapping/lookup", "", json!({ "token": token })).await;
    assert_eq!(told["data"]["creation_path"], "auth/approle/role/app/secret-id");
    let (status, opened) = call(&vault, "POST", "sys/wrapping/unwrap", &token, json!({})).await;
    assert!(status == 200 && opened["data"]["secret_id"].is_string());
    assert_eq!(call(&vault, "POST", "sys/wrapping/unwrap", &token, json!({})).await.0, 400);
}

/// Sends raw bytes on a stream of its own and reads until the double closes.
async fn spoken(vault: &DevVault, sent: &str) -> String {
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    let mut read = Vec::new();
    let (_, ()) = tokio::join!(vault.serve_stream(theirs), async {
        ours.write_all(sent.as_bytes()).await.unwrap();
        ours.read_to_end(&mut read).await.unwrap();
    });
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn any_stream_can_be_served() {
    let vault = DevVault::new();
    let ask = "GET /v1/sys/seal-status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = spoken(&vault, ask).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("}\n"), "{answer}");
    vault.script(Matcher::any(), Fault::Truncate, Times::Next(1));
    let cut = spoken(&vault, ask).await;
    assert!(cut.starts_with("HTTP/1.1 200 OK\r\n") && !cut.ends_with("}\n"), "{cut}");
    vault.script(Matcher::any(), Fault::Drop, Times::Next(1));
    assert_eq!(spoken(&vault, ask).await, "");
    let list = "LIST /v1/sys/policies/acl HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(spoken(&vault, list).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn a_stopped_server_frees_its_address_and_comes_back_there() {
    let vault = DevVault::new();
    let server = vault.serve("127.0.0.1:0").await.unwrap();
    let addr = server.addr();
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    let again = vault.serve(&addr.to_string()).await.unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_ok());
    assert_eq!(again.url(), format!("http://{addr}"));
}

#[tokio::test(start_paused = true)]
async fn the_busiest_stretch_is_found() {
    let vault = DevVault::new();
    for wait in [0, 500, 100, 100, 5000, 100] {
        tokio::time::advance(Duration::from_millis(wait)).await;
        lookup(&vault, "nonsense").await;
    }
    let check = |stretch: u64, expected: usize| {
        assert_eq!(vault.busiest(&Matcher::any(), Duration::from_millis(stretch)), expected, "{stretch} ms");
    };
    check(100, 1);
    check(201, 3);
    check(1000, 4);
    check(60_000, 6);
    assert_eq!(vault.count_calls(&Matcher::any().status(403)), 6);
}

#[tokio::test(start_paused = true)]
async fn what_a_control_group_guards_is_done_when_it_is_unwrapped_once_members_have_authorized_it() {
    let vault = DevVault::new();
    vault.mount("secret", Kind::KvV2);
    vault.put_kv("secret/x", &[("k", "v")]);
    vault.policy("app", &[("secret/data/x", &["read"]), ("sys/control-group/authorize", &["update"])]);
    let person = |name: &str| vault.person(name, &["app", "default"]);
    let (app, lead, eve) = (person("app"), person("lead"), person("eve"));
    let members = vec![app.entity.clone(), lead.entity.clone()];
    let group =
        ControlGroup { approvals: 1, ttl: 60 * SECOND, members, self_authorization: false, again: false };
    vault.control_group("secret/data/*", group);
    let ask = async || {
        let wrapped =
            call(&vault, "GET", "secret/data/x", &app.token, Value::Null).await.1["wrap_info"].clone();
        (wrapped["token"].as_str().unwrap().to_string(), json!({ "accessor": wrapped["accessor"] }))
    };
    let (token, accessor) = ask().await;
    let authorize =
        async |who: &str| call(&vault, "POST", "sys/control-group/authorize", who, accessor.clone()).await;
    let unwrap = async |token: &str| call(&vault, "POST", "sys/wrapping/unwrap", token, json!({})).await;
    assert_eq!(unwrap(&token).await.0, 400);
    assert_eq!(authorize(&app.token).await.0, 500);
    assert_eq!(authorize(&eve.token).await.1["data"]["approved"], false);
    assert_eq!(authorize(&lead.token).await.1["data"]["approved"], true);
    let standing = call(&vault, "POST", "sys/control-group/request", &app.token, accessor.clone()).await.1;
    assert_eq!(standing["data"]["authorizations"][0]["entity_id"], lead.entity);
    assert_eq!(unwrap(&token).await.1["data"]["data"]["k"], "v");
    assert_eq!(unwrap(&token).await.0, 400);
    assert_eq!(authorize(&lead.token).await.0, 400);
    // Its time is over.
    let (token, _) = ask().await;
    tokio::time::advance(61 * SECOND).await;
    assert_eq!(unwrap(&token).await.0, 400);
}
