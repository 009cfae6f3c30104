//! Whom the key is sent to, and whom not.

use crate::{
    rig::{Plan, Rig, config},
    server::{Server, acceptor, say},
    support::{Agent, Scene},
};

/// An agent whose upstream is changed by `change`, and the server that it must not reach.
async fn rig(change: impl FnOnce(String) -> String, name: &str, proxy: Option<&Server>) -> Rig {
    let scene = Scene::new().await;
    crate::server::certify(&scene.path(""), &[("server", "127.0.0.1"), ("wrong", "other.example")]);
    let server = Server::start(Some(acceptor(&scene.path(""), name)), |_| say(200, &[], "fine")).await;
    let mut config = config(&scene, &server, &Plan::default());
    config.rest = change(config.rest);
    let mut command = scene.run(&config);
    if let Some(proxy) = proxy {
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            command.env(name, format!("http://{}", proxy.address));
        }
    }
    let agent = Agent::spawn(command).await;
    agent.until_ready().await;
    Rig { scene, server, agent }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_name_or_another_ca_or_another_key_gets_no_byte() {
    let proxy = Server::start(None, |_| say(200, &[], "proxied")).await;
    let wrong_name = rig(|rest| rest, "wrong", Some(&proxy)).await;
    let wrong_ca = {
        let other = tempfile::tempdir().unwrap();
        crate::server::certify(other.path(), &[]);
        let ca = std::fs::read_to_string(other.path().join("ca.pem")).unwrap();
        let rig = rig(|rest| rest, "server", None).await;
        std::fs::write(rig.scene.path("ca.pem"), ca).unwrap();
        rig
    };
    let pins = |rest: String| {
        rest.replace("allow_cidrs", "pins: [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\", \"sha256/AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"], allow_cidrs")
    };
    let wrong_key = rig(pins, "server", None).await;
    for rig in [wrong_name, wrong_ca, wrong_key] {
        let reply = rig.get("/").await;
        assert_eq!((reply.status, reply.reason().as_str()), (502, "tls_failed"));
        assert_eq!(rig.server.bytes(), 0);
        assert_eq!(rig.events("result", 1).await[0]["reason"], "tls_failed");
    }
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_key_is_believed_beside_a_chain_that_holds_and_the_record_says_which() {
    let first = rig(|rest| rest, "server", None).await;
    assert_eq!(first.get("/").await.status, 200);
    let result = first.events("result", 1).await.remove(0);
    let (spki, version) =
        (result["upstream"]["spki"].as_str().unwrap(), result["upstream"]["tls"].as_str().unwrap());
    assert_eq!(version, "1.3");
    assert_eq!(result["upstream"]["addr"], first.server.address.to_string());
    let pin: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&spki[2 * at..2 * at + 2], 16).unwrap()).collect();
    let pin = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pin);
    let mut config = config(&first.scene, &first.server, &Plan::default());
    config.rest = config.rest.replace(
        "allow_cidrs",
        &format!(
            "pins: [\"sha256/{pin}\", \"sha256/AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"], allow_cidrs"
        ),
    );
    first.scene.write(&config.text());
    first.agent.event("the change", |event| event["type"] == "config.loaded.v1").await;
    assert_eq!(first.get("/").await.status, 200);
    assert_eq!(first.server.connections(), 2, "a changed upstream is connected to anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_is_not_followed_there() {
    let rig = rig(|rest| rest.replace("127.0.0.1:", "localhost:"), "server", None).await;
    let reply = rig.get("/").await;
    assert_eq!((reply.status, reply.reason().as_str()), (502, "dns_denied"));
    assert_eq!(rig.server.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_said_to_be_so() {
    let scene = Scene::new().await;
    crate::server::certify(&scene.path(""), &[]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::start(None, |_| say(200, &[], "")).await;
    let mut config = config(&scene, &server, &Plan::default());
    config.rest = config.rest.replace(&server.address.to_string(), &free.to_string());
    let agent = scene.start(&config).await;
    let rig = Rig { scene, server, agent };
    let reply = rig.get("/").await;
    assert_eq!((reply.status, reply.reason().as_str()), (502, "connect_failed"));
}
