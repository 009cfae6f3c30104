//! Rules with `upstream`: which calls of other APIs a workload may make.
//!
//! Pure.

use super::super::reader::{Leaf, Map};
use super::Context;
use crate::{
    broker,
    name::{SecretName, UpstreamName},
    policy::{
        rule::Rule,
        upstream::{CallRule, Oddity, Pattern},
    },
};
use std::collections::BTreeMap;

/// What a rule says of calls, before it is known whether the rest of the rule is right.
pub(super) struct Calls {
    upstream: UpstreamName,
    secret: SecretName,
    client_cert: Option<SecretName>,
    methods: Vec<String>,
    paths: Vec<Pattern>,
    query: BTreeMap<String, Vec<String>>,
    calls_per_day: Option<u64>,
    /// The rule says that its upstream's secret may be read by the same workload.
    pub(super) also_readable: bool,
}

impl Calls {
    /// The secrets that are used: the key, and the certificate that is shown.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        std::iter::once(&self.secret).chain(&self.client_cert)
    }

    pub(super) fn of(self, rule: Rule) -> CallRule {
        let Self { upstream, secret, methods, paths, query, calls_per_day, client_cert: _, also_readable: _ } =
            self;
        CallRule { rule, upstream, secret, methods, paths, query, calls_per_day }
    }
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Reads what stands beside `upstream`.
pub(super) fn read(
    leaf: &Leaf<'_>,
    map: &mut Map<'_>,
    context: &Context<'_>,
    upstreams: Option<&[broker::Settings]>,
) -> Option<Calls> {
    let upstream = leaf.refers(&context.upstreams, UpstreamName::new);
    let settings = upstreams.and_then(|all| {
        all.iter().find(|settings| upstream.as_ref().is_some_and(|name| settings.name == *name))
    });
    let allowed = settings.map(|settings| settings.oddities.clone()).unwrap_or_default();
    let methods = map.need("methods", "[GET]", |leaf| {
        some(leaf, leaf.each(|leaf| leaf.word(&METHODS.map(|method| (method, method))).map(str::to_owned)))
    });
    let paths = map.need("paths", "[\"v1/charges\", \"v1/charges/+/refunds\"]", |leaf| {
        some(leaf, leaf.each(|leaf| pattern(leaf, &allowed)))
    });
    let query = map.or("query", BTreeMap::new(), query);
    let calls_per_day = map.given("calls_per_day", |leaf| leaf.whole(1..=u64::MAX));
    let also_readable = map.or("also_readable", false, Leaf::flag);
    let upstream = upstream?;
    // A faulty upstream was written down already.
    let settings = settings?;
    let (secret, client_cert) = (settings.secret.clone(), settings.client_cert.clone());
    Some(Calls {
        upstream,
        secret,
        client_cert,
        methods: methods?,
        paths: paths?,
        query: query?,
        calls_per_day: calls_per_day?,
        also_readable: also_readable?,
    })
}

fn some<T>(leaf: &Leaf<'_>, list: Option<Vec<T>>) -> Option<Vec<T>> {
    let list = list?;
    if list.is_empty() {
        leaf.problem("an empty list", "write at least one, or remove the rule");
        return None;
    }
    Some(list)
}

fn pattern(leaf: &Leaf<'_>, allowed: &[Oddity]) -> Option<Pattern> {
    let pattern = Pattern::parse(&leaf.text()?, allowed).ok();
    if pattern.is_none() {
        leaf.problem(
            "a path that no request can have",
            "write segments as they are sent, `+` for any one of them, and `*` only as the last for any rest",
        );
    }
    pattern
}

/// Names, each with its value or a list of them.
fn query(leaf: &Leaf<'_>) -> Option<BTreeMap<String, Vec<String>>> {
    let map = leaf.map()?;
    let mut read = BTreeMap::new();
    let mut fine = true;
    for (name, leaf) in map.children() {
        let values: Option<Vec<String>> =
            leaf.one_or_many().and_then(|leaves| leaves.iter().map(Leaf::text).collect());
        match values.filter(|values| !values.is_empty()) {
            Some(values) => drop(read.insert(name.to_owned(), values)),
            None => fine = false,
        }
    }
    fine.then_some(read)
}
