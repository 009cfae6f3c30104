//! `sys/health`, `sys/seal-status`, `sys/leader`: the states that a client picks its server by.

use serde_json::json;

use crate::ask::Ask;
use crate::outcome::Outcome;
use crate::state::State;

/// The version that the double claims.
const VERSION: &str = "1.21.1";

/// What part the server plays in its cluster. Sealing is apart from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Serves everything; `sys/health` says 200.
    #[default]
    Active,
    /// `sys/health` says 429. Other calls get 307 to the active server's base URL, or 500 when there is none.
    Standby {
        /// Base URL of the active server.
        active: Option<String>,
    },
    /// `sys/health` says 473; other calls are served.
    PerformanceStandby,
    /// `sys/health` says 472; other calls get 400.
    DisasterRecovery,
    /// `sys/health` says 501; other calls get 503.
    Uninitialized,
}

impl State {
    pub(crate) fn health(&self, ask: &Ask) -> Outcome {
        let code = |name: &str, usual: u16| ask.query(name).and_then(|c| c.parse().ok()).unwrap_or(usual);
        let status = match (&self.standing, self.sealed) {
            (Standing::Uninitialized, _) => code("uninitcode", 501),
            (_, true) => code("sealedcode", 503),
            (Standing::DisasterRecovery, _) => code("drsecondarycode", 472),
            (Standing::PerformanceStandby, _) if ask.query("perfstandbyok").is_some() => {
                code("activecode", 200)
            }
            (Standing::PerformanceStandby, _) => code("performancestandbycode", 473),
            (Standing::Standby { .. }, _) if ask.query("standbyok").is_some() => code("activecode", 200),
            (Standing::Standby { .. }, _) => code("standbycode", 429),
            (Standing::Active, _) => code("activecode", 200),
        };
        let initialized = self.standing != Standing::Uninitialized;
        let standby = self.sealed || !matches!(self.standing, Standing::Active | Standing::DisasterRecovery);
        let unsealed = initialized && !self.sealed;
        let mut body = json!({
            "initialized": initialized,
            "sealed": self.sealed || !initialized,
            "standby": standby,
            "performance_standby": self.standing == Standing::PerformanceStandby,
            "replication_performance_mode": if unsealed { "disabled" } else { "unknown" },
            "replication_dr_mode": match self.standing {
                Standing::DisasterRecovery => "secondary",
                _ if unsealed => "disabled",
                _ => "unknown",
            },
            "server_time_utc": self.clock.wall(self.now).as_second(),
            "version": VERSION,
            "enterprise": false,
            "echo_duration_ms": 0,
            "clock_skew_ms": 0,
            "replication_primary_canary_age_ms": 0,
        });
        if let (true, Some(fields)) = (unsealed, body.as_object_mut()) {
            fields.insert("cluster_name".into(), json!("vault-cluster-devvault"));
            fields.insert("cluster_id".into(), json!("00000000-0000-4000-8000-000000000001"));
        }
        Outcome::Plain(status, body)
    }

    pub(crate) fn seal_status(&self) -> Outcome {
        Outcome::Plain(
            200,
            json!({
                "type": "shamir", "initialized": self.standing != Standing::Uninitialized, "sealed": self.sealed,
                "t": 1, "n": 1, "progress": 0, "nonce": "", "version": VERSION, "build_date": "",
                "migration": false, "recovery_seal": false, "storage_type": "inmem",
                "cluster_name": "vault-cluster-devvault",
            }),
        )
    }

    pub(crate) fn leader(&self) -> Outcome {
        let address = match &self.standing {
            Standing::Standby { active } => active.clone().unwrap_or_default(),
            _ => String::new(),
        };
        Outcome::Plain(
            200,
            json!({
                "ha_enabled": matches!(self.standing, Standing::Standby { .. }),
                "is_self": self.standing == Standing::Active, "leader_address": address, "leader_cluster_address": "",
                "performance_standby": self.standing == Standing::PerformanceStandby,
                "performance_standby_last_remote_wal": 0,
            }),
        )
    }

    /// The answer that the server's state gives to everything but `sys/health` and its kind.
    pub(crate) fn away(&self, target: &str) -> Option<Outcome> {
        if self.sealed || self.standing == Standing::Uninitialized {
            return Some(Outcome::fail(503, &["Vault is sealed"]));
        }
        match &self.standing {
            Standing::Standby { active: Some(active) } => {
                let location = format!("{}{target}", active.trim_end_matches('/'));
                Some(Outcome::Fail(307, Vec::new(), vec![("location", location)]))
            }
            Standing::Standby { active: None } => {
                Some(Outcome::fail(500, &["local node not active but active cluster node not found"]))
            }
            Standing::DisasterRecovery => {
                Some(Outcome::bad("path disabled in replication DR secondary mode"))
            }
            _ => None,
        }
    }
}
