//! The parts that attackers play, each in a process of its own: this binary, started again.
//!
//! Tells on standard output what it heard. Does not judge that.

use nix::{
    cmsg_space,
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_child_subreaper,
        socket::{
            ControlMessage, ControlMessageOwned, MsgFlags, UnixCredentials, getsockopt, recv, recvmsg, send,
            sendmsg, sockopt,
        },
        wait::wait,
    },
    unistd::{Gid, Uid, getgroups, getppid, getresgid, getresuid, setgroups, setresgid, setresuid},
};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// In which a part is given.
const VARIABLE: &str = "CLAVIGER_ATTACKERS_PART";
/// How long an attacker waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who an attacker is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// What an attacker does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Part {
    /// Connects as this user, and asks.
    Ask(PathBuf, Ids, String),
    /// Connects as this user and is answered, says so, and stays until its standard input ends.
    Stay(PathBuf, Ids),
    /// Connects as root and is answered, becomes this user, and asks.
    AskThenBecome(PathBuf, Ids),
    /// Connects as root, waits for a newer value than it has been given, and becomes this user meanwhile.
    WaitThenBecome(PathBuf, Ids),
    /// Connects as root and is answered, gives up its effective uid only, and asks.
    AskThenLower(PathBuf, u32),
    /// Gives up its effective uid only, as root, connects and asks.
    LowerThenAsk(PathBuf, u32),
    /// Connects; a child gets the connection and asks, while this process has become an honest program.
    ChildAsks(PathBuf, Ids),
    /// Connects and asks; a child gets the connection and listens, and this process becomes an honest program.
    ChildListens(PathBuf, Ids),
    /// Connects and asks, leaves the connection to a child, and ends.
    LeaveBehind(PathBuf, Ids, Before),
    /// Connects as this user, and passes the connection to a process of that user, which asks.
    PassOn(PathBuf, Ids, Ids),
    /// Connects as this user, and says that another process is asking.
    Forge(PathBuf, Ids, u32),
    /// Connects as this user, and passes descriptors with its request, so often.
    PassDescriptors(PathBuf, Ids, u32),
    /// As this user, keeps so many connections open, and makes another as soon as one is closed, until it is killed. Tells
    /// when all have been made, when ten times as many have, and each reason that it is told.
    Flood(PathBuf, Ids, usize, Pace),
    /// As this user, removes the socket and listens there itself; tells how that went, and stays until it is killed.
    Replace(PathBuf, Ids),
    /// Removes the socket and puts one of its own there, as far as it can; then connects and asks.
    Squat(PathBuf),
    /// Connects, and copies what the process at the other end has open.
    CopyDescriptors(PathBuf),
    /// Is the other end of that, on a socket of its own: a program that does nothing against it.
    BeCopied(PathBuf),
    /// A container's first process: starts this part, tells its PID and its end, and waits for all that is left of it.
    UnderInit(Box<Part>),
    /// Plays a part in a PID namespace of its own.
    InPidNamespace(Box<Part>),
    /// In a user namespace of its own: waits until somebody has given it its id maps, and plays a part as root in it.
    InUserNamespace(Box<Part>),
    /// Moves into this cgroup, by its directory, and plays a part.
    InCgroup(PathBuf, Box<Part>),
    /// Listens on this socket, and tells which container whoever connects is in.
    TellContainer(PathBuf),
    /// Becomes another program.
    Become(Vec<String>),
    /// Becomes another program as this user.
    BecomeAs(Ids, Vec<String>),
    /// As this user, takes what it can of the process of that number, and of whoever listens on this socket.
    Rob(Ids, i32, Option<PathBuf>),
    // Of the children:
    /// Has the connection as standard input: waits until its parent has become `cat`, and asks.
    AskOnStdin,
    /// Has the connection as standard input, and listens.
    ListenOnStdin,
    /// Has a way to its parent as standard input: takes a connection from there, becomes this user, and asks.
    TakeAndAsk(Ids),
}

/// What is done before a connection is left behind.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Before {
    /// It asks, and does not wait for the answer.
    Asking,
    /// It asks for nothing secret, and is answered.
    Answered,
}

/// What a flood sends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// Nothing.
    Silent,
    /// One byte of a request at a time, so slowly that it never ends.
    ByByte,
}

impl Part {
    /// The command that plays it.
    pub(crate) fn command(&self) -> Command {
        let mut command = match self {
            // This harness has several threads, and whoever has cannot enter a user namespace itself.
            Self::InUserNamespace(_) => {
                let mut command = Command::new("unshare");
                command.args(["--user", "--keep-caps"]).arg(std::env::current_exe().unwrap());
                command
            }
            _ => Command::new("/proc/self/exe"),
        };
        command.args(["--ignored", "--exact", "part::an_attacker_plays_its_part", "--nocapture"]);
        // One thread: whoever has several cannot enter a user namespace.
        command.arg("--quiet");
        command.env(VARIABLE, serde_json::to_string(self).unwrap());
        command
    }
}

#[test]
#[ignore = "the attackers' own: the other tests start it"]
#[expect(clippy::disallowed_methods, reason = "how a test tells itself which part to play")]
fn an_attacker_plays_its_part() {
    let Ok(part) = std::env::var(VARIABLE) else { return };
    play(serde_json::from_str(&part).unwrap());
}

fn play(part: Part) {
    match part {
        Part::ChildAsks(socket, ids) => {
            become_user(&ids);
            leave_to(connect(&socket), &Part::AskOnStdin);
        }
        Part::ChildListens(socket, ids) => {
            become_user(&ids);
            let mut stream = connect(&socket);
            let heir = stream.try_clone().unwrap();
            ask(&mut stream, "/secrets/stripe");
            leave_to(heir, &Part::ListenOnStdin);
        }
        Part::LeaveBehind(socket, ids, before) => {
            become_user(&ids);
            let stream = match before {
                Before::Asking => {
                    let mut stream = connect(&socket);
                    ask(&mut stream, "/secrets/stripe");
                    stream
                }
                Before::Answered => answered(&socket),
            };
            spawn(Part::ListenOnStdin.command().stdin(OwnedFd::from(stream)));
        }
        Part::PassOn(socket, ids, other) => pass_on(&socket, &ids, other),
        Part::Forge(socket, ids, pid) => forge(&socket, &ids, pid),
        Part::PassDescriptors(socket, ids, times) => pass_descriptors(&socket, &ids, times),
        Part::UnderInit(part) => under_init(&part),
        Part::InPidNamespace(part) => {
            unshare(CloneFlags::CLONE_NEWPID).unwrap();
            assert!(part.command().status().unwrap().success());
        }
        Part::InUserNamespace(part) => {
            wait_until("a map of ids", || {
                let mapped = |kind| fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap();
                !mapped("uid").is_empty() && !mapped("gid").is_empty()
            });
            play(*part);
        }
        Part::InCgroup(folder, part) => {
            // 0 is whoever writes it.
            fs::write(folder.join("cgroup.procs"), "0").unwrap();
            play(*part);
        }
        Part::TellContainer(socket) => tell(&crate::cgroups::connector(&socket)),
        Part::Become(line) => play(Part::BecomeAs(Ids { uid: 0, gid: 0, groups: vec![] }, line)),
        Part::BecomeAs(ids, line) => {
            become_user(&ids);
            panic!("{}", Command::new(&line[0]).args(&line[1..]).env_remove(VARIABLE).exec());
        }
        Part::Rob(ids, pid, socket) => {
            become_user(&ids);
            crate::agent::rob(pid, socket.as_deref());
        }
        Part::AskOnStdin | Part::ListenOnStdin | Part::TakeAndAsk(_) => play_a_child(part),
        part => play_alone(part),
    }
}

/// Nobody else takes part.
fn play_alone(part: Part) {
    match part {
        Part::Ask(socket, ids, target) => {
            become_user(&ids);
            let mut stream = connect(&socket);
            ask(&mut stream, &target);
            listen_to(stream);
        }
        Part::Stay(socket, ids) => {
            become_user(&ids);
            let _stream = answered(&socket);
            tell("here");
            io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        Part::AskThenBecome(socket, ids) => {
            let mut stream = answered(&socket);
            become_user(&ids);
            ask(&mut stream, "/secrets/stripe");
            listen_to(stream);
        }
        Part::WaitThenBecome(socket, ids) => {
            let mut stream = connect(&socket);
            stream.write_all(b"GET /secrets/stripe HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut answer = [0; 4096];
            let length = stream.read(&mut answer).unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            let tag = answer.split_once("etag: \"").unwrap().1.split_once('"').unwrap().0;
            ask(&mut stream, &format!("/secrets/stripe?wait=2s&since={tag}"));
            // The agent is one thread: when it answers this, it has read that.
            drop(answered(&socket));
            become_user(&ids);
            listen_to(stream);
        }
        Part::AskThenLower(socket, uid) => {
            let mut stream = answered(&socket);
            setresuid(Uid::from_raw(u32::MAX), Uid::from_raw(uid), Uid::from_raw(u32::MAX)).unwrap();
            ask(&mut stream, "/secrets/stripe");
            listen_to(stream);
        }
        Part::LowerThenAsk(socket, uid) => {
            setresuid(Uid::from_raw(u32::MAX), Uid::from_raw(uid), Uid::from_raw(u32::MAX)).unwrap();
            let mut stream = connect(&socket);
            ask(&mut stream, "/secrets/stripe");
            listen_to(stream);
        }
        Part::Flood(socket, ids, count, pace) => {
            become_user(&ids);
            flood(&socket, count, pace);
        }
        Part::Replace(socket, ids) => {
            become_user(&ids);
            replace(&socket);
        }
        Part::Squat(socket) => squat(&socket),
        Part::CopyDescriptors(socket) => copy_descriptors(&socket),
        Part::BeCopied(socket) => {
            let listener = UnixListener::bind(socket).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0]);
        }
        _ => panic!("no part for one alone"),
    }
}

fn play_a_child(part: Part) {
    match part {
        Part::AskOnStdin => {
            let parent = format!("/proc/{}/comm", getppid());
            wait_until("the parent's new program", || {
                fs::read_to_string(&parent).is_ok_and(|name| name == "cat\n")
            });
            let mut stream = stdin();
            ask(&mut stream, "/secrets/stripe");
            listen_to(stream);
        }
        Part::ListenOnStdin => listen_to(stdin()),
        Part::TakeAndAsk(ids) => take_and_ask(&ids),
        _ => panic!("no part of a child"),
    }
}

/// In a container it is that user already, and has no right to say so again.
fn become_user(ids: &Ids) {
    let groups: Vec<u32> = getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
    let (us, ours) = (getresuid().unwrap(), getresgid().unwrap());
    let are_uid = [us.real, us.effective, us.saved] == [Uid::from_raw(ids.uid); 3];
    let are_gid = [ours.real, ours.effective, ours.saved] == [Gid::from_raw(ids.gid); 3];
    if are_uid && are_gid && groups == ids.groups {
        return;
    }
    let Ids { uid, gid, groups } = ids;
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    setgroups(&groups).unwrap();
    setresgid(gid, gid, gid).unwrap();
    setresuid(uid, uid, uid).unwrap();
}

pub(crate) fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection that is accepted: the agent knows who made it.
fn answered(socket: &Path) -> UnixStream {
    let mut stream = connect(socket);
    stream.write_all(b"GET /whoami HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    // It comes in one piece.
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    stream
}

fn stdin() -> UnixStream {
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn request(target: &str) -> String {
    // `close`: an answer that is given all the same ends the waiting.
    format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

fn ask(stream: &mut UnixStream, target: &str) {
    // A connection that is closed by now cannot be written to; what can be heard is what counts.
    let _ = stream.write_all(request(target).as_bytes());
}

/// Tells everything that comes in, and how it ends.
fn listen_to(mut stream: UnixStream) {
    listen(|piece| stream.read(piece));
}

fn listen(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) {
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    let end = loop {
        match read(&mut piece) {
            Ok(0) => break "closed",
            Ok(length) => heard.extend_from_slice(&piece[..length]),
            Err(error) if error.raw_os_error() == Some(Errno::ECONNRESET as i32) => break "closed",
            Err(_) => break "open",
        }
    };
    tell(&format!("heard {:?}", String::from_utf8_lossy(&heard)));
    tell(end);
}

pub(crate) fn tell(line: &str) {
    // One write: the lines of several attackers do not mix.
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn spawn(command: &mut Command) {
    // Whoever started us waits for the end of the output, and so for this child.
    drop(command.spawn().unwrap());
}

/// A child has the connection; we become `cat`, until the child ends.
fn leave_to(stream: UnixStream, part: &Part) {
    let (until, held) = std::io::pipe().unwrap();
    let mut command = part.command();
    spawn(command.stdin(OwnedFd::from(stream)).stderr(held));
    drop(command);
    panic!("{}", Command::new("cat").stdin(until).exec());
}

fn pass_on(socket: &Path, ids: &Ids, other: Ids) {
    let (near, far) = UnixStream::pair().unwrap();
    spawn(Part::TakeAndAsk(other).command().stdin(OwnedFd::from(far)));
    become_user(ids);
    let stream = connect(socket);
    let passed = [stream.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&passed)];
    sendmsg::<()>(near.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).unwrap();
    // Stays, and stays connected, until the other one is done.
    let _ = (&near).read(&mut [0]);
}

fn take_and_ask(ids: &Ids) {
    let parent = stdin();
    let (mut byte, mut space) = ([0], cmsg_space!([i32; 1]));
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(parent.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
    let taken = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmRights(taken) => taken.first().copied(),
        _ => None,
    });
    // A number that nobody owns, and that this process takes with it when it ends.
    let taken = taken.unwrap();
    become_user(ids);
    let _ = send(taken, request("/secrets/stripe").as_bytes(), MsgFlags::MSG_NOSIGNAL);
    listen(|piece| Ok(recv(taken, piece, MsgFlags::empty())?));
}

fn flood(socket: &Path, count: usize, pace: Pace) {
    let open = || {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut streams: Vec<_> = (0..count).map(|_| open()).collect();
    tell("flooding");
    let begun = Instant::now();
    let mut made = count;
    // A test kills it long before.
    while begun.elapsed() < 3 * PATIENCE {
        for stream in &mut streams {
            if matches!(pace, Pace::ByByte) {
                let _ = stream.write(b"x");
            }
            let mut piece = [0; 1024];
            match stream.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(length) if length > 0 => {
                    let heard = String::from_utf8_lossy(&piece[..length]);
                    let reason = heard.split("\"reason\":\"").nth(1).and_then(|rest| rest.split('"').next());
                    tell(&format!("heard {} {made}", reason.unwrap_or("something")));
                }
                _ => {
                    *stream = open();
                    made += 1;
                    if made == 10 * count {
                        tell("flooded");
                    }
                }
            }
        }
        pause();
    }
}

fn replace(socket: &Path) {
    match fs::remove_file(socket) {
        Ok(()) => {}
        Err(error) => return tell(&format!("{:?}", Errno::from_raw(error.raw_os_error().unwrap()))),
    }
    match UnixListener::bind(socket) {
        Ok(listener) => {
            tell("squatting");
            // It listens until the test ends it.
            let _ = listener.accept();
            loop {
                pause();
            }
        }
        Err(error) => tell(&format!("{error}")),
    }
}

fn forge(socket: &Path, ids: &Ids, pid: u32) {
    become_user(ids);
    let stream = connect(socket);
    let request = request("/secrets/stripe");
    let forged = libc::ucred { pid: i32::try_from(pid).unwrap(), uid: ids.uid, gid: ids.gid };
    let forged = UnixCredentials::from(forged);
    let forged = [ControlMessage::ScmCredentials(&forged)];
    let bytes = [IoSlice::new(request.as_bytes())];
    match sendmsg::<()>(stream.as_raw_fd(), &bytes, &forged, MsgFlags::empty(), None) {
        Ok(_) => tell("sent"),
        Err(errno) => {
            tell(&format!("{errno:?}"));
            stream.shutdown(Shutdown::Write).unwrap();
        }
    }
    listen_to(stream);
}

fn pass_descriptors(socket: &Path, ids: &Ids, times: u32) {
    become_user(ids);
    let null = File::open("/dev/null").unwrap();
    let raw = [null.as_raw_fd(); 253];
    for _ in 0..times {
        let stream = connect(socket);
        let request = request("/secrets/stripe");
        let rights = [ControlMessage::ScmRights(&raw)];
        let bytes = [IoSlice::new(request.as_bytes())];
        match sendmsg::<()>(stream.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None) {
            Ok(_) => tell("sent"),
            Err(errno) => {
                tell(&format!("{errno:?}"));
                stream.shutdown(Shutdown::Write).unwrap();
            }
        }
        listen_to(stream);
    }
}

fn under_init(part: &Part) {
    // Where it is not the first of its PID namespace.
    set_child_subreaper(true).unwrap();
    let mut child = part.command().spawn().unwrap();
    tell(&format!("pid {}", child.id()));
    assert!(child.wait().unwrap().success());
    tell("ended");
    while wait().is_ok() {}
}

fn tell_outcome<T>(what: &str, outcome: Result<T, Errno>) {
    match outcome {
        Ok(_) => tell(&format!("{what} done")),
        Err(errno) => tell(&format!("{what} {errno:?}")),
    }
}

fn squat(socket: &Path) {
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    tell_outcome("unlink", fs::remove_file(socket).map_err(errno));
    let bound = UnixListener::bind(socket).map_err(errno);
    // Nobody is at the other end of a socket that it has put there.
    let asks = bound.is_err();
    tell_outcome("bind", bound);
    if asks {
        let mut stream = connect(socket);
        ask(&mut stream, "/secrets/stripe");
        listen_to(stream);
    }
}

fn copy_descriptors(socket: &Path) {
    let stream = connect(socket);
    let other = getsockopt(&stream, sockopt::PeerPidfd).unwrap();
    for number in 0..16 {
        let copied = pidfd_getfd(&other, number, PidfdGetfdFlags::empty());
        tell_outcome("copy", copied.map_err(|error| Errno::from_raw(error.raw_os_error())));
    }
    drop(stream);
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "never came: {what}");
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "an attacker's only thread, with nothing to be woken by")]
fn pause() {
    sleep(Duration::from_millis(1));
}

/// So that nothing of the harness stands in the way of whoever reads the output.
pub(crate) fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}
