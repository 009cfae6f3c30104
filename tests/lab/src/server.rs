//! One child process: started in a folder and a process group of its own, ended when the value is dropped, and also
//! when the whole test process dies, however it dies. Knows nothing of any server's protocol.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Gid, Pid, Uid};

/// The child's parent. Its standard input is a pipe that nobody writes to: the end of it means that the test process
/// let go or died, and then the server is ended and its folder removed. `$1` folder, `$2` signal, the rest the server.
/// (A parent-death signal would not do: the kernel sends it when the *thread* that started the child ends.)
const KEEPER: &str = r#"
dir=$1 signal=$2; shift 2
exec 3<&0
"$@" </dev/null >>"$dir/log" 2>&1 3<&- &
server=$!
echo $server >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"
(read -r _ <&3; [ -e "$dir/ended" ] || { kill -"$signal" $server; kill -CONT $server; }) 2>/dev/null &
watcher=$!
wait $server
echo $? >"$dir/ended"
wait $watcher
rm -rf "$dir"
"#;

/// How long a server may take to become ready, and to end.
const LIMIT: Duration = Duration::from_secs(60);

/// The user that a server runs as.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RunAs {
    /// The one that runs the tests.
    Same,
    /// Another; only root can.
    Other(Uid, Gid),
}

impl RunAs {
    /// Makes `command` run as this user.
    pub(crate) fn apply(self, command: &mut Command) {
        if let RunAs::Other(uid, gid) = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }
}

/// A folder for one server, before and while it runs.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes it, under the system's temporary folder, for `user` alone.
    pub(crate) fn make(name: &str, user: RunAs) -> Folder {
        let made = tempfile::Builder::new().prefix(&format!("claviger-lab-{name}-")).tempdir();
        let path = made.unwrap_or_else(|error| panic!("making a folder for {name}: {error}")).keep();
        if let RunAs::Other(uid, gid) = user {
            nix::unistd::chown(&path, Some(uid), Some(gid))
                .unwrap_or_else(|error| panic!("giving {} to {name}'s user: {error}", path.display()));
        }
        Folder(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Usually gone already, by the child's parent.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server. Holding it keeps the server; dropping it ends the server and removes its folder.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    keeper: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts `command` (program, arguments and environment; everything else is set here) with `folder` as its
    /// current one. `end` is the signal that ends it at once and cleanly.
    pub(crate) fn start(
        name: &'static str,
        command: &Command,
        folder: &Folder,
        user: RunAs,
        end: Signal,
    ) -> Server {
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "claviger-lab"]).arg(folder.path());
        keeper
            .arg(end.as_str().trim_start_matches("SIG"))
            .arg(command.get_program())
            .args(command.get_args());
        keeper.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        keeper.env("HOME", folder.path()).env("TMPDIR", folder.path());
        keeper.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        keeper.current_dir(folder.path()).process_group(0);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        user.apply(&mut keeper);
        for stale in ["pid", "ended"] {
            let _ = fs::remove_file(folder.path().join(stale));
        }
        let keeper = keeper.spawn().unwrap_or_else(|error| panic!("starting {name}: {error}"));
        Server { name, keeper, folder: folder.path().to_owned() }
    }

    /// Asks `ready` until it gives a value. `Err` holds the server's log when the server ended instead.
    ///
    /// # Panics
    /// When neither happens within the limit.
    pub(crate) fn wait_until<T>(&self, ready: impl Fn() -> Option<T>) -> Result<T, String> {
        poll_until(|| {
            // Looked at first: a port that somebody else serves must not pass for ours.
            if self.folder.join("ended").exists() {
                return Some(Err(self.log()));
            }
            ready().map(Ok)
        })
        .unwrap_or_else(|| panic!("{} was not ready within {LIMIT:?}; its log:\n{}", self.name, self.log()))
    }

    /// What it was started as.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// All that it wrote to its standard output and error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// The server's own process id, not its parent's.
    pub(crate) fn pid(&self) -> Pid {
        let read = || fs::read_to_string(self.folder.join("pid")).ok()?.trim().parse().ok();
        let pid = poll_until(read).unwrap_or_else(|| panic!("{} has no process id", self.name));
        Pid::from_raw(pid)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.pid();
        kill(pid, signal).unwrap_or_else(|error| panic!("sending {signal} to {} {pid}: {error}", self.name));
    }

    /// Ends it and waits until it has ended. Its folder and log stay, so that it can be started again there.
    pub(crate) fn end(mut self, signal: Signal) {
        self.signal(signal);
        let ended = || self.folder.join("ended").exists().then_some(());
        poll_until(ended).unwrap_or_else(|| panic!("{} did not end within {LIMIT:?}", self.name));
        self.kill_group();
    }

    /// Kills the child's parent and all that it started: a group made for them, whose leader is not yet waited for.
    fn kill_group(&mut self) {
        let _ = killpg(Pid::from_raw(self.keeper.id().cast_signed()), Signal::SIGKILL);
        let _ = self.keeper.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let ended = || self.keeper.try_wait().ok().flatten().map(drop);
        if poll_until(ended).is_none() {
            self.kill_group();
        }
    }
}

/// Asks every 20 ms, at most [`LIMIT`].
pub(crate) fn poll_until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "a blocking crate: the pause between two questions")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port of 127.0.0.1 that nobody listens on now. Somebody else may take it first: the caller tries again.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap_or_else(|error| panic!("finding a free port: {error}"))
        .port()
}
