//! A blocking client for Vault's API over plain HTTP on the loopback, for tests that prepare and question a server.
//! No TLS, no redirects, no connection reuse: it speaks HTTP/1.0, so an answer ends with its connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Calls one Vault with one token. It holds the token readable, which only a test server's may be.
#[derive(Debug, Clone)]
pub struct Client {
    addr: SocketAddr,
    token: Option<String>,
}

/// What Vault answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; `Null` when there was none or when it is not JSON.
    pub body: Value,
    what: String,
}

impl Answer {
    /// The body of a 2xx answer.
    ///
    /// # Panics
    /// On any other status, with the request and Vault's errors.
    #[track_caller]
    pub fn expect_success(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {} {}", self.what, self.status, self.body);
        self.body
    }
}

impl Client {
    pub(crate) fn new(addr: SocketAddr, token: Option<&str>) -> Client {
        Client { addr, token: token.map(str::to_owned) }
    }

    /// Reads `path`, which stands after `/v1/` and may carry a query. This and all the others panic when the server cannot be reached.
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    /// Lists `path`.
    pub fn list(&self, path: &str) -> Answer {
        self.call("LIST", path, None)
    }

    /// Deletes `path`.
    pub fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None)
    }

    /// Posts `body` to `path`.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, Some(body))
    }

    /// Puts `body` at `path`; for Vault the same as `post`.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, Some(body))
    }

    /// One call of any method.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let what = format!("{method} /v1/{path}");
        self.try_call(method, path, body).unwrap_or_else(|error| panic!("{what} at {}: {error}", self.addr))
    }

    /// As [`Client::call`], for a server that may be away. Waits at most 30 s for an answer.
    pub fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        let limit = Duration::from_secs(30);
        let mut stream = TcpStream::connect_timeout(&self.addr, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head =
            format!("{method} /v1/{path} HTTP/1.0\r\nHost: {}\r\nX-Vault-Request: true\r\n", self.addr);
        if let Some(token) = &self.token {
            head += &format!("X-Vault-Token: {token}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes())?;
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw)?;
        let nonsense = || std::io::Error::other(format!("not HTTP: {:?}", String::from_utf8_lossy(&raw)));
        let end = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or_else(nonsense)?;
        let (head, rest) = raw.split_at(end);
        let status = String::from_utf8_lossy(head).split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok(Answer {
            status: status.ok_or_else(nonsense)?,
            body: serde_json::from_slice(rest).unwrap_or_default(),
            what: format!("{method} /v1/{path}"),
        })
    }
}
