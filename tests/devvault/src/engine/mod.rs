//! Secrets engines: each answers for the paths under its mount and asks for leases; it never sees a token.

pub(crate) mod database;
pub(crate) mod kv1;
pub(crate) mod kv2;
pub(crate) mod pki;
pub(crate) mod transit;

use tokio::time::Instant;

use crate::ask::Ask;
use crate::clock::Clock;
use crate::ids::Ids;
use crate::outcome::Outcome;

/// The engines that the double has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Key-value without versions.
    KvV1,
    /// Key-value with versions and check-and-set.
    KvV2,
    /// Dynamic credentials with a renewable lease; no database is behind it.
    Database,
    /// Certificates that look like certificates; no key is behind them.
    Pki,
    /// Encryption in name only.
    Transit,
}

impl Kind {
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Kind::KvV1 | Kind::KvV2 => "kv",
            Kind::Database => "database",
            Kind::Pki => "pki",
            Kind::Transit => "transit",
        }
    }
}

/// An engine and what it keeps.
#[derive(Debug)]
pub(crate) enum Engine {
    Kv1(kv1::Kv1),
    Kv2(kv2::Kv2),
    Database(database::Database),
    Pki(pki::Pki),
    Transit(transit::Transit),
}

/// What an engine may use of the server.
pub(crate) struct Tools<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) ids: &'a mut Ids,
    pub(crate) now: Instant,
}

impl Engine {
    pub(crate) fn new(kind: Kind) -> Engine {
        match kind {
            Kind::KvV1 => Engine::Kv1(kv1::Kv1::default()),
            Kind::KvV2 => Engine::Kv2(kv2::Kv2::default()),
            Kind::Database => Engine::Database(database::Database::default()),
            Kind::Pki => Engine::Pki(pki::Pki::default()),
            Kind::Transit => Engine::Transit(transit::Transit::default()),
        }
    }

    pub(crate) fn answer(&mut self, rest: &str, ask: &Ask, tools: &mut Tools<'_>) -> Outcome {
        match self {
            Engine::Kv1(kv) => kv.answer(rest, ask),
            Engine::Kv2(kv) => kv.answer(rest, ask, tools),
            Engine::Database(database) => database.answer(rest, ask, tools),
            Engine::Pki(pki) => pki.answer(rest, ask, tools),
            Engine::Transit(transit) => transit.answer(rest, ask),
        }
    }

    /// Whether a write to this path would change something that is there (`update`) or make it (`create`).
    pub(crate) fn has(&self, rest: &str) -> bool {
        match self {
            Engine::Kv1(kv) => kv.has(rest),
            Engine::Kv2(kv) => kv.has(rest),
            Engine::Database(_) | Engine::Pki(_) | Engine::Transit(_) => true,
        }
    }
}
