//! A running cluster as its administrator sees it: by kubectl and Helm, with nothing of the machine's own configuration.
//! Judges no answer: whether a refusal is right is for the test to say.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a command of kubectl or Helm did.
#[derive(Debug, Clone)]
pub struct Ran {
    line: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error, where kubectl prints the server's refusals.
    pub err: String,
}

impl Ran {
    /// Its standard output.
    ///
    /// # Panics
    /// When it failed, with all that it said.
    #[track_caller]
    pub fn expect_success(self) -> String {
        assert!(self.code == Some(0), "{}: {:?}\n{}{}", self.line, self.code, self.out, self.err);
        self.out
    }

    /// What it said when it failed.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn expect_failure(self) -> String {
        assert!(self.code != Some(0), "{} went well: {}", self.line, self.out);
        self.err
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// When it failed, or printed something else.
    #[track_caller]
    pub fn json(self) -> Value {
        let line = self.line.clone();
        let out = self.expect_success();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}: {out}"))
    }
}

/// One cluster and how its administrator reaches it. Cheap to clone; it does not keep the cluster alive.
#[derive(Debug, Clone)]
pub struct Cluster {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Cluster {
    pub(crate) fn new(kubectl: PathBuf, kubeconfig: PathBuf, home: PathBuf) -> Cluster {
        Cluster { kubectl, kubeconfig, home }
    }

    /// Runs kubectl with these arguments; waits at most as long as they say. This and all the others panic only when the
    /// program cannot be run.
    pub fn kubectl<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        self.kubectl_with(args, "")
    }

    /// As [`Cluster::kubectl`], with `input` at its standard input (for `-f -`).
    pub fn kubectl_with<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Ran {
        let mut command = Command::new(&self.kubectl);
        command.args(args);
        self.run(command, input)
    }

    /// Runs Helm (`helm` is its program) with these arguments.
    pub fn helm<S: AsRef<OsStr>>(&self, helm: &Path, args: &[S]) -> Ran {
        let mut command = Command::new(helm);
        command.args(args);
        self.run(command, "")
    }

    /// Creates `object` and gives it as the server has it.
    pub fn create(&self, object: &Value) -> Ran {
        self.kubectl_with(&["create", "-o", "json", "-f", "-"], &object.to_string())
    }

    /// What [`Cluster::create`] would answer, all admission included, with nothing kept.
    pub fn rehearse(&self, object: &Value) -> Ran {
        self.kubectl_with(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &object.to_string())
    }

    /// Creates or changes what `manifest` holds: YAML or JSON, one object or several.
    pub fn apply(&self, manifest: &str) -> Ran {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// One object of `namespace`, `what` being like `pod/name`; or a list of them, for `pods`.
    pub fn read(&self, namespace: &str, what: &str) -> Ran {
        self.kubectl(&["-n", namespace, "get", what, "-o", "json"])
    }

    /// Makes a namespace; no controller need run.
    pub fn namespace(&self, name: &str) {
        self.create(
            &serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .expect_success();
    }

    /// Makes a service account.
    pub fn account(&self, namespace: &str, name: &str) {
        self.kubectl(&["-n", namespace, "create", "serviceaccount", name]).expect_success();
    }

    /// A token of a service account for one audience, by the TokenRequest API, as the kubelet gets one for a pod.
    pub fn token(&self, namespace: &str, account: &str, audience: &str) -> String {
        let line = ["-n", namespace, "create", "token", account, "--audience", audience];
        self.kubectl(&line).expect_success().trim().to_owned()
    }

    fn run(&self, mut command: Command, input: &str) -> Ran {
        let line = format!("{command:?}");
        // HOME: kubectl keeps there what it found out about the server, Helm its own files.
        command.env_clear().env("HOME", &self.home).env("KUBECONFIG", &self.kubeconfig);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("running {line}: {error}"));
        if let Some(mut stdin) = child.stdin.take() {
            // Who does not read it has ended already, and says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let ran = child.wait_with_output().unwrap_or_else(|error| panic!("waiting for {line}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { line, code: ran.status.code(), out: text(&ran.stdout), err: text(&ran.stderr) }
    }
}
