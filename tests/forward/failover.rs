//! Two addresses of Vault, the first of which is a relay that dies, is sealed, or swallows what it is sent.

use crate::{
    rig::{Agent, Plan, until},
    scene::{ask, make_token},
};
use lab::Vault;
use serde_json::json;
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// What the relay does with what it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Relays,
    /// As a sealed Vault answers.
    Sealed,
    /// Takes it, and closes the connection.
    Swallows,
    /// Takes it, and says nothing.
    Hangs,
    /// Answers a snapshot's request with so many bytes of so many that it says, in place of Vault.
    Snapshot {
        sent: usize,
        of: usize,
    },
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    taken: Arc<AtomicUsize>,
}

impl Relay {
    pub(crate) fn start(vault: &Vault) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, to) = (listener.local_addr().unwrap(), vault.addr());
        let (mode, taken) = (Arc::new(Mutex::new(Mode::Relays)), Arc::new(AtomicUsize::new(0)));
        let relay = Relay { address, mode: Arc::clone(&mode), taken: Arc::clone(&taken) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mode, taken) = (Arc::clone(&mode), Arc::clone(&taken));
                thread::spawn(move || serve(stream.unwrap(), to, &mode, &taken));
            }
        });
        relay
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }
}

/// One connection: whatever the client sends at a time is one request, which holds for what is sent here.
fn serve(mut client: TcpStream, to: SocketAddr, mode: &Mutex<Mode>, taken: &AtomicUsize) {
    let vault = TcpStream::connect(to).unwrap();
    let (mut answers, mut asked) = (vault.try_clone().unwrap(), vault);
    let mut back = client.try_clone().unwrap();
    thread::spawn(move || {
        // Either side may go at any time.
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 64 * 1024];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        taken.fetch_add(1, Ordering::Relaxed);
        let mode = *mode.lock().unwrap();
        let sent = match mode {
            Mode::Relays => asked.write_all(&buffer[..read]),
            Mode::Sealed => {
                let body = "{\"errors\":[\"Vault is sealed\"]}";
                let head =
                    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length:";
                client.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes())
            }
            Mode::Swallows => break,
            Mode::Hangs => Ok(()),
            Mode::Snapshot { sent, of } if contains(&buffer[..read], b"/v1/sys/storage/raft/snapshot") => {
                let _ = snapshot(&mut client, sent, of);
                break;
            }
            Mode::Snapshot { .. } => asked.write_all(&buffer[..read]),
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = asked.shutdown(Shutdown::Both);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// As Vault sends one: compressed, and of no length that is known before.
fn snapshot(client: &mut TcpStream, sent: usize, of: usize) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/gzip\r\nContent-Length: {of}\r\n\r\n");
    client.write_all(head.as_bytes())?;
    let piece: Vec<u8> = (0..64 * 1024_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for _ in 0..sent / piece.len() {
        client.write_all(&piece)?;
    }
    Ok(())
}

/// A claviger that has spoken to Vault through the relay.
pub(crate) fn agent(vault: &Vault, relay: &Relay) -> Agent {
    let mut plan = Plan::new(vault);
    plan.config["vault"]["timeout"] = json!("2s");
    let file = plan.file("token", &make_token(vault).0);
    plan.identity(json!({"method": "token_file", "token_file": file}));
    plan.config["vault"]["addresses"] = json!([format!("http://{}", relay.address), vault.url()]);
    plan.config["workloads"]["job"]["rules"] = json!([{"name": "tree", "vault": {"paths": ["secret/*", "sys/storage/raft/snapshot"], "methods": ["GET", "PUT"]}}]);
    let agent = plan.start();
    agent.ready();
    let before = relay.taken.load(Ordering::Relaxed);
    until("a read through the relay", || {
        let said = ask(&agent.socket(), "GET", "secret/data/a", &[], "");
        assert_eq!(said.status, 200, "{said:?}");
        (relay.taken.load(Ordering::Relaxed) > before).then_some(())
    });
    agent
}

#[test]
fn a_request_goes_to_the_next_address_and_a_change_is_never_sent_twice() {
    let Some(vault) = Vault::start() else { return };
    vault.root().post("secret/data/a", &json!({"data": {"k": "v"}})).expect_success();
    let audit = vault.audit_file();
    let body = r#"{"data": {"k": "v"}}"#;
    let relay = Relay::start(&vault);
    let sealed = agent(&vault, &relay);
    relay.set(Mode::Sealed);
    // A sealed Vault has done nothing, so that the next one may.
    let wrote = ask(&sealed.socket(), "PUT", "secret/data/b", &[], body);
    assert_eq!((wrote.status, &wrote.json()["data"]["version"]), (200, &json!(1)));
    assert_eq!(ask(&sealed.socket(), "GET", "secret/data/a", &[], "").status, 200);
    relay.set(Mode::Relays);
    let reading = agent(&vault, &relay);
    relay.set(Mode::Swallows);
    let read = ask(&reading.socket(), "GET", "secret/data/a", &[], "");
    assert_eq!((read.status, &read.json()["data"]["data"]["k"]), (200, &json!("v")));
    relay.set(Mode::Relays);
    let writing = agent(&vault, &relay);
    relay.set(Mode::Swallows);
    let lost = ask(&writing.socket(), "PUT", "secret/data/c", &[], body);
    assert_eq!((lost.status, &lost.json()["reason"]), (503, &json!("vault_away")), "{lost:?}");
    assert!(lost.raw.contains("may have been done") && lost.raw.contains("retry-after"), "{lost:?}");
    assert_eq!(audit.calls("secret/data/c"), 0);
    assert_eq!(audit.calls("secret/data/b"), 1);
    let result = writing.event("vault.result.v1", |event| event["resource"]["path"] == "secret/data/c");
    assert_eq!((&result["outcome"], &result["reason"]), (&json!("error"), &json!("vault_away")));
    // Once it is there again, so is everything.
    let again = ask(&writing.socket(), "PUT", "secret/data/c", &[], body);
    assert_eq!(again.status, 200, "{again:?}");
}

#[test]
fn an_address_that_says_nothing_is_given_up_for_the_next_one_after_the_time_of_one_call() {
    let Some(vault) = Vault::start() else { return };
    vault.root().post("secret/data/a", &json!({"data": {"k": "v"}})).expect_success();
    let relay = Relay::start(&vault);
    let agent = agent(&vault, &relay);
    relay.set(Mode::Hangs);
    // The config gives one call 2 s; without another address it would be a minute.
    let mut stream = std::os::unix::net::UnixStream::connect(agent.socket()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(40))).unwrap();
    stream.write_all(b"GET /v1/secret/data/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("the first address is waited for");
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("\"k\":\"v\""), "{said}");
    // From then on the other one is asked first.
    let taken = relay.taken.load(Ordering::Relaxed);
    let wrote = ask(&agent.socket(), "PUT", "secret/data/b", &[], r#"{"data": {"k": "v"}}"#);
    assert_eq!((wrote.status, relay.taken.load(Ordering::Relaxed)), (200, taken), "{wrote:?}");
}
