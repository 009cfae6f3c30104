//! Which calls of other APIs a rule allows: by method, path and named values of the query.
//!
//! Pure. Never sees a header or a body, and does not know what an upstream is.

use super::rule::Rule;
use crate::name::{SecretName, UpstreamName};
use std::collections::BTreeMap;

/// A rule that allows calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRule {
    /// Its name, its audit mode and its rate; it names no secrets.
    pub rule: Rule,
    /// Which upstream may be called.
    pub upstream: UpstreamName,
    /// The secret that the upstream's calls are made with: a permit is for using it, and no peer reads it by that.
    pub secret: SecretName,
    /// Methods, in upper case; at least one.
    pub methods: Vec<String>,
    /// At least one.
    pub paths: Vec<Pattern>,
    /// For each name the values that it may have. It must be there, once.
    pub query: BTreeMap<String, Vec<String>>,
    /// How many calls a day, by UTC.
    pub calls_per_day: Option<u64>,
}

/// What a peer wants to call.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The upstream.
    pub upstream: &'a UpstreamName,
    /// In upper case.
    pub method: &'a str,
    /// Canonical ([`canonical`]).
    pub path: &'a str,
    /// As it came, without its `?`.
    pub query: Option<&'a str>,
}

/// Why a path is not one that can be matched and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path could mean one thing to us and another to whoever gets it")]
pub struct Ambiguous;

/// What a path may hold only where an upstream's config says that it is a part of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// An encoded slash, `%2F`: sent as it is, and no end of a segment.
    Slash,
    /// A semicolon, plain or encoded.
    Semicolon,
}

/// The one spelling of an URL's path that is matched and sent: unreserved characters (RFC 3986 section 2.3) decoded, all other
/// encoded ones in upper case.
///
/// # Errors
/// [`Ambiguous`]: segments `.` and `..`, empty ones but the last, `\` and `;`, and encoded `/ \ ; %` and control characters,
/// in any spelling, but for those that are `allowed`; what is not ASCII, and a `%` without two digits.
pub fn canonical(path: &str, allowed: &[Oddity]) -> Result<String, Ambiguous> {
    let (slash, semicolon) = (allowed.contains(&Oddity::Slash), allowed.contains(&Oddity::Semicolon));
    if !path.starts_with('/') {
        return Err(Ambiguous);
    }
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit =
                    |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(Ambiguous);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                match char::from(u8::try_from(high * 16 + low).map_err(|_| Ambiguous)?) {
                    c if c.is_ascii_alphanumeric() || "-._~".contains(c) => out.push(c),
                    c if c.is_ascii_control() || "\\%".contains(c) => return Err(Ambiguous),
                    '/' if !slash => return Err(Ambiguous),
                    ';' if !semicolon => return Err(Ambiguous),
                    _ => {
                        out.push('%');
                        let upper =
                            |digit| char::from_digit(digit, 16).map_or('0', |c| c.to_ascii_uppercase());
                        out.extend([upper(high), upper(low)]);
                    }
                }
            }
            b'\\' => return Err(Ambiguous),
            b';' if !semicolon => return Err(Ambiguous),
            byte if byte.is_ascii_graphic() => out.push(char::from(byte)),
            _ => return Err(Ambiguous),
        }
    }
    let inner = out.strip_prefix('/').unwrap_or_default();
    let last = inner.matches('/').count();
    // As somebody reads it who decodes an encoded slash, or cuts off what is behind a semicolon.
    let climbs = |segment: &str| {
        segment.split("%2F").any(|part| matches!(part.split(";").next(), Some("." | "..")))
            || segment.split("%2F").any(|part| matches!(part.split("%3B").next(), Some("." | "..")))
    };
    let bad = |(at, segment): (usize, &str)| {
        climbs(segment)
            || (at == 0 && segment.starts_with("%2F"))
            || (segment.is_empty() && (at < last || (at > 0 && inner.ends_with("//"))))
    };
    if inner.split('/').enumerate().any(bad) { Err(Ambiguous) } else { Ok(out) }
}

/// Paths: `+` stands for one segment, `*` as the last one for any rest, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// Reads a pattern, with or without a slash in front, for an upstream whose paths may hold what is `allowed`.
    ///
    /// # Errors
    /// [`Ambiguous`]: no canonical path matches it, or `+` or `*` stands where it means nothing.
    pub fn parse(text: &str, allowed: &[Oddity]) -> Result<Self, Ambiguous> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let rooted = format!("/{text}");
        if canonical(&rooted, allowed)? != rooted {
            return Err(Ambiguous);
        }
        let segments: Vec<String> = text.split('/').map(str::to_owned).collect();
        let last = segments.len() - 1;
        let misplaced = |(at, segment): (usize, &String)| {
            (segment.contains('*') && (segment != "*" || at < last))
                || (segment.contains('+') && segment != "+")
        };
        if segments.iter().enumerate().any(misplaced) { Err(Ambiguous) } else { Ok(Self(segments)) }
    }

    fn matches(&self, path: &str) -> bool {
        let mut segments = path.strip_prefix('/').unwrap_or_default().split('/');
        for wanted in &self.0 {
            match (wanted.as_str(), segments.next()) {
                ("*", Some(_)) => return true,
                ("+", Some(found)) if !found.is_empty() => {}
                (wanted, Some(found)) if wanted == found => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

/// Whether a rule allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// A value that the rule looks at is there twice: the upstream could look at the other one.
    Ambiguous,
}

impl CallRule {
    pub(super) fn matches(&self, target: &Target<'_>) -> Match {
        let allows = self.upstream == *target.upstream
            && self.methods.iter().any(|method| method == target.method)
            && self.paths.iter().any(|pattern| pattern.matches(target.path));
        if !allows {
            return Match::No;
        }
        let pairs: Vec<(String, String)> = pairs(target.query).collect();
        for (name, values) in &self.query {
            let mut found = pairs.iter().filter(|(given, _)| alike(given, name));
            match (found.next(), found.next()) {
                (Some((given, value)), None) if given == name && values.contains(value) => {}
                (_, Some(_)) => return Match::Ambiguous,
                _ => return Match::No,
            }
        }
        Match::Yes
    }
}

/// The pairs of a query, decoded.
fn pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let decode = |text: &str| decoded(text).unwrap_or_default();
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(move |(k, v)| (decode(k), decode(v)))
}

/// Names that a server may take for one another: letters of either case, `-` `_` `.` and blanks alike, `[` and what is behind it.
#[must_use]
pub fn alike(one: &str, other: &str) -> bool {
    let plain = |text: &str| {
        let text = text.split('[').next().unwrap_or_default();
        let plain = |c: char| if matches!(c, '_' | '.' | ' ') { '-' } else { c.to_ascii_lowercase() };
        text.chars().map(plain).collect::<String>()
    };
    plain(one) == plain(other)
}

/// A name or value of a query or form, decoded: `+` is a blank, `%XX` a byte. `None` for a `%` without two digits.
#[must_use]
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::RuleName;

    #[track_caller]
    fn check_path(path: &str, expected: Option<&str>) {
        assert_eq!(canonical(path, &[]).ok().as_deref(), expected, "{path}");
    }

    #[test]
    fn what_an_upstream_has_in_its_names_is_kept_and_climbs_nowhere() {
        let check = |path: &str, expected: Option<&str>| {
            let found = canonical(path, &[Oddity::Slash, Oddity::Semicolon]);
            assert_eq!(found.ok().as_deref(), expected, "{path}");
        };
        check("/b/o/a%2Fb%2fc", Some("/b/o/a%2Fb%2Fc"));
        check("/b;v=1/%3bx", Some("/b;v=1/%3Bx"));
        for bad in [
            "/o/..%2Fb",
            "/o/a%2f..",
            "/o/%2e%2e%2Fb",
            "/o/a%2F.%2Fb",
            "/..;/admin",
            "/a/.;x",
            "/a/..%3bx",
            "/%2Fevil",
            "/a%5Cb",
            "/%252F",
            "//a",
        ] {
            check(bad, None);
        }
        assert!(
            canonical("/a%2Fb", &[Oddity::Semicolon]).is_err()
                && canonical("/a;b", &[Oddity::Slash]).is_err()
        );
        assert!(Pattern::parse("a%2Fb", &[Oddity::Slash]).is_ok() && Pattern::parse("a%2Fb", &[]).is_err());
    }

    #[test]
    fn a_path_has_one_spelling() {
        check_path("/", Some("/"));
        check_path("/v1/charges", Some("/v1/charges"));
        check_path("/v1/charges/", Some("/v1/charges/"));
        check_path("/%7euser/%41%2d", Some("/~user/A-"));
        check_path("/a%20b%3a%c3%bc", Some("/a%20b%3A%C3%BC"));
        check_path("/a.b/..c/...", Some("/a.b/..c/..."));
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        for path in [
            "",
            "a",
            "//evil",
            "/a//b",
            "/a//",
            "/a/./b",
            "/a/..",
            "/a/%2e%2e/b",
            "/a/..%2fb",
            "/%5c..%5c",
            "/a\\b",
            "/%252e",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a;b",
            "/a%3bb",
            "/a%00",
            "/a%0a",
            "/a%7f",
            "/ü",
            "/a b",
        ] {
            check_path(path, None);
        }
    }

    fn rule(paths: &[&str], query: &[(&str, &[&str])]) -> CallRule {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        CallRule {
            rule: Rule {
                name: RuleName::new("charges").unwrap(),
                secrets: Vec::new(),
                audit: None,
                requests_per_second: None,
                break_glass: None,
                approval: None,
            },
            upstream: UpstreamName::new("stripe").unwrap(),
            secret: SecretName::new("key").unwrap(),
            methods: vec!["GET".to_owned()],
            paths: paths.iter().map(|text| Pattern::parse(text, &[]).unwrap()).collect(),
            query: query.iter().map(|(name, allowed)| ((*name).to_owned(), values(allowed))).collect(),
            calls_per_day: None,
        }
    }

    #[track_caller]
    fn check(rule: &CallRule, target: &str, expected: Match) {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let upstream = UpstreamName::new("stripe").unwrap();
        let target = Target { upstream: &upstream, method: "GET", path, query };
        assert_eq!(rule.matches(&target), expected, "{target:?}");
        let other = Target { method: "POST", ..target };
        assert_eq!(rule.matches(&other), Match::No, "{other:?}");
    }

    #[test]
    fn patterns_stand_for_segments() {
        let rule = rule(&["v1/charges", "/v1/charges/+/refunds", "files/*"], &[]);
        for yes in [
            "/v1/charges",
            "/v1/charges/ch_1/refunds",
            "/files/",
            "/files/a",
            "/files/a/b/",
            "/v1/charges?any=thing",
        ] {
            check(&rule, yes, Match::Yes);
        }
        for no in [
            "/v1/charges/",
            "/v1/charges/ch_1",
            "/v1/charges//refunds",
            "/v1/charges/a/b/refunds",
            "/files",
            "/",
            "/V1/charges",
        ] {
            check(&rule, no, Match::No);
        }
        check(&self::rule(&["*"], &[]), "/", Match::Yes);
        check(&self::rule(&["/"], &[]), "/", Match::Yes);
        check(&self::rule(&["/"], &[]), "/a", Match::No);
        for bad in ["a*", "*/a", "a+", "a//b", "../a", "a%2fb", "a%41", "a b"] {
            assert_eq!(Pattern::parse(bad, &[]), Err(Ambiguous), "{bad}");
        }
    }

    #[test]
    fn named_values_must_be_there_once() {
        let rule = rule(&["p"], &[("mode", &["test", "dry run"])]);
        for yes in ["/p?mode=test", "/p?x=1&m%6fde=dry+run", "/p?mode=dry%20run&modes=x"] {
            check(&rule, yes, Match::Yes);
        }
        for no in ["/p", "/p?mode", "/p?mode=live", "/p?Mode=test", "/p?mode[]=test", "/p?mode=test "] {
            check(&rule, no, Match::No);
        }
        for twice in ["/p?mode=test&mode=test", "/p?mode=test&MODE=live", "/p?mode=test&mode[0]=live"] {
            check(&rule, twice, Match::Ambiguous);
        }
    }
}
