//! The operator's side of Vault's HTTP API: how the demo prepares a server. Not claviger's own client.
//!
//! Repeats nothing and follows no redirect.

use anyhow::{Context as _, Result, bail};
use reqwest::{Certificate, Client, Method, redirect};
use serde_json::Value;
use std::{path::Path, time::Duration};

/// A Vault, and a token that may prepare it.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    address: String,
    token: String,
    namespace: Option<String>,
}

impl Api {
    /// The server at `address` (no slash at its end); `ca_file` is its only trust root when given.
    pub(crate) fn new(
        address: &str,
        token: &str,
        namespace: Option<String>,
        ca_file: Option<&Path>,
    ) -> Result<Self> {
        let mut builder =
            Client::builder().redirect(redirect::Policy::none()).timeout(Duration::from_secs(10)).no_proxy();
        if let Some(file) = ca_file {
            let pem = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
            let roots = Certificate::from_pem_bundle(&pem);
            let roots = roots.with_context(|| format!("reading the certificates of {}", file.display()))?;
            builder = builder.tls_certs_only(roots);
        }
        let client = builder.build().context("making an HTTP client")?;
        Ok(Self { client, address: address.to_owned(), token: token.to_owned(), namespace })
    }

    /// What stands at `path`.
    pub(crate) async fn read(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Writes `body` to `path`.
    pub(crate) async fn write(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Deletes what stands at `path`.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let doing = format!("{method} {}/v1/{path}", self.address);
        let mut request = self.client.request(method, format!("{}/v1/{path}", self.address));
        request = request.header("X-Vault-Token", &self.token).header("X-Vault-Request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.with_context(|| doing.clone())?;
        let status = response.status();
        let text = response.text().await.with_context(|| doing.clone())?;
        if !status.is_success() {
            bail!("{doing}: {status}: {}", text.trim());
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{doing}: an answer that is not JSON"))
    }
}

/// The text at `pointer` (RFC 6901) of an answer.
pub(crate) fn text<'a>(answer: &'a Value, pointer: &str) -> Result<&'a str> {
    answer.pointer(pointer).and_then(Value::as_str).with_context(|| format!("there is no {pointer}"))
}
