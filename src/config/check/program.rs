//! `workloads.N.peer.program`: what a peer must execute.
//!
//! Pure. Whether such a program exists is found out when a peer comes.

use super::super::reader::{Leaf, Map};
use crate::{
    crypto::{Hash, unhex},
    peer::{
        level::Level,
        program::{Allowance, Ancestry, LONGEST_PREFIX, MOST_DIGESTS, MOST_PREFIXES, Settings},
    },
};
use std::{os::unix::ffi::OsStrExt as _, path::PathBuf, sync::Arc};

const ALLOWANCE: [(&str, Allowance); 2] = [("deny", Allowance::Deny), ("allow", Allowance::Allow)];

/// Reads `program` of a `peer` whose level is known, or is a problem of its own. It must be there at level `program`, and at no
/// other.
pub(super) fn read(peer: &mut Map<'_>, level: Option<Level>) -> Option<Option<Arc<Settings>>> {
    let found = peer.find("program");
    match (found, level) {
        (Some(leaf), Some(Level::Program) | None) => settings(&leaf).map(|settings| Some(Arc::new(settings))),
        (Some(leaf), Some(level)) => {
            leaf.problem(
                format!("level {level} does not look at the program"),
                "write level: program beside it, or remove it",
            );
            // What else is wrong in it is found today.
            let _ = settings(&leaf);
            None
        }
        (None, Some(Level::Program)) => {
            peer.need(
                "program",
                "{exe_sha256: DIGEST}, with the digest that sha256sum prints",
                |_| None::<()>,
            );
            None
        }
        (None, _) => Some(None),
    }
}

fn settings(leaf: &Leaf<'_>) -> Option<Settings> {
    let mut map = leaf.map()?;
    let digests = map.need("exe_sha256", "the digest that sha256sum prints, or a list", digests);
    let defaults = Settings::of(Vec::new());
    let mappings = (defaults.allow_prefix, defaults.anon_exec);
    let mappings = map.or("mappings", mappings.clone(), |leaf| {
        let mut map = leaf.map()?;
        let prefixes = map.or("allow_prefix", mappings.0, prefixes);
        let anonymous = map.or("anon_exec", mappings.1, anonymous);
        map.finish();
        Some((prefixes?, anonymous?))
    });
    let no_new_privs = map.or("no_new_privs", defaults.no_new_privs, Leaf::flag);
    let seccomp = map.or("seccomp", defaults.seccomp, Leaf::flag);
    let ancestry = map.or("ancestry", defaults.ancestry, |leaf| {
        leaf.word(&[("any", Ancestry::Any), ("container-main", Ancestry::ContainerMain)])
    });
    let tty = map.or("tty", defaults.tty, |leaf| leaf.word(&ALLOWANCE));
    let steerable = map.or("accept_steerable", defaults.steerable, steerable);
    map.finish();
    let (allow_prefix, anon_exec) = mappings?;
    Some(Settings {
        exe_sha256: digests?,
        allow_prefix,
        anon_exec,
        no_new_privs: no_new_privs?,
        seccomp: seccomp?,
        ancestry: ancestry?,
        tty: tty?,
        steerable: steerable?,
    })
}

fn digests(leaf: &Leaf<'_>) -> Option<Vec<Hash>> {
    let members = leaf.one_or_many()?;
    if members.is_empty() || members.len() > MOST_DIGESTS {
        leaf.problem(format!("{} digests", members.len()), &format!("write 1 to {MOST_DIGESTS} of them"));
        return None;
    }
    let read: Vec<Option<Hash>> = members
        .iter()
        .map(|member| {
            let text = member.text()?;
            let digest = unhex(text.as_bytes()).filter(|_| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
            if digest.is_none() {
                member
                    .problem("not a SHA-256 in hex", "write the 64 digits that sha256sum prints, in quotes");
            }
            digest
        })
        .collect();
    read.into_iter().collect()
}

fn prefixes(leaf: &Leaf<'_>) -> Option<Vec<PathBuf>> {
    let prefixes = leaf.each(Leaf::path)?;
    if prefixes.len() > MOST_PREFIXES {
        leaf.problem(format!("{} directories", prefixes.len()), &format!("write at most {MOST_PREFIXES}"));
        return None;
    }
    if prefixes.iter().any(|prefix| prefix.as_os_str().as_bytes().len() > LONGEST_PREFIX) {
        leaf.problem("a very long directory", &format!("write at most {LONGEST_PREFIX} bytes for each"));
        return None;
    }
    Some(prefixes)
}

fn anonymous(leaf: &Leaf<'_>) -> Option<Allowance> {
    let allowance = leaf.word(&ALLOWANCE)?;
    if allowance == Allowance::Allow {
        leaf.warn(
            "code that is brought into the permitted program is not seen",
            "allow it only for a program that compiles at run time",
        );
    }
    Some(allowance)
}

fn steerable(leaf: &Leaf<'_>) -> Option<Allowance> {
    if !leaf.flag()? {
        return Some(Allowance::Deny);
    }
    leaf.warn(
        "a program that does what its input says is known no better than its container",
        "ship a compiled program of your own, or write level: container",
    );
    Some(Allowance::Allow)
}
