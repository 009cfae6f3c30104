//! What a config needs within reach, key by key.
//!
//! Pure. Does not say whether it is there.

use super::Config;
use crate::{
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
        add(&"audit.journal.dir", Need::Write(self.audit.journal.dir.clone()));
        for workload in &self.workloads {
            let (name, path) = (&workload.listener.workload, workload.listener.path.clone());
            add(&format_args!("workloads.{name}.socket.path"), Need::Socket(path));
        }
        add(&"health.listen", Need::Bind(self.health.listen.port()));
        needs
    }
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
