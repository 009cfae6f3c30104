//! What must never be seen outside: the secret's value and the agent's own tokens and credentials.

use crate::support::{Line, Scene, VALUE, until};
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
