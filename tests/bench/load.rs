//! A closed loop of HTTP/1.1 requests over a Unix socket: each connection asks again once it is answered.
//!
//! One thread, no HTTP library: bytes that are ready to be sent, and as little reading of the answer as finds its end. A pass
//! takes about a third of what the agent takes, so the agent is what is measured.

use super::{Outcome, process::Process, table::rate};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    fmt,
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

/// A half and all but a hundredth took no longer than this.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

impl Times {
    pub(super) fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |hundredth: usize| all.get(all.len() * hundredth / 100).copied().unwrap_or_default();
        Self { p50: at(50), p99: at(99) }
    }
}

/// What one run gave.
pub(super) struct Load {
    answers: usize,
    span: Duration,
    /// Processor time of the one that answered.
    cpu: Duration,
    pub(super) times: Times,
}

impl Load {
    /// Answers a second.
    pub(super) fn rate(&self) -> f64 {
        self.answers as f64 / self.span.as_secs_f64()
    }
}

impl Load {
    /// Processor time of whoever answered, for one answer.
    pub(super) fn cpu_each(&self) -> Duration {
        self.cpu / u32::try_from(self.answers.max(1)).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let cpu = micros(self.cpu) / self.answers.max(1) as f64;
        write!(
            f,
            "{}, p50 {:.0} us, p99 {:.0} us",
            rate(self.rate()),
            micros(self.times.p50),
            micros(self.times.p99)
        )?;
        write!(f, ", {cpu:.1} us CPU each")
    }
}

/// How the first request of a connection is asked.
#[derive(Clone, Copy)]
pub(super) enum First {
    Plain,
    /// With the nonce that is asked for before.
    Challenged,
}

struct Connection {
    stream: UnixStream,
    sent: Instant,
    answer: Vec<u8>,
    /// The only status that is an answer.
    wanted: u16,
}

impl Connection {
    fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.sent = Instant::now();
        self.stream.write_all(request)
    }

    /// Has the first request answered.
    fn begin(&mut self, first: First, request: &[u8]) -> Outcome<()> {
        match first {
            First::Plain => self.ask(request)?,
            First::Challenged => {
                self.ask(b"GET /challenge HTTP/1.1\r\nHost: claviger\r\n\r\n")?;
                let mut buffer = [0; 1024];
                let read = self.stream.read(&mut buffer)?;
                let told = std::str::from_utf8(buffer.get(..read).unwrap_or_default())?;
                let nonce = told.split_once("\"nonce\":\"").and_then(|(_, after)| after.split_once('"'));
                let (nonce, _) = nonce.ok_or_else(|| format!("no nonce: {told:?}"))?;
                let head = request.strip_suffix(b"\r\n").ok_or("a request without an end")?;
                let asked = [head, b"Claviger-Nonce: ", nonce.as_bytes(), b"\r\n\r\n"].concat();
                self.ask(&asked)?;
            }
        }
        while !self.read()? {}
        Ok(())
    }

    /// Reads once, which must not wait; whether the answer is whole now.
    fn read(&mut self) -> Outcome<bool> {
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            return Err("a connection was closed under load".into());
        }
        self.answer.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let whole = is_whole(&self.answer, self.wanted)?;
        if whole {
            self.answer.clear();
        }
        Ok(whole)
    }
}

/// Whether `answer` has all of its body.
fn is_whole(answer: &[u8], wanted: u16) -> Outcome<bool> {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(false) };
    let (head, rest) = answer.split_at(end);
    if !head.starts_with(format!("HTTP/1.1 {wanted}").as_bytes()) {
        return Err(format!("not a {wanted} under load: {:?}", String::from_utf8_lossy(answer)).into());
    }
    let head = std::str::from_utf8(head)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) => Ok(rest.len() >= 4 + length),
        // Chunked, then.
        None => Ok(rest.ends_with(b"0\r\n\r\n")),
    }
}

/// Opens connections and has one request answered on each.
pub(super) fn open(socket: &Path, request: &[u8], count: usize) -> Outcome<Vec<UnixStream>> {
    let connections = connect(socket, count)?.into_iter().map(|mut connection| {
        connection.begin(First::Plain, request)?;
        Ok(connection.stream)
    });
    connections.collect()
}

fn connect(socket: &Path, count: usize) -> io::Result<Vec<Connection>> {
    let connection = |_| {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Connection { stream, sent: Instant::now(), answer: Vec::new(), wanted: 200 })
    };
    (0..count).map(connection).collect()
}

/// Asks on `count` connections for the second of two times, after the first of them to warm up.
pub(super) fn run(
    socket: &Path,
    request: &[u8],
    count: usize,
    (warm, span): (Duration, Duration),
    process: &Process,
) -> Outcome<Load> {
    run_on(connect(socket, count)?, request, (warm, span), process)
}

/// The same, where each request is refused with 403.
pub(super) fn refused(
    socket: &Path,
    request: &[u8],
    count: usize,
    spans: (Duration, Duration),
    process: &Process,
) -> Outcome<Load> {
    let mut connections = connect(socket, count)?;
    connections.iter_mut().for_each(|connection| connection.wanted = 403);
    run_on(connections, request, spans, process)
}

/// The same on connections of which the first request is asked like this.
pub(super) fn kept(
    socket: &Path,
    request: &[u8],
    (count, first): (usize, First),
    spans: (Duration, Duration),
    process: &Process,
) -> Outcome<Load> {
    let mut connections = connect(socket, count)?;
    for connection in &mut connections {
        connection.begin(first, request)?;
    }
    run_on(connections, request, spans, process)
}

fn run_on(
    mut connections: Vec<Connection>,
    request: &[u8],
    (warm, span): (Duration, Duration),
    process: &Process,
) -> Outcome<Load> {
    let mut loop_for = |time| match connections.as_mut_slice() {
        [one] => alone(one, request, time),
        many => together(many, request, time),
    };
    loop_for(warm)?;
    let (started, before) = (Instant::now(), process.cpu()?);
    let times = loop_for(span)?;
    let (span, cpu) = (started.elapsed(), process.cpu()?.saturating_sub(before));
    Ok(Load { answers: times.len(), span, cpu, times: Times::of(times) })
}

/// Connects anew for each request, which is asked like this, for the second of two times.
pub(super) fn fresh(
    socket: &Path,
    request: &[u8],
    first: First,
    (warm, span): (Duration, Duration),
    process: &Process,
) -> Outcome<Load> {
    let loop_for = |time: Duration| -> Outcome<Vec<Duration>> {
        let (started, mut times) = (Instant::now(), Vec::with_capacity(1 << 18));
        while started.elapsed() < time {
            let asked = Instant::now();
            for mut connection in connect(socket, 1)? {
                connection.begin(first, request)?;
            }
            times.push(asked.elapsed());
        }
        Ok(times)
    };
    loop_for(warm)?;
    let (started, before) = (Instant::now(), process.cpu()?);
    let times = loop_for(span)?;
    let (span, cpu) = (started.elapsed(), process.cpu()?.saturating_sub(before));
    Ok(Load { answers: times.len(), span, cpu, times: Times::of(times) })
}

fn alone(connection: &mut Connection, request: &[u8], time: Duration) -> Outcome<Vec<Duration>> {
    let (started, mut times) = (Instant::now(), Vec::with_capacity(1 << 18));
    while started.elapsed() < time {
        connection.ask(request)?;
        while !connection.read()? {}
        times.push(connection.sent.elapsed());
    }
    Ok(times)
}

fn together(connections: &mut [Connection], request: &[u8], time: Duration) -> Outcome<Vec<Duration>> {
    let (started, mut times) = (Instant::now(), Vec::with_capacity(1 << 20));
    for connection in &mut *connections {
        connection.ask(request)?;
    }
    let mut waiting = connections.len();
    // At the end each connection is still answered, so that none is cut off.
    while waiting > 0 {
        let mut ready: Vec<_> =
            connections.iter().map(|one| PollFd::new(one.stream.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut ready, PollTimeout::from(10_000_u16))?;
        let ready: Vec<bool> = ready.iter().map(|one| one.any().unwrap_or_default()).collect();
        let over = started.elapsed() >= time;
        for (connection, _) in connections.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            if !connection.read()? {
                continue;
            }
            times.push(connection.sent.elapsed());
            if over {
                waiting -= 1;
            } else {
                connection.ask(request)?;
            }
        }
    }
    Ok(times)
}
