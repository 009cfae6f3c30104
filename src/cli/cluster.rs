//! The cluster that this process is in, as the variables of its pod say it.
//!
//! Kubernetes gives each container where the API server is, and the chart gives the sidecar its namespace. Asks nobody.

use crate::config::Cluster;

/// Says it, for whoever reads a config.
pub(super) fn tell() {
    let host = variable("KUBERNETES_SERVICE_HOST");
    let port = variable("KUBERNETES_SERVICE_PORT");
    Cluster { namespace: variable("CLAVIGER_NAMESPACE"), server: server(host, port) }.of_this_process_is();
}

fn server(host: Option<String>, port: Option<String>) -> Option<String> {
    let (host, port) = (host?, port?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("https://{host}:{port}"))
}

#[expect(clippy::disallowed_methods, reason = "the commands may read the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|said| !said.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_is_one_in_a_url() {
        let check = |host: &str, port: &str, expected: Option<&str>| {
            let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            assert_eq!(server(given(host), given(port)).as_deref(), expected, "{host} {port}");
        };
        check("10.96.0.1", "443", Some("https://10.96.0.1:443"));
        check("fd00::1", "6443", Some("https://[fd00::1]:6443"));
        check("", "443", None);
        check("10.96.0.1", "", None);
    }
}
