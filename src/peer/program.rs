//! Level `program`: what is required of the image that a process executes, and the judgement of what was read of it. Pure.
//!
//! Does not read anything: the attestor does, and gives [`Facts`]. Knows nothing of the nonce, without which none of this is a
//! boundary: a process may become the permitted program after it has written its request.

use super::steerable;
use crate::crypto::Hash;
use std::path::{Path, PathBuf};

/// The most digests that settings may have.
pub const MOST_DIGESTS: usize = 16;
/// The most prefixes that settings may have.
pub const MOST_PREFIXES: usize = 16;
/// The longest prefix, in bytes.
pub const LONGEST_PREFIX: usize = 255;
/// Where the libraries of a system lie (Filesystem Hierarchy Standard 3.0).
pub const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// What is required of a process at level `program`; all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// SHA-256 of the executables that may ask: at most [`MOST_DIGESTS`]. An empty list permits none.
    pub exe_sha256: Vec<Hash>,
    /// Below which directories the files lie that it may execute code from, beside its own executable: absolute, at most
    /// [`MOST_PREFIXES`] of at most [`LONGEST_PREFIX`] bytes. Each file must be root's and not writable by others, too.
    pub allow_prefix: Vec<PathBuf>,
    /// Code in memory that no file backs, or none that still has a name: what a JIT compiler makes. Allowed, it leaves nothing
    /// but the digest: code that was brought in looks the same.
    pub anon_exec: Allowance,
    /// Whether `no_new_privs` must be set (prctl(2)).
    pub no_new_privs: bool,
    /// Whether a seccomp filter must be in force.
    pub seccomp: bool,
    /// From whom it must descend.
    pub ancestry: Ancestry,
    /// A controlling terminal, as `kubectl exec -t` gives.
    pub tty: Allowance,
    /// A program that does what its input says. A guard against a slip of whoever writes the config, and no boundary: it goes
    /// by names, and whoever may choose the digest may choose the name.
    pub steerable: Allowance,
}

impl Settings {
    /// What is required where nothing but the executables is named: the system's libraries, no other code, no interpreter.
    #[must_use]
    pub fn of(exe_sha256: Vec<Hash>) -> Self {
        Self {
            exe_sha256,
            allow_prefix: LIBRARIES.map(PathBuf::from).to_vec(),
            anon_exec: Allowance::Deny,
            no_new_privs: false,
            seccomp: false,
            ancestry: Ancestry::Any,
            tty: Allowance::Allow,
            steerable: Allowance::Deny,
        }
    }
}

/// Whether a thing is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// It is a refusal.
    Deny,
    /// It is not looked at.
    Allow,
}

/// From whom a process must descend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ancestry {
    /// From anybody.
    Any,
    /// From the first process of its own container, through parents that all live: neither `kubectl exec` nor a daemon that
    /// cut itself loose. Can be known only in a PID namespace that the containers of a pod share.
    ContainerMain,
}

/// Why a process is not the permitted program. A closed list: each word is one of the audit's reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Refusal {
    /// It is in a PID namespace that ours cannot see into, or `/proc` hides it.
    PidNotVisible = 1,
    /// It does not descend from its container's first process, or that cannot be known.
    Ancestry,
    /// It has a controlling terminal.
    Tty,
    /// What it executes cannot be read, or not reliably: it is not dumpable, has another uid, gid or more capabilities than we,
    /// or lies on a file system whose server may say something else each time (FUSE).
    ExeUnreadable,
    /// Its executable has no name any more.
    ExeDeleted,
    /// Its executable is larger than is hashed.
    ExeTooBig,
    /// Its executable is none of those.
    Digest,
    /// It is a program that does what its input says.
    Steerable,
    /// It executes code from a file that is not allowed, or that others than root may change.
    MappingNotAllowed,
    /// It executes code that no file backs.
    AnonExec,
    /// Code that it executes is not what the file holds.
    TextModified,
    /// Another process traces it.
    Traced,
    /// It is no longer the image that was pinned.
    ImageChanged,
    /// It may gain privileges.
    NoNewPrivs,
    /// No seccomp filter is in force.
    Seccomp,
    /// Its ids are no longer what they were when it was pinned.
    CredsDrift,
    /// It has ended.
    PeerExited,
    /// We failed: the attestor ended, has no room, or the kernel said what nobody foresaw.
    AttestorFailed,
    /// It could not be known in time.
    Timeout,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::PidNotVisible,
        Self::Ancestry,
        Self::Tty,
        Self::ExeUnreadable,
        Self::ExeDeleted,
        Self::ExeTooBig,
        Self::Digest,
        Self::Steerable,
        Self::MappingNotAllowed,
        Self::AnonExec,
        Self::TextModified,
        Self::Traced,
        Self::ImageChanged,
        Self::NoNewPrivs,
        Self::Seccomp,
        Self::CredsDrift,
        Self::PeerExited,
        Self::AttestorFailed,
        Self::Timeout,
    ];

    /// What it says to the peer: nothing that it does not know of itself.
    fn text(self) -> &'static str {
        match self {
            Self::PidNotVisible => "the process is in a PID namespace that the agent cannot see into",
            Self::Ancestry => "the process does not descend from the first one of its container",
            Self::Tty => "the process has a controlling terminal",
            Self::ExeUnreadable => "the agent may not read what the process executes",
            Self::ExeDeleted => "the executable of the process is deleted",
            Self::ExeTooBig => "the executable of the process is too large",
            Self::Digest => "the executable of the process is not a permitted one",
            Self::Steerable => "the executable of the process does what its input says",
            Self::MappingNotAllowed => "the process executes code from a file that is not allowed",
            Self::AnonExec => "the process executes code that no file backs",
            Self::TextModified => "the code of the process is not what its file holds",
            Self::Traced => "the process is traced",
            Self::ImageChanged => "the process executes another image than before",
            Self::NoNewPrivs => "the process may gain privileges",
            Self::Seccomp => "no seccomp filter is in force for the process",
            Self::CredsDrift => "the process has other ids than before",
            Self::PeerExited => "the process has ended",
            Self::AttestorFailed => "the agent could not find out what the process executes",
            Self::Timeout => "the agent could not find out in time what the process executes",
        }
    }

    /// The one of this number, as the attestor's answers carry it.
    pub(super) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| *refusal as u8 == code)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Refusal {}

/// One file of one file system, for as long as somebody holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Major number of the device.
    pub major: u64,
    /// Minor number of the device.
    pub minor: u64,
    /// The inode.
    pub inode: u64,
}

/// What was read of a process while it lived, and was one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of what it executes.
    pub digest: Hash,
    /// The last part of the name of its executable, as the kernel tells it.
    pub name: String,
    /// The file of its executable.
    pub file: FileId,
    /// Whether that file is root's, and nobody else may write it.
    pub trusted: bool,
    /// What it may execute.
    pub mappings: Vec<Mapping>,
    /// What the kernel says of its state.
    pub state: State,
    /// Whether it has a controlling terminal.
    pub terminal: bool,
    /// Whether it descends from its container's first process; `None` if nobody asked.
    pub of_container_main: Option<bool>,
}

/// What `/proc/PID/status` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Whether one of its threads is traced.
    pub traced: bool,
    /// `NoNewPrivs`.
    pub no_new_privs: bool,
    /// Whether a seccomp filter is in force: mode 2.
    pub filtered: bool,
}

/// One piece of memory that may be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What is mapped.
    pub backing: Backing,
    /// Whether some of it is not what the file holds: it was written to after it had been mapped.
    pub modified: bool,
    /// Whether it may be written, too.
    pub writable: bool,
}

/// What lies behind a piece of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A file that had a name when it was looked at.
    File {
        /// The file.
        id: FileId,
        /// Its name.
        path: PathBuf,
        /// Whether that name leads to that file, which is root's and not writable by others.
        trusted: bool,
    },
    /// Code of the kernel's own: `[vdso]`.
    Kernel,
    /// Nothing, a memfd, or a file without a name.
    Nothing,
}

/// Whether a process of which this is known is a permitted program.
///
/// # Errors
/// The first [`Refusal`] against it, what it executes before how.
pub fn judge(settings: &Settings, facts: &Facts) -> Result<(), Refusal> {
    judge_image(settings, facts)?;
    judge_mappings(settings, facts)?;
    judge_state(settings, facts.state)
}

/// What it executes must be, and how it came to, before it is worth looking further: whatever stays while the image does.
///
/// # Errors
/// The first [`Refusal`] against it.
pub fn judge_image(settings: &Settings, facts: &Facts) -> Result<(), Refusal> {
    if !settings.exe_sha256.contains(&facts.digest) {
        return Err(Refusal::Digest);
    }
    // Whoever owns the file, or the file system it came from, may show other bytes to those who execute than to those who hash.
    if !facts.trusted {
        return Err(Refusal::MappingNotAllowed);
    }
    let is_steerable = steerable::is_program(&facts.name) || facts.mappings.iter().any(brings_an_interpreter);
    if settings.steerable == Allowance::Deny && is_steerable {
        return Err(Refusal::Steerable);
    }
    if settings.tty == Allowance::Deny && facts.terminal {
        return Err(Refusal::Tty);
    }
    if settings.ancestry == Ancestry::ContainerMain && facts.of_container_main != Some(true) {
        return Err(Refusal::Ancestry);
    }
    Ok(())
}

/// What may change while the image stays.
///
/// # Errors
/// The first [`Refusal`] against it.
pub fn judge_state(settings: &Settings, state: State) -> Result<(), Refusal> {
    if state.traced {
        return Err(Refusal::Traced);
    }
    if settings.no_new_privs && !state.no_new_privs {
        return Err(Refusal::NoNewPrivs);
    }
    if settings.seccomp && !state.filtered {
        return Err(Refusal::Seccomp);
    }
    Ok(())
}

fn judge_mappings(settings: &Settings, facts: &Facts) -> Result<(), Refusal> {
    let mut sees_itself = false;
    for mapping in &facts.mappings {
        match &mapping.backing {
            Backing::Nothing if settings.anon_exec == Allowance::Allow => continue,
            Backing::Nothing => return Err(Refusal::AnonExec),
            Backing::Kernel => {}
            Backing::File { id, .. } if *id == facts.file => sees_itself = true,
            Backing::File { path, trusted, .. } => {
                if !trusted || !is_below_one_of(path, &settings.allow_prefix) {
                    return Err(Refusal::MappingNotAllowed);
                }
            }
        }
        if mapping.modified {
            return Err(Refusal::TextModified);
        }
        if mapping.writable {
            return Err(Refusal::MappingNotAllowed);
        }
    }
    // A process that has told the kernel another executable than the one it came from has none of this in its memory.
    if sees_itself { Ok(()) } else { Err(Refusal::ImageChanged) }
}

fn brings_an_interpreter(mapping: &Mapping) -> bool {
    matches!(&mapping.backing, Backing::File { path, .. } if steerable::is_interpreter(path))
}

fn is_below_one_of(path: &Path, prefixes: &[PathBuf]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix) && path != prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::Reason;

    const MINE: FileId = FileId { major: 254, minor: 1, inode: 40 };

    fn settings() -> Settings {
        Settings::of(vec![[1; 32], [2; 32]])
    }

    fn file(inode: u64, path: &str) -> Mapping {
        let backing = Backing::File { id: FileId { inode, ..MINE }, path: path.into(), trusted: true };
        Mapping { backing, modified: false, writable: false }
    }

    fn facts() -> Facts {
        Facts {
            digest: [2; 32],
            name: "payments".to_owned(),
            file: MINE,
            trusted: true,
            mappings: vec![
                file(40, "/app/payments"),
                file(7, "/usr/lib/x86_64-linux-gnu/libc.so.6"),
                Mapping { backing: Backing::Kernel, modified: false, writable: false },
            ],
            state: State { traced: false, no_new_privs: false, filtered: false },
            terminal: true,
            of_container_main: None,
        }
    }

    #[track_caller]
    fn check(settings: &Settings, facts: &Facts, expected: &str) {
        let found = judge(settings, facts).err().map_or("permitted", |refusal| Reason::from(refusal).word());
        assert_eq!(found, expected);
    }

    fn with(mapping: Mapping) -> Facts {
        let mut facts = facts();
        facts.mappings.push(mapping);
        facts
    }

    #[test]
    fn the_permitted_program_is_permitted_and_another_is_not() {
        check(&settings(), &facts(), "permitted");
        check(&settings(), &Facts { digest: [3; 32], ..facts() }, "digest");
        check(&Settings { exe_sha256: vec![], ..settings() }, &facts(), "digest");
        check(&settings(), &Facts { trusted: false, ..facts() }, "mapping_not_allowed");
    }

    #[test]
    fn code_from_elsewhere_is_refused() {
        check(&settings(), &with(file(8, "/tmp/evil.so")), "mapping_not_allowed");
        check(&settings(), &with(file(8, "/usr/libevil/evil.so")), "mapping_not_allowed");
        check(&settings(), &with(file(8, "/usr/lib")), "mapping_not_allowed");
        let mut writable_by_others = file(8, "/usr/lib/evil.so");
        if let Backing::File { trusted, .. } = &mut writable_by_others.backing {
            *trusted = false;
        }
        check(&settings(), &with(writable_by_others), "mapping_not_allowed");
        let anonymous = Mapping { backing: Backing::Nothing, modified: true, writable: true };
        check(&settings(), &with(anonymous.clone()), "anon_exec");
        check(&Settings { anon_exec: Allowance::Allow, ..settings() }, &with(anonymous), "permitted");
        check(&settings(), &with(Mapping { modified: true, ..file(40, "/app/payments") }), "text_modified");
        check(
            &settings(),
            &with(Mapping { writable: true, ..file(8, "/usr/lib/a.so") }),
            "mapping_not_allowed",
        );
        let patched = Mapping { backing: Backing::Kernel, modified: true, writable: false };
        check(&settings(), &with(patched), "text_modified");
        // Its own executable is nowhere in its memory.
        check(
            &settings(),
            &Facts { mappings: vec![file(7, "/usr/lib/libc.so.6")], ..facts() },
            "image_changed",
        );
        check(&settings(), &Facts { mappings: vec![], ..facts() }, "image_changed");
    }

    #[test]
    fn what_is_required_beside_it_must_be_there() {
        let with_state = |state| Facts { state, ..facts() };
        let state = facts().state;
        check(&settings(), &with_state(State { traced: true, ..state }), "traced");
        let needs = Settings { no_new_privs: true, ..settings() };
        check(&needs, &facts(), "no_new_privs");
        check(&needs, &with_state(State { no_new_privs: true, ..state }), "permitted");
        let needs = Settings { seccomp: true, ..settings() };
        check(&needs, &facts(), "seccomp");
        check(&needs, &with_state(State { filtered: true, ..state }), "permitted");
        check(&Settings { tty: Allowance::Deny, ..settings() }, &facts(), "tty");
        check(
            &Settings { tty: Allowance::Deny, ..settings() },
            &Facts { terminal: false, ..facts() },
            "permitted",
        );
        let needs = Settings { ancestry: Ancestry::ContainerMain, ..settings() };
        check(&needs, &facts(), "ancestry");
        check(&needs, &Facts { of_container_main: Some(false), ..facts() }, "ancestry");
        check(&needs, &Facts { of_container_main: Some(true), ..facts() }, "permitted");
    }

    #[test]
    fn a_program_that_does_what_its_input_says_needs_a_word_of_its_own() {
        for name in ["python3.11", "bash"] {
            let named = Facts { name: name.to_owned(), ..facts() };
            check(&settings(), &named, "steerable");
            check(&Settings { steerable: Allowance::Allow, ..settings() }, &named, "permitted");
        }
        check(&settings(), &with(file(9, "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0")), "steerable");
        check(&settings(), &with(file(9, "/usr/lib/jvm/java-17/lib/server/libjvm.so")), "steerable");
    }

    #[test]
    fn every_refusal_has_a_word_and_a_number_of_its_own() {
        let words: std::collections::BTreeSet<_> =
            Refusal::ALL.map(|refusal| Reason::from(refusal).word()).into();
        assert_eq!(words.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::of_code(refusal as u8), Some(refusal));
        }
        assert_eq!(Refusal::of_code(0), None);
        assert_eq!(Refusal::of_code(20), None);
    }
}
