//! Policies of Vault as text: written, and read back. Pure.
//!
//! Reads what policies are made of, in HCL or JSON; parameters and the like are passed over. A text that makes no sense is none.

use super::acl::{Acl, Capability};
use serde_json::Value;
use std::collections::BTreeSet;

/// One path of a policy as text.
pub(super) fn stanza(path: &str, capabilities: &BTreeSet<Capability>, why: &str) -> String {
    let words: Vec<String> = capabilities.iter().map(|one| format!("\"{}\"", one.word())).collect();
    let path = path.replace('\\', "\\\\").replace('"', "\\\"");
    format!("# {why}\npath \"{path}\" {{\n  capabilities = [{}]\n}}\n", words.join(", "))
}

impl Acl {
    /// Adds what the policy `text` grants.
    ///
    /// # Errors
    /// It is no policy that is understood; nothing was added then.
    pub fn read(&mut self, text: &str) -> Result<(), NotAPolicy> {
        let mut read = Self::default();
        if text.trim_start().starts_with('{') {
            from_json(text, &mut read)?;
        } else {
            from_hcl(text, &mut read)?;
        }
        read.paths().for_each(|(path, capabilities)| self.grant(path, capabilities.iter().copied()));
        Ok(())
    }
}

/// A text that is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a policy of Vault that claviger understands")]
pub struct NotAPolicy;

/// The old words that stand for several capabilities.
fn old(word: &str) -> Option<Vec<Capability>> {
    use Capability::{Create, Delete, Deny, List, Patch, Read, Sudo, Update};
    Some(match word {
        "deny" => vec![Deny],
        "read" => vec![Read, List],
        "write" => vec![Create, Read, Update, Patch, Delete, List],
        "sudo" => vec![Create, Read, Update, Patch, Delete, List, Sudo],
        _ => return None,
    })
}

fn from_json(text: &str, acl: &mut Acl) -> Result<(), NotAPolicy> {
    let policy: Value = serde_json::from_str(text).map_err(|_| NotAPolicy)?;
    let paths = policy.get("path").and_then(Value::as_object).ok_or(NotAPolicy)?;
    for (path, rule) in paths {
        let words = rule.get("capabilities").and_then(Value::as_array).into_iter().flatten();
        let known = words.filter_map(Value::as_str).filter_map(Capability::of);
        let older = rule.get("policy").and_then(Value::as_str).and_then(old).unwrap_or_default();
        acl.grant(path, known.chain(older));
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

fn from_hcl(text: &str, acl: &mut Acl) -> Result<(), NotAPolicy> {
    let mut tokens = tokens(text)?.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_path = match &token {
            Token::Word(word) | Token::Text(word) => word == "path",
            Token::Mark(_) => false,
        };
        let (true, Some(Token::Text(path)), Some(Token::Mark('{'))) = (is_path, tokens.next(), tokens.next())
        else {
            return Err(NotAPolicy);
        };
        let (mut depth, mut key, mut granted) = (1_usize, String::new(), Vec::new());
        while depth > 0 {
            match tokens.next().ok_or(NotAPolicy)? {
                Token::Mark('{' | '[') => depth = depth.saturating_add(1),
                Token::Mark('}' | ']') => depth = depth.saturating_sub(1),
                Token::Word(word) if depth == 1 => key = word,
                Token::Text(text) if depth == 1 && tokens.peek() == Some(&Token::Mark('=')) => key = text,
                // Of Vault Enterprise, and nothing that is looked at here.
                Token::Text(text) if ["subscribe", "recover"].contains(&text.as_str()) => {}
                Token::Text(text) if key == "capabilities" => {
                    granted.push(Capability::of(&text).ok_or(NotAPolicy)?);
                }
                Token::Text(text) if key == "policy" => granted.extend(old(&text).ok_or(NotAPolicy)?),
                Token::Mark(_) | Token::Word(_) | Token::Text(_) => {}
            }
        }
        acl.grant(&path, granted);
    }
    Ok(())
}

fn tokens(text: &str) -> Result<Vec<Token>, NotAPolicy> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '#' => while rest.next_if(|c| *c != '\n').is_some() {},
            '/' if rest.peek() == Some(&'/') => while rest.next_if(|c| *c != '\n').is_some() {},
            '/' if rest.next_if_eq(&'*').is_some() => {
                let mut before = ' ';
                loop {
                    let c = rest.next().ok_or(NotAPolicy)?;
                    if before == '*' && c == '/' {
                        break;
                    }
                    before = c;
                }
            }
            '"' => {
                let mut text = String::new();
                loop {
                    match rest.next().ok_or(NotAPolicy)? {
                        '"' => break,
                        '\\' => text.push(rest.next().ok_or(NotAPolicy)?),
                        c => text.push(c),
                    }
                }
                tokens.push(Token::Text(text));
            }
            c if c.is_whitespace() || c == ',' => {}
            c if c.is_alphanumeric() || "_-.".contains(c) => {
                let mut word = String::from(c);
                while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || "_-.".contains(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            '{' | '}' | '[' | ']' | '=' | ':' => tokens.push(Token::Mark(c)),
            _ => return Err(NotAPolicy),
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[(&str, &str)], NotAPolicy>) {
        let mut acl = Acl::default();
        let read = acl.read(text);
        let found: Vec<(String, String)> = acl
            .paths()
            .map(|(path, words)| {
                (path.to_owned(), words.iter().map(|one| one.word()).collect::<Vec<_>>().join(" "))
            })
            .collect();
        let found: Vec<(&str, &str)> =
            found.iter().map(|(path, words)| (path.as_str(), words.as_str())).collect();
        assert_eq!(read.map(|()| found.as_slice()), expected, "{text}");
    }

    #[test]
    fn a_policy_is_read_in_each_of_its_spellings() {
        check("", Ok(&[]));
        check(
            "# a\npath \"a/*\" { capabilities = [\"read\", \"list\"] } // b\npath \"b\" {\n policy = \"write\"\n}",
            Ok(&[("a/*", "read list"), ("b", "create read update patch delete list")]),
        );
        check(
            r#"path "a" { capabilities = ["update"] allowed_parameters = { "x" = ["read"] } min_wrapping_ttl = "1s" }"#,
            Ok(&[("a", "update")]),
        );
        check(r#"/* x */ path "a" { "capabilities" = ["deny"] }"#, Ok(&[("a", "deny")]));
        check(r#"{"path": {"a": {"capabilities": ["read"]}}}"#, Ok(&[("a", "read")]));
        for bad in [
            "path",
            "path \"a\" {",
            "path \"a\" { capabilities = [\"fly\"] }",
            "{",
            "grant \"a\" {}",
            "path \"a",
        ] {
            check(bad, Err(NotAPolicy));
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let (mut acl, words) = (Acl::default(), BTreeSet::from([Capability::Read, Capability::List]));
        for path in ["secret/data/a", "a \"b\" \\c", "x/+/y*"] {
            acl.read(&stanza(path, &words, "why")).unwrap();
            assert!(acl.paths().any(|found| found == (path, &words)), "{path}");
        }
    }
}
