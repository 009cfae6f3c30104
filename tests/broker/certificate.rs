//! A certificate of the agent's own, from the real Vault's PKI engine, shown to an upstream that takes nobody without one.

use crate::{
    live::token,
    rig::{Plan, Rig, config},
    server::{Server, certify, say},
    support::{Scene, until},
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio_rustls::TlsAcceptor;

/// Takes certificates of one CA, and remembers them.
#[derive(Debug)]
struct Doorkeeper {
    chain: Arc<dyn ClientCertVerifier>,
    shown: Mutex<BTreeSet<Vec<u8>>>,
}

impl ClientCertVerifier for Doorkeeper {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.shown.lock().unwrap().insert(end_entity.to_vec());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl Doorkeeper {
    fn new(ca: &str) -> Arc<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let chain = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        Arc::new(Self { chain, shown: Mutex::default() })
    }

    fn acceptor(self: &Arc<Self>, folder: &Path) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_file(folder.join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let builder = ServerConfig::builder().with_client_cert_verifier(Arc::<Self>::clone(self));
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()))
    }

    fn count(&self) -> usize {
        self.shown.lock().unwrap().len()
    }
}

#[test]
fn an_upstream_is_shown_a_certificate_and_the_next_one_as_soon_as_it_is_there() {
    let Some(vault) = lab::Vault::start() else { return };
    let root = vault.root();
    root.post("sys/mounts/clients", &json!({"type": "pki"})).expect_success();
    let ca = root.post("clients/root/generate/internal", &json!({"common_name": "clients", "ttl": "24h"}));
    let ca = ca.expect_success()["data"]["certificate"].as_str().unwrap().to_owned();
    let role = json!({"allow_any_name": true, "key_type": "ec", "key_bits": 256, "max_ttl": "1h"});
    root.post("clients/roles/bot", &role).expect_success();
    root.post("secret/data/broker", &json!({"data": {"api_key": crate::support::VALUE}})).expect_success();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let scene = Scene::new().await;
        certify(&scene.path(""), &[("server", "127.0.0.1")]);
        let doorkeeper = Doorkeeper::new(&ca);
        let server = Server::start(Some(doorkeeper.acceptor(&scene.path(""))), |_| say(200, &[], "fine")).await;
        let plan = Plan {
            secrets: Some(
                "{stripe: {identity: reports, kind: kv, path: secret/broker, field: api_key, refresh: 1h}, \
                  bot: {identity: reports, kind: certificate, path: clients/issue/bot, \
                        params: {common_name: bot.internal, ttl: 20s}, renew_at: 0.1}}",
            ),
            more: ", client_cert: bot".to_owned(),
            ..Plan::default()
        };
        let mut config = config(&scene, &server, &plan);
        (config.vault, config.identities) = token(
            &vault,
            &scene,
            "path \"secret/*\" { capabilities = [\"read\"] }\npath \"clients/issue/bot\" { capabilities = [\"update\"] }",
        );
        let agent = scene.start(&config).await;
        let rig = Rig { scene, server, agent };
        for _ in 0..2 {
            let reply = rig.get("/").await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "fine"), "{}", rig.agent.stderr());
        }
        until("the next certificate", || async {
            assert_eq!(rig.get("/").await.status, 200);
            (doorkeeper.count() >= 2).then_some(())
        })
        .await;
        // One connection for each of them, and none of the old one once there is a new one.
        assert_eq!(rig.server.connections(), doorkeeper.count());
        assert!(!rig.agent.stderr().contains("BEGIN"));
        config.rest = config.rest.replace(", client_cert: bot", "");
        rig.scene.write(&config.text());
        rig.agent.event("the change", |event| event["type"] == "config.loaded.v1").await;
        assert_eq!(rig.get("/").await.status, 502, "nobody comes in without one");
    });
}
