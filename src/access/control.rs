//! What scripts ask of Vault's own proxy beside its API, answered for one workload: its cache, its numbers.
//!
//! Ends no lease, and shows nothing of other workloads.

use super::{Access, Answer, Control, Denial, Malformed};
use crate::forward::lease;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The body of `cache-clear` (Vault docs: Vault Proxy, "Caching", "API").
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clear {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default)]
    value: Zeroizing<String>,
    #[serde(default)]
    namespace: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    RequestPath,
    Lease,
    Token,
    TokenAccessor,
    All,
}

impl Access {
    pub(super) fn control(&self, control: Control, body: &Bytes) -> Result<Answer, Denial> {
        let mut headers = HeaderMap::new();
        let text = match control {
            Control::Clear => {
                self.clear(body)?;
                String::new()
            }
            Control::Metrics => {
                let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                headers.insert(header::CONTENT_TYPE, media);
                self.numbers()
            }
        };
        Ok(Answer::plain(200, headers, text.into()))
    }

    fn clear(&self, body: &[u8]) -> Result<(), Malformed> {
        const SHAPE: Malformed = Malformed(
            "the body must be {\"type\": \"request_path\", \"value\": \"/v1/PATH\"}, or one with the type lease, token, \
             token_accessor or all",
        );
        let Clear { kind, value, namespace } = serde_json::from_slice(body).map_err(|_| SHAPE)?;
        if value.is_empty() && kind != Kind::All {
            return Err(SHAPE);
        }
        let namespace = Some(namespace.trim_matches('/')).filter(|name| !["", "root"].contains(name));
        match kind {
            Kind::All => self.cache.clear(),
            Kind::RequestPath => {
                let path = value.strip_prefix("/v1/").ok_or(SHAPE)?;
                self.cache.forget_below(namespace, path);
            }
            Kind::Lease => self.cache.forget_lease(&lease::id_hash(&value)),
            Kind::Token | Kind::TokenAccessor => {
                if let Some(child) = self.leases.child(&lease::id_hash(&value)) {
                    self.cache.forget_lease(&child);
                }
            }
        }
        Ok(())
    }

    /// The lines of `/metrics` that are about this workload's part of Vault's API.
    fn numbers(&self) -> String {
        let (held, cache) = (self.held(), self.cached());
        let lines = [
            ("claviger_forwarded_leases", held.leases),
            ("claviger_forwarded_tokens", held.children),
            ("claviger_cache_entries", cache.entries),
            ("claviger_cache_bytes", cache.bytes),
            ("claviger_cache_hits_total", cache.hits),
            ("claviger_cache_misses_total", cache.misses),
        ];
        let line =
            |(name, value): &(&str, u64)| format!("{name}{{workload=\"{}\"}} {value}\n", self.workload);
        lines.iter().map(line).collect()
    }
}
