//! What of an upstream's answer reaches the client.

use crate::{
    rig::{Plan, Reply, Rig},
    server::{Server, Step, raw, say},
    support::{VALUE, until},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Every way in which a server may give the key back in a body.
pub(crate) fn echoes() -> Vec<String> {
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = VALUE.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut echoes = vec![VALUE.to_owned(), hex.to_uppercase(), hex, percent.to_lowercase(), percent];
    echoes.extend((0..3).map(|n| BASE64_STANDARD.encode(format!("{}{VALUE}zz", "y".repeat(n)))));
    echoes
}

fn assert_masked(text: &str, original: &str) {
    assert_eq!(text.len(), original.len());
    assert!(!text.contains(VALUE), "{text}");
    let kept =
        text.chars().zip(original.chars()).filter(|(found, given)| *found != '*' && found == given).count();
    assert!(text.contains("****************"), "{text}");
    assert!(
        text.chars().zip(original.chars()).all(|(found, given)| found == given || found == '*'),
        "{text}"
    );
    assert!(kept <= original.len() - 16, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_given_back_is_masked_in_every_form_with_its_length_kept() {
    let rig = Rig::new(|seen| {
        let echo = &echoes()[seen.target[1..].parse::<usize>().unwrap()];
        say(
            200,
            &[("x-echo", echo), ("content-type", "application/json")],
            format!("{{\"sent\": \"{echo}\"}}"),
        )
    })
    .await;
    for (at, echo) in echoes().iter().enumerate() {
        let reply = rig.get(&format!("/{at}")).await;
        assert_masked(&reply.text(), &format!("{{\"sent\": \"{echo}\"}}"));
        assert_masked(reply.header("x-echo").unwrap(), echo);
    }
    let results = rig.events("result", echoes().len()).await;
    let forms: Vec<String> = results.iter().map(|event| event["upstream"]["masked"].to_string()).collect();
    assert_eq!(forms[0], "{\"raw\":2}");
    for form in ["hex", "percent", "base64"] {
        assert!(forms.iter().any(|found| found == &format!("{{\"{form}\":2}}")), "{form}: {forms:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_given_back_in_two_pieces_is_masked() {
    let rig = Rig::new(|seen| {
        let at: usize = seen.target[1..].parse().unwrap();
        let text = format!("<{VALUE}>");
        let (first, second) = text.split_at(at);
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        vec![
            Step::Say(format!("{head}{:x}\r\n{first}\r\n", first.len()).into_bytes()),
            Step::Say(format!("{:x}\r\n{second}\r\n0\r\n\r\n", second.len()).into_bytes()),
        ]
    })
    .await;
    let mut line = rig.own().await;
    for at in 1..=VALUE.len() + 1 {
        let reply = line.ask(format!("GET /{at} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!(reply.text(), format!("<{}>", "*".repeat(VALUE.len())), "split at {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_the_beginning_of_a_key_is_not_touched() {
    let rig = Rig::new(|seen| say(200, &[], &VALUE[..seen.target.len() - 1])).await;
    for length in 1..VALUE.len() {
        let reply = rig.get(&format!("/{}", "x".repeat(length))).await;
        assert_eq!(reply.text(), VALUE[..length]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_stream_is_out_before_the_next_one_comes() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let rig = Rig::new(move |_| {
        let chunk = |text: &str| Step::Say(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes());
        vec![
            Step::Say(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                    .to_vec(),
            ),
            chunk("data: 1\n\n"),
            Step::Wait(Arc::clone(&wait)),
            chunk(&format!("data: {VALUE}\n\n")),
            Step::Wait(Arc::clone(&wait)),
            Step::Say(b"0\r\n\r\n".to_vec()),
        ]
    })
    .await;
    let mut line = rig.own().await;
    line.send("GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(line.head().await.unwrap().0, 200);
    assert_eq!(line.chunk().await.unwrap().unwrap(), b"data: 1\n\n");
    gate.add_permits(1);
    assert_eq!(
        line.chunk().await.unwrap().unwrap(),
        format!("data: {}\n\n", "*".repeat(VALUE.len())).as_bytes()
    );
    assert_eq!(rig.events("result", 0).await.len(), 0);
    gate.add_permits(1);
    assert_eq!(line.chunk().await.unwrap(), None);
    assert_eq!(rig.events("result", 1).await[0]["upstream"]["end"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_answer_is_refused_and_nothing_of_it_leaves() {
    let rig = Rig::new(|seen| match seen.target.as_str() {
        "/gzip" => say(200, &[("content-encoding", "gzip")], VALUE),
        "/te" => raw(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n20\r\n{VALUE}\r\n0\r\n\r\n"
        )),
        _ => say(200, &[("content-type", "text/plain; charset=utf-16le")], VALUE),
    })
    .await;
    for target in ["/gzip", "/te", "/utf16"] {
        let reply = rig.get(target).await;
        assert_eq!((reply.status, reply.reason().as_str()), (502, "response_encoded"), "{target}");
        assert!(!reply.text().contains(VALUE));
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
    assert_eq!(rig.events("result", 3).await[0]["reason"], "response_encoded");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_dies_in_the_middle_is_never_a_clean_end() {
    let rig = Rig::new(|seen| match seen.target.as_str() {
        "/length" => {
            let mut steps = raw("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nsome");
            steps.push(Step::Cut);
            steps
        }
        "/chunked" => {
            let mut steps = raw(format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n200\r\n{}\r\n",
                "x".repeat(512)
            ));
            steps.push(Step::Cut);
            steps
        }
        "/head" => vec![Step::Cut],
        _ => {
            let mut steps = raw("this is no HTTP\r\n\r\n");
            steps.push(Step::Cut);
            steps
        }
    })
    .await;
    for target in ["/length", "/chunked"] {
        let mut line = rig.own().await;
        line.send(format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let (status, head) = line.head().await.unwrap();
        let mut reply = Reply { status, head, body: Vec::new() };
        assert_eq!(line.body(&mut reply).await, None, "{target} ended cleanly");
    }
    for target in ["/head", "/nonsense"] {
        let reply = rig.get(target).await;
        assert_eq!((reply.status, reply.reason().as_str()), (502, "upstream_protocol"), "{target}");
    }
    let results = rig.events("result", 4).await;
    let ends: Vec<_> = results.iter().map(|event| event["upstream"]["end"].as_str().unwrap()).collect();
    assert_eq!(ends, ["upstream_aborted", "upstream_aborted", "upstream_protocol", "upstream_protocol"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_handed_back_and_its_host_is_not_asked() {
    let elsewhere = Server::start(None, |_| say(200, &[], "stolen")).await;
    let location = format!("http://{}/steal?key={VALUE}", elsewhere.address);
    let rig = Rig::new(move |_| say(302, &[("location", &location)], "")).await;
    let reply = rig.get("/").await;
    assert_eq!(reply.status, 302);
    let location = format!("http://{}/steal?key={}", elsewhere.address, "*".repeat(VALUE.len()));
    assert_eq!(reply.header("location"), Some(&*location));
    assert_eq!(elsewhere.connections(), 0);
    assert_eq!(rig.events("result", 1).await[0]["upstream"]["redirect"], "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_an_answer_links_to_are_reached_through_us() {
    let plan = Plan { path: "/api/v3", ..Plan::default() };
    let rig = Rig::with(plan, |seen| {
        let host = seen.header("host").unwrap();
        let link = format!(
            "<https://{host}/api/v3/repos?page=2>; rel=\"next\", <https://other.example/x>; rel=\"x\""
        );
        say(200, &[("link", &link), ("location", &format!("https://{host}/api/v3/made"))], &seen.target)
    })
    .await;
    let reply = rig.line().await.ask("GET /upstreams/api/repos HTTP/1.1\r\nhost: localhost:80\r\n\r\n").await;
    assert_eq!(reply.text(), "/api/v3/repos");
    let next = "http://localhost:80/upstreams/api/repos?page=2";
    assert_eq!(
        reply.header("link"),
        Some(&*format!("<{next}>; rel=\"next\", <https://other.example/x>; rel=\"x\""))
    );
    assert_eq!(reply.header("location"), Some("http://localhost:80/upstreams/api/made"));
    let second =
        rig.line().await.ask("GET /upstreams/api/repos?page=2 HTTP/1.1\r\nhost: localhost:80\r\n\r\n").await;
    assert_eq!(second.text(), "/api/v3/repos?page=2");
    let own = rig.get("/repos").await;
    assert!(own.header("link").unwrap().starts_with("<http://x/repos?page=2>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_challenges_and_trailers_stay_here() {
    let rig = Rig::new(|_| {
        raw(
            "HTTP/1.1 200 Fine\r\nset-cookie: a=b\r\nwww-authenticate: Basic\r\nalt-svc: h3\r\nx-claviger-error: x\r\n\
             strict-transport-security: x\r\nx-kept: 1\r\ntransfer-encoding: chunked\r\ntrailer: set-cookie\r\n\r\n\
             2\r\nhi\r\n0\r\nset-cookie: c=d\r\n\r\n",
        )
    })
    .await;
    let reply = rig.get("/").await;
    assert_eq!(reply.text(), "hi");
    let mut names: Vec<_> = reply
        .head
        .lines()
        .skip(1)
        .filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase()))
        .collect();
    names.sort();
    assert_eq!(names, ["transfer-encoding", "x-claviger-request-id", "x-kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_asked_for_is_refused() {
    let rig =
        Rig::new(|_| raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"))
            .await;
    let reply = rig.get("/").await;
    assert_eq!((reply.status, reply.reason().as_str()), (502, "upstream_protocol"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_the_length_that_there_would_be() {
    let rig = Rig::new(|_| raw("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n")).await;
    let mut line = rig.own().await;
    for _ in 0..2 {
        let reply = line.ask("HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!((reply.status, reply.header("content-length")), (200, Some("1234")));
    }
    rig.server.obey(|_| raw("HTTP/1.1 204 No Content\r\n\r\n"));
    assert_eq!(line.ask("GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.status, 204);
    rig.server.obey(|_| say(404, &[], "no such thing"));
    assert_eq!(line.ask("GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.status, 404);
}

/// Of the agent, in KiB.
fn resident(pid: i32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_answer_streams_through_little_memory_and_every_echo_in_it_is_masked() {
    const PIECE: usize = 64 * 1024;
    let rig = Rig::new(|_| {
        let mut piece = vec![b'x'; PIECE];
        piece[1000..1000 + VALUE.len()].copy_from_slice(VALUE.as_bytes());
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PIECE * 1024);
        vec![Step::Say(head.into_bytes()), Step::Repeat(piece, 1024)]
    })
    .await;
    assert_eq!(rig.get("/").await.body.len(), PIECE * 1024);
    let before = resident(rig.agent.pid);
    let reply = rig.get("/").await;
    let after = resident(rig.agent.pid);
    assert!(!reply.body.windows(VALUE.len()).any(|part| part == VALUE.as_bytes()));
    assert_eq!(reply.body.iter().filter(|byte| **byte == b'*').count(), 1024 * VALUE.len());
    assert!(after < before + 4096, "{before} KiB, then {after} KiB");
    assert_eq!(rig.events("result", 2).await[1]["upstream"]["masked"]["raw"], 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_over_the_limit_of_the_config_is_cut_off() {
    let plan = Plan { more: ", max_response: 1KiB".to_owned(), ..Plan::default() };
    let rig = Rig::with(plan, |_| say(200, &[], "x".repeat(10_000))).await;
    let mut line = rig.own().await;
    line.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // The head may be out by then or not: what counts is that there is no whole answer.
    let whole = match line.head().await {
        Some((status, head)) => line.body(&mut Reply { status, head, body: Vec::new() }).await,
        None => None,
    };
    assert_eq!(whole, None);
    assert_eq!(rig.events("result", 1).await[0]["reason"], "response_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_says_nothing_is_given_up() {
    let never = Arc::new(Semaphore::new(0));
    let plan = Plan { more: ", timeouts: {first_byte: 200ms, idle: 200ms}".to_owned(), ..Plan::default() };
    let rig = Rig::with(plan, move |seen| {
        let mut steps = if seen.target == "/body" {
            raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        } else {
            Vec::new()
        };
        steps.push(Step::Wait(Arc::clone(&never)));
        steps
    })
    .await;
    let reply = rig.get("/head").await;
    assert_eq!((reply.status, reply.reason().as_str()), (504, "upstream_timeout"));
    let mut line = rig.own().await;
    line.send("GET /body HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(line.head().await.unwrap().0, 200);
    assert_eq!(line.more().await, None);
    assert_eq!(rig.events("result", 2).await[1]["reason"], "upstream_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_is_on_record_and_its_connection_is_not_used_again() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let rig = Rig::new(move |_| {
        let mut steps = raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n");
        steps.push(Step::Wait(Arc::clone(&wait)));
        steps
    })
    .await;
    let mut line = rig.own().await;
    line.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    line.head().await.unwrap();
    drop(line);
    let result = rig.events("result", 1).await.remove(0);
    assert_eq!(
        (&result["reason"], &result["upstream"]["end"]),
        (&"client_gone".into(), &"client_gone".into())
    );
    rig.server.obey(|_| say(200, &[], "fine"));
    assert_eq!(rig.get("/").await.text(), "fine");
    assert_eq!(rig.server.connections(), 2);
    let metrics = until("the metric", || async {
        let page = rig.agent.page("/metrics").await.body;
        page.contains("client_gone").then_some(page)
    })
    .await;
    assert!(metrics.contains("upstream.intent"), "{metrics}");
}
