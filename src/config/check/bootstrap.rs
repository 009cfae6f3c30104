//! Rotations of the kind `bootstrap`: whose secret id, and how new ones are made.
//!
//! Pure. Does not know whether the role is the identity's: Vault says that when running.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, generate::ALPHABET, local, schedule::nearest, seconds};
use crate::{
    name::{IdentityName, RotationName},
    rotation::{
        Kind, Settings,
        bootstrap::{
            Bootstrap,
            file::{Form, SecretIdFile},
        },
        coordination::Coordination,
        generate::{Generate, Source},
        lease::Terms,
    },
    vault::{
        approle::{Role, Wrapping},
        kv2::Place,
        login::{self, Method, SecretId},
    },
};
use std::{path::PathBuf, time::Duration};

/// What other kinds have, and this one cannot.
const NOT_SHARED: [&str; 7] =
    ["journal", "coordination", "group", "revoke_when", "consumers", "max_grace", "holder_ttl"];
/// Characters of a secret id that we make: 238 bits.
const LENGTH: usize = 40;

/// Whether an entry is of this kind.
pub(super) fn is_it(leaf: &Leaf<'_>) -> bool {
    let Some(map) = leaf.is_map().then(|| leaf.map()).flatten() else { return false };
    map.children().any(|(key, leaf)| key == "kind" && leaf.peek() == Some("bootstrap"))
}

/// The secret id of one identity.
struct Own {
    mount: String,
    /// Where the identity's own settings name it.
    role: Option<String>,
    role_id_file: PathBuf,
    file: SecretIdFile,
}

pub(super) fn read(
    name: RotationName,
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    identities: &[login::Settings],
) -> Option<Settings> {
    let mut map = leaf.map()?;
    let _ = map.find("kind");
    let mut whole = true;
    for key in NOT_SHARED {
        if let Some(leaf) = map.find(key) {
            leaf.problem(
                "each replica rotates a secret id of its own, by a journal beside its file",
                "remove it",
            );
            whole = false;
        }
    }
    for key in ["approval", "lead_time"] {
        if let Some(leaf) = map.find(key) {
            leaf.problem("a yes that does not come in time would be the end of the only login", "remove it");
            whole = false;
        }
    }
    let mut identity = None;
    let own = map.need("identity", "the name of an identity of method approle", |leaf| {
        let named = leaf.refers(&context.identities, IdentityName::new)?;
        let own = own(leaf, context, identities.iter().find(|one| one.name == named)?);
        identity = Some(named);
        own
    });
    let role = map.given("role", Leaf::text);
    let kind = kind(&mut map, own, role);
    let schedule = local::when(&mut map);
    let grace = map.or("grace", Duration::from_secs(60), |leaf| leaf.duration(seconds(0, 30 * DAY)));
    if let (Some(schedule), Some(grace)) = (&schedule, grace)
        && nearest(schedule).is_some_and(|nearest| grace >= nearest)
    {
        map.leaf().problem(
            "a grace that is not over before the next slot",
            "write a grace that is shorter than the time between two slots",
        );
        whole = false;
    }
    map.finish();
    let settings = Settings {
        name,
        identity: identity?,
        kind: kind?,
        schedule: schedule?,
        grace: grace?,
        acks: None,
        journal: Place { mount: String::new(), path: String::new() },
        consent: None,
        notice: Duration::ZERO,
        wrap: None,
        coordination: Coordination::Vault,
        group: None,
        lease: Terms::of(Duration::from_secs(30)),
        serves: Vec::new(),
    };
    whole.then_some(settings)
}

fn own(leaf: &Leaf<'_>, context: &Context<'_>, identity: &login::Settings) -> Option<Own> {
    let Method::AppRole { mount, role_id_file, secret_id } = &identity.method else {
        leaf.problem(
            format!("an identity of method {}, which has no secret id", identity.method.word()),
            "name an identity of method approle",
        );
        return None;
    };
    let (path, form, made_at) = match secret_id {
        SecretId::Plain { file } => (file, Form::Plain, None),
        SecretId::Wrapped { file, creation_path } => (file, Form::Wrapped, Some(creation_path)),
    };
    if !path.parent().is_some_and(|dir| context.environment.may_write_to(dir)) {
        leaf.problem(
            format!("its secret_id_file is in no directory that we may write to: {}", path.display()),
            "have it copied into a volume of the pod (an emptyDir, by an init container): new secret ids are put beside it, and into \
             its place",
        );
        return None;
    }
    let role = made_at.and_then(|path| path.rsplit('/').nth(1)).map(str::to_owned);
    let file = SecretIdFile { path: path.clone(), form };
    Some(Own { mount: mount.clone(), role, role_id_file: role_id_file.clone(), file })
}

fn kind(map: &mut Map<'_>, own: Option<Own>, role: Option<Option<String>>) -> Option<Kind> {
    let custom = map.or("custom", false, Leaf::flag);
    let wrapped = map.or("wrapped", false, Leaf::flag);
    let cycles = map.or("max_retry_cycles", 3, |leaf| leaf.whole::<u32>(1..=3));
    let Own { mount, role: known, role_id_file, file } = own?;
    let Some(name) = role?.or(known) else {
        map.leaf().problem(
            "nothing says which role's secret id it is",
            "write role: NAME, the role's name in Vault",
        );
        return None;
    };
    if name.contains('/') {
        map.leaf().problem("a role with a slash", "write role: NAME, without the path to it");
        return None;
    }
    let source = Source::Characters { length: LENGTH, alphabet: ALPHABET.to_owned() };
    let role = Role { mount, name };
    Some(Kind::Bootstrap(Box::new(Bootstrap {
        path: role.to_string(),
        role,
        role_id_file,
        file,
        custom: custom?.then(|| Generate { path: String::new(), field: String::new(), source }),
        wrapping: if wrapped? { Wrapping::Wrapped } else { Wrapping::None },
        cycles: usize::try_from(cycles?).unwrap_or(1),
    })))
}
