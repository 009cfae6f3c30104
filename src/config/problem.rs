//! What is wrong with a config, in words: where, what was found, what would be right.
//!
//! Pure. Never repeats a value that could be a secret pasted in the wrong place: it is counted instead.

use std::fmt;

/// The longest value that is repeated in a problem, in characters.
const LONGEST_QUOTE: usize = 40;

/// One thing that is wrong, or that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file: `workloads.report-job.rules[0].secrets[1]`. Empty for the file as a whole.
    pub path: String,
    /// The line, from 1, where one is known.
    pub line: Option<u32>,
    /// What stands there.
    pub found: String,
    /// What would be right.
    pub would_be_right: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.found)?;
        if self.would_be_right.is_empty() { Ok(()) } else { write!(f, "; {}", self.would_be_right) }
    }
}

/// Everything that is wrong with a config, in the order of the file; never empty. Nothing of it was taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Rejected {
    /// Each with a remedy.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// `text` in quotes when it may be repeated, else how long it is.
pub(super) fn quote(text: &str) -> String {
    let length = text.chars().count();
    let printable = text.chars().all(|c| !c.is_control());
    if length <= LONGEST_QUOTE && printable && !looks_secret(text) {
        format!("\"{text}\"")
    } else if length == 1 {
        "1 character".to_owned()
    } else {
        format!("{length} characters")
    }
}

/// A key as a part of a path: itself when it may be repeated.
pub(super) fn segment(key: &str) -> String {
    let quoted = quote(key);
    if quoted.starts_with('"') { key.to_owned() } else { format!("({quoted})") }
}

/// Whether `text` has the looks of a token, a key or a UUID. Misses a short password; the callers quote only where names,
/// words and units belong.
fn looks_secret(text: &str) -> bool {
    // Vault's token kinds (docs: concepts/tokens), with their old one-letter forms; JWT; PEM; well-known API keys.
    const STARTS: [&str; 16] = [
        "hvs.", "hvb.", "hvr.", "s.", "b.", "r.", "eyJ", "-----", "AKIA", "ASIA", "ghp_", "gho_", "github_",
        "sk-", "sk_", "xox",
    ];
    let long = text.len() >= 16;
    let dense = |c: char| c.is_ascii_alphanumeric() || "+/=_-.".contains(c);
    let has = |kind: fn(&char) -> bool| text.chars().any(|c| kind(&c));
    let mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
    let hex = text.len() >= 20 && has(char::is_ascii_digit) && {
        text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    };
    (text.len() >= 10 && STARTS.iter().any(|start| text.starts_with(start)))
        || (long && mixed && text.chars().all(dense))
        || hex
}

/// The one of `known` that `text` was probably meant to be.
pub(super) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody meant a word of 63 letters by one of 8: this also bounds the work on hostile input.
    if text.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|word| (distance(text, word), word))
        .filter(|(distance, word)| *distance <= 2 && *distance < word.chars().count())
        .min()
        .map(|(_, word)| word)
}

/// How many single-letter edits make one text of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (n, a) in from.chars().enumerate() {
        let mut next = vec![n + 1];
        for ((b, above), diagonal) in to.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or_default();
            next.push((diagonal + usize::from(a != *b)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_secret_is_counted_not_repeated() {
        for (text, expected) in [
            ("10", "\"10\""),
            ("report-job", "\"report-job\""),
            ("kuberntes", "\"kuberntes\""),
            ("s.", "\"s.\""),
            ("hvs.CAESIJ", "10 characters"),
            ("s.x9dXjWbOu3kRkqNq", "18 characters"),
            ("6f1c1f0c-9d5e-4a3b-8d54-0ac4a1f3c0de", "36 characters"),
            ("QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "28 characters"),
            ("a\nb", "3 characters"),
            (&"x".repeat(41), "41 characters"),
        ] {
            assert_eq!(quote(text), expected, "{text}");
        }
    }

    #[test]
    fn a_slip_of_the_finger_gets_a_suggestion() {
        let known = ["refresh", "max_stale", "path", "uid"];
        for (text, expected) in [
            ("refesh", Some("refresh")),
            ("maxstale", Some("max_stale")),
            ("paths", Some("path")),
            ("gid", Some("uid")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, known), expected, "{text}");
        }
    }
}
