//! Audit events at a real rsyslog over TLS, both ends with certificates.

use crate::{
    pem::openssl,
    rig::{Plan, until},
};
use lab::{Rsyslog, Vault};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// A CA, and certificates of `localhost` and of a client by it: `NAME.crt`, `NAME.key`.
fn certificates(folder: &Path) {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(folder, &format!("req -x509 {KEY} -days 1 -subj /CN=lab -keyout ca.key -out ca.crt"));
    for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        fs::write(
            folder.join("extensions"),
            format!(
                "subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage={usage}\n"
            ),
        )
        .unwrap();
        openssl(folder, &format!("req {KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -extfile extensions \
                 -out {name}.crt"
            ),
        );
    }
}

#[test]
fn a_real_rsyslog_gets_every_event_over_tls_and_takes_it_apart_as_it_was_meant() {
    let Some(vault) = Vault::start() else { return };
    let mut plan = Plan::new(&vault);
    let folder = plan.folder().to_owned();
    certificates(&folder);
    let file = |name: &str| folder.join(name);
    let Some(rsyslog) = Rsyslog::start(&file("ca.crt"), &file("server.crt"), &file("server.key")) else {
        return;
    };
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    plan.stripe(&vault);
    plan.config["audit"]["sinks"] = json!({
        "console": {"kind": "stdout"},
        "siem": {
            "kind": "syslog", "address": format!("tls://localhost:{}", rsyslog.port()), "facility": "local3",
            "ca_file": file("ca.crt"), "client_cert": {"cert_file": file("client.crt"), "key_file": file("client.key")},
            "required": true, "max_message": "32KiB",
        },
    });
    let agent = plan.start();
    for _ in 0..600 {
        assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    }
    let last = agent.event("secret.read.v1", |_| true);
    let text = |event: &Value| serde_json::to_string(event).unwrap();
    until("600 reads at rsyslog", || {
        let reads = rsyslog.messages().iter().filter(|message| message.id == "secret.read.v1").count();
        (reads >= 600).then_some(())
    });
    let messages = rsyslog.messages();
    assert!(messages.iter().any(|message| message.text == text(&last)), "not byte for byte");
    let mut before = 0;
    for message in &messages {
        assert_eq!((message.facility.as_str(), message.app.as_str()), ("local3", "claviger"), "{message:?}");
        let event: Value = serde_json::from_str(&message.text).unwrap();
        assert_eq!(event["type"], message.id.as_str());
        let severity = if event["outcome"] == "allow" { "info" } else { "err" };
        assert_eq!(message.severity, severity, "{event}");
        let seq: u64 = event["seq"].as_str().unwrap().parse().unwrap();
        assert_eq!(seq, before + 1, "in order, none missing");
        before = seq;
    }
}
