//! Paths as they are matched and sent, and the patterns of rules.
//!
//! A path is decoded once; whatever two servers could read differently is refused; what was matched is what is sent, encoded
//! anew. Pure.

use std::{borrow::Cow, fmt};

/// A path without its leading slash, decoded: no segment is `.` or `..`, only the last may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(String);

/// Why a path or pattern is not one. The text says what to change, and repeats nothing of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

impl Path {
    /// Reads a path as it stands in a request line, without its leading slash.
    ///
    /// # Errors
    /// [`Malformed`]: it is empty, has an empty segment before the last, or one that is `.` or `..` in any spelling; `;`, `\`, `%`, a
    /// slash or a control character, encoded or not; or it is not UTF-8.
    pub fn parse(raw: &str) -> Result<Self, Malformed> {
        let text = decoded(raw)?.into_owned();
        if text.is_empty() || text.starts_with('/') || text.contains("//") {
            return Err(Malformed("the path has an empty segment"));
        }
        if text.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(Malformed("the path has a segment . or .."));
        }
        Ok(Self(text))
    }

    /// Decoded, for people and for patterns.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it ends in a slash, as a list does.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.0.ends_with('/')
    }

    /// The same with a slash at its end.
    #[must_use]
    pub fn into_folder(mut self) -> Self {
        if !self.is_folder() {
            self.0.push('/');
        }
        self
    }

    /// What is left of it below `folder` (`a/b` of `ns/a/b` below `ns`); `None` if it is not below it.
    #[must_use]
    pub fn below(&self, folder: &str) -> Option<Self> {
        let rest = self.0.strip_prefix(folder)?.strip_prefix('/')?;
        (!rest.is_empty()).then(|| Self(rest.to_owned()))
    }

    /// The one spelling that is sent: unreserved characters and those that may stand in a segment as they are (RFC 3986
    /// sections 2.3 and 3.3, but for `;`), every other byte as `%XX`.
    #[must_use]
    pub fn encoded(&self) -> String {
        let mut encoded = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            match char::from(byte) {
                c if c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@/".contains(c) => encoded.push(c),
                _ => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        encoded
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Decodes percent-encoding once.
///
/// # Errors
/// [`Malformed`], for what could mean one thing to us and another to a server behind us.
pub fn decoded(raw: &str) -> Result<Cow<'_, str>, Malformed> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(Malformed("% must be followed by two hexadecimal digits"));
        };
        match u8::try_from(high * 16 + low) {
            Ok(b'/' | b'%' | b';' | b'\\') | Err(_) => {
                return Err(Malformed("/ % ; \\ may not be percent-encoded"));
            }
            Ok(byte) => bytes.push(byte),
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| Malformed("the path or query is not UTF-8"))?;
    if text.contains([';', '\\']) {
        return Err(Malformed("; and \\ may not stand in a path or query"));
    }
    if text.contains(char::is_control) {
        return Err(Malformed("control characters may not stand in a path or query"));
    }
    Ok(if text == raw { Cow::Borrowed(raw) } else { Cow::Owned(text) })
}

/// Paths of one shape: `+` stands for one segment, `*` as the last one for any rest, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Path);

impl Pattern {
    /// Reads a pattern; it is written decoded, and without a slash in front.
    ///
    /// # Errors
    /// [`Malformed`]: no path can match it, or `+` or `*` stands where it means nothing.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.contains('%') {
            return Err(Malformed("a pattern is written without percent-encoding"));
        }
        let path = Path::parse(text)?;
        let mut segments = text.split('/').rev();
        let last = segments.next().unwrap_or_default();
        if (last != "*" && last.contains('*')) || segments.any(|segment| segment.contains('*')) {
            return Err(Malformed("* stands only as a whole last segment"));
        }
        if text.split('/').any(|segment| segment != "+" && segment.contains('+')) {
            return Err(Malformed("+ stands only as a whole segment"));
        }
        Ok(Self(path))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether `path` is one of them. `P/*` also matches `P/`, and not `P`.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        let mut found = path.as_str().split('/');
        for wanted in self.as_str().split('/') {
            match (wanted, found.next()) {
                ("*", Some(_)) => return true,
                ("+", Some(segment)) if !segment.is_empty() => {}
                (wanted, Some(segment)) if wanted == segment => {}
                _ => return false,
            }
        }
        found.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<&str, &str>) {
        let found = Path::parse(raw).map(|path| path.encoded());
        assert_eq!(found.as_deref().map_err(|bad| bad.0), expected, "{raw}");
    }

    #[test]
    fn a_path_has_one_spelling() {
        check("secret/data/x", Ok("secret/data/x"));
        check("secret/metadata/", Ok("secret/metadata/"));
        check("str%69pe/%7Ea%2db", Ok("stripe/~a-b"));
        check("a%20b/%3a%C3%BC%22\"", Ok("a%20b/:%C3%BC%22%22"));
        check("a.b/..c/...", Ok("a.b/..c/..."));
        check("a%3fb/%23", Ok("a%3Fb/%23"));
    }

    #[test]
    fn a_path_that_two_servers_could_read_differently_is_refused() {
        for raw in ["", "/a", "a//b", "a//", "//"] {
            check(raw, Err("the path has an empty segment"));
        }
        for raw in ["a/./b", "a/..", "..", "a/%2e%2e/b", "a/%2E", ".%2e/b"] {
            check(raw, Err("the path has a segment . or .."));
        }
        for raw in ["a%2fb", "a%2Fb", "a/%252e", "a%3bb", "%5c..%5c"] {
            check(raw, Err("/ % ; \\ may not be percent-encoded"));
        }
        for raw in ["a;b", "a\\b"] {
            check(raw, Err("; and \\ may not stand in a path or query"));
        }
        for raw in ["a%00", "a%0a", "a%0D%0AX:y", "a%7f", "a%C2%85"] {
            check(raw, Err("control characters may not stand in a path or query"));
        }
        for raw in ["a%", "a%4", "a%zz", "a%+1"] {
            check(raw, Err("% must be followed by two hexadecimal digits"));
        }
        check("a%ff", Err("the path or query is not UTF-8"));
    }

    #[track_caller]
    fn matches(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern = Pattern::parse(pattern).unwrap();
        for (paths, expected) in [(yes, true), (no, false)] {
            for path in paths {
                assert_eq!(pattern.matches(&Path::parse(path).unwrap()), expected, "{pattern:?} {path}");
            }
        }
    }

    #[test]
    fn patterns_stand_for_segments() {
        matches("secret/data/x", &["secret/data/x"], &["secret/data/x/", "secret/data", "Secret/data/x"]);
        matches("a/+/c", &["a/b/c", "a/*/c"], &["a/c", "a/b/b/c", "a/b/c/d"]);
        matches("a/+", &["a/b"], &["a/", "a", "a/b/", "a/b/c"]);
        matches("a/*", &["a/", "a/b", "a/b/c/"], &["a", "ab", "b/a"]);
        matches("+/*", &["a/", "a/b"], &["a"]);
        matches("*", &["a", "a/b/"], &[]);
        for bad in ["a*", "*/a", "a/b+", "a//b", "../a", "a%20b", "", "/a", "a;b"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_namespace_is_taken_off_by_whole_segments() {
        let below = |path: &str, folder: &str| Path::parse(path).unwrap().below(folder).map(|path| path.0);
        assert_eq!(below("ns1/team/secret/x", "ns1/team"), Some("secret/x".to_owned()));
        assert_eq!(below("ns1/team", "ns1/team"), None);
        assert_eq!(below("ns1x/secret", "ns1"), None);
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_was_matched(raw in "[a-z%./~*+ü;0-9A-F -]{0,24}") {
            if let Ok(path) = Path::parse(&raw) {
                prop_assert_eq!(&Path::parse(&path.encoded()).unwrap(), &path);
                prop_assert!(!path.encoded().contains("//") && !path.encoded().contains(';'));
                prop_assert!(path.encoded().split('/').all(|segment| segment != "." && segment != ".."));
                let by_segment = Pattern::parse(&"+/".repeat(path.as_str().matches('/').count()).add("*")).unwrap();
                prop_assert!(by_segment.matches(&path));
            }
        }

        #[test]
        fn an_encoded_spelling_of_a_path_is_the_same_path(text in "[a-z0-9/]{1,16}", at in 0_usize..16) {
            if let (Ok(path), Some(byte)) = (Path::parse(&text), text.as_bytes().get(at)) && *byte != b'/' {
                let spelled = format!("{}%{byte:02x}{}", &text[..at], &text[at + 1..]);
                prop_assert_eq!(Path::parse(&spelled).unwrap(), path);
            }
        }
    }

    use std::ops::Add as _;
}
