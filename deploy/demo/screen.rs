//! What the demo prints: plain lines to stdout, failures to stderr, colour on a terminal only.
//!
//! Does not know what it prints.

use std::io::{IsTerminal as _, Write as _};

/// Where the lines go.
pub(crate) struct Screen {
    colour: bool,
}

impl Screen {
    /// Looks once at whether a person sees it (no-color.org: any value of `NO_COLOR` but the empty one says no).
    #[expect(clippy::disallowed_methods, reason = "the demo is a program of its own")]
    pub(crate) fn new() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: std::io::stdout().is_terminal() && !refused }
    }

    /// One fact from before the show.
    pub(crate) fn head(&self, what: &str, text: &str) {
        say(&format!("{} {text}", self.paint("2", &format!("{what:<9}"))));
    }

    /// The title of one thing that is shown.
    pub(crate) fn title(&self, text: &str) {
        say(&self.paint("1", text));
    }

    /// What somebody typed.
    pub(crate) fn typed(&self, who: &str, command: &str) {
        say(&format!("   {} {command}", self.paint("36", &format!("{who}$"))));
    }

    /// What came of it.
    pub(crate) fn line(&self, text: &str) {
        say(&format!("   {text}"));
    }

    /// The last line.
    pub(crate) fn end(&self, text: &str) {
        say(&self.paint("32", text));
    }

    /// Why the demo failed.
    pub(crate) fn fail(&self, text: &str) {
        complain(&format!("demo failed: {text}"));
    }

    /// The end of the agent's log, after a failure.
    pub(crate) fn log(&self, lines: &str) {
        complain(&format!("the end of the agent's log:\n{lines}"));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// If nobody reads any more, the work is done and cleaned up all the same.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
