//! The names below a path, and taking one away.

use super::endpoint::Request;
use http::Method;

impl Request {
    /// The names below `path`.
    #[must_use]
    pub fn list(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            query: Some("list=true".to_owned()),
            body: None,
            namespace: None,
            doing: format!("listing {path}"),
        }
    }

    /// Takes away what is at `path`.
    #[must_use]
    pub fn delete(path: &str) -> Self {
        let doing = format!("deleting {path}");
        Self {
            method: Method::DELETE,
            path: path.to_owned(),
            query: None,
            body: None,
            namespace: None,
            doing,
        }
    }
}
