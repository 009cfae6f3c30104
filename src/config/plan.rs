//! What a config needs within reach, key by key.
//!
//! Pure. Does not say whether it is there.

use super::Config;
use crate::{
    audit::sink::settings::{Address, Kind, Receiver, Tls},
    name::RotationName,
    rotation::{self, kubernetes},
    sandbox::{Need, Plan},
    vault::login::{JwtLogin, Method, SecretId},
};
use std::path::{Path, PathBuf};

impl Config {
    /// All that must stay within reach when this config runs, which was read from `file`.
    #[must_use]
    pub fn plan(&self, file: &Path) -> Plan {
        let mut plan = Plan::default();
        plan.add(Need::Read(file.to_owned()));
        plan.extend(self.needs().into_iter().map(|(_, need)| need));
        plan
    }

    /// The keys that need what `plan` does not allow.
    pub(super) fn beyond(&self, plan: &Plan) -> Vec<String> {
        let mut keys: Vec<String> =
            self.needs().into_iter().filter(|(_, need)| !plan.allows(need)).map(|(key, _)| key).collect();
        keys.dedup();
        keys
    }

    /// Each need beside the key that it comes from. Keys that stand beside each other in the file do here.
    fn needs(&self) -> Vec<(String, Need)> {
        let mut needs = Vec::new();
        let mut add = |key: &dyn std::fmt::Display, need| needs.push((key.to_string(), need));
        for port in self.vault.addresses.iter().filter_map(url::Url::port_or_known_default) {
            add(&"vault.addresses", Need::Connect(port));
        }
        if let Some(file) = &self.vault.ca_file {
            add(&"vault.ca_file", Need::Read(file.clone()));
        }
        for file in self.vault.client_cert.iter().flat_map(|cert| [&cert.cert_file, &cert.key_file]) {
            add(&"vault.client_cert", Need::Read(file.clone()));
        }
        for identity in &self.identities {
            for file in files(&identity.method) {
                add(&format_args!("identities.{}", identity.name), Need::Read(file.clone()));
            }
        }
        for (name, dir) in self.rotations.iter().filter_map(of_rotation) {
            add(&format_args!("rotations.{name}"), Need::Write(dir));
        }
        add(&"audit.journal.dir", Need::Write(self.audit.journal.dir.clone()));
        for sink in &self.audit.sinks {
            for need in of_sink(&sink.kind) {
                add(&format_args!("audit.sinks.{}", sink.name), need);
            }
        }
        for workload in &self.workloads {
            let (name, path) = (&workload.listener.workload, workload.listener.path.clone());
            add(&format_args!("workloads.{name}.socket.path"), Need::Socket(path));
            for path in workload.upstreams.values() {
                add(&format_args!("workloads.{name}.socket.sockets_dir"), Need::Socket(path.clone()));
            }
        }
        for upstream in &self.upstreams {
            add(&format_args!("upstreams.{}.url", upstream.name), Need::Connect(upstream.base.port()));
            if let Some(file) = &upstream.ca_file {
                add(&format_args!("upstreams.{}.ca_file", upstream.name), Need::Read(file.clone()));
            }
        }
        for (name, hook) in self.approvals.iter().filter_map(|one| Some((&one.name, one.webhook.as_ref()?))) {
            for need in of_receiver(&hook.to, [&hook.hmac_key_file, &hook.bearer_file]) {
                add(&format_args!("approvals.{name}"), need);
            }
            let port = hook.status_url.as_ref().and_then(|url| url.of("0-0")?.port_or_known_default());
            if let Some(port) = port {
                add(&format_args!("approvals.{name}"), Need::Connect(port));
            }
        }
        for rotation in &self.rotations {
            for need in rotation.coordination.kubernetes().into_iter().flat_map(of_lease) {
                add(&format_args!("rotations.{}.coordination", rotation.name), need);
            }
        }
        for path in self.report.iter().filter_map(|report| report.exposure.as_ref()).flat_map(|it| &it.files)
        {
            // A file in its folder, or the files of a folder.
            add(&"report.exposure.files", Need::Read(path.clone()));
            add(&"report.exposure.files", Need::Read(path.join("*")));
        }
        add(&"health.listen", Need::Bind(self.health.listen.port()));
        needs
    }
}

fn of_lease(settings: &kubernetes::Settings) -> impl Iterator<Item = Need> {
    let port = settings.server.port_or_known_default().map(Need::Connect);
    let files = [&settings.ca_file, &settings.token_file];
    files.into_iter().cloned().map(Need::Read).chain(port)
}

/// Where a rotation replaces a file of ours.
fn of_rotation(settings: &rotation::Settings) -> Option<(&RotationName, PathBuf)> {
    match &settings.kind {
        rotation::Kind::Bootstrap(bootstrap) => {
            bootstrap.file.path.parent().map(|dir| (&settings.name, dir.to_owned()))
        }
        _ => None,
    }
}

/// A datagram socket of this machine needs nothing: connecting to one is not what the sandbox restricts.
fn of_sink(kind: &Kind) -> Vec<Need> {
    match kind {
        Kind::Stdout => Vec::new(),
        Kind::File(file) => file.path.parent().map(|dir| Need::Write(dir.to_owned())).into_iter().collect(),
        Kind::Http(http) => of_receiver(&http.to, [&http.hmac_key_file, &http.bearer_file]),
        Kind::Otlp(otlp) => of_receiver(&otlp.to, [&otlp.bearer_file]),
        Kind::Splunk(splunk) => of_receiver(&splunk.to, [&Some(splunk.token_file.clone())]),
        Kind::Syslog(syslog) => match syslog.address {
            Address::Tcp { port, .. } | Address::Tls { port, .. } => {
                of_tls(&syslog.tls).chain([Need::Connect(port)]).collect()
            }
            Address::Unix(_) => Vec::new(),
        },
    }
}

fn of_receiver<const N: usize>(to: &Receiver, files: [&Option<PathBuf>; N]) -> Vec<Need> {
    let port = to.url.port_or_known_default().map(Need::Connect);
    let files = files.into_iter().flatten().cloned().map(Need::Read);
    of_tls(&to.tls).chain(files).chain(port).collect()
}

fn of_tls(tls: &Tls) -> impl Iterator<Item = Need> {
    let own = tls.client_cert.iter().flat_map(|cert| [&cert.cert_file, &cert.key_file]);
    tls.ca_file.iter().chain(own).cloned().map(Need::Read)
}

fn files(method: &Method) -> Vec<&PathBuf> {
    match method {
        Method::Kubernetes(JwtLogin { token_file, .. })
        | Method::Jwt(JwtLogin { token_file, .. })
        | Method::TokenFile { token_file } => vec![token_file],
        Method::AppRole { role_id_file, secret_id, .. } => match secret_id {
            SecretId::Plain { file } | SecretId::Wrapped { file, .. } => vec![role_id_file, file],
        },
        Method::Cert { .. } => Vec::new(),
    }
}
