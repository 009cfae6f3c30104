//! Which word the failures of calls to Vault get. Pure.

use super::reason::Reason;
use crate::vault::error::Class;

impl From<Class> for Reason {
    fn from(class: Class) -> Self {
        match class {
            Class::Denied => Self::VaultDenied,
            Class::Missing => Self::VaultMissing,
            Class::Invalid => Self::VaultInvalid,
            Class::Sealed => Self::VaultSealed,
            Class::Away => Self::VaultAway,
            Class::Slow => Self::VaultSlow,
            Class::Nonsense => Self::VaultNonsense,
            Class::Credential => Self::CredentialFile,
            Class::Budget => Self::Budget,
        }
    }
}
