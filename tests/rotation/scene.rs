//! A Vault, a PostgreSQL, and a rotation of its users that runs in this process.

use crate::load::Load;
use claviger::{
    approval::Approvals,
    broker::Broker,
    crypto,
    keeper::Keeper,
    name::{IdentityName, RotationName},
    rotation::{
        Kind, Settings,
        coordination::Coordination,
        credential::{self, Credential},
        fact::{Act, Fact},
        generate::{Generate, Source},
        lease::Terms,
        runner::Started,
        schedule::{Policy, Schedule, When},
        standing::Board,
        system::{System, exec::Exec, outside::Outside},
        task::{Shared, Task},
    },
    vault::{
        self, Budget, keepalive,
        kv2::Place,
        login::{self, Method},
        session::{Start, Terms as Session},
    },
};
use lab::{Client, Postgres, Vault};
use serde_json::json;
use std::{
    fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, sync::Arc, time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A test that gets no further than this fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Reads one line of JSON, and does it with psql: nothing of it is in an argument.
const PROGRAM: &str = r#"#!/bin/sh
read -r line
act=${line#*'"act":"'} user=${line#*'"user":"'} value=${line#*'"value":"'}
act=${act%%'"'*} user=${user%%'"'*} value=${value%%'"'*}
sql() { PGPASSWORD=$3 PSQL -X -q -w -v ON_ERROR_STOP=1 -h 127.0.0.1 -p PORT -U "$2" -d postgres 2>&1; }
admin() { sql "" postgres lab-superuser; }
case $act in
set) echo "alter role \"$user\" login password '$value'" | admin ;;
revoke) echo "alter role \"$user\" nologin" | admin ;;
test)
    said=$(echo 'select 1' | sql "" "$user" "$value") && exit 0
    case $said in *"password authentication failed"* | *"not permitted to log in"*) exit 10 ;; esac
    echo "$said" >&2
    exit 1
    ;;
esac
"#;

/// Whose credential is rotated.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Users {
    One,
    Two,
}

pub(crate) struct Scene {
    vault: Vault,
    pub(crate) postgres: Arc<Postgres>,
    folder: tempfile::TempDir,
    users: Users,
}

/// The way of a consumer to what it reads.
pub(crate) struct Way(Client);

impl Way {
    /// Version, user and password.
    pub(crate) fn read(&self) -> (u64, String, String) {
        let read = self.0.get("secret/data/orders").expect_success();
        let text = |name: &str| read["data"]["data"][name].as_str().unwrap().to_owned();
        (read["data"]["metadata"]["version"].as_u64().unwrap(), text("username"), text("password"))
    }
}

impl Scene {
    pub(crate) fn new(users: Users) -> Option<Scene> {
        let (vault, postgres) = (Vault::start()?, Postgres::start()?);
        postgres.query("create role orders_a login password 'first'; create role orders_b").unwrap();
        let first = json!({"data": {"username": "orders_a", "password": "first", "host": "db"}});
        vault.root().post("secret/data/orders", &first).expect_success();
        let folder = tempfile::tempdir().unwrap();
        let (psql, port) = (postgres.programs().join("psql"), postgres.port().to_string());
        let text = PROGRAM.replace("PSQL", psql.to_str().unwrap()).replace("PORT", &port);
        let program = folder.path().join("set-password");
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("token"), vault.root_token()).unwrap();
        Some(Scene { vault, postgres: Arc::new(postgres), folder, users })
    }

    pub(crate) fn way(&self) -> Way {
        Way(self.vault.root())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> Settings {
        let source = Source::Characters { length: 24, alphabet: "abcdefghijkmnpqrstuvwxyz".into() };
        let users = match self.users {
            Users::One => credential::Users::One("orders_a".into()),
            Users::Two => credential::Users::Two(["orders_a".into(), "orders_b".into()]),
        };
        let command = vec![self.path("set-password").to_str().unwrap().to_owned()];
        Settings {
            name: RotationName::new("orders").unwrap(),
            identity: IdentityName::new("rotator").unwrap(),
            kind: Kind::Credential(Box::new(Credential {
                consumer: Generate { path: "secret/orders".into(), field: "password".into(), source },
                user_field: "username".into(),
                users,
                system: System::Exec(Exec { command, timeout: None }),
                propagation: Duration::ZERO,
                cycles: 3,
                probe: Duration::ZERO,
                quarantine: Duration::ZERO,
                hold: Duration::from_secs(2),
            })),
            schedule: Schedule {
                when: When::Every(Duration::from_millis(10)),
                window: DAY,
                jitter: Duration::ZERO,
                missed: Policy::OnceInWindow,
                max_lateness: None,
                max_age: None,
                min_interval: Duration::ZERO,
                blackouts: Vec::new(),
            },
            grace: if self.users == Users::Two { Duration::from_millis(200) } else { Duration::ZERO },
            journal: Place { mount: "secret".into(), path: "rotation".into() },
            group: None,
            lease: Terms::of(Duration::from_secs(30)),
            coordination: Coordination::Vault,
            serves: Vec::new(),
            acks: None,
            consent: None,
            notice: Duration::ZERO,
            wrap: None,
        }
    }

    /// Rotates until `rounds` values were promoted and the last run is over; gives what was reported.
    pub(crate) fn rotate(&self, rounds: usize, load: &Load) -> Vec<Fact> {
        crypto::install();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let settings = self.settings();
            let started =
                Started::by(Command::new(env!("CARGO_BIN_EXE_claviger")), settings.kind.program().unwrap());
            let programs = [(settings.name.clone(), started.unwrap())].into();
            let outside =
                Outside::new(programs, Broker::new(Keeper::default()).unwrap(), Keeper::default()).unwrap();
            let budget = Budget { calls_per_second: 1_000_000, burst: 1_000_000 };
            let way = vault::Vault::new(vault::Settings {
                addresses: vec![self.vault.url().parse().unwrap()],
                ca_file: None,
                client_cert: None,
                server_name: None,
                namespace: None,
                timeout: Duration::from_secs(10),
                budget,
            });
            let (way, stop) = (way.unwrap(), CancellationToken::new());
            let login = login::Settings {
                name: settings.identity.clone(),
                method: Method::TokenFile { token_file: self.path("token") },
                revoke_on_exit: false,
            };
            let ((told, _heard), session) = (mpsc::unbounded_channel(), Session::new(Duration::ZERO, false));
            let (identity, keepalive) = keepalive::identity(login, way.clone(), session, Start::Fresh, told);
            let (facts, mut reported) = mpsc::unbounded_channel();
            let shared = Shared {
                vault: way,
                keeper: Keeper::default(),
                holder: "test".into(),
                facts,
                board: Board::default(),
                outside: Arc::new(outside),
                replica: "test".into(),
                approvals: Approvals::none(),
            };
            let mut tasks = JoinSet::new();
            tasks.spawn(keepalive.run(stop.clone()));
            tasks.spawn(Task::new(settings, identity, shared).run(stop.clone()));
            let (mut all, mut promoted): (Vec<Fact>, usize) = (Vec::new(), 0);
            loop {
                let fact = tokio::time::timeout(LIMIT, reported.recv()).await;
                let fact = fact.unwrap_or_else(|_| panic!("nothing more happened after {:?}", all.last()));
                let fact = fact.unwrap();
                if fact.act == Act::GraceEnded {
                    load.over(fact.from.unwrap_or_default());
                }
                promoted += usize::from(fact.act == Act::Promoted);
                let is_over = fact.act == Act::Revoked && promoted >= rounds;
                all.push(fact);
                if is_over {
                    break;
                }
            }
            stop.cancel();
            while tasks.join_next().await.is_some() {}
            all
        })
    }
}
