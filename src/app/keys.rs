//! What a report on keys and permissions goes by: the config, and what Vault says of an identity's token.
//!
//! Does not judge: `report` does. Asks Vault only what changes nothing.

use crate::{
    approval,
    config::Config,
    keeper::{self, Kind, LeaseRequest},
    name::{IdentityName, SecretName},
    policy::{self, forward::Operation, rule::AuditMode},
    report::{
        self,
        acl::Capability::{self, Create, Delete, List, Read, Update},
        subject::{Audit, Forward, Identity, Rotation, Rule, Secret, Subject, Want, Where, Workload},
    },
    rotation::{
        self,
        generate::{Generate, Source},
        system::System,
    },
    usage::told,
    vault::kv2::Place,
};

const WRITE: &[Capability] = &[Create, Read, Update];
/// Characters that a generated value should have at least.
const LENGTH: usize = 20;

/// What `config` grants.
#[must_use]
pub fn subject(config: &Config) -> Subject {
    let remote = config.audit.sinks.iter().any(|sink| sink.kind.is_remote());
    Subject {
        revision: config.revision.clone(),
        workloads: config.workloads.iter().map(|one| workload(config, one)).collect(),
        identities: config.identities.iter().map(|login| identity(config, &login.name)).collect(),
        secrets: config.secrets.iter().map(secret).collect(),
        rotations: config.rotations.iter().map(rotation).chain(config.local.iter().map(local)).collect(),
        audit: Audit {
            mode: config.audit.mode.word(),
            strict: config.audit.mode >= AuditMode::Strict,
            remote,
            signed: config.audit.checkpoints.is_some(),
        },
    }
}

fn workload(config: &Config, workload: &crate::config::Workload) -> Workload {
    let is_asked = |rule: &policy::rule::Rule| {
        let approval =
            config.approvals.iter().find(|approval| Some(&approval.name) == rule.approval.as_ref());
        approval.is_some_and(|approval| !approval.observe)
    };
    let policy::Settings { rules, forwards, calls, .. } = &workload.policy;
    let own = rules.iter().map(|rule| Rule {
        name: rule.name.to_string(),
        secrets: rule.secrets.iter().map(ToString::to_string).collect(),
        forward: None,
        is_for_emergencies: rule.break_glass.is_some(),
        is_asked: is_asked(rule),
    });
    let forwards = forwards.iter().map(|forward| Rule {
        name: forward.rule.name.to_string(),
        secrets: Vec::new(),
        forward: Some(Forward {
            identity: forward.identity.to_string(),
            paths: forward.paths.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
            operations: forward.operations.iter().map(|operation| done(*operation)).collect(),
        }),
        is_for_emergencies: forward.rule.break_glass.is_some(),
        is_asked: is_asked(&forward.rule),
    });
    let calls = calls.iter().map(|call| Rule {
        name: call.rule.name.to_string(),
        secrets: vec![call.secret.to_string()],
        forward: None,
        is_for_emergencies: call.rule.break_glass.is_some(),
        is_asked: is_asked(&call.rule),
    });
    Workload {
        name: workload.policy.workload.to_string(),
        uids: workload.peer.uids.clone(),
        rules: own.chain(forwards).chain(calls).collect(),
    }
}

fn done(operation: Operation) -> told::Capability {
    match operation {
        Operation::Read => told::Capability::Read,
        Operation::List => told::Capability::List,
        Operation::Write => told::Capability::Write,
        Operation::Patch => told::Capability::Patch,
        Operation::Delete => told::Capability::Delete,
    }
}

fn secret(settings: &keeper::Settings) -> Secret {
    let (path, field) = match &settings.kind {
        Kind::Kv { path, field, .. } => (Some(path.clone()), field.clone()),
        Kind::Lease { path, .. } | Kind::Certificate { path, .. } => (Some(path.clone()), None),
        Kind::Token { .. } => (None, None),
    };
    Secret {
        name: settings.name.to_string(),
        identity: settings.identity.to_string(),
        kind: settings.kind.word(),
        path,
        field,
    }
}

fn rotation(settings: &rotation::Settings) -> Rotation {
    let weak = made_by(&settings.kind).and_then(|generate| match &generate.source {
        Source::Characters { length, .. } if *length < LENGTH => {
            Some(format!("it makes values of {length} characters; {LENGTH} are the least"))
        }
        Source::Characters { .. } | Source::Policy(_) => None,
    });
    let Place { mount, path } = &settings.journal;
    Rotation {
        name: settings.name.to_string(),
        path: settings.kind.path().to_owned(),
        serves: settings.serves.iter().map(ToString::to_string).collect(),
        places: settings.kind.places(),
        weak,
        max_age: settings.schedule.max_age,
        made_by: made_by(&settings.kind).and_then(|generate| match &generate.source {
            Source::Policy(policy) => Some(policy.clone()),
            Source::Characters { .. } => None,
        }),
        journal: Some(format!("{mount}/{path}/{}", settings.name)),
    }
}

/// One that each agent does for itself.
fn local(settings: &rotation::local::Settings) -> Rotation {
    Rotation {
        name: settings.name.to_string(),
        path: settings.path.clone(),
        // Each replica's lease is its own: there is no version that all should have left.
        serves: Vec::new(),
        places: Vec::new(),
        weak: None,
        max_age: None,
        made_by: None,
        journal: None,
    }
}

/// How a rotation makes its values, if it does.
fn made_by(kind: &rotation::Kind) -> Option<&Generate> {
    match kind {
        rotation::Kind::Generate(generate) => Some(generate),
        rotation::Kind::Credential(credential) => Some(&credential.consumer),
        rotation::Kind::Trigger(_) | rotation::Kind::Issue(_) | rotation::Kind::Bootstrap(_) => None,
    }
}

/// Everything that the agent asks for as `name`.
fn identity(config: &Config, name: &IdentityName) -> Identity {
    let mut wants = Vec::new();
    for secret in config.secrets.iter().filter(|secret| secret.identity == *name) {
        of_secret(secret, &mut wants);
        if let (Some(key), Kind::Kv { .. }) = (&config.audit.fingerprint_key, &secret.kind) {
            let path = format!("{}/hmac/{}/sha2-256", key.mount, key.name);
            wants.push(api(path, &[Update], "fingerprints (audit.fingerprint_key)"));
        }
    }
    for settings in config.rotations.iter().filter(|settings| settings.identity == *name) {
        of_rotation(settings, &mut wants);
    }
    for settings in config.local.iter().filter(|settings| settings.identity == *name) {
        if let rotation::local::Kind::Follow { evidence, .. } = &settings.kind {
            wants.push(api(&evidence.path, &[Read], format!("the rotation {}", settings.name)));
        }
    }
    let checkpoints =
        config.audit.checkpoints.iter().filter(|settings| settings.identity.as_ref() == Some(name));
    for settings in checkpoints {
        if let Some(key) = &settings.key {
            wants.push(api(format!("{}/sign/{}", key.mount, key.name), &[Update], "signing checkpoints"));
            wants.push(api(format!("{}/keys/{}", key.mount, key.name), &[Read], "checking their signatures"));
        }
        if let Some(Place { mount, path }) = &settings.anchor {
            wants.push(api(format!("{mount}/data/{path}/*"), WRITE, "anchoring checkpoints"));
            wants.push(api(format!("{mount}/metadata/{path}/*"), &[Read], "anchoring checkpoints"));
        }
    }
    for approval in config.approvals.iter().filter(|approval| asks(config, approval, name)) {
        of_approval(approval, &mut wants);
    }
    let merge = config.report.as_ref().and_then(|report| report.merge.as_ref());
    if let Some(report::Merge { mount, path, .. }) = merge.filter(|merge| merge.identity == *name) {
        let why = "ledgers of use (report.merge)";
        wants.push(api(format!("{mount}/data/{path}/*"), WRITE, why));
        // Where another pattern reaches wider, Vault lists a folder only by its own name.
        wants.push(api(format!("{mount}/metadata/{path}"), &[List], why));
        wants.push(api(format!("{mount}/metadata/{path}/*"), &[Create, Read, Update, Delete], why));
    }
    for handoff in config.audit.handoff.iter().filter(|handoff| handoff.identity == *name) {
        let Place { mount, path } = &handoff.place;
        wants.push(api(format!("{mount}/data/{path}/*"), WRITE, "handing events over"));
        wants.push(api(format!("{mount}/metadata/{path}*"), &[Read, List, Delete], "handing events over"));
    }
    Identity { name: name.to_string(), wants }
}

/// Whether persons are asked with the token of `name`.
pub(super) fn asks(config: &Config, approval: &approval::Settings, name: &IdentityName) -> bool {
    if let Some(own) = &approval.identity {
        return own == name;
    }
    let is_its = |rule: &policy::rule::Rule| {
        let review = rule.break_glass.as_ref().and_then(|behind| behind.review.as_ref());
        rule.approval.as_ref() == Some(&approval.name)
            || review.is_some_and(|review| review.approval == approval.name)
    };
    let identity_of =
        |secret: &SecretName| config.secrets.iter().find(|one| one.name == *secret).map(|one| &one.identity);
    let consents = config.rotations.iter().filter(|rotation| {
        rotation.consent.as_ref().is_some_and(|consent| consent.settings.name == approval.name)
    });
    if consents.into_iter().any(|rotation| rotation.identity == *name) {
        return true;
    }
    config.workloads.iter().map(|workload| &workload.policy).any(|policy| {
        let secrets = policy.rules.iter().filter(|rule| is_its(rule)).flat_map(|rule| &rule.secrets);
        let calls = policy.calls.iter().filter(|call| is_its(&call.rule)).map(|call| &call.secret);
        let forwards = policy.forwards.iter().filter(|forward| is_its(&forward.rule));
        secrets.chain(calls).any(|secret| identity_of(secret) == Some(name))
            || forwards.into_iter().any(|forward| forward.identity == *name)
    })
}

fn of_approval(settings: &approval::Settings, wants: &mut Vec<Want>) {
    let approval::Folder { mount, path } = &settings.store;
    let why = format!("the approval {}", settings.name);
    wants.push(api(format!("{mount}/data/{path}/*"), WRITE, &why));
    wants.push(api(format!("{mount}/metadata/{path}"), &[List], &why));
    wants.push(api(format!("{mount}/metadata/{path}/*"), &[Read, List, Delete], &why));
    for key in settings.approvers.iter().filter_map(approval::signed::Approver::unpinned) {
        wants.push(api(format!("{}/keys/{key}", settings.transit), &[Read], &why));
    }
}

fn api(path: impl Into<String>, capabilities: &'static [Capability], why: impl Into<String>) -> Want {
    Want { path: Where::Api(path.into()), capabilities, why: why.into() }
}

fn of_secret(settings: &keeper::Settings, wants: &mut Vec<Want>) {
    let why = format!("the secret {}", settings.name);
    match &settings.kind {
        Kind::Kv { path, .. } => {
            wants.push(Want { path: Where::Kv(path.clone()), capabilities: &[Read], why });
        }
        Kind::Lease { path, request } => {
            let is_read = *request == LeaseRequest::Get;
            wants.push(api(path, if is_read { &[Read] } else { &[Update] }, &why));
            wants.push(api("sys/leases/renew", &[Update], "renewing leases"));
            wants.push(api("sys/leases/revoke", &[Update], "revoking leases"));
        }
        Kind::Token { role, .. } => {
            let path = role
                .as_ref()
                .map_or("auth/token/create".to_owned(), |role| format!("auth/token/create/{role}"));
            wants.push(api(path, &[Update], &why));
            wants.push(api("auth/token/revoke-accessor", &[Update], "revoking child tokens"));
        }
        Kind::Certificate { path, .. } => wants.push(api(path, &[Update], &why)),
    }
}

fn of_rotation(settings: &rotation::Settings, wants: &mut Vec<Want>) {
    let why = format!("the rotation {}", settings.name);
    if let rotation::Kind::Bootstrap(bootstrap) = &settings.kind {
        of_bootstrap(bootstrap, &why, wants);
        // Its journal is a file.
        return;
    }
    if let Some(generate) = made_by(&settings.kind) {
        wants.push(Want { path: Where::Kv(generate.path.clone()), capabilities: WRITE, why: why.clone() });
        if let Source::Policy(policy) = &generate.source {
            wants.push(api(format!("sys/policies/password/{policy}/generate"), &[Read], &why));
        }
    }
    if let rotation::Kind::Issue(issue) = &settings.kind {
        let path = Where::Kv(issue.consumer.path.clone());
        wants.push(Want { path, capabilities: WRITE, why: why.clone() });
    }
    if let rotation::Kind::Trigger(trigger) = &settings.kind {
        wants.push(api(&trigger.path, &[Update], &why));
        if let Some(evidence) = &trigger.evidence {
            wants.push(api(&evidence.path, &[Read], &why));
        }
    }
    if let rotation::Kind::Credential(credential) = &settings.kind
        && let System::Vault(writes) = &credential.system
    {
        let all = [Some(&writes.set), Some(&writes.test), writes.revoke.as_ref()];
        for write in all.into_iter().flatten() {
            // A place that is filled in is one segment, or a part of one.
            let whole =
                |segment: &str| if segment.contains('{') { "+".to_owned() } else { segment.to_owned() };
            let path: Vec<String> = write.path.split('/').map(whole).collect();
            wants.push(api(path.join("/"), &[Create, Update], &why));
        }
        wants.push(api("auth/token/revoke-accessor", &[Update], "ending the logins of rotations' tests"));
    }
    if let Some(key) = &settings.wrap {
        for verb in ["encrypt", "decrypt"] {
            wants.push(api(format!("{}/{verb}/{}", key.mount, key.name), &[Update], &why));
        }
    }
    let Place { mount, path } = &settings.journal;
    let mut journals = vec![format!("{path}/{}", settings.name)];
    journals.extend(settings.group.as_ref().map(|group| format!("{path}/groups/{}", group.name)));
    for journal in journals {
        wants.push(api(format!("{mount}/data/{journal}"), WRITE, "journals of rotations"));
        wants.push(api(format!("{mount}/metadata/{journal}"), WRITE, "journals of rotations"));
    }
}

fn of_bootstrap(bootstrap: &rotation::bootstrap::Bootstrap, why: &str, wants: &mut Vec<Want>) {
    let (role, made) =
        (&bootstrap.role, if bootstrap.custom.is_some() { "custom-secret-id" } else { "secret-id" });
    wants.push(api(format!("{role}/{made}"), &[Update], why));
    for path in ["secret-id/lookup", "secret-id-accessor/lookup", "secret-id-accessor/destroy"] {
        wants.push(api(format!("{role}/{path}"), &[Update], why));
    }
    wants.push(api(format!("{role}/secret-id"), &[List], why));
}
