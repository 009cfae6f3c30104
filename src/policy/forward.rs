//! What of Vault's own API a rule allows, and what no rule can allow.
//!
//! Pure. Sees method, namespace and path; of the headers none but the namespace, and no body but that of a request for a child token.

use super::{
    child::{Child, ChildTerms},
    pattern::{Path, Pattern},
    rule::Rule,
};
use crate::name::IdentityName;
use std::time::Duration;

/// What is done in Vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// GET, and HEAD.
    Read,
    /// LIST, and GET with `list=true`.
    List,
    /// POST and PUT, which are one to Vault.
    Write,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl Operation {
    /// The word of the events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Write => "write",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    /// Whether it may change something in Vault: then its intent is on record before it is done, and it is never sent twice.
    #[must_use]
    pub fn changes(self) -> bool {
        matches!(self, Self::Write | Self::Patch | Self::Delete)
    }
}

/// Which answers may be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// None.
    #[default]
    Off,
    /// Those with a lease or a child token in it, until that nears its end.
    Leases,
    /// Reads without a lease, for so long.
    Kv(Duration),
}

/// A rule that allows a part of Vault's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardRule {
    /// Its name, its audit mode and its rate; it names no secrets.
    pub rule: Rule,
    /// With whose token.
    pub identity: IdentityName,
    /// At least one, unless it is about child tokens alone.
    pub paths: Vec<Pattern>,
    /// At least one.
    pub operations: Vec<Operation>,
    /// In which namespace, without slashes at its ends; `None` is the root.
    pub namespace: Option<String>,
    /// The child tokens that may be asked for; `None`: none.
    pub tokens: Option<ChildTerms>,
    /// Which answers may be given again.
    pub cache: Cache,
    /// What may be done to the cache itself.
    pub controls: Vec<Control>,
    /// The longest body that it lets be sent, in bytes.
    pub max_request: u64,
    /// The longest that an answer may be wrapped; `None`: not at all.
    pub wrap: Option<Duration>,
}

/// What scripts ask of Vault's own proxy, below `/agent/v1` and `/proxy/v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// `cache-clear`, of the workload's own cache.
    Clear,
    /// `metrics`, of the workload's own part.
    Metrics,
}

/// What a peer wants of Vault's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What is to be done.
    pub operation: Operation,
    /// Below `/v1/`; a list's ends in a slash.
    pub path: Path,
    /// The namespace that the client named in a header, without slashes at its ends.
    pub namespace: Option<String>,
    /// Where it is for us, and nothing of it is Vault's.
    pub control: Option<Control>,
}

/// What a permit allows to be sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// With whose token.
    pub identity: IdentityName,
    /// In which namespace.
    pub namespace: Option<String>,
    /// What is to be done.
    pub operation: Operation,
    /// Within the namespace.
    pub path: Path,
    /// What no rule needs to name, since it is about what the client has already.
    pub own: Option<Own>,
    /// The child token that may be made by it.
    pub child: Option<Child>,
    /// Whether its answer may be given again.
    pub cache: Cache,
    /// The longest body that may be sent, in bytes.
    pub max_request: u64,
    /// The longest that its answer may be wrapped; `None`: not at all.
    pub wrap: Option<Duration>,
}

impl Forwarding {
    /// Whether its answer may stay wrapped for `asked`: where what is in it cannot be ours, which is in engines of secrets alone.
    #[must_use]
    pub fn may_be_wrapped(&self, asked: Duration) -> bool {
        let is_ours = |segment: &str| ["auth", "sys", "identity", "cubbyhole"].contains(&segment);
        let path = self.path.as_str().to_ascii_lowercase();
        let is_allowed = self.wrap.is_some_and(|longest| asked <= longest);
        is_allowed && self.own.is_none() && self.child.is_none() && !path.split('/').any(is_ours)
    }
}

/// What a client may ask about the token that its requests are made with, which is answered by us and without it; or about its leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// `auth/token/lookup-self`
    LookUp,
    /// `auth/token/renew-self`
    Renew,
    /// `auth/token/revoke-self`
    Revoke,
    /// `sys/leases/renew`, `lookup` or `revoke`: sent on, if the lease that the body names was handed to this workload.
    Lease,
    /// `auth/token/renew`, `lookup` or `revoke`, or one of these with `-accessor`: sent on, if the token that the body names is a child
    /// that was made for this workload.
    Child,
    /// Below `/agent/v1`, where a rule names it.
    Control(Control),
}

impl Own {
    /// Whether it is answered by us, and nothing of it reaches Vault as it is.
    #[must_use]
    pub fn is_answered_here(self) -> bool {
        matches!(self, Self::LookUp | Self::Renew | Self::Revoke | Self::Control(_))
    }
}

/// Paths of `sys/` that a rule may allow. The others show requests, tokens or memory of the server, end leases of others, or change
/// what Vault writes and loads.
const SYS: &[&str] = &[
    "sys/auth",
    "sys/auth/*",
    "sys/capabilities-self",
    "sys/health",
    "sys/internal/ui/mounts",
    "sys/internal/ui/mounts/*",
    "sys/leader",
    "sys/mounts",
    "sys/mounts/*",
    "sys/policies/*",
    "sys/policy",
    "sys/policy/*",
    "sys/seal-status",
    "sys/storage/raft/snapshot",
    "sys/tools/*",
];

/// What is never sent on, wherever in a path it begins: a namespace may stand before it.
const NEVER: &[&str] = &[
    "cubbyhole",
    "auth/token",
    "sys/leases",
    "sys/wrapping",
    "sys/renew",
    "sys/revoke",
    "sys/revoke-prefix",
    "sys/revoke-force",
    "sys/raw",
    "sys/mfa",
    "sys/audit",
    "sys/in-flight-req",
    "sys/pprof",
    "sys/monitor",
];

impl ForwardRule {
    /// The path within the rule's namespace, if the rule allows `target`.
    pub(super) fn allows(&self, target: &Target) -> Option<Path> {
        let allows = |path: &Path| {
            self.operations.contains(&target.operation) && self.paths.iter().any(|it| it.matches(path))
        };
        self.within(target).filter(allows)
    }

    /// The path within the rule's namespace, and the terms, if `target` is where its child tokens are made.
    pub(super) fn makes(&self, target: &Target) -> Option<(Path, &ChildTerms)> {
        let (path, terms) = (self.within(target)?, self.tokens.as_ref()?);
        (target.operation == Operation::Write && path.as_str() == terms.path()).then_some((path, terms))
    }

    /// The path within the rule's namespace, if it is in it: header and path prefix together name one.
    pub(super) fn within(&self, target: &Target) -> Option<Path> {
        let own = self.namespace.as_deref().unwrap_or_default();
        let named = target.namespace.as_deref().unwrap_or_default();
        if own == named {
            return Some(target.path.clone());
        }
        let rest = match named {
            "" => own,
            named => own.strip_prefix(named)?.strip_prefix('/')?,
        };
        target.path.below(rest).or_else(|| target.namespace.is_none().then(|| target.path.clone()))
    }
}

/// What is asked about our own token or the client's leases, if that is what `path` is.
pub(super) fn own(operation: Operation, path: &Path) -> Option<Own> {
    match (path.as_str(), operation) {
        ("auth/token/lookup-self", Operation::Read) => Some(Own::LookUp),
        ("auth/token/renew-self", Operation::Write) => Some(Own::Renew),
        ("auth/token/revoke-self", Operation::Write) => Some(Own::Revoke),
        ("sys/leases/renew" | "sys/leases/lookup" | "sys/leases/revoke", Operation::Write) => {
            Some(Own::Lease)
        }
        (
            "auth/token/renew"
            | "auth/token/lookup"
            | "auth/token/revoke"
            | "auth/token/renew-accessor"
            | "auth/token/lookup-accessor"
            | "auth/token/revoke-accessor",
            Operation::Write,
        ) => Some(Own::Child),
        _ => None,
    }
}

/// Whether no rule can allow `path`: what is there could give our token away, another one out, or end what is not the client's.
#[must_use]
pub fn is_never(path: &str) -> bool {
    let path = path.trim_end_matches('/').to_ascii_lowercase();
    let begins = |rest: &str, with: &str| {
        rest.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let starts = std::iter::once(0).chain(path.match_indices('/').map(|(at, _)| at + 1));
    let rests = starts.filter_map(|at| path.get(at..));
    let never = |rest: &str| NEVER.iter().any(|never| begins(rest, never));
    rests.into_iter().any(never) || is_login(&path) || is_closed(&path)
}

/// A login gives out a token, and with one that is not ours nothing here is bound.
fn is_login(path: &str) -> bool {
    let mut segments = path.split('/');
    let words = ["login", "oidc", "callback", "saml", "mfa"];
    segments.any(|segment| segment == "auth") && segments.any(|segment| words.contains(&segment))
}

fn is_closed(path: &str) -> bool {
    let open = |pattern: &str| match pattern.strip_suffix("/*") {
        Some(folder) => path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')),
        None => path == pattern,
    };
    (path == "sys" || path.starts_with("sys/")) && !SYS.iter().any(|pattern| open(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::RuleName;

    fn rule(namespace: Option<&str>, paths: &[&str], operations: &[Operation]) -> ForwardRule {
        let rule = Rule {
            name: RuleName::new("tree").unwrap(),
            secrets: Vec::new(),
            audit: None,
            requests_per_second: None,
            break_glass: None,
            approval: None,
        };
        ForwardRule {
            rule,
            identity: IdentityName::new("reports").unwrap(),
            paths: paths.iter().map(|text| Pattern::parse(text).unwrap()).collect(),
            operations: operations.to_vec(),
            namespace: namespace.map(str::to_owned),
            tokens: None,
            cache: Cache::Off,
            controls: Vec::new(),
            max_request: 0,
            wrap: None,
        }
    }

    #[track_caller]
    fn check(own: Option<&str>, named: Option<&str>, path: &str, expected: Option<&str>) {
        let rule = rule(own, &["secret/data/*"], &[Operation::Read]);
        let namespace = named.map(str::to_owned);
        let target =
            Target { operation: Operation::Read, path: Path::parse(path).unwrap(), namespace, control: None };
        let allowed = rule.allows(&target).map(|path| path.to_string());
        assert_eq!(allowed.as_deref(), expected, "{own:?} {named:?} {path}");
        assert_eq!(rule.allows(&Target { operation: Operation::Write, ..target }), None);
    }

    #[test]
    fn header_and_path_prefix_name_one_namespace() {
        let x = Some("secret/data/x");
        check(None, None, "secret/data/x", x);
        check(None, Some(""), "secret/data/x", x);
        check(None, Some("ns1"), "secret/data/x", None);
        check(None, None, "ns1/secret/data/x", None);
        check(Some("ns1/team"), None, "secret/data/x", x);
        check(Some("ns1/team"), None, "ns1/team/secret/data/x", x);
        check(Some("ns1/team"), Some("ns1"), "team/secret/data/x", x);
        check(Some("ns1/team"), Some("ns1/team"), "secret/data/x", x);
        check(Some("ns1/team"), Some("ns1"), "secret/data/x", None);
        check(Some("ns1/team"), Some("ns1/tea"), "m/secret/data/x", None);
        check(Some("ns1/team"), Some("ns1/team"), "ns1/team/secret/data/x", None);
        check(Some("ns1/team"), Some("other"), "secret/data/x", None);
    }

    #[track_caller]
    fn never(paths: &[&str], expected: bool) {
        for path in paths {
            assert_eq!(is_never(path), expected, "{path}");
        }
    }

    #[test]
    fn what_could_give_a_token_out_is_never_sent_on() {
        never(
            &[
                "auth/token/lookup-self",
                "auth/token/lookup",
                "auth/token/create",
                "auth/token/accessors/",
                "AUTH/Token/Lookup-Self",
                "ns1/auth/token/lookup-self",
                "ns1/team/auth/token/create",
                "cubbyhole/x",
                "cubbyhole",
                "ns1/cubbyhole/x",
                "sys/wrapping/unwrap",
                "sys/leases/revoke-prefix/x",
                "sys/leases/lookup",
                "sys/revoke/x",
                "auth/approle/login",
                "auth/a/b/login/user",
                "ns1/auth/userpass/login/me",
                "auth/oidc/oidc/callback",
                "sys/raw/core",
                "sys/in-flight-req",
                "sys/pprof/heap",
                "sys/audit/file",
                "sys/mfa/validate",
                "sys/generate-root/attempt",
                "sys/plugins/catalog/auth/x",
                "sys",
                "sys/healthy",
            ],
            true,
        );
        never(
            &[
                "secret/data/auth/x",
                "auth/approle/role/app/secret-id",
                "sys/mounts",
                "sys/mounts/",
                "sys/health",
                "sys/internal/ui/mounts/secret/x",
                "secret/data/login",
                "cubbyholes/x",
                "secret/data/sys/leasesx",
            ],
            false,
        );
    }

    #[track_caller]
    fn wraps(wrap: Option<u64>, path: &str, own: Option<Own>, asked: u64) -> bool {
        let forwarding = Forwarding {
            identity: IdentityName::new("reports").unwrap(),
            namespace: None,
            operation: Operation::Read,
            path: Path::parse(path).unwrap(),
            own,
            child: None,
            cache: Cache::Off,
            max_request: 0,
            wrap: wrap.map(Duration::from_secs),
        };
        forwarding.may_be_wrapped(Duration::from_secs(asked))
    }

    #[test]
    fn what_could_have_our_token_in_it_is_never_wrapped() {
        assert!(wraps(Some(300), "secret/data/x", None, 300));
        assert!(!wraps(Some(300), "secret/data/x", None, 301), "for longer than its rule says");
        assert!(!wraps(None, "secret/data/x", None, 1), "a rule that says nothing of it");
        for path in
            ["auth/token/x", "ns1/AUTH/x", "sys/mounts", "ns1/sys/health", "identity/entity", "cubbyhole/x"]
        {
            assert!(!wraps(Some(300), path, None, 1), "{path}");
        }
        assert!(!wraps(Some(300), "secret/data/x", Some(Own::Lease), 1));
    }
}
