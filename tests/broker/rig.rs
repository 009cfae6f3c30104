//! An agent with one upstream, and a client that speaks HTTP byte by byte.

use crate::{
    server::{Seen, Server, Step, acceptor, certify},
    support::{Agent, Config, LIMIT, Scene, until},
};
use nix::unistd::geteuid;
use serde_json::Value;
use std::path::Path;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// An agent whose workload `job` may call the upstream `api` with the key [`crate::support::VALUE`].
pub(crate) struct Rig {
    pub(crate) scene: Scene,
    pub(crate) server: Server,
    pub(crate) agent: Agent,
}

/// What a test may change of it.
pub(crate) struct Plan {
    /// Behind `inject:`.
    pub(crate) inject: &'static str,
    /// More keys of the upstream.
    pub(crate) more: String,
    /// More keys of the rule.
    pub(crate) rule: &'static str,
    pub(crate) secrets: Option<&'static str>,
    pub(crate) path: &'static str,
    pub(crate) mode: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            inject: "{secret: stripe, header: Authorization, format: \"Bearer {}\"}",
            more: String::new(),
            rule: "methods: [GET, HEAD, POST, PUT, PATCH, DELETE], paths: [\"*\"]",
            secrets: None,
            path: "",
            mode: "buffered",
        }
    }
}

impl Rig {
    pub(crate) async fn new(rule: impl FnMut(&Seen) -> Vec<Step> + Send + 'static) -> Self {
        Self::with(Plan::default(), rule).await
    }

    pub(crate) async fn with(plan: Plan, rule: impl FnMut(&Seen) -> Vec<Step> + Send + 'static) -> Self {
        let scene = Scene::new().await;
        certify(&scene.path(""), &[("server", "127.0.0.1"), ("wrong", "other.example")]);
        let server = Server::start(Some(acceptor(&scene.path(""), "server")), rule).await;
        let config = config(&scene, &server, &plan);
        let agent = scene.start(&config).await;
        Self { scene, server, agent }
    }

    /// A connection to the workload's own socket.
    pub(crate) async fn line(&self) -> Line {
        Line::open(&self.scene.socket("job")).await
    }

    /// A connection to the upstream's socket.
    pub(crate) async fn own(&self) -> Line {
        Line::open(&self.scene.socket("api")).await
    }

    /// One GET on a fresh connection to the upstream's socket.
    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.own().await.ask(&format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    /// The events of the type `upstream.KIND`, as soon as there are `count`.
    pub(crate) async fn events(&self, kind: &str, count: usize) -> Vec<Value> {
        let kind = format!("upstream.{kind}.v1");
        until(&format!("{count} of {kind}"), || async {
            let found: Vec<Value> =
                events(&self.scene.journal()).into_iter().filter(|event| event["type"] == *kind).collect();
            (found.len() >= count).then_some(found)
        })
        .await
    }
}

/// The events of a journal that is being written.
pub(crate) fn events(dir: &Path) -> Vec<Value> {
    let mut reader = claviger::audit::journal::read(dir).unwrap();
    reader.by_ref().map(|(_, bytes)| serde_json::from_slice(&bytes).unwrap()).collect()
}

/// The config of a rig.
pub(crate) fn config(scene: &Scene, server: &Server, plan: &Plan) -> Config {
    let mut config = scene.config();
    let rules = format!("[{{name: calls, upstream: api, {}}}]", plan.rule);
    config.workloads = format!("\n{}", scene.workload("job", geteuid().as_raw(), &rules));
    if let Some(secrets) = plan.secrets {
        config.secrets = secrets.to_owned();
    }
    config.audit = config.audit.replacen('{', &format!("{{mode: {}, ", plan.mode), 1);
    config.rest = format!(
        "upstreams:\n  api: {{url: \"https://{}{}\", ca_file: \"{}\", allow_cidrs: [127.0.0.0/8], inject: {}{}}}\n",
        server.address,
        plan.path,
        scene.path("ca.pem").display(),
        plan.inject,
        plan.more
    );
    config
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named =
            |line: &&str| line.split(':').next().is_some_and(|given| given.eq_ignore_ascii_case(name));
        self.head.lines().skip(1).find(named).and_then(|line| Some(line.split_once(':')?.1.trim()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The word of a refusal of ours.
    pub(crate) fn reason(&self) -> String {
        let json: Value =
            serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()));
        assert_eq!(self.header("x-claviger-error"), json["reason"].as_str());
        json["reason"].as_str().unwrap().to_owned()
    }
}

/// One connection.
pub(crate) struct Line {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Line {
    pub(crate) async fn open(socket: &Path) -> Self {
        Self { stream: UnixStream::connect(socket).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends, and takes the whole answer.
    pub(crate) async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        let head_only = bytes.as_ref().starts_with(b"HEAD ");
        self.send(bytes).await;
        let (status, head) = self.head().await.expect("no answer");
        let mut reply = Reply { status, head, body: Vec::new() };
        if !head_only {
            self.body(&mut reply).await.expect("the answer broke off");
        }
        reply
    }

    /// The head of the next answer; `None` if the connection ends before.
    pub(crate) async fn head(&mut self) -> Option<(u16, String)> {
        loop {
            let end = loop {
                match self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                    Some(at) => break at + 4,
                    None => self.more().await?,
                }
            };
            let head = String::from_utf8_lossy(&self.read.drain(..end).collect::<Vec<u8>>()).into_owned();
            let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            if status != 100 {
                return Some((status, head));
            }
        }
    }

    /// The rest of the answer; `None` if it breaks off.
    pub(crate) async fn body(&mut self, reply: &mut Reply) -> Option<()> {
        if reply.header("transfer-encoding").is_none() {
            let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
            while self.read.len() < length {
                self.more().await?;
            }
            reply.body.extend(self.read.drain(..length));
            return Some(());
        }
        while let Some(chunk) = self.chunk().await? {
            reply.body.extend(chunk);
        }
        Some(())
    }

    /// The next chunk; the inner `None` is the end.
    pub(crate) async fn chunk(&mut self) -> Option<Option<Vec<u8>>> {
        let line = loop {
            match self.read.windows(2).position(|two| two == b"\r\n") {
                Some(at) => break at,
                None => self.more().await?,
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&self.read[..line]).unwrap(), 16).unwrap();
        while self.read.len() < line + 2 + size + 2 {
            self.more().await?;
        }
        let chunk = self.read[line + 2..line + 2 + size].to_vec();
        self.read.drain(..line + 2 + size + 2);
        Some((size > 0).then_some(chunk))
    }

    /// Waits for more bytes; `None` at the end.
    pub(crate) async fn more(&mut self) -> Option<()> {
        let read = timeout(LIMIT, self.stream.read_buf(&mut self.read)).await.expect("nothing comes");
        read.is_ok_and(|count| count > 0).then_some(())
    }
}
