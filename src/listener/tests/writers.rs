//! Who may write to a connection: the process that made it, as long as it lives.

use super::agent::{Agent, LIMIT, ourselves};
use crate::{
    listener::Limits,
    peer::{self, level::Level},
};
use std::process::{Command, ExitStatus, Stdio};
use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};

const ASK: &str = "GET /secrets/stripe HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n";

fn at(level: Level) -> peer::Settings {
    peer::Settings { level, ..ourselves() }
}

/// Another process of our own user writes `text` into the connection that we made.
async fn another_writes(stream: &UnixStream, text: &str) -> ExitStatus {
    let ours = nix::unistd::dup(stream).unwrap();
    let script = format!("printf '{text}' >&0");
    let other = move || Command::new("sh").arg("-c").arg(script).stdin(Stdio::from(ours)).status().unwrap();
    tokio::task::spawn_blocking(other).await.unwrap()
}

async fn read_to_end(stream: &mut UnixStream) -> String {
    let mut all = Vec::new();
    // A close with unread bytes is a reset.
    let _ = timeout(LIMIT, stream.read_to_end(&mut all)).await.unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn the_process_that_connected_is_known_at_the_level_that_is_required() {
    for level in [Level::Reach, Level::User, Level::Process] {
        let settings =
            if level == Level::Reach { peer::Settings { uids: vec![], ..at(level) } } else { at(level) };
        let agent = Agent::start_with(settings, Limits::default());
        let body = agent.get("/whoami").await.body;
        let expected = format!("\"level\":\"{level}\",\"level_required\":\"{level}\"");
        assert!(body.contains(&expected), "{body}");
        assert_eq!(agent.get("/secrets/stripe").await.status, 200);
        let event = agent.journal().pop().unwrap();
        assert_eq!(event["actor"]["level"], level.word());
    }
}

#[tokio::test]
async fn a_second_process_of_the_same_user_is_denied_on_the_same_connection() {
    let agent = Agent::start_with(at(Level::Process), Limits::default());
    let mut client = agent.connect().await;
    // What it was itself is answered; then somebody else speaks.
    assert_eq!(client.get("/secrets/orders-db").await.status, 200);
    assert!(another_writes(&client.stream, ASK).await.success());
    assert_eq!(read_to_end(&mut client.stream).await, "");
    let events = agent.await_events(2).await;
    assert_eq!(
        events,
        ["secret.read.v1 allow - orders-db database", "peer.rejected.v1 deny writer_mismatch - -"]
    );
}

#[tokio::test]
async fn half_a_request_of_another_process_spoils_it() {
    let agent = Agent::start_with(at(Level::Process), Limits::default());
    let mut client = agent.connect().await;
    client.send("GET /secrets/stripe HTTP/1.1\r\nhost: x\r\n").await;
    assert!(another_writes(&client.stream, "\\r\\n").await.success());
    assert_eq!(read_to_end(&mut client.stream).await, "");
    assert_eq!(agent.await_events(1).await, ["peer.rejected.v1 deny writer_mismatch - -"]);
}

#[tokio::test]
async fn at_level_user_any_process_of_the_user_may_write() {
    let agent = Agent::start_with(at(Level::User), Limits::default());
    let mut client = agent.connect().await;
    assert!(another_writes(&client.stream, ASK).await.success());
    assert_eq!(client.receive().await.status, 200);
}
