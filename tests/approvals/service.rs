//! A service of chat or paging of the tests' own, over TLS: it is told of requests, is asked about them, and signs what it decides.

use crate::{
    rig::Plan,
    scene::Scene,
    server::{Seen, Server, Step, acceptor, certify, say},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use claviger::crypto::{SigningKey, hex, sha256};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::runtime::Runtime;

/// Its bearer token.
pub(crate) const TOKEN: &str = "bot-token-0123456789";
/// The key of its signed messages.
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) struct Service {
    pub(crate) server: Server,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) mind: Mind,
    folder: tempfile::TempDir,
    _runtime: Runtime,
}

/// What a service that decides by itself knows, and says. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Mind(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    digests: BTreeMap<String, String>,
    word: Option<(&'static str, &'static str)>,
    strangers: bool,
}

impl Mind {
    /// What it says from now on of every request, if it is asked.
    pub(crate) fn say(&self, decision: &'static str, reason: &'static str) {
        self.0.lock().unwrap().word = Some((decision, reason));
    }

    /// From now on it also brings the word of somebody whom no config names.
    pub(crate) fn let_strangers_speak(&self) {
        self.0.lock().unwrap().strangers = true;
    }

    /// Remembers what it is told, and answers what it is asked.
    fn answer(&self, seen: &Seen, key: &SigningKey) -> Vec<Step> {
        let mut known = self.0.lock().unwrap();
        if seen.method == "POST" {
            let data = told(seen)["data"].clone();
            known.digests.insert(text(&data["id"]), digest(&data));
            return say(200, &[], "ok");
        }
        let id = seen.target.rsplit('/').next().unwrap();
        match (known.word, known.digests.get(id)) {
            (Some((decision, reason)), Some(digest)) => {
                say(200, &[], decided(key, decision, digest, reason).to_string())
            }
            (None, _) if known.strangers => {
                say(200, &[], json!({"approver": "passer-by", "decision": "approve"}).to_string())
            }
            _ => say(404, &[], ""),
        }
    }
}

impl Service {
    /// One that remembers, and says what its mind is told to say.
    pub(crate) fn start() -> Service {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        certify(folder.path(), &[("bot", "127.0.0.1")]);
        let (key, mind) = (Arc::new(SigningKey::generate().unwrap()), Mind::default());
        let tls = acceptor(folder.path(), "bot");
        let rule = remembering(&mind, &key);
        let server = runtime.block_on(Server::start(Some(tls), rule));
        Service { server, key, mind, folder, _runtime: runtime }
    }

    /// It goes on like that after a while of something else.
    pub(crate) fn remember(&self) {
        self.server.obey(remembering(&self.mind, &self.key));
    }

    /// What its approval is beside `more`; its key is the one that counts.
    pub(crate) fn settings(&self, more: Value) -> Value {
        let write = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut settings = json!({
            "kind": "webhook", "url": self.url("/told"), "key": STANDARD.encode(self.key.public()),
            "ca_file": self.folder.path().join("ca.pem"), "bearer_file": write("token", TOKEN),
            "hmac_key_file": write("key", KEY), "timeout": "2s", "poll": "1s",
        });
        for (key, value) in more.as_object().unwrap() {
            settings[key] = value.clone();
        }
        settings
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.server.address)
    }

    /// What it is asked by, too.
    pub(crate) fn asked(&self, more: Value) -> Value {
        let mut settings = self.settings(more);
        settings["status_url"] = json!(self.url("/status/{id}"));
        settings
    }

    /// A config whose secret needs it.
    pub(crate) fn plan(&self, scene: &Scene, settings: Value) -> Plan {
        let mut plan = scene.plan(settings);
        let approval = plan.config["approvals"]["two"].as_object_mut().unwrap();
        approval.remove("approvers");
        plan
    }
}

fn remembering(mind: &Mind, key: &Arc<SigningKey>) -> impl FnMut(&Seen) -> Vec<Step> + Send + 'static {
    let (mind, key) = (mind.clone(), Arc::clone(key));
    move |seen| mind.answer(seen, &key)
}

/// What a message says.
pub(crate) fn told(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

/// What is signed for, by the ticket alone.
pub(crate) fn digest(data: &Value) -> String {
    hex(&sha256(data["ticket"].as_str().unwrap().as_bytes()))
}

/// A decision as a service writes it.
pub(crate) fn decided(key: &SigningKey, decision: &str, digest: &str, reason: &str) -> Value {
    let statement = format!("claviger approval\n{decision}\n{digest}\n{reason}\n");
    let signature = STANDARD.encode(key.sign(statement.as_bytes()));
    json!({"decision": decision, "digest": digest, "reason": reason, "signature": signature})
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
