//! Who decides which replica works on a rotation: the lease in its journal alone, or a Lease of Kubernetes before it.
//!
//! Pure. The journal says which, and a replica whose config says another is refused: two that decide by different things would
//! both work.

use super::kubernetes;

/// What decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Coordination {
    /// The lease in the journal.
    #[default]
    Vault,
    /// A Lease of Kubernetes, and after it the lease in the journal: whoever lacks one of the two does nothing.
    Kubernetes(Box<kubernetes::Settings>),
}

impl Coordination {
    /// The word of the config, the journal and the commands.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Kubernetes(_) => "kubernetes",
        }
    }

    /// Which Lease, as `NAMESPACE/NAME`.
    #[must_use]
    pub fn lease(&self) -> Option<String> {
        match self {
            Self::Vault => None,
            Self::Kubernetes(settings) => Some(settings.place()),
        }
    }

    /// Where it is in Kubernetes, if it is.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&kubernetes::Settings> {
        match self {
            Self::Vault => None,
            Self::Kubernetes(settings) => Some(settings),
        }
    }
}

impl std::fmt::Display for Coordination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&spelled(self.word(), self.lease().as_deref()))
    }
}

/// `vault`, or `kubernetes (NAMESPACE/NAME)`.
pub(super) fn spelled(word: &str, lease: Option<&str>) -> String {
    lease.map_or_else(|| word.to_owned(), |lease| format!("{word} ({lease})"))
}
