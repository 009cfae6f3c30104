//! Which calls a script or a question is about. Pure.

use std::fmt;
use std::sync::Arc;

use crate::calls::Call;
use crate::policy;

type Condition = dyn Fn(&Call) -> bool + Send + Sync;

/// A condition on calls; all that is set must hold.
#[derive(Clone, Default)]
pub struct Matcher {
    method: Option<String>,
    path: Option<String>,
    namespace: Option<String>,
    status: Option<u16>,
    role: Option<String>,
    other: Option<Arc<Condition>>,
}

impl Matcher {
    /// Every call.
    pub fn any() -> Matcher {
        Matcher::default()
    }

    /// Calls whose path (without `/v1/`) fits a pattern: `+` is one segment, a trailing `*` any rest.
    pub fn path(pattern: &str) -> Matcher {
        Matcher { path: Some(pattern.trim_start_matches('/').to_string()), ..Matcher::default() }
    }

    /// Logins at any mount.
    pub fn login() -> Matcher {
        Matcher::path("auth/+/login")
    }

    /// Renewals of a token by itself.
    pub fn renew_self() -> Matcher {
        Matcher::path("auth/token/renew-self")
    }

    /// Only this method, as it was sent (`LIST` is one).
    #[must_use]
    pub fn method(self, method: &str) -> Matcher {
        Matcher { method: Some(method.to_ascii_uppercase()), ..self }
    }

    /// Only calls with this `X-Vault-Namespace`.
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Matcher {
        Matcher { namespace: Some(namespace.to_string()), ..self }
    }

    /// Only calls by a token of this login role.
    #[must_use]
    pub fn role(self, role: &str) -> Matcher {
        Matcher { role: Some(role.to_string()), ..self }
    }

    /// Only calls that were answered with this status. A script never sees one: it acts before the answer.
    #[must_use]
    pub fn status(self, status: u16) -> Matcher {
        Matcher { status: Some(status), ..self }
    }

    /// Only calls for which this is true.
    #[must_use]
    pub fn when(self, holds: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Matcher {
        Matcher { other: Some(Arc::new(holds)), ..self }
    }

    /// Whether a call fits.
    pub fn fits(&self, call: &Call) -> bool {
        self.method.as_ref().is_none_or(|m| *m == call.method)
            && self.path.as_ref().is_none_or(|p| policy::matches(p, &call.path))
            && self.namespace.as_ref().is_none_or(|n| call.namespace.as_ref() == Some(n))
            && self.role.as_ref().is_none_or(|r| call.role.as_ref() == Some(r))
            && self.status.is_none_or(|s| call.status == Some(s))
            && self.other.as_ref().is_none_or(|holds| holds(call))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("namespace", &self.namespace)
            .field("status", &self.status)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
