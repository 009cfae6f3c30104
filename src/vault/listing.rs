//! The names below a path, and taking one away.

use super::endpoint::Request;
use http::Method;

impl Request {
    /// The names below `path`.
    #[must_use]
    pub fn list(path: &str) -> Self {
        Self { query: Some("list=true".to_owned()), doing: format!("listing {path}"), ..Self::read(path) }
    }

    /// Takes away what is at `path`.
    #[must_use]
    pub fn delete(path: &str) -> Self {
        Self { method: Method::DELETE, doing: format!("deleting {path}"), ..Self::read(path) }
    }
}
