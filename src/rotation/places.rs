//! Where in Vault's own API somebody reads what a rotation changes.
//!
//! Pure. Which of the first segments of a path are the mount of an engine that keeps versions is not known: each may be.

use super::Kind;

impl Kind {
    /// The paths of the API; none of what lies outside of Vault.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        let path = match self {
            Self::Generate(generate) => Some(&generate.path),
            Self::Trigger(trigger) => trigger.evidence.as_ref().map(|evidence| &evidence.path),
            Self::Credential(credential) => Some(&credential.consumer.path),
            Self::Issue(issue) => Some(&issue.consumer.path),
            Self::Bootstrap(_) => None,
        };
        path.map(|path| spellings(path)).unwrap_or_default()
    }
}

/// A path as it is, and with the `data` of KV 2 after each of its segments but the last.
fn spellings(path: &str) -> Vec<String> {
    let with_data = path.match_indices('/').map(|(at, _)| {
        let (mount, rest) = path.split_at(at);
        format!("{mount}/data{rest}")
    });
    std::iter::once(path.to_owned()).chain(with_data).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kv_secret_is_read_below_the_data_of_its_mount_wherever_that_ends() {
        for (path, expected) in [
            ("secret/orders", &["secret/orders", "secret/data/orders"][..]),
            ("teams/a/orders", &["teams/a/orders", "teams/data/a/orders", "teams/a/data/orders"]),
            ("orders", &["orders"]),
        ] {
            assert_eq!(spellings(path), expected);
        }
    }
}
