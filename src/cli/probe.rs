//! `probe`: asks the health port of the agent beside it, for images without a shell.
//!
//! Reads no more of the config than `health.listen`, so that a file that `check` refuses does not fail a running agent.

use super::{
    answer, block_on,
    client::{self, Error, Reply},
    exit::{Exit, Failure},
};
use http::StatusCode;
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::TcpStream;

/// What an answer may take: less than a kubelet waits for a probe that was given a second more.
const WITHIN: Duration = Duration::from_secs(4);
/// The largest config that is read, as for `run`.
const LARGEST: u64 = 256 * 1024;
/// `health.listen` when the config does not name it.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8099);

/// Ask the agent beside this one how it is
///
/// For the probes of a container whose image has no shell. Asks the health port that the config names, on this host, and
/// says what is missing. Names of secrets and identities are shown only where `health.names` is true.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger probe ready --config /etc/claviger/config.yaml
  claviger probe startup --config /etc/claviger/config.yaml --json

Exit codes: 0 it is, 1 it is not or does not answer, 2 wrong command line, 64 the config names no port")]
pub(super) struct Args {
    /// What to ask for
    what: What,
    /// The config file of the agent
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The agent's answer as it came
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// It can recover by itself from whatever is wrong
    Live,
    /// Workloads get what the config promises
    Ready,
    /// It serves
    Startup,
}

impl What {
    fn page(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Startup => "/startupz",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ready => "ready",
            Self::Startup => "started",
        }
    }
}

/// What a page says.
#[derive(Debug, Default, Deserialize)]
struct Page {
    #[serde(default)]
    reasons: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
struct Reason {
    code: String,
    count: u64,
    #[serde(default)]
    names: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let address = address(&args.config)?;
    let reply = block_on(ask(address, args.what.page()))?.map_err(|error| {
        let remedy = "is the agent running? does it run with this config, in this pod?";
        Failure::from(error).remedy(remedy)
    })?;
    let exit = if reply.status == StatusCode::OK { Exit::Done } else { Exit::Failed };
    let text = if args.json {
        format!("{}\n", String::from_utf8_lossy(&reply.body))
    } else {
        spell(args.what, &reply)
    };
    answer(text.as_bytes()).map(|_| exit)
}

/// Where to ask, by the config.
fn address(config: &Path) -> Result<SocketAddr, Failure> {
    let bad = |text: String| {
        let remedy = format!("`claviger check {}` says what is wrong with it", config.display());
        Failure::new(Exit::BadConfig, format!("reading health.listen from {}: {text}", config.display()))
            .remedy(remedy)
    };
    let mut text = String::new();
    let read = File::open(config).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    read.map_err(|error| bad(error.to_string()))?;
    if text.len() as u64 > LARGEST {
        return Err(bad("larger than 256 KiB".to_owned()));
    }
    let listen = listen(&text).ok_or_else(|| bad("no address and port there".to_owned()))?;
    if listen.port() == 0 {
        return Err(bad(
            "port 0 lets the kernel choose, and only the agent's log says what it chose".to_owned()
        ));
    }
    Ok(listen)
}

/// `health.listen` of a config; `None` when it is no address, or the text is no YAML.
fn listen(text: &str) -> Option<SocketAddr> {
    #[derive(Deserialize)]
    struct Config {
        health: Option<Health>,
    }
    #[derive(Deserialize)]
    struct Health {
        listen: Option<String>,
    }
    let config: Config = serde_yaml::from_str(text).ok()?;
    match config.health.and_then(|health| health.listen) {
        Some(listen) => listen.parse().ok(),
        None => Some(LISTEN),
    }
}

async fn ask(listen: SocketAddr, page: &str) -> Result<Reply, Error> {
    let asked = async {
        let stream = connect(listen)
            .await
            .map_err(|source| Error::Connect { at: listen.to_string().into(), source })?;
        client::exchange(stream, &listen.to_string(), page).await
    };
    client::within(WITHIN, || listen.to_string(), asked).await
}

/// An agent that listens everywhere is asked on loopback: on IPv4 first, which a host without IPv6 has too.
async fn connect(listen: SocketAddr) -> io::Result<TcpStream> {
    if !listen.ip().is_unspecified() {
        return TcpStream::connect(listen).await;
    }
    match TcpStream::connect((Ipv4Addr::LOCALHOST, listen.port())).await {
        Err(_) if listen.is_ipv6() => TcpStream::connect((Ipv6Addr::LOCALHOST, listen.port())).await,
        connected => connected,
    }
}

/// `not ready: starting, no_token (reports)`.
fn spell(what: What, reply: &Reply) -> String {
    let page: Page = serde_json::from_slice(&reply.body).unwrap_or_default();
    let reasons = page.reasons.iter().map(|Reason { code, count, names }| match (&**names, count) {
        ([], 0 | 1) => code.clone(),
        ([], count) => format!("{code} ({count})"),
        (names, _) => format!("{code} ({})", names.join(", ")),
    });
    match (reply.status, reasons.collect::<Vec<_>>().join(", ")) {
        (StatusCode::OK, _) => format!("{}\n", what.word()),
        (status, reasons) if reasons.is_empty() => format!("not {}: {status}\n", what.word()),
        (_, reasons) => format!("not {}: {reasons}\n", what.word()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::health::{Code, Health, Port, Reason as Because, Settings};

    fn check(config: &str, expected: Option<&str>) {
        assert_eq!(listen(config).map(|address| address.to_string()).as_deref(), expected, "{config}");
    }

    #[test]
    fn only_the_health_port_of_the_config_is_read() {
        check("health: {listen: \"127.0.0.1:9\"}\nvault: {nonsense: [1, {a: b}]}\n", Some("127.0.0.1:9"));
        check("vault: {}\n", Some("[::]:8099"));
        check("health: {names: true}\n", Some("[::]:8099"));
        check("health: {listen: \"8099\"}\n", None);
        check("health: [", None);
    }

    async fn answered(names: bool, reasons: Vec<Because>) -> String {
        let (health, ready) = Health::new();
        ready.say();
        health.set(reasons);
        let port = Port::bind(&Settings { listen: "[::]:0".parse().unwrap(), names }).await.unwrap();
        let address = port.address();
        tokio::select! {
            () = port.serve(health, String::new) => unreachable!(),
            reply = ask(address, What::Ready.page()) => spell(What::Ready, &reply.unwrap()),
        }
    }

    #[tokio::test]
    async fn a_probe_says_what_is_missing() {
        let missing = |code, name: &str| Because { code, name: Some(name.to_owned()) };
        let reasons = vec![
            missing(Code::SecretNotReady, "stripe"),
            missing(Code::SecretNotReady, "orders-db"),
            missing(Code::NoToken, "reports"),
        ];
        assert_eq!(answered(false, Vec::new()).await, "ready\n");
        assert_eq!(answered(false, reasons.clone()).await, "not ready: no_token, secret_not_ready (2)\n");
        let named = "not ready: no_token (reports), secret_not_ready (orders-db, stripe)\n";
        assert_eq!(answered(true, reasons).await, named);
    }

    #[test]
    fn a_config_without_a_port_to_ask_is_64() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.yaml");
        for text in ["health: {listen: \"[::]:0\"}", "health: [", &" ".repeat(300_000)] {
            std::fs::write(&file, text).unwrap();
            let args = Args { what: What::Live, config: file.clone(), json: false };
            assert_eq!(run(&args).unwrap_err().exit, Exit::BadConfig);
        }
        let args = Args { what: What::Live, config: home.path().join("none"), json: false };
        assert_eq!(run(&args).unwrap_err().exit, Exit::BadConfig);
    }
}
