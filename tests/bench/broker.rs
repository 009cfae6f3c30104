//! What a call of an upstream costs over calling it directly: the same requests over TLS on loopback, kept alive, to one server.
//!
//! The direct client is this program again, on the core that the agent has when it is measured; server and load have the other.

use super::{
    Outcome, Plan,
    agent::Mode,
    disk, load,
    process::{Cores, Process},
    table::{Bound, Table, bytes, rate},
    vault::Vault,
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _},
};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The first argument that makes this program the direct client.
pub(super) const DIRECT: &str = "--direct-client";
/// What is streamed, in bytes.
const HUGE: usize = 1 << 30;
const REQUEST: &[u8] = b"GET /upstreams/api/small HTTP/1.1\r\nHost: claviger\r\n\r\n";
const GOAL: Duration = Duration::from_micros(150);

/// Adds its rows.
pub(super) fn measure(
    plan: &Plan,
    program: &Path,
    cores: &Cores,
    vault: &Vault,
    table: &mut Table,
) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let address = serve(folder.path())?;
    let direct = [1, 64].map(|count| run_direct(cores, folder.path(), address, count, plan));
    let [one, many] = direct;
    let (one, many) = (one?, many?);
    table.note("direct TLS call, kept alive, 1 connection", &one.to_string());
    table.note("direct TLS call, kept alive, 64 connections", &many.to_string());
    for mode in [Mode::Buffered, Mode::Strict] {
        let agent = Agent::start(program, cores, vault, mode, (folder.path(), address))?;
        let run = |count| load::run(&agent.socket, REQUEST, count, (plan.warm, plan.load), &agent.process);
        let (ours, all) = (run(1)?, run(64)?);
        let added = ours.times.p50.saturating_sub(one.p50);
        let what = format!("call of an upstream, {}", mode.word());
        let text = format!("{ours}; {:.0} us more than direct", added.as_secs_f64() * 1e6);
        let bound = Bound::AtMost(added.as_secs_f64(), GOAL.as_secs_f64());
        table.goal(&format!("{what}, 1 connection"), &text, "p50 <= 150 us more", bound);
        let goal = 10_000_f64.min(0.6 * many.rate);
        let text = format!("{all}; {:.0} % of direct", 100.0 * all.rate() / many.rate);
        table.goal(
            &format!("{what}, 64 connections"),
            &text,
            ">= 10,000/s or 60 % of direct",
            Bound::AtLeast(all.rate(), goal),
        );
        if matches!(mode, Mode::Buffered) {
            stream(&agent, table)?;
        }
    }
    Ok(())
}

fn stream(agent: &Agent, table: &mut Table) -> Outcome<()> {
    let before = agent.process.rss()?.all;
    let (started, mut most, mut read) = (Instant::now(), before, 0_usize);
    let mut stream = UnixStream::connect(&agent.socket)?;
    stream.write_all(b"GET /upstreams/api/huge HTTP/1.1\r\nHost: claviger\r\nConnection: close\r\n\r\n")?;
    let mut buffer = vec![0; 256 * 1024];
    let mut looks = 0_usize;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        read += count;
        if read / (16 << 20) > looks {
            looks = read / (16 << 20);
            most = most.max(agent.process.rss()?.all);
        }
    }
    if read < HUGE {
        return Err(format!("only {read} bytes were streamed").into());
    }
    let speed = read as f64 / started.elapsed().as_secs_f64() / 1e6;
    let grown = most.saturating_sub(before);
    let text = format!("{} more at most, {speed:.0} MB/s", bytes(grown));
    table.goal(
        "RSS while 1 GiB of an answer is scrubbed",
        &text,
        "flat: <= 1 MB more",
        Bound::AtMost(grown as f64, 1e6),
    );
    Ok(())
}

/// The agent with one upstream.
struct Agent {
    // Before the folders: it is ended first.
    process: Process,
    socket: std::path::PathBuf,
    _folder: TempDir,
    _journal: TempDir,
}

impl Agent {
    fn start(
        program: &Path,
        cores: &Cores,
        vault: &Vault,
        mode: Mode,
        (certificates, address): (&Path, SocketAddr),
    ) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let journal = tempfile::tempdir_in(disk::folder())?;
        let (config, socket) = (folder.path().join("config.yaml"), folder.path().join("user.sock"));
        let ca = vault.ca_file().map(|file| format!(", ca_file: {}", file.display())).unwrap_or_default();
        let text = format!(
            "\
vault: {{addresses: [\"{url}\"]{ca}}}
identities:
  bench: {{method: approle, role_id_file: {role_id}, secret_id_file: {secret_id}}}
secrets:
  token: {{identity: bench, kind: token, policies: [default], ttl: 15m}}
upstreams:
  api: {{url: \"https://{address}\", ca_file: {upstream_ca}, allow_cidrs: [127.0.0.0/8], inject: {{secret: token, header: X-Key}}}}
workloads:
  job:
    socket: {{path: {socket}}}
    peer: {{uid: {uid}, level: user}}
    limits: {{connections: 1100, requests_per_second: 1000000}}
    rules: [{{name: calls, upstream: api, methods: [GET], paths: [\"*\"]}}]
audit: {{mode: {mode}, journal: {{dir: {journal}}}}}
health: {{listen: \"127.0.0.1:0\"}}
",
            url = vault.url(),
            role_id = vault.credential("role_id").display(),
            secret_id = vault.credential("secret_id").display(),
            upstream_ca = certificates.join("ca.pem").display(),
            socket = socket.display(),
            uid = nix::unistd::geteuid(),
            mode = mode.word(),
            journal = journal.path().display(),
        );
        fs::write(&config, text)?;
        let mut command = cores.measured(program);
        command.arg("run").arg("--config").arg(&config);
        let log = folder.path().join("log");
        let mut process = Process::start(command, &log)?;
        let ready = process.wait_for("the upstream", || load::open(&socket, REQUEST, 1).ok());
        ready.map_err(|error| {
            format!("{error}; its log:\n{}", fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok(Self { process, socket, _folder: folder, _journal: journal })
    }
}

/// What the direct client found.
struct Direct {
    rate: f64,
    p50: Duration,
    p99: Duration,
}

impl std::fmt::Display for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        write!(f, "{}, p50 {:.0} us, p99 {:.0} us", rate(self.rate), micros(self.p50), micros(self.p99))
    }
}

fn run_direct(
    cores: &Cores,
    certificates: &Path,
    address: SocketAddr,
    count: usize,
    plan: &Plan,
) -> Outcome<Direct> {
    let mut command = cores.measured(&std::env::current_exe()?);
    command.arg(DIRECT).arg(address.to_string()).arg(certificates.join("ca.pem"));
    command.arg(count.to_string()).arg((plan.warm + plan.load).as_millis().to_string());
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers.as_slice() {
        [rate, p50, p99] => {
            Ok(Direct { rate: *rate, p50: Duration::from_secs_f64(*p50), p99: Duration::from_secs_f64(*p99) })
        }
        _ => Err(format!("the direct client said {text:?}").into()),
    }
}

/// The direct client: prints how many answers a second it got, and the times.
pub(super) fn direct(arguments: &[String]) -> Outcome<()> {
    let [address, ca, count, span] = arguments else { return Err("no direct client".into()) };
    let (address, count): (SocketAddr, usize) = (address.parse()?, count.parse()?);
    let span = Duration::from_millis(span.parse()?);
    claviger::crypto::install();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let tls = TlsConnector::from(Arc::new(
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut times, started) = (Vec::new(), Instant::now());
    runtime.block_on(async {
        let mut calls = JoinSet::new();
        for _ in 0..count {
            calls.spawn(ask_on_one(tls.clone(), address, started + span));
        }
        while let Some(done) = calls.join_next().await {
            times.extend(done?.map_err(|failed| failed.to_string())?);
        }
        Outcome::Ok(())
    })?;
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    let times = load::Times::of(times);
    println!("{rate} {} {}", times.p50.as_secs_f64(), times.p99.as_secs_f64());
    Ok(())
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn ask_on_one(tls: TlsConnector, address: SocketAddr, until: Instant) -> Result<Vec<Duration>, Failed> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = tls.connect(ServerName::try_from(address.ip().to_string())?, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut times = Vec::new();
    while Instant::now() < until {
        let asked = Instant::now();
        let request = Request::get("/small").header("host", "claviger").header("x-key", "0123456789abcdef");
        sender.ready().await?;
        let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        answer.into_body().collect().await?;
        times.push(asked.elapsed());
    }
    Ok(times)
}

/// Serves on a thread of its own as long as this process runs; the CA lies in the folder.
fn serve(folder: &Path) -> Outcome<SocketAddr> {
    claviger::crypto::install();
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            let tls = TlsAcceptor::from(Arc::new(config));
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let tls = tls.clone();
                connections.spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        // Whoever hangs up has had what it wanted.
                        let _ = answer(stream).await;
                    }
                });
            }
        });
    });
    Ok(address)
}

async fn answer(mut stream: tokio_rustls::server::TlsStream<TcpStream>) -> std::io::Result<()> {
    let (mut read, piece) = (Vec::new(), vec![b'x'; 64 * 1024]);
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        if read.starts_with(b"GET /huge") {
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\n\r\n").as_bytes()).await?;
            for _ in 0..HUGE / piece.len() {
                stream.write_all(&piece).await?;
            }
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"fine\":  true}\n").await?;
        }
        stream.flush().await?;
        read.clear();
    }
}
