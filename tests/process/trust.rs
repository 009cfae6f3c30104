//! A system without the certificates of any authority, as an image FROM scratch is.

use crate::{
    receivers::{Answer, HttpReceiver},
    support::{Agent, Line, Scene, until},
};
use tokio::process::Command;

/// What the TLS library reads in place of the machine's own certificates: nothing.
fn without_roots(mut command: Command) -> Command {
    command.env("SSL_CERT_FILE", "/nonexistent/roots.pem").env("SSL_CERT_DIR", "/nonexistent");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_system_trusts_nobody_plain_http_serves_and_delivers() {
    let scene = Scene::new().await;
    let receiver = HttpReceiver::start(None, |_| Answer::status(200)).await;
    let mut config = scene.config();
    let dir = scene.journal();
    config.audit = format!(
        "{{journal: {{dir: \"{}\"}}, sinks: {{far: {{kind: http, url: \"http://{}/\"}}}}}}",
        dir.display(),
        receiver.address
    );
    let agent = Agent::spawn(without_roots(scene.run(&config))).await;
    agent.until_ready().await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    until("an event at the receiver", || async { (!receiver.heard().is_empty()).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn https_without_a_ca_file_where_the_system_trusts_nobody_is_refused_with_the_remedy() {
    let scene = Scene::new().await;
    let mut config = scene.config();
    config.vault = "{addresses: [\"https://127.0.0.1:1\"]}".into();
    let mut agent = Agent::spawn(without_roots(scene.run(&config))).await;
    assert_eq!(agent.wait().await.code(), Some(1), "{}", agent.stderr());
    let said = agent.stderr();
    assert!(said.contains("the system's trust roots, since vault.ca_file is not given"), "{said}");
    assert!(said.contains("SSL_CERT_FILE") && said.contains("No CA certificates"), "{said}");
}
