//! rsyslog as a receiver of syslog over TLS, Debian's package: a process of its own with a config of its own.
//! Never the machine's own rsyslog, and nothing of the machine's log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::require_or_skip;
use crate::server::{Folder, RunAs, Server};

/// A running rsyslog. Dropping it ends it.
#[derive(Debug)]
pub struct Rsyslog {
    // Before `folder`: fields are dropped in order.
    _server: Server,
    folder: Folder,
    port: u16,
}

/// One message, as rsyslog took it apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// `local3`.
    pub facility: String,
    /// `info`.
    pub severity: String,
    /// RFC 5424's APP-NAME.
    pub app: String,
    /// RFC 5424's MSGID.
    pub id: String,
    /// The message itself.
    pub text: String,
}

impl Rsyslog {
    /// Starts one that shows `cert` and `key` and takes messages only from those who show a certificate of `ca`; all are
    /// PEM files. `None`: skip the test, as in [`require_or_skip`].
    ///
    /// # Panics
    /// When it is there but does not start, or is missing and required.
    pub fn start(ca: &Path, cert: &Path, key: &Path) -> Option<Rsyslog> {
        let program = require_or_skip("rsyslog")?;
        let folder = Folder::make("rsyslog", RunAs::Same);
        let dir = folder.path().display();
        let config = format!(
            r#"global(workDirectory="{dir}" maxMessageSize="64k" defaultNetstreamDriver="gtls"
    defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{cert}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
template(name="parts" type="string"
    string="%syslogfacility-text%|%syslogseverity-text%|%app-name%|%msgid%|%msg:::drop-last-lf%\n")
ruleset(name="keep") {{ action(type="omfile" file="{dir}/messages" template="parts" asyncWriting="off") }}
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{dir}/port" ruleset="keep")
"#,
            ca = ca.display(),
            cert = cert.display(),
            key = key.display(),
        );
        let file = folder.path().join("rsyslog.conf");
        fs::write(&file, config).unwrap_or_else(|error| panic!("writing {}: {error}", file.display()));
        let mut command = Command::new(program);
        command.arg("-n").arg("-f").arg(&file).arg("-i").arg(folder.path().join("rsyslog.pid"));
        let server = Server::start("rsyslog", &command, &folder, RunAs::Same, Signal::SIGTERM);
        let port = || fs::read_to_string(folder.path().join("port")).ok()?.trim().parse().ok();
        let port = server
            .wait_until(port)
            .unwrap_or_else(|log| panic!("rsyslog ended at its start; its log:\n{log}"));
        Some(Rsyslog { _server: server, folder, port })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has taken so far; a line that it is writing right now is left out.
    pub fn messages(&self) -> Vec<Logged> {
        let file: PathBuf = self.folder.path().join("messages");
        let text = fs::read_to_string(file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(logged).collect()
    }
}

fn logged(line: &str) -> Logged {
    let mut parts = line.splitn(5, '|').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_else(|| panic!("not a line of ours: {line}"));
    Logged { facility: part(), severity: part(), app: part(), id: part(), text: part() }
}
