//! A key that is sent in a thousand shapes of requests, and that the upstream gives back in as many, is found nowhere that the workload
//! can see.

use crate::{
    answers::echoes,
    rig::{Plan, Reply, Rig, events},
    server::{Seen, Step, raw, say},
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

const CALLS: usize = 1000;

#[derive(Clone, Debug)]
struct Shape {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<(bool, Vec<u8>)>,
    /// Which echo, in how many pieces, where and how.
    echo: usize,
    place: u8,
    cuts: Vec<usize>,
    noise: String,
    own: bool,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let header = (
        prop_oneof![
            Just("authorization"),
            Just("x-api-key"),
            Just("x_api_key"),
            Just("cookie"),
            Just("accept"),
            Just("x-any")
        ],
        "[ -~]{0,20}",
    );
    let headers = proptest::collection::vec(header.prop_map(|(name, value)| (name.to_owned(), value)), 0..5);
    let body = proptest::option::of((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200)));
    (
        (
            prop_oneof![Just("GET"), Just("POST"), Just("PUT"), Just("DELETE")],
            "[a-z0-9]{0,6}(/[a-z0-9%]{0,6}){0,2}(\\?[a-z=&%]{0,8})?",
        ),
        (headers, body),
        (0..echoes().len(), 0_u8..8, proptest::collection::vec(1_usize..40, 1..5)),
        ("[ -~\n]{0,60}", any::<bool>()),
    )
        .prop_map(|((method, path), (headers, body), (echo, place, cuts), (noise, own))| Shape {
            method,
            path,
            headers,
            body,
            echo,
            place,
            cuts,
            noise,
            own,
        })
}

impl Shape {
    fn request(&self) -> Vec<u8> {
        let prefix = if self.own { "/" } else { "/upstreams/api/" };
        let mut head = format!("{} {prefix}{} HTTP/1.1\r\nhost: x\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            None => [head.as_bytes(), b"\r\n"].concat(),
            Some((true, body)) => {
                [format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
            }
            Some((false, body)) if body.is_empty() => {
                format!("{head}transfer-encoding: chunked\r\n\r\n0\r\n\r\n").into_bytes()
            }
            Some((false, body)) => {
                let head = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
                [head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
            }
        }
    }

    fn answer(&self) -> Vec<Step> {
        let echo = &echoes()[self.echo];
        let text = format!("{}{echo}{}", self.noise, self.noise);
        match self.place {
            0 => say(200, &[("x-echo", echo)], &self.noise),
            1 => say(
                302,
                &[
                    ("location", &format!("https://elsewhere.example/?k={echo}")),
                    ("link", &format!("<{echo}>; rel=x")),
                ],
                "",
            ),
            2 => say(500, &[("content-type", "text/html")], &text),
            3 => say(401, &[("www-authenticate", echo)], &text),
            4 => raw(format!("HTTP/1.1 200 {echo}\r\ncontent-length: {}\r\n\r\n{text}", text.len())),
            5 => say(200, &[("content-encoding", "gzip")], &text),
            place => {
                let media = if place == 6 { "text/event-stream" } else { "application/json" };
                let mut steps = raw(format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ntransfer-encoding: chunked\r\n\r\n"
                ));
                let (mut rest, mut cuts) = (text.as_bytes(), self.cuts.iter().cycle());
                while !rest.is_empty() {
                    let (piece, left) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                    steps.push(Step::Say(
                        [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat(),
                    ));
                    rest = left;
                }
                steps.push(Step::Say(b"0\r\n\r\n".to_vec()));
                steps
            }
        }
    }
}

/// As many calls as that of an upstream that takes its key so.
async fn call(inject: &'static str, calls: usize) {
    let mut runner = TestRunner::new(Config::with_cases(u32::try_from(calls).unwrap()));
    let rig = Rig::with(Plan { inject, ..Plan::default() }, |_: &Seen| say(200, &[], "")).await;
    let forms = echoes();
    let leaks = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        // The first and last character of base64 hold bits of what stands beside the key.
        forms.iter().find(|form| text.contains(&form[2..form.len() - 3])).cloned()
    };
    let mut answered = 0;
    for number in 0..calls {
        let shape = shapes().new_tree(&mut runner).unwrap().current();
        let steps = shape.clone();
        rig.server.obey(move |_| steps.answer());
        let mut line = if shape.own { rig.own().await } else { rig.line().await };
        line.send(shape.request()).await;
        let mut seen = Vec::new();
        if let Some((status, head)) = line.head().await {
            let mut reply = Reply { status, head, body: Vec::new() };
            let _ = line.body(&mut reply).await;
            answered += usize::from(status == 200);
            seen = [reply.head.as_bytes(), &reply.body].concat();
        }
        assert_eq!(leaks(&seen), None, "call {number}: {shape:?}\n{}", String::from_utf8_lossy(&seen));
    }
    assert!(answered > calls / 10, "only {answered} were answered");
    assert!(rig.server.seen().len() > calls / 4, "only {} reached the upstream", rig.server.seen().len());
    // It is not that the key never came back: it did, and was masked.
    let page = rig.agent.page("/metrics").await.body;
    let masked = page.lines().find_map(|line| line.strip_prefix("claviger_upstream_masked_total"));
    let masked: usize = masked.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(masked > calls / 10, "only {masked} were masked");
    // The upstream's own record shows that this would have found it.
    assert!(
        leaks(rig.server.seen().iter().map(|seen| format!("{seen:?}")).collect::<String>().as_bytes())
            .is_some()
    );
    let record = events(&rig.scene.journal()).iter().map(ToString::to_string).collect::<String>();
    for text in [record, rig.agent.stdout(), rig.agent.stderr(), page] {
        assert_eq!(leaks(text.as_bytes()), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_found_nowhere_in_a_thousand_shapes_of_calls() {
    call(Plan::default().inject, CALLS / 2).await;
    call("{secret: stripe, query: key}", CALLS / 4).await;
    call("{secret: stripe, header: X-Api-Key}", CALLS / 4).await;
}
