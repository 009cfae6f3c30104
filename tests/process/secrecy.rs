//! What must never be seen outside: the secret's value and the agent's own tokens and credentials.

use crate::{
    receivers::{Answer, HttpReceiver},
    support::{Line, Scene, VALUE, until},
};
use devvault::{Fault, Matcher, Times};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

/// The tokens that the logins of `scene` give.
fn overheard(scene: &Scene) -> Arc<Mutex<Vec<String>>> {
    let tokens: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&tokens);
    let listen = Fault::edit(move |response| {
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        told.lock().unwrap().push(body["auth"]["client_token"].as_str().unwrap().to_owned());
    });
    scene.vault.script(Matcher::login(), listen, Times::Always);
    tokens
}

/// Every file below `dir`, as bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_secret_nor_a_token_appears_in_anything_the_process_writes_or_shows() {
    let scene = Scene::new().await;
    let tokens = overheard(&scene);
    let mut config = scene.config();
    config.secrets =
        "{stripe: {identity: reports, kind: kv, path: secret/stripe, field: api_key, refresh: 1s}, \
                      orders: {identity: reports, kind: lease, path: database/creds/orders}}"
            .into();
    config.workloads = config.workloads.replace("[stripe]", "[stripe, orders]");
    // The most talkative log there is.
    config.rest = "log: {level: trace}\n".into();
    let mut agent = scene.start(&config).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    let lease = line.ask("/secrets/orders").await.unwrap().json();
    let password = lease["data"]["password"].as_str().unwrap().to_owned();
    for target in ["/secrets/stripe", "/secrets", "/whoami", "/secrets/nothing", "/v1/sys/health", "/%2e%2e"]
    {
        line.ask(target).await.unwrap();
    }
    // Refusals by Vault, a renewal that fails, a token revoked behind our back, a new login.
    scene.vault.script(Matcher::path("secret/*"), Fault::denied(), Times::Next(2));
    scene.vault.revoke_role("reports");
    until("a second token", || async { (tokens.lock().unwrap().len() > 1).then_some(()) }).await;
    agent.until_ready().await;
    agent.signal(Signal::SIGHUP);
    scene.write(&(config.text() + "not a key: 1\n"));
    agent.event("a rejected config", |event| event["type"] == "config.rejected.v1").await;
    let proc = |file: &str| fs::read(format!("/proc/{}/{file}", agent.pid)).unwrap();
    let mut seen = vec![("cmdline".to_owned(), proc("cmdline")), ("comm".to_owned(), proc("comm"))];
    // Whoever may look into a process that is not dumpable.
    if nix::unistd::geteuid().is_root() {
        seen.push(("environ".to_owned(), proc("environ")));
    }
    for page in ["/metrics", "/readyz", "/livez", "/startupz"] {
        seen.push((page.to_owned(), agent.page(page).await.body.into_bytes()));
    }
    assert_eq!(agent.stop().await, Some(0));
    seen.push(("stdout".to_owned(), agent.stdout().into_bytes()));
    seen.push(("stderr".to_owned(), agent.stderr().into_bytes()));
    assert!(agent.stderr().contains("\"level\":\"DEBUG\""), "the log was not talkative:\n{}", agent.stderr());
    let credentials = ["role_id", "secret_id"].map(|name| scene.path(name));
    let texts: Vec<String> = credentials.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for file in &credentials {
        fs::remove_file(file).unwrap();
    }
    seen.extend(files(&scene.path("")));
    assert!(seen.iter().any(|(name, bytes)| name.ends_with(".seg") && holds(bytes, "secret.read.v1")));
    let tokens = tokens.lock().unwrap().clone();
    let lease_id = lease["lease"]["id"].as_str().unwrap_or("database/creds/orders/").to_owned();
    for secret in texts[1..].iter().chain(&tokens).chain([&VALUE.to_owned(), &password, &lease_id]) {
        for (name, bytes) in &seen {
            assert!(!holds(bytes, secret), "{name} has it:\n{}", String::from_utf8_lossy(bytes));
        }
    }
}

/// Requests with the secret's text in every place that a client can fill, well and badly formed.
fn indiscretions() -> Vec<String> {
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let post = |body: &str| {
        let length = body.len();
        format!("POST /secrets/stripe/ack HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    vec![
        get(&format!("/secrets/{VALUE}"), ""),
        get(&format!("/{VALUE}"), ""),
        get(&format!("/secrets/../{VALUE}"), ""),
        get(&format!("/secrets/stripe;{VALUE}"), ""),
        get(&format!("/secrets/stripe?wait={VALUE}"), ""),
        get(&format!("/secrets/stripe?since={VALUE}"), ""),
        get(&format!("/secrets/stripe?{VALUE}=1"), ""),
        get("/secrets/stripe", &format!("traceparent: {VALUE}\r\n")),
        get("/secrets/stripe", &format!("traceparent: 00-{VALUE}-00f067aa0ba902b7-01\r\n")),
        get(
            "/secrets/stripe",
            &format!("traceparent: 01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-{VALUE}\r\n"),
        ),
        get("/secrets/stripe", &format!("tracestate: x={VALUE}\r\nbaggage: x={VALUE}\r\n")),
        get("/secrets/stripe", &format!("If-None-Match: \"{VALUE}\"\r\nAccept: {VALUE}\r\n")),
        get(
            "/secrets/stripe",
            &format!("X-Vault-Token: {VALUE}\r\nAuthorization: Bearer {VALUE}\r\nCookie: {VALUE}\r\n"),
        ),
        get(
            "/secrets/stripe",
            &format!("Claviger-Nonce: {VALUE}\r\nUser-Agent: {VALUE}\r\nX-Request-Id: {VALUE}\r\n"),
        ),
        post(&format!("{{\"generation\": \"{VALUE}\"}}")),
        post(&format!("{{\"{VALUE}\": 1}}")),
        post(VALUE),
        // What no HTTP server takes; the connection ends with it.
        format!("{VALUE} /secrets/stripe HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /secrets/stripe {VALUE}\r\n\r\n"),
        format!("GET /secrets/stripe HTTP/1.1\r\n{VALUE}\r\n\r\n"),
        get("/secrets/stripe", &format!("X-Large: {}\r\n", VALUE.repeat(1_000))),
        format!("POST /secrets/stripe/ack HTTP/1.1\r\nHost: x\r\nContent-Length: {VALUE}\r\n\r\n"),
        VALUE.to_owned(),
    ]
}

/// Sends all of them by the socket of a permitted peer and by one where we are none; gives everything that was answered but
/// the value itself.
async fn be_indiscreet(scene: &Scene) -> String {
    let mut told = String::new();
    for request in indiscretions() {
        for socket in ["job", "strange"] {
            let mut line = Line::open(&scene.socket(socket)).await.unwrap();
            line.send(&request).await.unwrap();
            if request == VALUE {
                continue;
            }
            // Those that are no HTTP may end without an answer.
            if let Ok(reply) = line.hear().await {
                let read = reply.status == 200;
                assert!(!read || socket == "job", "{request}");
                if !read {
                    told.push_str(&reply.head);
                    told.push_str(&reply.body);
                }
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_should_not_have_sent_appears_nowhere_dead_letters_and_refusals_included() {
    const SIGNING: &str = "the key that webhooks are signed with";
    const BEARER: &str = "bearer-of-the-siem-0123456789";
    let scene = Scene::new().await;
    // It refuses every event: all of them become dead letters.
    let receiver = HttpReceiver::start(None, |_| Answer::status(400)).await;
    fs::write(scene.path("signing"), SIGNING).unwrap();
    fs::write(scene.path("bearer"), BEARER).unwrap();
    let file = |name: &str| scene.path(name).display().to_string();
    let mut config = scene.config();
    config.audit = format!(
        "{{journal: {{dir: \"{}\", segment: 1MiB, max_size: 8MiB}}, fingerprint_key: transit/audit, sinks: {{console: \
         {{kind: stdout}}, siem: {{kind: http, url: \"http://{}/\", hmac_key_file: \"{}\", bearer_file: \"{}\"}}}}}}",
        file("audit"),
        receiver.address,
        file("signing"),
        file("bearer")
    );
    config.workloads += &scene.workload("strange", 4_242_424, "[{name: keys, secrets: [stripe]}]");
    config.rest = "log: {level: trace}\n".into();
    let mut agent = scene.start(&config).await;
    let told = be_indiscreet(&scene).await;
    agent
        .err_line("the missing fingerprint", |line| {
            line["message"].as_str().is_some_and(|said| said.contains("fingerprint"))
        })
        .await;
    let letters = scene.journal().join("dlq-siem.jsonl");
    until("dead letters", || async {
        let all = fs::read_to_string(&letters).unwrap_or_default();
        (all.contains("secret.read.v1") && all.contains("peer.rejected.v1")).then_some(())
    })
    .await;
    let mut seen = vec![("answers".to_owned(), told.into_bytes())];
    for page in ["/metrics", "/readyz"] {
        seen.push((page.to_owned(), agent.page(page).await.body.into_bytes()));
    }
    assert_eq!(agent.stop().await, Some(0));
    seen.push(("stdout".to_owned(), agent.stdout().into_bytes()));
    seen.push(("stderr".to_owned(), agent.stderr().into_bytes()));
    seen.extend(receiver.heard().into_iter().map(|heard| ("the receiver's".to_owned(), heard.body)));
    for name in ["role_id", "secret_id", "signing", "bearer"] {
        fs::remove_file(scene.path(name)).unwrap();
    }
    seen.extend(files(&scene.path("")));
    assert!(
        seen.iter()
            .any(|(name, bytes)| name.ends_with("dlq-siem.jsonl") && holds(bytes, "\"fp\":\"unavailable\""))
    );
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, VALUE);
    for secret in [VALUE, &encoded, SIGNING, BEARER] {
        for (name, bytes) in &seen {
            assert!(!holds(bytes, secret), "{name} has it:\n{}", String::from_utf8_lossy(bytes));
        }
    }
}
