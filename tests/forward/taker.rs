//! A server that stands before Vault: what is sent to `take/` it takes itself, as the rest of the path says, and passes on all else.

use lab::Vault;
use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Behind `take/`.
    pub(crate) path: String,
    /// Of its body.
    pub(crate) bytes: usize,
    /// Whether the body came to its end.
    pub(crate) is_whole: bool,
    /// A checksum of it.
    pub(crate) sum: u64,
}

#[derive(Default)]
struct Seen {
    taken: Vec<Taken>,
    /// How many bytes of bodies came so far.
    bytes: usize,
}

pub(crate) struct Taker {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Taker {
    pub(crate) fn start(vault: &Vault) -> Taker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, to) = (listener.local_addr().unwrap(), vault.plain());
        let seen = Arc::<Mutex<Seen>>::default();
        let taker = Taker { address, seen: Arc::clone(&seen) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&seen);
                // Either side may go at any time.
                thread::spawn(move || drop(serve(&stream.unwrap(), to, &seen)));
            }
        });
        taker
    }

    /// What came of the requests so far whose path begins with this.
    pub(crate) fn taken(&self, path: &str) -> Vec<Taken> {
        let seen = self.seen.lock().unwrap();
        seen.taken.iter().filter(|taken| taken.path.starts_with(path)).cloned().collect()
    }

    /// How many bytes of bodies came.
    pub(crate) fn bytes(&self) -> usize {
        self.seen.lock().unwrap().bytes
    }
}

/// The checksum that [`Taken`] has.
pub(crate) fn sum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn serve(stream: &TcpStream, vault: SocketAddr, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let Some(path) = path.strip_prefix("/v1/take/") else {
        return pass_on(stream, reader, vault, &head);
    };
    let (mut bytes, mut checked) = (0, 0);
    let most = match path {
        "early" => 64 * 1024,
        "gone" => 1024 * 1024,
        _ => usize::MAX,
    };
    let framing = if head.to_ascii_lowercase().contains("\r\ntransfer-encoding:") {
        None
    } else {
        Some(length(&head).unwrap_or(0))
    };
    let came = body(&mut reader, framing, |piece| {
        (bytes, checked) = (bytes + piece.len(), sum(checked, piece));
        seen.lock().unwrap().bytes += piece.len();
        if path == "slow" {
            // It never takes more than a piece.
            loop {
                thread::park();
            }
        }
        bytes < most
    });
    let is_whole = matches!(came, Ok(true));
    let taken = Taken { path: path.to_owned(), bytes, is_whole, sum: checked };
    seen.lock().unwrap().taken.push(taken);
    reply(stream, (path, is_whole, bytes), &head)?;
    stream.shutdown(Shutdown::Both)
}

/// One request a connection: what Vault says ends with it.
fn pass_on(
    stream: &TcpStream,
    mut reader: BufReader<&TcpStream>,
    vault: SocketAddr,
    head: &str,
) -> std::io::Result<()> {
    let mut asked = TcpStream::connect(vault)?;
    let (line, rest) = head.split_once("\r\n").unwrap_or_default();
    let mut body = vec![0; length(head).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    asked.write_all(format!("{line}\r\nConnection: close\r\n{rest}").as_bytes())?;
    asked.write_all(&body)?;
    std::io::copy(&mut asked, &mut &*stream)?;
    stream.shutdown(Shutdown::Both)
}

fn reply(
    stream: &TcpStream,
    (path, is_whole, bytes): (&str, bool, usize),
    head: &str,
) -> std::io::Result<()> {
    match (path, is_whole) {
        // As Go's server does: it half closes, and closes a moment after.
        ("early", _) => {
            say(stream, "413 Request Entity Too Large", r#"{"errors":["http: request body too large"]}"#)?;
            stream.shutdown(Shutdown::Write)?;
            std::io::copy(&mut stream.take(8 * 1024 * 1024), &mut std::io::sink())?;
        }
        ("unknown", true) => {
            say(stream, "403 Forbidden", r#"{"errors":["permission denied","invalid token"]}"#)?
        }
        ("gone", _) | (_, false) => {}
        ("headers", true) => {
            // Whose token it is, is nothing to give back.
            let shown = |line: &str| {
                if line.starts_with("x-vault-token:") { "x-vault-token: a" } else { line }.to_owned()
            };
            let head: Vec<String> = head.lines().map(shown).collect();
            let body = serde_json::json!({"data": {"head": head.join("\r\n")}}).to_string();
            answer(stream, "200 OK", OUT, &body)?;
        }
        (path, true) if path.starts_with("status-") => {
            // Not as JSON is written by us: what comes back is what was sent.
            say(stream, &path["status-".len()..], "{ \"errors\":[\"as it is\"],\n\"warnings\":[\"w\"] }")?;
        }
        (_, true) => say(stream, "200 OK", &format!("{{\"data\":{{\"bytes\":{bytes}}}}}"))?,
    }
    Ok(())
}

/// What Vault, or whoever stands before it, might add to an answer.
const OUT: &str = "X-Vault-Index: index\r\nETag: \"tag\"\r\nLast-Modified: then\r\nX-Vault-Hostname: inside\r\nSet-Cookie: a=b\r\n\
                   Location: http://elsewhere/\r\nStrict-Transport-Security: max-age=1\r\nX-Vault-Token: another\r\n";

fn say(stream: &TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    answer(stream, status, "", body)
}

fn answer(mut stream: &TcpStream, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())
}

fn length(head: &str) -> Option<usize> {
    let value = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok();
    head.lines().find_map(value)
}

/// Reads a body, of this length or in chunks, while it is wanted; whether it came to its end.
fn body(
    reader: &mut BufReader<&TcpStream>,
    length: Option<usize>,
    mut take: impl FnMut(&[u8]) -> bool,
) -> std::io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut left = match length {
            Some(length) => length,
            None => {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let Ok(size) = usize::from_str_radix(line.trim(), 16) else { return Ok(false) };
                size
            }
        };
        let is_last = left == 0 || length.is_some();
        while left > 0 {
            let at_once = left.min(buffer.len());
            let read = reader.read(&mut buffer[..at_once])?;
            if read == 0 || !take(&buffer[..read]) {
                return Ok(false);
            }
            left -= read;
        }
        if length.is_none() {
            reader.read_exact(&mut [0; 2])?;
        }
        if is_last {
            return Ok(true);
        }
    }
}
