//! The file of a secret id, and the journal of its rotation beside it: both replaced whole, and on disk before anything goes on.
//!
//! `FILE` is what the next login reads; `FILE.rotation` is the journal; `FILE.rotation.lock` orders its writers; `FILE.agent.lock` is
//! held for as long as an agent rotates it. Nobody but our own user may read any of them. Does not speak to Vault.

use crate::{
    crypto,
    rotation::{
        coordination::Coordination,
        document::{Document, Unreadable},
        journal,
        store::Written,
    },
    secret::SecretValue,
    vault::{
        approle::PLAIN,
        error::{Class, Error},
    },
};
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};
use zeroize::Zeroizing;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 64 * 1024;
/// So many failures to be the only agent are taken for the end of another one.
const PATIENCE: u32 = 5;

/// What stands in the file of a secret id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The secret id.
    Plain,
    /// A wrapping token when somebody brings it; what we put there is a secret id behind [`PLAIN`].
    Wrapped,
}

/// The file that an identity's secret id is read from at each login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretIdFile {
    /// Where it is, in a directory that we may write to.
    pub path: PathBuf,
    /// What stands in it.
    pub form: Form,
}

/// What a file held.
pub(in crate::rotation) struct Text {
    /// What is logged in with; `None`: a wrapping token, which nobody can unwrap twice.
    pub(in crate::rotation) secret_id: Option<SecretValue>,
    /// The SHA-256 of all of it but the white space at its ends.
    pub(in crate::rotation) hash: [u8; 32],
}

impl SecretIdFile {
    /// What it holds; `None`: it is not there.
    ///
    /// # Errors
    /// It cannot be read, or is no text.
    pub(in crate::rotation) fn read(&self) -> Result<Option<Text>, Error> {
        let bytes = read(&self.path).map_err(|error| self.error("reading", &error.to_string()))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).map_err(|_| self.error("reading", "it is not text"))?.trim();
        if text.is_empty() {
            return Err(self.error("reading", "it is empty"));
        }
        let secret_id = match self.form {
            Form::Plain => Some(text),
            Form::Wrapped => text.strip_prefix(PLAIN),
        };
        let secret_id = secret_id.map(|text| SecretValue::new(text.to_owned()));
        Ok(Some(Text { secret_id, hash: crypto::sha256(text.as_bytes()) }))
    }

    /// Puts `secret_id` in the place of what it holds, at once and for good.
    ///
    /// # Errors
    /// What the file system says; the file is as it was then.
    pub(in crate::rotation) fn write(&self, secret_id: &SecretValue) -> Result<(), Error> {
        let mark = match self.form {
            Form::Plain => "",
            Form::Wrapped => PLAIN,
        };
        let text = Zeroizing::new(format!("{mark}{}\n", secret_id.expose()));
        replace(&self.path, text.as_bytes()).map_err(|error| self.error("replacing", &error.to_string()))
    }

    /// Whether it holds `secret_id`.
    pub(in crate::rotation) fn says(text: &Text, secret_id: &SecretValue) -> bool {
        text.secret_id.as_ref() == Some(secret_id)
    }

    fn error(&self, doing: &str, said: &str) -> Error {
        Error::new(Class::Credential, format!("{doing} the secret id in {}", self.path.display()), said)
    }
}

/// The text of a small credential file, as [`SecretIdFile`] reads its own.
///
/// # Errors
/// It cannot be read, or is no text.
pub(in crate::rotation) fn credential(path: &Path) -> Result<SecretValue, Error> {
    let error = |said: String| Error::new(Class::Credential, format!("reading {}", path.display()), said);
    let bytes = read(path).map_err(|cause| error(cause.to_string()))?;
    let bytes = bytes.ok_or_else(|| error("it is not there".to_owned()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| error("it is not text".to_owned()))?;
    Ok(SecretValue::new(text.trim().to_owned()))
}

/// The journal in `FILE.rotation`, and who may write it.
pub(in crate::rotation) struct Local {
    path: PathBuf,
    /// Held from the first look on by whoever rotates.
    alone: Mutex<Option<File>>,
    refused: AtomicU32,
}

#[derive(Serialize, Deserialize)]
struct Versioned<'a> {
    version: u64,
    #[serde(borrow)]
    journal: &'a RawValue,
}

impl Local {
    pub(in crate::rotation) fn new(file: &SecretIdFile) -> Self {
        Self { path: file.path.clone(), alone: Mutex::default(), refused: AtomicU32::new(0) }
    }

    /// Makes sure that no other agent rotates the same secret id, from now on until this is dropped: by the end of the process, however
    /// it ends.
    ///
    /// # Errors
    /// Another one does.
    pub(in crate::rotation) fn hold(&self) -> Result<(), Error> {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if alone.is_some() {
            return Ok(());
        }
        let doing = || format!("becoming the only one who rotates {}", self.path.display());
        let failed = |error: io::Error| Error::new(Class::Credential, doing(), error.to_string());
        match lock(&beside(&self.path, ".agent.lock")).map_err(failed)? {
            Some(file) => {
                self.refused.store(0, Ordering::Relaxed);
                *alone = Some(file);
                Ok(())
            }
            None => {
                let times = self.refused.fetch_add(1, Ordering::Relaxed);
                let class = if times < PATIENCE { Class::Away } else { Class::Credential };
                let said =
                    "another agent does: give each replica a secret id, and a directory for it, of its own";
                Err(Error::new(class, doing(), said))
            }
        }
    }

    /// Whether nobody else can be at work.
    pub(in crate::rotation) fn is_alone(&self) -> bool {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(in crate::rotation) fn read(&self) -> Result<(Option<Document>, u64), journal::Error> {
        let bytes = read(&self.journal()).map_err(|error| self.failed("reading", &error))?;
        let Some(bytes) = bytes else { return Ok((None, 0)) };
        let malformed = |_| journal::Error::Unreadable(Unreadable::Malformed);
        let versioned: Versioned<'_> = serde_json::from_slice(&bytes).map_err(malformed)?;
        let document = Document::decode(versioned.journal.get(), None).map_err(journal::Error::Unreadable)?;
        Ok((Some(document), versioned.version))
    }

    pub(in crate::rotation) fn write(
        &self,
        document: &Document,
        version: u64,
    ) -> Result<Written, journal::Error> {
        let order =
            lock(&beside(&self.path, ".rotation.lock")).map_err(|error| self.failed("locking", &error))?;
        // Whoever has it writes now.
        let Some(_order) = order else { return Ok(Written::Overtaken) };
        let (_, newest) = self.read()?;
        if newest != version {
            return Ok(Written::Overtaken);
        }
        let (next, text) = (
            version.saturating_add(1),
            document.encode(&Coordination::Vault, &std::collections::BTreeMap::new()),
        );
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + 64));
        bytes.extend_from_slice(format!(r#"{{"version":{next},"journal":"#).as_bytes());
        bytes.extend_from_slice(&text);
        bytes.extend_from_slice(b"}\n");
        replace(&self.journal(), &bytes).map_err(|error| self.failed("writing", &error))?;
        Ok(Written::As(next))
    }

    fn journal(&self) -> PathBuf {
        beside(&self.path, ".rotation")
    }

    fn failed(&self, doing: &str, error: &io::Error) -> journal::Error {
        let doing = format!("{doing} {}", self.journal().display());
        journal::Error::Vault(Error::new(Class::Credential, doing, error.to_string()))
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Links are never followed, and nobody else may read.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits() | OFlag::O_CLOEXEC.bits());
    options
}

/// `None`: somebody else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = options().write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let length = usize::try_from(file.metadata()?.len().min(LARGEST)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Puts `bytes` at `path`: whole, for us alone, and on disk with its name when this comes back.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = beside(path, ".new");
    let mut file = options().write(true).create(true).truncate(true).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::os::unix::fs::MetadataExt as _;

    fn file(form: Form) -> (tempfile::TempDir, SecretIdFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret-id");
        (folder, SecretIdFile { path, form })
    }

    #[test]
    fn what_is_put_into_a_file_is_read_from_it_and_by_nobody_else() {
        for form in [Form::Plain, Form::Wrapped] {
            let (_folder, file) = file(form);
            assert!(file.read().unwrap().is_none());
            fs::write(&file.path, "brought\n").unwrap();
            let brought = file.read().unwrap().unwrap();
            assert_eq!(brought.secret_id.is_some(), form == Form::Plain);
            let ours = SecretValue::new("ours".into());
            file.write(&ours).unwrap();
            let text = file.read().unwrap().unwrap();
            assert!(SecretIdFile::says(&text, &ours) && text.hash != brought.hash);
            assert_eq!(fs::metadata(&file.path).unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_journal_is_written_by_whoever_read_the_newest_and_by_one_agent() {
        let (_folder, file) = file(Form::Plain);
        let (local, other) = (Local::new(&file), Local::new(&file));
        let document = Document::new(clock::now());
        assert_eq!(local.read().unwrap().1, 0);
        assert_eq!(local.write(&document, 0).unwrap(), Written::As(1));
        assert_eq!(other.write(&document, 0).unwrap(), Written::Overtaken);
        assert_eq!(other.write(&document, 1).unwrap(), Written::As(2));
        local.hold().unwrap();
        assert!(local.is_alone() && other.hold().is_err() && !other.is_alone());
        drop(local);
        other.hold().unwrap();
    }
}
