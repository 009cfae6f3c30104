//! What every login role says about the tokens that it gives.

use std::time::Duration;

use crate::ask::Ask;
use crate::token::TokenType;

/// A role's token settings. Unset fields are Vault's defaults: 768 h, renewable service tokens, unlimited uses.
#[derive(Debug, Clone, Default)]
pub struct RoleSettings {
    pub(crate) policies: Vec<String>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) max_ttl: Option<Duration>,
    pub(crate) explicit_max_ttl: Option<Duration>,
    pub(crate) period: Option<Duration>,
    pub(crate) uses: u64,
    pub(crate) token_type: TokenType,
    pub(crate) no_default_policy: bool,
    pub(crate) fixed: bool,
}

impl RoleSettings {
    /// Tokens with these policies (and `default`).
    pub fn policies(policies: &[&str]) -> RoleSettings {
        RoleSettings {
            policies: policies.iter().map(ToString::to_string).collect(),
            ..RoleSettings::default()
        }
    }

    /// `token_ttl`: the life of a token that is not renewed.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> RoleSettings {
        RoleSettings { ttl: Some(ttl), ..self }
    }

    /// `token_max_ttl`: the longest life by renewals.
    #[must_use]
    pub fn max_ttl(self, max_ttl: Duration) -> RoleSettings {
        RoleSettings { max_ttl: Some(max_ttl), ..self }
    }

    /// `token_explicit_max_ttl`: a hard end, for periodic tokens too.
    #[must_use]
    pub fn explicit_max_ttl(self, max_ttl: Duration) -> RoleSettings {
        RoleSettings { explicit_max_ttl: Some(max_ttl), ..self }
    }

    /// `token_period`: each renewal gives this much, without a maximum.
    #[must_use]
    pub fn period(self, period: Duration) -> RoleSettings {
        RoleSettings { period: Some(period), ..self }
    }

    /// `token_num_uses`: the token dies after so many requests; 0 is unlimited.
    #[must_use]
    pub fn uses(self, uses: u64) -> RoleSettings {
        RoleSettings { uses, ..self }
    }

    /// `token_type = batch`.
    #[must_use]
    pub fn batch(self) -> RoleSettings {
        RoleSettings { token_type: TokenType::Batch, ..self }
    }

    /// `token_no_default_policy`.
    #[must_use]
    pub fn without_default_policy(self) -> RoleSettings {
        RoleSettings { no_default_policy: true, ..self }
    }

    /// Service tokens that Vault will not renew. A real role has no such setting; a plugin's answer may.
    #[must_use]
    pub fn non_renewable(self) -> RoleSettings {
        RoleSettings { fixed: true, ..self }
    }

    /// Reads the `token_*` fields of a role as written over HTTP.
    pub(crate) fn read(ask: &Ask) -> RoleSettings {
        RoleSettings {
            policies: ask.list("token_policies").or_else(|| ask.list("policies")).unwrap_or_default(),
            ttl: ask.duration("token_ttl").or_else(|| ask.duration("ttl")),
            max_ttl: ask.duration("token_max_ttl").or_else(|| ask.duration("max_ttl")),
            explicit_max_ttl: ask.duration("token_explicit_max_ttl"),
            period: ask.duration("token_period").or_else(|| ask.duration("period")),
            uses: ask.number("token_num_uses").unwrap_or(0),
            token_type: match ask.text("token_type") {
                Some("batch" | "default-batch") => TokenType::Batch,
                _ => TokenType::Service,
            },
            no_default_policy: ask.flag("token_no_default_policy").unwrap_or(false),
            fixed: false,
        }
    }
}
