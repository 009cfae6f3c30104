//! What a run needs to be allowed in Vault, path by path. Pure.
//!
//! Does not ask whether it is.

use super::super::{
    Kind, Settings,
    generate::{Generate, Source},
    system::{Act, Order, System, template::filled_path, vault::Writes},
};
use crate::{name::RotationName, secret::SecretValue, vault::kv2::Place};
use std::time::Duration;

/// What a person may have to grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Right {
    /// A path of the API.
    pub(super) path: String,
    /// Each of these; `create` and `update` stand for one another where Vault asks for either.
    pub(super) needs: &'static [&'static str],
    /// What for.
    pub(super) why: &'static str,
    /// Whether a run goes on without it.
    pub(super) weight: Weight,
}

/// Whether a run goes on without a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// It does not.
    Must,
    /// It does, and something stays undone that an event or the log says.
    Should,
}

const WRITE: &[&str] = &["create", "read", "update"];

/// All of them; `consumer` is where in Vault consumers read, if it is in KV 2.
pub(super) fn needed(settings: &Settings, consumer: Option<&Place>) -> Vec<Right> {
    let mut rights = journals(settings);
    if let Some(place) = consumer {
        let Place { mount, path } = place;
        rights.push(must(format!("{mount}/data/{path}"), WRITE, "what consumers read"));
        rights.push(should(format!("{mount}/metadata/{path}"), &["read"], "whether it was deleted"));
        rights.push(should(format!("{mount}/delete/{path}"), &["update"], "the end of the value before"));
    }
    match &settings.kind {
        Kind::Generate(generate) => rights.extend(policy(generate)),
        Kind::Trigger(trigger) => {
            rights.push(must(trigger.path.clone(), &["update"], "telling Vault to rotate"));
            let record = trigger.evidence.as_ref().map(|evidence| evidence.path.clone());
            rights.extend(record.map(|path| must(path, &["read"], "Vault's own record of it")));
        }
        Kind::Credential(credential) => {
            rights.extend(policy(&credential.consumer));
            if let System::Vault(writes) = &credential.system {
                let users = match &credential.users {
                    super::super::credential::Users::One(user) => std::slice::from_ref(user),
                    super::super::credential::Users::Two(users) => users.as_slice(),
                };
                rights.extend(users.iter().flat_map(|user| of_user(&settings.name, writes, user)));
                let path = "auth/token/revoke-accessor".to_owned();
                rights.push(should(path, &["update"], "the end of logins that were tried"));
            }
        }
        Kind::Issue(_) | Kind::Bootstrap(_) => {}
    }
    let mut seen = Vec::new();
    rights.retain(|right| {
        let is_new = !seen.contains(&right.path);
        seen.push(right.path.clone());
        is_new
    });
    rights
}

fn journals(settings: &Settings) -> Vec<Right> {
    let Place { mount, path } = &settings.journal;
    let name = &settings.name;
    let mut rights = vec![
        must(format!("{mount}/data/{path}/{name}"), WRITE, "the journal"),
        should(format!("{mount}/metadata/{path}/{name}"), &["read", "update"], "few versions of the journal"),
    ];
    if let Some(key) = &settings.wrap {
        let crate::vault::endpoint::TransitKey { mount, name } = key;
        for verb in ["encrypt", "decrypt"] {
            rights.push(must(format!("{mount}/{verb}/{name}"), &["update"], "ciphertext in the journal"));
        }
    }
    if let Some(group) = &settings.group {
        let group = format!("{path}/groups/{}", group.name);
        rights.push(must(format!("{mount}/data/{group}"), WRITE, "the distance of its group"));
        rights.push(must(format!("{mount}/metadata/{group}"), &["read"], "the distance of its group"));
    }
    if settings.acks.is_some() {
        let acks = format!("{path}/{name}/acks");
        rights.push(must(format!("{mount}/data/{acks}/any"), WRITE, "what workloads of each replica said"));
        rights.push(must(format!("{mount}/metadata/{acks}/"), &["list"], "which replicas there are"));
        rights.push(must(format!("{mount}/metadata/{acks}/any"), &["read"], "which replicas there are"));
    }
    rights
}

fn policy(generate: &Generate) -> Option<Right> {
    let Source::Policy(policy) = &generate.source else { return None };
    Some(must(format!("sys/policies/password/{policy}/generate"), &["read"], "making a value"))
}

fn of_user(name: &RotationName, writes: &Writes, user: &str) -> Vec<Right> {
    let nothing = SecretValue::new(String::new());
    let order = Order { act: Act::Set, rotation: name, id: "", user, value: &nothing, until: Duration::ZERO };
    let set = must(filled_path(&writes.set.path, &order), &["update"], "giving the user a value");
    // Logins need no right.
    let tried = Some(&writes.test).filter(|test| !test.path.contains("/login"));
    let tried =
        tried.map(|test| must(filled_path(&test.path, &order), &["update"], "trying the user's value"));
    let out = writes.revoke.as_ref();
    let out = out.map(|out| must(filled_path(&out.path, &order), &["update"], "the end of the value before"));
    [Some(set), tried, out].into_iter().flatten().collect()
}

fn must(path: String, needs: &'static [&'static str], why: &'static str) -> Right {
    Right { path, needs, why, weight: Weight::Must }
}

fn should(path: String, needs: &'static [&'static str], why: &'static str) -> Right {
    Right { path, needs, why, weight: Weight::Should }
}

impl Right {
    /// What of it is not among `granted`, the answer of `sys/capabilities-self`. Of what is written to without being read, Vault asks for
    /// `create` or for `update`, by whether it is there.
    pub(super) fn missing(&self, granted: &[String]) -> Vec<&'static str> {
        let has = |word: &str| granted.iter().any(|one| one == word || one == "root");
        let missing = |word: &&&str| !(has(word) || self.needs == ["update"] && has("create"));
        self.needs.iter().filter(missing).copied().collect()
    }

    /// As it stands in a policy.
    pub(super) fn stanza(&self) -> String {
        let words: Vec<String> = self.needs.iter().map(|word| format!("\"{word}\"")).collect();
        // Each replica has one of its own.
        let path = self.path.strip_suffix("/any").map(|folder| format!("{folder}/*"));
        let path = path.as_ref().unwrap_or(&self.path);
        format!("path \"{path}\" {{ capabilities = [{}] }}", words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_what_no_word_grants() {
        let check = |needs: &'static [&'static str], granted: &[&str], expected: &[&str]| {
            let granted: Vec<String> = granted.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(must("a".to_owned(), needs, "").missing(&granted), expected, "{granted:?}");
        };
        check(WRITE, &["root"], &[]);
        check(WRITE, &["read"], &["create", "update"]);
        check(WRITE, &["deny"], WRITE);
        check(&["update"], &["create"], &[]);
        check(&["update"], &["read"], &["update"]);
    }
}
