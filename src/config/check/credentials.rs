//! Rotations of the kinds `two-slot` and `single`: whose credential, in what system, by what driver.
//!
//! Pure. That a program is there is the environment's word; whether the system does what it is told is found out when running.

use super::super::reader::{Leaf, Map};
use super::{Context, generate, milliseconds, schedule::nearest, seconds};
use crate::{
    name::UpstreamName,
    rotation::{
        Kind,
        credential::{Credential, Users},
        generate::Generate,
        lease::Terms,
        schedule::Schedule,
        system::{
            System,
            exec::Exec,
            http::{Http, Template},
            template::{PLACES, places, places_in},
            vault::{Write, Writes},
        },
    },
};
use http::{HeaderName, Method};
use std::{path::Path, time::Duration};

/// How many users take turns.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Slots {
    One,
    Two,
}

/// Where a text of a template stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Where {
    /// Paths are logged by whoever sees them.
    Path,
    Elsewhere,
}

pub(super) fn read(
    map: &mut Map<'_>,
    slots: Slots,
    context: &Context<'_>,
    terms: Option<Terms>,
) -> Option<Kind> {
    let path = map.need("path", "MOUNT/PATH, as in secret/orders/db", super::vault_path);
    let field = map.or("field", "password".to_owned(), Leaf::text);
    let user_field = map.or("user_field", "username".to_owned(), Leaf::text);
    let source = generate::source(map);
    let users = match slots {
        Slots::One => map.need("user", "orders", user).map(Users::One),
        Slots::Two => map.need("users", "[orders_a, orders_b]", pair).map(Users::Two),
    };
    let hold = match slots {
        Slots::One => {
            map.or("hold_max", Duration::from_secs(2), |leaf| leaf.duration(milliseconds(0, 30_000)))
        }
        Slots::Two => Some(Duration::ZERO),
    };
    let propagation = map.or("propagation_wait", Duration::ZERO, |leaf| leaf.duration(seconds(0, 600)));
    let cycles = map.or("max_retry_cycles", 3, |leaf| leaf.whole::<u32>(1..=3));
    let probe = probe(map);
    let quarantine = quarantine(map, slots);
    let system = map.need("driver", "{exec: {command: [/usr/local/bin/set-password]}}", |leaf| {
        driver(leaf, context, terms)
    });
    let (field, user_field) = (field?, user_field?);
    if field == user_field {
        map.leaf().problem("one field for the user and the value", "write another field or user_field");
        return None;
    }
    Some(Kind::Credential(Box::new(Credential {
        consumer: Generate { path: path?, field, source: source? },
        user_field,
        users: users?,
        system: system?,
        propagation: propagation?,
        cycles: usize::try_from(cycles?).unwrap_or(1),
        probe: probe?,
        quarantine: quarantine?,
        hold: hold?,
    })))
}

/// How long the user before can be had back after his grace.
fn quarantine(map: &mut Map<'_>, slots: Slots) -> Option<Duration> {
    map.or("quarantine", Duration::ZERO, |leaf| {
        let quarantine = leaf.duration(seconds(0, 30 * 86_400))?;
        if slots == Slots::One {
            leaf.problem(
                "a quarantine of the one password of one user: the old one ends with the new one",
                "remove it, or use kind: two-slot with two users",
            );
            return None;
        }
        Some(quarantine)
    })
}

/// Grace and quarantine must be over before the next slot.
pub(super) fn room(
    leaf: &Leaf<'_>,
    kind: Option<&Kind>,
    grace: Option<Duration>,
    schedule: Option<&Schedule>,
) {
    let Some(Kind::Credential(credential)) = kind else { return };
    let both = grace.unwrap_or_default().saturating_add(credential.quarantine);
    if !credential.quarantine.is_zero() && schedule.and_then(nearest).is_some_and(|nearest| both >= nearest) {
        leaf.problem(
            "a quarantine that is not over before the next slot",
            "make grace and quarantine together shorter than the time between two slots",
        );
    }
}

/// How often the system is asked between runs; `0s`: never.
pub(super) fn probe(map: &mut Map<'_>) -> Option<Duration> {
    map.or("probe", Duration::from_secs(300), |leaf| leaf.duration(seconds(0, 86_400)))
}

fn user(leaf: &Leaf<'_>) -> Option<String> {
    let user = leaf.text()?;
    if user.len() > 256 {
        leaf.problem("a user of more than 256 bytes", "write the name that the system knows the user by");
        return None;
    }
    Some(user)
}

fn pair(leaf: &Leaf<'_>) -> Option<[String; 2]> {
    let users = leaf.each(user)?;
    match <[String; 2]>::try_from(users) {
        Ok([a, b]) if a != b => Some([a, b]),
        _ => {
            leaf.problem(
                "not two different users",
                "write the two that take turns, as in [orders_a, orders_b]",
            );
            None
        }
    }
}

fn driver(leaf: &Leaf<'_>, context: &Context<'_>, terms: Option<Terms>) -> Option<System> {
    let mut map = leaf.map()?;
    let (exec, http, vault) = (map.find("exec"), map.find("http"), map.find("vault"));
    map.finish();
    match (exec, http, vault) {
        (Some(leaf), None, None) => exec_driver(&leaf, context, terms).map(System::Exec),
        (None, Some(leaf), None) => http_driver(&leaf, context).map(|http| System::Http(Box::new(http))),
        (None, None, Some(leaf)) => vault_driver(&leaf).map(|writes| System::Vault(Box::new(writes))),
        _ => {
            leaf.problem("not one driver", "write one of exec, http and vault");
            None
        }
    }
}

fn exec_driver(leaf: &Leaf<'_>, context: &Context<'_>, terms: Option<Terms>) -> Option<Exec> {
    let mut map = leaf.map()?;
    let command = map.need("command", "[/usr/local/bin/set-password, --host, db]", |leaf| {
        let command = leaf.each(Leaf::text)?;
        let Some(program) = command.first().filter(|program| program.starts_with('/')) else {
            leaf.problem(
                "not an absolute path to a program",
                "write /PATH/TO/PROGRAM first, then its arguments",
            );
            return None;
        };
        if !context.environment.has_program(Path::new(program)) {
            leaf.problem(
                format!("no program that can be executed is at {program}"),
                "put it there (in the image, or a volume), with mode 0755",
            );
            return None;
        }
        Some(command)
    });
    let timeout = map.given("timeout", |leaf| {
        let timeout = leaf.duration(milliseconds(100, 10_000))?;
        if terms.is_some_and(|terms| terms.call < timeout) {
            leaf.problem(
                "a program that may run for more than a third of holder_ttl",
                "write a longer holder_ttl",
            );
            return None;
        }
        Some(timeout)
    });
    map.finish();
    Some(Exec { command: command?, timeout: timeout? })
}

fn http_driver(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Http> {
    let mut map = leaf.map()?;
    let upstream = map.need("upstream", "the name of one of upstreams", |leaf| {
        leaf.refers(&context.upstreams, UpstreamName::new)
    });
    let example = "{method: PUT, path: \"/users/{user}/password\", body: {password: \"{value}\"}}";
    let set = map.need("set", example, template);
    let test = map.need("test", "{path: /me, headers: {Authorization: \"Basic {basic}\"}}", template);
    let revoke = map.given("revoke", template);
    map.finish();
    Some(Http { upstream: upstream?, set: set?, test: test?, revoke: revoke? })
}

pub(super) fn template(leaf: &Leaf<'_>) -> Option<Template> {
    let mut map = leaf.map()?;
    let words = [
        ("GET", Method::GET),
        ("POST", Method::POST),
        ("PUT", Method::PUT),
        ("PATCH", Method::PATCH),
        ("DELETE", Method::DELETE),
    ];
    let which = words.each_ref().map(|(word, method)| (*word, method));
    let method = map.or("method", &Method::GET, |leaf| leaf.word(&which)).cloned();
    let path = map.need("path", "/users/{user}", |leaf| {
        let path = filled(leaf, leaf.text()?, Where::Path)?;
        if !path.starts_with('/') || path.contains("//") || path.contains("/../") {
            leaf.problem("not a path below the upstream's URL", "write /PATH, as in /users/{user}");
            return None;
        }
        Some(path)
    });
    let headers = map.or("headers", Vec::new(), |leaf| {
        let map = leaf.map()?;
        let header = |(name, leaf): (&str, Leaf<'_>)| {
            let Ok(name) = HeaderName::try_from(name) else {
                leaf.problem("not the name of a header", "write a name, as in Authorization");
                return None;
            };
            Some((name, filled(&leaf, leaf.text()?, Where::Elsewhere)?))
        };
        map.children().map(header).collect()
    });
    let body = map.given("body", body);
    let statuses = |leaf: &Leaf<'_>| leaf.each(|leaf| leaf.whole::<u16>(100..=599));
    let expect = map.or("expect", vec![200, 201, 202, 204], statuses);
    let refused = map.or("refused", vec![400, 401, 403, 422], statuses);
    map.finish();
    let template = Template {
        method: method?,
        path: path?,
        headers: headers?,
        body: body?,
        expect: expect?,
        refused: refused?,
    };
    if template.expect.iter().any(|status| template.refused.contains(status)) {
        leaf.problem(
            "a status that is both expected and a refusal",
            "write each in one of expect and refused",
        );
        return None;
    }
    Some(template)
}

fn vault_driver(leaf: &Leaf<'_>) -> Option<Writes> {
    let mut map = leaf.map()?;
    let example = "{path: \"auth/userpass/users/{user}/password\", data: {password: \"{value}\"}}";
    let set = map.need("set", example, write);
    let test =
        map.need("test", "{path: \"auth/userpass/login/{user}\", data: {password: \"{value}\"}}", write);
    let revoke = map.given("revoke", write);
    map.finish();
    Some(Writes { set: set?, test: test?, revoke: revoke? })
}

fn write(leaf: &Leaf<'_>) -> Option<Write> {
    let mut map = leaf.map()?;
    let path = map.need("path", "auth/userpass/users/{user}/password", |leaf| {
        filled(leaf, super::vault_path(leaf)?, Where::Path)
    });
    let data = map.need("data", "{password: \"{value}\"}", body);
    map.finish();
    Some(Write { path: path?, data: data? })
}

fn body(leaf: &Leaf<'_>) -> Option<serde_json::Value> {
    let json = leaf.json()?;
    if !json.is_object() {
        leaf.problem("not a map", "write the members of the JSON object that is sent");
        return None;
    }
    let names = places_in(&json).map(|names| names.into_iter().map(str::to_owned).collect());
    known(leaf, names, Where::Elsewhere).then_some(json)
}

/// `text`, if each of its places is known and may be there.
pub(super) fn filled(leaf: &Leaf<'_>, text: String, place: Where) -> Option<String> {
    let names = places(&text).map(|names| names.into_iter().map(str::to_owned).collect());
    known(leaf, names, place).then_some(text)
}

fn known(leaf: &Leaf<'_>, names: Option<Vec<String>>, place: Where) -> bool {
    let right = "write {user}, {value}, {id}, {rotation} or {basic}";
    let Some(names) = names else {
        leaf.problem("a { without a }", right);
        return false;
    };
    if names.iter().any(|name| !PLACES.contains(&name.as_str())) {
        leaf.problem("a place of another name", right);
        return false;
    }
    if place == Where::Path && names.iter().any(|name| name == "value" || name == "basic") {
        leaf.problem("a value in a path, where logs have it", "put it into the body or a header");
        return false;
    }
    true
}
