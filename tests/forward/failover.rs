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
enum Mode {
    Relays,
    /// As a sealed Vault answers.
    Sealed,
    /// Takes it, and closes the connection.
    Swallows,
}

struct Relay {
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    taken: Arc<AtomicUsize>,
}

impl Relay {
    fn start(vault: &Vault) -> Relay {
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

    fn set(&self, mode: Mode) {
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
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = asked.shutdown(Shutdown::Both);
}

/// A claviger that has spoken to Vault through the relay.
fn agent(vault: &Vault, relay: &Relay) -> Agent {
    let mut plan = Plan::new(vault);
    let file = plan.file("token", &make_token(vault).0);
    plan.identity(json!({"method": "token_file", "token_file": file}));
    plan.config["vault"]["addresses"] = json!([format!("http://{}", relay.address), vault.url()]);
    plan.config["workloads"]["job"]["rules"] =
        json!([{"name": "tree", "vault": {"paths": ["secret/*"], "methods": ["GET", "PUT"]}}]);
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
