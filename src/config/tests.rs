//! One table entry for each fault that the config can have, and the documents that must pass.

use super::{Environment, Loaded, parse};
use crate::{
    keeper::{Kind, LeaseRequest},
    peer::{level::Level, process::Support, program},
    policy::rule::AuditMode,
    sandbox::{Mode, Need},
    vault::login::{JwtLogin, Method, SecretId},
};
use proptest::prelude::*;
use std::{path::PathBuf, time::Duration};

/// The smallest config that serves somebody, by section.
const SECTIONS: [(&str, &str); 5] = [
    ("vault:", "vault: {addresses: [https://vault:8200]}\n"),
    ("identities:", "identities: {reports: {method: kubernetes, role: reports}}\n"),
    ("secrets:", "secrets: {stripe: {identity: reports, kind: kv, path: secret/stripe}}\n"),
    (
        "workloads:",
        "workloads: {job: {socket: {path: /run/claviger/job/claviger.sock}, peer: {uid: 20001, gid: 20001}, \
         rules: [{name: keys, secrets: [stripe]}]}}\n",
    ),
    ("audit:", "audit: {journal: {dir: /var/lib/claviger/audit}}\n"),
];

/// `text`, and after it the sections that it leaves out.
pub(super) fn document(text: &str) -> String {
    let missing = SECTIONS.iter().filter(|(key, _)| !text.lines().any(|line| line.starts_with(key)));
    missing.fold(text.to_owned(), |text, (_, section)| text + section)
}

/// Another user in the initial user namespace, not dumpable.
pub(super) fn environment() -> Environment {
    Environment {
        uid: 10_001,
        gid: 10_001,
        uid_map_is_full: true,
        gid_map_is_full: true,
        overflow_uid: 65_534,
        overflow_gid: 65_534,
        process: Support::Given,
        container: Support::Given,
        dumpable: false,
        source: "urn:claviger:test".to_owned(),
        cluster: super::Cluster::default(),
        programs: |_| true,
        writable: |_| true,
    }
}

fn check_in(environment: &Environment, text: &str, expected: &[&str]) {
    let problems = match parse(&document(text), environment) {
        Ok(_) => Vec::new(),
        Err(rejected) => rejected.problems.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(problems, expected, "{text}");
}

pub(super) fn check(text: &str, expected: &[&str]) {
    check_in(&environment(), text, expected);
}

fn load(text: &str) -> Loaded {
    parse(&document(text), &environment()).unwrap_or_else(|rejected| panic!("{text}\n{rejected}"))
}

fn check_warnings(text: &str, expected: &[&str]) {
    let warnings: Vec<String> = load(text).warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, expected, "{text}");
}

#[test]
fn the_smallest_config_has_the_documented_defaults() {
    let Loaded { config, warnings } = load("");
    assert_eq!(warnings, []);
    assert_eq!(config.vault.timeout, Duration::from_secs(10));
    assert_eq!((config.vault.budget.calls_per_second, config.vault.budget.burst), (10, 20));
    let login = JwtLogin {
        mount: "kubernetes".to_owned(),
        role: "reports".to_owned(),
        token_file: PathBuf::from("/var/run/secrets/claviger/token"),
    };
    assert_eq!(config.identities[0].method, Method::Kubernetes(login));
    assert!(config.identities[0].revoke_on_exit);
    let Kind::Kv { path, field, refresh, max_stale, version } = &config.secrets[0].kind else { panic!() };
    assert_eq!((path.as_str(), field, version), ("secret/stripe", &None, &None));
    assert_eq!((*refresh, *max_stale), (Duration::from_secs(60), Duration::from_secs(600)));
    assert_eq!(config.secrets[0].grace, Duration::from_secs(60));
    let workload = &config.workloads[0];
    assert_eq!((workload.listener.mode, workload.peer.level), (0o666, Level::Process));
    assert_eq!(workload.listener.limits, crate::listener::Limits::default());
    assert_eq!(workload.policy.revision, config.revision);
    assert_eq!(config.audit.mode, AuditMode::Strict);
    assert_eq!((config.audit.journal.max_size, config.audit.journal.segment), (64 << 20, 4 << 20));
    assert_eq!((config.audit.sinks.len(), config.audit.source.as_str()), (1, "urn:claviger:test"));
    assert_eq!(config.health.listen.to_string(), "[::]:8099");
    assert_eq!(config.shutdown.grace, Duration::from_secs(5));
    let digits = config.revision.strip_prefix("sha256:").unwrap();
    assert!(digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{digits}");
    assert_ne!(config.revision, load("# a comment\n").config.revision);
}

#[test]
fn what_is_written_is_what_is_set() {
    let config = load(
        "vault:\n  addresses: [https://a:8200, https://b:8200, http://127.0.0.1:8200]\n  ca_file: /etc/ca.pem\n\
         \x20 client_cert: {cert_file: /etc/c.pem, key_file: /etc/k.pem}\n  server_name: vault.internal\n\
         \x20 namespace: platform/team\n  timeout: 2s500ms\n  budget: {calls_per_second: 5, burst: 8}\n\
         identities:\n  reports: {method: cert, role: web, revoke_on_exit: false}\n\
         \x20 a: {method: approle, role_id_file: /r, secret_id_file: /s, secret_id_wrapped: true,\n\
         \x20     wrapped_path: auth/approle/role/a/secret-id}\n\
         \x20 t: {method: token_file, token_file: /t}\n  j: {method: jwt, mount: clusters/blue, role: r, token_file: /j}\n\
         secrets:\n  stripe: {identity: reports, kind: kv, path: team/kv/stripe, field: api_key, refresh: 5s, max_stale: 1h,\n\
         \x20          version: 3, grace: 0s}\n\
         \x20 db: {identity: a, kind: lease, path: database/creds/db, params: {ttl: 1h, n: [1, true, 0.5]}}\n\
         \x20 ci: {identity: t, kind: token, policies: [ci], ttl: 1m, uses: 2, role: r, no_default_policy: false}\n\
         \x20 web: {identity: j, kind: certificate, path: pki/issue/web, params: {common_name: w}, renew_at: 0.5}\n\
         workloads:\n  job:\n    socket: {path: /run/claviger//job/a.sock, mode: 0660}\n\
         \x20   peer: {uid: [1, 1.00065e+09], gid: 10001, groups: [7], level: user}\n\
         \x20   limits: {connections: 8, requests_per_second: 50, body: 64KiB}\n\
         \x20   rules:\n    - {name: all, secrets: [stripe, db, ci, web], audit: strict, requests_per_second: 50}\n\
         audit: {mode: buffered, journal: {dir: /j, max_size: 8MiB, segment: 1MiB, retain: 1h}, hash_paths: true,\n\
         \x20 sinks: {console: {kind: stdout, format: native, required: false}}}\n\
         health: {listen: \"127.0.0.1:0\", names: true}\nsandbox: off\nshutdown: {grace: 20s}\nlog: {level: warn, format: text}\n",
    )
    .config;
    assert_eq!(config.vault.addresses.len(), 3);
    assert_eq!(config.vault.timeout, Duration::from_millis(2500));
    assert_eq!(config.tls_files().len(), 3);
    assert_eq!(
        config.identities[1].method,
        Method::AppRole {
            mount: "approle".to_owned(),
            role_id_file: PathBuf::from("/r"),
            secret_id: SecretId::Wrapped {
                file: PathBuf::from("/s"),
                creation_path: "auth/approle/role/a/secret-id".to_owned()
            }
        }
    );
    let Kind::Lease { request: LeaseRequest::Post(params), .. } = &config.secrets[1].kind else { panic!() };
    assert_eq!(serde_json::to_string(params).unwrap(), r#"{"n":[1,true,0.5],"ttl":"1h"}"#);
    let workload = &config.workloads[0];
    assert_eq!(workload.listener.path, PathBuf::from("/run/claviger/job/a.sock"));
    assert_eq!(workload.listener.mode, 0o660);
    assert_eq!(workload.peer.uids, [1, 1_000_650_000]);
    assert_eq!(workload.policy.rules[0].audit, Some(AuditMode::Strict));
    assert_eq!(config.audit.sinks[0].name.as_str(), "console");
    assert_eq!(config.health.listen.to_string(), "127.0.0.1:0");
}

/// The example of the design, every `…` filled in.
const EXAMPLE: &str = r#"
vault:
  addresses: [https://vault-0.vault:8200, https://vault-1.vault:8200]  # sticky; next one when it fails
  ca_file: /etc/claviger/vault-ca.pem
  client_cert: {cert_file: /etc/claviger/tls.crt, key_file: /etc/claviger/tls.key}
  server_name: vault.internal
  namespace: platform
  timeout: 10s
  budget: {calls_per_second: 10, burst: 20}
identities:
  reports:
    method: kubernetes
    mount: kubernetes
    role: reports
    token_file: /var/run/secrets/claviger/token
  rotator: {method: kubernetes, role: rotator}
secrets:
  stripe:    {identity: reports, kind: kv, path: secret/payments/stripe, field: api_key, refresh: 60s, max_stale: 10m}
  orders-db: {identity: reports, kind: lease, path: database/creds/orders}
  ci-token:  {identity: reports, kind: token, policies: [ci-read], ttl: 15m, per_process: true}
  web-cert:  {identity: reports, kind: certificate, path: pki/issue/web, params: {common_name: web.internal}}
upstreams:
  stripe-api:
    url: https://api.stripe.com
    inject: {secret: stripe, header: Authorization, format: "Bearer {}"}
workloads:
  report-job:
    socket: {path: /run/claviger/report-job/claviger.sock}
    peer: {uid: 20001, gid: 20001, level: auto}
    limits: {connections: 8, requests_per_second: 50}
    rules:
    - {name: database, secrets: [orders-db, web-cert]}
    - {name: reports-tree, vault: {paths: ["secret/data/reports/+", "secret/metadata/reports/*"], methods: [GET, LIST]}}
    - {name: root-key, secrets: [ci-token], approval: two-people}
  billing-agent:
    socket: {path: /run/claviger/billing-agent/claviger.sock}
    peer: {uid: 20002, gid: 20002}
    rules:
    - {name: charges, upstream: stripe-api, methods: [POST], paths: ["v1/charges", "v1/charges/+/refunds"]}
approvals:
  two-people: {kind: signed, quorum: 2, approvers: {lead: {entity_id: a}, on-call: {entity_id: b}, owner: {ssh_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIwInJM6rG1gez7uecQ3PaRPpxGXOXW/IhK6IpEuUmdq}}, store: {mount: kv, path: approvals}}
rotations:
  webhook-key: {identity: rotator, kind: generate, path: secret/payments/webhook, field: key, length: 40,
                schedule: {cron: "0 3 * * SUN", tz: America/New_York, window: 2h}, grace: 24h, journal: {mount: kv, path: rotation}}
audit:
  mode: strict
  journal: {dir: /var/lib/claviger/audit, max_size: 64MiB}
  sinks: {console: {kind: stdout}}
health: {listen: "[::]:8099"}
log: {level: info, format: json}
"#;

#[test]
fn the_designs_example_is_accepted() {
    check(EXAMPLE, &[]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a slip")]
fn an_approval_says_who_may_say_yes_and_where() {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIwInJM6rG1gez7uecQ3PaRPpxGXOXW/IhK6IpEuUmdq";
    const STORE: &str = "store: {mount: kv, path: approvals}";
    let one = |rest: &str| format!("approvals: {{two: {{kind: signed, {STORE}, {rest}}}}}\n");
    let at = |key: &str, text: &str| format!("approvals.two{key}: line 1: {text}");
    for (rest, expected) in [
        (
            format!("quorum: 2, approvers: {{a: {{entity_id: e-1}}, b: {{ssh_key: {KEY}}}}}, observe: true"),
            vec![],
        ),
        (
            "approvers: {a: {entity_id: e}}, quorum: 2".to_owned(),
            vec![at(
                "",
                "a quorum of 2, and approvers who may say yes: 1; name more approvers, or write a smaller quorum",
            )],
        ),
        (
            "approvers: {a: {entity_id: e}}, exclude: [e]".to_owned(),
            vec![at(
                "",
                "a quorum of 1, and approvers who may say yes: 0; name more approvers, or write a smaller quorum",
            )],
        ),
        (
            "approvers: {}".to_owned(),
            vec![at(".approvers", "nobody; name at least one: {lead: {entity_id: …}}")],
        ),
        (
            "approvers: {a: {}}".to_owned(),
            vec![at(".approvers.a", "not one of entity_id and ssh_key; write one of the two")],
        ),
        (
            "approvers: {a: {entity_id: a/b}}".to_owned(),
            vec![at(
                ".approvers.a.entity_id",
                "no id of an entity; write what `vault token lookup` calls entity_id",
            )],
        ),
        (
            "approvers: {a: {ssh_key: ssh-rsa AAAA}}".to_owned(),
            vec![at(
                ".approvers.a.ssh_key",
                "no SSH key that is read here; write a line of a .pub file of type ssh-ed25519",
            )],
        ),
        (
            format!("approvers: {{a: {{ssh_key: {KEY}, public_key: x}}}}"),
            vec![
                at(
                    ".approvers.a.public_key",
                    "no Ed25519 key; write the public_key that `vault read transit/keys/approver-…` shows for the newest version",
                ),
                at(
                    ".approvers.a.public_key",
                    "public_key beside ssh_key; remove it: it is for keys in Vault's transit engine",
                ),
            ],
        ),
        (
            "approvers: {a: {entity_id: e}, b: {entity_id: e}}".to_owned(),
            vec![at(".approvers.b", "one person under two names; remove one: nobody says yes twice")],
        ),
        (
            format!("approvers: {{uses: {{ssh_key: {KEY}}}}}"),
            vec![at(
                ".approvers.uses",
                "the name uses, which the store has for something else; write another",
            )],
        ),
        (
            "approvers: {a: {entity_id: e}}, hold: 1h".to_owned(),
            vec![at(".hold", "1h is out of range; write 0s to 5m")],
        ),
    ] {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&one(&rest), &expected);
    }
    let rules = |rules: &str| {
        format!(
            "approvals: {{two: {{kind: signed, {STORE}, approvers: {{a: {{entity_id: e}}}}}}}}\nidentities: {{r: {{method: kubernetes, \
             role: r}}}}\nsecrets: {{s: {{identity: r, kind: kv, path: kv/s}}}}\nworkloads: {{job: {{socket: {{path: /s}}, peer: {{uid: \
             1}}, rules: [{{name: a, secrets: [s], approval: two}}{rules}]}}}}\n"
        )
    };
    check(&rules(""), &[]);
    for (other, name) in
        [("{name: b, secrets: [s]}", "b"), ("{name: c, vault: {paths: [\"kv/data/*\"]}}", "c")]
    {
        let found = format!(
            "workloads.job.rules: line 4: s needs a person's yes by the rule a, and none by the rule {name}; take it out of one of \
             them, or write the approval in both"
        );
        check(&rules(&format!(", {other}")), &[&found]);
    }
}

#[test]
fn a_rule_with_vault_says_which_part_of_its_api_and_no_part_that_could_give_out_a_token() {
    const RIGHT: &str = "write it without /v1/ in front, + for one segment, * as the last one for any rest";
    const NEVER: &str = "a path that is never sent on, since what is there could give out a token; remove it; what a client asks \
                         about its own token is answered without a rule for it";
    let one = |vault: &str| {
        format!(
            "identities: {{reports: {{method: kubernetes, role: reports}}}}\nworkloads: {{job: {{socket: {{path: /s}}, peer: \
             {{uid: 1}}, rules: [{{name: a, vault: {vault}}}]}}}}\n"
        )
    };
    let at = |key: &str, text: &str| format!("workloads.job.rules[0].vault{key}: line 2: {text}");
    for (vault, expected) in [
        ("{paths: [\"secret/data/+\", \"secret/metadata/*\"], methods: [GET, LIST, HEAD, PUT]}", vec![]),
        (
            "{paths: [\"auth/approle/role/app/secret-id\"], methods: [POST], namespace: platform/team, cache: \"off\"}",
            vec![],
        ),
        ("{paths: [sys/mounts, \"sys/*\"], identity: reports}", vec![]),
        ("{paths: []}", vec![at(".paths", "an empty list; name at least one")]),
        ("{methods: [GET]}", vec![at(".paths", "missing; write paths: [\"secret/data/reports/+\"]")]),
        (
            "{paths: [\"a/*/b\"]}",
            vec![at(".paths[0]", &format!("no pattern: * stands only as a whole last segment; {RIGHT}"))],
        ),
        (
            "{paths: [/v1/secret]}",
            vec![at(".paths[0]", &format!("no pattern: the path has an empty segment; {RIGHT}"))],
        ),
        ("{paths: [v1/secret]}", vec![at(".paths[0]", "a path with v1/ in front; leave v1/ out")]),
        (
            "{paths: [\"*\"]}",
            vec![at(".paths[0]", "a pattern that names no mount; begin with the mount, as in secret/data/*")],
        ),
        ("{paths: [auth/token/lookup-self]}", vec![at(".paths[0]", NEVER)]),
        ("{paths: [\"cubbyhole/*\"]}", vec![at(".paths[0]", NEVER)]),
        ("{paths: [auth/approle/login]}", vec![at(".paths[0]", NEVER)]),
        ("{paths: [\"sys/wrapping/*\"]}", vec![at(".paths[0]", NEVER)]),
        ("{tokens: {policies: [ci-read], ttl: 15m, uses: 3, role: ci}}", vec![]),
        (
            "{paths: [a], tokens: {policies: []}}",
            vec![at(".tokens.policies", "an empty list; name at least one")],
        ),
        (
            "{tokens: {policies: [Root]}}",
            vec![at(
                ".tokens.policies[0]",
                "a policy that no child token can have; name the policies that it needs",
            )],
        ),
        (
            "{tokens: {policies: [a], role: a/b}}",
            vec![at(".tokens.role", "not the name of a token role; write the role of auth/token/roles/ROLE")],
        ),
        (
            "{paths: [auth/token/create]}",
            vec![at(
                ".paths[0]",
                "child tokens, without what they may be; write tokens: {policies: [NAME], ttl: 15m} beside paths, and remove it here",
            )],
        ),
        ("{paths: [a], cache: kv, cache_for: 5m}", vec![]),
        ("{paths: [a], cache: leases}", vec![]),
        ("{paths: [sys/storage/raft/snapshot], methods: [GET, POST], max_request: 4GiB}", vec![]),
        ("{paths: [a], max_request: 0B}", vec![at(".max_request", "0B is out of range; write 1B to 64GiB")]),
        ("{paths: [a], wrap: 5m}", vec![]),
        ("{paths: [a], wrap: 2d}", vec![at(".wrap", "2d is out of range; write 1s to 1d")]),
        (
            "{paths: [a], cache: kv, wrap: 5m}",
            vec![at(".wrap", "wrap beside cache: what is wrapped is for one taker; remove one of them")],
        ),
        ("{control: [cache-clear, metrics]}", vec![]),
        (
            "{control: [quit]}",
            vec![at(".control[0]", "\"quit\" is not known here; write one of cache-clear, metrics")],
        ),
        (
            "{paths: [a], cache: leases, cache_for: 5m}",
            vec![at(".cache_for", "a time for what is not held by time; write cache: kv, or remove it")],
        ),
        (
            "{paths: [a], cache: kv, cache_for: 2h}",
            vec![at(".cache_for", "2h is out of range; write 1s to 1h")],
        ),
        (
            "{paths: [a], namespace: a//b}",
            vec![at(".namespace", "no namespace; write its whole path, as in platform/team")],
        ),
    ] {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&one(vault), &expected);
    }
    let two = |rules: &str| {
        format!("{TWO}workloads: {{job: {{socket: {{path: /s}}, peer: {{uid: 1}}, rules: [{rules}]}}}}\n")
    };
    check(
        &two("{name: a, vault: {paths: [x]}}"),
        &[
            "workloads.job.rules[0]: line 2: a rule with vault whose identity is not clear; write identity: NAME in its vault",
        ],
    );
    let loaded = load(&two("{name: k, secrets: [stripe]}, {name: a, vault: {paths: [x]}}"));
    assert_eq!(loaded.config.workloads[0].policy.forwards[0].identity.as_str(), "reports");
}

#[test]
fn a_token_for_each_process_needs_a_level_that_names_one() {
    let document = |level: &str| {
        format!(
            "secrets: {{ci: {{identity: reports, kind: token, policies: [ci], per_process: true}}}}\n\
             workloads:\n  job:\n    socket: {{path: /run/claviger/job/claviger.sock}}\n    peer: {{{level}}}\n\
             \x20   rules: [{{name: keys, secrets: [ci]}}]\n"
        )
    };
    let refused = |level: &str, right: &str| {
        format!(
            "workloads.job.rules[0].secrets[0]: line 6: ci is a token for each process, and level {level} names no \
             process; {right}, or remove per_process: one token then serves the workload"
        )
    };
    for level in ["uid: 1", "uid: 1, level: auto", "uid: 1, level: process"] {
        check(&document(level), &[]);
    }
    check(
        &document("uid: 1, level: user"),
        &[&refused("user", "write level: process in the workload's peer")],
    );
    check(&document("level: reach"), &[&refused("reach", "write level: process in the workload's peer")]);
    let what = "SO_PEERPIDFD (Linux 6.5)";
    let old = Environment { process: Support::Lacking(what), ..environment() };
    let newer = format!("run on Linux 6.9 or later, since this kernel lacks {what}");
    for level in ["uid: 1", "uid: 1, level: auto", "uid: 1, level: user"] {
        check_in(&old, &document(level), &[&refused("user", &newer)]);
    }
}

#[test]
fn four_faults_of_different_kinds_are_four_problems() {
    check(
        "vault: {addresses: [https://vault:8200], timeout: 10}\n\
         identities: {reports: {method: kubernetes, role: reports, colour: red}}\n\
         secrets: {stripe: {identity: report, kind: kv, path: secret/stripe}}\n\
         workloads:\n  job:\n    socket: {path: run/job.sock}\n    peer: {uid: 20001}\n    rules: [{name: keys, secrets: [stripe]}]\n",
        &[
            "vault.timeout: line 1: 10 has no unit; write 10s if seconds are meant",
            "identities.reports.colour: line 2: unknown key \"colour\"; known here: method, revoke_on_exit, mount, role, token_file",
            "secrets.stripe.identity: line 3: there is no identity \"report\"; did you mean \"reports\"?",
            "workloads.job.socket.path: line 6: a path that is not absolute; write it from / on",
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a slip")]
fn types_are_strict() {
    for (text, expected) in [
        ("vault: 5\n", "vault: line 1: a number stands here; write keys and values here"),
        ("vault: ~\n", "vault: line 1: nothing stands here; write keys and values here"),
        (
            "vault: {addresses: https://v:8200}\n",
            "vault.addresses: line 1: a text stands here; write a list: [a, b]",
        ),
        ("secrets: [a]\n", "secrets: line 1: a list stands here; write names here, each with its settings"),
        (
            "audit: {journal: {dir: /j}, hash_paths: yes}\n",
            "audit.hash_paths: line 1: \"yes\" is a text; write true or false, without quotes",
        ),
        (
            "audit: {journal: {dir: /j}, hash_paths: 1}\n",
            "audit.hash_paths: line 1: a number stands here; write true or false",
        ),
        (
            "identities: {reports: {method: kubernetes, role: 12345}}\n",
            "identities.reports.role: line 1: a number stands here; write a text: put it in quotes",
        ),
        (
            "identities: {reports: {method: kubernetes, role: \"\"}}\n",
            "identities.reports.role: line 1: an empty text; write something, or remove the key",
        ),
        (
            "identities: {reports: {method: kubernetes, role: \"a\\nb\"}}\n",
            "identities.reports.role: line 1: a text with line breaks or control characters; write it on one line",
        ),
        (
            "audit: {journal: {dir: /j, max_size: 64}}\n",
            "audit.journal.max_size: line 1: 64 has no unit; write 64B if bytes are meant",
        ),
        (
            "audit: {journal: {dir: /j, max_size: 64MB}}\n",
            "audit.journal.max_size: line 1: \"64MB\" is not a size; write a whole number and a unit (B, KiB, MiB, GiB), as in 64KiB",
        ),
        (
            "log: {level: loud}\n",
            "log.level: line 1: \"loud\" is not known here; write one of error, warn, info, debug, trace",
        ),
        (
            "log: {level: wran}\n",
            "log.level: line 1: \"wran\" is not known here; did you mean warn? It is one of error, warn, info, debug, trace",
        ),
        (
            "health: {listen: \"8099\"}\n",
            "health.listen: line 1: not an address and a port; write \"[::]:8099\", \"0.0.0.0:8099\" or \"127.0.0.1:8099\"",
        ),
        ("report: {every: 1s}\n", "report.every: line 1: 1s is out of range; write 5s to 365d"),
        (
            "report: {merge: {mount: kv, path: usage}}\n",
            "report.merge.identity: line 1: missing; write identity: the name of one of identities",
        ),
        (
            "report: {since: soon}\n",
            "report.since: line 1: \"soon\" is not a duration; write a number and a unit (ms, s, m, h, d), as in 10s, 5m or 1h30m",
        ),
        ("shutdown: {grace: 2h}\n", "shutdown.grace: line 1: 2h is out of range; write 0s to 1h"),
        ("sandbox: none\n", "sandbox: line 1: \"none\" is not known here; write one of on, required, off"),
        (
            "colour: red\n",
            "colour: line 1: unknown key \"colour\"; known here: vault, identities, secrets, approvals, rotations, report, audit, upstreams, workloads, health, shutdown, log, sandbox",
        ),
    ] {
        check(text, &[expected]);
    }
}

#[test]
fn numbers_and_durations_have_units_and_ranges() {
    const VAULT: &str = "addresses: [https://v:8200]";
    for (text, expected) in [
        (
            "timeout: soon",
            "vault.timeout: line 1: \"soon\" is not a duration; write a number and a unit (ms, s, m, h, d), as in 10s, 5m or 1h30m",
        ),
        (
            "timeout: true",
            "vault.timeout: line 1: true or false stands here; write a number and a unit (ms, s, m, h, d), as in 10s, 5m or 1h30m",
        ),
        ("timeout: 1ms", "vault.timeout: line 1: 1ms is out of range; write 100ms to 5m"),
        ("budget: {burst: 1}", "vault.budget.burst: line 1: 1 is out of range; write 2 to 100000"),
        (
            "budget: {burst: \"20\"}",
            "vault.budget.burst: line 1: \"20\" is a text; write the number without quotes and leading zeros",
        ),
        ("budget: {burst: 2.5}", "vault.budget.burst: line 1: a number stands here; write a whole number"),
        (
            "budget: {calls_per_second: -1}",
            "vault.budget.calls_per_second: line 1: -1 is out of range; write 1 to 10000",
        ),
    ] {
        check(&format!("vault: {{{VAULT}, {text}}}\n"), &[expected]);
    }
}

#[test]
fn sections_that_must_be_there_are_missed() {
    let problems = parse("log: {}\n", &environment()).unwrap_err().to_string();
    assert_eq!(
        problems,
        "vault: line 1: missing; write vault: {addresses: [https://vault:8200]}\n\
         audit: line 1: missing; write audit: {mode: strict, journal: {dir: /var/lib/claviger/audit}}"
    );
    assert_eq!(
        parse("5", &environment()).unwrap_err().to_string(),
        "line 1: a number stands here; write keys and values here"
    );
}

#[test]
fn vault_is_reached_by_https_or_on_this_machine() {
    const HTTP: &str = "vault.addresses[0]: line 1: plain http to another machine: whoever is on the way reads every secret; write https, or set vault.insecure_http: true";
    const NO: &str = "vault.addresses[0]: line 1: not the address of a Vault; write https://HOST:PORT, as in https://vault:8200";
    for (address, expected) in [
        ("http://127.0.0.1:8200", None),
        ("http://localhost:8200", None),
        ("http://[::1]:8200", None),
        ("https://vault", None),
        ("http://vault:8200", Some(HTTP)),
        ("http://10.0.0.1:8200", Some(HTTP)),
        ("http://localhost.evil:8200", Some(HTTP)),
        ("unix:///run/vault.sock", Some(NO)),
        ("vault:8200", Some(NO)),
        ("ftp://vault", Some(NO)),
        (
            "https://user:pass@vault:8200",
            Some(
                "vault.addresses[0]: line 1: an address with a user or a password in it; write https://HOST:PORT; identities log in",
            ),
        ),
        (
            "https://vault:8200/v1",
            Some(
                "vault.addresses[0]: line 1: an address with a path, a query or a fragment; write https://HOST:PORT and nothing after it",
            ),
        ),
    ] {
        check(&format!("vault: {{addresses: [\"{address}\"]}}\n"), expected.as_slice());
    }
    check("vault: {addresses: [\"http://vault:8200\"], insecure_http: true}\n", &[]);
    check(
        "vault: {addresses: []}\n",
        &["vault.addresses: line 1: an empty list; write at least one address: [https://vault:8200]"],
    );
    check(
        "vault: {addresses: [https://a, https://a/]}\n",
        &["vault.addresses[1]: line 1: an address that stands here twice; keep one of them"],
    );
    check(
        "vault: {addresses: [https://a], client_cert: {cert_file: /c}}\n",
        &["vault.client_cert.key_file: line 1: missing; write key_file: /etc/claviger/tls.key"],
    );
}

#[test]
fn each_login_method_has_its_own_keys() {
    for (text, expected) in [
        ("{role: r}", "method: line 1: missing; write method: kubernetes, jwt, approle, cert or token_file"),
        (
            "{method: kuberntes, role: r}",
            "method: line 1: \"kuberntes\" is not known here; did you mean kubernetes? It is one of kubernetes, jwt, approle, cert, token_file",
        ),
        (
            "{method: jwt, role: r}",
            "token_file: line 1: missing; write token_file: /var/run/secrets/claviger/token",
        ),
        ("{method: kubernetes}", "role: line 1: missing; write role: the role in Vault, as in reports"),
        (
            "{method: kubernetes, role: r, mount: auth/kubernetes}",
            "mount: line 1: a mount with auth/ in front; leave auth/ out: kubernetes, not auth/kubernetes",
        ),
        (
            "{method: kubernetes, role: r, mount: kubernetes/}",
            "mount: line 1: a mount with a slash at an end, or with an empty, `.` or `..` segment; write where it is mounted, as in kubernetes or clusters/blue",
        ),
        (
            "{method: token_file, token_file: /t, role: r}",
            "role: line 1: unknown key \"role\"; known here: method, revoke_on_exit, token_file",
        ),
        (
            "{method: approle, role_id_file: /r, secret_id_file: /s, secret_id_wrapped: true}",
            "wrapped_path: line 1: missing; write wrapped_path: auth/approle/role/NAME/secret-id",
        ),
        (
            "{method: approle, role_id_file: /r, secret_id_file: /s, wrapped_path: auth/approle/role/a/secret-id}",
            "wrapped_path: line 1: wrapped_path without secret_id_wrapped; set secret_id_wrapped: true, or remove it",
        ),
        (
            "{method: approle, role_id_file: /r, secret_id_file: /s, secret_id_wrapped: true, wrapped_path: sys/wrapping/wrap}",
            "wrapped_path: line 1: not a path that makes a secret id; write where the wrapping token was made: auth/approle/role/NAME/secret-id",
        ),
    ] {
        check(&format!("identities: {{reports: {text}}}\n"), &[&format!("identities.reports.{expected}")]);
    }
    check(
        "identities: {reports: {method: cert}}\n",
        &[
            "identities.reports: line 1: method cert without a client certificate to show; set vault.client_cert: {cert_file: …, key_file: …}",
        ],
    );
}

#[test]
fn each_kind_of_secret_has_its_own_keys() {
    for (text, expected) in [
        ("kind: kv", "path: line 1: missing; write path: MOUNT/PATH, as in secret/payments/stripe"),
        (
            "kind: kv, path: secret",
            "path: line 1: a path in Vault of one segment; write MOUNT/PATH, as in secret/payments/stripe",
        ),
        (
            "kind: kv, path: /secret/a",
            "path: line 1: a path in Vault that begins or ends with a slash; write MOUNT/PATH, as in secret/payments/stripe",
        ),
        (
            "kind: kv, path: secret/../sys/seal",
            "path: line 1: a path in Vault with an empty, `.` or `..` segment; write MOUNT/PATH, as in secret/payments/stripe",
        ),
        (
            "kind: kv, path: secret/a, refesh: 5s",
            "refesh: line 1: unknown key \"refesh\"; did you mean refresh?",
        ),
        (
            "kind: kv, path: secret/a, version: 0",
            "version: line 1: 0 is out of range; write 1 to 18446744073709551615",
        ),
        (
            "kind: kv, path: secret/a, ttl: 1m",
            "ttl: line 1: unknown key \"ttl\"; known here: identity, kind, grace, path, field, refresh, max_stale, version",
        ),
        (
            "kind: lease, path: db/creds/a, method: GET, params: {a: 1}",
            "method: line 1: GET with params: a plain read takes none; write POST, or remove params",
        ),
        (
            "kind: lease, path: db/creds/a, params: [1]",
            "params: line 1: a list stands here; write keys and values here",
        ),
        ("kind: token", "policies: line 1: missing; write policies: [ci-read]"),
        ("kind: token, policies: []", "policies: line 1: an empty list; write at least one policy"),
        ("kind: token, policies: [a], ttl: 5s", "ttl: line 1: 5s is out of range; write 30s to 365d"),
        (
            "kind: certificate, path: pki/issue/w, renew_at: 0.99",
            "renew_at: line 1: 0.99 is out of range; write 0.1 to 0.95",
        ),
        (
            "kind: certificate, path: pki/issue/w, renew_at: soon",
            "renew_at: line 1: a text stands here; write a number, as in 0.66",
        ),
    ] {
        check(
            &format!("secrets: {{stripe: {{identity: reports, {text}}}}}\n"),
            &[&format!("secrets.stripe.{expected}")],
        );
    }
    check(
        "secrets: {Stripe: {identity: reports, kind: kv, path: s/a}, stripe: {identity: nobody, kind: kv, path: s/a}}\n",
        &[
            "secrets.Stripe: line 1: the key \"Stripe\" is not a name; names are 1 to 63 of a-z, 0-9 and -",
            "secrets.stripe.identity: line 1: there is no identity \"nobody\"; write the name of one of identities",
        ],
    );
}

fn workload(body: &str) -> String {
    format!("workloads:\n  job: {{{body}, rules: [{{name: keys, secrets: [stripe]}}]}}\n")
}

#[test]
fn a_socket_must_be_made_and_reached() {
    let of_85 = "x".repeat(85);
    let of_86 = "x".repeat(86);
    let long = "d/".repeat(200);
    check(&workload(&format!("socket: {{path: /{long}{of_85}}}, peer: {{uid: 1}}")), &[]);
    for (text, expected) in [
        ("path: job.sock".to_owned(), "path: line 2: a path that is not absolute; write it from / on"),
        (
            "path: /run/../job.sock".to_owned(),
            "path: line 2: a path with `.` or `..` in it; write where it really is",
        ),
        ("path: /run/claviger/".to_owned(), "path: line 2: a path that ends in a slash; leave the slash out"),
        (
            format!("path: /run/{of_86}"),
            "path: line 2: a socket file name of 86 bytes; use at most 85: /proc/self/fd/N/ in front of it must fit into 107 bytes; the directory may be as long as you like",
        ),
        (
            "path: /s, mode: 666".to_owned(),
            "mode: line 2: a number stands here; write a text: put it in quotes",
        ),
        (
            "path: /s, mode: \"0999\"".to_owned(),
            "mode: line 2: not a file mode; write three octal digits after a zero, in quotes, as in \"0666\"",
        ),
        (
            "path: /s, mode: \"4666\"".to_owned(),
            "mode: line 2: not a file mode; write three octal digits after a zero, in quotes, as in \"0666\"",
        ),
        (
            "path: /s, sockets_dir: t".to_owned(),
            "sockets_dir: line 2: a path that is not absolute; write it from / on",
        ),
    ] {
        check(
            &workload(&format!("socket: {{{text}}}, peer: {{uid: 1}}")),
            &[&format!("workloads.job.socket.{expected}")],
        );
    }
    check(
        "workloads:\n  a: {socket: {path: /run/a.sock}, peer: {uid: 1}, rules: [{name: k, secrets: [stripe]}]}\n\
         \x20 b: {socket: {path: /run//a.sock}, peer: {uid: 1}}\n",
        &[
            "workloads.b.socket.path: line 3: the socket of another workload, of line 2; give each workload a socket of its own, in a directory of its own",
        ],
    );
    check(
        "workloads: {a: {peer: {uid: 1}, rules: []}}\n",
        &["workloads.a.socket: line 1: missing; write socket: {path: /run/claviger/NAME/claviger.sock}"],
    );
}

#[test]
fn a_mode_that_shuts_the_peer_out_is_refused() {
    const RIGHT: &str = "use \"0666\": the mount and the kernel's identity of the peer are the boundary";
    // We are 10001:10001.
    for (mode, peer, shut_out) in [
        ("0666", "uid: 1", None),
        ("0222", "uid: 1", None),
        ("0660", "uid: 0", None),
        ("0600", "uid: 10001", None),
        ("0660", "uid: 1, gid: 10001", None),
        ("0660", "uid: 1, groups: [10001]", None),
        ("0660", "gid: 10001", None),
        ("0600", "level: reach", None),
        ("0660", "uid: 1", Some("a peer that is neither our uid nor of our group")),
        ("0660", "uid: 1, gid: 1", Some("a peer that is neither our uid nor of our group")),
        ("0600", "uid: [10001, 1]", Some("a peer that is neither our uid nor of our group")),
        ("0606", "uid: 1, gid: 10001", Some("a peer of our own group")),
        ("0066", "uid: 10001", Some("our own uid")),
        ("0444", "level: reach", Some("anybody")),
    ] {
        let expected = shut_out.map(|who| {
            format!("workloads.job.socket.mode: line 2: mode {mode} cannot be connected to by {who}; {RIGHT}")
        });
        let text = workload(&format!("socket: {{path: /s, mode: \"{mode}\"}}, peer: {{{peer}}}"));
        check(&text, expected.as_deref().as_slice());
    }
}

#[test]
fn a_peer_is_named_by_ids_that_mean_somebody() {
    for (peer, expected) in [
        ("uid: root", "uid: line 2: a text stands here; write a whole number"),
        (
            "uid: \"20001\"",
            "uid: line 2: \"20001\" is a text; write the number without quotes and leading zeros",
        ),
        ("uid: 4294967295", "uid: line 2: 4294967295 is out of range; write 0 to 4294967294"),
        ("uid: []", "uid: line 2: an empty list; write at least one id, or remove the key"),
        ("uid: [1, x]", "uid[1]: line 2: a text stands here; write a whole number"),
    ] {
        check(
            &workload(&format!("socket: {{path: /s}}, peer: {{{peer}}}")),
            &[&format!("workloads.job.peer.{expected}")],
        );
    }
    check(
        &workload("socket: {path: /s}, peer: {uid: 1, level: reach}"),
        &[
            "workloads.job.peer: line 2: level reach proves no uid, gid or groups; remove them, or write level: user",
        ],
    );
    let text = workload("socket: {path: /s}, peer: {uid: 65534, gid: [1, 65534]}");
    check(&text, &[]);
    let partial = Environment { uid_map_is_full: false, gid_map_is_full: false, ..environment() };
    const STRANGER: &str = "65534 is what every user from outside our user namespace looks like; give the workload an id of its own (runAsUser, runAsGroup)";
    check_in(
        &partial,
        &text,
        &[
            &format!("workloads.job.peer.uid: line 2: {STRANGER}"),
            &format!("workloads.job.peer.gid[1]: line 2: {STRANGER}"),
        ],
    );
}

/// A SHA-256 in hex.
const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn a_program_is_named_by_its_digest_at_level_program_and_at_no_other() {
    const NO_DIGEST: &str = "not a SHA-256 in hex; write the 64 digits that sha256sum prints, in quotes";
    let other = |level| {
        format!(
            "program: line 2: level {level} does not look at the program; write level: program beside it, or remove it"
        )
    };
    for (peer, expected) in [
        (format!("level: program, program: {{exe_sha256: {DIGEST}}}"), None),
        (
            format!("level: program, program: {{exe_sha256: [{DIGEST}, {DIGEST}], mappings: {{allow_prefix: [/opt/lib], anon_exec: allow}}, no_new_privs: true, seccomp: true, ancestry: container-main, tty: deny, accept_steerable: true}}"),
            None,
        ),
        (
            "level: program".to_owned(),
            Some("program: line 2: missing; write program: {exe_sha256: DIGEST}, with the digest that sha256sum prints".to_owned()),
        ),
        (
            "level: program, program: {tty: deny}".to_owned(),
            Some("program.exe_sha256: line 2: missing; write exe_sha256: the digest that sha256sum prints, or a list".to_owned()),
        ),
        (format!("program: {{exe_sha256: {DIGEST}}}"), Some(other("process"))),
        (format!("level: container, program: {{exe_sha256: {DIGEST}}}"), Some(other("container"))),
        (
            "level: program, program: {exe_sha256: ab}".to_owned(),
            Some(format!("program.exe_sha256: line 2: {NO_DIGEST}")),
        ),
        (
            format!("level: program, program: {{exe_sha256: [{DIGEST}, sha256-{DIGEST}]}}"),
            Some(format!("program.exe_sha256[1]: line 2: {NO_DIGEST}")),
        ),
        (
            format!("level: program, program: {{exe_sha256: +{}}}", &DIGEST[1..]),
            Some(format!("program.exe_sha256: line 2: {NO_DIGEST}")),
        ),
        (
            "level: program, program: {exe_sha256: []}".to_owned(),
            Some("program.exe_sha256: line 2: 0 digests; write 1 to 16 of them".to_owned()),
        ),
        (
            format!("level: program, program: {{exe_sha256: {DIGEST}, ancestry: main}}"),
            Some("program.ancestry: line 2: \"main\" is not known here; write one of any, container-main".to_owned()),
        ),
    ] {
        let expected = expected.map(|expected| format!("workloads.job.peer.{expected}"));
        let text = workload(&format!("socket: {{path: /s}}, peer: {{uid: 1, {peer}}}"));
        check(&text, expected.as_deref().as_slice());
    }
    let lacking = Environment { container: Support::Lacking("cgroups of version 2"), ..environment() };
    let text = workload(&format!(
        "socket: {{path: /s}}, peer: {{uid: 1, level: program, program: {{exe_sha256: {DIGEST}}}}}"
    ));
    check_in(
        &lacking,
        &text,
        &[
            "workloads.job.peer.level: line 2: this kernel cannot prove level program: it lacks cgroups of version 2; run on Linux 6.13 or later with cgroups of version 2, or write level: process if that is enough",
        ],
    );
}

#[test]
fn the_program_that_is_read_is_the_one_that_is_required() {
    let text = workload(&format!(
        "socket: {{path: /s}}, peer: {{uid: 1, level: program, program: {{exe_sha256: {DIGEST}, mappings: {{allow_prefix: [/opt/lib]}}, tty: deny}}}}"
    ));
    let config = parse(&document(&text), &environment()).unwrap().config;
    let peer =
        &config.workloads.iter().find(|workload| workload.listener.workload.as_str() == "job").unwrap().peer;
    let mut expected = program::Settings::of(vec![crate::crypto::sha256(b"abc")]);
    expected.allow_prefix = vec!["/opt/lib".into()];
    expected.tty = program::Allowance::Deny;
    assert_eq!(peer.program.as_deref(), Some(&expected));
}

#[test]
fn rules_name_what_there_is() {
    for (rules, expected) in [
        (
            "[{name: a, secrets: [stripe]}, {name: a, secrets: [stripe]}]",
            "rules[1].name: line 1: \"a\" is used twice; names are unique in a workload",
        ),
        (
            "[{name: a, secrets: [stripe, strip]}]",
            "rules[0].secrets[1]: line 1: there is no secret \"strip\"; did you mean \"stripe\"?",
        ),
        (
            "[{name: a, secrets: []}]",
            "rules[0].secrets: line 1: an empty list; name at least one secret, or remove the rule",
        ),
        ("[{name: a}]", "rules[0]: line 1: a rule without a subject; write secrets: [NAME]"),
        ("[{secrets: [stripe]}]", "rules[0].name: line 1: missing; write name: what events call this rule"),
        (
            "[{name: A, secrets: [stripe]}]",
            "rules[0].name: line 1: \"A\" is not a name; names are 1 to 63 of a-z, 0-9 and -",
        ),
        (
            "[{name: a, secrets: [stripe], audit: buffered}]",
            "rules[0].audit: line 1: buffered is weaker than audit.mode, which is strict; a rule can only ask for more: remove it",
        ),
        (
            "[{name: a, secrets: [stripe], calls_per_day: 5}]",
            "rules[0].calls_per_day: line 1: calls_per_day in a rule without `upstream`; write upstream: NAME, or remove it",
        ),
        (
            "[{name: a, secrets: [stripe], also_readable: true}]",
            "rules[0].also_readable: line 1: also_readable in a rule without `upstream`; write upstream: NAME, or remove it",
        ),
        (
            "[{name: a, secret: [stripe], secrets: [stripe]}]",
            "rules[0].secret: line 1: unknown key \"secret\"; did you mean secrets?",
        ),
        ("{a: {secrets: [stripe]}}", "rules: line 1: a map stands here; write a list: [a, b]"),
    ] {
        check(
            &format!("workloads: {{job: {{socket: {{path: /s}}, peer: {{uid: 1}}, rules: {rules}}}}}\n"),
            &[&format!("workloads.job.{expected}")],
        );
    }
}

#[test]
fn events_may_be_kept_by_best_effort_and_a_rule_may_ask_for_more() {
    let config = |rule: &str| {
        let rules = format!("[{{name: a, secrets: [stripe]{rule}}}]");
        let job = format!("{{socket: {{path: /s}}, peer: {{uid: 1}}, rules: {rules}}}");
        load(&format!("audit: {{mode: best-effort, journal: {{dir: /j}}}}\nworkloads: {{job: {job}}}\n"))
            .config
    };
    let (plain, strict) = (config(""), config(", audit: strict"));
    assert_eq!((plain.audit.mode, plain.needs_journal()), (AuditMode::BestEffort, false));
    assert_eq!(strict.workloads[0].policy.rules[0].audit, Some(AuditMode::Strict));
    assert!(strict.needs_journal());
}

#[test]
fn strict_remote_needs_a_required_sink_that_is_not_on_this_machine() {
    let config = |mode: &str, rule: &str, sink: &str| {
        let job = format!(
            "{{socket: {{path: /s}}, peer: {{uid: 1}}, rules: [{{name: a, secrets: [stripe], audit: {rule}}}]}}"
        );
        format!(
            "audit: {{mode: {mode}, journal: {{dir: /j}}, sinks: {{a: {sink}}}}}\nworkloads: {{job: {job}}}\n"
        )
    };
    let problem = "audit: line 1: strict-remote, and no required sink that is not on this machine; set required: true in a \
                   sink of kind http, otlp, splunk or syslog (tls or tcp)";
    for sink in ["{kind: stdout, required: true}", "{kind: http, url: \"https://siem/\"}"] {
        check(&config("strict", "strict-remote", sink), &[problem]);
        check(&config("strict-remote", "strict-remote", sink), &[problem]);
        load(&config("strict", "strict", sink));
    }
    let there = "{kind: http, url: \"https://siem/\", required: true}";
    let config = load(&config("strict", "strict-remote", there)).config;
    assert_eq!(config.workloads[0].policy.rules[0].audit, Some(AuditMode::StrictRemote));
}

#[test]
fn the_journal_has_room_for_two_segments() {
    for (journal, expected) in [
        ("{max_size: 64MiB}", "dir: line 1: missing; write dir: /var/lib/claviger/audit"),
        ("{dir: audit}", "dir: line 1: a path that is not absolute; write it from / on"),
        ("{dir: /j, max_size: 4MiB}", "max_size: line 1: 4MiB is out of range; write 8MiB to 1024GiB"),
        ("{dir: /j, segment: 512KiB}", "segment: line 1: 512KiB is out of range; write 1MiB to 64MiB"),
        (
            "{dir: /j, max_size: 8MiB, segment: 5MiB}",
            "segment: line 1: a segment of more than half of max_size; let at least two segments fit into max_size",
        ),
        ("{dir: /j, retain: 1}", "retain: line 1: 1 has no unit; write 1s if seconds are meant"),
    ] {
        check(&format!("audit: {{journal: {journal}}}\n"), &[&format!("audit.journal.{expected}")]);
    }
}

/// A sink `a`, and what is said of it under `audit.sinks`.
const MISTAKES: &[(&str, &str)] = &[
    (
        "{kind: ftp}",
        "a.kind: line 1: \"ftp\" is not known here; did you mean http? It is one of stdout, file, http, otlp, syslog, splunk",
    ),
    ("{format: ocsf}", "a.kind: line 1: missing; write kind: stdout"),
    (
        "{kind: stdout, colour: red}",
        "a.colour: line 1: unknown key \"colour\"; known here: kind, format, required",
    ),
    (
        "{kind: stdout, format: xml}",
        "a.format: line 1: \"xml\" is not known here; write one of native, cloudevents, ocsf, ecs",
    ),
    ("{kind: stdout, required: 1}", "a.required: line 1: a number stands here; write true or false"),
    ("{kind: file}", "a.path: line 1: missing; write path: /var/log/claviger/audit.jsonl"),
    ("{kind: file, path: x}", "a.path: line 1: a path that is not absolute; write it from / on"),
    (
        "{kind: file, path: /j/x}",
        "a: line 1: a file in the journal's directory; write it to a directory of its own",
    ),
    (
        "{kind: file, path: /x, max_size: 1KiB}",
        "a.max_size: line 1: 1KiB is out of range; write 1MiB to 1024GiB",
    ),
    ("{kind: file, path: /x, keep: 101}", "a.keep: line 1: 101 is out of range; write 0 to 100"),
    ("{kind: http}", "a.url: line 1: missing; write url: https://siem.internal/events"),
    ("{kind: http, url: siem}", "a.url: line 1: not an address; write https://HOST:PORT/PATH"),
    (
        "{kind: http, url: \"http://siem/x\"}",
        "a.url: line 1: plain http to another machine: whoever is on the way reads who used which key; write https, or set insecure_http: true beside it",
    ),
    (
        "{kind: http, url: \"https://u:hunter2@siem/\"}",
        "a.url: line 1: an address with a user or a password in it; put what proves who we are into a file",
    ),
    (
        "{kind: http, url: \"https://siem/#x\"}",
        "a.url: line 1: an address with a fragment; leave out # and what follows it",
    ),
    (
        "{kind: http, url: \"https://siem/\", timeout: 1ms}",
        "a.timeout: line 1: 1ms is out of range; write 100ms to 5m",
    ),
    (
        "{kind: http, url: \"https://siem/\", client_cert: {cert_file: /c}}",
        "a.client_cert.key_file: line 1: missing; write key_file: /etc/claviger/siem.key",
    ),
    (
        "{kind: otlp, url: \"https://c:4318\"}",
        "a.url: line 1: not the address of OTLP's logs; write it with its path, which ends in /v1/logs",
    ),
    (
        "{kind: otlp, url: \"https://c/v1/logs\", format: ecs}",
        "a.format: line 1: a format for otlp, which has a form of its own; remove it",
    ),
    (
        "{kind: splunk, url: \"https://s:8088/x\", token_file: /t}",
        "a.url: line 1: an address with a path or a query; write https://HOST:PORT and nothing after it",
    ),
    (
        "{kind: splunk, url: \"https://s:8088\"}",
        "a.token_file: line 1: missing; write token_file: /etc/claviger/splunk-token",
    ),
    (
        "{kind: syslog, address: \"udp://s\"}",
        "a.address: line 1: not the address of a syslog receiver; write tls://HOST:PORT, tcp://HOST:PORT or unix:///dev/log",
    ),
    (
        "{kind: syslog, address: \"tls://s/x\"}",
        "a.address: line 1: not the address of a syslog receiver; write tls://HOST:PORT, tcp://HOST:PORT or unix:///dev/log",
    ),
    (
        "{kind: syslog, address: \"tcp://s:601\"}",
        "a.address: line 1: plain TCP to another machine: whoever is on the way reads who used which key; write tls://, or set insecure_tcp: true beside it",
    ),
    (
        "{kind: syslog, address: \"unix:///dev/log\", ca_file: /c}",
        "a: line 1: ca_file or client_cert for an address without TLS; remove them, or write a tls:// address",
    ),
    (
        "{kind: syslog, address: \"tls://s\", facility: kern}",
        "a.facility: line 1: \"kern\" is not known here; write one of user, daemon, auth, authpriv, audit, local0, local1, local2, local3, local4, local5, local6, local7",
    ),
    (
        "{kind: syslog, address: \"tls://s\", app_name: \"a b\"}",
        "a.app_name: line 1: not a name that syslog takes; write 1 to 48 printable ASCII characters",
    ),
    (
        "{kind: stdout}, b: {kind: stdout}",
        "b: line 1: a second sink of kind stdout; keep one: both would write the same lines to one place",
    ),
    (
        "{kind: file, path: /x}, b: {kind: file, path: /x}",
        "b: line 1: a second sink that writes to this file; give each a file of its own",
    ),
];

#[test]
fn every_mistake_in_a_sink_is_named_with_its_remedy() {
    for (text, expected) in MISTAKES {
        check(
            &format!("audit: {{journal: {{dir: /j}}, sinks: {{a: {text}}}}}\n"),
            &[&format!("audit.sinks.{expected}")],
        );
    }
    // All at once.
    check(
        "audit: {journal: {dir: /j}, sinks: {a: {kind: http, url: x, timout: 1s}, b: {kind: file, keep: -1}}}\n",
        &[
            "audit.sinks.a.url: line 1: not an address; write https://HOST:PORT/PATH",
            "audit.sinks.a.timout: line 1: unknown key \"timout\"; did you mean timeout?",
            "audit.sinks.b.path: line 1: missing; write path: /var/log/claviger/audit.jsonl",
            "audit.sinks.b.keep: line 1: -1 is out of range; write 0 to 100",
        ],
    );
}

#[test]
fn sinks_of_every_kind_are_read() {
    use crate::audit::sink::{
        Format, Need,
        settings::{Ack, Address, Kind},
    };
    let sinks = load(
        "audit:\n  journal: {dir: /j}\n  sinks:\n\
         \x20   a: {kind: stdout, format: cloudevents}\n\
         \x20   b: {kind: file, path: /var/log/audit.jsonl, required: true}\n\
         \x20   c: {kind: http, url: \"http://127.0.0.1:8/x\", hmac_key_file: /k, bearer_file: /b, ca_file: /c, timeout: 1s}\n\
         \x20   d: {kind: otlp, url: \"http://collector:4318/v1/logs\", insecure_http: true}\n\
         \x20   e: {kind: syslog, address: \"tls://syslog.internal\", ca_file: /c, facility: local3, format: ocsf}\n\
         \x20   f: {kind: syslog, address: \"unix:///dev/log\"}\n\
         \x20   g: {kind: syslog, address: \"tcp://[::1]:6001\", max_message: 2KiB}\n\
         \x20   h: {kind: splunk, url: \"https://splunk:8088\", token_file: /t, index: audit, ack: true, format: ecs}\n",
    )
    .config
    .audit
    .sinks;
    let needs: Vec<bool> = sinks.iter().map(|sink| sink.required == Need::Required).collect();
    assert_eq!(needs, [false, true, false, false, false, false, false, false]);
    assert_eq!(
        (sinks[0].format, sinks[4].format, sinks[7].format),
        (Format::CloudEvents, Format::Ocsf, Format::Ecs)
    );
    let Kind::Http(http) = &sinks[2].kind else { panic!() };
    assert_eq!((http.to.timeout, http.to.tls.ca_file.is_some()), (Duration::from_secs(1), true));
    let address = |place: usize| match &sinks[place].kind {
        Kind::Syslog(syslog) => (syslog.address.clone(), syslog.facility, syslog.max_message),
        _ => panic!(),
    };
    let (host, port) = ("syslog.internal".to_owned(), 6514);
    assert_eq!(address(4), (Address::Tls { host, port }, 19, 8192));
    assert_eq!(address(5), (Address::Unix("/dev/log".into()), 10, 8192));
    assert_eq!(address(6), (Address::Tcp { host: "::1".into(), port: 6001 }, 10, 2048));
    let Kind::Splunk(splunk) = &sinks[7].kind else { panic!() };
    assert_eq!((splunk.index.as_deref(), splunk.ack), (Some("audit"), Ack::Indexed));
}

#[test]
fn a_handoff_needs_more_grace_than_the_usual() {
    let config = |rest: &str| {
        format!("audit: {{journal: {{dir: /j}}, handoff: {{mount: kv, path: p, identity: reports}}}}\n{rest}")
    };
    let expected = "audit.handoff: line 1: a handoff with a shutdown.grace of 5s or less; write shutdown: {grace: 10s} or \
                    more, and a longer terminationGracePeriodSeconds";
    check(&config(""), &[expected]);
    check(&config("shutdown: {grace: 5s}\n"), &[expected]);
    check(&config("shutdown: {grace: 6s}\n"), &[]);
}

#[test]
fn the_rest_of_audit_is_refused_by_name() {
    for (text, expected) in [
        (
            "handoff: {mount: kv, path: a}",
            "handoff.identity: line 1: missing; write identity: one of identities",
        ),
        (
            "fingerprint_key: key",
            "fingerprint_key: line 1: a path in Vault of one segment; write MOUNT/PATH, as in secret/payments/stripe",
        ),
    ] {
        check(&format!("audit: {{journal: {{dir: /j}}, {text}}}\n"), &[&format!("audit.{expected}")]);
    }
    for (text, expected) in [
        (
            "{signer: boot, ancor: {mount: kv, path: a}}",
            ".ancor: line 1: unknown key \"ancor\"; did you mean anchor?",
        ),
        ("{}", ".signer: line 1: missing; write signer: boot"),
        (
            "{signer: transit}",
            ": line 1: signer: transit without a key; write key: transit/NAME, an ed25519 key in Vault's transit engine",
        ),
        (
            "{signer: boot, key: transit/audit}",
            ": line 1: a key or an anchor in Vault without an identity; write identity: NAME, one of identities",
        ),
    ] {
        let config = format!("audit: {{journal: {{dir: /j}}, checkpoints: {text}}}\n");
        check(&config, &[&format!("audit.checkpoints{expected}")]);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a slip")]
fn a_rotation_is_coordinated_by_a_lease_of_its_own_in_a_namespace_that_is_known() {
    let rotation = "kind: generate, identity: reports, path: secret/a, field: key, journal: {mount: kv, path: rotation}, \
                    schedule: {every: 24h}";
    let of = |text: &str| format!("rotations: {{r: {{{rotation}, coordination: {text}}}}}\n");
    let in_pod = Environment {
        cluster: super::Cluster {
            namespace: Some("team-a".to_owned()),
            server: Some("https://10.96.0.1:443".to_owned()),
        },
        ..environment()
    };
    let lease = |text: &str, environment: &Environment| {
        let loaded = parse(&document(&of(text)), environment).unwrap_or_else(|rejected| panic!("{rejected}"));
        let settings = loaded.config.rotations[0].coordination.kubernetes().unwrap().clone();
        format!("{} at {}", settings.place(), settings.server)
    };
    assert_eq!(lease("kubernetes", &in_pod), "team-a/rot-r at https://10.96.0.1/");
    assert_eq!(
        lease("{kubernetes: {namespace: b, lease: c.d}}", &environment()),
        "b/c.d at https://kubernetes.default.svc/"
    );
    assert_eq!(
        lease("{kubernetes: {server: \"https://k:6443\"}}", &in_pod),
        "team-a/rot-r at https://k:6443/"
    );
    for (text, expected) in [
        (
            "kubernetes",
            ".coordination: line 1: a Lease in no namespace: CLAVIGER_NAMESPACE, which the chart gives the sidecar, is not set \
             here; write {kubernetes: {namespace: NAME}}, or set CLAVIGER_NAMESPACE",
        ),
        (
            "zookeeper",
            ".coordination: line 1: \"zookeeper\" is not known here; write one of vault, kubernetes",
        ),
        (
            "{kubernetes: {namespace: Team, lease: a}}",
            ".coordination.kubernetes.namespace: line 1: not a name of Kubernetes; write 1 to 63 of a-z, 0-9 and -, with no - at \
             either end",
        ),
        (
            "{kubernetes: {namespace: a, lease: a-}}",
            ".coordination.kubernetes.lease: line 1: not a name of Kubernetes; write a-z, 0-9, - and ., each part between dots \
             with no - at either end",
        ),
        (
            "{kubernetes: {namespace: a, server: \"http://k\"}}",
            ".coordination.kubernetes.server: line 1: not the URL of an API server; write https://HOST:PORT, as in \
             https://kubernetes.default.svc",
        ),
        (
            "{kubernetes: {namespace: a, name: b}}",
            ".coordination.kubernetes.name: line 1: unknown key \"name\"; known here: namespace, lease, server, ca_file, token_file",
        ),
    ] {
        check(&of(text), &[&format!("rotations.r{expected}")]);
    }
    let two = "coordination: {kubernetes: {namespace: a, lease: b}}";
    let other = rotation.replace("secret/a", "secret/b");
    check(
        &format!("rotations: {{r: {{{rotation}, {two}}}, s: {{{other}, {two}}}}}\n"),
        &[
            "rotations.s: line 1: it has the Lease of rotations.r; write another coordination.kubernetes.lease: each rotation needs \
           one of its own",
        ],
    );
    let (vault, kubernetes) = (of("vault"), of("{kubernetes: {namespace: a}}"));
    check_change(&vault, &kubernetes, Err("rotations.r.coordination"));
    let port = kubernetes.replace("namespace: a", "namespace: a, server: \"https://k:1\"");
    // One that comes while running needs its port and its files.
    check_inside("", &port, Err("rotations.r.coordination"));
}

#[test]
fn acks_are_awaited_of_a_number_of_consumers_and_not_for_ever() {
    let rotation = "kind: generate, identity: reports, path: secret/a, field: key, grace: 1h, \
                    journal: {mount: kv, path: rotation}, schedule: {every: 24h}";
    for (keys, expected) in [
        ("revoke_when: both, consumers: 3", None),
        ("revoke_when: acked, consumers: 3, max_grace: 2h", None),
        (
            "revoke_when: both",
            Some(".revoke_when: line 1: acks are awaited, but not of how many; write consumers: N"),
        ),
        (
            "consumers: 3",
            Some(
                ": line 1: acks are counted, and nothing waits for them; write revoke_when: acked or both, or remove consumers and max_grace",
            ),
        ),
        (
            "revoke_when: both, consumers: 3, max_grace: 1h",
            Some(
                ": line 1: a max_grace that is not longer than the grace; write a longer max_grace, or a grace where there is none",
            ),
        ),
        (
            "revoke_when: both, consumers: 3, max_grace: 24h",
            Some(
                ": line 1: a grace that may last beyond the next slot; write a max_grace that is shorter than the time between two slots",
            ),
        ),
    ] {
        let expected: Vec<String> = expected.iter().map(|text| format!("rotations.r{text}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&format!("rotations: {{r: {{{rotation}, {keys}}}}}\n"), &expected);
    }
}

#[test]
fn what_each_replica_does_for_itself_needs_no_journal() {
    let secrets = "secrets: {db: {identity: reports, kind: lease, path: database/creds/db}, key: {identity: reports, kind: kv, path: secret/key}}\n\
                   workloads: {job: {socket: {path: /run/claviger/job.sock}, peer: {uid: 7}, rules: [{name: a, secrets: [db, key]}]}}\n";
    let follow = "kind: follow, identity: reports";
    for (rotation, expected) in [
        (format!("{follow}, path: database/static-creds/app"), None),
        (format!("{follow}, path: transit/keys/orders, schedule: {{every: 24h}}"), None),
        (
            format!(
                "{follow}, path: secret/a, evidence: {{path: secret/metadata/a, field: current_version}}"
            ),
            None,
        ),
        ("kind: lease, secret: db, schedule: {every: 12h}".to_owned(), None),
        (
            format!("{follow}, path: secret/a"),
            Some(
                ": line 3: nothing says whether Vault has rotated; write evidence: {path: secret/metadata/app, field: current_version}, of what changes with it",
            ),
        ),
        (
            format!("{follow}, path: database/static-creds/app, journal: {{mount: kv, path: r}}"),
            Some(
                ".journal: line 3: unknown key \"journal\"; known here: kind, identity, path, evidence, schedule",
            ),
        ),
        (
            "kind: lease, secret: key, schedule: {every: 12h}".to_owned(),
            Some(".secret: line 3: a secret of another kind than lease; name a secret with kind: lease"),
        ),
        (
            "kind: lease, secret: db".to_owned(),
            Some(".schedule: line 3: missing; write schedule: {every: 12h}"),
        ),
    ] {
        let expected: Vec<String> = expected.iter().map(|text| format!("rotations.r{text}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&format!("{secrets}rotations: {{r: {{{rotation}}}}}\n"), &expected);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a slip")]
fn a_rotation_says_what_and_when_and_slips_are_found() {
    let whole =
        "kind: generate, identity: reports, path: secret/a, field: key, journal: {mount: kv, path: rotation}";
    let cron = "schedule: {cron: \"0 3 * * SUN\", tz: Europe/Berlin}";
    for good in [
        format!("{whole}, {cron}"),
        format!(
            "{whole}, {cron}, length: 24, alphabet: abc, grace: 24h, coordination: vault, revoke_when: time"
        ),
        format!(
            "{whole}, {cron}, policy: strong, blackout: [2026-12-20/2027-01-03], group: {{name: a, min_gap: 5m}}"
        ),
        format!("{whole}, schedule: {{every: 6h}}, missed: {{max_age: 24h}}, min_interval: 40s, grace: 1h"),
    ] {
        check(&format!("rotations: {{r: {{{good}}}}}\n"), &[]);
    }
    for (rotation, expected) in [
        (
            whole.to_owned(),
            ".schedule: line 1: missing; write schedule: {cron: \"0 3 * * SUN\", tz: Europe/Berlin}",
        ),
        (
            format!("{whole}, schedule: {{cron: \"0 0 3 * * *\", tz: UTC}}"),
            ".schedule.cron: line 1: no cron of five fields: it has 6 fields; write MINUTE HOUR DAY MONTH WEEKDAY, or @hourly, @daily, @weekly or @monthly",
        ),
        (
            format!("{whole}, schedule: {{cron: \"0 3 * * *\", tz: Mars/Olympus}}"),
            ".schedule.tz: line 1: a time zone that is not known; write an IANA name, as in Europe/Berlin or UTC",
        ),
        (
            format!("{whole}, schedule: {{cron: \"0 3 * * *\"}}"),
            ".schedule: line 1: a cron without a time zone; write tz: Europe/Berlin, or tz: UTC",
        ),
        (
            format!("{whole}, schedule: {{every: 6h, jitter: 1h}}"),
            ".schedule.jitter: line 1: a jitter as long as the window; make it shorter than window",
        ),
        (
            format!("{whole}, schedule: {{every: 6h}}, missed: {{policy: skip}}"),
            ".missed.policy: line 1: a policy for slots of `every`: a run that is late begins as soon as it can; remove it",
        ),
        (
            format!("{whole}, {cron}, missed: {{max_lateness: 3h}}"),
            ".missed.max_lateness: line 1: a max_lateness without policy: once; write policy: once, or remove it",
        ),
        (
            format!("{whole}, {cron}, min_interval: 39s"),
            ".min_interval: line 1: 39s is out of range; write 40s to 365d",
        ),
        (
            format!("{whole}, schedule: {{cron: \"*/2 * * * *\", tz: UTC}}"),
            ": line 1: slots that are nearer to each other than min_interval; write a schedule with fewer slots, or a shorter min_interval",
        ),
        (
            format!("{whole}, {cron}, grace: 7d"),
            ".grace: line 1: a grace that is not over before the next slot; make it shorter than the time between two slots",
        ),
        (
            format!("{whole}, {cron}, blackout: [xmas]"),
            ".blackout[0]: line 1: no blackout; write \"2026-12-20/2027-01-03\" or \"Mon-Fri 09:00-17:00 America/New_York\"",
        ),
        (
            format!("{whole}, {cron}, policy: strong, length: 30"),
            ": line 1: a policy beside a length or an alphabet; write one of the two",
        ),
        (
            format!("{whole}, {cron}, approval: two"),
            ".approval: line 1: there is no approval \"two\"; write the name of one of approvals",
        ),
        (
            format!("{whole}, {cron}, lead_time: 1h"),
            ".lead_time: line 1: a lead_time, and nobody who is asked; write approval: NAME, or remove it",
        ),
        (
            format!("{}, {cron}", whole.replace("secret/a", "kv/rotation/r")),
            ": line 1: its journal is where the secret is; write another journal.path: a journal would push versions of the secret out",
        ),
        (
            format!(
                "kind: trigger, identity: reports, path: database/rotate-role/app, journal: {{mount: kv, path: r}}, {cron}, grace: 1h"
            ),
            ".grace: line 1: a grace of what Vault rotates: it has no value before the newest; remove it",
        ),
    ] {
        let expected = format!("rotations.r{expected}");
        check(&format!("rotations: {{r: {{{rotation}}}}}\n"), &[expected.as_str()]);
    }
    let approvals =
        "approvals: {two: {kind: signed, store: {mount: kv, path: a}, approvers: {a: {entity_id: e}}}}";
    check(
        &format!("{approvals}\nrotations: {{r: {{{whole}, {cron}, approval: two, lead_time: 4h}}}}\n"),
        &[],
    );
    check(
        &format!("{approvals}\nrotations: {{r: {{{whole}, {cron}, approval: two, lead_time: 7d}}}}\n"),
        &[
            "rotations.r.lead_time: line 2: a lead_time as long as the time between two slots; make it shorter: persons are asked for one slot at a time",
        ],
    );
    check(
        &format!("rotations: {{r: {{{whole}, {cron}}}, s: {{{whole}, {cron}}}}}\n"),
        &["rotations.s: line 1: it rotates what rotations.r rotates; write one rotation for each path"],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a slip")]
fn a_credential_of_another_system_says_whose_and_how() {
    let all =
        "identity: reports, path: secret/a, journal: {mount: kv, path: rotation}, schedule: {every: 6h}";
    let upstream = "upstreams: {api: {url: https://api.example, inject: {secret: stripe, header: X-Key}}}\n\
                    workloads: {job: {socket: {path: /s}, peer: {uid: 1}, rules: [{name: a, upstream: api, methods: [GET], paths: [\"a\"]}]}}\n";
    let exec = "driver: {exec: {command: [/bin/set, --host, db]}}";
    let http = "driver: {http: {upstream: api, set: {method: PUT, path: \"/u/{user}\", body: {p: \"{value}\"}}, \
                test: {path: /me, headers: {Authorization: \"Basic {basic}\"}, expect: [200], refused: [401]}}}";
    let vault = "driver: {vault: {set: {path: \"auth/userpass/users/{user}/password\", data: {password: \"{value}\"}}, \
                 test: {path: \"auth/userpass/login/{user}\", data: {password: \"{value}\"}}}}";
    for driver in [exec, http, vault] {
        check(
            &format!(
                "{upstream}rotations: {{r: {{kind: two-slot, users: [a, b], grace: 1h, {all}, {driver}}}}}\n"
            ),
            &[],
        );
        check(
            &format!(
                "{upstream}rotations: {{r: {{kind: single, user: a, hold_max: 1s, {all}, {driver}}}}}\n"
            ),
            &[],
        );
    }
    for (rotation, expected) in [
        (
            format!("kind: two-slot, users: [a, a], {exec}"),
            ".users: line 3: not two different users; write the two that take turns, as in [orders_a, orders_b]",
        ),
        (
            format!("kind: single, user: a, grace: 1h, {exec}"),
            ".grace: line 3: a grace of the one password of one user: the old one ends with the new one; remove it, or use kind: two-slot with two users",
        ),
        (
            format!("kind: single, user: a, quarantine: 1h, {exec}"),
            ".quarantine: line 3: a quarantine of the one password of one user: the old one ends with the new one; remove it, or use kind: two-slot with two users",
        ),
        (
            format!("kind: two-slot, users: [a, b], probe: 2d, {exec}"),
            ".probe: line 3: 2d is out of range; write 0s to 1d",
        ),
        (
            format!("kind: two-slot, users: [a, b], quarantine: 30d, {exec}"),
            ": line 3: a quarantine that is not over before the next slot; make grace and quarantine together shorter than the time between two slots",
        ),
        (
            format!("kind: single, user: a, field: username, {exec}"),
            ": line 3: one field for the user and the value; write another field or user_field",
        ),
        (
            "kind: single, user: a, driver: {}".to_owned(),
            ".driver: line 3: not one driver; write one of exec, http and vault",
        ),
        (
            "kind: single, user: a, driver: {exec: {command: [set]}}".to_owned(),
            ".driver.exec.command: line 3: not an absolute path to a program; write /PATH/TO/PROGRAM first, then its arguments",
        ),
        (
            "kind: single, user: a, driver: {exec: {command: [/bin/set], timeout: 10100ms}}".to_owned(),
            ".driver.exec.timeout: line 3: 10s100ms is out of range; write 100ms to 10s",
        ),
        (
            "kind: single, user: a, holder_ttl: 9s, driver: {exec: {command: [/bin/set], timeout: 4s}}"
                .to_owned(),
            ".driver.exec.timeout: line 3: a program that may run for more than a third of holder_ttl; write a longer holder_ttl",
        ),
        (
            format!("kind: single, user: a, {}", http.replace("/u/{user}", "/u/{value}")),
            ".driver.http.set.path: line 3: a value in a path, where logs have it; put it into the body or a header",
        ),
        (
            format!("kind: single, user: a, {}", http.replace("{basic}", "{pass}")),
            ".driver.http.test.headers.Authorization: line 3: a place of another name; write {user}, {value}, {id}, {rotation} or {basic}",
        ),
        (
            format!("kind: single, user: a, {}", http.replace("[401]", "[200]")),
            ".driver.http.test: line 3: a status that is both expected and a refusal; write each in one of expect and refused",
        ),
        (
            format!("kind: single, user: a, {}", vault.replace("{value}", "{value")),
            ".driver.vault.set.data: line 3: a { without a }; write {user}, {value}, {id}, {rotation} or {basic}",
        ),
        (
            format!("kind: two-slot, users: [a, b], grace_min: 10m, {exec}"),
            ": line 3: a grace_min without revoke_when: acked: a grace that time ends is at least as long as it is; write revoke_when: acked, or remove grace_min",
        ),
        (
            format!(
                "kind: two-slot, users: [a, b], revoke_when: acked, consumers: 1, max_grace: 2h, grace_min: 3h, {exec}"
            ),
            ": line 3: a grace_min that is longer than max_grace; write a shorter grace_min, or a longer max_grace",
        ),
        (
            format!("kind: two-slot, users: [a, b], wrap: {{}}, {exec}"),
            ".wrap.transit: line 3: missing; write transit: MOUNT/KEY, as in transit/rotation",
        ),
        (
            format!("kind: two-slot, users: [a, b], notice: 9h, {exec}"),
            ".notice: line 3: a notice that is not shorter than the time between two slots; make it shorter, or write notice: 0s for none",
        ),
    ] {
        let mut expected = vec![format!("rotations.r{expected}")];
        if rotation.contains("{value\"") {
            expected.push(expected[0].replace(".set.", ".test."));
        }
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&format!("{upstream}rotations: {{r: {{{rotation}, {all}}}}}\n"), &expected);
    }
}

#[test]
fn what_mints_keys_says_how_they_are_found_again() {
    let all = "identity: reports, path: secret/a, journal: {mount: kv, path: rotation}, schedule: {every: 6h}, grace: 1h";
    let upstream = "upstreams: {api: {url: https://api.example, inject: {secret: stripe, header: X-Key}}}\n\
                    workloads: {job: {socket: {path: /s}, peer: {uid: 1}, rules: [{name: a, upstream: api, methods: [GET], paths: [\"a\"]}]}}\n";
    let good = "driver: {http: {upstream: api, mint: {method: POST, path: /keys, body: {name: \"claviger-{rotation}-{id}\"}}, \
                minted: {id: /id, value: /secret}, list: {path: /keys}, items: /keys, item: {id: /id, label: /name}, \
                delete: {method: DELETE, path: \"/keys/{key}\"}, test: {path: /me, headers: {Authorization: \"Bearer {value}\"}}}}";
    check(&format!("{upstream}rotations: {{r: {{kind: issue, {all}, {good}}}}}\n"), &[]);
    for (from, to, expected) in [
        (
            "name: \"claviger-{rotation}-{id}\"",
            "name: x",
            ": line 3: a mint whose body does not have the label: a key that was lost could not be found; write the text of label into a member of mint.body",
        ),
        (
            "/keys/{key}",
            "/keys",
            ".delete: line 3: a delete that does not say which key; put {key} into its path",
        ),
        ("items: /keys", "items: keys", ".items: line 3: not a JSON pointer; write /NAME, or /NAME/NAME"),
        (
            "list: {path: /keys}",
            "label: \"{rotation}\", list: {path: /keys}",
            ".label: line 3: a label without {id}: keys of two runs could not be told apart; put {id} into it",
        ),
    ] {
        let rotation = good.replacen(from, to, 1);
        let expected = format!("rotations.r.driver.http{expected}");
        check(&format!("{upstream}rotations: {{r: {{kind: issue, {all}, {rotation}}}}}\n"), &[&expected]);
    }
}

#[test]
fn a_program_that_is_not_there_is_refused() {
    let text = "rotations: {r: {kind: single, user: a, identity: reports, path: secret/a, journal: {mount: kv, path: r}, \
                schedule: {every: 6h}, driver: {exec: {command: [/no/such/program]}}}}\n";
    let without = Environment { programs: |_| false, ..environment() };
    let rejected = parse(&document(text), &without).unwrap_err().to_string();
    assert!(rejected.contains("no program that can be executed is at /no/such/program"), "{rejected}");
}

/// A rule for emergencies with what stands beside its secret, and a sink.
fn emergencies(rule: &str, sink: &str) -> String {
    format!(
        "audit: {{journal: {{dir: /a}}, sinks: {{siem: {{kind: http, url: \"https://siem/x\"{sink}}}}}}}\nworkloads: {{job: {{socket: {{path: /s}}, \
             peer: {{uid: 1}}, rules: [{{name: a, secrets: [stripe]{rule}}}]}}}}\n"
    )
}

/// Of a sink that events wait for.
const REMOTE: &str = ", required: true";

fn of_glass(rest: &str) -> String {
    format!("workloads.job.rules[0].break_glass{rest}")
}

#[test]
fn a_rule_for_emergencies_is_on_record_elsewhere_and_holds_half_an_hour_at_most() {
    let (config, at) = (emergencies, of_glass);
    check(&config(", audit: strict-remote, break_glass: {window: 30m}", REMOTE), &[]);
    check(&config(", audit: strict-remote, break_glass: {}", REMOTE), &[]);
    check(
        &config(", audit: strict-remote, break_glass: {window: 31m}", REMOTE),
        &[&at(".window: line 2: 31m is out of range; write 1s to 30m")],
    );
    check(
        &config(", break_glass: {}", REMOTE),
        &[&at(
            ": line 2: break_glass without audit: strict-remote; write audit: strict-remote beside it, and a required sink that is on another \
             machine in audit.sinks",
        )],
    );
    let vault = |rest: &str| {
        let secrets = "secrets: [stripe], audit: strict-remote, break_glass: {window: 10m}";
        let of_vault = format!("vault: {{{rest}}}, audit: strict-remote, break_glass: {{window: 10m}}");
        config(", audit: strict-remote, break_glass: {window: 10m}", REMOTE).replace(secrets, &of_vault)
    };
    check(&vault("paths: [\"secret/data/a\"]"), &[]);
    check(&vault("tokens: {policies: [ci], ttl: 10m}"), &[]);
    check(
        &vault("tokens: {policies: [ci], ttl: 11m}"),
        &[&at(
            ": line 2: child tokens that outlive the emergency; write a ttl in its vault.tokens that is no longer than the window",
        )],
    );
}

#[test]
fn a_review_is_by_an_approval_in_which_somebody_says_yes() {
    let (config, at) = (emergencies, of_glass);
    let approvals = |rest: &str| {
        format!(
            "approvals: {{two: {{kind: signed, approvers: {{a: {{entity_id: e}}}}, store: {{mount: kv, path: a}}{rest}}}}}\n"
        )
    };
    let reviewed = |of: &str| config(&format!(", audit: strict-remote, break_glass: {{{of}}}"), REMOTE);
    check(&(approvals("") + &reviewed("review: two")), &[]);
    check(&(approvals("") + &reviewed("review: two, review_within: 30m")), &[]);
    check(
        &(approvals("") + &reviewed("review: two, review_within: 2d")),
        &["workloads.job.rules[0].break_glass.review_within: line 3: 2d is out of range; write 1s to 1d"],
    );
    check(
        &(approvals(", observe: true") + &reviewed("review: two")),
        &[
            "workloads.job.rules[0].break_glass.review: line 3: a review by an approval that only observes: nobody is asked, and the rule would \
           disable itself each time; name an approval without observe: true",
        ],
    );
    check(
        &reviewed("review_within: 30m"),
        &[&at(
            ".review_within: line 2: a review_within, and no review; write review: NAME, of approvals, or remove it",
        )],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a slip")]
fn a_webhook_says_where_it_is_and_by_whose_key_it_decides() {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIwInJM6rG1gez7uecQ3PaRPpxGXOXW/IhK6IpEuUmdq";
    let at = |key: &str, text: &str| format!("approvals.two{key}: line 1: {text}");
    for (rest, expected) in [
        (
            format!(
                "url: \"https://bot/x\", key: {KEY}, status_url: \"https://bot/x/{{id}}\", poll: 2s, bearer_file: /t, hmac_key_file: /k, ca_file: /c, outcomes: false"
            ),
            vec![],
        ),
        ("url: \"https://bot/x\", approvers: {a: {entity_id: e}}".to_owned(), vec![]),
        (
            format!(
                "url: \"http://bot/x\", status_url: \"http://bot/x/{{id}}\", insecure_http: true, key: {KEY}"
            ),
            vec![],
        ),
        (
            "url: \"https://bot/x\"".to_owned(),
            vec![at(
                "",
                "nobody who may say yes; write key: the Ed25519 key that the service signs decisions with, or approvers: {lead: {entity_id: …}}",
            )],
        ),
        (format!("key: {KEY}"), vec![at(".url", "missing; write url: https://bot.internal/claviger")]),
        (
            format!("url: \"http://bot/x\", key: {KEY}"),
            vec![at(
                ".url",
                "plain http to another machine: whoever is on the way reads who used which key; write https, or set insecure_http: true beside it",
            )],
        ),
        (
            format!("url: \"https://bot/x\", status_url: \"http://bot/x/{{id}}\", key: {KEY}"),
            vec![at(
                ".status_url",
                "plain http to another machine: whoever is on the way reads who used which key; write https, or set insecure_http: true beside it",
            )],
        ),
        (
            format!("url: \"https://bot/x\", status_url: \"https://bot/x\", key: {KEY}"),
            vec![at(
                ".status_url",
                "an address without a place for the request's id, which is {id}; write https://HOST/PATH/{id}",
            )],
        ),
        (
            "url: \"https://bot/x\", key: hunter2".to_owned(),
            vec![at(
                ".key",
                "no Ed25519 key; write a line of a .pub file of type ssh-ed25519, or the key's 32 bytes in base64",
            )],
        ),
        (
            format!("url: \"https://bot/x\", key: {KEY}, quorum: 2"),
            vec![at(
                "",
                "a quorum of 2, and approvers who may say yes: 1; name more approvers, or write a smaller quorum",
            )],
        ),
    ] {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(
            &format!("approvals: {{two: {{kind: webhook, store: {{mount: kv, path: a}}, {rest}}}}}\n"),
            &expected,
        );
    }
    let told = format!(
        "approvals: {{two: {{kind: webhook, store: {{mount: kv, path: a}}, url: \"https://bot:8443/x\", key: {KEY}, hmac_key_file: /k/key}}}}\n"
    );
    let config = parse(&document(&told), &environment()).unwrap().config;
    let plan = config.plan(std::path::Path::new("/etc/claviger.yaml"));
    for need in [Need::Connect(8443), Need::Read("/k/key".into())] {
        assert!(plan.allows(&need), "{need:?}");
    }
}

#[test]
fn a_control_group_says_nothing_that_vaults_policy_says() {
    let rule = |subject: &str, more: &str| {
        format!(
            "secrets: {{s: {{identity: reports, kind: kv, path: kv/a}}}}\n\
             workloads: {{job: {{socket: {{path: /s}}, peer: {{uid: 1}}, rules: [{{name: a, {subject}, approval: two}}]}}}}\n\
             approvals: {{two: {{kind: control_group, store: {{mount: kv, path: a}}{more}}}}}\n"
        )
    };
    let vault = "vault: {paths: [\"kv/data/*\"]}";
    check(
        &rule(vault, ", transit_key: transit/claviger, hold: 5s, exclude: [e], url: \"https://bot/x\""),
        &[],
    );
    let at = |key: &str, right: &str| {
        format!("approvals.two.{key}: line 3: {key} in an approval of kind control_group; remove it: {right}")
    };
    let of_policy = |what: &str| format!("{what} is in the control_group of the identity's policy in Vault");
    for (more, expected) in [
        (", approvers: {lead: {entity_id: e}}", at("approvers", &of_policy("who may say yes"))),
        (", quorum: 2", at("quorum", &of_policy("how many must say yes"))),
        (", uses: 2", at("uses", "Vault does what it was asked for once")),
        (", observe: true", at("observe", "Vault asks whatever the config says")),
        (", status_url: \"https://bot/{id}\"", at("status_url", "a yes is said in Vault alone")),
        (
            ", transit: t",
            at("transit", "nothing is signed; the key that seals what waits is transit_key: MOUNT/KEY"),
        ),
    ] {
        check(&rule(vault, more), &[&expected]);
    }
    let unfit = |found: &str| {
        format!("workloads.job.rules[0]: line 2: the approval two of kind control_group {found}")
    };
    for (subject, expected) in [
        (
            "secrets: [s]",
            unfit(
                "of a rule without vault: what claviger keeps is read for all who may have it, and Vault would ask about that read alone; \
                   make it a rule with vault, or name an approval of kind signed or webhook",
            ),
        ),
        (
            "vault: {paths: [\"kv/data/*\"], cache: leases}",
            unfit(
                "beside cache: what persons allowed once may not be given again; remove cache from the rule",
            ),
        ),
        (
            "vault: {paths: [\"kv/data/*\"], wrap: 5m}",
            unfit("beside wrap: Vault answers with a wrapping token of its own; remove wrap from the rule"),
        ),
        (
            "vault: {tokens: {policies: [ci]}}",
            unfit(
                "beside tokens: no child token is made behind a wrapping token; make a rule of its own for tokens, or name an approval \
                   of kind signed or webhook",
            ),
        ),
    ] {
        check(&rule(subject, ""), &[&expected]);
    }
    check(
        "approvals: {two: {kind: control_group, store: {mount: kv, path: a}}}\n\
         rotations: {k: {kind: generate, identity: reports, path: kv/a, field: a, journal: {mount: kv, path: r}, approval: two, schedule: {every: 1h}}}\n",
        &[
            "rotations.k.approval: line 2: the approval two of kind control_group, which no rotation can wait for: it makes many requests, and \
           Vault would ask about each; name an approval of kind signed or webhook",
        ],
    );
    check(
        "secrets: {s: {identity: reports, kind: kv, path: kv/a}}\n\
         workloads: {job: {socket: {path: /s}, peer: {uid: 1}, rules: [{name: a, secrets: [s], audit: strict-remote, break_glass: {review: two}}]}}\n\
         approvals: {two: {kind: control_group, store: {mount: kv, path: a}}}\n",
        &[
            "workloads.job.rules[0].break_glass.review: line 2: the approval two of kind control_group, which no review can wait for: there is \
           no request to Vault that it would ask about; name an approval of kind signed or webhook",
        ],
    );
}

#[test]
fn what_stands_beside_a_fault_is_read_all_the_same() {
    check(
        "rotations: {k: {kind: generate, identity: reports, path: kv/a, field: a, journal: {mount: kv, path: r}, revoke_when: acked, schedule: {crn: x}}}\n",
        &[
            "rotations.k.schedule.crn: line 1: unknown key \"crn\"; did you mean cron?",
            "rotations.k.schedule: line 1: neither cron with tz, nor every alone; write one of the two",
            "rotations.k.revoke_when: line 1: acks are awaited, but not of how many; write consumers: N",
        ],
    );
}

/// The level that is taken for a peer with this one written, and what is said about it.
fn level_in(environment: &Environment, level: &str) -> String {
    let peer = if level.is_empty() { String::new() } else { format!(", level: {level}") };
    let text = workload(&format!("socket: {{path: /s}}, peer: {{uid: 1{peer}}}"));
    match parse(&document(&text), environment) {
        Ok(loaded) => {
            let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            format!("{} {}", loaded.config.workloads[0].peer.level, warnings.join("\n"))
        }
        Err(rejected) => rejected.to_string(),
    }
}

#[test]
fn a_level_that_this_kernel_cannot_prove_is_never_quietly_a_weaker_one() {
    let with = |process| Environment { process, ..environment() };
    let lacking = with(Support::Lacking("SO_PEERPIDFD (Linux 6.5)"));
    let unknown = with(Support::Unknown("Too many open files".to_owned()));
    let remedy = "run on Linux 6.9 or later, or write level: user if that is enough";
    for (environment, written, expected) in [
        (&environment(), "", "process ".to_owned()),
        (&environment(), "auto", "process ".to_owned()),
        (&environment(), "process", "process ".to_owned()),
        (&environment(), "user", "user ".to_owned()),
        (&lacking, "user", "user ".to_owned()),
        (
            &lacking,
            "auto",
            format!("user workloads.job.peer.level: line 2: level auto is user here: this kernel lacks SO_PEERPIDFD (Linux 6.5); {remedy}"),
        ),
        (
            &lacking,
            "",
            format!("user workloads.job.peer: line 2: level auto is user here: this kernel lacks SO_PEERPIDFD (Linux 6.5); {remedy}"),
        ),
        (
            &lacking,
            "process",
            format!("workloads.job.peer.level: line 2: this kernel cannot prove level process: it lacks SO_PEERPIDFD (Linux 6.5); {remedy}"),
        ),
        (
            &unknown,
            "auto",
            "workloads.job.peer.level: line 2: whether this kernel can prove level process is unknown: Too many open files; start again, or write level: user if that is enough".to_owned(),
        ),
        (
            &unknown,
            "process",
            format!("workloads.job.peer.level: line 2: whether this kernel can prove level process is unknown: Too many open files; {remedy}"),
        ),
        (&unknown, "user", "user ".to_owned()),
    ] {
        assert_eq!(level_in(environment, written), expected, "{written}");
    }
}

#[test]
fn level_container_needs_a_kernel_that_tells_containers_apart_and_auto_never_asks_for_it() {
    let with = |container| Environment { container, ..environment() };
    let lacking = with(Support::Lacking("cgroups of version 2"));
    let unknown = with(Support::Unknown("Too many open files".to_owned()));
    let at = "workloads.job.peer.level: line 2:";
    let remedy =
        "run on Linux 6.13 or later with cgroups of version 2, or write level: process if that is enough";
    for (environment, written, expected) in [
        (&environment(), "container", "container ".to_owned()),
        (&environment(), "auto", "process ".to_owned()),
        (&lacking, "auto", "process ".to_owned()),
        (
            &lacking,
            "container",
            format!("{at} this kernel cannot prove level container: it lacks cgroups of version 2; {remedy}"),
        ),
        (
            &unknown,
            "container",
            format!(
                "{at} whether this kernel can prove level container is unknown: Too many open files; {remedy}"
            ),
        ),
    ] {
        assert_eq!(level_in(environment, written), expected);
    }
}

#[test]
fn ids_of_strangers_are_known_where_the_id_map_is_partial() {
    let partial = Environment { uid_map_is_full: false, overflow_uid: 65_533, ..environment() };
    for (environment, expected) in [(environment(), (None, None)), (partial, (Some(65_533), None))] {
        let strangers = parse(&document(""), &environment).unwrap().config.workloads[0].peer.strangers;
        assert_eq!((strangers.uid, strangers.gid), expected);
    }
}

#[test]
fn what_a_person_should_look_at_is_a_warning() {
    check_warnings(
        "identities:\n  reports: {method: kubernetes, role: r}\n  spare: {method: kubernetes, role: s}\n\
         secrets:\n  stripe: {identity: reports, kind: kv, path: secret/data/stripe, refresh: 10m, max_stale: 5m}\n\
         \x20 spare: {identity: reports, kind: kv, path: secret/spare}\n\
         workloads:\n  job:\n    socket: {path: /s}\n    peer: {uid: [1, 10001]}\n    limits: {requests_per_second: 5}\n    bridge: deny\n\
         \x20   rules: [{name: k, secrets: [stripe], requests_per_second: 6}]\n\
         \x20 all: {socket: {path: /t}}\n  any: {socket: {path: /u}, peer: {level: user}}\n\
         \x20 reach: {socket: {path: /v}, peer: {level: reach}}\n",
        &[
            "identities.spare: line 3: no secret and no rule uses this identity; remove it, or name it in a secret or a rule",
            "secrets.stripe.path: line 5: the path's second segment is data; leave it out, unless a folder has that name: how the engine is asked is found out by itself",
            "secrets.stripe.max_stale: line 5: max_stale is shorter than refresh: the value ends before it is looked at again; make it at least twice refresh",
            "secrets.spare: line 6: no rule allows this secret; remove it, or name it in a rule's secrets",
            "workloads.job.peer.uid: line 10: 10001 is our own uid: such a process can read our credential files and journal; give the workload another uid (runAsUser)",
            "workloads.job.rules[0].requests_per_second: line 13: more than the workload's limits.requests_per_second; the smaller of the two counts: lower it",
            "workloads.all: line 14: no peer: every process that reaches the socket may ask; write peer: {uid: …, gid: …}, or level: reach if that is meant",
            "workloads.any.peer: line 15: no uid, gid or groups: every process that reaches the socket may ask; write uid: …, or level: reach if that is meant",
        ],
    );
    let dumpable = Environment { dumpable: true, uid: 20_001, ..environment() };
    let loaded = parse(&document(""), &dumpable).unwrap();
    assert!(
        loaded.warnings[0]
            .found
            .ends_with("our credential files and journal, and our memory if it attaches while we start"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn a_token_pasted_in_the_wrong_place_is_not_repeated() {
    const TOKEN: &str = "hvs.CAESIJqQbcdefghijklmnopqrstuv";
    const SECRET_ID: &str = "6f1c1f0c-9d5e-4a3b-8d54-0ac4a1f3c0de";
    for secret in [TOKEN, SECRET_ID, "sk_live_abcdefghijklmnop", "AKIAIOSFODNN7EXAMPLE"] {
        for text in [
            format!("vault: {{addresses: [https://v], timeout: {secret}}}\n"),
            format!("vault: {{addresses: [{secret}]}}\n"),
            format!("vault: {{addresses: [\"https://{secret}@v\"]}}\n"),
            format!("vault: {{addresses: [https://v], {secret}: 1}}\n"),
            format!("{secret}: x\n{secret}: y\n"),
            format!("a: [{secret}\nb: }}\n"),
            format!("a: *{secret}\n"),
            format!("a: !{secret} x\n"),
            format!("identities: {{reports: {{method: {secret}, role: r}}}}\n"),
            format!("identities: {{reports: {{method: token_file, token_file: {secret}}}}}\n"),
            format!("secrets: {{{secret}: {{identity: {secret}, kind: {secret}}}}}\n"),
            format!("secrets: {{stripe: {{identity: reports, kind: kv, path: {secret}}}}}\n"),
            format!(
                "workloads: {{job: {{socket: {{path: /s, mode: {secret}}}, peer: {{uid: {secret}}}}}}}\n"
            ),
            format!(
                "audit: {{journal: {{dir: /j, max_size: {secret}}}, mode: {secret}, hash_paths: {secret}}}\n"
            ),
            format!("health: {{listen: {secret}}}\n"),
            format!("log: {secret}\n"),
        ] {
            let rejected = parse(&document(&text), &environment()).expect_err(&text);
            assert!(!rejected.to_string().contains(secret), "{rejected}");
        }
    }
}

#[test]
fn a_large_config_is_read() {
    let mut text = "secrets:\n".to_owned();
    for n in 0..2000 {
        text += &format!(
            "  s-{n}:\n    identity: reports\n    kind: kv\n    path: secret/app/{n}\n    refresh: 30s\n    grace: 5m\n"
        );
    }
    text += "  stripe: {identity: reports, kind: kv, path: secret/stripe}\n";
    assert_eq!(load(&text).config.secrets.len(), 2001);
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let refused = |content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        super::load(&file).unwrap_err().to_string()
    };
    assert_eq!(refused(b"a: 1\nb: \xff\n"), "line 2: not UTF-8; save the file as UTF-8");
    let large = "é".repeat(super::file::LARGEST);
    assert_eq!(
        refused(large.as_bytes()),
        "the file is larger than 256 KiB; split the agent in two, or shorten the file"
    );
    std::fs::remove_file(&file).unwrap();
    let missing = super::load(&file).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read ") && missing.contains("No such file"), "{missing}");
    std::fs::write(&file, document("")).unwrap();
    assert_eq!(super::load(&file).unwrap().config.vault, load("").config.vault);
}

/// `expected`: the keys that change live, or those that need a restart, with commas.
fn check_change(old: &str, new: &str, expected: Result<&str, &str>) {
    let changed = match super::change(&load(old).config, &load(new).config, None) {
        Ok(live) => Ok(live.keys.join(",")),
        Err(needs) => Err(needs.keys.join(",")),
    };
    assert_eq!(changed.as_deref().map_err(String::as_str), expected, "{old} -> {new}");
}

const JOB: &str =
    "workloads: {job: {socket: {path: /s}, peer: {uid: 1}, rules: [{name: a, secrets: [stripe]}]}}\n";
const ONE: &str = "identities: {reports: {method: kubernetes, role: reports}}\n";
const TWO: &str =
    "identities: {reports: {method: kubernetes, role: reports}, b: {method: kubernetes, role: b}}\n";

#[test]
fn what_changes_while_running_is_named() {
    for (old, new, live) in [
        ("", "# only a comment\n", ""),
        ("", "vault: {addresses: [https://other:8200]}\n", "vault"),
        ("", "log: {level: debug}\nshutdown: {grace: 6s}\n", "shutdown,log"),
        ("", "secrets: {stripe: {identity: reports, kind: kv, path: secret/other}}\n", "secrets.stripe"),
        (
            "",
            "secrets: {stripe: {identity: reports, kind: kv, path: secret/stripe}, b: {identity: reports, kind: kv, path: secret/b}}\n",
            "secrets.b",
        ),
        (ONE, TWO, "identities.b"),
        (
            ONE,
            "identities: {reports: {method: kubernetes, role: reports, revoke_on_exit: false}}\n",
            "identities.reports.revoke_on_exit",
        ),
        (
            JOB,
            "workloads: {job: {socket: {path: /s}, peer: {uid: 2}, limits: {connections: 3}, rules: [{name: b, secrets: [stripe]}]}}\n",
            "workloads.job.limits,workloads.job.peer,workloads.job.rules",
        ),
        (
            "",
            "audit: {mode: buffered, journal: {dir: /var/lib/claviger/audit, max_size: 32MiB, segment: 2MiB, retain: 1h}, hash_paths: true}\n",
            "audit.journal.max_size,audit.journal.segment,audit.journal.retain,audit.mode,audit.hash_paths",
        ),
        (
            "",
            "audit: {journal: {dir: /var/lib/claviger/audit}, sinks: {a: {kind: file, path: /x, required: true}}}\n",
            "audit.sinks",
        ),
    ] {
        check_change(old, new, Ok(live));
    }
}

#[test]
fn one_key_that_needs_a_restart_rejects_the_whole_reload() {
    for (old, new, restart) in [
        (ONE, "identities: {reports: {method: kubernetes, role: other}}\n", "identities.reports"),
        (TWO, ONE, "identities.b"),
        (
            JOB,
            "workloads: {job: {socket: {path: /t, mode: \"0622\"}, peer: {uid: 1}, rules: [{name: b, secrets: [stripe]}]}}\n",
            "workloads.job.socket.path,workloads.job.socket.mode",
        ),
        (
            JOB,
            "workloads: {other: {socket: {path: /s}, peer: {uid: 1}, rules: [{name: a, secrets: [stripe]}]}}\n",
            "workloads.job.socket,workloads.other.socket",
        ),
        (
            "",
            "audit: {journal: {dir: /elsewhere}}\nhealth: {listen: \"[::]:1\", names: true}\nlog: {level: debug}\nsandbox: off\n",
            "audit.journal.dir,health.listen,health.names,sandbox",
        ),
    ] {
        check_change(old, new, Err(restart));
    }
}

/// `expected`: the keys that change live, or those that need a restart, in the sandbox of `old`.
fn check_inside(old: &str, new: &str, expected: Result<&str, &str>) {
    let (old_, new_) = (load(old).config, load(new).config);
    let plan = old_.plan(std::path::Path::new("/etc/claviger/config.yaml"));
    let changed = super::change(&old_, &new_, Some(&plan));
    let changed = changed.map(|live| live.keys.join(",")).map_err(|needs| needs.keys.join(","));
    assert_eq!(changed.as_deref().map_err(String::as_str), expected, "{old} -> {new}");
}

#[test]
fn what_the_sandbox_has_given_up_needs_a_restart() {
    const VAULT: &str = "vault: {addresses: [https://v:8200]}\n";
    check_inside(VAULT, "vault: {addresses: [https://w:8200], timeout: 5s}\n", Ok("vault"));
    check_inside(VAULT, "vault: {addresses: [https://v:8200, https://w]}\n", Err("vault.addresses"));
    check_inside(VAULT, "vault: {addresses: [https://v:8200], ca_file: /etc/claviger/ca.pem}\n", Ok("vault"));
    check_inside(
        VAULT,
        "vault: {addresses: [https://v:8200], ca_file: /opt/ca.pem, client_cert: {cert_file: /opt/c, key_file: /opt/k}}\n",
        Err("vault.ca_file,vault.client_cert"),
    );
    check_inside(
        ONE,
        "identities: {reports: {method: kubernetes, role: reports}, b: {method: jwt, role: b, token_file: /srv/jwt/b}}\n",
        Err("identities.b"),
    );
    check_inside(ONE, TWO, Ok("identities.b"));
    check_inside("", "health: {listen: \"[::]:1\"}\n", Err("health.listen"));
}

#[test]
fn a_workload_of_our_own_uid_beside_a_readable_binary_is_refused_where_the_sandbox_is_required() {
    let dumpable = Environment { dumpable: true, uid: 20_001, ..environment() };
    let rejected = parse(&(document("") + "sandbox: required\n"), &dumpable).unwrap_err();
    assert_eq!(rejected.problems.len(), 1, "{rejected}");
    assert!(rejected.to_string().contains("ship the binary with mode 0111"), "{rejected}");
    // Not where the kernel keeps it closed from exec on.
    let closed = Environment { dumpable: false, ..dumpable };
    assert_eq!(
        parse(&(document("") + "sandbox: required\n"), &closed).unwrap().config.sandbox,
        Mode::Required
    );
    assert_eq!(parse(&document(""), &closed).unwrap().config.sandbox, Mode::On);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_brings_it_down(text in "\\PC{0,200}") {
        let _ = parse(&text, &environment());
    }

    #[test]
    fn no_bytes_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&String::from_utf8_lossy(&bytes), &environment());
    }

    #[test]
    fn no_yaml_brings_it_down(text in "([a-c]|: |\n|- |\\{|\\}|\\[|\\]|, |&a|\\*a|<<|\"|'|!|#|\\||>|%|\t|  |0|~|---\n){0,60}") {
        let _ = parse(&text, &environment());
    }

    /// Every document that is nearly right is either taken or refused with a reason.
    #[test]
    fn a_damaged_config_is_refused_with_a_reason(at in 0..EXAMPLE.len(), cut in 0..12_usize, put in "[a-z0-9{}\\[\\]:, \n\"-]{0,6}") {
        let end = (at + cut).min(EXAMPLE.len());
        let text = format!("{}{put}{}", &EXAMPLE[..at], &EXAMPLE[end..]);
        if let Err(rejected) = parse(&text, &environment()) {
            prop_assert!(!rejected.problems.is_empty());
            prop_assert!(!rejected.to_string().contains("cannot say why"), "{rejected}\n{text}");
        }
    }
}

/// A config whose one upstream is `settings`, and whose workload may call it by `rule`.
fn calling(settings: &str, rule: &str) -> String {
    format!(
        "secrets:\n  own: {{identity: reports, kind: token, policies: [a], per_process: true}}\n  \
         cert: {{identity: reports, kind: certificate, path: pki/issue/a}}\n  \
         key: {{identity: reports, kind: kv, path: secret/key, field: k}}\n  \
         pair: {{identity: reports, kind: kv, path: secret/pair}}\n\
         upstreams:\n  api: {settings}\n\
         workloads:\n  job:\n    socket: {{path: /run/job/claviger.sock}}\n    peer: {{uid: 1}}\n    \
         rules: [{{name: own, secrets: [own, cert]}}, {{name: calls, upstream: api, {rule}}}]\n"
    )
}

const INJECT: &str = "inject: {secret: key, header: X-Key}";
const RULE: &str = "methods: [GET], paths: [v1]";

#[test]
fn an_upstream_is_reached_by_https_at_an_address_that_may_be_called() {
    let with = |text: &str| format!("{{url: https://a.example, {INJECT}, {text}}}");
    let url = |text: &str| format!("{{url: \"{text}\", {INJECT}}}");
    let no_url = "url: line 7: not a URL of https with nothing but host, port and path; write https://api.example.com, or \
                  https://example.com/api/v3";
    let no_address = "url: line 7: an address that may not be called; write a name, or put the address into allow_cidrs: \
                      [ADDRESS/32], which cannot allow link-local and metadata addresses";
    for (settings, expected) in [
        (
            url("http://a"),
            "url: line 7: http: the key could be read on the way; write https://…, or insecure_http: true",
        ),
        (url("https://u:p@a"), no_url),
        (url("https://a/?k=v"), no_url),
        (url("ftp://a"), no_url),
        (url("https://10.0.0.1"), no_address),
        (url("https://127.0.0.1"), no_address),
        (
            format!("{{url: \"https://169.254.169.254\", allow_cidrs: [169.254.0.0/16], {INJECT}}}"),
            no_address,
        ),
        (
            with("allow_cidrs: [10.0.0.1/8]"),
            "allow_cidrs[0]: line 7: not a range of addresses; write ADDRESS/BITS, as in 10.20.0.0/16, without bits behind the prefix",
        ),
        (
            with("paths: {allow: [dots]}"),
            "paths.allow[0]: line 7: \"dots\" is not known here; write one of %2F, ;",
        ),
        (
            with("headers: {range: yes}"),
            "headers.range: line 7: \"yes\" is not known here; write one of deny, allow",
        ),
        (with("decode: [br]"), "decode[0]: line 7: \"br\" is not known here; write one of gzip"),
        (
            with("client_cert: key"),
            "client_cert: line 7: not a certificate; name a secret of kind: certificate",
        ),
        (
            with("pins: [\"sha256/AAAA\"]"),
            "pins[0]: line 7: not a pin; write sha256/ and the SHA-256 of the server's public key as base64",
        ),
        (
            with("pins: [\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]"),
            "pins: line 7: fewer than two pins; pin the key in use and one more, or its next change locks you out",
        ),
    ] {
        check(&calling(&settings, RULE), &[&format!("upstreams.api.{expected}")]);
    }
}

#[test]
fn a_key_is_put_into_one_place_that_it_fits() {
    let inject = |text: &str| format!("{{url: https://a.example, inject: {{{text}}}}}");
    for (settings, expected) in [
        (
            inject("secret: key"),
            "inject: line 7: no slot for the key; write one of header, basic, query, body, sigv4",
        ),
        (
            inject("secret: key, header: X, query: k"),
            "inject: line 7: more than one slot for the key; write one of header, basic, query, body, sigv4",
        ),
        (
            inject("secret: key, header: Host"),
            "inject.header: line 7: a header that frames or routes the message; write the header that the API reads its key from",
        ),
        (
            inject("secret: key, header: X, format: Bearer"),
            "inject.format: line 7: not a format with one {} in it; write {} where the key goes, as in \"Bearer {}\"",
        ),
        (
            inject("secret: own, header: X"),
            "inject.secret: line 7: a token for each process: an upstream has one key for all; remove per_process, or name another secret",
        ),
        (
            inject("secret: cert, header: X"),
            "inject.secret: line 7: a certificate is no key for a header; name a secret of another kind",
        ),
        (
            inject("secret: key, basic: {user: a, password: b}"),
            "inject.secret: line 7: basic needs a user and a password, and this secret has one value; name a kv secret without `field`",
        ),
        (
            inject("secret: key, body: {json: a}"),
            "inject.body.json: line 7: not a way to a member of an object; write a JSON pointer, as in /client_secret or /auth/key",
        ),
    ] {
        check(&calling(&settings, RULE), &[&format!("upstreams.api.{expected}")]);
    }
}

#[test]
fn a_request_is_signed_for_a_region_and_a_service_where_this_binary_can() {
    let sigv4 = |secret: &str, text: &str| {
        format!("{{url: https://a.example, inject: {{secret: {secret}, sigv4: {{{text}}}}}}}")
    };
    let whole = "region: eu-west-1, service: bedrock";
    if !crate::broker::inject::sigv4::IS_BUILT {
        let refused = "upstreams.api.inject.sigv4: line 7: not in this build: signing by sigv4; build claviger with `--features sigv4` \
                       (`claviger version` says what a binary has), or remove it";
        return check(&calling(&sigv4("pair", whole), RULE), &[refused]);
    }
    check(&calling(&sigv4("pair", whole), RULE), &[]);
    check(&calling(&sigv4("pair", "region: eu-west-1, service: s3, payload: unsigned"), RULE), &[]);
    for (settings, expected) in [
        (
            sigv4("pair", "region: eu-west-1"),
            "inject.sigv4.service: line 7: missing; write service: bedrock, s3, execute-api, or whatever signatures call it",
        ),
        (
            sigv4("pair", "region: EU West, service: s3"),
            "inject.sigv4.region: line 7: not a name that AWS has; write lower-case letters, digits and hyphens, as in eu-west-1",
        ),
        (
            sigv4("pair", "region: eu-west-1, service: bedrock, payload: unsigned"),
            "inject.sigv4.payload: line 7: an unsigned payload, which S3 alone takes; write payload: signed",
        ),
        (
            sigv4("key", whole),
            "inject.secret: line 7: sigv4 needs a key of AWS, and this secret has one value; name a kv secret without `field` that has \
             access_key_id and secret_access_key, or a lease of the AWS engine",
        ),
    ] {
        check(&calling(&settings, RULE), &[&format!("upstreams.api.{expected}")]);
    }
}

#[test]
fn an_upstream_may_be_all_of_this() {
    let with = |text: &str| format!("{{url: https://a.example, {INJECT}, {text}}}");
    for settings in [
        "{url: https://a.example, inject: {secret: pair, basic: {user: a, password: b}}}".to_owned(),
        format!("{{url: \"http://a\", insecure_http: true, {INJECT}}}"),
        format!("{{url: \"https://127.0.0.1:1\", allow_cidrs: [127.0.0.1], {INJECT}}}"),
        with("decode: [gzip], paths: {allow: [\"%2F\", \";\"]}"),
        with(
            "headers: {allow: [X-A], range: allow}, max_request: 1MiB, max_response: 1GiB, timeouts: {connect: 1s, first_byte: 10s, idle: 10s}",
        ),
    ] {
        check(&calling(&settings, RULE), &[]);
    }
    check(
        &calling(&with("ca_file: /ca.pem"), RULE)
            .replace("api:", "claviger:")
            .replace("upstream: api", "upstream: claviger"),
        &[
            "upstreams.claviger: line 7: an upstream of the name claviger; choose another: claviger.sock is the workload's own socket",
        ],
    );
}

#[test]
fn a_rule_for_calls_says_which_and_does_not_let_the_key_be_read() {
    let settings = format!("{{url: https://a.example, {INJECT}}}");
    let at = "workloads.job.rules[1]";
    for (rule, expected) in [
        ("paths: [v1]", "methods: line 12: missing; write methods: [GET]"),
        (
            "methods: [GET]",
            "paths: line 12: missing; write paths: [\"v1/charges\", \"v1/charges/+/refunds\"]",
        ),
        (
            "methods: [get], paths: [v1]",
            "methods[0]: line 12: \"get\" is not known here; write one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        (
            "methods: [GET], paths: [a*]",
            "paths[0]: line 12: a path that no request can have; write segments as they are sent, `+` for any one of them, and `*` only as the last for any rest",
        ),
        ("methods: [GET], paths: [v1], query: {a: []}", ""),
    ] {
        let found = parse(&document(&calling(&settings, rule)), &environment()).unwrap_err().to_string();
        assert!(found.contains(&format!("{at}.{expected}")) || expected.is_empty(), "{rule}: {found}");
    }
    let reads = calling(&settings, RULE).replace("secrets: [own, cert]", "secrets: [own, cert, key]");
    check(
        &reads,
        &[
            "workloads.job.rules[1]: line 12: calls uses the secret key, which the rule own lets this workload read; take it out of \
           that rule, or write also_readable: true here if that is meant",
        ],
    );
    check(&reads.replace(RULE, "methods: [GET], paths: [v1], also_readable: true"), &[]);
    let shown = format!("{{url: https://a.example, client_cert: cert, {INJECT}}}");
    check(
        &calling(&shown, RULE),
        &[
            "workloads.job.rules[1]: line 12: calls uses the secret cert, which the rule own lets this workload read; take it out of \
           that rule, or write also_readable: true here if that is meant",
        ],
    );
    check(&calling(&shown, RULE).replace("secrets: [own, cert]", "secrets: [own]"), &[]);
    // By Vault's own API, too, whichever part of the path the mount is.
    for (path, given) in
        [("secret/data/key", true), ("secret/*", true), ("secret/data/+", true), ("secret/data/other", false)]
    {
        let vault = format!("{{name: tree, vault: {{paths: [\"{path}\"]}}}}, {{name: calls,");
        let text = calling(&settings, RULE).replace("{name: calls,", &vault);
        let said = "workloads.job.rules[2]: line 12: calls uses the secret key, which the rule tree lets this workload read; take it \
                    out of that rule, or write also_readable: true here if that is meant";
        let expected: Vec<&str> = given.then_some(said).into_iter().collect();
        check(&text, &expected);
    }
    let loaded = load(&calling(&settings, RULE)).config;
    let sockets: Vec<_> =
        loaded.workloads[0].upstreams.values().map(|path| path.display().to_string()).collect();
    assert_eq!(sockets, ["/run/job/api.sock"]);
    let elsewhere =
        calling(&settings, RULE).replace("claviger.sock}", "claviger.sock, sockets_dir: /run/api}");
    assert_eq!(
        load(&elsewhere).config.workloads[0].upstreams.values().next().unwrap().display().to_string(),
        "/run/api/api.sock"
    );
    check(
        &calling(&settings, RULE).replace("/run/job/claviger.sock", "/run/job/api.sock"),
        &[
            "workloads.job: line 9: api would have the socket of line 10: /run/job/api.sock; give each workload a directory of its own, \
           or write socket: {sockets_dir: …}",
        ],
    );
}
