//! When a process started, as the kernel prints it: a label for people, beside its number.
//!
//! No identity: a tick is 10 ms, and two processes that had one number one after the other can have the same. What names a
//! process is its pidfd.

use super::process::{Process, ProcessId};
use std::{
    collections::VecDeque,
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{Mutex, PoisonError},
};

/// More than `/proc/PID/stat` ever has; the kernel gives it whole to whoever has room for it.
const LONGEST: usize = 4096;
/// Those who connected last, and will again: a process starts once.
static LAST: Mutex<VecDeque<(ProcessId, u64)>> = Mutex::new(VecDeque::new());
/// How many are remembered.
const MOST: usize = 16;

/// Clock ticks from boot to the start of `process`, whose number is `pid` (proc(5), field 22 of `stat`). `None` where `/proc`
/// does not say it, or where the process has ended and its number may be another's.
pub(super) fn of(process: &Process, pid: i32) -> Option<u64> {
    let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, started)) = last().iter().find(|(id, _)| *id == process.id()) {
        return Some(*started);
    }
    let started = read(process, pid)?;
    let mut last = last();
    last.truncate(MOST - 1);
    last.push_front((process.id(), started));
    Some(started)
}

fn read(process: &Process, pid: i32) -> Option<u64> {
    let mut text = [0; LONGEST];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read_at(&mut text, 0).ok()?;
    process.check_alive().ok()?;
    ticks(text.get(..length)?)
}

fn ticks(stat: &[u8]) -> Option<u64> {
    // The name of the program stands in parentheses, and may hold any byte.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(stat.get(after + 1..)?).ok()?;
    // proc(5) counts from 1, and two fields stand before.
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::{fd::AsFd as _, unix::net::UnixStream};

    #[test]
    fn the_field_is_found_behind_any_name() {
        let rest = "S 1 2 3 0 -1 4194560 5 0 0 0 1 2 0 0 20 0 1 0 118273 6 7";
        for name in ["worker", ") S 1 2", "a b)"] {
            assert_eq!(ticks(format!("42 ({name}) {rest}").as_bytes()), Some(118_273), "{name}");
        }
        assert_eq!(ticks(b"42 (worker) S 1"), None);
        assert_eq!(ticks(b"42 worker"), None);
    }

    #[tokio::test]
    async fn our_own_start_is_the_one_that_proc_prints() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ourselves = Process::connector(ours.as_fd()).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let expected = ticks(&std::fs::read("/proc/self/stat").unwrap());
        assert!(expected.is_some());
        assert_eq!(read(&ourselves, i32::MAX), None);
        assert_eq!(of(&ourselves, pid), expected);
        // By now it is known.
        assert_eq!(of(&ourselves, i32::MAX), expected);
    }
}
