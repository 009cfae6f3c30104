//! The three plots, as SVG that stands in the page itself: its colours are the page's. Pure.
//!
//! As wide as the page is, with letters that stay as large as the page's. Each bar has its text above it, and each plot says in words what
//! it shows: nothing is told by colour alone.

use super::{Report, html::escaped};
use crate::{
    clock::Timestamp,
    report::{Key, RuleUse},
};
use std::fmt::Write as _;

/// Rows of one plot: of more, those that say most.
const ROWS: usize = 30;
/// Pixels of one row, and of its bar.
const ROW: usize = 38;
const BAR: usize = 10;
/// Characters of a name: as many as fit beside a value on a telephone.
const NAME: usize = 30;
/// Days after which a credential is old.
const OLD: i64 = 90;

/// How old each secret's newest version is.
pub(super) fn ages(report: &Report) -> String {
    let days = |key: &Key| key.made.map(|made| whole_days(report.now, made));
    let mut keys: Vec<&Key> = report.keys.iter().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(days(key)));
    let most = keys.iter().filter_map(|key| days(key)).max().unwrap_or(0).max(OLD.saturating_add(10));
    let old = keys.iter().filter(|key| days(key) > Some(OLD)).count();
    let desc = match keys.first().and_then(|key| Some((key, days(key)?))) {
        Some((key, age)) => format!(
            "{}, {old} of them older than {OLD} days. The oldest is {} with {age} days.",
            counted(keys.len(), "secret"),
            key.name
        ),
        None => format!("{}, of none of which the age is known.", counted(keys.len(), "secret")),
    };
    let mut svg = Svg::new("age", "Age of each secret in days", &desc, keys.len());
    for key in keys.iter().take(ROWS) {
        let Some(age) = days(key) else {
            svg.row(&key.name, "age unknown");
            svg.bar("plain", 0);
            continue;
        };
        let class = if age > OLD { "bad" } else { "good" };
        svg.row(&key.name, &format!("{age} days{}", if key.exact { "" } else { " or more" }));
        svg.bar(class, thousandths(age, most));
        svg.limit(thousandths(OLD, most));
    }
    svg.end(&format!("The line stands at {OLD} days; red is older."))
}

/// When each secret was last used, within twice the period.
pub(super) fn last_use(report: &Report) -> String {
    let period = whole_days(report.now, report.since).max(1);
    let days = |key: &Key| key.last.map(|last| whole_days(report.now, last));
    let mut keys: Vec<&Key> = report.keys.iter().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(days(key).unwrap_or(i64::MAX)));
    let unused = keys.iter().filter(|key| days(key).is_none_or(|ago| ago > period)).count();
    let desc = format!("{}, {unused} of them not used in {period} days.", counted(keys.len(), "secret"));
    let mut svg = Svg::new("use", "Days since each secret was last used", &desc, keys.len());
    let most = period.saturating_mul(2);
    for key in keys.iter().take(ROWS) {
        let (text, ago) = match days(key) {
            Some(0) => ("today".to_owned(), 0),
            Some(ago) => (format!("{} ago", counted(usize::try_from(ago).unwrap_or(0), "day")), ago),
            None => ("never".to_owned(), i64::MAX),
        };
        svg.row(&key.name, &text);
        svg.limit(thousandths(period, most));
        svg.dot(if ago > period { "bad" } else { "good" }, thousandths(ago, most));
    }
    svg.end(&format!("From today on the left to {most} days ago on the right; the line stands at {period} days, red is beyond."))
}

/// How much each rule grants, and how much of that was used.
pub(super) fn grants(report: &Report) -> String {
    let mut rules: Vec<&RuleUse> = report.rules.iter().collect();
    rules.sort_by_key(|rule| std::cmp::Reverse((rule.granted.saturating_sub(rule.used), rule.granted)));
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let most = number(rules.iter().map(|rule| rule.granted).max().unwrap_or(1));
    let sum = |of: fn(&RuleUse) -> usize| rules.iter().map(|rule| of(rule)).fold(0, usize::saturating_add);
    let desc = format!(
        "{}, which grant {} things, of which {} were used.",
        counted(rules.len(), "rule"),
        sum(|rule| rule.granted),
        sum(|rule| rule.used)
    );
    let mut svg = Svg::new("grants", "Grants of each rule, and those that were used", &desc, rules.len());
    for rule in rules.iter().take(ROWS) {
        svg.row(
            &format!("{}.{}", rule.workload, rule.rule),
            &format!("{} of {} used", rule.used, rule.granted),
        );
        svg.bar("plain", thousandths(number(rule.granted), most));
        if rule.used > 0 {
            svg.bar("good", thousandths(number(rule.used), most));
        }
    }
    svg.end("Green was used, grey was granted and not used.")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn whole_days(now: Timestamp, then: Timestamp) -> i64 {
    (now.duration_since(then).as_hours() / 24).max(0)
}

/// How far `value` goes of the width, where `most` is all of it.
fn thousandths(value: i64, most: i64) -> i64 {
    let most = most.max(1);
    value.clamp(0, most).saturating_mul(1000) / most
}

fn percent(thousandths: i64) -> String {
    format!("{}.{}%", thousandths / 10, thousandths % 10)
}

struct Svg {
    text: String,
    rows: usize,
    more: usize,
}

impl Svg {
    fn new(id: &str, title: &str, desc: &str, rows: usize) -> Self {
        let height = rows.min(ROWS).saturating_mul(ROW);
        let desc = escaped(desc);
        let text = format!(
            "<p>{desc}</p>\n<svg width=\"100%\" height=\"{height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
             <title id=\"{id}-title\">{title}</title><desc id=\"{id}-desc\">{desc}</desc>\n"
        );
        Self { text, rows: 0, more: rows.saturating_sub(ROWS) }
    }

    /// Where the bar of the newest row is.
    fn top(&self) -> usize {
        self.rows.saturating_mul(ROW).saturating_sub(ROW - 20)
    }

    /// The next row.
    fn row(&mut self, name: &str, value: &str) {
        self.rows = self.rows.saturating_add(1);
        let shown: String = name.chars().take(NAME).collect();
        let cut = if shown.len() < name.len() { "…" } else { "" };
        let (top, y) = (self.top(), self.top().saturating_sub(6));
        let _ = writeln!(
            self.text,
            "<text x=\"0\" y=\"{y}\">{}{cut}<title>{}</title></text><text class=\"value\" x=\"100%\" y=\"{y}\" text-anchor=\"end\">{}</text>\
             <rect class=\"track\" y=\"{top}\" width=\"100%\" height=\"{BAR}\" rx=\"2\"/>",
            escaped(&shown),
            escaped(name),
            escaped(value)
        );
    }

    fn bar(&mut self, class: &str, length: i64) {
        let (top, width) = (self.top(), percent(length.max(4)));
        let _ = writeln!(
            self.text,
            "<rect class=\"{class}\" y=\"{top}\" width=\"{width}\" height=\"{BAR}\" rx=\"2\"/>"
        );
    }

    fn dot(&mut self, class: &str, at: i64) {
        // Whole, at both ends.
        let (y, x) = (self.top().saturating_add(BAR / 2), percent(at.clamp(20, 980)));
        let _ = writeln!(self.text, "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"6\"/>");
    }

    /// A line across the bar.
    fn limit(&mut self, at: i64) {
        let (top, x) = (self.top().saturating_sub(3), percent(at));
        let bottom = top.saturating_add(BAR).saturating_add(6);
        let _ =
            writeln!(self.text, "<line class=\"limit\" x1=\"{x}\" x2=\"{x}\" y1=\"{top}\" y2=\"{bottom}\"/>");
    }

    /// With how it is to be read.
    fn end(self, key: &str) -> String {
        let more = match self.more {
            0 => String::new(),
            more => format!(" {more} more are in the tables below."),
        };
        format!("{}</svg>\n<p class=\"note\">{}{more}</p>\n", self.text, escaped(key))
    }
}
