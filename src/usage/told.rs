//! What one event says of the use of a permission: which events count, and as what. Pure.
//!
//! The same for an event that is being recorded and for one that is read back.

/// What an event says, as far as it matters here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told<'a> {
    /// Its type: `secret.read.v1`.
    pub kind: &'a str,
    /// `allow`, `deny` or `error`.
    pub outcome: &'a str,
    /// Whose socket it came in by.
    pub workload: Option<&'a str>,
    /// The rule that allowed it.
    pub rule: Option<&'a str>,
    /// The key in `secrets`.
    pub secret: Option<&'a str>,
    /// The key in `upstreams`.
    pub upstream: Option<&'a str>,
    /// Where it is in Vault.
    pub path: Option<&'a str>,
    /// The engine that has it.
    pub mount: Option<&'a str>,
    /// One field of it.
    pub field: Option<&'a str>,
    /// The version of a kv secret, else a counter of the agent's own.
    pub version: Option<u64>,
    /// The keyed hash of the value.
    pub fingerprint: Option<&'a str>,
    /// What was done, of a request in Vault's API.
    pub operation: Option<&'a str>,
    /// `kv`, `lease`, `token`, `certificate`.
    pub sort: Option<&'a str>,
    /// How surely the peer was known.
    pub level: Option<&'a str>,
    /// How many equal refusals it stands for; `None`: it is one.
    pub count: Option<u64>,
    /// The lease that came back, or was asked about, by the hash of its id.
    pub lease: Option<&'a str>,
    /// Why not, if not.
    pub reason: Option<&'a str>,
    /// Which login it is about.
    pub identity: Option<&'a str>,
    /// Which run of which rotation.
    pub rotation: Option<Rotated<'a>>,
    /// Which request for a person's yes.
    pub approval: Option<&'a str>,
    /// Where an emergency is written down.
    pub ticket: Option<&'a str>,
    /// The first eight bytes of the hash of the program that asked, where that was proved.
    pub exe: Option<u64>,
    /// Which agent says so; `None` in the agent itself.
    pub source: Option<&'a str>,
    /// Where a value was seen that must not be there, or what was looked at.
    pub exposure: Option<super::exposed::Told<'a>>,
}

/// What an event says of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated<'a> {
    /// The key in `rotations`.
    pub name: &'a str,
    /// The version that consumers read before.
    pub from: Option<u64>,
    /// The slot, in local time with its offset.
    pub slot: Option<&'a str>,
}

/// What was done with a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// It was read.
    Read,
    /// It was listed.
    List,
    /// It was written: Vault's `create` or `update`, which only Vault can tell apart.
    Write,
    /// A part of it was written.
    Patch,
    /// It was deleted.
    Delete,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was permitted and done.
    Allow,
    /// It was refused.
    Deny,
    /// An old value was given, since Vault could not be asked.
    Stale,
    /// Nothing was done: a rule stands in the config.
    Granted,
}

/// One use of one permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use<'a> {
    /// Whose.
    pub workload: &'a str,
    /// By which rule.
    pub rule: Option<&'a str>,
    /// Of which secret.
    pub secret: Option<&'a str>,
    /// Of which upstream.
    pub upstream: Option<&'a str>,
    /// Where in Vault.
    pub path: Option<&'a str>,
    /// In which engine, where Vault said it.
    pub mount: Option<&'a str>,
    /// Which field.
    pub field: Option<&'a str>,
    /// Of a kv secret only: the others have a new version with each lease.
    pub version: Option<u64>,
    /// The same.
    pub fingerprint: Option<&'a str>,
    /// What was done.
    pub capability: Capability,
    /// How it ended.
    pub end: End,
    /// How surely the peer was known: 0 for `reach` to 4 for `program`.
    pub level: Option<u8>,
    /// The program that was refused, by the first eight bytes of its hash; `None` of what was not, or where none was proved.
    pub exe: Option<u64>,
    /// Whether a person had said yes to it.
    pub is_approved: bool,
    /// How often.
    pub count: u64,
}

/// The words of the levels, weakest first.
pub(super) const LEVELS: &[&str] = &["reach", "user", "process", "container", "program"];

impl Capability {
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

    /// The one of that word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Read, Self::List, Self::Write, Self::Patch, Self::Delete];
        all.into_iter().find(|one| one.word() == word)
    }
}

impl<'a> Told<'a> {
    /// What a request in Vault's own API read, wrote or patched, and did; `None` where it gave or changed no value that stays, as a lease does not.
    #[must_use]
    pub fn path_in_vault(&self) -> Option<(&'a str, Capability)> {
        let is_of_api = matches!(self.kind, "vault.called.v1" | "vault.result.v1");
        if !is_of_api || self.outcome != "allow" || self.lease.is_some() {
            return None;
        }
        let capability = Capability::of(self.operation?)?;
        let is_value = matches!(capability, Capability::Read | Capability::Write | Capability::Patch);
        is_value.then_some((self.path?, capability))
    }

    /// The use of a permission that the event tells of, if it tells of one. An event that says how something ended that was
    /// counted before, a list of names, and what failed are none.
    #[must_use]
    pub fn of_use(&self) -> Option<Use<'a>> {
        let end = match (self.kind, self.outcome) {
            ("secret.read.v1" | "upstream.intent.v1", "allow") => End::Allow,
            ("secret.stale_served.v1", "allow") => End::Stale,
            ("vault.called.v1" | "vault.result.v1", "allow") => End::Allow,
            ("vault.called.v1" | "vault.result.v1" | "vault.denied.v1", "deny") => End::Deny,
            ("secret.denied.v1" | "upstream.denied.v1", "deny") => End::Deny,
            _ => return None,
        };
        if end != End::Deny && self.rule.is_none() {
            return None;
        }
        // Who waits for a person's yes asks again and again, as it should.
        if self.reason == Some("approval_pending") {
            return None;
        }
        let capability = match (self.operation, self.sort) {
            (Some(operation), _) => Capability::of(operation)?,
            (None, Some("token" | "certificate")) => Capability::Write,
            (None, _) => Capability::Read,
        };
        let is_kv = self.sort == Some("kv");
        Some(Use {
            workload: self.workload?,
            rule: self.rule,
            secret: self.secret,
            upstream: self.upstream,
            path: self.path,
            mount: self.mount,
            field: self.field,
            version: self.version.filter(|_| is_kv),
            fingerprint: self.fingerprint.filter(|_| is_kv),
            capability,
            end,
            level: self.level.and_then(level),
            exe: self.exe.filter(|_| end == End::Deny),
            is_approved: end != End::Deny && self.approval.is_some(),
            count: self.count.unwrap_or(1),
        })
    }
}

/// How sure the level of that word is.
fn level(word: &str) -> Option<u8> {
    LEVELS.iter().position(|level| *level == word).and_then(|place| u8::try_from(place).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        kind: &str,
        outcome: &str,
        rule: Option<&str>,
        operation: Option<&str>,
        expected: Option<(End, Capability)>,
    ) {
        let told = Told { kind, outcome, rule, operation, workload: Some("job"), ..Told::default() };
        assert_eq!(told.of_use().map(|one| (one.end, one.capability)), expected, "{kind} {outcome}");
    }

    #[test]
    fn each_access_counts_once_and_as_what_it_was() {
        let rule = Some("keys");
        check("secret.read.v1", "allow", rule, None, Some((End::Allow, Capability::Read)));
        check("secret.stale_served.v1", "allow", rule, None, Some((End::Stale, Capability::Read)));
        check("secret.denied.v1", "deny", None, None, Some((End::Deny, Capability::Read)));
        check("vault.called.v1", "allow", rule, Some("list"), Some((End::Allow, Capability::List)));
        check("vault.result.v1", "allow", rule, Some("write"), Some((End::Allow, Capability::Write)));
        check("vault.result.v1", "deny", rule, Some("delete"), Some((End::Deny, Capability::Delete)));
        check("upstream.intent.v1", "allow", rule, None, Some((End::Allow, Capability::Read)));
        // A list of names; what came of an intent; what failed.
        check("secret.read.v1", "allow", None, None, None);
        check("vault.intent.v1", "allow", rule, Some("write"), None);
        check("upstream.result.v1", "allow", rule, None, None);
        check("secret.read.v1", "error", rule, None, None);
        check("secret.denied.v1", "error", rule, None, None);
        check("vault.called.v1", "allow", rule, Some("fly"), None);
        check("auth.login.v1", "allow", rule, None, None);
    }

    #[test]
    fn only_a_kv_secret_has_versions() {
        let told = Told {
            kind: "secret.read.v1",
            outcome: "allow",
            workload: Some("job"),
            rule: Some("keys"),
            version: Some(7),
            fingerprint: Some("k1:x"),
            sort: Some("kv"),
            level: Some("process"),
            ..Told::default()
        };
        let one = told.of_use().unwrap();
        assert_eq!((one.version, one.fingerprint, one.level, one.count), (Some(7), Some("k1:x"), Some(2), 1));
        let one = Told { sort: Some("lease"), count: Some(40), ..told }.of_use().unwrap();
        assert_eq!((one.version, one.fingerprint, one.count), (None, None, 40));
    }
}
