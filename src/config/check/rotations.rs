//! `rotations`: what is rotated, and when.
//!
//! Pure. Does not know whether Vault has what is named.

use super::super::reader::{Leaf, Map};
use super::{
    Context, DAY, consent, coordination,
    credentials::{self, Slots},
    generate, issue,
    place::place,
    schedule::{self, nearest},
    seconds, vault_path, wrap,
};
use crate::{
    approval, keeper,
    name::{IdentityName, RotationName, SecretName},
    rotation::{
        Group, Kind, Settings,
        acks::{And, Awaited},
        generate::Generate,
        lease::Terms,
        local,
        schedule::Schedule,
        trigger::{Evidence, Trigger},
    },
    vault::{kv2::Place, login},
};
use std::time::Duration;

#[derive(Clone, Copy)]
enum Word {
    Generate,
    Trigger,
    Credential(Slots),
    Issue,
    /// Read elsewhere: here for the list of words.
    Local,
}

const KINDS: [(&str, Word); 8] = [
    ("follow", Word::Local),
    ("trigger", Word::Trigger),
    ("lease", Word::Local),
    ("generate", Word::Generate),
    ("two-slot", Word::Credential(Slots::Two)),
    ("single", Word::Credential(Slots::One)),
    ("issue", Word::Issue),
    ("bootstrap", Word::Local),
];

pub(super) fn read(
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    (secrets, identities): (&[keeper::Settings], &[login::Settings]),
    approvals: &[approval::Settings],
) -> Option<(Vec<Settings>, Vec<local::Settings>)> {
    let entries = leaf.named(RotationName::new)?;
    let (mut all, mut apart): (Vec<Settings>, _) = (Vec::new(), Vec::new());
    let mut whole = true;
    for (name, leaf) in entries {
        if let Some(word) = super::local::word(&leaf) {
            let settings = super::local::read(name, word, &leaf, context, secrets);
            whole &= settings.is_some();
            apart.extend(settings);
            continue;
        }
        let settings = match super::bootstrap::is_it(&leaf) {
            true => super::bootstrap::read(name, &leaf, context, identities),
            false => rotation(name, &leaf, context, (secrets, approvals)),
        };
        let Some(settings) = settings else {
            whole = false;
            continue;
        };
        if let Some(other) = all.iter().find(|other| other.kind.is_of_same(&settings.kind)) {
            leaf.problem(
                format!("it rotates what rotations.{} rotates", other.name),
                "write one rotation for each path",
            );
            whole = false;
        }
        coordination::apart(&leaf, &settings, &all);
        all.push(settings);
    }
    whole.then_some((all, apart))
}

fn rotation(
    name: RotationName,
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    (secrets, approvals): (&[keeper::Settings], &[approval::Settings]),
) -> Option<Settings> {
    let mut map = leaf.map()?;
    let words: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
    let word = map.need("kind", &words.join(", "), |leaf| leaf.word(&KINDS));
    let identity = map.need("identity", "the name of one of identities", |leaf| {
        leaf.refers(&context.identities, IdentityName::new)
    });
    let lease = map.or("holder_ttl", Duration::from_secs(30), |leaf| leaf.duration(seconds(3, 600)));
    let lease = lease.map(Terms::of);
    let least = lease.map_or(Duration::ZERO, |lease| lease.takeover());
    let rest = (Duration::from_secs(300), least..=Duration::from_secs(365 * DAY));
    let schedule = schedule::whole(&mut map, "{cron: \"0 3 * * SUN\", tz: Europe/Berlin}", rest);
    let group = map.given("group", group);
    let journal = map.need("journal", "{mount: kv, path: rotation}", |leaf| place(leaf, "rotation"));
    let when_revoked = workload_keys(&mut map);
    let consent = consent::read(&mut map, context, approvals);
    let coordination = coordination::read(&mut map, &name, &context.environment.cluster);
    let kind = match word? {
        Word::Generate => generate(&mut map).map(Kind::Generate),
        Word::Trigger => trigger(&mut map).map(Kind::Trigger),
        Word::Issue => issue::read(&mut map, context),
        Word::Credential(slots) => credentials::read(&mut map, slots, context, lease),
        Word::Local => None,
    };
    let grace = grace(&mut map, kind.as_ref(), schedule.as_ref());
    let wrap = wrap::read(&mut map);
    wrap::of_ours(map.leaf(), kind.as_ref(), wrap.as_ref().and_then(Option::as_ref));
    let notice = super::notice::read(&mut map, schedule.as_ref());
    credentials::room(map.leaf(), kind.as_ref(), grace, schedule.as_ref());
    apart(map.leaf(), &name, kind.as_ref(), journal.as_ref());
    schedule::spacing(map.leaf(), schedule.as_ref());
    map.finish();
    let kind = kind?;
    Some(Settings {
        acks: awaited(leaf, when_revoked?, grace?, (&kind, schedule.as_ref()?))?,
        serves: serving(&kind, secrets),
        consent: consent?.with(schedule.as_ref()?)?,
        name,
        identity: identity?,
        kind,
        schedule: schedule?,
        grace: grace?,
        notice: notice?,
        wrap: wrap?,
        journal: journal?,
        group: group?,
        lease: lease?,
        coordination: coordination?,
    })
}

/// `revoke_when`, `consumers` and `max_grace`, as they stand.
struct Acks {
    and: Option<And>,
    consumers: Option<u32>,
    longest: Option<Duration>,
    least: Option<Duration>,
}

/// What they come to; without `max_grace`, the old value ends after ten times its grace at the latest.
fn awaited(
    leaf: &Leaf<'_>,
    acks: Acks,
    grace: Duration,
    (kind, schedule): (&Kind, &Schedule),
) -> Option<Option<Awaited>> {
    let Acks { and, consumers, longest, least } = acks;
    if least.is_some() && and != Some(And::Nothing) {
        leaf.problem(
            "a grace_min without revoke_when: acked: a grace that time ends is at least as long as it is",
            "write revoke_when: acked, or remove grace_min",
        );
        return None;
    }
    let (Some(and), Some(consumers)) = (and, consumers) else {
        if consumers.or(longest.map(|_| 0)).is_some() {
            leaf.problem(
                "acks are counted, and nothing waits for them",
                "write revoke_when: acked or both, or remove consumers and max_grace",
            );
            return None;
        }
        return Some(None);
    };
    if matches!(kind, Kind::Trigger(_)) {
        leaf.problem(
            "acks of what Vault rotates: it has no value before the newest",
            "remove revoke_when and consumers",
        );
        return None;
    }
    let max_grace = longest.unwrap_or_else(|| grace.saturating_mul(10));
    if max_grace <= grace {
        leaf.problem(
            "a max_grace that is not longer than the grace",
            "write a longer max_grace, or a grace where there is none",
        );
        return None;
    }
    let least = least.unwrap_or_default();
    if least > max_grace {
        leaf.problem(
            "a grace_min that is longer than max_grace",
            "write a shorter grace_min, or a longer max_grace",
        );
        return None;
    }
    if nearest(schedule).is_some_and(|nearest| max_grace >= nearest) {
        leaf.problem(
            "a grace that may last beyond the next slot",
            "write a max_grace that is shorter than the time between two slots",
        );
        return None;
    }
    Some(Some(Awaited { and, least, consumers, max_grace }))
}

/// What is said to workloads and replicas.
fn workload_keys(map: &mut Map<'_>) -> Option<Acks> {
    let consumers = map.given("consumers", |leaf| leaf.whole::<u32>(1..=100_000));
    let longest = map.given("max_grace", |leaf| leaf.duration(seconds(1, 3650 * DAY)));
    let least = map.given("grace_min", |leaf| leaf.duration(seconds(1, 3650 * DAY)));
    let and = map.or("revoke_when", None, |leaf| {
        let and = leaf.word(&[("time", None), ("acked", Some(And::Nothing)), ("both", Some(And::Grace))])?;
        if and.is_some() && consumers == Some(None) {
            leaf.problem("acks are awaited, but not of how many", "write consumers: N");
            return None;
        }
        Some(and)
    });
    Some(Acks { and: and?, consumers: consumers?, longest: longest?, least: least? })
}

fn generate(map: &mut Map<'_>) -> Option<Generate> {
    let path = map.need("path", "MOUNT/PATH, as in secret/payments/webhook", vault_path);
    let field = map.need("field", "key", Leaf::text);
    let source = generate::source(map);
    Some(Generate { path: path?, field: field?, source: source? })
}

fn trigger(map: &mut Map<'_>) -> Option<Trigger> {
    let path = map.need("path", "database/rotate-role/app", vault_path);
    let evidence = map.given("evidence", super::local::evidence);
    let path = path?;
    let evidence = evidence?.or_else(|| Evidence::of(&path));
    if evidence.is_none() {
        map.leaf().warn(
            "nothing says whether Vault has rotated: where its answer is lost, it is told again",
            "write evidence: {path: …, field: …}, of what changes with it",
        );
    }
    Some(Trigger { path, evidence })
}

fn grace(map: &mut Map<'_>, kind: Option<&Kind>, schedule: Option<&Schedule>) -> Option<Duration> {
    let given = map.given("grace", |leaf| {
        let grace = leaf.duration(seconds(0, 3650 * DAY))?;
        if matches!(kind, Some(Kind::Trigger(_))) {
            leaf.problem("a grace of what Vault rotates: it has no value before the newest", "remove it");
            return None;
        }
        if is_single(kind) {
            leaf.problem(
                "a grace of the one password of one user: the old one ends with the new one",
                "remove it, or use kind: two-slot with two users",
            );
            return None;
        }
        if let Some(nearest) = schedule.and_then(nearest)
            && grace >= nearest
        {
            leaf.problem(
                "a grace that is not over before the next slot",
                "make it shorter than the time between two slots",
            );
            return None;
        }
        Some(grace)
    })?;
    let usual = match kind {
        Some(Kind::Trigger(_)) => Duration::ZERO,
        kind if is_single(kind) => Duration::ZERO,
        // What the keeper's own grace is.
        _ => Duration::from_secs(60),
    };
    Some(given.unwrap_or(usual))
}

fn is_single(kind: Option<&Kind>) -> bool {
    kind.is_some_and(|kind| kind.word() == "single")
}

/// A journal must not be where the secret is.
fn apart(leaf: &Leaf<'_>, name: &RotationName, kind: Option<&Kind>, journal: Option<&Place>) {
    if let (Some(kind), Some(journal)) = (kind, journal)
        && kind.path() == format!("{}/{}/{name}", journal.mount, journal.path)
    {
        leaf.problem(
            "its journal is where the secret is",
            "write another journal.path: a journal would push versions of the secret out",
        );
    }
}

fn group(leaf: &Leaf<'_>) -> Option<Group> {
    let mut map = leaf.map()?;
    let name = map.need("name", "what the group is called", |leaf| leaf.name(SecretName::new));
    let gap = map.or("min_gap", Duration::from_secs(900), |leaf| leaf.duration(seconds(1, 30 * DAY)));
    map.finish();
    Some(Group { name: name?.as_str().to_owned(), min_gap: gap? })
}

/// The secrets of this agent that change with what `kind` rotates.
fn serving(kind: &Kind, secrets: &[keeper::Settings]) -> Vec<SecretName> {
    let path = |secret: &keeper::Settings| match &secret.kind {
        keeper::Kind::Kv { path, .. } | keeper::Kind::Lease { path, .. } => Some(path.clone()),
        _ => None,
    };
    let changes = match kind {
        Kind::Generate(generate) => Some(&generate.path),
        Kind::Trigger(trigger) => trigger.evidence.as_ref().map(|evidence| &evidence.path),
        Kind::Credential(credential) => Some(&credential.consumer.path),
        Kind::Issue(issue) => Some(&issue.consumer.path),
        Kind::Bootstrap(_) => None,
    };
    let of = |secret: &&keeper::Settings| changes.is_some() && path(secret).as_ref() == changes;
    secrets.iter().filter(of).map(|secret| secret.name.clone()).collect()
}
