//! The pod that the agent is in, as its events name it.
//!
//! Pure. Asks nobody: whoever starts the agent says it.

/// The pod that the agent is in, by the downward API; each is absent where nothing says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// The cluster's name, which only `source` holds.
    pub cluster: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// The pod's name.
    pub name: Option<String>,
    /// The pod's uid.
    pub uid: Option<String>,
    /// The ServiceAccount.
    pub service_account: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// What made the pod: a Deployment's name, say.
    pub owner: Option<String>,
}

impl Pod {
    /// The `source` of the pod's events, or none if the pod has no name.
    #[must_use]
    pub fn source(&self) -> Option<String> {
        let Self { cluster, namespace, name, .. } = self;
        let name = name.as_deref()?;
        let before = [cluster, namespace].into_iter().flatten();
        let path: Vec<&str> = before.map(String::as_str).chain([name, "claviger"]).collect();
        Some(format!("urn:claviger:{}", path.join("/")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_names_the_pod_and_leaves_out_what_is_unknown() {
        let text = |text: &str| Some(text.to_owned());
        let pod = Pod { name: text("api-7c9d"), node: text("n1"), ..Pod::default() };
        assert_eq!(pod.source(), text("urn:claviger:api-7c9d/claviger"));
        let pod = Pod { cluster: text("prod"), namespace: text("payments"), ..pod };
        assert_eq!(pod.source(), text("urn:claviger:prod/payments/api-7c9d/claviger"));
        assert_eq!(Pod { name: None, ..pod }.source(), None);
    }
}
