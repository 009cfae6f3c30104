//! Texts of `/proc`, read whole, and what it means that one cannot be read.
//!
//! Does not know what they say: `texts` does.

use crate::peer::program::Refusal;
use std::{fs::File, io, os::unix::fs::FileExt as _};

/// The largest text of `/proc` that is read: that of about 40,000 pieces of memory.
const LARGEST: usize = 4 << 20;

/// What it means that a file of `/proc/PID` cannot be read.
pub(super) fn unreadable(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => Refusal::ExeUnreadable,
        // It lives, or this is not looked at: then /proc hides it.
        Some(libc::ENOENT | libc::ESRCH) => Refusal::PidNotVisible,
        _ => Refusal::AttestorFailed,
    }
}

/// A text of `/proc/PID`.
///
/// # Errors
/// As [`read`].
pub(super) fn read_of(pid: u32, name: &str) -> Result<Vec<u8>, Refusal> {
    read(&File::open(format!("/proc/{pid}/{name}")).map_err(|error| unreadable(&error))?)
}

/// A text of `/proc` that the kernel makes as one record, from its beginning: what does not fill the room is all of it.
///
/// # Errors
/// As [`read`].
pub(super) fn read_record(file: &File) -> Result<Vec<u8>, Refusal> {
    let mut text = vec![0; 4 << 10];
    let end = file.read_at(&mut text, 0).map_err(|error| unreadable(&error))?;
    if end == text.len() {
        return read(file);
    }
    text.truncate(end);
    Ok(text)
}

/// A text of `/proc`, from its beginning.
///
/// # Errors
/// Why it cannot be read; [`Refusal::AttestorFailed`] if it is too long.
pub(super) fn read(file: &File) -> Result<Vec<u8>, Refusal> {
    let (mut text, mut end) = (vec![0; 8 << 10], 0);
    loop {
        let room = text.get_mut(end..).unwrap_or_default();
        match file.read_at(room, end as u64).map_err(|error| unreadable(&error))? {
            0 => break,
            read => end += read,
        }
        if end == text.len() {
            text.resize(end * 2, 0);
        }
        if end > LARGEST {
            return Err(Refusal::AttestorFailed);
        }
    }
    text.truncate(end);
    Ok(text)
}
