//! Vault's ACL policies: a minimal reader of their HCL and JSON, and the choice of the rule that decides a path. Pure.
//! No parameter constraints, no templating, no Sentinel.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a rule may allow.
pub(crate) const CAPABILITIES: [&str; 10] =
    ["create", "read", "update", "delete", "list", "sudo", "deny", "patch", "subscribe", "recover"];

/// The capabilities of one path, in no particular order and without repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grants(pub(crate) Vec<&'static str>);

impl Grants {
    fn add(&mut self, capability: &str) {
        if let Some(known) = CAPABILITIES.iter().find(|c| **c == capability)
            && !self.0.contains(known)
        {
            self.0.push(known);
        }
    }

    pub(crate) fn has(&self, capability: &str) -> bool {
        !self.0.contains(&"deny") && self.0.contains(&capability)
    }
}

/// One policy: its text and its rules.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) text: String,
    pub(crate) rules: Vec<(String, Grants)>,
}

/// Vault's built-in `default` policy, as far as the double has the paths.
pub(crate) const DEFAULT: &str = r#"
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }
path "sys/renew" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/wrapping/wrap" { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
path "sys/tools/hash" { capabilities = ["update"] }
path "sys/tools/hash/*" { capabilities = ["update"] }
path "sys/control-group/request" { capabilities = ["update"] }
"#;

/// Reads a policy's text: HCL blocks `path "P" { capabilities = ["…"] }`, or the JSON form.
pub(crate) fn parse(text: &str) -> Result<Policy, String> {
    let rules = match serde_json::from_str::<Value>(text) {
        Ok(json) => json_rules(&json).ok_or("a JSON policy needs an object \"path\"")?,
        Err(_) => hcl_rules(text)?,
    };
    Ok(Policy { text: text.to_string(), rules })
}

fn json_rules(json: &Value) -> Option<Vec<(String, Grants)>> {
    let mut rules = Vec::new();
    for (path, rule) in json.get("path")?.as_object()? {
        let mut grants = Grants::default();
        for capability in rule.get("capabilities").and_then(Value::as_array).into_iter().flatten() {
            grants.add(capability.as_str().unwrap_or_default());
        }
        rules.push((path.clone(), grants));
    }
    Some(rules)
}

fn hcl_rules(text: &str) -> Result<Vec<(String, Grants)>, String> {
    let words = hcl_words(text)?;
    let mut rules = Vec::new();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if word != "path" {
            return Err(format!("invalid key {word:?}"));
        }
        let path = words.next().and_then(|w| w.strip_prefix('"')).ok_or("a path needs a quoted string")?;
        if words.next() != Some("{") {
            return Err(format!("path {path:?}: expected a block"));
        }
        let mut grants = Grants::default();
        let mut depth = 1;
        let mut key = "";
        while depth > 0 {
            match words.next().ok_or("object expected closing RBRACE got: EOF")? {
                "{" => depth += 1,
                "}" => depth -= 1,
                "=" | "[" | "]" | "," => {}
                quoted if quoted.starts_with('"') && key == "capabilities" => {
                    let capability = quoted.trim_start_matches('"');
                    if !CAPABILITIES.contains(&capability) {
                        return Err(format!("path {path:?}: invalid capability {capability:?}"));
                    }
                    grants.add(capability);
                }
                bare => key = bare,
            }
        }
        rules.push((path.to_string(), grants));
    }
    Ok(rules)
}

/// Splits HCL into words; a quoted string keeps its first quote as a mark.
fn hcl_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                let mut word = String::from('"');
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => word.extend(chars.next()),
                        Some(c) => word.push(c),
                        None => return Err("literal not terminated".into()),
                    }
                }
                words.push(word);
            }
            '{' | '}' | '[' | ']' | '=' | ',' => words.push(c.to_string()),
            c if c.is_whitespace() => {}
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_' || *c == '-') {
                    word.push(c);
                }
                words.push(word);
            }
        }
    }
    Ok(words)
}

/// The capabilities that the rules together give on a path: rules with the same pattern add up, then the most
/// specific pattern alone decides.
pub(crate) fn grants<'a>(rules: impl Iterator<Item = &'a (String, Grants)>, path: &str) -> Grants {
    let mut by_pattern: BTreeMap<&str, Grants> = BTreeMap::new();
    for (pattern, grants) in rules {
        let all = by_pattern.entry(pattern).or_default();
        grants.0.iter().for_each(|c| all.add(c));
    }
    let trimmed = path.strip_suffix('/');
    if let Some(exact) = by_pattern.get(path).or_else(|| trimmed.and_then(|t| by_pattern.get(t))) {
        return exact.clone();
    }
    by_pattern
        .into_iter()
        .filter(|(pattern, _)| {
            matches(pattern, path) || trimmed.is_some_and(|t| !pattern.ends_with('*') && matches(pattern, t))
        })
        .max_by_key(|(pattern, _)| specificity(pattern))
        .map(|(_, grants)| grants)
        .unwrap_or_default()
}

/// Whether a pattern (`+` for one segment, a trailing `*` for any rest) covers a path.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, open) = match pattern.strip_suffix('*') {
        Some(stem) => (stem, true),
        None => (pattern, false),
    };
    let mut wanted = pattern.split('/').peekable();
    let mut given = path.split('/');
    while let Some(want) = wanted.next() {
        let last = wanted.peek().is_none();
        match given.next() {
            Some(segment) if last && open => return want == "+" || segment.starts_with(want),
            Some(segment) if want == "+" || want == segment => {}
            _ => return false,
        }
    }
    given.next().is_none()
}

fn specificity(pattern: &str) -> (usize, u8, std::cmp::Reverse<usize>, usize, String) {
    let first_wild = pattern.find(['+', '*']).unwrap_or(pattern.len());
    let plus = pattern.split('/').filter(|s| *s == "+").count();
    (
        first_wild,
        u8::from(!pattern.ends_with('*')),
        std::cmp::Reverse(plus),
        pattern.len(),
        pattern.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_vaults_do() {
        let check = |pattern: &str, path: &str, expected: bool| {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
        };
        check("secret/data/a", "secret/data/a", true);
        check("secret/data/a", "secret/data/ab", false);
        check("secret/data/a*", "secret/data/ab/c", true);
        check("secret/+/a", "secret/data/a", true);
        check("secret/+/a", "secret/data/x/a", false);
        check("secret/+/a/*", "secret/data/a/b/c", true);
        check("*", "anything/at/all", true);
    }

    #[test]
    fn the_most_specific_rule_decides_alone() {
        let policy = parse(
            r#"path "secret/*" { capabilities = ["read", "list"] } # all of it
               path "secret/data/+/key" { capabilities = ["deny"] }
               path "secret/data/a/key" { capabilities = ["update"] }"#,
        )
        .unwrap();
        let check = |path: &str, capability: &str, expected: bool| {
            assert_eq!(grants(policy.rules.iter(), path).has(capability), expected, "{capability} on {path}");
        };
        check("secret/data/x", "read", true);
        check("secret/data/b/key", "read", false);
        check("secret/data/a/key", "update", true);
        check("secret/data/a/key", "read", false);
        check("other", "read", false);
    }
}
