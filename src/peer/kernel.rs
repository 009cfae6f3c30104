//! Asks the kernel for the one fact about a peer that no safe crate reads: its supplementary groups.
//!
//! The only file of the crate with `unsafe`. Does not judge what it reads.
#![expect(
    unsafe_code,
    reason = "SO_PEERGROUPS (Linux 4.13) has no safe wrapper in std, nix, rustix or socket2"
)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// The most groups a process can have (`NGROUPS_MAX`, setgroups(2)): the cap on what is allocated for a peer.
const MOST: usize = 65_536;

/// The peer's supplementary groups when it connected.
///
/// # Errors
/// Whatever getsockopt(2) says; more than [`MOST`] groups is an error too.
pub(super) fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    let mut groups = vec![0; 32];
    loop {
        let (answer, needed) = ask(socket, &mut groups);
        match answer {
            Ok(()) if needed <= groups.len() => {
                groups.truncate(needed);
                return Ok(groups);
            }
            // The kernel says how many there are. It cannot shrink: a peer's groups are frozen when it connects.
            Err(error)
                if error.raw_os_error() == Some(libc::ERANGE) && needed > groups.len() && needed <= MOST =>
            {
                groups.resize(needed, 0);
            }
            Err(error) => return Err(error),
            Ok(()) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// One getsockopt(2), and how many groups it says there are.
fn ask(socket: BorrowedFd<'_>, groups: &mut [libc::gid_t]) -> (io::Result<()>, usize) {
    let Ok(mut size) = libc::socklen_t::try_from(size_of_val(groups)) else {
        return (Err(io::ErrorKind::InvalidInput.into()), 0);
    };
    // SAFETY: the descriptor is open while it is borrowed; `groups` is valid for `size` bytes of writes and `size` for
    // one `socklen_t`, both for the whole call; the kernel writes at most `size` bytes, any of which make valid gids.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    let error = if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    (error, usize::try_from(size).unwrap_or(usize::MAX) / size_of::<libc::gid_t>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::{fd::AsFd, unix::net::UnixStream};

    #[test]
    fn the_kernel_names_our_own_groups() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut told = groups(one.as_fd()).unwrap();
        let mut ours: Vec<_> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        told.sort_unstable();
        ours.sort_unstable();
        assert_eq!(told, ours);
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(groups(file.as_fd()).is_err());
    }
}
