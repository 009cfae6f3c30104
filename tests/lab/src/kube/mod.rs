//! Kubernetes as a test peer: an API server alone, or a whole node that runs pods.
//! Knows nothing of claviger, its chart or its image; it speaks to the cluster by kubectl and Helm only.

mod api_server;
mod archive;
mod cluster;
mod namespaces;
mod node;
mod pki;
mod settings;

pub use api_server::ApiServer;
pub use archive::write_image;
pub use cluster::{Cluster, Ran};
pub use node::Node;
