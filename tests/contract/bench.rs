//! What an assertion works with: a server, its root token, names that no other test uses, and a plain HTTP client.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use devvault::{DevVault, Server};
use reqwest::Method;
use serde_json::{Value, json};

/// One server under test.
pub(crate) struct Bench {
    url: String,
    pub(crate) root: String,
    http: reqwest::Client,
    number: u32,
    pub(crate) side: Side,
}

/// Which server it is; keeps it running.
pub(crate) enum Side {
    Double { vault: DevVault, _server: Server },
    Real,
    RealAlone(lab::Vault),
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The texts of `errors`.
    pub(crate) fn errors(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no errors in {self:?}"));
        errors.iter().map(|e| e.as_str().unwrap()).collect()
    }

    /// Asserts status and errors together.
    #[track_caller]
    pub(crate) fn fails(&self, status: u16, errors: &[&str]) {
        assert_eq!((self.status, self.errors()), (status, errors.to_vec()), "{self:?}");
    }

    /// Asserts the status, and gives the answer on.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    pub(crate) fn text(&self, pointer: &str) -> String {
        let found = self.body.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_else(|| panic!("no text at {pointer} in {self:?}")).to_string()
    }

    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let found = self.body.pointer(pointer).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("no number at {pointer} in {self:?}"))
    }

    /// The token of a login or creation.
    pub(crate) fn token(&self) -> String {
        self.text("/auth/client_token")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Bench {
    pub(crate) async fn double() -> Bench {
        let vault = DevVault::new();
        let server = vault.serve("127.0.0.1:0").await.unwrap();
        Bench::new(server.url(), vault.root_token(), Side::Double { vault, _server: server })
    }

    /// On the real server that all tests of this process share.
    /// Blocks, so it comes before the runtime; its words about a skipped test name this thread, and so the test.
    pub(crate) fn real() -> Option<Bench> {
        let real = lab::Vault::shared()?;
        Some(Bench::new(real.url(), real.root_token().to_string(), Side::Real))
    }

    /// On a real server of its own.
    pub(crate) fn real_alone() -> Option<Bench> {
        let real = lab::Vault::start()?;
        Some(Bench::new(real.url(), real.root_token().to_string(), Side::RealAlone(real)))
    }

    /// Unseals, as its operator would.
    pub(crate) async fn unseal(&self) {
        match &self.side {
            Side::Double { .. } => drop(self.post("sys/unseal", "", json!({ "key": "any" })).await.is(200)),
            Side::RealAlone(vault) => vault.unseal(),
            Side::Real => panic!("the shared server is never sealed"),
        }
    }

    fn new(url: String, root: String, side: Side) -> Bench {
        // reqwest wants a provider even for plain HTTP; a second install is refused and harmless.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Bench { url, root, http, number: COUNT.fetch_add(1, Ordering::Relaxed), side }
    }

    /// A name that no other test uses.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.number)
    }

    /// One request as it is. An empty token sends none.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.url));
        if !token.is_empty() {
            request = request.header("x-vault-token", token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, token, None, &[]).await
    }

    pub(crate) async fn list(&self, path: &str, token: &str) -> Answer {
        self.send("LIST", path, token, None, &[]).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send("POST", path, token, Some(body), &[]).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Answer {
        self.send("DELETE", path, token, None, &[]).await
    }

    /// As an operator prepares a server; must succeed.
    pub(crate) async fn prepare(&self, path: &str, body: Value) -> Answer {
        let answer = self.post(path, &self.root, body).await;
        assert!(answer.status < 300, "{path}: {answer:?}");
        answer
    }

    /// A policy under a name of this test.
    pub(crate) async fn policy(&self, name: &str, text: &str) -> String {
        let name = self.name(name);
        self.prepare(&format!("sys/policies/acl/{name}"), json!({ "policy": text })).await;
        name
    }

    /// An engine under a name of this test, once it answers.
    pub(crate) async fn mount(&self, name: &str, settings: Value) -> String {
        let name = self.name(name);
        self.prepare(&format!("sys/mounts/{name}"), settings.clone()).await;
        if settings["options"]["version"] == "2" {
            // The real one answers 400 while it prepares the mount.
            self.until(|answer| answer.status == 200, &format!("{name}/config"), &self.root).await;
        }
        name
    }

    /// A token made from the root token.
    pub(crate) async fn token(&self, fields: Value) -> Answer {
        self.prepare("auth/token/create", fields).await
    }

    /// Reads until the answer is the wanted one.
    pub(crate) async fn until(&self, wanted: impl Fn(&Answer) -> bool, path: &str, token: &str) -> Answer {
        repeat(wanted, || self.get(path, token)).await
    }

    /// Posts, as root, until the answer is the wanted one.
    pub(crate) async fn until_posted(
        &self,
        wanted: impl Fn(&Answer) -> bool,
        path: &str,
        body: Value,
    ) -> Answer {
        repeat(wanted, || self.post(path, &self.root, body.clone())).await
    }
}

/// Runs one test on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Asks until the answer is the wanted one; the limit is generous and only there to end a broken test.
async fn repeat<F: Future<Output = Answer>>(wanted: impl Fn(&Answer) -> bool, ask: impl Fn() -> F) -> Answer {
    let asked = async {
        loop {
            let answer = ask().await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("the wanted answer comes")
}
