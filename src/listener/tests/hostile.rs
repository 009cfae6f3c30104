//! What a clumsy or hostile client gets, and what it cannot do.

use super::agent::{Agent, LIMIT, held, one, ourselves};
use crate::{
    listener::{LONGEST_NAME, Limits, socket::Error, socket::Socket},
    peer,
};
use std::{
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinSet,
    time::timeout,
};

const GOOD: &str = "GET /secrets/orders-db HTTP/1.1\r\nhost: x\r\n\r\n";

/// Sends `request`, wants `status` and `text`, and that the agent still works and gave away nothing.
async fn check(agent: &Agent, request: &str, status: u16, text: &str) {
    let mut client = agent.connect().await;
    // A server that has seen enough may close before everything is sent.
    let _ = timeout(LIMIT, client.stream.write_all(request.as_bytes())).await.unwrap();
    let answer = client.receive().await;
    let start: String = request.chars().take(80).collect();
    assert_eq!(answer.status, status, "{start}");
    assert!(answer.body.contains(text) && !answer.body.contains("sk_live"), "{start}: {}", answer.body);
    assert_eq!(agent.get("/secrets/orders-db").await.status, 200);
}

#[tokio::test]
async fn malformed_requests_get_the_right_status() {
    let agent = Agent::start();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    for (request, status, text) in [
        (get("/secrets/%zz"), 400, "hexadecimal"),
        (get("/secrets/a%2fb"), 400, "percent-encoded"),
        (get("/secrets/../whoami"), 400, "segment"),
        (get("/secrets/%2e%2e/stripe"), 400, "segment"),
        (get("/secrets//stripe"), 400, "empty segment"),
        (get("/secrets/stripe?wait=1h"), 400, "at most 5m"),
        (get("/secrets/stripe?wait=1s&wait=2s"), 400, "twice"),
        (
            get("/v2/secret/data/payments/stripe"),
            404,
            r#"{"errors":["no such route"],"reason":"bad_request","#,
        ),
        ("BREW /secrets/stripe HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405, "GET, HEAD only"),
        ("GET /secrets/stripe/ack HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405, "POST only"),
        ("\0\0\0\0\r\n\r\n".to_owned(), 400, "cannot be read as a request of HTTP/1.1"),
        ("GET /secrets/a b HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400, "\"reason\":\"bad_request\""),
        ("CONNECT stripe:443 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400, ""),
    ] {
        check(&agent, &request, status, text).await;
    }
    // HTTP/2 has no answer in HTTP/1.1.
    let mut client = agent.connect().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(client.try_receive().await, None);
    let events = agent.events();
    assert!(events.iter().all(|event| event.contains("orders-db")), "{events:?}");
}

#[tokio::test]
async fn an_unknown_method_is_told_which_there_are() {
    let agent = Agent::start();
    let answer = agent.ask("DELETE /secrets/stripe HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
}

#[tokio::test]
async fn what_a_client_says_about_itself_is_ignored() {
    let agent = Agent::start();
    let claims =
        "X-Vault-Token: root\r\nAuthorization: Bearer root\r\nX-Forwarded-User: root\r\nHost: ci-token";
    check(&agent, &format!("GET /secrets/ci-token HTTP/1.1\r\n{claims}\r\n\r\n"), 403, "no_rule").await;
}

#[tokio::test]
async fn a_head_or_body_that_is_too_large_is_refused() {
    let agent = Agent::start();
    let head = "x".repeat(9000);
    let large = format!("GET /secrets/stripe HTTP/1.1\r\nh: {head}\r\n\r\n");
    check(&agent, &large, 431, "\"reason\":\"too_large\"").await;
    let mut client = agent.connect().await;
    // All of it is there before any of it is looked at.
    client.send(&large.replace(&head, &head[..8200])).await;
    assert_eq!(client.receive().await.status, 431);
    let many = format!("GET /secrets/stripe HTTP/1.1\r\n{}\r\n", "h: x\r\n".repeat(101));
    check(&agent, &many, 431, "more than 100 fields").await;
    check(&agent, &format!("GET /secrets/{head} HTTP/1.1\r\n\r\n"), 414, "longer than 8192 bytes").await;
    // Also where it is never sent to its end, and after a request that was answered.
    let mut client = agent.connect().await;
    for path in ["/secrets/orders-db", "/whoami"] {
        assert_eq!(client.get(path).await.status, 200);
    }
    client.send(&format!("GET /{head}{head}{head}")).await;
    let answer = client.receive().await;
    assert_eq!(answer.status, 414);
    assert!(answer.head.contains("connection: close") && answer.body.contains("request_id"), "{answer:?}");
    assert_eq!(client.try_receive().await, None);
    assert_eq!(agent.seen.0.lock().unwrap()["too_large"], 5);
    let ack = "POST /secrets/stripe/ack HTTP/1.1\r\nhost: x\r\n";
    check(&agent, &format!("{ack}content-length: 1048577\r\n\r\n"), 413, "too_large").await;
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    check(
        &agent,
        &format!("{ack}transfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"),
        413,
        "too_large",
    )
    .await;
    let elsewhere = "GET /secrets/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    check(&agent, elsewhere, 413, "too_large").await;
    agent.limits.store(Arc::new(Limits { body: 4, ..Limits::default() }));
    check(&agent, &format!("{ack}content-length: 5\r\n\r\n12345"), 413, "4 bytes").await;
}

#[tokio::test]
async fn bodies_that_are_held_have_a_cap_together_and_a_refusal_says_when_to_ask_again() {
    let agent = Agent::start();
    let half = " ".repeat(512 * 1024);
    let ack = "POST /secrets/orders-db/ack HTTP/1.1\r\nhost: x\r\n";
    // Seven and a half of eight halves of a MiB are there, and do not end.
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut client = agent.connect().await;
        client
            .send(&format!("{ack}content-length: 1048576\r\n\r\n{half}{}", &half[..half.len() - 65536]))
            .await;
        slow.push(client);
    }
    let whole = format!("{ack}content-length: {}\r\n\r\n{half}", half.len());
    let ask = async || {
        let mut client = agent.connect().await;
        // A server that refuses it may not read all.
        let _ = client.stream.write_all(whole.as_bytes()).await;
        client.receive().await
    };
    let refused = timeout(LIMIT, async {
        loop {
            let answer = ask().await;
            if answer.status == 503 {
                return answer;
            }
        }
    })
    .await
    .unwrap();
    assert!(refused.head.contains("retry-after: 1") && refused.body.contains("buffers_full"), "{refused:?}");
    // A small one has room yet, and a large one again once one of those is gone.
    assert_eq!(agent.ask(&format!("{ack}content-length: 2\r\n\r\n{{}}")).await.status, 200);
    slow.pop();
    timeout(LIMIT, async { while ask().await.status == 503 {} }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_ends_the_connection() {
    let agent = Agent::start();
    let mut client = agent.connect().await;
    client.send("GET /secrets/stripe HTTP/1.1\r\nhost: ").await;
    assert_eq!(client.try_receive().await, None);
    // So does an idle connection.
    assert_eq!(agent.connect().await.try_receive().await, None);
    assert_eq!(agent.events(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_ends_the_request() {
    let agent = Agent::start();
    let request = "POST /secrets/stripe/ack HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{";
    let answer = agent.ask(request).await;
    assert!(answer.status == 400 && answer.body.contains("in time"), "{answer:?}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let agent = Agent::start();
    let mut client = agent.connect().await;
    let paths = ["/secrets/stripe", "/secrets/ci-token", "/nowhere", "/secrets/orders-db"];
    let all: String = paths.map(|path| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).concat();
    client.send(&all.repeat(5)).await;
    for _ in 0..5 {
        for status in [200, 403, 404, 200] {
            assert_eq!(client.receive().await.status, status);
        }
    }
    assert_eq!(agent.await_events(15).await.len(), 15);
}

#[tokio::test]
async fn a_client_that_closes_its_sending_half_ends_its_connection() {
    let agent = Agent::start();
    let mut client = agent.connect().await;
    client.send("GET /secrets/stripe?wait=5m&since=boot-7 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.try_receive().await, None);
    // Nothing had been read for it, so nothing is written down.
    assert_eq!(agent.events(), [""; 0]);
}

#[tokio::test]
async fn a_client_that_hangs_up_is_written_down_as_not_having_got_the_value() {
    let agent = Agent::start();
    let mut client = agent.connect().await;
    client.send("GET /secrets/stripe HTTP/1.1\r\nhost: x\r\n\r\n").await;
    drop(client);
    let events = agent.await_events(2).await;
    assert_eq!(
        events,
        ["secret.read.v1 allow - stripe keys", "secret.read.v1 error undelivered stripe keys"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_given_up_and_has_not_got_the_value() {
    let mut agent = Agent::start();
    let large = format!("\"{}\"", "x".repeat(4 * 1024 * 1024));
    agent.shelve("stripe", held(one("stripe", 8, &large)));
    let mut client = agent.connect().await;
    client.send("GET /secrets/stripe HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let events = agent.await_events(2).await;
    assert_eq!(events[1], "secret.read.v1 error undelivered stripe keys");
    // The journal's thread does not know that time stands still.
    tokio::time::resume();
    // A large value that is read is delivered, though it does not fit the socket at once.
    let answer = agent.get("/secrets/stripe").await;
    assert!(answer.body.contains(&large));
    agent.end().await;
    assert_eq!(agent.events().len(), 3);
}

#[tokio::test]
async fn of_a_thousand_connections_at_once_those_over_the_limit_are_refused_and_each_is_counted() {
    let agent = Agent::start_with(ourselves(), Limits { connections: 8, ..Limits::default() });
    let mut clients = JoinSet::new();
    for _ in 0..1000 {
        let path = agent.path.clone();
        clients.spawn(async move {
            loop {
                match UnixStream::connect(&path).await {
                    Ok(stream) => return stream,
                    // The kernel's queue is full.
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        });
    }
    let mut streams = timeout(LIMIT, clients.join_all()).await.unwrap();
    let (mut served, mut refused) = (0, 0);
    for mut stream in streams.drain(..) {
        let ask = GOOD.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        // Of those that are refused only some are told why.
        let _ = timeout(LIMIT, stream.write_all(ask.as_bytes())).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        if answer.starts_with("HTTP/1.1 200") {
            served += 1;
        } else {
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 429"), "{answer}");
            assert!(answer.is_empty() || answer.contains("\"connections\""), "{answer}");
            refused += 1;
        }
    }
    assert!(served >= 8 && refused > 0, "{served} served, {refused} refused");
    // The last of those that are refused may still be told so.
    let agent_has_room = async { while agent.get("/whoami").await.status != 200 {} };
    timeout(LIMIT, agent_has_room).await.unwrap();
    let counted = agent.seen.0.lock().unwrap()["connections"];
    assert!(counted >= refused, "{counted} counted, {refused} refused");
    all_are_on_record(&agent, counted, "connections").await;
}

/// Waits until the events of refusals for this reason stand for `count` of them: those that are not told, and those that the
/// journal does not write one by one, come to be there within two seconds.
async fn all_are_on_record(agent: &Agent, count: u32, reason: &str) {
    let found = || {
        let events = agent.journal();
        let ours = events.iter().filter(|event| event["reason"] == reason);
        ours.map(|event| event["agg"]["count"].as_u64().unwrap_or(1)).sum::<u64>()
    };
    let waiting = async {
        while found() < u64::from(count) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = timeout(LIMIT, waiting).await;
    assert_eq!(found(), u64::from(count));
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_told_so_until_another_ends() {
    let agent = Agent::start_with(ourselves(), Limits { connections: 1, ..Limits::default() });
    let mut first = agent.connect().await;
    assert_eq!(first.get("/secrets/stripe").await.status, 200);
    let mut second = agent.connect().await;
    second.send(GOOD).await;
    let told = second.receive().await;
    assert!(told.status == 429 && told.head.contains("retry-after: 1"), "{told:?}");
    assert!(told.body.contains(r#""reason":"connections""#) && told.body.contains("limits.connections"));
    assert_eq!(second.try_receive().await, None);
    assert_eq!(agent.events()[1], "peer.rejected.v1 deny connections - -");
    drop(first);
    let served = async { while agent.get("/secrets/stripe").await.status != 200 {} };
    timeout(LIMIT, served).await.unwrap();
}

#[tokio::test]
async fn whoever_connects_faster_than_its_rate_is_told_when_to_come_back() {
    let agent = Agent::start_with(ourselves(), Limits { requests_per_second: 1, ..Limits::default() });
    let mut first = agent.connect().await;
    assert_eq!(first.get("/secrets/stripe").await.status, 200);
    let told = agent.get("/secrets/stripe").await;
    assert!(told.status == 429 && told.head.contains("retry-after: 1"), "{told:?}");
    assert!(told.body.contains("makes connections faster"), "{told:?}");
    assert_eq!(agent.events()[1], "peer.rejected.v1 deny rate_limited - -");
}

#[tokio::test]
async fn of_a_flood_of_strangers_a_few_are_told_and_all_are_on_record() {
    let stranger = peer::Settings { uids: vec![u32::MAX - 1], ..ourselves() };
    let agent = Agent::start_with(stranger, Limits::default());
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(agent.connect().await);
    }
    let mut told = 0;
    for client in &mut clients {
        told += u32::from(client.try_receive().await.is_some_and(|answer| answer.status == 403));
    }
    assert!((8..100).contains(&told), "{told} told");
    assert_eq!(agent.seen.0.lock().unwrap()["uid"], 100);
    all_are_on_record(&agent, 100, "uid").await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off_all_the_same() {
    let agent = Agent::start_with(ourselves(), Limits { connections: 2, ..Limits::default() });
    let mut slow = [agent.connect().await, agent.connect().await];
    for client in &mut slow {
        client.send("GET /secrets/stripe HTTP/1.1\r\nx: ").await;
    }
    assert_eq!(agent.get("/secrets/stripe").await.status, 429);
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    for client in &mut slow {
        while timeout(Duration::from_secs(1), client.try_receive()).await.is_err() {
            // It may have been closed just now.
            let _ = client.stream.write_all(b"x").await;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    tokio::time::resume();
    assert_eq!(agent.get("/secrets/stripe").await.status, 200);
}

#[tokio::test]
async fn a_refused_peer_cannot_hold_a_connection() {
    let stranger = peer::Settings { uids: vec![u32::MAX - 1], ..ourselves() };
    let agent = Agent::start_with(stranger, Limits { connections: 1, ..Limits::default() });
    let _kept_open = agent.connect().await;
    assert_eq!(agent.connect().await.receive().await.status, 403);
}

#[tokio::test]
async fn a_request_that_outlives_the_deadline_is_cut() {
    let mut agent = Agent::start();
    let mut client = agent.connect().await;
    client.send("POST /secrets/stripe/ack HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{").await;
    assert_eq!(agent.get("/secrets/orders-db").await.status, 200);
    agent.cut.cancel();
    agent.end().await;
    assert_eq!(client.try_receive().await, None);
}

#[tokio::test]
async fn a_removed_or_replaced_socket_comes_back() {
    let agent = Agent::start();
    let mut before = agent.connect().await;
    std::fs::remove_file(&agent.path).unwrap();
    let back = async {
        while UnixStream::connect(&agent.path).await.is_err() {
            // Which keeps it from being closed as idle.
            assert_eq!(before.get("/secrets/stripe").await.status, 200);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, back).await.unwrap();
    assert_eq!(agent.get("/secrets/stripe").await.status, 200);
    assert_eq!(before.get("/secrets/stripe").await.status, 200);
}

#[tokio::test]
async fn a_socket_that_replaced_ours_is_left_alone() {
    let mut agent = Agent::start();
    std::fs::remove_file(&agent.path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&agent.path).unwrap();
    let inode = std::fs::metadata(&agent.path).unwrap().ino();
    agent.end().await;
    assert_eq!(std::fs::metadata(&agent.path).unwrap().ino(), inode);
}

#[tokio::test]
async fn the_socket_file_has_the_mode_it_was_given() {
    let directory = tempfile::TempDir::new().unwrap();
    for mode in [0o666, 0o600, 0o660] {
        let path = directory.path().join(format!("{mode:o}.sock"));
        let _socket = Socket::bind(&path, mode).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o7777, mode);
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_never() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("a.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let live = Socket::bind(&path, 0o666).unwrap();
    assert!(matches!(Socket::bind(&path, 0o666), Err(Error::Alive(_))));
    assert!(live.is_in_place());
    drop(live);
    assert!(!path.exists());
    std::fs::write(&path, "").unwrap();
    assert!(matches!(Socket::bind(&path, 0o666), Err(Error::NotASocket(_))));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/tmp", &path).unwrap();
    assert!(matches!(Socket::bind(&path, 0o666), Err(Error::NotASocket(_))));
}

#[tokio::test]
async fn a_directory_that_others_can_write_to_is_refused() {
    let directory = tempfile::TempDir::new().unwrap();
    let bind = || Socket::bind(&directory.path().join("a.sock"), 0o666);
    for (mode, good) in [(0o755, true), (0o777, false), (0o775, false), (0o1777, true)] {
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(mode)).unwrap();
        let bound = bind();
        assert_eq!(bound.is_ok(), good, "{mode:o}");
        assert!(good || matches!(bound, Err(Error::Shared(_))));
    }
    assert!(matches!(Socket::bind(&directory.path().join("no/a.sock"), 0o666), Err(Error::Directory { .. })));
}

#[tokio::test]
async fn a_path_longer_than_the_kernel_takes_still_works() {
    let directory = tempfile::TempDir::new().unwrap();
    let deep = directory.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    std::fs::set_permissions(&deep, PermissionsExt::from_mode(0o755)).unwrap();
    let socket = Socket::bind(&deep.join("claviger.sock"), 0o666).unwrap();
    assert!(socket.is_in_place());
    assert!(Socket::bind(&deep.join("n".repeat(LONGEST_NAME)), 0o666).is_ok());
    assert!(matches!(Socket::bind(&deep.join("n".repeat(108)), 0o666), Err(Error::Path(_))));
}

#[test]
fn a_mount_of_its_own_is_found_under_its_escaped_name() {
    let mounts = "36 35 98:0 / / rw - ext4 /dev/root rw\n37 36 0:40 / /run/a\\040b rw - tmpfs tmpfs rw\n";
    for (directory, expected) in [("/run/a b", true), ("/", true), ("/run", false), ("/run/a", false)] {
        assert_eq!(crate::listener::socket::is_mount_point(mounts, directory), expected, "{directory}");
    }
}
