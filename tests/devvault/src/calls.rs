//! The record of calls: what came, when, by which token (its accessor, never itself), and what was answered.

use std::fmt;

use bytes::Bytes;
use http::Request;
use tokio::time::Instant;

use crate::ask::query_pairs;

/// One recorded call.
#[derive(Clone)]
pub struct Call {
    /// When its last byte had come, by tokio's clock.
    pub at: Instant,
    /// The method as sent.
    pub method: String,
    /// The path as sent, without `/v1/`.
    pub path: String,
    /// The query as sent, without `?`.
    pub query: String,
    /// `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// The accessor of a token that was live when the call came.
    pub accessor: Option<String>,
    /// The login role of that token.
    pub role: Option<String>,
    /// The `Content-Length` and so the size of the body, in bytes.
    pub body_len: usize,
    /// The status of the answer; `None` while it waits, and for ever when it never got one.
    pub status: Option<u16>,
    pub(crate) token: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Call {
    pub(crate) fn of(request: &Request<Bytes>, at: Instant) -> Call {
        let header =
            |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
        let path = request.uri().path();
        let bearer = header("authorization").and_then(|v| v.strip_prefix("Bearer ").map(str::to_string));
        let headers = request.headers().iter();
        Call {
            at,
            method: request.method().as_str().to_string(),
            path: path.strip_prefix("/v1/").unwrap_or(path).to_string(),
            query: request.uri().query().unwrap_or_default().to_string(),
            namespace: header("x-vault-namespace"),
            accessor: None,
            role: None,
            body_len: request.body().len(),
            status: None,
            token: header("x-vault-token").filter(|t| !t.is_empty()).or(bearer),
            headers: headers
                .map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into()))
                .collect(),
        }
    }

    /// Whether the call carried exactly this token.
    pub fn carried(&self, token: &str) -> bool {
        self.token.as_deref() == Some(token)
    }

    /// Whether the call carried any token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// A request header, by its lower-case name; tokens are not given.
    pub fn header(&self, name: &str) -> Option<&str> {
        if matches!(name, "x-vault-token" | "authorization") {
            return None;
        }
        self.headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        query_pairs(&self.query).into_iter().find(|(k, _)| k == name).map(|(_, v)| v)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let by = self.role.as_deref().or(self.accessor.as_deref()).unwrap_or("nobody");
        let status = self.status.map_or("-".to_string(), |s| s.to_string());
        write!(f, "{} {}{query} by {by} -> {status}", self.method, self.path)
    }
}
