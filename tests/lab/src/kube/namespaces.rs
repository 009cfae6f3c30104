//! The namespaces that one node lives in: nothing that it mounts, binds, sets or starts is of the machine, and the end of
//! the first process in them is the end of all. `tests/lab/node/hold` makes them; this starts it and runs commands inside.

use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::server::{Folder, RunAs, Server};

/// The nodes that can run beside each other on one machine: their addresses are 10.N.0.0/16.
const NETS: std::ops::RangeInclusive<u8> = 88..=95;

/// Made namespaces. Dropping it ends whatever runs in them.
#[derive(Debug)]
pub(crate) struct Namespaces {
    // Before the rest: fields are dropped in order.
    _hold: Server,
    folder: Folder,
    net: Net,
    first: u32,
}

/// The addresses of one node, ours as long as this value lives.
#[derive(Debug)]
struct Net {
    number: u8,
    _lock: Flock<File>,
}

impl Namespaces {
    /// Makes them; `pause` becomes the first process inside.
    ///
    /// # Panics
    /// When this machine does not let us (root, CAP_SYS_ADMIN, CAP_NET_ADMIN, cgroups that can be written): with the reason.
    pub(crate) fn make(pause: &Path) -> Namespaces {
        let folder = Folder::make("node", RunAs::Same);
        let net = Net::take();
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("node/hold"));
        command.arg(folder.path()).arg(net.number.to_string());
        command.arg(format!("claviger-lab-{}", net.number)).arg(pause);
        let hold = Server::start("node", &command, &folder, RunAs::Same, Signal::SIGTERM);
        let first = || fs::read_to_string(folder.path().join("init")).ok()?.trim().parse().ok();
        let first = hold.wait_until(first).unwrap_or_else(|log| panic!("{log}"));
        Namespaces { _hold: hold, folder, net, first }
    }

    /// A command that runs `program` inside.
    pub(crate) fn enter(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--mount", "--net", "--pid"]).arg(program);
        command
    }

    /// A folder that is seen in the same place inside and outside.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What makes this node's names and addresses unlike another's.
    pub(crate) fn number(&self) -> u8 {
        self.net.number
    }

    /// The name of its cgroup, under the root of each hierarchy.
    pub(crate) fn cgroup(&self) -> String {
        format!("claviger-lab-{}", self.net.number)
    }

    /// The machine's own address on the wire to the node.
    pub(crate) fn machine(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net.number, 6, 1)
    }

    /// The node's address, which is also the gateway of its pods.
    pub(crate) fn node(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net.number, 7, 1)
    }
}

impl Net {
    fn take() -> Net {
        for number in NETS {
            let path = std::env::temp_dir().join(format!("claviger-lab-net-{number}"));
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let file = file.unwrap_or_else(|error| panic!("opening {}: {error}", path.display()));
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                return Net { number, _lock: lock };
            }
        }
        panic!("a node cannot be made here: {} run already", NETS.count())
    }
}
