//! Another process, which connects twice and then does nothing until it is killed: this test binary, started again.
//!
//! Does not ask for anything: whoever has its connections does what would be done for it.

use super::bench::grant_to;
use claviger::{approval::Grant, peer::level::Level};
use std::{
    io::Read as _,
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, Command, Stdio},
};

/// In which the socket is given.
const VARIABLE: &str = "CLAVIGER_OTHER_PROCESS_SOCKET";

/// A living process. Dropping it kills it.
pub(crate) struct Other {
    child: Child,
    connections: Vec<tokio::net::UnixStream>,
}

impl Other {
    /// Starts one, and waits until it is connected.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("other.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = Command::new("/proc/self/exe");
        command.args(["--ignored", "--exact", "support::other::another_process_connects", "--quiet"]);
        command.env(VARIABLE, &socket).stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let accept = |()| {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            tokio::net::UnixStream::from_std(stream).unwrap()
        };
        Self { child, connections: [(), ()].map(accept).into() }
    }

    /// A grant of `secret` by the connection it has.
    pub(crate) fn grant(&self, secret: &str) -> Grant {
        grant_to(self.connections.last().unwrap(), Level::Process, secret)
    }

    /// Closes one of its two connections.
    pub(crate) fn close_a_connection(&mut self) {
        self.connections.pop().unwrap();
    }

    /// Kills it, and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "another process' own: the other tests start it"]
#[expect(clippy::disallowed_methods, reason = "how a test tells itself where to connect")]
fn another_process_connects() {
    let Some(socket) = std::env::var_os(VARIABLE) else { return };
    let _connections = [(), ()].map(|()| UnixStream::connect(&socket).unwrap());
    // Until it is killed, or whoever started it is gone.
    let _ = std::io::stdin().read(&mut [0]);
}
