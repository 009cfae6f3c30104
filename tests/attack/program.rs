//! Attacks at level `program`, and the permitted program, which is compiled here.

use crate::{
    cgroups::{Cgroup, can_tell_containers},
    part::{Part, quiet},
    scene::{Attacked, Told, attack, finished, permitted},
    skip,
    support::finish,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// A folder that others can read, with the permitted program in it.
pub(crate) struct Programs {
    folder: TempDir,
}

impl Programs {
    /// `None` where nothing can be compiled: says why.
    pub(crate) async fn new() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(0), Some(0)).unwrap();
        let mut mode = Command::new("chmod");
        mode.arg("755").arg(folder.path());
        finish(mode).await;
        let programs = Self { folder };
        programs.compile("legit", "tests/attack/legit.c", &[]).await.then_some(programs)
    }

    /// Compiles a source of this repository.
    pub(crate) async fn compile(&self, name: &str, source: &str, options: &[&str]) -> bool {
        let mut command = Command::new("cc");
        command.arg("-O1").args(options).arg("-o").arg(self.path(name));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(source));
        let compiled = finish(command).await;
        if !compiled.status.success() {
            skip(&format!("needs a C compiler: {}", String::from_utf8_lossy(&compiled.stderr)));
        }
        compiled.status.success()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// SHA-256 of one of them, in hex.
    pub(crate) fn digest(&self, name: &str) -> String {
        claviger::crypto::hex(&claviger::crypto::sha256(&std::fs::read(self.path(name)).unwrap()))
    }

    /// An agent that serves the permitted program only.
    pub(crate) async fn attacked(&self) -> Attacked {
        let digest = self.digest("legit");
        let peer =
            format!("uid: {}, level: program, program: {{exe_sha256: [\"{digest}\"]}}", permitted().uid);
        Attacked::new(&peer).await
    }

    /// Plays one of the programs as the workload's user, in a cgroup of its own.
    pub(crate) async fn run(&self, attacked: &Attacked, cgroup: &Cgroup, name: &str) -> Told {
        let mut line = vec![self.path(name).display().to_string()];
        line.extend([attacked.socket().display().to_string(), "/secrets/stripe".to_owned()]);
        let mut command = cgroup.part(Part::BecomeAs(permitted(), line)).command();
        quiet(&mut command);
        finished(command.into()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permitted_program_gets_the_secret_and_no_other_does() {
    let (true, Some(cgroup), Some(programs)) = (can_tell_containers(), Cgroup::new(), Programs::new().await)
    else {
        return;
    };
    assert!(programs.compile("other", "tests/attack/legit.c", &["-DOTHER", "-O2"]).await);
    let attacked = programs.attacked().await;
    programs.run(&attacked, &cgroup, "legit").await.got_the_secret();
    programs.run(&attacked, &cgroup, "other").await.got_no_nonce("digest");
    // The permitted user with another program, which asks without a nonce.
    let ask = Part::Ask(attacked.socket(), permitted(), "/secrets/stripe".into());
    attack(&cgroup.part(ask)).await.got_nothing();
    let expected = [
        "secret.read.v1 allow - program",
        "peer.rejected.v1 deny digest process",
        "peer.rejected.v1 deny digest process",
    ];
    assert_eq!(attacked.record().await, expected);
}
