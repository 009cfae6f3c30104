//! What a well-behaved client sees.

use super::agent::{Agent, fields, held, one, ourselves, policy_of, rule, rules};
use crate::{
    access::Rules,
    listener::Limits,
    peer,
    policy::rule::{AuditMode, Rule},
    vault::error::{Class, Error},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

const STRIPE: &str = concat!(
    r#"{"name":"stripe","kind":"kv","generation":7,"value":"sk_live_4242","#,
    r#""issued_at":"1970-01-01T00:00:00.000000Z","expires_at":"1970-01-01T00:00:00.000000Z","lease":null}"#
);

#[tokio::test]
async fn a_permitted_process_reads_a_secret_and_it_is_written_down() {
    let agent = Agent::start();
    let answer = agent.get("/secrets/stripe").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, STRIPE));
    for line in ["content-type: application/json", "cache-control: no-store", "etag: \"boot-7\"", "age: 0"] {
        assert!(answer.head.contains(line), "{line} in {}", answer.head);
    }
    assert_eq!(agent.events(), ["secret.read.v1 allow - stripe keys"]);
    let event = agent.journal().remove(0);
    assert_eq!(event["actor"]["pid"], std::process::id());
    assert_eq!(event["resource"]["version"], 7);
    assert_eq!(event["rule"]["mode"], "buffered");
}

#[tokio::test]
async fn a_secret_of_several_fields_keeps_their_order() {
    let agent = Agent::start();
    let body = agent.get("/secrets/orders-db").await.body;
    assert!(body.contains(r#""data":{"username":"v-orders","password":"pw-4711"}"#), "{body}");
}

/// An answer before the request is a broken connection to hyper, so the reason was lost whenever the client was slower.
#[tokio::test]
async fn a_refused_client_that_asks_a_moment_later_reads_why() {
    let uid = nix::unistd::geteuid().as_raw();
    let agent = Agent::start_with(peer::Settings { uids: vec![uid + 1], ..ourselves() }, Limits::default());
    let stream = tokio::net::UnixStream::connect(&agent.path).await.unwrap();
    let stream = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let asked = async {
        agent.await_events(1).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let request = http::Request::get("/secrets/stripe").header("host", "x");
        sender.send_request(request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap()).await
    };
    let (_, answer) = tokio::join!(connection, asked);
    assert_eq!(answer.unwrap().status(), 403);
}

#[tokio::test]
async fn another_uid_is_refused_with_the_reason_and_the_connection_ends() {
    let uid = nix::unistd::geteuid().as_raw();
    let agent = Agent::start_with(peer::Settings { uids: vec![uid + 1], ..ourselves() }, Limits::default());
    let mut client = agent.connect().await;
    // It is told, even if it says nothing.
    let answer = client.receive().await;
    assert_eq!(answer.status, 403);
    let text = format!("uid {uid} may not use this socket; ask for it in workloads.report-job.peer");
    assert!(answer.body.contains(&text) && answer.body.contains(r#""reason":"uid""#), "{}", answer.body);
    assert!(answer.head.contains("connection: close"));
    assert_eq!(client.try_receive().await, None);
    assert_eq!(agent.events(), ["peer.rejected.v1 deny uid - -"]);
    assert_eq!(agent.journal()[0]["actor"]["uid"], uid);
}

#[tokio::test]
async fn an_unknown_secret_and_a_forbidden_one_answer_alike() {
    let agent = Agent::start();
    let mut answers = Vec::new();
    for name in ["ci-token", "no-such-thing", "NOT_A_NAME"] {
        let answer = agent.get(&format!("/secrets/{name}")).await;
        let (before, id) = answer.body.split_once(r#""request_id":"#).unwrap();
        let length = answer.head.clone();
        answers.push((answer.status, length, before.to_owned(), id.len()));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let (status, _, body, _) = &answers[0];
    assert_eq!(*status, 403);
    assert!(body.contains("workloads.report-job.rules") && body.contains("no_rule"), "{body}");
    let denied = |name| format!("secret.denied.v1 deny no_rule {name} -");
    assert_eq!(agent.events(), [denied("ci-token"), denied("no-such-thing"), denied("-")]);
}

#[tokio::test]
async fn without_a_journal_nothing_is_given_out() {
    let agent = Agent::start();
    agent.audit.clone().close().await.unwrap();
    for path in ["/secrets/stripe", "/secrets/ci-token", "/secrets"] {
        let answer = agent.get(path).await;
        assert_eq!(answer.status, 503);
        assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
        assert!(
            answer.body.contains("audit_unavailable") && !answer.body.contains("sk_live"),
            "{}",
            answer.body
        );
    }
    assert_eq!(agent.seen.0.lock().unwrap()["audit_unavailable"], 3);
}

#[tokio::test]
async fn a_value_that_is_not_there_says_why() {
    let agent = Agent::start();
    let answer = agent.get("/secrets/nothing-yet").await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 1") && answer.body.contains("not_ready"), "{answer:?}");
    for (class, status, reason) in [
        (Class::Denied, 403, "vault_denied"),
        (Class::Away, 503, "vault_away"),
        (Class::Nonsense, 502, "vault_nonsense"),
    ] {
        let error = Error::new(class, "reading nothing-yet", "internal text")
            .after(Some(Duration::from_millis(2100)));
        agent.shelf("nothing-yet").send_modify(|shelf| shelf.problem = Some(error));
        let answer = agent.get("/secrets/nothing-yet").await;
        assert_eq!(answer.status, status);
        assert!(answer.head.contains("retry-after: 3"), "{}", answer.head);
        assert!(answer.body.contains(reason) && !answer.body.contains("internal text"), "{}", answer.body);
    }
    assert_eq!(agent.events()[1], "secret.denied.v1 error vault_denied nothing-yet keys");
}

#[tokio::test]
async fn plain_text_is_the_bare_value() {
    let agent = Agent::start();
    let ask = |name: &str| format!("GET /secrets/{name} HTTP/1.1\r\nhost: x\r\naccept: text/plain\r\n\r\n");
    for (json, plain) in [
        (r#""sk_live_4242""#, "sk_live_4242"),
        (r#""a\"b\\c\/d\n\u00e4\ud83d\ude00\ud83dz""#, "a\"b\\c/d\nä😀\u{fffd}z"),
        ("4242", "4242"),
        (r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#""""#, ""),
    ] {
        agent.shelve("stripe", held(one("stripe", 8, json)));
        let answer = agent.ask(&ask("stripe")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, plain));
        assert!(answer.head.contains("content-type: text/plain; charset=utf-8"), "{}", answer.head);
    }
    agent.shelve("orders-db", held(fields("orders-db", 2, &[("dsn", r#""postgres://""#)])));
    assert_eq!(agent.ask(&ask("orders-db")).await.body, "postgres://");
}

#[tokio::test]
async fn plain_text_of_several_fields_names_them_and_gives_none() {
    let agent = Agent::start();
    let answer = agent.ask("GET /secrets/orders-db HTTP/1.1\r\nhost: x\r\naccept: text/plain\r\n\r\n").await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("this one has: username, password"), "{}", answer.body);
    assert_eq!(agent.events(), ["secret.denied.v1 error bad_request orders-db database"]);
}

#[tokio::test]
async fn a_value_that_the_client_has_is_not_sent_again() {
    let agent = Agent::start();
    let ask = "GET /secrets/stripe HTTP/1.1\r\nhost: x\r\nif-none-match: \"other\", \"boot-7\"\r\n\r\n";
    let answer = agent.ask(ask).await;
    assert_eq!((answer.status, answer.body.as_str()), (304, ""));
    assert!(answer.head.contains("etag: \"boot-7\""), "{}", answer.head);
    agent.shelve("stripe", held(one("stripe", 8, "1")));
    assert_eq!(agent.ask(ask).await.status, 200);
    assert_eq!(agent.events(), ["secret.read.v1 allow - stripe keys"; 2]);
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let agent = Agent::start();
    let mut client = agent.connect().await;
    client.send("HEAD /secrets/stripe HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.send("GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client.stream, &mut text).await.unwrap();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", STRIPE.len())) && head.contains("boot-7"), "{head}");
    assert!(rest.starts_with("HTTP/1.1 404"), "{rest}");
    assert_eq!(agent.events(), ["secret.read.v1 allow - stripe keys"]);
}

#[tokio::test]
async fn a_client_waits_for_a_newer_value() {
    let agent = Agent::start();
    let mut client = agent.connect().await;
    client.send("GET /secrets/stripe?wait=60s&since=boot-7 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // Another client is served meanwhile, so the first one is waiting.
    assert_eq!(agent.get("/secrets/orders-db").await.status, 200);
    agent.shelve("stripe", held(one("stripe", 8, "\"new\"")));
    assert!(client.receive().await.body.contains(r#""generation":8,"value":"new""#));
    // A tag of another boot never matches.
    assert!(client.get("/secrets/stripe?wait=5m&since=elsewhere-8").await.body.contains("new"));
}

#[tokio::test]
async fn a_rule_that_is_taken_away_while_a_client_waits_counts() {
    let agent = Agent::start();
    let mut client = agent.connect().await;
    client.send("GET /secrets/stripe?wait=60s&since=boot-7 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(agent.get("/secrets/orders-db").await.status, 200);
    agent.access.replace(Rules { peer: ourselves(), policy: rules(&[]) });
    agent.shelve("stripe", held(one("stripe", 8, "\"new\"")));
    assert_eq!(client.receive().await.status, 403);
}

#[tokio::test]
async fn a_stop_ends_waiting_and_removes_the_socket() {
    let mut agent = Agent::start();
    let mut client = agent.connect().await;
    client.send("GET /secrets/stripe?wait=5m&since=boot-7 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(agent.get("/secrets/orders-db").await.status, 200);
    agent.end().await;
    assert_eq!(client.receive().await.body, STRIPE);
    assert_eq!(client.try_receive().await, None);
    assert!(!agent.path.exists());
    assert_eq!(agent.events().len(), 2);
}

#[tokio::test]
async fn both_versions_are_given_while_both_are_valid() {
    let agent = Agent::start();
    let path = "/secrets/stripe?versions=current,previous";
    assert!(agent.get(path).await.body.ends_with(r#""lease":null,"previous":null}"#));
    agent.shelve("stripe", held(one("stripe", 8, "\"new\"")));
    let body = agent.get(path).await.body;
    assert!(body.contains(r#""generation":8,"value":"new""#), "{body}");
    assert!(body.ends_with(&format!(r#""previous":{STRIPE}}}"#)), "{body}");
}

#[tokio::test]
async fn a_stale_value_says_so_in_the_answer_and_in_the_event() {
    let agent = Agent::start();
    let now = Instant::now();
    let mut stale = held(one("stripe", 7, "\"old\""));
    (stale.confirmed, stale.stale_from) =
        (now.checked_sub(Duration::from_secs(90)).unwrap_or(now), Some(now));
    agent.shelve("stripe", stale);
    let answer = agent.get("/secrets/stripe").await;
    assert!(answer.body.contains(r#""stale":true"#), "{}", answer.body);
    assert!(answer.head.contains("claviger-stale: true"), "{}", answer.head);
    assert_eq!(agent.events(), ["secret.stale_served.v1 allow - stripe keys"]);
}

#[tokio::test]
async fn a_workload_says_what_it_uses() {
    let agent = Agent::start();
    agent.shelve("stripe", held(one("stripe", 8, "\"new\"")));
    let mut client = agent.connect().await;
    for (body, status, answer) in [
        ("", 200, r#"{"name":"stripe","generation":8}"#),
        (r#"{"generation":7}"#, 200, r#"{"name":"stripe","generation":7}"#),
        (r#"{"generation":6}"#, 400, "generation 6 is neither the current nor the previous one"),
        (r#"{"generation":"8"}"#, 400, "the body must be"),
        (r#"{"generation":8,"more":1}"#, 400, "the body must be"),
    ] {
        let length = body.len();
        let head =
            format!("POST /secrets/stripe/ack HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        client.send(&head).await;
        client.send(body).await;
        let found = client.receive().await;
        assert_eq!(found.status, status, "{body}");
        assert!(found.body.contains(answer), "{}", found.body);
    }
    let acked = "secret.acked.v1 allow - stripe keys";
    assert_eq!(agent.events(), [acked, acked, "secret.denied.v1 error bad_request stripe keys"]);
    assert_eq!(agent.journal()[1]["resource"]["version"], 7);
}

#[tokio::test]
async fn a_list_has_names_and_dates_of_what_may_be_read() {
    let agent = Agent::start();
    let body = agent.get("/secrets").await.body;
    let expires = r#""expires_at":"1970-01-01T00:00:00.000000Z""#;
    let expected = [
        r#"{"secrets":[{"name":"nothing-yet","kind":null,"generation":null,"expires_at":null},"#.to_owned(),
        format!(r#"{{"name":"orders-db","kind":"kv","generation":1,{expires}}},"#),
        format!(r#"{{"name":"stripe","kind":"kv","generation":7,{expires}}}]}}"#),
    ];
    assert_eq!(body, expected.concat());
    assert_eq!(agent.events(), ["secret.read.v1 allow - - -"]);
}

#[tokio::test]
async fn a_peer_is_told_what_we_see_of_it() {
    let agent = Agent::start();
    let body = agent.get("/whoami").await.body;
    let pid = std::process::id();
    for part in [
        r#""workload":"report-job""#.to_owned(),
        format!(r#""pid":{pid},"level":"process","level_required":"process","rules":["keys","database"]"#),
    ] {
        assert!(body.contains(&part), "{part} in {body}");
    }
    assert_eq!(agent.events(), [""; 0]);
}

#[tokio::test]
async fn changed_rules_hold_for_open_connections() {
    let agent = Agent::start();
    let mut client = agent.connect().await;
    assert_eq!(client.get("/secrets/stripe").await.status, 200);
    agent.access.replace(Rules { peer: ourselves(), policy: rules(&[("other", &["orders-db"])]) });
    assert_eq!(client.get("/secrets/stripe").await.status, 403);
    assert_eq!(client.get("/secrets/orders-db").await.status, 200);
    let stranger = peer::Settings { uids: vec![u32::MAX - 1], ..ourselves() };
    agent.access.replace(Rules { peer: stranger, policy: rules(&[("other", &["orders-db"])]) });
    let answer = client.get("/secrets/orders-db").await;
    assert!(answer.status == 403 && answer.body.contains(r#""reason":"uid""#), "{answer:?}");
    assert_eq!(client.try_receive().await, None);
    assert_eq!(agent.events()[3], "peer.rejected.v1 deny uid orders-db -");
}

#[tokio::test]
async fn a_rule_s_own_rate_and_audit_mode_hold() {
    let agent = Agent::start();
    let slow =
        Rule { requests_per_second: Some(1), audit: Some(AuditMode::Strict), ..rule("slow", &["stripe"]) };
    agent
        .access
        .replace(Rules { peer: ourselves(), policy: policy_of(vec![slow, rule("rest", &["orders-db"])]) });
    assert_eq!(agent.get("/secrets/stripe").await.status, 200);
    let answer = agent.get("/secrets/stripe").await;
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert_eq!(agent.get("/secrets/orders-db").await.status, 200);
    assert_eq!(agent.events()[1], "secret.denied.v1 deny rate_limited stripe slow");
    assert_eq!(agent.journal()[0]["rule"]["mode"], "strict");
}

#[tokio::test]
async fn a_workload_over_its_rate_is_told_when_to_come_back() {
    let agent = Agent::start();
    agent.limits.store(Arc::new(Limits { requests_per_second: 2, ..Limits::default() }));
    let mut client = agent.connect().await;
    assert_eq!(client.get("/secrets/stripe").await.status, 200);
    assert_eq!(client.get("/nowhere").await.status, 404);
    let answer = client.get("/secrets/stripe").await;
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after: 1") && answer.body.contains("rate_limited"), "{answer:?}");
    // Such a flood does not fill the journal; it is counted.
    assert_eq!(agent.events().len(), 1);
    assert_eq!(agent.seen.0.lock().unwrap()["rate_limited"], 1);
}

#[tokio::test]
async fn each_challenge_is_another_nonce_and_makes_no_event() {
    let agent = Agent::start();
    let mut connection = agent.connect().await;
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let answer = connection.get("/challenge").await;
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        nonces.push(body["nonce"].as_str().unwrap().to_owned());
    }
    assert!(nonces[0] != nonces[1] && nonces[0].len() == 32, "{nonces:?}");
    assert_eq!(agent.events(), [""; 0]);
}
