//! A person's yes to one permit. The seam only: a permit that needs nobody's yes becomes a grant at once.
//!
//! Does not ask anybody yet; a config that names an approval is refused.

use crate::{name::SecretName, policy::Permit};

/// Proof that a permit needed no approval, or has it. Only this module makes one.
#[derive(Debug)]
pub struct Grant<T = SecretName> {
    permit: Permit<T>,
}

impl<T> Grant<T> {
    /// The permit that was granted.
    #[must_use]
    pub fn permit(&self) -> &Permit<T> {
        &self.permit
    }
}

impl Grant {
    /// The secret that may be fetched.
    #[must_use]
    pub fn secret(&self) -> &SecretName {
        self.permit.secret()
    }
}

/// Turns a permit into a grant.
#[must_use]
pub fn obtain<T>(permit: Permit<T>) -> Grant<T> {
    Grant { permit }
}
