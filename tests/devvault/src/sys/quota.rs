//! `sys/quotas/rate-limit/NAME`: a fixed window per quota, answered with 429; with headers only where
//! `sys/quotas/config` turned them on, as the real one does.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::ask::{Ask, Verb};
use crate::outcome::Outcome;

/// All rate limits.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    limits: BTreeMap<String, Limit>,
    headers: bool,
}

/// Headers for one answer.
type Headers = Vec<(&'static str, String)>;

#[derive(Debug)]
struct Limit {
    path: String,
    rate: f64,
    interval: Duration,
    block: Duration,
    blocked_until: Option<Instant>,
    window: Option<Instant>,
    used: f64,
}

impl Quotas {
    pub(crate) fn answer(&mut self, tail: &str, ask: &Ask) -> Outcome {
        if tail == "config" && ask.verb == Verb::Write {
            self.headers = ask.flag("enable_rate_limit_response_headers").unwrap_or(self.headers);
            return Outcome::Empty;
        }
        let Some(name) = tail.strip_prefix("rate-limit/") else { return Outcome::unsupported_path() };
        match ask.verb {
            Verb::Write => {
                let Some(rate) =
                    ask.body.get("rate").and_then(serde_json::Value::as_f64).filter(|r| *r > 0.0)
                else {
                    return Outcome::bad("'rate' is invalid");
                };
                let limit = Limit {
                    path: ask.text("path").unwrap_or_default().trim_end_matches('*').to_string(),
                    rate,
                    interval: ask.duration("interval").unwrap_or(Duration::from_secs(1)),
                    block: ask.duration("block_interval").unwrap_or_default(),
                    blocked_until: None,
                    window: None,
                    used: 0.0,
                };
                self.limits.insert(name.to_string(), limit);
                Outcome::Empty
            }
            Verb::Delete => {
                self.limits.remove(name);
                Outcome::Empty
            }
            Verb::Read => match self.limits.get(name) {
                None => Outcome::absent(),
                Some(limit) => Outcome::data(json!({
                    "name": name, "path": limit.path, "rate": limit.rate, "interval": limit.interval.as_secs(),
                    "type": "rate-limit",
                })),
            },
            _ => Outcome::unsupported(),
        }
    }

    /// Counts a request; over the rate it is already answered. Gives the headers of any answer.
    pub(crate) fn count(&mut self, path: &str, now: Instant) -> (Option<Outcome>, Headers) {
        let Some(limit) = self.limits.values_mut().find(|l| path.starts_with(&l.path)) else {
            return (None, Vec::new());
        };
        let wait = limit.count(now);
        let mut headers = match self.headers {
            true => vec![
                ("x-ratelimit-limit", limit.rate.to_string()),
                ("x-ratelimit-remaining", (limit.rate - limit.used).max(0.0).floor().to_string()),
                ("x-ratelimit-reset", ceil_seconds(limit.left(now))),
            ],
            false => Vec::new(),
        };
        let Some(wait) = wait else { return (None, headers) };
        if self.headers {
            headers.push(("retry-after", ceil_seconds(wait)));
        }
        let error = format!("request path \"{path}\": rate limit quota exceeded");
        (Some(Outcome::fail(429, &[&error])), headers)
    }
}

impl Limit {
    /// Counts one request; over the rate, says for how long there is no more.
    fn count(&mut self, now: Instant) -> Option<Duration> {
        if let Some(until) = self.blocked_until.filter(|u| *u > now) {
            return Some(until - now);
        }
        if self.left(now).is_zero() {
            self.window = Some(now);
            self.used = 0.0;
        }
        self.used += 1.0;
        if self.used <= self.rate {
            return None;
        }
        if self.block.is_zero() {
            return Some(self.left(now));
        }
        self.blocked_until = Some(now + self.block);
        Some(self.block)
    }

    /// What is left of the window.
    fn left(&self, now: Instant) -> Duration {
        self.window.map_or(Duration::ZERO, |w| (w + self.interval).saturating_duration_since(now))
    }
}

fn ceil_seconds(d: Duration) -> String {
    d.as_secs_f64().ceil().to_string()
}
