//! Names from the config file, one type for each kind of thing, so that one cannot stand where another belongs.
//!
//! Pure. Does not know which names exist: that is for `config` to check.

use std::{fmt, sync::Arc};

/// The longest name, in bytes: a DNS label, so that names fit Kubernetes' own.
pub const LONGEST: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a name; names are 1 to 63 of a-z, 0-9 and -")]
pub struct NotAName;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes `text` if it is `[a-z0-9-]{1,63}`.
            ///
            /// # Errors
            /// [`NotAName`] for anything else.
            pub fn new(text: &str) -> Result<Self, NotAName> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(NotAName) }
            }

            /// The name as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

names! {
    /// One login to Vault: a key of `identities`.
    IdentityName;
    /// One thing that is kept fresh: a key of `secrets`.
    SecretName;
    /// One container or process that may connect: a key of `workloads`.
    WorkloadName;
    /// One rule of a workload; unique in that workload.
    RuleName;
    /// One place where events go on to: a key of `audit.sinks`.
    SinkName;
    /// One thing that is rotated: a key of `rotations`.
    RotationName;
    /// One other API: a key of `upstreams`.
    UpstreamName;
    /// One way to ask persons: a key of `approvals`.
    ApprovalName;
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        for good in ["a", "stripe-api", "0", &"x".repeat(63)] {
            assert!(SecretName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a.b", "a/b", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(SecretName::new(bad), Err(NotAName), "{bad}");
        }
    }
}
