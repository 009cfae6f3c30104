//! What an event says of a look for values where they must not be: where one was seen, or what was looked at. Pure.
//!
//! Does not look, and has no place for a value: names of programs, variables and files.

use super::pen::Pen;
use crate::usage::exposed::Told;

/// A value that was seen outside, or a look as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExposureRef {
    /// `environment`, `arguments` or `file`; of a look as a whole `None`.
    pub place: Option<&'static str>,
    /// The program that has it.
    pub exe: Option<String>,
    /// Its process.
    pub pid: Option<u64>,
    /// The variable that has it, or the file.
    pub name: Option<String>,
    /// The argument, or the line, that has it, from 1.
    pub number: Option<u64>,
    /// How it is spelled there: `raw`, `base64` and the like.
    pub form: Option<&'static str>,
    /// Of a look as a whole: how many processes were looked at.
    pub processes: Option<u64>,
    /// And how many files.
    pub files: Option<u64>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// What it tells, without a copy.
pub(super) fn told(exposure: &ExposureRef) -> Told<'_> {
    let ExposureRef { place, exe, pid, name, number, form, processes, files, unseen } = exposure;
    Told {
        place: *place,
        exe: exe.as_deref(),
        pid: *pid,
        name: name.as_deref(),
        number: *number,
        form: *form,
        processes: processes.unwrap_or(0),
        files: files.unwrap_or(0),
        unseen,
    }
}

pub(super) fn write_exposure(pen: &mut Pen<'_>, exposure: &ExposureRef) {
    let ExposureRef { place, exe, pid, name, number, form, processes, files, unseen } = exposure;
    pen.text("exe", exe.as_deref());
    pen.number("files", *files);
    pen.text("form", *form);
    pen.text("name", name.as_deref());
    pen.number("number", *number);
    pen.number("pid", *pid);
    pen.text("place", *place);
    pen.number("processes", *processes);
    pen.list("unseen", unseen);
}
