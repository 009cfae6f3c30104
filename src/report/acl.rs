//! What a policy of Vault allows: paths, capabilities, and which of several paths that match is the one. Pure.
//!
//! By Vault's documentation, "Policies" (concepts/policies, sections "Policy syntax" and "Priority matching"). Parameters and wrapping
//! are not looked at.

use std::collections::{BTreeMap, BTreeSet};

/// What may be done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// To write what is not there.
    Create,
    /// To read.
    Read,
    /// To write what is there.
    Update,
    /// To write a part.
    Patch,
    /// To delete.
    Delete,
    /// To list.
    List,
    /// To use what only root may.
    Sudo,
    /// Nothing, whatever else is granted.
    Deny,
}

impl Capability {
    const ALL: [Self; 8] = [
        Self::Create,
        Self::Read,
        Self::Update,
        Self::Patch,
        Self::Delete,
        Self::List,
        Self::Sudo,
        Self::Deny,
    ];

    /// Vault's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Sudo => "sudo",
            Self::Deny => "deny",
        }
    }

    /// The one of that word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// What some policies grant together, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    /// Everything is allowed.
    pub root: bool,
    paths: BTreeMap<String, BTreeSet<Capability>>,
}

/// How well a path of a policy matches, the worst first: the documentation's five rules, in their order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    /// The first `+` or `*`, the later the better.
    first: usize,
    is_whole: bool,
    /// Fewer `+` are better.
    segments: std::cmp::Reverse<usize>,
    length: usize,
    path: &'a str,
}

impl Acl {
    /// Adds what `path` may be used for. What stands in several policies is granted together.
    pub fn grant(&mut self, path: &str, capabilities: impl IntoIterator<Item = Capability>) {
        self.paths.entry(path.trim_start_matches('/').to_owned()).or_default().extend(capabilities);
    }

    /// Every path of the policies, with what may be done there.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &BTreeSet<Capability>)> {
        self.paths.iter().map(|(path, capabilities)| (path.as_str(), capabilities))
    }

    /// What may be done with `path`, in the order of the words; empty: nothing. A list has a slash at its end.
    #[must_use]
    pub fn capabilities(&self, path: &str, wanted: Capability) -> BTreeSet<Capability> {
        let exact = self.paths.get(path);
        let folder = || self.paths.get(path.strip_suffix('/')?).filter(|_| wanted == Capability::List);
        let found = exact.or_else(folder).or_else(|| self.best(path));
        let found = found.cloned().unwrap_or_default();
        if found.contains(&Capability::Deny) { BTreeSet::new() } else { found }
    }

    /// Whether `wanted` may be done with `path`.
    #[must_use]
    pub fn allows(&self, path: &str, wanted: Capability) -> bool {
        self.root || self.capabilities(path, wanted).contains(&wanted)
    }

    fn best(&self, path: &str) -> Option<&BTreeSet<Capability>> {
        let matching = self.paths.iter().filter(|(pattern, _)| is_pattern(pattern) && matches(pattern, path));
        matching.max_by_key(|(pattern, _)| rank(pattern)).map(|(_, capabilities)| capabilities)
    }
}

/// Whether more than one path can match.
#[must_use]
pub fn is_pattern(path: &str) -> bool {
    path.ends_with('*') || path.split('/').any(|segment| segment == "+")
}

fn rank(pattern: &str) -> Rank<'_> {
    let plus = pattern.split('/').scan(0_usize, |at, segment| {
        let here = *at;
        *at = at.saturating_add(segment.len()).saturating_add(1);
        Some((here, segment))
    });
    let plus: Vec<usize> = plus.filter(|(_, segment)| *segment == "+").map(|(at, _)| at).collect();
    let glob = pattern.ends_with('*').then(|| pattern.len().saturating_sub(1));
    Rank {
        first: plus.first().copied().into_iter().chain(glob).min().unwrap_or(usize::MAX),
        is_whole: glob.is_none(),
        segments: std::cmp::Reverse(plus.len()),
        length: pattern.len(),
        path: pattern,
    }
}

/// `+` is one segment, a `*` at the end any rest of the text.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let (head, is_glob) = pattern.strip_suffix('*').map_or((pattern, false), |head| (head, true));
    let mut found = path.split('/');
    let mut wanted = head.split('/').peekable();
    while let Some(segment) = wanted.next() {
        let Some(here) = found.next() else { return false };
        let is_last = wanted.peek().is_none();
        let fits = segment == "+" || segment == here || (is_glob && is_last && here.starts_with(segment));
        if !fits {
            return false;
        }
        if is_glob && is_last {
            return true;
        }
    }
    found.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(lines: &[(&str, Capability)]) -> Acl {
        let mut acl = Acl::default();
        lines.iter().for_each(|(path, capability)| acl.grant(path, [*capability]));
        acl
    }

    #[track_caller]
    fn check(pattern: &str, path: &str, expected: bool) {
        assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
    }

    #[test]
    fn a_plus_is_one_segment_and_a_star_any_rest() {
        check("secret/a", "secret/a", true);
        check("secret/a", "secret/ab", false);
        check("secret/*", "secret/a/b", true);
        check("secret/*", "secret/", true);
        check("secret/*", "secret", false);
        check("secret/a*", "secret/abc/d", true);
        check("secret/a*", "secret/b", false);
        check("secret/+/c", "secret/b/c", true);
        check("secret/+/c", "secret/b/d/c", false);
        check("secret/+", "secret/b", true);
        check("secret/+", "secret/b/c", false);
        check("+/a", "x/a", true);
        check("secret/+/c*", "secret/b/cd/e", true);
        check("secret/+/*", "secret/b/c", true);
        check("*", "anything/at/all", true);
    }

    #[track_caller]
    fn wins(better: &str, worse: &str, path: &str) {
        for order in [
            [(better, Capability::Read), (worse, Capability::List)],
            [(worse, Capability::List), (better, Capability::Read)],
        ] {
            let found = acl(&order).capabilities(path, Capability::Read);
            assert_eq!(found, BTreeSet::from([Capability::Read]), "{better} before {worse} for {path}");
        }
    }

    /// The documentation's rules, and its own examples where it has them.
    #[test]
    fn of_several_paths_that_match_the_most_exact_is_the_one() {
        wins("secret/a", "secret/*", "secret/a");
        wins("secret/a", "secret/+", "secret/a");
        wins("secret/a*", "secret/*", "secret/abc");
        wins("secret/a*", "secret/+", "secret/abc");
        wins("secret/a/+", "secret/+/b", "secret/a/b");
        wins("secret/+", "secret/*", "secret/a");
        wins("secret/+/b", "secret/+/*", "secret/a/b");
        wins("secret/+/b/c", "secret/+/+/c", "secret/a/b/c");
        wins("secret/+/ab*", "secret/+/a*", "secret/x/abc");
    }

    #[test]
    fn deny_wins_and_nothing_is_allowed_by_default() {
        let read = |lines: &[(&str, Capability)], path| acl(lines).allows(path, Capability::Read);
        assert!(!read(&[], "secret/a"));
        assert!(!read(&[("secret/*", Capability::Read), ("secret/a", Capability::Deny)], "secret/a"));
        assert!(!read(&[("secret/a", Capability::Read), ("secret/a", Capability::Deny)], "secret/a"));
        assert!(read(&[("secret/*", Capability::Deny), ("secret/a", Capability::Read)], "secret/a"));
        assert!(Acl { root: true, ..Acl::default() }.allows("sys/seal", Capability::Sudo));
    }

    #[test]
    fn a_list_is_also_allowed_by_the_path_without_its_slash() {
        let acl = acl(&[("secret/metadata/a", Capability::List), ("secret/metadata/b", Capability::Read)]);
        assert!(acl.allows("secret/metadata/a/", Capability::List));
        assert!(!acl.allows("secret/metadata/b/", Capability::Read));
        assert!(!acl.allows("secret/metadata/a/x", Capability::List));
    }
}
