//! Makes the socket file, finds out when it was replaced, and removes it when it is still ours.
//!
//! Everything goes through the directory's descriptor, so that the directory cannot be swapped in between and long paths fit.
//! Path sockets only: an abstract one could be reached by every container of the pod. Does not know who may connect.

use crate::peer;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, open},
    sys::{
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket},
        stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat},
    },
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};
use std::{
    ffi::OsString,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};
use tokio::net::{UnixListener, UnixStream};

/// Connections that wait in the kernel until we take them, or have room for them; further ones wait in connect(2), or get EAGAIN.
const WAITING: i32 = 1024;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path has no directory, or no file name that fits.
    #[error("{0} cannot be a socket's path")]
    Path(PathBuf),
    /// The directory cannot be opened.
    #[error("opening the directory of {path}")]
    Directory {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// Others could replace the socket.
    #[error(
        "the directory of {0} belongs to, or can be written by, somebody else; chown it to the user we run as and chmod it \
         0755, or give it a mount of its own"
    )]
    Shared(PathBuf),
    /// Something else is there.
    #[error("{0} is there and is not a socket; remove it")]
    NotASocket(PathBuf),
    /// Somebody answers there.
    #[error("another agent is listening on {0}; stop it first")]
    Alive(PathBuf),
    /// The kernel refused.
    #[error("{doing} {path}")]
    Kernel {
        /// What we were doing.
        doing: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// A socket that listens, and the file that leads to it. Dropping it removes the file if it is still ours.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    place: Place,
    /// Kept open so that the inode's number is not given to another file: device and inode are then an identity.
    _file: OwnedFd,
    inode: (u64, u64),
}

/// Where a socket file is: a name in an open directory.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    directory: OwnedFd,
    name: OsString,
}

impl Socket {
    /// Binds and listens. The file gets `mode`; before that nobody but us can connect.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<Self, Error> {
        let place = Place::open(path)?;
        place.check_directory()?;
        place.clear()?;
        let failed =
            |doing| move |errno: Errno| Error::Kernel { doing, path: path.to_owned(), source: errno.into() };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed("making"))?;
        // Before anybody can connect: what is written to a connection that is not yet accepted counts too.
        let source = |source| Error::Kernel { doing: "preparing", path: path.to_owned(), source };
        peer::prepare(&socket).map_err(source)?;
        // The file is made with the mode of the descriptor, less the umask: 0600 from the start, and widened below.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed("closing"))?;
        bind(socket.as_raw_fd(), &place.address()?).map_err(failed("binding"))?;
        let made = place.adopt(mode);
        let listening = made.map_err(failed("opening")).and_then(|(file, inode)| {
            let backlog = Backlog::new(WAITING).unwrap_or(Backlog::MAXCONN);
            listen(&socket, backlog).map_err(failed("listening on"))?;
            let listener = UnixListener::from_std(socket.into());
            let source = |source| Error::Kernel { doing: "listening on", path: path.to_owned(), source };
            Ok((listener.map_err(source)?, file, inode))
        });
        let (listener, file, inode) = listening?;
        Ok(Self { listener, place, _file: file, inode })
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Whether the path still leads to this socket.
    pub(super) fn is_in_place(&self) -> bool {
        let found = fstatat(AT_FDCWD, &self.place.path, AtFlags::AT_SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| inode(&found) == self.inode)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.place.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let found = fstatat(&self.place.directory, self.place.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| inode(&found) == self.inode) {
            // What cannot be removed is stale, and the next start removes it.
            let _ = self.place.unlink();
        }
    }
}

impl Place {
    fn open(path: &Path) -> Result<Self, Error> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::Path(path.to_owned()));
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(directory, flags, Mode::empty())
            .map_err(|errno| Error::Directory { path: path.to_owned(), source: errno.into() })?;
        Ok(Self { path: path.to_owned(), directory, name: name.to_owned() })
    }

    /// Refuses a directory in which somebody else could put another socket in the place of ours: it must be ours or root's, and
    /// not writable by others or sticky. A mount of its own is somebody's decision, and a Kubernetes volume never is ours.
    fn check_directory(&self) -> Result<(), Error> {
        let found = fstat(&self.directory)
            .map_err(|errno| Error::Directory { path: self.path.clone(), source: errno.into() })?;
        let mode = Mode::from_bits_truncate(found.st_mode);
        let tight = !mode.intersects(Mode::S_IWGRP | Mode::S_IWOTH) || mode.contains(Mode::S_ISVTX);
        let ours = found.st_uid == geteuid().as_raw() || found.st_uid == 0;
        if (ours && tight) || self.is_mount().unwrap_or_default() {
            return Ok(());
        }
        Err(Error::Shared(self.path.clone()))
    }

    fn is_mount(&self) -> io::Result<bool> {
        let directory = std::fs::read_link(self.through_directory().parent().unwrap_or(Path::new("/")))?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(is_mount_point(&mounts, &directory.to_string_lossy()))
    }

    /// Makes room: a socket that nobody listens on is removed; anything else is left alone, and is an error.
    fn clear(&self) -> Result<(), Error> {
        let failed = |doing| {
            move |errno: Errno| Error::Kernel { doing, path: self.path.clone(), source: errno.into() }
        };
        match fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(failed("looking at")(errno)),
            Ok(found) if !is_socket(&found) => return Err(Error::NotASocket(self.path.clone())),
            Ok(_) => {}
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed("probing"))?;
        match connect(probe.as_raw_fd(), &self.address()?) {
            Err(Errno::ECONNREFUSED) => self.unlink().map_err(failed("removing the stale socket")),
            Err(Errno::ENOENT) => Ok(()),
            // Its queue is full, or it is of another type: either way somebody has it.
            Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(Error::Alive(self.path.clone())),
            Err(errno) => Err(failed("probing")(errno)),
        }
    }

    /// Pins the file that bind(2) made, and gives it its mode through the pin, so that whoever can write to the directory
    /// cannot make us open up another file.
    fn adopt(&self, mode: u32) -> nix::Result<(OwnedFd, (u64, u64))> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = open(&self.through_directory(), flags, Mode::empty())?;
        let found = fstat(&file)?;
        if !is_socket(&found) || found.st_uid != geteuid().as_raw() {
            return Err(Errno::EEXIST);
        }
        let pinned = format!("/proc/self/fd/{}", file.as_raw_fd());
        fchmodat(AT_FDCWD, pinned.as_str(), Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)?;
        Ok((file, inode(&found)))
    }

    fn unlink(&self) -> nix::Result<()> {
        unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)
    }

    /// The same file by a path that is short however deep the directory is: `sun_path` has 108 bytes (unix(7)).
    fn through_directory(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(&self.name)
    }

    fn address(&self) -> Result<UnixAddr, Error> {
        // A name too long for the detour may still fit as it is.
        let address = UnixAddr::new(&self.through_directory()).or_else(|_| UnixAddr::new(&self.path));
        address.map_err(|_| Error::Path(self.path.clone()))
    }
}

fn inode(found: &FileStat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

fn is_socket(found: &FileStat) -> bool {
    SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFSOCK
}

/// Whether `directory` is a mount point by `/proc/self/mountinfo` (proc(5)): its fifth field, in which white space and `\` are
/// octal.
pub(super) fn is_mount_point(mounts: &str, directory: &str) -> bool {
    let escaped = directory.replace('\\', "\\134").replace(' ', "\\040");
    let escaped = escaped.replace('\t', "\\011").replace('\n', "\\012");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(&*escaped))
}
