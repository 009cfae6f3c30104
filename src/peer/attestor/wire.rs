//! The messages between the agent and its attestor. Pure.
//!
//! One message is one packet of a `SOCK_SEQPACKET` pair; the descriptor that some come with travels beside it. Both ends are
//! the same binary, so there is no version; what is malformed all the same is no message.

use crate::peer::program::{
    Allowance, Ancestry, LONGEST_PREFIX, MOST_DIGESTS, MOST_PREFIXES, Refusal, Settings,
};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

/// The longest request: the most digests and the most and longest prefixes, with room.
pub(super) const LONGEST: usize = 8192;
/// The most ids that are dropped by one request.
pub(super) const MOST_DROPPED: usize = 64;
/// Every answer has this length.
pub(super) const ANSWER: usize = 17;

/// Names a request, and the image that it pins; never used again while the agent runs.
pub(super) type Id = u64;

/// What the agent asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Whether the process, whose pidfd comes with it, is a permitted program; if so, it is held under this id.
    Pin(Id, Settings),
    /// Whether the held one still is.
    Again(Id, Id, Depth),
    /// They need not be held any more. Has no answer.
    Drop(Vec<Id>),
    /// In which mount namespace the process is, whose pidfd comes with it.
    MountNamespace(Id),
    /// What the process, whose pidfd comes with it, executes, its arguments and its environment: to be passed, where they may be opened.
    Open(Id),
}

/// How much is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// That it lives, is the same image and has the same ids, and that nobody traces its first thread: for every request.
    Light,
    /// Beside that, all its threads and its memory: before anything is disclosed that nobody asked for just now, and after a
    /// nonce has come back.
    Full,
}

/// What the attestor answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To the request of this id. The number is a mount namespace's, or says what is passed beside it, or 0.
    To(Id, Result<u64, Refusal>),
    /// Whoever would have answered has died, and holds nothing any more.
    Died,
}

const PIN: u8 = 1;
const LIGHT: u8 = 2;
const FULL: u8 = 3;
const DROP: u8 = 4;
const MOUNT: u8 = 5;
const OPEN: u8 = 6;
const OK: u8 = 0;
const DIED: u8 = 255;

impl Request {
    /// The packet; `None` for settings that are larger than the config allows.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let (kind, id) = match self {
            Self::Pin(id, _) => (PIN, *id),
            Self::Again(id, _, Depth::Light) => (LIGHT, *id),
            Self::Again(id, _, Depth::Full) => (FULL, *id),
            // Has no name, since it has no answer: here stands how many they are.
            Self::Drop(ids) => (DROP, ids.len().try_into().ok()?),
            Self::MountNamespace(id) => (MOUNT, *id),
            Self::Open(id) => (OPEN, *id),
        };
        let mut packet = vec![kind];
        packet.extend(id.to_ne_bytes());
        match self {
            Self::Pin(_, settings) => append(&mut packet, settings)?,
            Self::Again(_, image, _) => packet.extend(image.to_ne_bytes()),
            Self::Drop(ids) if ids.len() > MOST_DROPPED => return None,
            Self::Drop(ids) => packet.extend(ids.iter().flat_map(|id| id.to_ne_bytes())),
            Self::MountNamespace(_) | Self::Open(_) => {}
        }
        Some(packet)
    }

    /// What a packet says, if it is one.
    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let mut rest = Rest(packet);
        let kind = rest.byte()?;
        let id = rest.number()?;
        let request = match kind {
            PIN => Self::Pin(id, rest.settings()?),
            LIGHT => Self::Again(id, rest.number()?, Depth::Light),
            FULL => Self::Again(id, rest.number()?, Depth::Full),
            DROP => Self::Drop(rest.ids(id)?),
            MOUNT => Self::MountNamespace(id),
            OPEN => Self::Open(id),
            _ => return None,
        };
        rest.0.is_empty().then_some(request)
    }
}

impl Answer {
    /// The packet.
    pub(super) fn encode(&self) -> [u8; ANSWER] {
        let (id, code, number) = match self {
            Self::To(id, Ok(number)) => (*id, OK, *number),
            Self::To(id, Err(refusal)) => (*id, *refusal as u8, 0),
            Self::Died => (0, DIED, 0),
        };
        let mut packet = [code; ANSWER];
        for (byte, with) in
            packet.iter_mut().skip(1).zip(id.to_ne_bytes().into_iter().chain(number.to_ne_bytes()))
        {
            *byte = with;
        }
        packet
    }

    /// What a packet says, if it is one.
    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let mut rest = Rest(packet);
        let (code, id, number) = (rest.byte()?, rest.number()?, rest.number()?);
        let answer = match code {
            OK => Self::To(id, Ok(number)),
            DIED => Self::Died,
            code => Self::To(id, Err(Refusal::of_code(code)?)),
        };
        rest.0.is_empty().then_some(answer)
    }
}

fn append(packet: &mut Vec<u8>, settings: &Settings) -> Option<()> {
    let Settings { exe_sha256, allow_prefix, anon_exec, no_new_privs, seccomp, ancestry, tty, steerable } =
        settings;
    let flags = [
        *anon_exec == Allowance::Allow,
        *no_new_privs,
        *seccomp,
        *ancestry == Ancestry::ContainerMain,
        *tty == Allowance::Allow,
        *steerable == Allowance::Allow,
    ];
    packet.extend(flags.map(u8::from));
    if exe_sha256.len() > MOST_DIGESTS || allow_prefix.len() > MOST_PREFIXES {
        return None;
    }
    packet.push(u8::try_from(exe_sha256.len()).ok()?);
    packet.extend(exe_sha256.iter().flatten());
    packet.push(u8::try_from(allow_prefix.len()).ok()?);
    for prefix in allow_prefix {
        let prefix = prefix.as_os_str().as_bytes();
        packet.push(u8::try_from(prefix.len()).ok().filter(|length| usize::from(*length) <= LONGEST_PREFIX)?);
        packet.extend(prefix);
    }
    Some(())
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.take(8)?.try_into().ok()?))
    }

    fn ids(&mut self, count: u64) -> Option<Vec<Id>> {
        let count = usize::try_from(count).ok().filter(|count| *count <= MOST_DROPPED)?;
        (0..count).map(|_| self.number()).collect()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn allowance(&mut self) -> Option<Allowance> {
        Some(if self.flag()? { Allowance::Allow } else { Allowance::Deny })
    }

    fn settings(&mut self) -> Option<Settings> {
        let mut settings = Settings {
            exe_sha256: Vec::new(),
            allow_prefix: Vec::new(),
            anon_exec: self.allowance()?,
            no_new_privs: self.flag()?,
            seccomp: self.flag()?,
            ancestry: if self.flag()? { Ancestry::ContainerMain } else { Ancestry::Any },
            tty: self.allowance()?,
            steerable: self.allowance()?,
        };
        for _ in 0..self.byte()? {
            settings.exe_sha256.push(self.take(32)?.try_into().ok()?);
        }
        for _ in 0..self.byte()? {
            let length = self.byte()?;
            settings.allow_prefix.push(OsStr::from_bytes(self.take(length.into())?).into());
        }
        Some(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn settings() -> Settings {
        Settings {
            exe_sha256: vec![[1; 32], [2; 32]],
            allow_prefix: vec!["/usr/lib".into(), "/opt".into()],
            anon_exec: Allowance::Allow,
            no_new_privs: true,
            seccomp: false,
            ancestry: Ancestry::ContainerMain,
            tty: Allowance::Deny,
            steerable: Allowance::Allow,
        }
    }

    #[test]
    fn requests_arrive_as_they_were_sent_and_no_part_of_one_is_one() {
        let other = Settings {
            anon_exec: Allowance::Deny,
            no_new_privs: false,
            seccomp: true,
            ancestry: Ancestry::Any,
            tty: Allowance::Allow,
            steerable: Allowance::Deny,
            ..settings()
        };
        for request in [
            Request::Pin(7, settings()),
            Request::Pin(u64::MAX, other),
            Request::Again(8, 7, Depth::Light),
            Request::Again(9, 7, Depth::Full),
            Request::Drop(vec![7]),
            Request::Drop((0..64).collect()),
            Request::MountNamespace(3),
            Request::Open(4),
        ] {
            let mut packet = request.encode().unwrap();
            for end in 0..packet.len() {
                assert_eq!(Request::decode(&packet[..end]), None, "{request:?}");
            }
            assert_eq!(Request::decode(&packet).as_ref(), Some(&request));
            packet.push(0);
            assert_eq!(Request::decode(&packet), None, "{request:?}");
        }
        assert_eq!(Request::decode(&[99; 9]), None);
        assert_eq!(Request::Drop((0..65).collect()).encode(), None);
    }

    #[test]
    fn the_largest_settings_fit_and_larger_ones_are_not_sent() {
        let largest = || Settings {
            exe_sha256: vec![[1; 32]; MOST_DIGESTS],
            allow_prefix: vec![PathBuf::from("/".repeat(LONGEST_PREFIX)); MOST_PREFIXES],
            ..settings()
        };
        assert!(Request::Pin(1, largest()).encode().unwrap().len() <= LONGEST);
        let mut larger = largest();
        larger.exe_sha256.push([1; 32]);
        assert_eq!(Request::Pin(1, larger).encode(), None);
        let mut larger = largest();
        larger.allow_prefix.push("/".into());
        assert_eq!(Request::Pin(1, larger).encode(), None);
        let longer = Settings { allow_prefix: vec!["/".repeat(256).into()], ..settings() };
        assert_eq!(Request::Pin(1, longer).encode(), None);
    }

    #[test]
    fn answers_arrive_as_they_were_sent() {
        let refusals = Refusal::ALL.map(|refusal| Answer::To(5, Err(refusal)));
        for answer in refusals.into_iter().chain([Answer::To(u64::MAX, Ok(77)), Answer::Died]) {
            let packet = answer.encode();
            assert_eq!(Answer::decode(&packet), Some(answer));
            assert_eq!(Answer::decode(&packet[1..]), None);
        }
        assert_eq!(Answer::decode(&[200; ANSWER]), None);
    }
}
