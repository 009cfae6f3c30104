//! Answers that come compressed although nobody asked for it, where the config says that they are to be decoded.

use crate::{
    rig::{Plan, Reply, Rig},
    server::{Step, say},
    support::VALUE,
};
use flate2::{Compression, write::GzEncoder};
use std::{io::Write as _, sync::Arc};
use tokio::sync::Semaphore;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn plan() -> Plan {
    Plan { more: ", decode: [gzip]".to_owned(), ..Plan::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_answer_is_decoded_where_the_config_says_so_and_the_key_is_found_in_it() {
    let rig = Rig::with(plan(), |seen| match seen.target.as_str() {
        "/plain" => say(200, &[], format!("<{VALUE}>")),
        "/br" => say(200, &[("content-encoding", "br")], VALUE),
        "/twice" => say(200, &[("content-encoding", "gzip, gzip")], gzip(&gzip(VALUE.as_bytes()))),
        _ => say(200, &[("content-encoding", "gzip")], gzip(format!("<{VALUE}>").as_bytes())),
    })
    .await;
    let masked = format!("<{}>", "*".repeat(VALUE.len()));
    let mut line = rig.own().await;
    for target in ["/gzip", "/plain", "/gzip"] {
        let reply = line.ask(format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!((reply.status, reply.text()), (200, masked.clone()), "{target}");
        assert_eq!(reply.header("content-encoding"), None);
        assert_eq!(rig.server.last().header("accept-encoding"), Some("identity"));
    }
    for target in ["/br", "/twice"] {
        let reply = rig.get(target).await;
        assert_eq!((reply.status, reply.reason().as_str()), (502, "response_encoded"), "{target}");
    }
    assert_eq!(rig.events("result", 3).await[0]["upstream"]["masked"]["raw"], 1);
    let head = line.ask("HEAD /gzip HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(
        (head.status, head.header("content-length"), head.header("content-encoding")),
        (200, None, None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_event_is_out_before_the_next_one_comes_and_one_that_is_cut_off_is_never_a_clean_end() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let rig = Rig::with(plan(), move |_| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"data: 1\n\n").unwrap();
        encoder.flush().unwrap();
        let first = encoder.get_ref().clone();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = [format!("{:x}\r\n", first.len()).as_bytes(), &first, b"\r\n"].concat();
        vec![
            Step::Say([head.as_bytes(), &chunk].concat()),
            Step::Wait(Arc::clone(&wait)),
            // HTTP's end is there, gzip's is not.
            Step::Say(b"0\r\n\r\n".to_vec()),
        ]
    })
    .await;
    let mut line = rig.own().await;
    line.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(line.head().await.unwrap().0, 200);
    assert_eq!(line.chunk().await.unwrap().unwrap(), b"data: 1\n\n");
    gate.add_permits(1);
    assert_eq!(line.chunk().await, None);
    assert_eq!(rig.events("result", 1).await[0]["reason"], "upstream_aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_would_grow_out_of_all_proportion_is_cut_off() {
    let bomb = gzip(&vec![b'x'; 64 * 1024 * 1024]);
    let rig = Rig::with(plan(), move |_| say(200, &[("content-encoding", "gzip")], &bomb)).await;
    let mut line = rig.own().await;
    line.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let whole = match line.head().await {
        Some((status, head)) => line.body(&mut Reply { status, head, body: Vec::new() }).await,
        None => None,
    };
    assert_eq!(whole, None);
    assert_eq!(rig.events("result", 1).await[0]["reason"], "response_too_large");
}
