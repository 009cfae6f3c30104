//! One request as Vault understands it: operation, path without `/v1/`, parameters, token. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Map, Value};

use crate::duration;
use crate::outcome::Outcome;

/// What a request wants to do, after `?list=true` and PUT/POST are made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Read,
    List,
    Write,
    Patch,
    Delete,
}

/// A parsed request.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) verb: Verb,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) token: Option<String>,
    pub(crate) wrap_ttl: Option<Duration>,
    pub(crate) body: Map<String, Value>,
}

impl Ask {
    /// Parses; a refusal is already the answer.
    pub(crate) fn parse(request: &Request<Bytes>) -> Result<Ask, Outcome> {
        let raw = request.uri().path();
        let path = raw.strip_prefix("/v1/").ok_or_else(Outcome::no_page)?;
        if raw.contains("//") || raw.split('/').any(|s| s == "." || s == "..") {
            return Err(Outcome::Fail(307, Vec::new(), vec![("location", cleaned(raw))]));
        }
        let path = percent_decoded(path).ok_or_else(|| Outcome::bad("invalid URL escape"))?;
        let query = query_pairs(request.uri().query().unwrap_or_default());
        let listing = match query.iter().find(|(k, _)| k == "list").map(|(_, v)| v.as_str()) {
            None | Some("") => false,
            Some(text) if go_true(text) => true,
            Some(text) if go_false(text) => false,
            Some(_) => return Err(Outcome::fail(400, &[])),
        };
        let verb = match request.method() {
            &Method::GET if listing => Verb::List,
            &Method::GET => Verb::Read,
            &Method::HEAD if path == "sys/health" => Verb::Read,
            &Method::HEAD | &Method::OPTIONS => return Err(Outcome::unsupported()),
            &Method::POST | &Method::PUT => Verb::Write,
            &Method::DELETE => Verb::Delete,
            &Method::PATCH => Verb::Patch,
            other if other.as_str() == "LIST" => Verb::List,
            _ => return Err(Outcome::fail(405, &[])),
        };
        let header =
            |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
        let bearer = header("authorization").and_then(|v| v.strip_prefix("Bearer ").map(str::to_string));
        let token = header("x-vault-token").filter(|t| !t.is_empty()).or(bearer);
        let wrap_ttl = header("x-vault-wrap-ttl").and_then(|v| duration::parse(&v)).filter(|d| !d.is_zero());
        let body = match verb {
            Verb::Write | Verb::Patch => body_fields(request.body())?,
            _ => Map::new(),
        };
        let path = if verb == Verb::List && !path.ends_with('/') { format!("{path}/") } else { path };
        Ok(Ask { verb, path, query, token, wrap_ttl, body })
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.body.get(key).and_then(Value::as_str).filter(|t| !t.is_empty())
    }

    /// A duration field of the body; absent, unreadable and zero are all `None`.
    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        self.body.get(key).and_then(duration::read).filter(|d| !d.is_zero())
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.body.get(key).and_then(|v| v.as_u64().or_else(|| v.as_str().and_then(|t| t.parse().ok())))
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.body.get(key).and_then(|v| v.as_bool().or_else(|| v.as_str().map(go_true)))
    }

    /// A list field: a JSON array of strings, or one string with commas.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<String>> {
        match self.body.get(key)? {
            Value::Array(items) => Some(items.iter().filter_map(Value::as_str).map(str::to_string).collect()),
            Value::String(text) => Some(comma_parts(text)),
            _ => None,
        }
    }

    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// A path without empty and dotted segments, as Go's server redirects to.
fn cleaned(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

fn comma_parts(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_string).collect()
}

fn body_fields(body: &Bytes) -> Result<Map<String, Value>, Outcome> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(Outcome::bad("error parsing JSON: failed to parse JSON input")),
        // Go's decoder names the character; that Vault says 500 here is what a client sees.
        Err(_) => Err(Outcome::fail(500, &["invalid character looking for beginning of value"])),
    }
}

fn go_false(text: &str) -> bool {
    matches!(text, "0" | "f" | "F" | "false" | "FALSE" | "False")
}

/// The spellings of true that Go's `strconv.ParseBool` takes.
fn go_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|pair| {
            let (k, v) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |s: &str| percent_decoded(&s.replace('+', " ")).unwrap_or_default();
            (plain(k), plain(v))
        })
        .collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}
