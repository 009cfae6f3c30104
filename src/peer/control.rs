//! The control data that the kernel puts beside received bytes (unix(7), cmsg(3)), taken apart.
//!
//! Pure. Reads numbers only: what they are worth, and who owns a descriptor, is for `kernel`.

use std::os::fd::RawFd;

/// linux/socket.h, Linux 6.5; not in libc.
const SCM_PIDFD: i32 = 4;
/// Length (`size_t`), level and type (`int`) in front of each message, in the kernel's own layout.
const HEAD: usize = size_of::<usize>() + 2 * size_of::<i32>();

/// One control message of those that we ask for, or that a peer can send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// `SCM_CREDENTIALS`.
    Ids {
        /// Real user id.
        uid: u32,
        /// Real group id.
        gid: u32,
    },
    /// `SCM_PIDFD`: a descriptor, or an error as a negative number.
    Writer(RawFd),
    /// `SCM_RIGHTS`: descriptors, as [`numbers`] reads them.
    Descriptors(&'a [u8]),
}

/// The messages in what the kernel wrote. What is cut off is read as far as it goes; what is unknown is left out.
pub(super) fn messages(mut control: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        loop {
            let (length, rest) = control.split_first_chunk::<{ size_of::<usize>() }>()?;
            let length = usize::from_ne_bytes(*length).min(control.len());
            let (level, rest) = rest.split_first_chunk::<4>()?;
            let (kind, _) = rest.split_first_chunk::<4>()?;
            let data = control.get(HEAD..length)?;
            // Each begins where a size_t may.
            let next = length.next_multiple_of(size_of::<usize>());
            let found = message(i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data);
            control = control.get(next..).unwrap_or_default();
            if found.is_some() {
                return found;
            }
        }
    })
}

/// The `int`s in a message.
pub(super) fn numbers(data: &[u8]) -> impl Iterator<Item = i32> {
    data.as_chunks::<4>().0.iter().map(|bytes| i32::from_ne_bytes(*bytes))
}

fn message(level: i32, kind: i32, data: &[u8]) -> Option<Message<'_>> {
    if level != libc::SOL_SOCKET {
        return None;
    }
    match kind {
        libc::SCM_RIGHTS => Some(Message::Descriptors(data)),
        SCM_PIDFD => numbers(data).next().map(Message::Writer),
        libc::SCM_CREDENTIALS => {
            // struct ucred: pid, uid, gid. A pid is no identity.
            let mut fields = numbers(data).skip(1).map(i32::cast_unsigned);
            Some(Message::Ids { uid: fields.next()?, gid: fields.next()? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel writes it.
    fn written(level: i32, kind: i32, data: &[i32]) -> Vec<u8> {
        let data: Vec<u8> = data.iter().flat_map(|number| number.to_ne_bytes()).collect();
        let length = HEAD + data.len();
        let mut bytes =
            [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), &data].concat();
        bytes.resize(length.next_multiple_of(size_of::<usize>()), 0);
        bytes
    }

    #[track_caller]
    fn check(control: &[Vec<u8>], expected: &[&str]) {
        let control = control.concat();
        let found = messages(&control).map(|message| match message {
            Message::Ids { uid, gid } => format!("ids {uid} {gid}"),
            Message::Writer(descriptor) => format!("writer {descriptor}"),
            Message::Descriptors(data) => format!("descriptors {:?}", numbers(data).collect::<Vec<_>>()),
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn each_message_is_read_and_unknown_ones_are_left_out() {
        let own = libc::SOL_SOCKET;
        check(&[], &[]);
        check(
            &[written(own, 2, &[77, 1000, -2]), written(own, 4, &[9]), written(own, 1, &[5, 6, 7])],
            &["ids 1000 4294967294", "writer 9", "descriptors [5, 6, 7]"],
        );
        check(&[written(own, 99, &[1]), written(41, 4, &[1]), written(own, 4, &[-3])], &["writer -3"]);
    }

    #[test]
    fn what_is_cut_off_is_read_as_far_as_it_goes_and_never_further() {
        let own = libc::SOL_SOCKET;
        let whole = written(own, 1, &[5, 6, 7]);
        for end in 0..whole.len() {
            let found: Vec<_> = messages(&whole[..end]).collect();
            assert!(found.len() <= 1, "{end}");
        }
        check(&[whole[..HEAD + 8].to_vec()], &["descriptors [5, 6]"]);
        // Lengths that no kernel writes.
        for length in [0, 1, HEAD - 1, usize::MAX] {
            let mut bad = written(own, 1, &[5]);
            bad[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
            bad.extend(written(own, 4, &[9]));
            let _: Vec<_> = messages(&bad).collect();
        }
    }
}
