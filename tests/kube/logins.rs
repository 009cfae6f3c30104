//! The built program logs in to a real Vault whose `kubernetes` method asks a real API server: the right token of the right
//! account, and each way of being wrong. No pod runs here.

use crate::{
    accounts,
    rig::{Agent, Plan, until},
};
use lab::{ApiServer, Vault};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::Path, sync::OnceLock};

const LOGIN: &str = "auth/kubernetes/login";

/// Both, and the trust between them.
pub(crate) struct Pair {
    pub(crate) api: ApiServer,
    pub(crate) vault: Vault,
}

/// One API server and one Vault that trusts it, for all tests here; each has namespaces and roles of its own.
pub(crate) fn pair() -> Option<&'static Pair> {
    static PAIR: OnceLock<Option<Pair>> = OnceLock::new();
    let start = || {
        let (api, vault) = (ApiServer::start()?, Vault::start()?);
        accounts::trust(&vault, api.cluster(), &api.url(), &api.ca_file());
        Some(Pair { api, vault })
    };
    PAIR.get_or_init(start).as_ref()
}

impl Pair {
    /// A namespace with the accounts `job` and `other`, and a role of the same name for `job` alone.
    fn tenant(&self, name: &str) {
        let cluster = self.api.cluster();
        cluster.namespace(name);
        cluster.account(name, "job");
        cluster.account(name, "other");
        accounts::role(&self.vault, name, name, "job", &json!({}));
    }

    /// A plan that logs in for `role` with the token in `token_file`.
    fn plan(&self, role: &str) -> Plan {
        let mut plan = Plan::new(&self.vault);
        plan.stripe(&self.vault);
        let token_file = plan.path("token");
        plan.identity(json!({"method": "kubernetes", "role": role, "token_file": token_file}));
        plan
    }

    /// An agent that has this token.
    fn agent(&self, role: &str, token: &str) -> Agent {
        let plan = self.plan(role);
        plan.file("token", token);
        plan.start()
    }
}

#[test]
fn a_token_of_audience_vault_logs_in_by_token_review() {
    let Some(pair) = pair() else { return };
    pair.tenant("right");
    let agent = pair.agent("right", &pair.api.cluster().token("right", "job", "vault"));
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
    let login = agent.event("auth.login.v1", |_| true);
    assert_eq!(login["vault"]["role"], "right");
    agent.ready();
}

/// The agent gets no value with this token, and says why; with the right one, nothing else stands in the way.
fn check_refused(pair: &Pair, role: &str, token: &str) {
    let right = json!({"role": role, "jwt": pair.api.cluster().token(role, "job", "vault")});
    pair.vault.client("").post(LOGIN, &right).expect_success();
    let agent = pair.agent(role, token);
    let failed = agent.event("auth.failed.v1", |_| true);
    assert_eq!(
        (&failed["reason"], &failed["vault"]["status"]),
        (&json!("vault_denied"), &json!(403)),
        "{failed}"
    );
    let refused = agent.read("stripe");
    assert_eq!((refused.status, &refused.json()["reason"]), (403, &json!("vault_denied")));
    let unready = agent.health("/readyz");
    assert!(unready.status == 503 && unready.text.contains("no_token"), "{unready:?}");
}

#[test]
fn a_token_of_another_audience_is_refused() {
    let Some(pair) = pair() else { return };
    pair.tenant("audience");
    let token = pair.api.cluster().token("audience", "job", "https://kubernetes.default.svc");
    check_refused(pair, "audience", &token);
}

#[test]
fn a_token_of_another_account_of_the_namespace_is_refused() {
    let Some(pair) = pair() else { return };
    pair.tenant("account");
    check_refused(pair, "account", &pair.api.cluster().token("account", "other", "vault"));
}

#[test]
fn a_token_of_the_same_account_of_another_namespace_is_refused() {
    let Some(pair) = pair() else { return };
    pair.tenant("home");
    pair.tenant("abroad");
    check_refused(pair, "home", &pair.api.cluster().token("abroad", "job", "vault"));
}

#[test]
fn a_token_whose_pod_is_gone_is_refused() {
    let Some(pair) = pair() else { return };
    pair.tenant("gone");
    check_refused(pair, "gone", &Bound::make(pair, "gone", "first").lost());
}

/// A token that is valid as long as an object is: the kubelet binds those of a pod to the pod.
struct Bound<'a> {
    pair: &'a Pair,
    namespace: &'a str,
    object: &'a str,
    token: String,
}

impl<'a> Bound<'a> {
    fn make(pair: &'a Pair, namespace: &'a str, object: &'a str) -> Self {
        let cluster = pair.api.cluster();
        cluster.kubectl(&["-n", namespace, "create", "secret", "generic", object]).expect_success();
        let line =
            ["-n", namespace, "create", "token", "job", "--audience=vault", "--bound-object-kind=Secret"];
        let ran = cluster.kubectl(&[&line[..], &["--bound-object-name", object]].concat());
        Self { pair, namespace, object, token: ran.expect_success().trim().to_owned() }
    }

    /// The token, after its object has been deleted.
    fn lost(self) -> String {
        self.pair
            .api
            .cluster()
            .kubectl(&["-n", self.namespace, "delete", "secret", self.object])
            .expect_success();
        self.token
    }
}

/// Puts `token` into place as the kubelet does: a new folder, and the link `..data` moved over to it.
fn project(volume: &Path, generation: &str, token: &str) {
    let folder = volume.join(generation);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("token"), token).unwrap();
    symlink(generation, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    if !volume.join("token").exists() {
        symlink("..data/token", volume.join("token")).unwrap();
    }
}

#[test]
fn a_rotated_projected_token_is_picked_up_by_the_next_login() {
    let Some(pair) = pair() else { return };
    pair.tenant("rotated");
    pair.vault.audit_file();
    let mut plan = pair.plan("rotated");
    let volume = plan.path("volume");
    let first = Bound::make(pair, "rotated", "first");
    project(&volume, "..1", &first.token);
    plan.config["identities"]["reports"]["token_file"] = json!(volume.join("token"));
    let agent = plan.start();
    agent.value("stripe");

    let second = Bound::make(pair, "rotated", "second");
    project(&volume, "..2", &second.token);
    fs::remove_dir_all(volume.join("..1")).unwrap();
    // Whoever still shows the first one is refused from now on.
    first.lost();
    let logins = logged_in(pair, "rotated");
    let revoked = json!({"accessor": logins[0]});
    pair.vault.root().post("auth/token/revoke-accessor", &revoked).expect_success();
    until("a second login", || (logged_in(pair, "rotated").len() > logins.len()).then_some(()));
    assert_eq!(agent.value("stripe")["value"], "sk_live_1");
}

/// The accessors of the tokens that Vault gave for `role`, oldest first.
fn logged_in(pair: &Pair, role: &str) -> Vec<String> {
    let given = |entry: &Value| {
        let of_role = entry["type"] == "response"
            && entry.pointer("/response/auth/metadata/role") == Some(&json!(role));
        of_role.then(|| entry.pointer("/response/auth/accessor")?.as_str().map(str::to_owned))?
    };
    pair.vault.audit_file().entries().iter().filter_map(given).collect()
}
