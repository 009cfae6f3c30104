//! The YAML as a person typed it: a tree whose every node knows its line. The only file that names the YAML reader.
//!
//! Pure. Gives no meaning to any key; that is `check`. Broken syntax, a duplicate key and a cap stop at the first, with
//! words of our own, since the reader's may repeat what stands in the file.

use super::problem::{Problem, Rejected, quote, segment};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_yaml::{
    DuplicateKeyPolicy, Error, MergeKeyPolicy, NonFiniteFloatPolicy, Options, Spanned, budget::BudgetBreach,
};
use std::fmt;

/// The largest file, in bytes.
pub(super) const LARGEST: usize = 256 * 1024;
/// The deepest nesting of lists and maps.
pub(super) const DEEPEST: usize = 32;

/// One node, and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: u32,
    /// What stands there.
    pub(super) raw: Raw,
}

/// A node as YAML 1.2 reads it, except that whole numbers with leading zeros (`0666`) or underscores stay texts.
pub(super) enum Raw {
    /// Nothing, `~` or `null`.
    Nothing,
    /// `true` or `false`, and nothing else.
    Flag(bool),
    /// A whole number.
    Whole(i128),
    /// Any other number; finite.
    Fraction(f64),
    /// Everything else that is one word or many.
    Text(String),
    /// In order.
    List(Vec<Node>),
    /// In the order of the file; no key twice.
    Map(Vec<Entry>),
}

/// One key and what stands under it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The key's line.
    pub(super) line: u32,
    pub(super) node: Node,
}

/// Shows the shape only: a value may be a secret in the wrong place.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Flag(_) => f.write_str("Flag"),
            Self::Whole(_) => f.write_str("Whole"),
            Self::Fraction(_) => f.write_str("Fraction"),
            Self::Text(_) => f.write_str("Text"),
            Self::List(nodes) => f.debug_list().entries(nodes).finish(),
            Self::Map(entries) => f.debug_list().entries(entries).finish(),
        }
    }
}

/// Reads one YAML document.
///
/// # Errors
/// One problem: the first that keeps the document from being read at all.
pub(super) fn read(text: &str) -> Result<Node, Rejected> {
    if text.len() > LARGEST {
        return Err(stop(
            None,
            "the file is larger than 256 KiB",
            "split the agent in two, or shorten the file",
        ));
    }
    match tree(text, DuplicateKeyPolicy::Error) {
        Ok(Node { raw: Raw::Nothing, .. }) => Err(empty(Some(1))),
        read => read.map_err(|error| explain(&error, text)),
    }
}

fn tree(text: &str, duplicates: DuplicateKeyPolicy) -> Result<Node, Error> {
    serde_yaml::from_str_with_options::<Spanned<Raw>>(text, options(duplicates)).map(Node::from)
}

fn options(duplicates: DuplicateKeyPolicy) -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST + 1,
            max_events: 300_000,
            max_nodes: 150_000,
            max_documents: 1,
            max_aliases: 1000,
            max_anchors: 1000,
            max_total_scalar_bytes: 4 * LARGEST,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 4 * LARGEST,
        },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: 100_000, max_replay_stack_depth: 8 },
        duplicate_keys: duplicates,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    }
}

/// The reader's error in our words. Only what is known to hold no value is taken from it: which error it is, and its line.
fn explain(error: &Error, text: &str) -> Rejected {
    let line = error.location().and_then(|location| line_of(location.line()));
    let mut error = error;
    while let Error::AliasError { error: inner, .. } = error {
        error = inner;
    }
    match error {
        Error::DuplicateMappingKey { .. } => duplicate(text)
            .unwrap_or_else(|| stop(line, "a key is given twice in one map", "keep one of them")),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(line),
        Error::MultipleDocuments { .. } | Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            stop(line, "a second document", "one file holds one document; remove `---`")
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => stop(
            line,
            "the file unfolds to more than a config can hold",
            "write it without anchors and aliases",
        ),
        Error::MergeKeyNotAllowed { .. } => {
            stop(line, "the merge key `<<`", "write the keys out: what counts must stand where it counts")
        }
        Error::Eof { .. } => empty(line),
        Error::NonFiniteFloat { .. } => stop(line, "not a finite number", "write a number"),
        Error::ExternalMessage { msg, .. } if msg.contains("nest") || msg.contains("recursion") => {
            too_deep(line)
        }
        Error::ExternalMessage { .. } | Error::UnknownAnchor { .. } => stop(
            line,
            "not valid YAML",
            "look at the indentation, quotes and brackets of this line and the one before",
        ),
        _ => stop(line, "not a plain map, list or value", "write keys as plain words, and use no tags"),
    }
}

fn empty(line: Option<u32>) -> Rejected {
    stop(line, "the file is empty", "write at least `vault:` and `audit:`")
}

fn too_deep(line: Option<u32>) -> Rejected {
    stop(line, "nested deeper than 32 levels", "no key of the config lies deeper than 8")
}

fn stop(line: Option<u32>, found: &str, would_be_right: &str) -> Rejected {
    let (found, would_be_right) = (found.to_owned(), would_be_right.to_owned());
    Rejected { problems: vec![Problem { path: String::new(), line, found, would_be_right }] }
}

/// The first duplicate key with its path, which the reader does not know: found by reading once more, duplicates allowed.
fn duplicate(text: &str) -> Option<Rejected> {
    let root = tree(text, DuplicateKeyPolicy::PassThrough).ok()?;
    let problem = duplicate_in(&root, "")?;
    Some(Rejected { problems: vec![problem] })
}

fn duplicate_in(node: &Node, path: &str) -> Option<Problem> {
    match &node.raw {
        Raw::List(nodes) => {
            nodes.iter().enumerate().find_map(|(n, node)| duplicate_in(node, &format!("{path}[{n}]")))
        }
        Raw::Map(entries) => {
            let mut seen = std::collections::BTreeMap::new();
            entries.iter().find_map(|entry| {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{}", segment(&entry.key));
                match seen.insert(&entry.key, entry.line) {
                    Some(first) => Some(Problem {
                        path,
                        line: Some(entry.line),
                        found: format!("the key {} is given twice", quote(&entry.key)),
                        would_be_right: format!("keep this one or the one of line {first}"),
                    }),
                    None => duplicate_in(&entry.node, &path),
                }
            })
        }
        _ => None,
    }
}

fn line_of(line: u64) -> Option<u32> {
    u32::try_from(line).ok().filter(|line| *line > 0)
}

impl From<Spanned<Raw>> for Node {
    fn from(spanned: Spanned<Raw>) -> Self {
        Self { line: line_of(spanned.referenced.line()).unwrap_or(1), raw: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Whole(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Whole(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Raw, E> {
        Ok(Raw::Whole(number))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Raw, E> {
        // No key takes a number of this size: the exact one does not matter.
        Ok(Raw::Whole(i128::try_from(number).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Fraction(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element::<Spanned<Raw>>()? {
            nodes.push(node.into());
        }
        Ok(Raw::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, node)) = map.next_entry::<Spanned<String>, Spanned<Raw>>()? {
            let line = line_of(key.referenced.line()).unwrap_or(1);
            entries.push(Entry { key: key.value, line, node: node.into() });
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let rejected = read(text).map(|_| ()).expect_err(text);
        assert_eq!(rejected.to_string(), expected, "{text}");
    }

    #[test]
    fn every_node_knows_its_line() {
        let root = read("a: 1\nb:\n- x\n- {c: y,\n   d: z}\n").unwrap();
        let Raw::Map(entries) = &root.raw else { panic!("{root:?}") };
        assert_eq!((entries[0].line, entries[0].node.line), (1, 1));
        let Raw::List(nodes) = &entries[1].node.raw else { panic!("{root:?}") };
        assert_eq!((nodes[0].line, nodes[1].line), (3, 4));
        let Raw::Map(inner) = &nodes[1].raw else { panic!("{root:?}") };
        assert_eq!((inner[0].line, inner[1].line), (4, 5));
    }

    #[test]
    fn only_true_and_false_are_flags_and_octal_digits_stay_a_text() {
        for (text, expected) in [
            ("yes", "Text"),
            ("on", "Text"),
            ("true", "Flag"),
            ("0666", "Text"),
            ("\"5\"", "Text"),
            ("5", "Whole"),
            ("-5", "Whole"),
            ("1_000", "Text"),
            ("0.66", "Fraction"),
            ("10s", "Text"),
            ("- ~", "[Node { line: 1, raw: Nothing }]"),
            ("2027-01-31", "Text"),
        ] {
            assert_eq!(format!("{:?}", read(text).unwrap().raw), expected, "{text}");
        }
    }

    #[test]
    fn a_document_that_cannot_be_read_stops_at_the_first_fault() {
        const YAML: &str =
            "not valid YAML; look at the indentation, quotes and brackets of this line and the one before";
        check("a: [1\nb: 2\n", &format!("line 2: {YAML}"));
        check("a: \"x\n", &format!("line 1: {YAML}"));
        check("a: 1\n\tb: 2\n", &format!("line 1: {YAML}"));
        check("a: *x\n", &format!("line 1: {YAML}"));
        check("a: 1\n--- \nb: 1\n", "line 2: a second document; one file holds one document; remove `---`");
        check("", "line 1: the file is empty; write at least `vault:` and `audit:`");
        check(
            "[a]: 1\n",
            "line 1: not a plain map, list or value; write keys as plain words, and use no tags",
        );
        check(
            "a: !!python/name x\n",
            "line 1: not a plain map, list or value; write keys as plain words, and use no tags",
        );
        check(
            "a: &a {x: 1}\nb:\n  <<: *a\n",
            "line 3: the merge key `<<`; write the keys out: what counts must stand where it counts",
        );
        check("a: .inf\n", "line 1: not a finite number; write a number");
    }

    #[test]
    fn a_duplicate_key_is_named_with_its_path() {
        check(
            "a:\n- {name: x}\n- name: y\n  secrets: [b]\n  name: z\n",
            "a[1].name: line 5: the key \"name\" is given twice; keep this one or the one of line 3",
        );
        check("a: 1\na: 2\n", "a: line 2: the key \"a\" is given twice; keep this one or the one of line 1");
        check(
            "hvs.CAESIJabcdefgh: 1\nhvs.CAESIJabcdefgh: 2\n",
            "(18 characters): line 2: the key 18 characters is given twice; keep this one or the one of line 1",
        );
    }

    #[test]
    fn caps_hold() {
        const DEEP: &str = "nested deeper than 32 levels; no key of the config lies deeper than 8";
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&nested(32)).is_ok());
        check(&nested(33), &format!("line 1: {DEEP}"));
        check(&"[".repeat(100_000), &format!("line 1: {DEEP}"));
        check(&"- ".repeat(40), &format!("line 1: {DEEP}"));
        let large = format!("a: \"{}\"\n", "x".repeat(LARGEST));
        check(&large, "the file is larger than 256 KiB; split the agent in two, or shorten the file");
        let laughs = (1..20).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            let m = n - 1;
            format!("{text}a{n}: &a{n} [*a{m},*a{m},*a{m},*a{m},*a{m},*a{m},*a{m},*a{m},*a{m}]\n")
        });
        let rejected = read(&laughs).expect_err("unfolds to 9^20 texts").to_string();
        assert!(rejected.contains("unfolds to more than a config can hold"), "{rejected}");
    }
}
