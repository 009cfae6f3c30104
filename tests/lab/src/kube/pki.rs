//! The keys and certificates of one cluster, made by openssl, valid for a day.
//! Which component shows which certificate is Kubernetes' own convention (its page "PKI certificates and requirements").

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A CA in a folder of its own, and all that it signed.
#[derive(Debug)]
pub(crate) struct Pki(PathBuf);

impl Pki {
    /// Makes the CA (`ca.crt`, `ca.key`) and the key pair of service-account tokens (`accounts.key`, `accounts.pub`).
    pub(crate) fn make(folder: PathBuf) -> Pki {
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("making {}: {error}", folder.display()));
        let pki = Pki(folder);
        pki.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=lab -keyout ca.key -out ca.crt",
        );
        pki.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out accounts.key");
        pki.openssl("pkey -in accounts.key -pubout -out accounts.pub");
        pki
    }

    /// Signs `NAME.crt` with the key `NAME.key`. `names` are its DNS names and addresses, as in `DNS:a,IP:10.0.0.1`;
    /// with none it is a client's only.
    pub(crate) fn sign(&self, name: &str, subject: &str, names: &str) {
        let mut line = format!(
            "req -x509 -CA ca.crt -CAkey ca.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj {subject} \
             -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=serverAuth,clientAuth -keyout {name}.key \
             -out {name}.crt"
        );
        if !names.is_empty() {
            line += &format!(" -addext subjectAltName={names}");
        }
        self.openssl(&line);
    }

    /// Signs a client's certificate and writes the kubeconfig `NAME.conf` that shows it to `server`.
    pub(crate) fn kubeconfig(&self, name: &str, subject: &str, server: &str) -> PathBuf {
        self.sign(name, subject, "");
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority": self.file("ca.crt")}}],
            "users": [{"name": "lab", "user": {
                "client-certificate": self.file(&format!("{name}.crt")), "client-key": self.file(&format!("{name}.key")),
            }}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        });
        let path = self.file(&format!("{name}.conf"));
        fs::write(&path, config.to_string())
            .unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
        path
    }

    /// Where `name` is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where everything is.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Runs openssl here; the words are separated by spaces.
    fn openssl(&self, words: &str) {
        let ran =
            Command::new("openssl").args(words.split(' ')).current_dir(&self.0).stdin(Stdio::null()).output();
        let ran = ran.unwrap_or_else(|error| panic!("running openssl: {error}"));
        assert!(ran.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}
