//! `bridge`: a loopback port for clients that cannot speak to a Unix socket, for as long as one command runs.
//!
//! Weaker than the socket: whoever has the token of this run may use it, whatever user or process that is. Serves Vault's API and
//! upstreams, no secrets, and only while the workload's config says `bridge: allow`, which is advice that this command obeys.

use super::{
    Socket, block_on,
    client::{self, Client},
    exit::{Exit, Failure},
};
use crate::{
    crypto,
    name::UpstreamName,
    shutdown::{self, Signal},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header, header::HeaderValue};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::{sys::signal, unistd::Pid};
use std::{
    ffi::OsString,
    fs, io,
    io::Write as _,
    net::SocketAddr,
    os::unix::{fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
};
use zeroize::Zeroizing;

/// What the sidecar may take to say whether there may be a bridge.
const WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take to ask.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// Run a command beside a loopback port that carries Vault's API and upstreams
///
/// For clients that cannot speak to a Unix socket. The command finds the port in VAULT_ADDR, and in CLAVIGER_BRIDGE: Vault's API is
/// below it, and each upstream below $CLAVIGER_BRIDGE/upstreams/NAME. With --upstream the port is that upstream's alone, from its
/// root on, for clients that take no path in front of theirs. Each request must carry the token that is in the file, made new for
/// this run, where clients put their key: as X-Vault-Token, a bearer or token, X-Api-Key, Api-Key, X-Goog-Api-Key, Private-Token, the
/// password of Basic, or the id of the key that AWS' SDKs sign with. It is not sent on. The file is removed when the command ends.
///
/// This is weaker than the socket: on the loopback the kernel does not say who asks, so any process that can read the file, or the
/// environment or memory of the command, may do what the command may do. The workload's config must say `bridge: allow`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger bridge --token-file /dev/shm/token -- node report.js     with VAULT_ADDR, and the token in that file
  claviger bridge --listen 127.0.0.1:0 --token-file /dev/shm/token -- ./worker    any free port
  claviger bridge --token-file /dev/shm/token -- sh -c 'OPENAI_API_KEY=$(cat /dev/shm/token) \\
    OPENAI_BASE_URL=$CLAVIGER_BRIDGE/upstreams/openai/v1 python3 bot.py'
  claviger bridge --token-file /dev/shm/token -- sh -c 'AWS_ACCESS_KEY_ID=$(cat /dev/shm/token) AWS_SECRET_ACCESS_KEY=none \\
    AWS_ENDPOINT_URL=$CLAVIGER_BRIDGE/upstreams/s3 python3 upload.py'
  claviger bridge --upstream stripe --token-file /dev/shm/token -- ./pay    a port whose root is that upstream's

Exit codes: the command's own, or 128 + the number of the signal that ended it; 125 failed before it ran, 126 it cannot be run,
127 there is no such command, 2 wrong command line, 3 the workload's config says bridge: deny")]
pub(super) struct Args {
    /// Where to listen; an address of the loopback
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8200")]
    listen: SocketAddr,
    /// Where the token of this run is written, readable by this user alone
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Serve this upstream alone, from its root on; its socket is NAME.sock beside the workload's
    #[arg(long, value_name = "NAME", value_parser = UpstreamName::new)]
    upstream: Option<UpstreamName>,
    #[command(flatten)]
    socket: Socket,
    /// What to run
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// A token that is in its file for as long as this lives.
struct Token {
    text: Zeroizing<String>,
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    if !args.listen.ip().is_loopback() {
        return Err(Failure::new(Exit::Usage, format!("{} is not on the loopback", args.listen)));
    }
    let client = args.socket.client()?;
    block_on(carry(args, client))?
}

async fn carry(args: &Args, client: Client) -> Result<Exit, Failure> {
    let ours = |failure: Failure| match failure.exit {
        Exit::Refused => failure,
        _ => Failure { exit: Exit::Ours, ..failure },
    };
    allowed(&client).await.map_err(ours)?;
    let failed = |what: &str, error: &io::Error| Failure::new(Exit::Ours, format!("{what}: {error}"));
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|error| failed(&format!("listening at {}", args.listen), &error))?;
    let address = listener.local_addr().map_err(|error| failed("listening", &error))?;
    let token = Token::write(&args.token_file);
    let token = token.map_err(|error| failed(&args.token_file.display().to_string(), &error))?;
    let mut signals = shutdown::signals().map_err(|error| failed("listening for signals", &error))?;
    let mut child = start(&args.command, address)?;
    let way = match &args.upstream {
        None => Way { socket: client.socket, paths: &["/v1/", "/upstreams/"] },
        Some(name) => Way { socket: client.socket.with_file_name(format!("{name}.sock")), paths: &["/"] },
    };
    let (way, bearer) = (Arc::new(way), Arc::new(token.text.clone()));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            ended = child.wait() => {
                let ended = ended.map_err(|error| failed("waiting for the command", &error))?;
                return Ok(Exit::Command(code_of(ended)));
            }
            signal = signals.next() => {
                let number = match signal {
                    Signal::Terminate => signal::Signal::SIGTERM,
                    Signal::Reload => signal::Signal::SIGHUP,
                };
                if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                    // It may have ended just now.
                    let _ = signal::kill(Pid::from_raw(pid), number);
                }
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connect(stream, Arc::clone(&way), Arc::clone(&bearer)));
            }
        }
    }
}

/// Whether the workload's config says that there may be one.
async fn allowed(client: &Client) -> Result<(), Failure> {
    let reply = client.ask("/whoami", WITHIN).await?;
    let facts: serde_json::Value = serde_json::from_slice(&reply.body).map_err(client::Error::Nonsense)?;
    let fact = |name: &str| facts.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    if fact("bridge") == "allow" {
        return Ok(());
    }
    let workload = fact("workload");
    let text = format!("the config has no bridge: allow in workloads.{workload}");
    Err(Failure::new(Exit::Refused, text).remedy("use the socket, or ask for it"))
}

fn start(command: &[OsString], address: SocketAddr) -> Result<tokio::process::Child, Failure> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| Failure::new(Exit::Usage, "there is no command"))?;
    let mut command = tokio::process::Command::new(program);
    let url = format!("http://{address}");
    command.args(arguments).env("VAULT_ADDR", &url).env("CLAVIGER_BRIDGE", url);
    // It would be preferred to VAULT_ADDR.
    command.env_remove("VAULT_AGENT_ADDR").kill_on_drop(true);
    command.spawn().map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::NotRunnable,
        };
        Failure::new(exit, format!("running {}: {error}", program.to_string_lossy()))
    })
}

/// The command's own code, or what a shell says of a signal.
fn code_of(ended: ExitStatus) -> u8 {
    let code = ended.code().or_else(|| ended.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Where requests go, and which.
struct Way {
    socket: PathBuf,
    /// How the paths begin that are carried.
    paths: &'static [&'static str],
}

/// Carries the requests of one connection over one of our own.
async fn connect(stream: TcpStream, way: Arc<Way>, bearer: Arc<Zeroizing<String>>) {
    let Ok(up) = client::connect(&way.socket).await else { return };
    let Ok((sender, up)) = hyper::client::conn::http1::handshake(TokioIo::new(up)).await else { return };
    let sender = Arc::new(Mutex::new(sender));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (sender, bearer, paths) = (Arc::clone(&sender), Arc::clone(&bearer), way.paths);
        async move {
            let path = request.uri().path();
            if !is_bearer(request.headers(), &bearer) || !paths.iter().any(|begin| path.starts_with(begin)) {
                return Ok::<Answer, hyper::Error>(refusal());
            }
            strip(request.headers_mut());
            let answer = sender.lock().await.send_request(request).await?;
            Ok(answer.map(Either::Left))
        }
    });
    let down = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Ours ends when the client's does; a request after the sidecar has closed ours ends the client's.
    let _ = tokio::join!(down, up);
}

/// The headers that clients put their key into, beside `Authorization`.
const KEYS: [&str; 5] = ["x-vault-token", "x-api-key", "api-key", "x-goog-api-key", "private-token"];

/// Whether one of the headers that clients put their key into has the token. Takes as long whatever it is compared with.
fn is_bearer(headers: &HeaderMap, bearer: &str) -> bool {
    let hash = crypto::sha256(bearer.as_bytes());
    let is_it = |found: &[u8]| crypto::sha256(found) == hash;
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let basic = given.strip_prefix(b"Basic ").and_then(|coded| BASE64_STANDARD.decode(coded).ok());
    let basic = basic.map(Zeroizing::new).unwrap_or_default();
    let password = basic.iter().position(|byte| *byte == b':').and_then(|at| basic.get(at + 1..));
    let bearer = [&b"Bearer "[..], b"token "].into_iter().find_map(|scheme| given.strip_prefix(scheme));
    // Where the SDKs of AWS sign, they say with which key, and what it is for behind a slash.
    let signed = given
        .strip_prefix(b"AWS4-HMAC-SHA256 Credential=")
        .and_then(|rest| rest.split(|byte| *byte == b'/').next());
    let own = KEYS.iter().filter_map(|name| headers.get(*name).map(HeaderValue::as_bytes));
    own.chain(bearer).chain(signed).chain(password).any(is_it)
}

/// Takes out the token, and what is between the client and this port alone.
fn strip(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let named: Vec<String> =
        lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_owned()).collect();
    for name in named.iter().map(String::as_str).chain(KEYS).chain(["authorization", "connection"]) {
        // The framing is ours in any case.
        if !name.eq_ignore_ascii_case("content-length") && !name.eq_ignore_ascii_case("transfer-encoding") {
            headers.remove(name);
        }
    }
}

fn refusal() -> Answer {
    let text = r#"{"errors":["the bridge serves /v1 and /upstreams to whoever has the token of its --token-file"],"reason":"bridge"}"#;
    let mut answer = Response::new(Either::Right(Full::new(Bytes::from_static(text.as_bytes()))));
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

impl Token {
    /// A new one, in a file that is new too: what an older one is open to is not known.
    fn write(file: &Path) -> io::Result<Self> {
        let text = Zeroizing::new(crypto::hex(&crypto::random::<24>()?));
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        written.write_all(text.as_bytes())?;
        Ok(Self { text, file: file.to_owned() })
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &'static str, value: &str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        assert_eq!(is_bearer(&headers, "abc"), expected, "{name}: {value}");
    }

    #[test]
    fn a_request_has_the_token_where_clients_put_their_key() {
        check("x-vault-token", "abc", true);
        check("authorization", "Bearer abc", true);
        check("x-api-key", "abc", true);
        check("authorization", "Basic dTphYmM=", true);
        check("authorization", "Basic YWJjOg==", false);
        check("authorization", "token abc", true);
        check(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=abc/20260101/eu-west-1/s3/aws4_request, Signature=0",
            true,
        );
        check("authorization", "AWS4-HMAC-SHA256 Credential=other/abc/eu-west-1/s3/aws4_request", false);
        check("authorization", "abc", false);
        check("x-vault-token", "abcd", false);
        check("x-vault-token", "", false);
        check("cookie", "abc", false);
        assert!(!is_bearer(&HeaderMap::new(), "abc"));
    }

    #[test]
    fn the_token_and_what_is_between_two_machines_is_taken_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Hop,content-length"), ("x-hop", "1"), ("x-api-key", "abc")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.append("content-length", HeaderValue::from_static("1"));
        headers.append("authorization", HeaderValue::from_static("Bearer abc"));
        headers.append("x-kept", HeaderValue::from_static("1"));
        strip(&mut headers);
        let mut names: Vec<_> = headers.keys().map(header::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "x-kept"]);
    }

    #[test]
    fn a_token_is_in_a_new_file_of_this_user_alone_until_it_is_dropped() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "old").unwrap();
        let token = Token::write(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), *token.text);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(token.text.len(), 48);
        drop(token);
        assert!(!file.exists());
    }
}
