//! The three plots, as SVG that stands in the page itself: its colours are the page's. Pure.
//!
//! Each bar has its text beside it: nothing is told by colour alone.

use super::{Report, html::escaped};
use crate::{
    clock::Timestamp,
    report::{Key, RuleUse},
};
use std::fmt::Write as _;

/// Rows of one plot: of more, those that say most.
const ROWS: usize = 30;
const ROW: usize = 26;
const LEFT: usize = 210;
const WIDTH: usize = 760;
const RIGHT: usize = 130;
/// Days after which a credential is old.
const OLD: i64 = 90;

/// How old each secret's newest version is.
pub(super) fn ages(report: &Report) -> String {
    let days = |key: &Key| key.made.map(|made| whole_days(report.now, made));
    let mut keys: Vec<&Key> = report.keys.iter().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(days(key)));
    let most = keys.iter().filter_map(|key| days(key)).max().unwrap_or(0).max(OLD.saturating_add(10));
    let mut svg = Svg::new("Age of each secret in days", keys.len());
    let limit = scaled(OLD, most);
    svg.rule(limit, &format!("{OLD} d"));
    for (row, key) in keys.iter().take(ROWS).enumerate() {
        let Some(age) = days(key) else {
            svg.bar(row, &key.name, 0, "unknown", "plain");
            continue;
        };
        let class = if age > OLD { "bad" } else { "good" };
        let least = if key.exact { "" } else { "or more" };
        svg.bar(row, &key.name, scaled(age, most), &format!("{age} d {least}"), class);
    }
    svg.end()
}

/// When each secret was last used, within twice the period.
pub(super) fn last_use(report: &Report) -> String {
    let period = whole_days(report.now, report.since).max(1);
    let days = |key: &Key| key.last.map(|last| whole_days(report.now, last));
    let mut keys: Vec<&Key> = report.keys.iter().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(days(key).unwrap_or(i64::MAX)));
    let most = period.saturating_mul(2);
    let mut svg = Svg::new("Days since each secret was last used", keys.len());
    svg.rule(scaled(period, most), &format!("{period} d"));
    for (row, key) in keys.iter().take(ROWS).enumerate() {
        match days(key) {
            Some(ago) => {
                let class = if ago > period { "bad" } else { "good" };
                let text = if ago == 0 { "today".to_owned() } else { format!("{ago} d ago") };
                svg.dot(row, &key.name, scaled(ago, most), &text, class);
            }
            None => svg.dot(row, &key.name, scaled(most, most), "never", "bad"),
        }
    }
    svg.end()
}

/// How much each rule grants, and how much of that was used.
pub(super) fn grants(report: &Report) -> String {
    let mut rules: Vec<&RuleUse> = report.rules.iter().collect();
    rules.sort_by_key(|rule| std::cmp::Reverse((rule.granted.saturating_sub(rule.used), rule.granted)));
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let most = number(rules.iter().map(|rule| rule.granted).max().unwrap_or(1));
    let mut svg = Svg::new("Grants of each rule, and those that were used", rules.len());
    for (row, rule) in rules.iter().take(ROWS).enumerate() {
        let name = format!("{}.{}", rule.workload, rule.rule);
        let text = format!("{} of {} used", rule.used, rule.granted);
        svg.bar(row, &name, scaled(number(rule.granted), most), &text, "plain");
        svg.over(row, scaled(number(rule.used), most));
    }
    svg.end()
}

fn whole_days(now: Timestamp, then: Timestamp) -> i64 {
    (now.duration_since(then).as_hours() / 24).max(0)
}

/// How far `value` goes of the width, where `most` is all of it.
fn scaled(value: i64, most: i64) -> usize {
    let room = WIDTH.saturating_sub(LEFT).saturating_sub(RIGHT);
    let share = value.clamp(0, most.max(1)).saturating_mul(i64::try_from(room).unwrap_or(1)) / most.max(1);
    usize::try_from(share).unwrap_or(0)
}

struct Svg {
    text: String,
    height: usize,
    more: usize,
}

impl Svg {
    fn new(title: &str, rows: usize) -> Self {
        let height = rows.min(ROWS).saturating_mul(ROW).saturating_add(30);
        let text = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>\n"
        );
        Self { text, height, more: rows.saturating_sub(ROWS) }
    }

    fn top(row: usize) -> usize {
        row.saturating_mul(ROW).saturating_add(22)
    }

    /// A line from top to bottom.
    fn rule(&mut self, at: usize, label: &str) {
        let (x, bottom) = (LEFT.saturating_add(at), self.height);
        let _ = writeln!(
            self.text,
            "<line class=\"limit\" x1=\"{x}\" x2=\"{x}\" y1=\"18\" y2=\"{bottom}\"/><text class=\"limit\" x=\"{x}\" y=\"12\" text-anchor=\"middle\">{label}</text>"
        );
    }

    fn label(&mut self, row: usize, name: &str, at: usize, value: &str) {
        let shown: String = name.chars().take(28).collect();
        let cut = if shown.len() < name.len() { "…" } else { "" };
        let (y, x) = (Self::top(row).saturating_add(14), LEFT.saturating_add(at).saturating_add(10));
        let left = LEFT.saturating_sub(12);
        let _ = writeln!(
            self.text,
            "<text x=\"{left}\" y=\"{y}\" text-anchor=\"end\">{}{cut}</text><text class=\"value\" x=\"{x}\" y=\"{y}\">{}</text>",
            escaped(&shown),
            escaped(value.trim_end())
        );
    }

    fn bar(&mut self, row: usize, name: &str, length: usize, value: &str, class: &str) {
        let y = Self::top(row).saturating_add(2);
        let length = length.max(2);
        let _ = writeln!(
            self.text,
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{length}\" height=\"16\" rx=\"2\"/>"
        );
        self.label(row, name, length, value);
    }

    /// The part of the bar of `row` that was used.
    fn over(&mut self, row: usize, length: usize) {
        let y = Self::top(row).saturating_add(2);
        let _ = writeln!(
            self.text,
            "<rect class=\"good\" x=\"{LEFT}\" y=\"{y}\" width=\"{length}\" height=\"16\" rx=\"2\"/>"
        );
    }

    fn dot(&mut self, row: usize, name: &str, at: usize, value: &str, class: &str) {
        let (y, x) = (Self::top(row).saturating_add(10), LEFT.saturating_add(at));
        let right = WIDTH.saturating_sub(RIGHT);
        let _ = writeln!(
            self.text,
            "<line class=\"track\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\"/><circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"6\"/>"
        );
        self.label(row, name, at, value);
    }

    fn end(self) -> String {
        let more = match self.more {
            0 => String::new(),
            more => format!("<p class=\"note\">{more} more are in the tables below.</p>"),
        };
        format!("{}</svg>{more}\n", self.text)
    }
}
