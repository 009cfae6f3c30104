//! `upstreams`: other APIs, and the key that each gets.
//!
//! Pure. Connects to nothing. Never repeats an URL: it may hold a password.

use super::super::reader::{Leaf, Map};
use super::{Context, DAY, milliseconds, signing};
use crate::{
    broker::{
        Base, Insecure, NotABase, Ranges, Settings, Timeouts, decode::Coding, hop, inject::Slot,
        upstream::address::Cidr,
    },
    keeper::{self, Kind},
    name::{SecretName, UpstreamName},
    policy::upstream::Oddity,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderName;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;
/// Reads them all; `secrets` are those of the config, where they could be read.
pub(super) fn read(
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    secrets: Option<&[keeper::Settings]>,
) -> Option<Vec<Settings>> {
    let named = leaf.named(UpstreamName::new)?;
    let read: Vec<Option<Settings>> =
        named.into_iter().map(|(name, leaf)| upstream(name, &leaf, context, secrets)).collect();
    read.into_iter().collect()
}

fn upstream(
    name: UpstreamName,
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    secrets: Option<&[keeper::Settings]>,
) -> Option<Settings> {
    if name.as_str() == "claviger" {
        leaf.problem(
            "an upstream of the name claviger",
            "choose another: claviger.sock is the workload's own socket",
        );
        return None;
    }
    let mut map = leaf.map()?;
    let insecure = map.or("insecure_http", Insecure::Denied, |leaf| {
        Some(if leaf.flag()? { Insecure::Allowed } else { Insecure::Denied })
    });
    let allow_cidrs = map.or("allow_cidrs", Vec::new(), |leaf| leaf.each(cidr));
    let base = map.need("url", "https://api.example.com", |leaf| {
        base(leaf, insecure.unwrap_or(Insecure::Allowed), allow_cidrs.as_deref())
    });
    let inject = map.need("inject", "{secret: NAME, header: Authorization, format: \"Bearer {}\"}", |leaf| {
        inject(leaf, context, secrets)
    });
    let ca_file = map.given("ca_file", Leaf::path);
    let client_cert = map.given("client_cert", |leaf| client_cert(leaf, context, secrets));
    let pins = map.or("pins", Vec::new(), pins);
    let headers = map.or("headers", (None, Ranges::Denied), headers);
    let oddities = map.or("paths", Vec::new(), paths);
    let max_request = map.or("max_request", 32 * MIB, |leaf| leaf.size(0..=1024 * MIB));
    let max_response = map.given("max_response", |leaf| leaf.size(1..=u64::MAX));
    let timeouts = map.or("timeouts", Timeouts::default(), timeouts);
    let decode = map.or("decode", Vec::new(), |leaf| leaf.each(|leaf| leaf.word(&[("gzip", Coding::Gzip)])));
    map.finish();
    let ((secret, slot), (allow_headers, ranges)) = (inject?, headers?);
    Some(Settings {
        name,
        base: base?,
        secret,
        slot,
        client_cert: client_cert?,
        ca_file: ca_file?,
        pins: pins?,
        allow_cidrs: allow_cidrs?,
        allow_headers,
        ranges,
        oddities: oddities?,
        max_request: max_request?,
        max_response: max_response?,
        timeouts: timeouts?,
        decode: decode?,
    })
}

fn base(leaf: &Leaf<'_>, insecure: Insecure, allowed: Option<&[Cidr]>) -> Option<Base> {
    use crate::broker::upstream::address::{Origin, may_be_called};
    let base = match Base::parse(&leaf.text()?, insecure) {
        Ok(base) => base,
        Err(NotABase::Insecure) => {
            leaf.problem("http: the key could be read on the way", "write https://…, or insecure_http: true");
            return None;
        }
        Err(NotABase::Url) => {
            leaf.problem(
                "not a URL of https with nothing but host, port and path",
                "write https://api.example.com, or https://example.com/api/v3",
            );
            return None;
        }
    };
    if let (Some(address), Some(allowed)) = (base.address(), allowed)
        && !may_be_called(address, Origin::Literal, allowed)
    {
        leaf.problem(
            "an address that may not be called",
            "write a name, or put the address into allow_cidrs: [ADDRESS/32], which cannot allow link-local and metadata addresses",
        );
        return None;
    }
    Some(base)
}

/// The secret whose certificate is shown.
fn client_cert(
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    secrets: Option<&[keeper::Settings]>,
) -> Option<SecretName> {
    let name = leaf.refers(&context.secrets, SecretName::new)?;
    let settings = secrets.and_then(|secrets| secrets.iter().find(|settings| settings.name == name));
    if settings.is_some_and(|settings| !matches!(settings.kind, Kind::Certificate { .. })) {
        leaf.problem("not a certificate", "name a secret of kind: certificate");
        return None;
    }
    Some(name)
}

fn cidr(leaf: &Leaf<'_>) -> Option<Cidr> {
    let range = Cidr::parse(&leaf.text()?).ok();
    if range.is_none() {
        leaf.problem(
            "not a range of addresses",
            "write ADDRESS/BITS, as in 10.20.0.0/16, without bits behind the prefix",
        );
    }
    range
}

fn pins(leaf: &Leaf<'_>) -> Option<Vec<crate::crypto::Hash>> {
    let pins = leaf.each(|leaf| {
        let text = leaf.text()?;
        let bytes = BASE64_STANDARD.decode(text.strip_prefix("sha256/").unwrap_or(&text)).ok();
        let pin = bytes.and_then(|bytes| bytes.try_into().ok());
        if pin.is_none() {
            leaf.problem("not a pin", "write sha256/ and the SHA-256 of the server's public key as base64");
        }
        pin
    })?;
    if pins.len() < 2 {
        leaf.problem(
            "fewer than two pins",
            "pin the key in use and one more, or its next change locks you out",
        );
        return None;
    }
    Some(pins)
}

/// What its paths may hold.
fn paths(leaf: &Leaf<'_>) -> Option<Vec<Oddity>> {
    let mut map = leaf.map()?;
    let words = [("%2F", Oddity::Slash), (";", Oddity::Semicolon)];
    let allow = map.need("allow", "[\"%2F\", \";\"]", |leaf| leaf.each(|leaf| leaf.word(&words)));
    map.finish();
    allow
}

/// The only headers that are sent on, if there are any, and whether parts may be asked for.
fn headers(leaf: &Leaf<'_>) -> Option<(Option<Vec<HeaderName>>, Ranges)> {
    let mut map = leaf.map()?;
    let allow = map.given("allow", |leaf| leaf.each(|leaf| header_name(leaf)));
    let words = [("deny", Ranges::Denied), ("allow", Ranges::Allowed)];
    let ranges = map.or("range", Ranges::Denied, |leaf| leaf.word(&words));
    map.finish();
    Some((allow?, ranges?))
}

fn header_name(leaf: &Leaf<'_>) -> Option<HeaderName> {
    let name = HeaderName::try_from(leaf.text()?).ok();
    if name.is_none() {
        leaf.problem("not the name of a header", "write a name, as in Authorization or X-Api-Key");
    }
    name
}

fn timeouts(leaf: &Leaf<'_>) -> Option<Timeouts> {
    let default = Timeouts::default();
    let mut map = leaf.map()?;
    let connect = map.or("connect", default.connect, |leaf| leaf.duration(milliseconds(100, 60_000)));
    let mut long =
        |key, default: Duration| map.or(key, default, |leaf| leaf.duration(milliseconds(100, DAY * 1000)));
    let (first_byte, idle) = (long("first_byte", default.first_byte), long("idle", default.idle));
    map.finish();
    Some(Timeouts { connect: connect?, first_byte: first_byte?, idle: idle? })
}

fn inject(
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    secrets: Option<&[keeper::Settings]>,
) -> Option<(SecretName, Slot)> {
    let mut map = leaf.map()?;
    let found = map.need("secret", "the name of one of secrets", |leaf| {
        Some((leaf.clone(), leaf.refers(&context.secrets, SecretName::new)?))
    });
    let slot = slot(&mut map);
    map.finish();
    let ((place, secret), slot) = (found?, slot?);
    let settings = secrets.and_then(|secrets| secrets.iter().find(|settings| settings.name == secret));
    fits(&place, settings, &slot).then_some((secret, slot))
}

/// Whether the secret can have what the slot takes, as far as its settings tell.
fn fits(leaf: &Leaf<'_>, secret: Option<&keeper::Settings>, slot: &Slot) -> bool {
    let (found, right) = match (secret.map(|secret| &secret.kind), slot) {
        (Some(Kind::Token { per_process: true, .. }), _) => (
            "a token for each process: an upstream has one key for all",
            "remove per_process, or name another secret",
        ),
        (Some(Kind::Certificate { .. }), _) => {
            ("a certificate is no key for a header", "name a secret of another kind")
        }
        (Some(Kind::Kv { field: Some(_), .. } | Kind::Token { .. }), Slot::Basic { .. }) => (
            "basic needs a user and a password, and this secret has one value",
            "name a kv secret without `field`",
        ),
        (Some(Kind::Kv { field: Some(_), .. } | Kind::Token { .. }), Slot::SigV4(_)) => (
            "sigv4 needs a key of AWS, and this secret has one value",
            "name a kv secret without `field` that has access_key_id and secret_access_key, or a lease of the AWS engine",
        ),
        (Some(Kind::Kv { field: None, .. }), slot)
            if !matches!(slot, Slot::Basic { .. } | Slot::SigV4(_)) =>
        {
            leaf.warn(
                "a kv secret without `field`: it must then have one field only",
                "write field: in the secret",
            );
            return true;
        }
        _ => return true,
    };
    leaf.problem(found, right);
    false
}

fn slot(map: &mut Map<'_>) -> Option<Slot> {
    let header = map.find("header");
    let format = map.given("format", |leaf| format(leaf, header.is_some()));
    let (basic, query, body) = (map.find("basic"), map.find("query"), map.find("body"));
    let sigv4 = map.find("sigv4");
    let given = [&header, &basic, &query, &body, &sigv4].into_iter().flatten().count();
    if given != 1 {
        let found = if given == 0 { "no slot for the key" } else { "more than one slot for the key" };
        map.leaf().problem(found, "write one of header, basic, query, body, sigv4");
        return None;
    }
    if let Some(leaf) = header {
        let name = header_name(&leaf)?;
        if hop::frames_or_routes(name.as_str()) || name == http::header::ACCEPT_ENCODING {
            leaf.problem(
                "a header that frames or routes the message",
                "write the header that the API reads its key from",
            );
            return None;
        }
        let (before, after) = format?.unwrap_or_default();
        return Some(Slot::Header { name, before, after });
    }
    if let Some(leaf) = basic {
        let mut map = leaf.map()?;
        let user = map.need("user", "the field that has the user", Leaf::text);
        let password = map.need("password", "the field that has the password", Leaf::text);
        map.finish();
        return Some(Slot::Basic { user: user?, password: password? });
    }
    if let Some(leaf) = query {
        return Some(Slot::Query(leaf.text()?));
    }
    if let Some(leaf) = sigv4 {
        return signing::read(&leaf).map(Slot::SigV4);
    }
    in_body(&body?)
}

/// What stands before and behind `{}`.
fn format(leaf: &Leaf<'_>, has_header: bool) -> Option<(String, String)> {
    let text = leaf.text()?;
    if !has_header {
        leaf.problem("a format without a header", "write header: NAME, or remove it");
        return None;
    }
    let parts: Vec<&str> = text.split("{}").collect();
    match parts.as_slice() {
        [before, after] if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => {
            Some(((*before).to_owned(), (*after).to_owned()))
        }
        _ => {
            leaf.problem(
                "not a format with one {} in it",
                "write {} where the key goes, as in \"Bearer {}\"",
            );
            None
        }
    }
}

fn in_body(leaf: &Leaf<'_>) -> Option<Slot> {
    let mut map = leaf.map()?;
    let form = map.given("form", Leaf::text);
    let json = map.given("json", |leaf| {
        let text = leaf.text()?;
        let names: Option<Vec<String>> = text
            .strip_prefix('/')
            .map(|rest| rest.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect());
        if names.as_ref().is_none_or(|names| names.len() > 8 || names.iter().any(String::is_empty)) {
            leaf.problem(
                "not a way to a member of an object",
                "write a JSON pointer, as in /client_secret or /auth/key",
            );
            return None;
        }
        names
    });
    map.finish();
    match (form?, json?) {
        (Some(name), None) => Some(Slot::Form(name)),
        (None, Some(names)) => Some(Slot::Json(names)),
        _ => {
            leaf.problem("not one of form and json", "write body: {form: NAME}, or body: {json: /NAME}");
            None
        }
    }
}
