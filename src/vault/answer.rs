//! What an answer of Vault means. Pure, but for the clock that `Date` is compared with.
//!
//! Does not decide what is tried again: it says whether another address may do better.

use super::{
    endpoint::{Envelope, Request},
    error::{Class, Error},
    wire::Reply,
};
use crate::clock;
use http::{HeaderMap, Method, header};
use serde::Deserialize;
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// The longest text of Vault's own errors that is kept, in characters.
const LONGEST_SAYING: usize = 300;
/// The longest wait that a server may ask of us.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A successful answer.
pub struct Answer {
    body: Zeroizing<Vec<u8>>,
    doing: String,
    address: String,
}

/// What becomes of a call after one address has answered.
pub enum Verdict {
    /// It worked.
    Done(Answer),
    /// It failed, and would fail at every address.
    Failed(Error),
    /// This address cannot serve now.
    Next(Error),
    /// This address says who can (307, 308).
    Elsewhere(Url),
}

impl Answer {
    /// The envelope; an empty body is an empty envelope.
    ///
    /// # Errors
    /// [`Class::Nonsense`] when it is not JSON of that shape.
    pub fn envelope(&self) -> Result<Envelope<'_>, Error> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        // serde_json's errors name a position and a type, never the text.
        serde_json::from_slice(body).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// What its `data` say.
    ///
    /// # Errors
    /// [`Class::Nonsense`] when there are none, or they are something else.
    pub fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        let data = self.envelope()?.data.ok_or_else(|| self.nonsense("an answer without data"))?;
        serde_json::from_str(data.get()).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// The error for an answer that lacks what it must have.
    #[must_use]
    pub fn nonsense(&self, said: &str) -> Error {
        Error::new(Class::Nonsense, &*self.doing, said)
    }

    /// Which address answered.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// What `reply` means.
pub(super) fn judge(reply: Reply, request: &Request, address: &Url) -> Verdict {
    let error = |class: Class, said: String| {
        Error::new(class, &*request.doing, said).with_status(reply.status).after(retry_after(&reply.headers))
    };
    match reply.status {
        200..=299 => Verdict::Done(Answer {
            body: reply.body,
            doing: request.doing.clone(),
            address: address.as_str().trim_end_matches('/').to_owned(),
        }),
        307 | 308 => match location(&reply.headers, address) {
            Some(location) => Verdict::Elsewhere(location),
            None => Verdict::Failed(error(Class::Nonsense, "redirected to nowhere".into())),
        },
        status => {
            let said = saying(&reply.body, status);
            match status {
                403 => Verdict::Failed(error(Class::Denied, said)),
                404 => Verdict::Failed(error(Class::Missing, said)),
                429 => Verdict::Failed(error(Class::Slow, said)),
                472 | 473 => Verdict::Next(error(Class::Away, said)),
                501 | 503 if is_sealed(&said) => Verdict::Next(error(Class::Sealed, said)),
                502 | 503 => Verdict::Next(error(Class::Away, said)),
                412 | 500..=599 => Verdict::Failed(error(Class::Away, said)),
                400..=499 => Verdict::Failed(error(Class::Invalid, said)),
                _ => Verdict::Failed(error(Class::Nonsense, said)),
            }
        }
    }
}

/// No whole answer came: another address may be asked only if asking twice does no harm.
pub(super) fn unanswered(request: &Request, said: String) -> Verdict {
    let error = Error::new(Class::Away, &*request.doing, said);
    if request.method == Method::GET { Verdict::Next(error) } else { Verdict::Failed(error) }
}

/// By how much `Date` is ahead of our clock.
pub(super) fn skew_ms(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get(header::DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Some(theirs.as_millisecond() - clock::now().as_millisecond())
}

pub(super) fn is_sealed(said: &str) -> bool {
    said.contains("sealed") || said.contains("not initialized")
}

pub(super) fn location(headers: &HeaderMap, address: &Url) -> Option<Url> {
    address.join(headers.get(header::LOCATION)?.to_str().ok()?).ok()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// Vault's own error texts, on one line and without anything that looks like a token.
fn saying(body: &[u8], status: u16) -> String {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<String>,
    }
    let said = match serde_json::from_slice::<Errors>(body) {
        Ok(Errors { errors }) if !errors.is_empty() => errors.join("; "),
        _ => return format!("HTTP {status}"),
    };
    let words: Vec<&str> =
        said.split_whitespace().map(|word| if looks_secret(word) { "[redacted]" } else { word }).collect();
    let text: String = words.join(" ").chars().filter(|c| !c.is_control()).take(LONGEST_SAYING).collect();
    format!("HTTP {status}: {text}")
}

fn looks_secret(word: &str) -> bool {
    ["hvs.", "hvb.", "hvr.", "eyJ"].iter().any(|mark| word.contains(mark)) || word.len() > 80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, expected: &str) {
        let reply = Reply {
            status,
            headers: HeaderMap::from_iter([(header::RETRY_AFTER, "7".parse().unwrap())]),
            body: Zeroizing::new(body.as_bytes().to_vec()),
            room: None,
            rest: None,
        };
        let address = Url::parse("http://127.0.0.1:8200").unwrap();
        let got = match judge(reply, &Request::read("secret/x"), &address) {
            Verdict::Done(_) => "done".to_owned(),
            Verdict::Failed(error) => format!("failed {} {:?}", error.class().word(), error.retry_after()),
            Verdict::Next(error) => format!("next {} {error}", error.class().word()),
            Verdict::Elsewhere(url) => url.to_string(),
        };
        assert_eq!(got, expected, "{status} {body}");
    }

    #[test]
    fn each_status_has_one_meaning() {
        check(200, "{}", "done");
        check(204, "", "done");
        check(400, r#"{"errors":["x"]}"#, "failed invalid Some(7s)");
        check(403, r#"{"errors":["permission denied"]}"#, "failed denied Some(7s)");
        check(404, r#"{"errors":[]}"#, "failed missing Some(7s)");
        check(429, r#"{"errors":["x"]}"#, "failed slow Some(7s)");
        check(473, "", "next away reading secret/x: HTTP 473");
        check(500, "<html>", "failed away Some(7s)");
        check(
            503,
            r#"{"errors":["Vault is sealed"]}"#,
            "next sealed reading secret/x: HTTP 503: Vault is sealed",
        );
        check(503, "busy", "next away reading secret/x: HTTP 503");
        check(418, "", "failed invalid Some(7s)");
        check(302, "", "failed nonsense Some(7s)");
    }

    #[test]
    fn an_error_never_repeats_a_token() {
        check(
            503,
            r#"{"errors":["sealed for hvs.CAESIJ at eyJhbGciOi"]}"#,
            "next sealed reading secret/x: HTTP 503: sealed for [redacted] at [redacted]",
        );
    }

    #[test]
    fn a_date_tells_the_skew_of_the_clocks() {
        let ahead = clock::now() + jiff::SignedDuration::from_secs(100);
        let date = jiff::fmt::rfc2822::to_string(&ahead.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        let headers = HeaderMap::from_iter([(header::DATE, date.parse().unwrap())]);
        let skew = skew_ms(&headers).unwrap();
        assert!((98_000..=101_000).contains(&skew), "{skew}");
    }
}
