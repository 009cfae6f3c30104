//! `audit.sinks`: where events go on to.
//!
//! Pure. Never repeats an address: it may hold a password.

use super::super::reader::{Leaf, Map};
use super::{milliseconds, vault::is_loopback};
use crate::{
    audit::sink::{
        Format, Need, Settings,
        settings::{self, Kind},
    },
    name::SinkName,
};
use std::{path::Path, time::Duration};
use url::Url;

const MIB: u64 = 1024 * 1024;

/// Where we speak without TLS.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum PlainText {
    Anywhere,
    Loopback,
}

fn plain_text(leaf: &Leaf<'_>) -> Option<PlainText> {
    Some(if leaf.flag()? { PlainText::Anywhere } else { PlainText::Loopback })
}

/// The sinks of a config that says nothing of them: one, which prints.
pub(super) fn default() -> Option<Vec<Settings>> {
    let name = SinkName::new("stdout").ok()?;
    Some(vec![Settings { name, kind: Kind::Stdout, format: Format::Native, required: Need::Optional }])
}

/// Reads the sinks of a journal in `journal`.
pub(super) fn read(leaf: &Leaf<'_>, journal: Option<&Path>) -> Option<Vec<Settings>> {
    let mut read: Vec<Option<Settings>> = Vec::new();
    for (name, leaf) in leaf.named(SinkName::new)? {
        let sink = sink(name, &leaf);
        if let Some(sink) = &sink {
            beside_others(&leaf, sink, read.iter().flatten(), journal);
        }
        read.push(sink);
    }
    read.into_iter().collect()
}

/// Two sinks must not write to one place, and none into the journal.
fn beside_others<'a>(
    leaf: &Leaf<'_>,
    sink: &Settings,
    mut others: impl Iterator<Item = &'a Settings>,
    journal: Option<&Path>,
) {
    match &sink.kind {
        Kind::Stdout if others.any(|other| other.kind == Kind::Stdout) => leaf.problem(
            "a second sink of kind stdout",
            "keep one: both would write the same lines to one place",
        ),
        Kind::File(file) => {
            let same = |other: &Settings| matches!(&other.kind, Kind::File(other) if other.path == file.path);
            if others.any(same) {
                leaf.problem("a second sink that writes to this file", "give each a file of its own");
            }
            if journal.is_some_and(|journal| file.path.starts_with(journal)) {
                leaf.problem("a file in the journal's directory", "write it to a directory of its own");
            }
        }
        _ => {}
    }
}

fn sink(name: SinkName, leaf: &Leaf<'_>) -> Option<Settings> {
    #[derive(Clone, Copy)]
    enum Word {
        Stdout,
        File,
        Http,
        Otlp,
        Syslog,
        Splunk,
    }
    let mut map = leaf.map()?;
    let word = map.need("kind", "stdout", |leaf| {
        leaf.word(&[
            ("stdout", Word::Stdout),
            ("file", Word::File),
            ("http", Word::Http),
            ("otlp", Word::Otlp),
            ("syslog", Word::Syslog),
            ("splunk", Word::Splunk),
        ])
    });
    // Which keys there are depends on the kind: without one, none of them is called unknown.
    let word = word?;
    let format = map.or("format", Format::Native, |leaf| match word {
        Word::Otlp => {
            leaf.problem("a format for otlp, which has a form of its own", "remove it");
            None
        }
        _ => leaf.word(&[
            ("native", Format::Native),
            ("cloudevents", Format::CloudEvents),
            ("ocsf", Format::Ocsf),
            ("ecs", Format::Ecs),
        ]),
    });
    let required = map.or("required", Need::Optional, |leaf| {
        Some(if leaf.flag()? { Need::Required } else { Need::Optional })
    });
    let kind = match word {
        Word::Stdout => Some(Kind::Stdout),
        Word::File => file(&mut map).map(Kind::File),
        Word::Http => http(&mut map).map(Kind::Http),
        Word::Otlp => otlp(&mut map).map(Kind::Otlp),
        Word::Syslog => syslog(&mut map).map(Kind::Syslog),
        Word::Splunk => splunk(&mut map).map(Kind::Splunk),
    };
    map.finish();
    Some(Settings { name, kind: kind?, format: format?, required: required? })
}

fn file(map: &mut Map<'_>) -> Option<settings::File> {
    let path = map.need("path", "/var/log/claviger/audit.jsonl", Leaf::path);
    let max_size = map.or("max_size", 64 * MIB, |leaf| leaf.size(MIB..=1024 * 1024 * MIB));
    let keep = map.or("keep", 3, |leaf| leaf.whole(0..=100));
    Some(settings::File { path: path?, max_size: max_size?, keep: keep? })
}

fn http(map: &mut Map<'_>) -> Option<settings::Http> {
    let to = receiver(map, "https://siem.internal/events", |_| None);
    let hmac_key_file = map.given("hmac_key_file", Leaf::path);
    let bearer_file = map.given("bearer_file", Leaf::path);
    Some(settings::Http { to: to?, hmac_key_file: hmac_key_file?, bearer_file: bearer_file? })
}

fn otlp(map: &mut Map<'_>) -> Option<settings::Otlp> {
    let to = receiver(map, "https://collector:4318/v1/logs", |url| {
        (!url.path().ends_with("/v1/logs"))
            .then_some(("not the address of OTLP's logs", "write it with its path, which ends in /v1/logs"))
    });
    let bearer_file = map.given("bearer_file", Leaf::path);
    Some(settings::Otlp { to: to?, bearer_file: bearer_file? })
}

fn splunk(map: &mut Map<'_>) -> Option<settings::Splunk> {
    let to = receiver(map, "https://splunk:8088", |url| {
        (url.path() != "/" || url.query().is_some())
            .then_some(("an address with a path or a query", "write https://HOST:PORT and nothing after it"))
    });
    let token_file = map.need("token_file", "/etc/claviger/splunk-token", Leaf::path);
    let index = map.given("index", Leaf::text);
    let ack = map.or("ack", settings::Ack::Taken, |leaf| {
        Some(if leaf.flag()? { settings::Ack::Indexed } else { settings::Ack::Taken })
    });
    Some(settings::Splunk { to: to?, token_file: token_file?, index: index?, ack: ack? })
}

/// A found mistake and its remedy.
type Wrong = (&'static str, &'static str);

/// Who is spoken to over HTTP, by the keys that all such have; `wrong` finds what is wrong with its address.
pub(super) fn receiver(
    map: &mut Map<'_>,
    example: &str,
    wrong: impl FnOnce(&Url) -> Option<Wrong>,
) -> Option<settings::Receiver> {
    let insecure = map.or("insecure_http", PlainText::Loopback, plain_text);
    let url = map.need("url", example, |leaf| {
        let url = url(leaf, insecure.unwrap_or(PlainText::Anywhere))?;
        if let Some((found, right)) = wrong(&url) {
            leaf.problem(found, right);
            return None;
        }
        Some(url)
    });
    let (tls, timeout) = (tls(map), timeout(map));
    Some(settings::Receiver { url: url?, tls: tls?, timeout: timeout? })
}

/// An address of a receiver.
pub(super) fn url(leaf: &Leaf<'_>, plain: PlainText) -> Option<Url> {
    let url = Url::parse(&leaf.text()?)
        .ok()
        .filter(|url| url.has_host() && matches!(url.scheme(), "https" | "http"));
    let Some(url) = url else {
        leaf.problem("not an address", "write https://HOST:PORT/PATH");
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        leaf.problem("an address with a user or a password in it", "put what proves who we are into a file");
    } else if url.fragment().is_some() {
        leaf.problem("an address with a fragment", "leave out # and what follows it");
    } else if url.scheme() == "http" && plain == PlainText::Loopback && !is_loopback(&url) {
        leaf.problem(
            "plain http to another machine: whoever is on the way reads who used which key",
            "write https, or set insecure_http: true beside it",
        );
    } else {
        return Some(url);
    }
    None
}

fn tls(map: &mut Map<'_>) -> Option<settings::Tls> {
    let ca_file = map.given("ca_file", Leaf::path);
    let client_cert = map.given("client_cert", |leaf| {
        let mut map = leaf.map()?;
        let cert_file = map.need("cert_file", "/etc/claviger/siem.crt", Leaf::path);
        let key_file = map.need("key_file", "/etc/claviger/siem.key", Leaf::path);
        map.finish();
        Some(settings::ClientCert { cert_file: cert_file?, key_file: key_file? })
    });
    Some(settings::Tls { ca_file: ca_file?, client_cert: client_cert? })
}

fn timeout(map: &mut Map<'_>) -> Option<Duration> {
    map.or("timeout", Duration::from_secs(10), |leaf| leaf.duration(milliseconds(100, 300_000)))
}

fn syslog(map: &mut Map<'_>) -> Option<settings::Syslog> {
    let insecure = map.or("insecure_tcp", PlainText::Loopback, plain_text);
    let address = map
        .need("address", "tls://syslog:6514", |leaf| address(leaf, insecure.unwrap_or(PlainText::Anywhere)));
    let facility = map.or("facility", 10, facility);
    let app_name = map.or("app_name", "claviger".to_owned(), |leaf| {
        let text = leaf.text()?;
        if text.len() > 48 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            leaf.problem("not a name that syslog takes", "write 1 to 48 printable ASCII characters");
            return None;
        }
        Some(text)
    });
    let max_message = map.or("max_message", 8 * 1024, |leaf| leaf.size(1024..=MIB));
    let (tls, timeout) = (tls(map), timeout(map));
    let (address, tls) = (address?, tls?);
    if !matches!(address, settings::Address::Tls { .. }) && tls != settings::Tls::default() {
        map.leaf().problem(
            "ca_file or client_cert for an address without TLS",
            "remove them, or write a tls:// address",
        );
        return None;
    }
    let max_message = usize::try_from(max_message?).ok()?;
    Some(settings::Syslog {
        address,
        facility: facility?,
        app_name: app_name?,
        max_message,
        tls,
        timeout: timeout?,
    })
}

fn address(leaf: &Leaf<'_>, plain_text: PlainText) -> Option<settings::Address> {
    const RIGHT: &str = "write tls://HOST:PORT, tcp://HOST:PORT or unix:///dev/log";
    let Ok(url) = Url::parse(&leaf.text()?) else {
        leaf.problem("not the address of a syslog receiver", RIGHT);
        return None;
    };
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let bare = matches!(url.path(), "" | "/");
    let host = url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned());
    let found = match (url.scheme(), host, url.port()) {
        ("unix", None, None) if plain && url.path().len() > 1 => {
            Some(settings::Address::Unix(url.path().into()))
        }
        ("tls", Some(host), port) if plain && bare => {
            Some(settings::Address::Tls { host, port: port.unwrap_or(6514) })
        }
        ("tcp", Some(host), port) if plain && bare => {
            let local = host == "localhost"
                || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
            if !local && plain_text == PlainText::Loopback {
                leaf.problem(
                    "plain TCP to another machine: whoever is on the way reads who used which key",
                    "write tls://, or set insecure_tcp: true beside it",
                );
                return None;
            }
            Some(settings::Address::Tcp { host, port: port.unwrap_or(601) })
        }
        _ => None,
    };
    if found.is_none() {
        leaf.problem("not the address of a syslog receiver", RIGHT);
    }
    found
}

fn facility(leaf: &Leaf<'_>) -> Option<u8> {
    leaf.word(&[
        ("user", 1),
        ("daemon", 3),
        ("auth", 4),
        ("authpriv", 10),
        ("audit", 13),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ])
}
