//! Which rotations of kind `bootstrap`, and which upstreams of the driver `http`, are taken, and which refused.

use super::{
    Environment, parse,
    tests::{check, document, environment},
};
use crate::{
    rotation::{Kind, Settings, bootstrap::file::Form},
    sandbox::Need,
    vault::approle::Wrapping,
};
use std::{path::Path, time::Duration};

/// A config with an identity `own` of AppRole, and one rotation of its secret id.
fn bootstrap(identity: &str, rotation: &str) -> String {
    format!(
        "identities: {{reports: {{method: kubernetes, role: r}}, own: {{method: approle, role_id_file: /c/role-id, \
         secret_id_file: /c/secret-id{identity}}}}}\nrotations: {{b: {{kind: bootstrap, {rotation}}}}}\n"
    )
}

#[test]
fn a_secret_id_of_our_own_is_rotated_by_what_the_config_says() {
    let rotation = |text: &str| {
        let config = parse(&document(text), &environment()).unwrap().config;
        let [Settings { kind: Kind::Bootstrap(kind), grace, .. }] = config.rotations.as_slice() else {
            panic!("{:?}", config.rotations)
        };
        let needs = config.plan(Path::new("/config.yaml"));
        assert!(needs.allows(&Need::Write("/c".into())), "new ones are written beside it");
        (kind.path.clone(), kind.file.form, kind.custom.is_some(), kind.wrapping, *grace)
    };
    let plain = bootstrap("", "identity: own, role: app, schedule: {every: 12h}");
    let expected =
        ("auth/approle/role/app".to_owned(), Form::Plain, false, Wrapping::None, Duration::from_secs(60));
    assert_eq!(rotation(&plain), expected);
    let wrapped = bootstrap(
        ", mount: robots, secret_id_wrapped: true, wrapped_path: auth/robots/role/app/secret-id",
        "identity: own, schedule: {every: 12h}, custom: true, wrapped: true, grace: 0s",
    );
    let expected =
        ("auth/robots/role/app".to_owned(), Form::Wrapped, true, Wrapping::Wrapped, Duration::ZERO);
    assert_eq!(rotation(&wrapped), expected);
}

#[test]
fn a_secret_id_that_cannot_be_replaced_is_not_rotated() {
    let right = "identity: own, role: app, schedule: {every: 12h}";
    check(
        &bootstrap("", "identity: reports, role: app, schedule: {every: 12h}"),
        &[
            "rotations.b.identity: line 2: an identity of method kubernetes, which has no secret id; name an identity of method approle",
        ],
    );
    check(
        &bootstrap("", "identity: own, schedule: {every: 12h}"),
        &[
            "rotations.b: line 2: nothing says which role's secret id it is; write role: NAME, the role's name in Vault",
        ],
    );
    check(
        &bootstrap("", &format!("{right}, journal: {{mount: kv, path: r}}, grace: 12h, aproval: x")),
        &[
            "rotations.b.journal: line 2: each replica rotates a secret id of its own, by a journal beside its file; remove it",
            "rotations.b: line 2: a grace that is not over before the next slot; write a grace that is shorter than the time between two slots",
            "rotations.b.aproval: line 2: unknown key \"aproval\"; did you mean approval?",
        ],
    );
    let readonly = Environment { writable: |_| false, ..environment() };
    let rejected = parse(&document(&bootstrap("", right)), &readonly).unwrap_err().to_string();
    assert!(
        rejected.contains("its secret_id_file is in no directory that we may write to: /c/secret-id"),
        "{rejected}"
    );
    let twice = bootstrap("", right).replace("{b:", &format!("{{a: {{kind: bootstrap, {right}}}, b:"));
    let rejected = parse(&document(&twice), &environment()).unwrap_err().to_string();
    assert!(rejected.contains("it rotates what rotations.a rotates"), "{twice}: {rejected}");
}

#[test]
fn an_upstream_that_takes_its_key_in_a_form_serves_no_driver_that_sends_json() {
    let with = |slot: &str| {
        format!(
            "secrets: {{admin: {{identity: reports, kind: kv, path: kv/admin, field: key}}}}\n\
             upstreams: {{users: {{url: \"https://users\", inject: {{secret: admin, {slot}}}}}}}\n\
             rotations: {{orders: {{kind: single, user: orders, identity: reports, path: secret/orders, schedule: {{every: 12h}}, \
             journal: {{mount: kv, path: r}}, driver: {{http: {{upstream: users, \
             set: {{method: PUT, path: \"/users/{{user}}\", body: {{password: \"{{value}}\"}}}}, test: {{path: /me}}}}}}}}}}\n\
             workloads: {{}}\n"
        )
    };
    check(&with("header: Authorization, format: \"Bearer {}\""), &[]);
    check(
        &with("body: {form: key}"),
        &[
            "rotations.orders: line 3: the driver http sends JSON, and upstreams.users takes its key in a form; name an upstream that \
           takes it in a header, in the query or in JSON, or use the driver exec",
        ],
    );
}
