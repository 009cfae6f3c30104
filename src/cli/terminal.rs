//! Stdout for answers, stderr for complaints, and what may be coloured.
//!
//! The only file of the commands that knows whether somebody looks at a screen.

use super::exit::Failure;
use crate::telemetry::log::Colour;
use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
};

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// A terminal, with a person before it.
    Screen,
    /// A pipe or a file: the bytes themselves, nothing added.
    Pipe,
}

/// Where stdout goes.
pub(super) fn sink() -> Sink {
    if io::stdout().is_terminal() { Sink::Screen } else { Sink::Pipe }
}

/// Writes an answer to stdout, past the buffer of the standard library, which would keep a copy of a secret.
pub(super) fn answer(bytes: &[u8]) -> io::Result<()> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(bytes)
}

/// Writes one complaint to stderr, with its remedy on a line of its own.
pub(super) fn complain(failure: &Failure) {
    let (on, off) = match colour() {
        Colour::On => ("\x1b[1;31m", "\x1b[0m"),
        Colour::Off => ("", ""),
    };
    let mut text = format!("{on}error:{off} {}\n", failure.text);
    if let Some(remedy) = &failure.remedy {
        text.push_str(&format!("  {remedy}\n"));
    }
    say(&text);
}

/// Writes lines to stderr. If nobody can hear them, the exit code still speaks.
pub(super) fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether stderr may carry colour (no-color.org: any value of `NO_COLOR` but the empty one says no).
#[expect(clippy::disallowed_methods, reason = "the commands may read the environment")]
pub(super) fn colour() -> Colour {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stderr().is_terminal() && !refused { Colour::On } else { Colour::Off }
}
