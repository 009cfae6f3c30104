//! What the double decided about one request, and its rendering into Vault's envelope. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::token::TokenTerms;

/// A lease that an engine wants for what it answers.
#[derive(Debug, Clone)]
pub(crate) struct LeaseTerms {
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) renewable: bool,
    /// The text after the mount that names the lease; `None` takes the request's path.
    pub(crate) path: Option<String>,
}

/// The lease that an answer names.
#[derive(Debug, Clone)]
pub(crate) struct LeaseShown {
    pub(crate) id: String,
    pub(crate) ttl: Duration,
    pub(crate) renewable: bool,
}

/// The body of a success.
#[derive(Debug, Clone, Default)]
pub(crate) struct Success {
    pub(crate) data: Value,
    pub(crate) lease: Option<LeaseShown>,
    pub(crate) auth: Value,
    pub(crate) wrap_info: Value,
    pub(crate) warnings: Vec<String>,
    /// Old `sys/` answers repeat their data beside the envelope.
    pub(crate) repeat_data: bool,
    /// 200, or 404 with a body (a deleted version).
    pub(crate) status: u16,
}

/// What became of a request, before leases and tokens are made for it.
pub(crate) enum Outcome {
    /// 204.
    Empty,
    /// An envelope.
    Secret(Box<Success>),
    /// An envelope whose lease is still to be made.
    Leased(Box<Success>, LeaseTerms),
    /// An envelope whose token is still to be made.
    Login(Box<TokenTerms>),
    /// A status without a body.
    Bare(u16),
    /// Not an envelope: `sys/health` and its kind.
    Plain(u16, Value),
    /// Errors, with headers.
    Fail(u16, Vec<String>, Vec<(&'static str, String)>),
}

impl Success {
    pub(crate) fn of(data: Value) -> Success {
        Success { data, status: 200, ..Success::default() }
    }
}

impl Outcome {
    pub(crate) fn data(data: Value) -> Outcome {
        Outcome::secret(Success::of(data))
    }

    pub(crate) fn secret(success: Success) -> Outcome {
        Outcome::Secret(Box::new(success))
    }

    /// Data of a `sys/` path, which Vault repeats at the top.
    pub(crate) fn sys_data(data: Value) -> Outcome {
        Outcome::secret(Success { repeat_data: true, ..Success::of(data) })
    }

    pub(crate) fn fail(status: u16, errors: &[&str]) -> Outcome {
        Outcome::Fail(status, errors.iter().map(ToString::to_string).collect(), Vec::new())
    }

    pub(crate) fn bad(error: &str) -> Outcome {
        Outcome::fail(400, &[error])
    }

    /// No token, or a login that is refused.
    pub(crate) fn denied() -> Outcome {
        Outcome::fail(403, &["permission denied"])
    }

    /// A live token whose policies do not allow this.
    pub(crate) fn not_allowed() -> Outcome {
        Outcome::fail(403, &["1 error occurred:\n\t* permission denied\n\n"])
    }

    /// The answer to a token that does not exist (any more).
    pub(crate) fn invalid_token() -> Outcome {
        Outcome::fail(403, &["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"])
    }

    pub(crate) fn absent() -> Outcome {
        Outcome::fail(404, &[])
    }

    pub(crate) fn no_route(path: &str) -> Outcome {
        Outcome::fail(404, &[&format!("no handler for route \"{path}\". route entry not found.")])
    }

    pub(crate) fn unsupported() -> Outcome {
        Outcome::fail(405, &["1 error occurred:\n\t* unsupported operation\n\n"])
    }

    pub(crate) fn unsupported_path() -> Outcome {
        Outcome::fail(404, &["1 error occurred:\n\t* unsupported path\n\n"])
    }

    pub(crate) fn no_page() -> Outcome {
        Outcome::fail(404, &[])
    }
}

/// The envelope of a success, without its `request_id`.
pub(crate) fn envelope(success: &Success, request_id: &str, mount_type: &str) -> Value {
    let lease = success.lease.as_ref();
    // What goes out wrapped says nothing of the request that made it.
    let wrapped = !success.wrap_info.is_null();
    let mut body = json!({
        "request_id": if wrapped { "" } else { request_id },
        "lease_id": lease.map_or("", |l| l.id.as_str()),
        "renewable": lease.is_some_and(|l| l.renewable),
        "lease_duration": lease.map_or(0, |l| l.ttl.as_secs()),
        "data": success.data,
        "wrap_info": success.wrap_info,
        "warnings": if success.warnings.is_empty() { Value::Null } else { json!(success.warnings) },
        "auth": success.auth,
        "mount_type": if wrapped || success.status != 200 { "" } else { mount_type },
    });
    if success.repeat_data
        && let (Some(body), Some(data)) = (body.as_object_mut(), success.data.as_object())
    {
        for (key, value) in data {
            body.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    body
}

/// A JSON answer with Vault's usual headers.
pub(crate) fn json_response(status: u16, body: Option<&Value>) -> Response<Bytes> {
    let text = body.map_or_else(Vec::new, |b| {
        let mut text = b.to_string().into_bytes();
        text.push(b'\n');
        text
    });
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert("cache-control", http::HeaderValue::from_static("no-store"));
    if body.is_some() {
        headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    }
    headers.insert(
        "strict-transport-security",
        http::HeaderValue::from_static("max-age=31536000; includeSubDomains"),
    );
    response
}

/// `{"errors":[...]}`.
pub(crate) fn error_body(errors: &[String]) -> Value {
    json!({ "errors": errors })
}
