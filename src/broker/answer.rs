//! The head of an upstream's answer, as the client may see it.
//!
//! Pure. What stands in the body is for `scrub`.

use super::{
    Base,
    decode::Coding,
    fault::Fault,
    hop,
    scrub::{Flush, Hits, Masks},
};
use http::{HeaderMap, HeaderValue, header, uri::Authority};

/// Never handed on, beside what is between two machines only: cookies and challenges that would be about our key, what would change
/// how the client reaches us.
const DROPPED: &[&str] = &[
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    "proxy-authenticate",
    "authentication-info",
    "proxy-authentication-info",
    "alt-svc",
    "strict-transport-security",
    "clear-site-data",
    "nel",
    "report-to",
    "content-encoding",
];
const DROPPED_FAMILY: &str = "x-claviger-";

/// How the client spells the upstream's root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prefix {
    /// `Host` as the client said it, if it can be one: only for links back to us.
    pub host: Option<Authority>,
    /// `/upstreams/NAME`, or nothing on the upstream's own socket.
    pub path: String,
}

/// Refuses an answer in which the key could stand unseen, and gives the coding of `decode` that is to be undone, if it has one.
///
/// # Errors
/// [`Fault::ResponseEncoded`].
pub fn check(headers: &HeaderMap, decode: &[Coding]) -> Result<Option<Coding>, Fault> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let coding = match (codings.next(), codings.next()) {
        (Some(only), None) => decode.iter().copied().find(|coding| coding.is(only.as_bytes())),
        _ => None,
    };
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let is_wide = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        ["utf-16", "utf16", "utf-32", "utf32", "utf-7", "ucs-2", "ucs2", "ucs-4", "ebcdic", "ibm"].iter().any(
            |charset| {
                text.split(';')
                    .skip(1)
                    .any(|parameter| parameter.contains("charset") && parameter.contains(charset))
            },
        )
    };
    let plain = (coding.is_some() || headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain))
        && headers.get_all(header::TRANSFER_ENCODING).iter().all(is_chunked)
        && !headers.get_all(header::CONTENT_TYPE).iter().any(is_wide);
    if plain { Ok(coding) } else { Err(Fault::ResponseEncoded) }
}

/// When its body may go before its position would let it.
#[must_use]
pub fn flush(headers: &HeaderMap) -> Flush {
    let lines = ["text/event-stream", "application/x-ndjson", "application/ndjson", "application/jsonl"];
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if lines.iter().any(|known| media.eq_ignore_ascii_case(known)) {
        Flush::ByLine
    } else {
        Flush::ByPosition
    }
}

/// The headers that are handed on: masked, and links to the upstream made links to us.
#[must_use]
pub fn headers(given: &HeaderMap, base: &Base, prefix: &Prefix, masks: &Masks, hits: &mut Hits) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(given.len());
    for (name, value) in given {
        let text = name.as_str();
        if hop::is_of_one_hop(text)
            || DROPPED.contains(&text)
            || text.starts_with(DROPPED_FAMILY)
            || masks.mask(text.as_bytes(), hits).is_some()
        {
            continue;
        }
        let masked = masks.mask(value.as_bytes(), hits);
        let value = match masked {
            Some(masked) => HeaderValue::from_bytes(&masked).unwrap_or_else(|_| HeaderValue::from_static("")),
            None => value.clone(),
        };
        let value = match *name {
            header::LOCATION | header::CONTENT_LOCATION => rewritten(&value, |text| link(text, base, prefix)),
            header::LINK => rewritten(&value, |text| links(text, base, prefix)),
            _ => value,
        };
        kept.append(name, value);
    }
    kept
}

/// The host of a redirect that leads away from the upstream, for the event.
#[must_use]
pub fn redirect_host(headers: &HeaderMap, base: &Base, masks: &Masks) -> Option<String> {
    let location = headers.get(header::LOCATION)?.as_bytes();
    let masked = masks.mask(location, &mut Hits::default());
    // No host has a `*`: one that the key stands in is not named.
    let url = url::Url::parse(std::str::from_utf8(masked.as_deref().unwrap_or(location)).ok()?).ok()?;
    let host = url.host_str()?;
    (!host.contains('*') && (host != base.host || url.port_or_known_default() != Some(base.port)))
        .then(|| host.to_owned())
}

fn rewritten(value: &HeaderValue, rewrite: impl Fn(&str) -> Option<String>) -> HeaderValue {
    let new = value.to_str().ok().and_then(rewrite).and_then(|text| HeaderValue::try_from(text).ok());
    new.unwrap_or_else(|| value.clone())
}

/// A link back to the upstream as one to us; `None`: it leads elsewhere, or is relative, and stays.
fn link(text: &str, base: &Base, prefix: &Prefix) -> Option<String> {
    let below = |path: &str| {
        let rest = path.strip_prefix(base.path.as_str())?;
        (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then(|| rest.to_owned())
    };
    if text.starts_with('/') && !text.starts_with("//") {
        return Some(format!("{}{}", prefix.path, below(text)?));
    }
    let origin = base.origin();
    let with_port = format!("{}:{}", origin, base.port);
    let scheme = origin.split("//").next().unwrap_or_default();
    let full = if text.starts_with("//") { format!("{scheme}{text}") } else { text.to_owned() };
    let path = [with_port, origin].iter().find_map(|origin| {
        let (start, rest) = (full.get(..origin.len())?, full.get(origin.len()..)?);
        (start.eq_ignore_ascii_case(origin) && (rest.is_empty() || rest.starts_with(['/', '?', '#'])))
            .then_some(rest)
    })?;
    Some(format!("http://{}{}{}", prefix.host.as_ref()?, prefix.path, below(path)?))
}

/// `<URL>; rel="next", <URL>; …` (RFC 8288).
fn links(text: &str, base: &Base, prefix: &Prefix) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('<') {
        let (target, after) = behind.split_once('>')?;
        out.push_str(before);
        out.push('<');
        out.push_str(&link(target, base, prefix).unwrap_or_else(|| target.to_owned()));
        out.push('>');
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::Insecure;
    use super::*;

    fn base(url: &str) -> Base {
        Base::parse(url, Insecure::Denied).unwrap()
    }

    #[track_caller]
    fn check_link(url: &str, path: &str, text: &str, expected: &str) {
        let prefix = Prefix { host: "localhost:80".parse().ok(), path: path.to_owned() };
        let found = links(&format!("<{text}>; rel=\"next\", <x>"), &base(url), &prefix).unwrap();
        assert_eq!(found, format!("<{expected}>; rel=\"next\", <x>"));
        assert_eq!(link(text, &base(url), &prefix).unwrap_or_else(|| text.to_owned()), expected);
    }

    #[test]
    fn links_to_the_upstream_become_links_to_us() {
        let (root, own) = ("https://api.github.com", "/upstreams/github");
        check_link(
            root,
            own,
            "https://api.github.com/x?page=2",
            "http://localhost:80/upstreams/github/x?page=2",
        );
        check_link(root, own, "https://API.github.com:443/x", "http://localhost:80/upstreams/github/x");
        check_link(root, own, "//api.github.com/x", "http://localhost:80/upstreams/github/x");
        check_link(root, own, "/x", "/upstreams/github/x");
        check_link(root, "", "/x", "/x");
        let below = "https://ghe.example.com:8443/api/v3/";
        check_link(
            below,
            own,
            "https://ghe.example.com:8443/api/v3/x",
            "http://localhost:80/upstreams/github/x",
        );
        check_link(below, "", "/api/v3/x", "/x");
    }

    #[test]
    fn other_links_stay() {
        for text in [
            "https://evil.example.com/x",
            "https://api.github.com.evil.com/x",
            "https://api.github.com@evil.com/x",
            "http://api.github.com/x",
            "x/y",
            "?page=2",
            "//evil/x",
        ] {
            check_link("https://api.github.com", "/upstreams/github", text, text);
        }
        check_link(
            "https://a.example.com/api",
            "",
            "https://a.example.com/apix",
            "https://a.example.com/apix",
        );
        let nowhere = Prefix { host: None, path: String::new() };
        assert_eq!(link("https://a.b/x", &base("https://a.b"), &nowhere), None);
    }

    #[test]
    fn a_redirect_to_elsewhere_is_named() {
        let host = |location: &'static str| {
            let map: HeaderMap =
                [(header::LOCATION, HeaderValue::from_static(location))].into_iter().collect();
            redirect_host(&map, &base("https://a.b"), &Masks::of(&[b"sk-live-01234567"]))
        };
        assert_eq!(host("https://evil.example.com/?x"), Some("evil.example.com".to_owned()));
        assert_eq!(host("https://a.b:444/"), Some("a.b".to_owned()));
        assert_eq!(host("https://a.b/x"), None);
        assert_eq!(host("/x"), None);
        assert_eq!(host("https://sk-live-01234567.evil.example.com/"), None);
    }

    #[test]
    fn encoded_answers_are_refused() {
        let check = |name: header::HeaderName, value: &'static str| {
            check(&[(name, HeaderValue::from_static(value))].into_iter().collect(), &[]).is_ok()
        };
        assert!(check(header::CONTENT_ENCODING, "identity") && check(header::TRANSFER_ENCODING, "chunked"));
        assert!(check(header::CONTENT_TYPE, "text/plain; charset=utf-8"));
        for coding in ["gzip", "br", "identity, gzip", ""] {
            assert!(!check(header::CONTENT_ENCODING, coding), "{coding}");
        }
        assert!(!check(header::TRANSFER_ENCODING, "gzip, chunked"));
        let decoded = |value: &'static str| {
            let headers = [(header::CONTENT_ENCODING, HeaderValue::from_static(value))];
            super::check(&headers.into_iter().collect(), &[Coding::Gzip])
        };
        assert_eq!(decoded("GZIP"), Ok(Some(Coding::Gzip)));
        assert_eq!(decoded("identity"), Ok(None));
        for coding in ["br", "gzip, gzip", "gzip, identity"] {
            assert_eq!(decoded(coding), Err(Fault::ResponseEncoded), "{coding}");
        }
        assert!(!check(header::CONTENT_TYPE, "application/json; Charset=\"UTF-16LE\""));
    }
}
