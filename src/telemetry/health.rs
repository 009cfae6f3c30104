//! `/livez /readyz /startupz /metrics` on a port of their own. No secret, no lease id, no path.

use std::net::SocketAddr;

/// The health port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[::]:8099` unless set; IPv4 where the host has no IPv6. Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Whether names of identities and secrets leave over the network; else only closed reason codes and counts.
    pub names: bool,
}
