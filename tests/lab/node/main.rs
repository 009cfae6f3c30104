//! `cargo run -p lab --example node`: a Kubernetes node and a Vault that its pods reach, for trying things out by hand.
//! Prints how to reach them, and ends them when its standard input ends or it is stopped. Installs nothing on them.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use lab::{Node, Vault};

fn main() {
    let (Some(node), Ok(kube)) = (Node::start(), lab::require("kube")) else {
        return println!(
            "tests/lab/build etcd kube containerd cni pause node-tools vault   builds what is missing"
        );
    };
    println!("export KUBECONFIG={}", node.kubeconfig().display());
    println!("export PATH={}:$PATH", kube.display());
    let vault = Vault::start_tls_at(node.machine());
    if let Some(vault) = &vault {
        println!("export VAULT_ADDR={} VAULT_TOKEN={}", vault.url(), vault.root_token());
        println!("export VAULT_CACERT={}", vault.ca_file().unwrap_or_default().display());
    }
    println!("# images: {}", node.import_line());
    let _ = std::io::stdin().read_line(&mut String::new());
}
