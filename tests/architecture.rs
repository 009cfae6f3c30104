//! The rules of the house, as tests: who may name whom, what a file must say, what a pure file may not do.
//!
//! Reads `src/` as text: it can be fooled, and is not meant to be.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Words that everyone may use, and which use nothing of ours but each other.
const WORDS: &[&str] = &["name", "secret", "clock", "shutdown", "crypto", "upload"];

/// Who may name whom, beside the words. `app` and `cli` may name everything; nobody may name them but `main`.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("telemetry", &[]),
    ("sandbox", &[]),
    ("peer", &["sandbox"]),
    ("vault", &[]),
    ("receiver", &[]),
    ("policy", &["peer"]),
    ("approval", &["policy", "receiver", "vault"]),
    ("keeper", &["approval", "peer", "vault"]),
    ("forward", &["approval", "broker", "policy", "vault"]),
    ("broker", &["policy", "keeper"]),
    ("usage", &[]),
    ("report", &["usage"]),
    ("audit", &["approval", "peer", "policy", "receiver", "vault", "broker", "usage"]),
    ("rotation", &["approval", "broker", "keeper", "sandbox", "vault"]),
    ("access", &["peer", "policy", "approval", "keeper", "forward", "broker", "audit"]),
    ("api", &["access", "peer"]),
    ("listener", &["api", "access", "peer"]),
    (
        "config",
        &[
            "approval",
            "audit",
            "broker",
            "keeper",
            "listener",
            "peer",
            "policy",
            "receiver",
            "report",
            "rotation",
            "sandbox",
            "telemetry",
            "vault",
        ],
    ),
];

/// Where the bytes of a secret may be looked at.
const MAY_EXPOSE: &[&str] = &[
    "secret/mod.rs",
    "api/value.rs",
    "approval/group/keep.rs",
    "receiver/credential.rs",
    "broker/inject/certificate.rs",
    "broker/inject/material.rs",
    "keeper/fingerprint.rs",
    "keeper/hold.rs",
    "keeper/kept.rs",
    "keeper/token.rs",
    "rotation/bootstrap/file.rs",
    "rotation/document.rs",
    "rotation/object.rs",
    "rotation/seal.rs",
    "rotation/system/template.rs",
    "vault/approle.rs",
    "vault/endpoint.rs",
    "vault/group.rs",
    "vault/login.rs",
    "vault/mod.rs",
    "vault/passage.rs",
];

/// The files outside `vault` that may name the HTTP library: sinks and webhooks post to receivers, and rotations have a Lease at a server,
/// that are not Vault, and nothing of Vault's client, its token least of all, may be near them.
const CLIENTS: &[&str] = &["receiver/client.rs", "rotation/kubernetes/client.rs"];

/// What a request passes through. None of it may name a sink: what it cannot name it cannot wait for.
const PATH: &[&str] =
    &["listener", "api", "access", "peer", "policy", "approval", "keeper", "forward", "vault", "broker"];

/// Lines of a file without its tests.
const LONGEST: usize = 400;

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The part before the tests.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap()
    }

    /// The code without comments.
    fn statements(&self) -> impl Iterator<Item = &str> {
        self.code().lines().filter(|line| !line.trim_start().starts_with("//"))
    }

    /// The first folder or file below `src`.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { text: fs::read_to_string(&path).unwrap(), path: name });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Files of tests only are held to no table: they may fake the outside as they need.
fn is_test(source: &Source) -> bool {
    source.path.contains("tests/") || source.path.ends_with("tests.rs")
}

/// The names behind each `crate::`, in `use crate::{a::b, c}` too.
fn names(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => drop(names.insert(word(rest))),
            Some(group) => {
                let (mut depth, mut fresh) = (0, true);
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => fresh = true,
                        c if fresh && depth == 0 && (c.is_alphabetic() || c == '_') => {
                            names.insert(word(&group[at..]));
                            fresh = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

#[test]
fn a_module_names_only_those_that_the_table_allows() {
    let table: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !is_test(source)) {
        let module = source.module();
        if ["app", "cli", "main", "lib"].contains(&module) {
            continue;
        }
        let code: String = source.statements().flat_map(|line| [line, "\n"]).collect();
        for name in names(&code) {
            let allowed = WORDS.contains(&name.as_str())
                || name == module
                || table.get(module).is_some_and(|allowed| allowed.contains(&name.as_str()));
            if !allowed {
                faults.push(format!("{}: `{module}` may not name `{name}`", source.path));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_module_stands_in_the_table() {
    let known: BTreeSet<&str> = MAY_NAME
        .iter()
        .map(|(module, _)| *module)
        .chain(WORDS.iter().copied())
        .chain(["app", "cli", "main", "lib"])
        .collect();
    let unknown: BTreeSet<String> = sources()
        .iter()
        .map(|source| source.module().to_owned())
        .filter(|module| !known.contains(module.as_str()))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_table_has_no_cycle() {
    let table: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    for (start, _) in MAY_NAME {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut next: Vec<&str> = table[start].to_vec();
        while let Some(module) = next.pop() {
            assert_ne!(module, *start, "{start} reaches itself");
            if reached.insert(module) {
                next.extend(table.get(module).copied().unwrap_or_default());
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_on_its_first_line() {
    let silent: Vec<_> =
        sources().into_iter().filter(|source| !source.text.starts_with("//! ")).map(|s| s.path).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|source| !is_test(source) && source.code().lines().count() > LONGEST)
        .map(|source| format!("{}: {} lines", source.path, source.code().lines().count()))
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn a_pure_file_neither_waits_nor_looks_outside() {
    let mut faults = Vec::new();
    for source in sources() {
        let head: String = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
        if !head.contains("Pure.") {
            continue;
        }
        for line in source.statements() {
            let line = line.replace("tokio::time::Instant", "");
            for outside in [
                ".await",
                "async fn",
                "tokio::",
                "std::fs",
                "File::open",
                "UnixStream",
                "clock::now",
                "Instant::now",
            ] {
                if line.contains(outside) {
                    faults.push(format!("{}: {outside} in `{}`", source.path, line.trim()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn only_the_kernels_file_is_unsafe() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|source| {
            source.statements().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"))
        })
        .map(|source| source.path)
        .collect();
    assert_eq!(found, ["peer/kernel.rs"]);
}

#[test]
fn secrets_are_looked_at_in_few_places() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|source| !is_test(source) && source.statements().any(|line| line.contains(".expose()")))
        .map(|source| source.path)
        .filter(|path| !MAY_EXPOSE.contains(&path.as_str()))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn only_vault_names_its_client_libraries() {
    let names = |source: &Source, names: &[&str]| names.iter().any(|name| source.code().contains(name));
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.module() != "vault")
        .filter(|source| {
            names(source, &["vaultrs::", "rustify::"])
                || (!CLIENTS.contains(&source.path.as_str()) && names(source, &["reqwest::"]))
        })
        .map(|source| source.path)
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

/// A sink that is black-holed cannot slow a request: a request waits for the journal's thread alone, and what a request
/// passes through does not even know that there are sinks.
#[test]
fn no_request_waits_for_a_sink() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| PATH.contains(&source.module()) && !is_test(source)) {
        for line in source.statements() {
            let line = line.replace("tokio::io::sink()", "");
            let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            if words.iter().any(|word| ["sink", "sinks", "Sinks"].contains(word)) {
                faults.push(format!("{}: `{}`", source.path, line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    // And the journal, which requests do wait for, only wakes sinks: it never calls one.
    let journal = ["audit/writer.rs", "audit/queue.rs", "audit/journal/"];
    let named = ["sink::tail::Tail", "sink::{self, cursor::Cursor}"];
    for source in sources().iter().filter(|source| journal.iter().any(|path| source.path.starts_with(path))) {
        for line in source.statements().filter(|line| line.contains("sink::") && !is_test(source)) {
            assert!(named.iter().any(|name| line.contains(name)), "{}: `{}`", source.path, line.trim());
        }
    }
}
