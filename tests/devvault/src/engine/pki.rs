//! The PKI engine without cryptography: serial numbers and expirations are right, the PEM is only shaped like PEM.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::Tools;
use crate::ask::{Ask, Verb};
use crate::duration::SYSTEM_TTL;
use crate::outcome::{LeaseTerms, Outcome, Success};

/// What the engine keeps.
#[derive(Debug, Default)]
pub(crate) struct Pki {
    pub(crate) roles: BTreeMap<String, PkiRole>,
    root: Option<String>,
    issued: BTreeMap<String, String>,
}

/// A role: for how long its certificates are valid, and whether each has a lease.
#[derive(Debug, Clone)]
pub(crate) struct PkiRole {
    pub(crate) ttl: Option<Duration>,
    pub(crate) max_ttl: Option<Duration>,
    pub(crate) leased: bool,
    pub(crate) allow_any_name: bool,
    pub(crate) domains: Vec<String>,
}

impl Pki {
    /// A root, so that roles can issue without `root/generate`.
    pub(crate) fn make_root(&mut self, tools: &mut Tools<'_>) -> String {
        let pem = pem("CERTIFICATE", 12, tools);
        self.root = Some(pem.clone());
        pem
    }

    pub(crate) fn answer(&mut self, rest: &str, ask: &Ask, tools: &mut Tools<'_>) -> Outcome {
        let (area, name) = rest.split_once('/').unwrap_or((rest, ""));
        match (area, ask.verb) {
            ("root", Verb::Write) if name.starts_with("generate/") => {
                let certificate = self.make_root(tools);
                let ttl = ask.duration("ttl").unwrap_or(SYSTEM_TTL);
                let expiration = tools.clock.wall(tools.now + ttl).as_second();
                Outcome::data(json!({
                    "certificate": certificate,
                    "expiration": expiration,
                    "issuer_id": tools.ids.uuid(),
                    "issuer_name": "",
                    "issuing_ca": certificate,
                    "key_id": tools.ids.uuid(),
                    "key_name": "",
                    "serial_number": serial(tools),
                }))
            }
            ("roles", Verb::Write) => {
                let role = PkiRole {
                    ttl: ask.duration("ttl"),
                    max_ttl: ask.duration("max_ttl"),
                    leased: ask.flag("generate_lease").unwrap_or(false),
                    allow_any_name: ask.flag("allow_any_name").unwrap_or(false),
                    domains: ask.list("allowed_domains").unwrap_or_default(),
                };
                let shown = json!({
                    "allow_any_name": role.allow_any_name,
                    "allowed_domains": role.domains,
                    "generate_lease": role.leased,
                    "max_ttl": role.max_ttl.map_or(0, |d| d.as_secs()),
                    "ttl": role.ttl.map_or(0, |d| d.as_secs()),
                });
                self.roles.insert(name.to_string(), role);
                Outcome::data(shown)
            }
            ("issue", Verb::Write) => self.issue(name, ask, tools),
            ("cert", Verb::Read) => match self.issued.get(name) {
                None => Outcome::absent(),
                Some(pem) => Outcome::data(json!({ "certificate": pem, "revocation_time": 0 })),
            },
            ("revoke", Verb::Write) => Outcome::data(
                json!({ "revocation_time": tools.clock.wall(tools.now).as_second(), "state": "revoked" }),
            ),
            ("config" | "roles" | "issue" | "root", _) => Outcome::unsupported(),
            _ => Outcome::unsupported_path(),
        }
    }

    fn issue(&mut self, name: &str, ask: &Ask, tools: &mut Tools<'_>) -> Outcome {
        let Some(role) = self.roles.get(name) else { return Outcome::bad(&format!("unknown role: {name}")) };
        let Some(ca) = self.root.clone() else {
            return Outcome::fail(
                500,
                &[
                    "1 error occurred:\n\t* could not fetch the CA certificate (was one set?): no default issuer currently configured\n\n",
                ],
            );
        };
        let Some(common_name) = ask.text("common_name") else {
            return Outcome::bad(
                "the common_name field is required, or must be provided in a CSR with \"use_csr_common_name\" set to true, unless \"require_cn\" is set to false",
            );
        };
        let below = |d: &String| {
            common_name == d || common_name.strip_suffix(d.as_str()).is_some_and(|s| s.ends_with('.'))
        };
        if !role.allow_any_name && !role.domains.iter().any(below) {
            return Outcome::bad(&format!("common name {common_name} not allowed by this role"));
        }
        let max_ttl = role.max_ttl.unwrap_or(SYSTEM_TTL);
        let ttl = ask.duration("ttl").or(role.ttl).unwrap_or(SYSTEM_TTL).min(max_ttl);
        let leased = role.leased;
        let certificate = pem("CERTIFICATE", 14, tools);
        let serial_number = serial(tools);
        self.issued.insert(serial_number.clone(), certificate.clone());
        let success = Success::of(json!({
            "ca_chain": [ca],
            "certificate": certificate,
            "expiration": tools.clock.wall(tools.now + ttl).as_second(),
            "issuing_ca": ca,
            "private_key": pem("RSA PRIVATE KEY", 25, tools),
            "private_key_type": "rsa",
            "serial_number": serial_number,
        }));
        match leased {
            true => Outcome::Leased(
                Box::new(success),
                LeaseTerms { ttl, max_ttl: ttl, renewable: false, path: None },
            ),
            false => Outcome::secret(success),
        }
    }
}

fn serial(tools: &mut Tools<'_>) -> String {
    let bytes: Vec<String> = (0..20).map(|_| format!("{:02x}", tools.ids.number() & 0xff)).collect();
    bytes.join(":")
}

fn pem(label: &str, lines: usize, tools: &mut Tools<'_>) -> String {
    let body: Vec<String> = (0..lines).map(|_| tools.ids.letters(64)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", body.join("\n"))
}
