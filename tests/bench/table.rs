//! The table of what was measured, and how far it is from its goal.
//!
//! Does not decide what is good: the goals are given to it.

use super::load::Times;
use std::fmt;

/// A measured number and its goal.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    AtMost(f64, f64),
    AtLeast(f64, f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (met, found, goal) = match *self {
            Self::AtMost(found, goal) => (found <= goal, found, goal),
            Self::AtLeast(found, goal) => (found >= goal, found, goal),
        };
        let share = (found / goal - 1.0).abs() * 100.0;
        write!(f, "{} by {share:.0} %", if met { "met" } else { "MISSED" })
    }
}

struct Row {
    what: String,
    measured: String,
    goal: String,
    bound: Option<Bound>,
}

/// Rows in the order in which they were measured.
pub(super) struct Table {
    head: String,
    rows: Vec<Row>,
}

impl Table {
    pub(super) fn new(head: String) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Something with a goal.
    pub(super) fn goal(&mut self, what: &str, measured: &str, goal: &str, bound: Bound) {
        self.add(what, measured, goal, Some(bound));
    }

    /// Something without one.
    pub(super) fn note(&mut self, what: &str, measured: &str) {
        self.add(what, measured, "", None);
    }

    fn add(&mut self, what: &str, measured: &str, goal: &str, bound: Option<Bound>) {
        let row = Row { what: what.to_owned(), measured: measured.to_owned(), goal: goal.to_owned(), bound };
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\nagain: cargo bench --bench agent\n", self.head)?;
        writeln!(f, "| what | measured | goal | |\n| --- | --- | --- | --- |")?;
        for Row { what, measured, goal, bound } in &self.rows {
            let bound = bound.map(|bound| bound.to_string()).unwrap_or_default();
            writeln!(f, "| {what} | {measured} | {goal} | {bound} |")?;
        }
        Ok(())
    }
}

/// A size in millions of bytes.
pub(super) fn bytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

/// So many a second, with a comma.
pub(super) fn rate(rate: f64) -> String {
    let (thousands, rest) = (rate as u64 / 1000, rate as u64 % 1000);
    if thousands == 0 { format!("{rest}/s") } else { format!("{thousands},{rest:03}/s") }
}

/// Times in microseconds.
pub(super) fn micros(times: &Times) -> String {
    format!("p50 {} us, p99 {} us", times.p50.as_micros(), times.p99.as_micros())
}
