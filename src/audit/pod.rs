//! The pod that the agent is in, as events say it.
//!
//! Pure. Reads no environment: whoever starts the agent does.

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
