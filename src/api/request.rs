//! What a request line and its headers say, as typed values, or what is wrong with them.
//!
//! Pure. Does not read bodies. What a client says about itself (`X-Vault-Token`, `Authorization`, `Host` and the like) is
//! not read anywhere.

use super::bad::Bad;
use crate::{
    access::{Form, Read},
    name::SecretName,
};
use http::{HeaderMap, Uri, header};
use std::{borrow::Cow, time::Duration};

/// The longest that a request may wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// The native routes that are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/secrets`
    Secrets,
    /// `/secrets/NAME`; `None` for a name that no secret can have.
    Secret(Option<SecretName>),
    /// `/secrets/NAME/ack`
    Ack(Option<SecretName>),
    /// `/watch`
    Watch,
    /// `/whoami`
    WhoAmI,
    /// `/challenge`
    Challenge,
    /// `/approvals/ID`
    Approval(String),
    /// `/break-glass/RULE`
    BreakGlass(String),
}

/// Which route the path is.
pub(super) fn route(uri: &Uri) -> Result<Route, Bad> {
    let path = decode(uri.path())?;
    let Some(path) = path.strip_prefix('/') else {
        return Err(Bad::request("the path must begin with /"));
    };
    if path.contains("//") || path.starts_with('/') {
        return Err(Bad::request("the path has an empty segment"));
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(Bad::request("the path has a segment . or .."));
    }
    let mut segments = path.split('/');
    let route = (segments.next(), segments.next(), segments.next(), segments.next());
    match route {
        (Some("secrets"), None, ..) => Ok(Route::Secrets),
        (Some("watch"), None, ..) => Ok(Route::Watch),
        (Some("whoami"), None, ..) => Ok(Route::WhoAmI),
        (Some("challenge"), None, ..) => Ok(Route::Challenge),
        (Some("approvals"), Some(id), None, _) if !id.is_empty() => Ok(Route::Approval(id.to_owned())),
        (Some("break-glass"), Some(rule), None, _) if !rule.is_empty() => {
            Ok(Route::BreakGlass(rule.to_owned()))
        }
        (Some("secrets"), Some(name), None, _) if !name.is_empty() => {
            Ok(Route::Secret(SecretName::new(name).ok()))
        }
        (Some("secrets"), Some(name), Some("ack"), None) => Ok(Route::Ack(SecretName::new(name).ok())),
        _ => Err(Bad::NoRoute),
    }
}

/// How a value is asked for: `wait`, `since`, `versions`, `Accept`, `If-None-Match`.
pub(super) fn read(uri: &Uri, headers: &HeaderMap) -> Result<Read, Bad> {
    let mut read = Read { known: known(headers), ..Read::default() };
    let mut versions = None;
    for (key, value) in query(uri)? {
        match &*key {
            "wait" if read.wait.is_none() => read.wait = Some(wait(&value)?),
            "since" if read.since.is_none() => read.since = Some(value.trim_matches('"').to_owned()),
            "versions" if versions.is_none() => versions = Some(form(&value)?),
            "wait" | "since" | "versions" => {
                return Err(Bad::request("a key of the query is there twice"));
            }
            _ => return Err(Bad::request("the query may have wait, since and versions")),
        }
    }
    read.form = match (prefers_plain(headers), versions) {
        (true, Some(Form::JsonWithPrevious)) => {
            return Err(Bad::request("text/plain gives one value; leave versions out"));
        }
        (true, _) => Form::Plain,
        (false, versions) => versions.unwrap_or_default(),
    };
    Ok(read)
}

/// Refuses any query, for routes that have none.
pub(super) fn no_query(uri: &Uri) -> Result<(), Bad> {
    match query(uri)?.first() {
        None => Ok(()),
        Some(_) => Err(Bad::request("this route has no query")),
    }
}

/// Decodes percent-encoding once. What could mean one thing to us and another to a server behind us is refused.
fn decode(text: &str) -> Result<Cow<'_, str>, Bad> {
    if text.contains(';') {
        return Err(Bad::request("; may not stand in a path or query"));
    }
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(Bad::request("% must be followed by two hexadecimal digits"));
        };
        match u8::try_from(high * 16 + low) {
            Ok(b'/' | b'%' | b';' | b'\\') => {
                return Err(Bad::request("/ % ; \\ may not be percent-encoded"));
            }
            Ok(control) if control.is_ascii_control() => {
                return Err(Bad::request("control characters may not be percent-encoded"));
            }
            Ok(byte) => decoded.push(byte),
            Err(_) => return Err(Bad::request("% must be followed by two hexadecimal digits")),
        }
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Bad::request("the path or query is not UTF-8"))
}

pub(super) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

pub(super) fn query(uri: &Uri) -> Result<Vec<Pair<'_>>, Bad> {
    let Some(query) = uri.query() else { return Ok(Vec::new()) };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| Ok((decode(k)?, decode(v)?)))
        .collect()
}

fn wait(text: &str) -> Result<Duration, Bad> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Some(Duration::from_millis(1)),
        "s" => Some(Duration::from_secs(1)),
        "m" => Some(Duration::from_secs(60)),
        _ => None,
    };
    let time = unit.zip(number.parse().ok()).and_then(|(unit, number)| unit.checked_mul(number));
    match time {
        Some(time) if time <= LONGEST_WAIT => Ok(time),
        _ => Err(Bad::request("wait must be a time such as 60s, and at most 5m")),
    }
}

fn form(versions: &str) -> Result<Form, Bad> {
    match versions {
        "current" => Ok(Form::Json),
        "current,previous" => Ok(Form::JsonWithPrevious),
        _ => Err(Bad::request("versions must be current or current,previous")),
    }
}

/// The tags of `If-None-Match`, weak or not: for a GET the two compare alike (RFC 9110 section 13.1.2).
fn known(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|tag| opaque(tag.trim()).to_owned()).collect()
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

/// Whether `text/plain` is named before JSON. `*/*` is not a wish for plain text.
fn prefers_plain(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut ranges = lines.flat_map(|line| line.split(',')).filter(|range| !is_refused(range));
    let named = ranges.find_map(|range| match media_type(range) {
        media if media.eq_ignore_ascii_case("text/plain") => Some(true),
        media if media.eq_ignore_ascii_case("application/json") => Some(false),
        _ => None,
    });
    named.unwrap_or_default()
}

fn media_type(range: &str) -> &str {
    range.split(';').next().unwrap_or_default().trim()
}

fn is_refused(range: &str) -> bool {
    let weight = range.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
    weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Option<SecretName> {
        Some(SecretName::new(name).unwrap())
    }

    #[track_caller]
    fn check(uri: &str, expected: Result<Route, &str>) {
        let found = route(&uri.parse().unwrap()).map_err(|bad| bad.text());
        assert_eq!(found, expected.map_err(str::to_owned), "{uri}");
    }

    #[test]
    fn paths_are_routes() {
        check("/secrets", Ok(Route::Secrets));
        check("/watch?names=stripe", Ok(Route::Watch));
        check("/whoami", Ok(Route::WhoAmI));
        check("/challenge", Ok(Route::Challenge));
        check("/secrets/stripe", Ok(Route::Secret(name("stripe"))));
        check("/secrets/str%69pe", Ok(Route::Secret(name("stripe"))));
        check("http://elsewhere/secrets/stripe?wait=1s", Ok(Route::Secret(name("stripe"))));
        check("/break-glass/emergency", Ok(Route::BreakGlass("emergency".into())));
        check("/secrets/orders-db/ack", Ok(Route::Ack(name("orders-db"))));
    }

    #[test]
    fn what_cannot_be_a_name_is_answered_like_an_unknown_one() {
        check("/secrets/UPPER", Ok(Route::Secret(None)));
        check("/secrets/a%20b", Ok(Route::Secret(None)));
        check(&format!("/secrets/{}", "x".repeat(64)), Ok(Route::Secret(None)));
    }

    #[test]
    fn what_is_not_built_is_no_route() {
        for path in ["/", "/secrets/", "/v1/secret/data/x", "/secrets/a/b", "/secrets/a/ack/", "/secretsx"] {
            check(path, Err("no such route"));
        }
    }

    #[test]
    fn paths_that_two_servers_could_read_differently_are_refused() {
        let encoded = "/ % ; \\ may not be percent-encoded";
        for path in
            ["/secrets/a%2fb", "/secrets/a%2Fack", "/secrets/%252e", "/secrets/a%3bb", "/secrets/a%5cb"]
        {
            check(path, Err(encoded));
        }
        for path in ["/secrets/../whoami", "/secrets/%2e%2e/whoami", "/./secrets", "/secrets/%2E"] {
            check(path, Err("the path has a segment . or .."));
        }
        check("/secrets//stripe", Err("the path has an empty segment"));
        check("//secrets", Err("the path has an empty segment"));
        check("/secrets/a;b", Err("; may not stand in a path or query"));
        check("/secrets/a%00", Err("control characters may not be percent-encoded"));
        check("/secrets/a%0a", Err("control characters may not be percent-encoded"));
        check("/secrets/a%7f", Err("control characters may not be percent-encoded"));
        for path in ["/secrets/a%", "/secrets/a%4", "/secrets/a%zz", "/secrets/a%+1"] {
            check(path, Err("% must be followed by two hexadecimal digits"));
        }
        check("/secrets/a%ff", Err("the path or query is not UTF-8"));
        check("*", Err("the path must begin with /"));
    }

    #[track_caller]
    fn check_read(query: &str, headers: &[(&'static str, &str)], expected: &str) {
        let map = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), header::HeaderValue::from_str(value).unwrap())
        });
        let found = read(&format!("/secrets/a{query}").parse().unwrap(), &map.collect());
        let found =
            found.map(|Read { form, known, wait, since }| format!("{form:?} {known:?} {wait:?} {since:?}"));
        assert_eq!(found.unwrap_or_else(|bad| bad.text()), expected, "{query} {headers:?}");
    }

    #[test]
    fn queries_say_how_to_read() {
        check_read("", &[], "Json [] None None");
        check_read("?", &[], "Json [] None None");
        check_read("?wait=60s&since=b-1", &[], "Json [] Some(60s) Some(\"b-1\")");
        check_read("?since=%22b-1%22&wait=500ms", &[], "Json [] Some(500ms) Some(\"b-1\")");
        check_read("?wait=5m&versions=current,previous", &[], "JsonWithPrevious [] Some(300s) None");
        check_read("?versions=current%2cprevious", &[], "JsonWithPrevious [] None None");
    }

    #[test]
    fn unknown_and_repeated_keys_are_refused() {
        check_read("?list=true", &[], "the query may have wait, since and versions");
        check_read("?wait=1s&wait=1s", &[], "a key of the query is there twice");
        check_read("?wait=1s&w%61it=1s", &[], "a key of the query is there twice");
        let wait = "wait must be a time such as 60s, and at most 5m";
        for bad in [
            "?wait",
            "?wait=",
            "?wait=60",
            "?wait=-1s",
            "?wait=301s",
            "?wait=6m",
            "?wait=99999999999999999999s",
        ] {
            check_read(bad, &[], wait);
        }
        check_read("?versions=previous", &[], "versions must be current or current,previous");
    }

    #[test]
    fn headers_say_how_to_read() {
        check_read("", &[("accept", "*/*")], "Json [] None None");
        check_read("", &[("accept", "text/plain")], "Plain [] None None");
        check_read("", &[("accept", "text/html, Text/Plain;q=0.5, */*")], "Plain [] None None");
        check_read("", &[("accept", "application/json, text/plain")], "Json [] None None");
        check_read("", &[("accept", "text/plain;q=0")], "Json [] None None");
        check_read("", &[("if-none-match", "\"a\", W/\"b\"")], "Json [\"a\", \"b\"] None None");
        check_read("", &[("if-none-match", "*")], "Json [\"*\"] None None");
        let both = [("accept", "text/plain")];
        check_read("?versions=current,previous", &both, "text/plain gives one value; leave versions out");
    }
}
