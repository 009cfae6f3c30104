//! TLS to the real Vault: the name must fit, and a new CA file is taken over while running.

use crate::{
    calls, pem,
    rig::{Plan, until, write_stripe},
};
use lab::Vault;
use serde_json::json;
use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
};

/// Another way to `vault`, by an address that its certificate does not name. Ends with the test process.
fn detour(vault: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(vault).unwrap();
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    address
}

#[test]
fn a_certificate_for_another_name_is_refused_in_clear_words_and_server_name_puts_it_right() {
    let Some(vault) = Vault::start_tls() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.config["vault"]["addresses"] = json!([format!("https://{}", detour(vault.addr()))]);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    let mut agent = plan.start();
    let said = agent.says("login failed").to_string();
    assert!(said.contains("not valid for name") && said.contains("127.0.0.2"), "{said}");
    assert_eq!(agent.event("auth.failed.v1", |_| true)["reason"], "vault_away");
    agent.change(|config| config["vault"]["server_name"] = json!("vault.wrong.internal"));
    let said = agent.says("vault.wrong.internal").to_string();
    assert!(said.contains("not valid for name"), "{said}");
    assert_eq!(calls::ours(&audit).len(), 0, "nothing was said before the name was checked");
    agent.change(|config| config["vault"]["server_name"] = json!("localhost"));
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
}

/// As Kubernetes and careful people do it: a new file in the place of the old one.
fn replace(file: &Path, by: &Path) {
    let new = file.with_extension("new");
    fs::copy(by, &new).unwrap();
    fs::rename(new, file).unwrap();
}

#[test]
fn a_ca_file_that_is_replaced_while_running_is_taken_over() {
    let Some(vault) = Vault::start_tls() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    let (right, wrong) = (vault.ca_file().unwrap(), pem::stranger(plan.folder()));
    let ca_file = plan.path("ca.pem");
    fs::copy(&wrong, &ca_file).unwrap();
    plan.config["vault"]["ca_file"] = json!(ca_file);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    let agent = plan.start();
    let said = agent.says("login failed").to_string();
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(calls::ours(&audit).len(), 0);
    replace(&ca_file, &right);
    agent.says("certificates read again");
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    // And the other way: what no longer has our trust is not spoken to any more, on no old connection either.
    replace(&ca_file, &wrong);
    until("kv served stale", || agent.read("stripe").is_stale().then_some(()));
    fs::write(&ca_file, "no certificate").unwrap();
    agent.says("the old certificates stay in use");
    replace(&ca_file, &right);
    write_stripe(&vault, "sk_live_2");
    assert_eq!(agent.generation("stripe", 2)["value"], "sk_live_2");
    assert_eq!(calls::count(&audit, "auth/approle/login"), 1);
}
