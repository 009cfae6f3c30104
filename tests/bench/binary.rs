//! The program as it is released: static, for musl, once with each TLS library.
//!
//! Without the musl target or its compiler the program that `cargo bench` built is measured instead, and the table says so.

use super::{
    Outcome,
    table::{Bound, Table, bytes},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "x86_64-unknown-linux-musl";

/// What was built.
pub(super) struct Binaries {
    /// The one with default features: what all else is measured with.
    pub(super) program: PathBuf,
    kind: String,
    ring: Option<PathBuf>,
    folder: tempfile::TempDir,
}

impl Binaries {
    /// Builds them, or takes `given`.
    pub(super) fn build(given: Option<&Path>) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let (kind, program, ring) = match given {
            Some(given) => (format!("the program {}", given.display()), given.to_owned(), None),
            None => match musl(&[], &folder.path().join("claviger")) {
                Ok(program) => {
                    let small = ["--no-default-features", "--features", "ring"];
                    let ring = musl(&small, &folder.path().join("claviger-ring"))?;
                    ("release build, static (musl)".to_owned(), program, Some(ring))
                }
                Err(error) => {
                    let kind = format!("release build for this machine's own libc: no static one, {error}");
                    (kind, PathBuf::from(env!("CARGO_BIN_EXE_claviger")), None)
                }
            },
        };
        Ok(Self { program, kind, ring, folder })
    }

    pub(super) fn describe(&self) -> String {
        format!("claviger {}, {}", env!("CARGO_PKG_VERSION"), self.kind)
    }

    /// How large they are.
    pub(super) fn measure(&self, table: &mut Table) {
        let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let default = size(&self.program);
        let bound = Bound::AtMost(default as f64, 7.5e6);
        table.goal("binary, default features", &bytes(default), "<= 7.5 MB", bound);
        if let Some(ring) = &self.ring {
            let ring = size(ring);
            table.goal("binary, feature ring", &bytes(ring), "<= 6.0 MB", Bound::AtMost(ring as f64, 6e6));
        }
        debug_assert!(self.folder.path().is_dir(), "it holds the programs");
    }
}

/// Builds for musl with these features, and puts the program at `to`: the next build overwrites it where it is.
fn musl(features: &[&str], to: &Path) -> Outcome<PathBuf> {
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--release", "--bin", "claviger", "--target", TARGET]).args(features);
    cargo.arg("--target-dir").arg(target_dir);
    // The C parts of the TLS library.
    cargo.env("CC_x86_64_unknown_linux_musl", "musl-gcc");
    if !cargo.status()?.success() {
        return Err(format!("try: rustup target add {TARGET}; apt-get install musl-tools").into());
    }
    fs::copy(target_dir.join(TARGET).join("release/claviger"), to)?;
    Ok(to.to_owned())
}
