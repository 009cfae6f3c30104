//! What of a client's request goes on: its form checked, and everything dropped that the client may not say.
//!
//! Pure. Decides nothing by who asks, and does not look at bodies.

use super::{Ranges, Settings, fault::Fault, hop};
use crate::policy::upstream::decoded;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts};

/// The longest target, in bytes.
const LONGEST_TARGET: usize = 8 * 1024;
/// The most fields of a head.
const FIELDS: usize = 64;
/// How many dropped names an event has.
const NAMED: usize = 16;

/// Never sent on, whoever says them, beside what frames or routes a message: what would be a credential, what would have a server
/// take the request for another one. Compared with `_` as `-`.
const DROPPED: &[&str] = &[
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-auth-token",
    "private-token",
    "job-token",
    "x-amz-security-token",
    "x-amz-date",
    "x-amz-content-sha256",
    "forwarded",
    "x-real-ip",
    "via",
    "x-original-url",
    "x-rewrite-url",
    "x-method-override",
    "max-forwards",
    "accept-encoding",
    "accept-charset",
    "referer",
    "x-original-method",
    "claviger-nonce",
];
/// The same, unless the upstream's config allows them.
const RANGES: &[HeaderName] = &[header::RANGE, header::IF_RANGE];
/// The same, for all names that begin so.
const DROPPED_FAMILIES: &[&str] =
    &["proxy-", "cookie", "x-vault-", "x-claviger-", "x-forwarded-", "x-http-method"];
/// Dropped so usually that no event says it.
const USUAL: &[&str] =
    &["host", "connection", "keep-alive", "content-length", "transfer-encoding", "accept-encoding", "expect"];
/// Sent on in strict mode too.
const DESCRIBING: &[HeaderName] = &[header::CONTENT_TYPE, header::CONTENT_ENCODING, header::ACCEPT];

/// Refuses what two servers could read differently, what is no plain request, and methods that no upstream gets.
///
/// # Errors
/// [`Fault`].
pub fn check(head: &Parts) -> Result<(), Fault> {
    if !matches!(
        head.method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS
    ) {
        return Err(Fault::MethodDenied);
    }
    let uri = &head.uri;
    if uri.scheme().is_some() || uri.authority().is_some() || !uri.path().starts_with('/') {
        return Err(Fault::BadTarget);
    }
    if uri.path().len() + uri.query().map_or(0, str::len) > LONGEST_TARGET {
        return Err(Fault::TargetTooLong);
    }
    if head.headers.len() > FIELDS {
        return Err(Fault::HeadTooLarge);
    }
    if head.version != Version::HTTP_11 {
        return Err(Fault::BadFraming);
    }
    let headers = &head.headers;
    if headers.contains_key(header::UPGRADE) {
        return Err(Fault::UpgradeUnsupported);
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => {}
        _ => return Err(Fault::BadFraming),
    }
    if named(headers).any(|name| ["host", "content-length", "transfer-encoding"].contains(&&*name)) {
        return Err(Fault::BadHeader);
    }
    check_query(uri.query())
}

/// Whether a query can be read in one way only, and asks for no other method.
fn check_query(query: Option<&str>) -> Result<(), Fault> {
    let Some(query) = query else { return Ok(()) };
    if !query.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b';' | b'\\' | b'#')) {
        return Err(Fault::BadQuery);
    }
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name).ok_or(Fault::BadQuery)?;
        decoded(value).ok_or(Fault::BadQuery)?;
        if name.eq_ignore_ascii_case("_method") {
            return Err(Fault::BadQuery);
        }
    }
    Ok(())
}

/// The names in a query, decoded, each once: what events say of it.
#[must_use]
pub fn query_names(query: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let name = decoded(pair.split('=').next().unwrap_or_default()).unwrap_or_default();
        let name: String = name.chars().take(64).collect();
        if !names.contains(&name) && names.len() < NAMED {
            names.push(name);
        }
    }
    names
}

/// The headers that `Connection` names, in lower case.
fn named(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase())
}

/// Which headers an upstream is sent.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// The one that the key is put into.
    pub slot: Option<&'a HeaderName>,
    /// The only others, if there are any.
    pub allow: Option<&'a [HeaderName]>,
    /// Whether parts may be asked for.
    pub ranges: Ranges,
}

impl<'a> Selection<'a> {
    /// That of `settings`.
    #[must_use]
    pub fn of(settings: &'a Settings) -> Self {
        let Settings { slot, allow_headers, ranges, .. } = settings;
        Self { slot: slot.header(), allow: allow_headers.as_deref(), ranges: *ranges }
    }
}

/// The headers that are sent on, and the names of those that are not, for the event.
#[must_use]
pub fn headers(headers: &HeaderMap, selection: Selection<'_>) -> (HeaderMap, Vec<String>) {
    let Selection { slot, allow, ranges } = selection;
    let hop: Vec<String> = named(headers).collect();
    let (mut kept, mut dropped) = (HeaderMap::with_capacity(headers.len()), Vec::new());
    for (name, value) in headers {
        let plain = name.as_str().replace('_', "-");
        let is_slot = slot.is_some_and(|slot| slot.as_str().replace('_', "-") == plain);
        let is_range = RANGES.iter().any(|range| range.as_str() == plain);
        let is_allowed = || match is_range {
            true => ranges == Ranges::Allowed && RANGES.contains(name),
            false => allow.is_none_or(|allow| allow.contains(name) || DESCRIBING.contains(name)),
        };
        let goes = !is_slot
            && !hop::frames_or_routes(&plain)
            && !DROPPED.contains(&&*plain)
            && !DROPPED_FAMILIES.iter().any(|family| plain.starts_with(family))
            && !hop.contains(&name.as_str().to_owned())
            && is_allowed();
        if goes {
            kept.append(name, value.clone());
        } else if !USUAL.contains(&&*plain) && dropped.len() < NAMED && !dropped.contains(&plain) {
            dropped.push(plain);
        }
    }
    kept.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    (kept, dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_request(method: &str, uri: &str, given: &[(&str, &str)], expected: Result<(), Fault>) {
        let mut builder = http::Request::builder().method(method).uri(uri);
        for (name, value) in given {
            builder = builder.header(*name, *value);
        }
        let (head, ()) = builder.body(()).unwrap().into_parts();
        assert_eq!(check(&head), expected, "{method} {uri} {given:?}");
    }

    #[test]
    fn only_plain_requests_go_on() {
        check_request("GET", "/a?b=c", &[("transfer-encoding", "chunked")], Ok(()));
        check_request("GET", "http://evil/a", &[], Err(Fault::BadTarget));
        check_request("OPTIONS", "*", &[], Err(Fault::BadTarget));
        check_request("CONNECT", "evil:443", &[], Err(Fault::MethodDenied));
        check_request("TRACE", "/", &[], Err(Fault::MethodDenied));
        check_request("get", "/", &[], Err(Fault::MethodDenied));
        for coding in ["gzip, chunked", "chunked, chunked", "identity", "xchunked"] {
            check_request("POST", "/", &[("transfer-encoding", coding)], Err(Fault::BadFraming));
        }
        check_request("GET", "/", &[("upgrade", "h2c")], Err(Fault::UpgradeUnsupported));
        check_request("GET", "/", &[("connection", "close, Host")], Err(Fault::BadHeader));
        check_request("GET", "/", &[("connection", "x-api-key")], Ok(()));
        check_request("GET", &format!("/{}", "x".repeat(8192)), &[], Err(Fault::TargetTooLong));
        check_request("GET", "/", &[("x-a", "1"); 65], Err(Fault::HeadTooLarge));
    }

    #[test]
    fn a_query_is_read_in_one_way() {
        for bad in ["/?%zz=1", "/?a=%4", "/?a;b=1", "/?_method=DELETE", "/?_METHOD=x", "/?%5fmethod=x"] {
            check_request("GET", bad, &[], Err(Fault::BadQuery));
        }
        check_request("GET", "/?a=1+2&b&c=%3B", &[], Ok(()));
        assert_eq!(query_names(Some("b=1&a=2&%62=3&&c")), ["b", "a", "c"]);
    }

    #[track_caller]
    fn check_headers(given: &[(&str, &str)], allow: Option<&[HeaderName]>, kept: &[&str], dropped: &[&str]) {
        check_selection(given, (allow, Ranges::Denied), kept, dropped);
    }

    #[track_caller]
    fn check_selection(
        given: &[(&str, &str)],
        (allow, ranges): (Option<&[HeaderName]>, Ranges),
        kept: &[&str],
        dropped: &[&str],
    ) {
        let map: HeaderMap = given
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let slot = HeaderName::from_static("x-key");
        let (found, names) = headers(&map, Selection { slot: Some(&slot), allow, ranges });
        let found: Vec<_> =
            found.keys().map(HeaderName::as_str).filter(|name| *name != "accept-encoding").collect();
        assert_eq!((found, names), (kept.to_vec(), dropped.iter().map(|name| (*name).to_owned()).collect()));
    }

    #[test]
    fn what_the_client_may_not_say_is_dropped() {
        check_headers(
            &[
                ("Authorization", "x"),
                ("anthropic-version", "1"),
                ("x_api_key", "x"),
                ("X-Key", "x"),
                ("x_key", "x"),
                ("cookie2", "x"),
            ],
            None,
            &["anthropic-version"],
            &["authorization", "x-api-key", "x-key", "cookie2"],
        );
        check_headers(
            &[
                ("host", "evil"),
                ("connection", "x-secret, close"),
                ("x-secret", "1"),
                ("x-http-method-override", "DELETE"),
                ("user-agent", "u"),
            ],
            None,
            &["user-agent"],
            &["x-secret", "x-http-method-override"],
        );
        check_headers(
            &[("x-forwarded-for", "1"), ("range", "bytes=1-"), ("te", "trailers")],
            None,
            &[],
            &["x-forwarded-for", "range", "te"],
        );
    }

    #[test]
    fn a_part_is_asked_for_where_the_upstream_s_config_says_so() {
        let given = [("range", "bytes=1-"), ("if-range", "\"a\""), ("if_range", "x"), ("x-b", "1")];
        check_selection(&given, (None, Ranges::Allowed), &["range", "if-range", "x-b"], &["if-range"]);
        check_selection(&given, (Some(&[]), Ranges::Allowed), &["range", "if-range"], &["if-range", "x-b"]);
        check_selection(&given, (Some(RANGES), Ranges::Denied), &[], &["range", "if-range", "x-b"]);
    }

    #[test]
    fn in_strict_mode_only_what_is_allowed_goes_on() {
        let allow = [HeaderName::from_static("x-a"), header::AUTHORIZATION];
        check_headers(
            &[("x-a", "1"), ("x-b", "1"), ("authorization", "x"), ("content-type", "a/b")],
            Some(&allow),
            &["x-a", "content-type"],
            &["x-b", "authorization"],
        );
    }
}
