//! The way to the API server: three requests about one Lease, each with a hard end.
//!
//! No redirect is followed, nothing is retried, no environment variable and no proxy is looked at. Token and roots are read with
//! each request: the kubelet replaces both. Does not decide what an answer means for the rotation.

use super::{Error, Settings, Trouble};
use http::{HeaderValue, Method, header};
use reqwest::{Certificate, redirect, retry, tls};
use serde_json::Value;
use std::{fs::File, io::Read as _, path::Path, time::Duration};
use url::Url;
use zeroize::Zeroizing;

/// The cap of a token, of a file of roots and of an answer, in bytes.
const LARGEST: u64 = 1024 * 1024;
/// How much of the API server's own words is repeated, in characters.
const LONGEST_WORDS: usize = 300;

/// The way to one Lease.
pub(super) struct Client {
    settings: Settings,
    limit: Duration,
    /// Made of these roots.
    inner: Option<(Vec<u8>, reqwest::Client)>,
}

/// What the API server said.
pub(super) enum Answer {
    /// The Lease as it is now.
    Is(Value),
    /// There is none.
    Missing,
    /// Somebody else was faster.
    Conflict,
}

/// What is done.
#[derive(Clone, Copy)]
enum Act {
    Read,
    Make,
    Change,
}

impl Act {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "reading",
            Self::Make => "making",
            Self::Change => "writing",
        }
    }
}

impl Client {
    /// Each request takes `limit` at most.
    pub(super) fn new(settings: Settings, limit: Duration) -> Self {
        Self { settings, limit, inner: None }
    }

    /// Which Lease, and where.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The Lease as it is.
    pub(super) async fn read(&mut self) -> Result<Answer, Error> {
        self.send(Act::Read, None).await
    }

    /// Makes it, if there is none.
    pub(super) async fn make(&mut self, object: &Value) -> Result<Answer, Error> {
        self.send(Act::Make, Some(object)).await
    }

    /// Writes it, if it still is of the `resourceVersion` in `object`.
    pub(super) async fn change(&mut self, object: &Value) -> Result<Answer, Error> {
        self.send(Act::Change, Some(object)).await
    }

    async fn send(&mut self, act: Act, object: Option<&Value>) -> Result<Answer, Error> {
        let doing = self.doing(act);
        let denied = |said: String| Error::new(Trouble::Denied, &*doing, said);
        let away = |said: String| Error::new(Trouble::Away, &*doing, said);
        let method = match act {
            Act::Read => Method::GET,
            Act::Make => Method::POST,
            Act::Change => Method::PUT,
        };
        let (url, token) = (self.url(act), self.token().map_err(denied)?);
        let client = self.client().map_err(denied)?;
        let mut request = client.request(method, url).header(header::AUTHORIZATION, token);
        if let Some(object) = object {
            request = request.header(header::CONTENT_TYPE, "application/json").body(object.to_string());
        }
        let mut response = request.send().await.map_err(|error| away(chain(&error)))?;
        let (status, mut body) = (response.status().as_u16(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|error| away(chain(&error)))? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > LARGEST {
                return Err(away("an answer of more than 1 MiB".to_owned()));
            }
        }
        self.judge(act, status, &body)
    }

    fn doing(&self, act: Act) -> String {
        format!("{} the Lease {} at {}", act.word(), self.settings.place(), self.settings.server)
    }

    fn judge(&self, act: Act, status: u16, body: &[u8]) -> Result<Answer, Error> {
        let Settings { namespace, lease, token_file, .. } = &self.settings;
        let object = serde_json::from_slice::<Value>(body).ok();
        let words = || {
            let message = object.as_ref().and_then(|object| object.get("message")).and_then(Value::as_str);
            let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(LONGEST_WORDS).collect();
            message.map_or_else(|| format!("status {status}"), shown)
        };
        let failed = |trouble: Trouble, said: String| Err(Error::new(trouble, self.doing(act), said));
        match (status, act) {
            (200..=299, _) => match object {
                Some(object) if object.get("kind").is_some_and(|kind| kind == "Lease") => {
                    Ok(Answer::Is(object))
                }
                _ => failed(Trouble::Away, "an answer that is no Lease".to_owned()),
            },
            (404, Act::Make) => failed(
                Trouble::Denied,
                format!("{}; write the namespace of the pods in coordination.kubernetes.namespace", words()),
            ),
            (404, _) => Ok(Answer::Missing),
            (409, _) => Ok(Answer::Conflict),
            (401, _) => failed(
                Trouble::Denied,
                format!(
                    "it does not know the token in {}; mount one of the API server's own audience (the chart does), and not the \
                     one for Vault",
                    token_file.display()
                ),
            ),
            (403, Act::Make) => failed(
                Trouble::Denied,
                format!(
                    "{}; the Lease is not there, and this pod may not make it: make it (the chart does), with {{apiVersion: \
                     coordination.k8s.io/v1, kind: Lease, metadata: {{namespace: {namespace}, name: {lease}}}}}",
                    words()
                ),
            ),
            (403, _) => failed(
                Trouble::Denied,
                format!(
                    "{}; a Role in {namespace} must have the rule {{apiGroups: [coordination.k8s.io], resources: [leases], \
                     resourceNames: [{lease}], verbs: [get, update]}}, and a RoleBinding must give it to the pod's \
                     ServiceAccount (the chart makes both: rbac.rotators)",
                    words()
                ),
            ),
            (429 | 500..=599, _) => failed(Trouble::Away, words()),
            _ => failed(Trouble::Denied, words()),
        }
    }

    fn url(&self, act: Act) -> Url {
        let Settings { namespace, lease, server, .. } = &self.settings;
        let mut url = server.clone();
        let path = ["apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases"];
        // A URL of https always takes a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
            if !matches!(act, Act::Make) {
                segments.push(lease);
            }
        }
        url
    }

    /// `Bearer TOKEN`, which no log shows.
    fn token(&self) -> Result<HeaderValue, String> {
        let file = &self.settings.token_file;
        let bytes = Zeroizing::new(read(file)?);
        let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        let header = Zeroizing::new(format!("Bearer {text}"));
        let value = HeaderValue::from_str(&header).ok().filter(|_| !text.is_empty());
        let mut value = value.ok_or_else(|| format!("there is no token in {}", file.display()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn client(&mut self) -> Result<reqwest::Client, String> {
        let file = &self.settings.ca_file;
        let roots = read(file)?;
        if let Some((known, client)) = &self.inner
            && *known == roots
        {
            return Ok(client.clone());
        }
        let unusable = |why: String| format!("using {}: {why}", file.display());
        let trusted = Certificate::from_pem_bundle(&roots).map_err(|error| unusable(chain(&error)))?;
        if trusted.is_empty() {
            return Err(unusable("there is no certificate in it".to_owned()));
        }
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .timeout(self.limit)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(30))
            .tls_version_min(tls::Version::TLS_1_2)
            .tls_certs_only(trusted)
            .build()
            .map_err(|error| unusable(chain(&error)))?;
        self.inner = Some((roots, client.clone()));
        Ok(client)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| {
        format!(
            "reading {}: {error}; mount a ServiceAccount's token and CA there (the chart does)",
            file.display()
        )
    };
    let mut bytes = Vec::with_capacity(16 * 1024);
    File::open(file).map_err(failed)?.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The causes of a transport error, outermost first.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { "no answer".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_write() {
        let settings = Settings {
            namespace: "team-a".into(),
            lease: "rot-webhook".into(),
            server: "https://kubernetes.default.svc".parse().unwrap(),
            ca_file: "/ca".into(),
            token_file: "/var/run/token".into(),
        };
        let client = Client::new(settings, Duration::from_secs(1));
        let check = |act: Act, status: u16, trouble: Trouble, said: &[&str]| {
            let body = r#"{"kind": "Status", "message": "User \"a\" cannot\nget it"}"#;
            let Err(error) = client.judge(act, status, body.as_bytes()) else { panic!("{status}") };
            assert_eq!(error.trouble(), trouble, "{error}");
            for said in said {
                assert!(error.to_string().contains(said), "{error}");
            }
        };
        let rule = "resourceNames: [rot-webhook], verbs: [get, update]";
        check(
            Act::Read,
            403,
            Trouble::Denied,
            &["reading the Lease team-a/rot-webhook at https://", "User \"a\" cannotget it", rule],
        );
        check(Act::Change, 403, Trouble::Denied, &["a Role in team-a", rule, "RoleBinding", "rbac.rotators"]);
        check(
            Act::Make,
            403,
            Trouble::Denied,
            &["this pod may not make it", "kind: Lease, metadata: {namespace: team-a, name: rot-webhook}"],
        );
        check(Act::Make, 404, Trouble::Denied, &["coordination.kubernetes.namespace"]);
        check(Act::Read, 401, Trouble::Denied, &["/var/run/token", "not the one for Vault"]);
        check(Act::Read, 503, Trouble::Away, &["cannot"]);
        check(Act::Read, 200, Trouble::Away, &["no Lease"]);
        assert!(matches!(client.judge(Act::Change, 409, b""), Ok(Answer::Conflict)));
        assert!(matches!(client.judge(Act::Read, 404, b""), Ok(Answer::Missing)));
        assert_eq!(
            client.url(Act::Read).path(),
            "/apis/coordination.k8s.io/v1/namespaces/team-a/leases/rot-webhook"
        );
        assert_eq!(client.url(Act::Make).path(), "/apis/coordination.k8s.io/v1/namespaces/team-a/leases");
    }
}
