//! Prints one line an event to our standard output: with the native format exactly the journalled bytes.
//!
//! A reader of our output that stalls makes this sink lag, and nothing else: writing blocks its own thread.

use super::{
    batch::Item,
    format::Format,
    outlet::{Outlet, Pace, Verdict},
};
use std::{
    fs::File,
    future::Future,
    io::{self, Write},
    os::fd::AsFd,
    pin::Pin,
    time::Duration,
};

/// Bytes of one write, about.
const CHUNK: usize = 64 * 1024;

/// The outlet of kind `stdout`.
pub(in crate::audit) struct Stdout {
    out: Box<dyn Write + Send>,
    format: Format,
    /// What of the batch in hand is printed already, so that no line is torn by an error.
    printed: usize,
}

impl Stdout {
    /// Prints to `out`.
    pub(in crate::audit) fn new(out: Box<dyn Write + Send>, format: Format) -> Self {
        Self { out, format, printed: 0 }
    }

    /// Prints to our standard output.
    pub(super) fn of_process(format: Format) -> io::Result<Self> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::new(Box::new(out), format))
    }

    fn print(&mut self, items: &[Item]) -> io::Result<()> {
        let lines = self.format.lines(items);
        while let Some(rest) = lines.get(self.printed..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest.get(..CHUNK).unwrap_or(rest)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.printed = self.printed.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.flush()?;
        self.printed = 0;
        Ok(())
    }
}

impl Outlet for Stdout {
    fn send<'a>(&'a mut self, items: &'a [Item]) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        let verdict = match self.print(items) {
            Ok(()) => Verdict::Delivered,
            Err(error) => Verdict::failed("io", error),
        };
        Box::pin(std::future::ready(verdict))
    }

    fn pace(&self) -> Pace {
        Pace {
            gather: Duration::from_millis(20),
            save: Duration::from_secs(1),
            drain: Duration::from_millis(500),
        }
    }
}
