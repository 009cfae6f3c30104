//! A way to Vault that a test can hold up at one write: the write is done, its writer hears nothing of it, and of nothing after it.
//! Plain HTTP, one request a connection towards Vault. Knows of rotations only the phase in their journals.

use crate::rig::until;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// A proxy that runs as long as the tests do.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    vault: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The journal and the phase of it that are waited for.
    awaited: Option<(String, &'static str)>,
    /// Who wrote that, and hears nothing.
    held: Option<IpAddr>,
    /// The writes that Vault took, by path.
    written: BTreeMap<String, u32>,
    /// The runs and slots that the journals say are promoted.
    promoted: BTreeSet<(String, String)>,
}

/// One message.
struct Message {
    /// Its first line.
    line: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Proxy {
    /// Listens on `address`, for what asks `vault`.
    pub(crate) fn start(address: Ipv4Addr, vault: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { vault, state: Mutex::default(), changed: Condvar::new() });
        let of_all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_all);
                // Whoever hangs up in the middle is no concern of the others.
                thread::spawn(move || shared.serve(stream));
            }
        });
        Proxy { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds whoever writes next into the journal at `path` that its run is in `phase`, as soon as Vault has it.
    pub(crate) fn hold(&self, path: &str, phase: &'static str) {
        self.shared.state().awaited = Some((format!("/v1/{path}"), phase));
    }

    /// Whoever is held.
    pub(crate) fn held(&self) -> IpAddr {
        until("somebody who writes that phase", || self.shared.state().held)
    }

    /// Nobody is held any more.
    pub(crate) fn release(&self) {
        self.shared.state().held = None;
        self.shared.changed.notify_all();
    }

    /// How often Vault took a write to `path`.
    pub(crate) fn written(&self, path: &str) -> u32 {
        self.shared.state().written.get(&format!("/v1/{path}")).copied().unwrap_or_default()
    }

    /// The runs that were promoted, each with its slot.
    pub(crate) fn promoted(&self) -> BTreeSet<(String, String)> {
        self.shared.state().promoted.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what comes over one connection, until it ends or its client is held.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let client = stream.peer_addr()?.ip();
        let (mut read, mut write) = (BufReader::new(stream.try_clone()?), stream);
        while let Some(request) = Message::read(&mut read)? {
            if self.wait_while_held(client) {
                return Ok(());
            }
            let answer = self.ask(&request)?;
            self.note(client, &request, &answer);
            if self.wait_while_held(client) {
                return Ok(());
            }
            write.write_all(&answer.bytes())?;
        }
        Ok(())
    }

    /// Whether `client` was held, and so must not hear any more on this connection.
    fn wait_while_held(&self, client: IpAddr) -> bool {
        let mut state = self.state();
        let was_held = state.held == Some(client);
        while state.held == Some(client) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        was_held
    }

    fn ask(&self, request: &Message) -> io::Result<Message> {
        let mut vault = TcpStream::connect(self.vault)?;
        let request = Message {
            line: request.line.replace("HTTP/1.1", "HTTP/1.0"),
            headers: request.headers.clone(),
            body: request.body.clone(),
        };
        vault.write_all(&request.bytes())?;
        let mut answer = Message::whole(&mut BufReader::new(vault))?.ok_or(io::ErrorKind::UnexpectedEof)?;
        answer.line = answer.line.replace("HTTP/1.0", "HTTP/1.1");
        Ok(answer)
    }

    fn note(&self, client: IpAddr, request: &Message, answer: &Message) {
        let mut words = request.line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !matches!(method, "POST" | "PUT") || !answer.line.contains(" 200 ") {
            return;
        }
        let mut state = self.state();
        *state.written.entry(path.to_owned()).or_default() += 1;
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let journal = &body["data"]["journal"];
        let text = |key: &str| journal[key].as_str().unwrap_or_default().to_owned();
        if text("phase") == "promoted" {
            state.promoted.insert((text("rotation_id"), text("slot_time")));
        }
        let is_it = |(awaited, phase): &(String, &str)| awaited == path && text("phase") == *phase;
        // What gives the journal back is the last of its phase: whoever is held still has it.
        if state.awaited.as_ref().is_some_and(is_it) && journal["holder"].is_string() {
            state.awaited = None;
            state.held = Some(client);
        }
    }
}

impl Message {
    /// The next one with its body, if there is one.
    fn read(from: &mut impl io::BufRead) -> io::Result<Option<Message>> {
        let Some(mut message) = Message::lines(from)? else { return Ok(None) };
        let length = |line: &String| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        };
        let length = message.headers.iter().find_map(length).unwrap_or_default();
        message.body = vec![0; length];
        from.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    /// One that ends with its connection.
    fn whole(from: &mut impl io::BufRead) -> io::Result<Option<Message>> {
        let Some(mut message) = Message::lines(from)? else { return Ok(None) };
        from.read_to_end(&mut message.body)?;
        Ok(Some(message))
    }

    fn lines(from: &mut impl io::BufRead) -> io::Result<Option<Message>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            lines.push(line.to_owned());
        }
        let line = if lines.is_empty() { String::new() } else { lines.remove(0) };
        Ok(Some(Message { line, headers: lines, body: Vec::new() }))
    }

    fn bytes(&self) -> Vec<u8> {
        let framing = ["content-length", "connection", "transfer-encoding"];
        let kept = |line: &&String| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !framing.contains(&name.as_str())
        };
        let mut head = format!("{}\r\n", self.line);
        for line in self.headers.iter().filter(kept) {
            head += &format!("{line}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", self.body.len());
        [head.as_bytes(), &self.body].concat()
    }
}
