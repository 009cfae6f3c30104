//! What the client of the key-value engine, version 2, promises: the same assertions on the in-memory Vault and on the real one, so that
//! what it takes for a lost race is what Vault says of one. [`kv2_promises!`] makes a test of each.

use claviger::{
    secret::SecretValue,
    vault::{
        Budget, Settings, Vault,
        caller::{Caller, Calling},
        endpoint::Request,
        error::Class,
        kv2::{Kv2, Place, Written},
        limiter::Account,
    },
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// One test of each promise; `$on` has a server for it.
macro_rules! kv2_promises {
    ($on:ident) => {
        kv2_promises! { $on:
            of_two_who_write_behind_the_same_version_one_is_overtaken
            a_write_that_is_refused_for_another_reason_is_an_error
            what_never_was_is_version_0_and_what_is_deleted_keeps_its_number
            what_is_written_between_the_two_questions_is_found
            an_old_version_is_read_until_it_is_deleted
            fields_come_in_vaults_order_with_their_json
            a_folder_that_is_not_there_is_empty
            a_place_that_keeps_few_versions_refuses_writes_that_name_none
            the_mount_is_found_in_a_path
        }
    };
    ($on:ident: $($name:ident)*) => {
        $(#[test] fn $name() { $on(crate::kv2_promises::$name); })*
    };
}
pub(crate) use kv2_promises;

/// The root token of a server.
pub(crate) struct Root {
    vault: Vault,
    token: SecretValue,
}

impl Root {
    pub(crate) fn new(url: &str, token: &str) -> Self {
        // The HTTP client wants one even for plain HTTP; a second install is refused and harmless.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let vault = Vault::new(Settings {
            addresses: vec![url.parse().unwrap()],
            ca_file: None,
            client_cert: None,
            server_name: None,
            namespace: None,
            timeout: Duration::from_secs(30),
            budget: Budget { calls_per_second: 1_000, burst: 1_000 },
        });
        Self { vault: vault.unwrap(), token: SecretValue::new(token.to_owned()) }
    }

    async fn says(&self, path: &str, body: &Value) -> String {
        self.call(&Request::write(path, body)).await.err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// An engine that no other test uses, once it answers: the real one says 400 while it prepares the mount.
    async fn mount(&self, version: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mount = format!("places-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let settings = json!({"type": "kv", "options": {"version": version}});
        assert_eq!(self.says(&format!("sys/mounts/{mount}"), &settings).await, "");
        let ready = async || self.call(&Request::list(&format!("{mount}/metadata"))).await;
        while ready().await.is_err_and(|error| error.class() != Class::Missing) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        mount
    }

    async fn place(&self) -> Place {
        Place { mount: self.mount("2").await, path: "a/b".into() }
    }
}

impl Caller for Root {
    fn call<'a>(&'a self, request: &'a Request) -> Calling<'a> {
        Box::pin(self.vault.call_as(&Account::Upkeep, &self.token, request))
    }
}

pub(crate) async fn of_two_who_write_behind_the_same_version_one_is_overtaken(root: &Root) {
    let (kv2, place) = (Kv2::by(root), root.place().await);
    let write = async |n: u64, version: u64| kv2.write(&place, &json!({"n": n}), version).await.unwrap();
    assert_eq!(write(1, 0).await, Written::As(1));
    assert_eq!(write(2, 0).await, Written::Overtaken);
    assert_eq!(write(2, 1).await, Written::As(2));
    assert_eq!(write(3, 1).await, Written::Overtaken);
    let found = kv2.read(&place).await.unwrap().unwrap();
    assert_eq!((found.version, found.value::<Value>()), (2, Some(json!({"n": 2}))));
    assert_eq!(found.value::<Vec<u64>>(), None);
}

pub(crate) async fn a_write_that_is_refused_for_another_reason_is_an_error(root: &Root) {
    let (kv2, place) = (Kv2::by(root), root.place().await);
    let error = kv2.write(&place, &"no object", 0).await.unwrap_err();
    assert_eq!(error.class(), Class::Invalid);
    let begins = format!("writing {}/data/a/b: HTTP 400", place.mount);
    assert!(error.to_string().starts_with(&begins), "{error}");
}

pub(crate) async fn what_never_was_is_version_0_and_what_is_deleted_keeps_its_number(root: &Root) {
    let (kv2, place) = (Kv2::by(root), root.place().await);
    let newest = async || {
        let newest = kv2.newest(&place).await.unwrap();
        (newest.version, newest.value::<Value>())
    };
    assert_eq!(newest().await, (0, None));
    kv2.write(&place, &json!({"n": 1}), 0).await.unwrap();
    assert_eq!(newest().await, (1, Some(json!({"n": 1}))));
    kv2.delete_version(&place, 1).await.unwrap();
    assert_eq!(newest().await, (1, None));
    assert!(kv2.read(&place).await.unwrap().is_none());
    assert_eq!(kv2.write(&place, &json!({}), 1).await.unwrap(), Written::As(2));
    kv2.delete(&place).await.unwrap();
    assert_eq!(newest().await, (0, None));
    kv2.delete(&place).await.unwrap();
}

/// Another process, which writes when we have just heard that there is nothing.
struct Faster<'a> {
    root: &'a Root,
    place: &'a Place,
}

impl Caller for Faster<'_> {
    fn call<'a>(&'a self, request: &'a Request) -> Calling<'a> {
        Box::pin(async move {
            let answer = self.root.call(request).await;
            if answer.as_ref().is_err_and(|error| error.to_string().contains("/data/")) {
                Kv2::by(self.root).write(self.place, &json!({"n": 1}), 0).await?;
            }
            answer
        })
    }
}

pub(crate) async fn what_is_written_between_the_two_questions_is_found(root: &Root) {
    let place = root.place().await;
    let newest = Kv2::by(&Faster { root, place: &place }).newest(&place).await.unwrap();
    assert_eq!((newest.version, newest.value::<Value>()), (1, Some(json!({"n": 1}))));
}

pub(crate) async fn an_old_version_is_read_until_it_is_deleted(root: &Root) {
    let (kv2, place) = (Kv2::by(root), root.place().await);
    for n in 0..2 {
        kv2.write(&place, &json!({"n": n}), n).await.unwrap();
    }
    let first = async || kv2.version(&place, 1).await.unwrap().map(|one| (one.version, one.value::<Value>()));
    assert_eq!(first().await, Some((1, Some(json!({"n": 0})))));
    kv2.delete_version(&place, 1).await.unwrap();
    assert_eq!(first().await, None);
    assert!(kv2.version(&place, 9).await.unwrap().is_none());
}

pub(crate) async fn fields_come_in_vaults_order_with_their_json(root: &Root) {
    let (kv2, place) = (Kv2::by(root), root.place().await);
    assert!(kv2.newest(&place).await.unwrap().fields().unwrap().is_none());
    kv2.write_object(&place, br#"{"a":"x","b":{"c":1}}"#, 0).await.unwrap();
    let fields = kv2.newest(&place).await.unwrap().fields().unwrap().unwrap();
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, text)| (name.as_str(), text.expose())).collect();
    assert_eq!(fields, [("a", r#""x""#), ("b", r#"{"c":1}"#)]);
}

pub(crate) async fn a_folder_that_is_not_there_is_empty(root: &Root) {
    let (kv2, place) = (Kv2::by(root), root.place().await);
    let folder = |path: &str| Place { mount: place.mount.clone(), path: path.to_owned() };
    let none: [&str; 0] = [];
    assert_eq!(kv2.list(&folder("a")).await.unwrap(), none);
    kv2.write(&place, &json!({}), 0).await.unwrap();
    kv2.write(&place.below("c"), &json!({}), 0).await.unwrap();
    for path in ["a", "a/"] {
        assert_eq!(kv2.list(&folder(path)).await.unwrap(), ["b", "b/"], "{path}");
    }
    kv2.delete(&place.below("c")).await.unwrap();
    assert_eq!(kv2.list(&place).await.unwrap(), none);
}

pub(crate) async fn a_place_that_keeps_few_versions_refuses_writes_that_name_none(root: &Root) {
    let (kv2, place) = (Kv2::by(root), root.place().await);
    kv2.keep(&place, 2).await.unwrap();
    let said = root.says(&format!("{}/data/a/b", place.mount), &json!({"data": {}})).await;
    assert!(said.ends_with("HTTP 400: check-and-set parameter required for this call"), "{said}");
    assert_eq!(kv2.newest(&place).await.unwrap().version, 0);
    for version in 0..3 {
        kv2.write(&place, &json!({}), version).await.unwrap();
    }
    assert!(kv2.version(&place, 1).await.unwrap().is_none());
    assert!(kv2.version(&place, 2).await.unwrap().is_some());
}

pub(crate) async fn the_mount_is_found_in_a_path(root: &Root) {
    let (kv2, place) = (Kv2::by(root), root.place().await);
    assert_eq!(kv2.place(&place.to_string()).await.unwrap(), place);
    let old = root.mount("1").await;
    let other = format!("{old}/a");
    for (path, said) in [
        (&other, format!("{old}/ is no KV engine of version 2")),
        (&place.mount, format!("it names nothing below {}/", place.mount)),
    ] {
        let error = kv2.place(path).await.unwrap_err();
        let said = format!("looking for the engine of {path}: {said}");
        assert_eq!((error.class(), error.to_string()), (Class::Invalid, said));
    }
}
