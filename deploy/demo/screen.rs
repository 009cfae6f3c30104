//! What the demo prints: plain lines to stdout, failures to stderr, colour on a terminal only.
//!
//! Does not know what it prints.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a demo is for")]

use std::io::IsTerminal as _;

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
        println!("{} {text}", self.paint("2", &format!("{what:<9}")));
    }

    /// The title of one thing that is shown.
    pub(crate) fn title(&self, text: &str) {
        println!("{}", self.paint("1", text));
    }

    /// What somebody typed.
    pub(crate) fn typed(&self, who: &str, command: &str) {
        println!("   {} {command}", self.paint("36", &format!("{who}$")));
    }

    /// What came of it.
    pub(crate) fn line(&self, text: &str) {
        println!("   {text}");
    }

    /// The last line.
    pub(crate) fn end(&self, text: &str) {
        println!("{}", self.paint("32", text));
    }

    /// Why the demo failed.
    pub(crate) fn fail(&self, text: &str) {
        eprintln!("demo failed: {text}");
    }

    /// The end of the agent's log, after a failure.
    pub(crate) fn log(&self, lines: &str) {
        eprintln!("the end of the agent's log:\n{lines}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
