//! What a watcher sees of its stream, and when it is cut.

use super::agent::{Agent, Client, held, one, ourselves, rules};
use crate::{access::Rules, clock, keeper::Held, listener::Limits, peer};
use std::time::Duration;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout},
};

/// A stream that was opened.
struct Stream {
    client: Client,
    text: String,
}

impl Stream {
    async fn open(agent: &Agent, names: &str, last: Option<&str>) -> Stream {
        let mut client = agent.connect().await;
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        client.send(&format!("GET /watch?names={names} HTTP/1.1\r\nhost: x\r\n{last}\r\n")).await;
        let mut stream = Stream { client, text: String::new() };
        let head = stream.until(": open\n").await;
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        stream
    }

    /// Reads on until `part` is there; gives what came up to it. Without it, `None` at the end of the connection.
    async fn try_until(&mut self, part: &str) -> Option<String> {
        loop {
            if let Some(at) = self.text.find(part) {
                let rest = self.text.split_off(at + part.len());
                return Some(std::mem::replace(&mut self.text, rest));
            }
            let mut bytes = [0; 4096];
            let read = timeout(super::agent::LIMIT, self.client.stream.read(&mut bytes)).await.unwrap();
            let read = read.unwrap_or_default();
            if read == 0 {
                return None;
            }
            self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }

    async fn until(&mut self, part: &str) -> String {
        let found = self.try_until(part).await;
        found.unwrap_or_else(|| panic!("no {part:?} before the end of {:?}", self.text))
    }

    /// The next event as `word name generation`, and its id.
    async fn event(&mut self) -> (String, String) {
        self.until("event: ").await;
        let word = self.until("\n").await;
        self.until("id: ").await;
        let id = self.until("\n").await;
        self.until("data: ").await;
        let data: serde_json::Value = serde_json::from_str(&self.until("\n\n").await).unwrap();
        (
            format!("{} {} {}", word.trim(), data["name"].as_str().unwrap(), data["generation"]),
            id.trim().to_owned(),
        )
    }

    async fn events(&mut self, expected: &[&str]) -> String {
        let mut last = String::new();
        for expected in expected {
            let (event, id) = self.event().await;
            assert_eq!(event, *expected);
            last = id;
        }
        last
    }
}

/// A value that has so long to live as the previous one.
fn ending(generation: u64, left: Duration) -> Held {
    let until = clock::now().checked_add(left).unwrap();
    Held {
        expires_at: Some(until),
        serve_until: Some(Instant::now() + left),
        ..held(one("stripe", generation, "\"sk_live_old\""))
    }
}

/// A value that was made just now.
fn made_now(generation: u64) -> Held {
    let mut value = one("stripe", generation, "\"sk_live_new\"");
    value.issued_at_for_test(clock::now());
    held(value)
}

#[tokio::test]
async fn a_watcher_is_told_of_each_change_and_never_a_value() {
    let agent = Agent::start();
    let mut stream = Stream::open(&agent, "stripe,orders-db", None).await;
    stream.events(&["promoted stripe 7", "promoted orders-db 1"]).await;
    agent.shelf("stripe").send_modify(|shelf| {
        shelf.previous = Some(ending(7, Duration::from_secs(3600)));
        shelf.current = Some(made_now(8));
    });
    stream.events(&["promoted stripe 8"]).await;
    agent.shelf("stripe").send_modify(|shelf| shelf.previous = None);
    stream.events(&["revoked stripe 7"]).await;
    let events = agent.events();
    let count = |line: &str| events.iter().filter(|event| *event == line).count();
    assert_eq!(count("secret.watch.opened.v1 allow - stripe keys"), 1);
    assert_eq!(count("secret.watch.opened.v1 allow - orders-db database"), 1);
    assert_eq!(count("secret.watch.told.v1 allow - stripe keys"), 3, "{events:?}");
    let told = agent.journal().into_iter().rfind(|event| event["type"] == "secret.watch.told.v1").unwrap();
    assert_eq!(
        (&told["resource"]["operation"], &told["resource"]["version"]),
        (&"revoked".into(), &7.into())
    );
    assert!(!stream.text.contains("sk_live") && !told.to_string().contains("sk_live"));
}

#[tokio::test]
async fn the_end_of_a_grace_is_told_before_it_comes() {
    let agent = Agent::start();
    agent.shelf("stripe").send_modify(|shelf| {
        shelf.previous = Some(ending(7, Duration::from_millis(200)));
        shelf.current = Some(made_now(8));
    });
    let mut stream = Stream::open(&agent, "stripe", None).await;
    // What nobody hands out any more is over, whether its task has seen that or not.
    stream.events(&["promoted stripe 8", "grace_ending stripe 7", "revoked stripe 7"]).await;
}

#[tokio::test]
async fn a_watcher_that_comes_back_is_told_what_it_missed_and_nothing_twice() {
    let agent = Agent::start();
    let mut stream = Stream::open(&agent, "stripe,orders-db", None).await;
    let id = stream.events(&["promoted stripe 7", "promoted orders-db 1"]).await;
    drop(stream);
    agent.shelve("stripe", ending(8, Duration::from_secs(3600)));
    agent.shelf("stripe").send_modify(|shelf| shelf.previous = None);
    let mut stream = Stream::open(&agent, "stripe,orders-db", Some(&id)).await;
    stream.events(&["promoted stripe 8", "revoked stripe 7"]).await;
    agent.shelve("orders-db", held(one("orders-db", 2, "1")));
    stream.events(&["promoted orders-db 2"]).await;
    // Of another boot, of other names, or no id of ours: what there is now, at once.
    for (names, id) in [("stripe", "elsewhere.00000000.2f-7"), ("stripe", &*id), ("stripe", "x")] {
        let mut stream = Stream::open(&agent, names, Some(id)).await;
        stream.events(&["promoted stripe 8"]).await;
    }
}

#[tokio::test]
async fn a_stream_without_news_shows_that_it_lives() {
    let agent = Agent::start();
    let mut stream = Stream::open(&agent, "nothing-yet", None).await;
    tokio::time::pause();
    stream.until(": beat\n\n").await;
    stream.until(": beat\n\n").await;
}

#[tokio::test]
async fn a_name_without_a_rule_opens_nothing() {
    let agent = Agent::start();
    for names in ["ci-token", "no-such-thing", "NOT_A_NAME", "stripe,ci-token"] {
        let answer = agent.get(&format!("/watch?names={names}")).await;
        assert!(answer.status == 403 && answer.body.contains("no_rule"), "{answer:?}");
    }
    for query in ["", "?names=stripe&names=stripe", "?names=stripe,stripe", "?other=1"] {
        assert_eq!(agent.get(&format!("/watch{query}")).await.status, 400, "{query}");
    }
    assert_eq!(agent.ask("POST /watch?names=stripe HTTP/1.1\r\nhost: x\r\n\r\n").await.status, 405);
}

#[tokio::test]
async fn a_watcher_whose_rule_or_place_is_gone_is_told_nothing_more() {
    let agent = Agent::start();
    let mut ruled_out = Stream::open(&agent, "stripe", None).await;
    ruled_out.events(&["promoted stripe 7"]).await;
    agent.access.replace(Rules { peer: ourselves(), policy: rules(&[("other", &["orders-db"])]) });
    agent.shelve("stripe", held(one("stripe", 8, "1")));
    assert_eq!(ruled_out.try_until("event: ").await, None);
    let mut shut_out = Stream::open(&agent, "orders-db", None).await;
    shut_out.events(&["promoted orders-db 1"]).await;
    let stranger = peer::Settings { uids: vec![u32::MAX - 1], ..ourselves() };
    agent.access.replace(Rules { peer: stranger, policy: rules(&[("other", &["orders-db"])]) });
    agent.shelve("orders-db", held(one("orders-db", 2, "1")));
    assert_eq!(shut_out.try_until("event: ").await, None);
    let events = agent.events();
    assert!(events.contains(&"secret.denied.v1 deny no_rule stripe -".to_owned()), "{events:?}");
    assert!(events.contains(&"peer.rejected.v1 deny uid - -".to_owned()), "{events:?}");
}

#[tokio::test]
async fn a_stop_ends_a_stream_and_its_connection_counts_until_then() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let mut agent = Agent::start_with(ourselves(), limits);
    let mut stream = Stream::open(&agent, "stripe", None).await;
    stream.events(&["promoted stripe 7"]).await;
    assert_eq!(agent.get("/secrets/stripe").await.status, 429);
    agent.end().await;
    assert_eq!(stream.try_until("event: ").await, None);
    assert!(stream.text.ends_with("0\r\n\r\n"), "a whole answer: {:?}", stream.text);
}
