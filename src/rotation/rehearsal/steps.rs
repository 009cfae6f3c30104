//! What a run would do, one step after the other, as people read it. Pure.
//!
//! Names users and paths of the config, and no value.

use super::super::{
    Kind, Settings,
    acks::And,
    credential::{Credential, Users},
    generate::Generate,
    system::System,
};
use serde::Serialize;
use std::time::Duration;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What is done.
    pub does: String,
    /// Where it changes something, if it does.
    pub changes: Option<String>,
}

/// What is known of what consumers read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) version: u64,
    /// Whose credential they read.
    pub(super) reads: Option<String>,
    /// Whose credential the run would change.
    pub(super) user: Option<String>,
}

/// All of them.
pub(super) fn of(settings: &Settings, known: &Known) -> Vec<Step> {
    let journal = format!("{}/{}/{}", settings.journal.mount, settings.journal.path, settings.name);
    let mut steps = match &settings.kind {
        Kind::Generate(generate) => {
            let mut steps = vec![recorded(&journal)];
            steps.push(promoted(generate, known));
            steps
        }
        Kind::Trigger(trigger) => {
            let record = trigger.evidence.as_ref().map(|it| format!("{} of {}", it.field, it.path));
            let seen = record.map_or_else(
                || "take Vault's answer for it: there is no record to look at".to_owned(),
                |record| format!("see that {record} has changed"),
            );
            return vec![
                step("record in the journal that a run begins", Some(journal)),
                step(format!("tell Vault to rotate: write {}", trigger.path), Some(trigger.path.clone())),
                step(seen, None),
            ];
        }
        Kind::Credential(credential) => of_credential(credential, &journal, known),
        Kind::Issue(issue) => {
            let upstream = format!("upstream {}", issue.provider.upstream);
            vec![
                step("record in the journal that a run begins", Some(journal)),
                step(format!("mint a key by {upstream}, and record it"), Some(upstream.clone())),
                step(format!("try the new key at {upstream}"), None),
                promoted(&issue.consumer, known),
            ]
        }
        Kind::Bootstrap(_) => return Vec::new(),
    };
    steps.extend(ended(settings, known));
    steps
}

fn of_credential(credential: &Credential, journal: &str, known: &Known) -> Vec<Step> {
    let (user, driver) = (known.user.as_deref().unwrap_or_default(), driver(&credential.system));
    let mut steps = vec![recorded(journal)];
    if matches!(credential.users, Users::One(_)) {
        let hold = credential.hold.as_millis();
        steps
            .push(step(format!("let reads of it wait, up to {hold} ms, until the new value is there"), None));
    }
    steps.push(step(format!("give {user} the new value by {driver}"), Some(driver.clone())));
    if !credential.propagation.is_zero() {
        steps.push(step(format!("wait {}", spelled(credential.propagation)), None));
    }
    steps.push(step(format!("log in as {user} with it by {driver}"), None));
    steps.push(promoted(&credential.consumer, known));
    steps
}

/// The grace, and what follows it.
fn ended(settings: &Settings, known: &Known) -> Vec<Step> {
    let mut steps = Vec::new();
    let single = settings.kind.word() == "single";
    if !single {
        let grace = spelled(settings.grace);
        let until = match settings.acks {
            None => format!("keep the value before valid for {grace}"),
            Some(acks) => {
                let both = if acks.and == And::Grace { format!("{grace} and ") } else { String::new() };
                let (most, count) = (spelled(acks.max_grace), acks.consumers);
                format!("keep the value before valid for {both}until {count} workloads acked, {most} at most")
            }
        };
        steps.push(step(until, None));
    }
    match &settings.kind {
        Kind::Credential(credential) if !single => {
            let other = known.reads.as_deref().unwrap_or("the other user");
            let driver = driver(&credential.system);
            steps
                .push(step(format!("take {other} out of use by {driver}, and see that it is"), Some(driver)));
            if !credential.quarantine.is_zero() {
                let time = spelled(credential.quarantine);
                steps.push(step(format!("for {time}, let `claviger rotation reenable` have it back"), None));
            }
        }
        Kind::Issue(issue) => {
            let upstream = format!("upstream {}", issue.provider.upstream);
            steps.push(step(format!("delete the key before at {upstream}"), Some(upstream)));
        }
        _ => {}
    }
    let path = settings.kind.path();
    if known.version > 0 {
        let version = known.version;
        steps.push(step(format!("delete version {version} of {path}"), Some(path.to_owned())));
    }
    steps
}

fn recorded(journal: &str) -> Step {
    step("make a new value, and record it in the journal before anything else", Some(journal.to_owned()))
}

fn promoted(generate: &Generate, Known { version, .. }: &Known) -> Step {
    let (next, path) = (version.saturating_add(1), &generate.path);
    let does = format!("let consumers read it: field {} of {path}, version {next}, if nobody wrote since", {
        &generate.field
    });
    step(does, Some(path.clone()))
}

fn driver(system: &System) -> String {
    match system {
        System::Exec(exec) => format!("the program {}", exec.command.first().map_or("", String::as_str)),
        System::Http(http) => format!("upstream {}", http.upstream),
        System::Vault(writes) => format!("a write to {} in Vault", writes.set.path),
        System::Provider(provider) => format!("upstream {}", provider.upstream),
    }
}

fn step(does: impl Into<String>, changes: Option<String>) -> Step {
    Step { does: does.into(), changes }
}

fn spelled(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        _ if seconds.is_multiple_of(86_400) => format!("{} d", seconds / 86_400),
        _ if seconds.is_multiple_of(3_600) => format!("{} h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_in_their_largest_whole_unit() {
        for (seconds, expected) in [(86_400, "1 d"), (7_200, "2 h"), (90, "90 s"), (600, "10 min")] {
            assert_eq!(spelled(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(spelled(Duration::ZERO), "0 ms");
    }
}
