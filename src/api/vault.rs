//! Vault's own API: what a request for it says, as typed values, or what is wrong with it.
//!
//! Does not decide. A client's `X-Vault-Token`, `Authorization` and all other headers but a few are not looked at; what is malformed
//! becomes a wish too, so that it is on record as one that was refused.

use super::{
    bad::Bad,
    native::{Bound, content_length, whole},
};
use crate::{
    access::{Call, Control, Malformed, Operation, Path, Target, Wish, hold},
    upload::Upload,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Uri, header, request::Parts};
use hyper::body::Body;
use std::{error::Error, time::Duration};

/// Where it is.
pub(super) const ROOT: &str = "/v1/";
/// What of a client's headers goes on. None of them can say who asks, or change what is asked for.
const IN: [&str; 4] = ["content-type", "x-vault-index", "if-none-match", "if-modified-since"];
/// A body of so many bytes is held until it is known whole; a longer one is sent on as it comes.
const HELD: u64 = 256 * 1024;
const METHODS: &str = "GET, HEAD, LIST, POST, PUT, PATCH, DELETE";

/// Reads a request below [`ROOT`], whose body is within `bound`.
pub(super) async fn read<B>(head: Parts, body: B, bound: Bound) -> Result<Wish, Bad>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let asked = asked(&head.method, &head.uri, &head.headers);
    let (target, query) = match asked {
        Ok((target, query)) => (Ok(target), query),
        Err(malformed) => (Err(malformed), None),
    };
    let takes = target.as_ref().is_ok_and(|target| target.operation.changes());
    let (body, upload) = if takes {
        begin(body, bound).await?
    } else if content_length(&head.headers).is_some_and(|length| length > bound.limit) {
        return Err(Bad::TooLarge(bound.limit));
    } else {
        (Bytes::new(), None)
    };
    let kept =
        IN.iter().filter_map(|name| Some((HeaderName::from_static(name), head.headers.get(*name)?.clone())));
    let raw = head.uri.path().strip_prefix(ROOT).unwrap_or_default();
    Ok(Wish::Vault(Box::new(Call {
        target,
        shown: raw.chars().filter(|c| !c.is_control()).collect(),
        query,
        head_only: head.method == Method::HEAD,
        wrapped: wrapped(&head.headers),
        headers: kept.collect(),
        body,
        upload,
    })))
}

/// A body that is small enough to be held, or one that is not.
async fn begin<B>(body: B, Bound { limit, room }: Bound) -> Result<(Bytes, Option<Upload>), Bad>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let upload = Upload::new(body, limit);
    let held = hold(&upload, HELD.min(limit), room).await?;
    Ok(match held {
        Some(body) => (body, None),
        None => (Bytes::new(), Some(upload)),
    })
}

/// Where Vault's own proxy is controlled, which is us here.
pub(super) const CONTROLS: [&str; 2] = ["/agent/v1/", "/proxy/v1/"];

/// Reads a request below [`CONTROLS`], whose body is within `bound`; `rest` is what follows it.
pub(super) async fn read_control<B>(head: Parts, body: B, rest: String, bound: Bound) -> Result<Wish, Bad>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (control, operation, body) = match (rest.as_str(), head.method.as_str()) {
        ("cache-clear", "POST" | "PUT") => (Control::Clear, Operation::Write, whole(body, bound).await?),
        ("cache-clear", _) => return Err(Bad::Method("POST, PUT")),
        ("metrics", "GET") => (Control::Metrics, Operation::Read, Bytes::new()),
        ("metrics", _) => return Err(Bad::Method("GET")),
        _ => return Err(Bad::NoRoute),
    };
    let shown = format!("agent/v1/{rest}");
    let target = match (Path::parse(&shown), namespace(&head.headers)) {
        (Ok(path), Ok(namespace)) => Ok(Target { operation, path, namespace, control: Some(control) }),
        (Err(malformed), _) | (_, Err(malformed)) => Err(malformed),
    };
    let (wrapped, headers) = (wrapped(&head.headers), HeaderMap::new());
    let call = Call { target, shown, query: None, head_only: false, wrapped, headers, body, upload: None };
    Ok(Wish::Vault(Box::new(call)))
}

/// What is asked for, and the query that goes with it.
fn asked(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(Target, Option<String>), Malformed> {
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Malformed("the body has two lengths"));
    }
    let raw = uri.path().strip_prefix(ROOT).unwrap_or_default();
    let mut path = Path::parse(raw)?;
    let (lists, query) = query(uri.query())?;
    let operation = match (method.as_str(), lists) {
        ("GET", true) | ("LIST", _) => Operation::List,
        ("GET" | "HEAD", false) => Operation::Read,
        ("POST" | "PUT", false) => Operation::Write,
        ("PATCH", false) => Operation::Patch,
        ("DELETE", false) => Operation::Delete,
        (_, true) => return Err(Malformed("list goes with GET and LIST only")),
        _ => return Err(Malformed(METHODS)),
    };
    if operation == Operation::List {
        path = path.into_folder();
    } else if path.is_folder() {
        return Err(Malformed("only a list's path may end in a slash"));
    }
    Ok((Target { operation, path, namespace: namespace(headers)?, control: None }, query))
}

/// Whether it asks for a list, and the rest of it, encoded anew in its order.
fn query(raw: Option<&str>) -> Result<(bool, Option<String>), Malformed> {
    let (mut lists, mut rest) = (false, url::form_urlencoded::Serializer::new(String::new()));
    let mut empty = true;
    for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (form(key)?, form(value)?);
        match (key.as_str(), value.as_str()) {
            ("list", "true") if !lists => lists = true,
            ("list", _) => return Err(Malformed("list must be true, and be there once")),
            ("help", _) => return Err(Malformed("help is not answered")),
            (key, value) => {
                rest.append_pair(key, value);
                empty = false;
            }
        }
    }
    Ok((lists, (!empty).then(|| rest.finish())))
}

/// A name or value of a query: `+` is a blank, and a percent-encoded `/` or `%` is allowed, since nothing is matched by it.
fn form(text: &str) -> Result<String, Malformed> {
    if text.contains(';') {
        return Err(Malformed("; and \\ may not stand in a path or query"));
    }
    let pair = format!("x={text}");
    let value = url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned());
    let value = value.unwrap_or_default();
    if value.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        return Err(Malformed("control characters may not stand in a path or query"));
    }
    Ok(value)
}

/// The namespace that a header names.
fn namespace(headers: &HeaderMap) -> Result<Option<String>, Malformed> {
    let mut named = headers.get_all("x-vault-namespace").iter();
    let Some(first) = named.next() else { return Ok(None) };
    if named.next().is_some() {
        return Err(Malformed("there are two namespaces"));
    }
    let text = first.to_str().map_err(|_| Malformed("the namespace is not ASCII"))?.trim_matches('/');
    match text {
        "" | "root" => Ok(Some(String::new())),
        text => Path::parse(text).map(|path| Some(path.to_string())),
    }
}

/// For how long the answer is to be wrapped: whole seconds, or with `s`, `m` or `h`. A duration of nothing asks for nothing.
fn wrapped(headers: &HeaderMap) -> Option<Duration> {
    let mut given = headers.get_all("x-vault-wrap-ttl").iter();
    let (first, others) = (given.next()?, given.next());
    let text = first.to_str().ok().filter(|_| others.is_none()).map(str::trim);
    let (number, unit) = match text.and_then(|text| Some((text, text.chars().last()?))) {
        Some((text, 's')) => (text.strip_suffix('s'), 1),
        Some((text, 'm')) => (text.strip_suffix('m'), 60),
        Some((text, 'h')) => (text.strip_suffix('h'), 3600),
        Some((text, _)) => (Some(text), 1),
        None => (text, 1),
    };
    let number = number.map(|digits| if digits.is_empty() { Ok(0) } else { digits.parse::<u32>() });
    match number {
        Some(Ok(0)) => None,
        Some(Ok(number)) => Some(Duration::from_secs(u64::from(number) * unit)),
        Some(Err(_)) | None => Some(Duration::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, headers: &[(&'static str, &str)], expected: &str) {
        let (method, uri) = line.split_once(' ').unwrap();
        let map = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
        });
        let asked = asked(&method.parse().unwrap(), &uri.parse().unwrap(), &map.collect());
        let found = asked.map(|(target, query)| {
            format!("{} {} {:?} {query:?}", target.operation.word(), target.path, target.namespace)
        });
        assert_eq!(found.unwrap_or_else(|malformed| malformed.0.to_owned()), expected, "{line}");
    }

    #[test]
    fn what_cannot_be_read_as_a_time_asks_for_more_than_anybody_allows() {
        let seconds = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-vault-wrap-ttl", value.parse().unwrap());
            }
            wrapped(&headers).map(|asked| asked.as_secs())
        };
        for (values, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["0"], None),
            (&["0s"], None),
            (&["60"], Some(60)),
            (&["60s"], Some(60)),
            (&["5m"], Some(300)),
            (&["1h"], Some(3600)),
            (&["1h30m"], Some(u64::MAX)),
            (&["-1"], Some(u64::MAX)),
            (&["1ms"], Some(u64::MAX)),
            (&["60", "60"], Some(u64::MAX)),
            (&["0", "60"], Some(u64::MAX)),
        ] {
            assert_eq!(seconds(values), expected, "{values:?}");
        }
    }

    #[test]
    fn methods_are_operations() {
        check("GET /v1/secret/data/x", &[], "read secret/data/x None None");
        check("HEAD /v1/secret/data/x", &[], "read secret/data/x None None");
        check("PUT /v1/secret/data/x", &[], "write secret/data/x None None");
        check("POST /v1/secret/data/x?cas=1", &[], "write secret/data/x None Some(\"cas=1\")");
        check("PATCH /v1/secret/data/x", &[], "patch secret/data/x None None");
        check("DELETE /v1/secret/data/x", &[], "delete secret/data/x None None");
        check("TRACE /v1/secret/data/x", &[], METHODS);
        check("OPTIONS /v1/secret/data/x", &[], METHODS);
        check("get /v1/secret/data/x", &[], METHODS);
    }

    #[test]
    fn a_list_has_three_spellings_and_one_path() {
        let list = "list secret/metadata/ None None";
        check("LIST /v1/secret/metadata", &[], list);
        check("LIST /v1/secret/metadata/", &[], list);
        check("LIST /v1/secret/metadata?list=true", &[], list);
        check("GET /v1/secret/metadata?list=true", &[], list);
        check("GET /v1/secret/metadata/?l%69st=true", &[], list);
        check(
            "GET /v1/secret/metadata?list=true&limit=5&after=a%2Fb",
            &[],
            "list secret/metadata/ None Some(\"limit=5&after=a%2Fb\")",
        );
        for bad in ["list=1", "list=T", "list=false", "list", "list=true&list=true", "list=true&list=false"] {
            check(&format!("GET /v1/secret/metadata?{bad}"), &[], "list must be true, and be there once");
        }
        check("GET /v1/secret/metadata/", &[], "only a list's path may end in a slash");
        check("POST /v1/secret/metadata?list=true", &[], "list goes with GET and LIST only");
        check("GET /v1/secret/data/x?help=1", &[], "help is not answered");
        check("GET /v1/secret/data/x?a=1;list=true", &[], "; and \\ may not stand in a path or query");
        check("GET /v1/secret/data/x?a=%0d%0aX", &[], "control characters may not stand in a path or query");
    }

    #[test]
    fn a_namespace_is_named_once() {
        let get = "GET /v1/secret/data/x";
        check(get, &[("x-vault-namespace", "/ns1/team/")], "read secret/data/x Some(\"ns1/team\") None");
        check(get, &[("x-vault-namespace", "root")], "read secret/data/x Some(\"\") None");
        check(get, &[("x-vault-namespace", "ns1/../ns2")], "the path has a segment . or ..");
        let two = [("x-vault-namespace", "a"), ("x-vault-namespace", "b")];
        check(get, &two, "there are two namespaces");
    }

    #[test]
    fn two_lengths_are_refused() {
        let both = [("transfer-encoding", "chunked"), ("content-length", "3")];
        check("POST /v1/secret/data/x", &both, "the body has two lengths");
    }
}
