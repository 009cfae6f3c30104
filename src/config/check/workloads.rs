//! `workloads`: each one's socket, its peer, its limits.
//!
//! Pure. Makes no socket; that the configured peer could connect is worked out from the mode and our own ids.

use super::super::reader::{Leaf, Map};
use super::{
    Context, program,
    rules::{self, Rules},
};
use crate::{
    approval, broker,
    config::{Environment, Workload},
    keeper,
    listener::{self, Limits},
    name::{UpstreamName, WorkloadName},
    peer::{self, Strangers, level::Level, process::Support},
    policy::{self, rule::AuditMode, upstream::CallRule},
    sandbox::Mode,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What all workloads are read by.
pub(super) struct Around<'a> {
    /// The config's own, or the weakest.
    pub(super) mode: AuditMode,
    /// Where they could be read.
    pub(super) secrets: Option<&'a [keeper::Settings]>,
    /// Where they could be read.
    pub(super) upstreams: Option<&'a [broker::Settings]>,
    /// Where they could be read.
    pub(super) approvals: Option<&'a [approval::Settings]>,
}

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>, around: &Around<'_>) -> Option<Vec<Workload>> {
    let named = leaf.named(WorkloadName::new)?;
    let mut sockets = BTreeMap::new();
    let read: Vec<Option<Workload>> =
        named.into_iter().map(|(name, leaf)| workload(&name, &leaf, context, around, &mut sockets)).collect();
    read.into_iter().collect()
}

fn workload(
    name: &WorkloadName,
    leaf: &Leaf<'_>,
    context: &Context<'_>,
    around: &Around<'_>,
    sockets: &mut BTreeMap<PathBuf, u32>,
) -> Option<Workload> {
    let mut map = leaf.map()?;
    let peer = match map.find("peer") {
        Some(leaf) => peer(&leaf, context),
        None => anybody(leaf, context.environment),
    };
    let socket = map.need("socket", "{path: /run/claviger/NAME/claviger.sock}", |leaf| {
        socket(leaf, peer.as_ref(), context.environment, sockets)
    });
    let limits = map.or("limits", Limits::default(), limits);
    let bridge = map.or("bridge", policy::Bridge::Deny, |leaf| {
        leaf.word(&[policy::Bridge::Deny, policy::Bridge::Allow].map(|bridge| (bridge.word(), bridge)))
    });
    let level = peer.as_ref().map(|peer| peer.level);
    let Around { mode, secrets, upstreams, approvals } = *around;
    let by = rules::Around { mode, limits: limits.as_ref(), level, secrets, upstreams, approvals };
    let rules = map.or("rules", Rules::default(), |leaf| rules::read(leaf, context, &by));
    let (path, mode, sockets_dir) = socket?;
    let Rules { rules, forwards, calls } = rules?;
    let upstreams = upstream_sockets(&mut map, &path, sockets_dir, &calls, sockets);
    map.finish();
    Some(Workload {
        listener: listener::Settings { workload: name.clone(), path, mode, limits: limits? },
        upstreams: upstreams?,
        peer: peer?,
        policy: policy::Settings {
            workload: name.clone(),
            rules,
            forwards,
            calls,
            bridge: bridge?,
            revision: context.revision.to_owned(),
        },
    })
}

/// Where each upstream that the workload may call has a socket of its own.
fn upstream_sockets(
    map: &mut Map<'_>,
    path: &Path,
    directory: Option<PathBuf>,
    calls: &[CallRule],
    sockets: &mut BTreeMap<PathBuf, u32>,
) -> Option<BTreeMap<UpstreamName, PathBuf>> {
    let directory = directory.or_else(|| path.parent().map(Path::to_owned)).unwrap_or_default();
    let mut own = BTreeMap::new();
    for rule in calls {
        let socket = directory.join(format!("{}.sock", rule.upstream));
        if own.contains_key(&rule.upstream) {
            continue;
        }
        if let Some(line) = sockets.insert(socket.clone(), map.leaf().line()) {
            map.leaf().problem(
                format!("{} would have the socket of line {line}: {}", rule.upstream, socket.display()),
                "give each workload a directory of its own, or write socket: {sockets_dir: …}",
            );
            return None;
        }
        own.insert(rule.upstream.clone(), socket);
    }
    Some(own)
}

fn anybody(leaf: &Leaf<'_>, environment: &Environment) -> Option<peer::Settings> {
    leaf.warn(
        "no peer: every process that reaches the socket may ask",
        "write peer: {uid: …, gid: …}, or level: reach if that is meant",
    );
    let (uids, gids, groups) = (Vec::new(), Vec::new(), Vec::new());
    let strangers = strangers(environment);
    Some(peer::Settings { uids, gids, groups, level: auto(leaf, environment)?, strangers, program: None })
}

fn strangers(environment: &Environment) -> Strangers {
    Strangers {
        uid: (!environment.uid_map_is_full).then_some(environment.overflow_uid),
        gid: (!environment.gid_map_is_full).then_some(environment.overflow_gid),
    }
}

fn socket(
    leaf: &Leaf<'_>,
    peer: Option<&peer::Settings>,
    environment: &Environment,
    sockets: &mut BTreeMap<PathBuf, u32>,
) -> Option<(PathBuf, u32, Option<PathBuf>)> {
    let mut map = leaf.map()?;
    let path = map.need("path", "/run/claviger/NAME/claviger.sock", |leaf| {
        let path = leaf.path()?;
        let length = path.file_name().map_or(0, |name| name.len());
        if length > listener::LONGEST_NAME {
            leaf.problem(
                format!("a socket file name of {length} bytes"),
                &format!(
                    "use at most {}: /proc/self/fd/N/ in front of it must fit into 107 bytes; the directory may be as long as you like",
                    listener::LONGEST_NAME
                ),
            );
            return None;
        }
        // One path is spelled in several ways: /a//b is /a/b.
        let path: PathBuf = path.components().collect();
        if let Some(line) = sockets.insert(path.clone(), leaf.line()) {
            leaf.problem(
                format!("the socket of another workload, of line {line}"),
                "give each workload a socket of its own, in a directory of its own",
            );
            return None;
        }
        Some(path)
    });
    let mode = map.or("mode", 0o666, |leaf| {
        let mode = file_mode(leaf)?;
        if let Some(peer) = peer {
            reachable(leaf, mode, peer, environment)?;
        }
        Some(mode)
    });
    let sockets_dir = map.given("sockets_dir", Leaf::path);
    map.finish();
    Some((path?, mode?, sockets_dir?))
}

fn file_mode(leaf: &Leaf<'_>) -> Option<u32> {
    let text = leaf.text()?;
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| digits && *mode <= 0o777);
    if mode.is_none() {
        leaf.problem("not a file mode", "write three octal digits after a zero, in quotes, as in \"0666\"");
    }
    mode
}

/// Connecting needs the write bit of the peer's class: owner, group or others, and only of that one (unix(7), inode(7)).
fn reachable(leaf: &Leaf<'_>, mode: u32, peer: &peer::Settings, environment: &Environment) -> Option<()> {
    const OWNER: u32 = 0o200;
    const GROUP: u32 = 0o020;
    const OTHERS: u32 = 0o002;
    let class = |uid: u32| {
        if uid == environment.uid {
            (OWNER, "our own uid")
        } else if peer.gids.contains(&environment.gid) || peer.groups.contains(&environment.gid) {
            (GROUP, "a peer of our own group")
        } else {
            (OTHERS, "a peer that is neither our uid nor of our group")
        }
    };
    // Root passes every mode.
    let shut_out =
        peer.uids.iter().filter(|uid| **uid != 0).map(|uid| class(*uid)).find(|(bit, _)| mode & bit == 0);
    let nobody = (mode & (OWNER | GROUP | OTHERS) == 0).then_some((OWNER, "anybody"));
    if let Some((_, who)) = shut_out.or(nobody) {
        leaf.problem(
            format!("mode {mode:04o} cannot be connected to by {who}"),
            "use \"0666\": the mount and the kernel's identity of the peer are the boundary",
        );
        return None;
    }
    Some(())
}

fn peer(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<peer::Settings> {
    let environment = context.environment;
    let mut map = leaf.map()?;
    let overflow = (environment.overflow_uid, environment.uid_map_is_full);
    let uids = map.or("uid", Vec::new(), |leaf| ids(leaf, overflow));
    if let (Some(uids), Some(leaf)) = (&uids, map.find("uid")) {
        warn_of_our_own(&leaf, uids, environment, context.sandbox);
    }
    let overflow = (environment.overflow_gid, environment.gid_map_is_full);
    let gids = map.or("gid", Vec::new(), |leaf| ids(leaf, overflow));
    let groups = map.or("groups", Vec::new(), |leaf| ids(leaf, overflow));
    let level = match map.find("level") {
        Some(leaf) => level(&leaf, environment),
        None => auto(leaf, environment),
    };
    let program = program::read(&mut map, level);
    map.finish();
    let strangers = strangers(environment);
    let (level, program) = (level?, program?);
    let peer = peer::Settings { uids: uids?, gids: gids?, groups: groups?, level, strangers, program };
    let names_nobody = peer.uids.is_empty() && peer.gids.is_empty() && peer.groups.is_empty();
    match peer.level {
        Level::Reach if !names_nobody => {
            leaf.problem("level reach proves no uid, gid or groups", "remove them, or write level: user");
            return None;
        }
        Level::Reach => {}
        _ if names_nobody => leaf.warn(
            "no uid, gid or groups: every process that reaches the socket may ask",
            "write uid: …, or level: reach if that is meant",
        ),
        _ => {}
    }
    Some(peer)
}

/// One id or a list of them. Under a partial id map every stranger has the overflow id: allowing it allows them all.
fn ids(leaf: &Leaf<'_>, (overflow, map_is_full): (u32, bool)) -> Option<Vec<u32>> {
    let members = leaf.one_or_many()?;
    if members.is_empty() {
        leaf.problem("an empty list", "write at least one id, or remove the key");
        return None;
    }
    let read: Vec<Option<u32>> = members
        .iter()
        .map(|member| {
            // The kernel keeps the last one for "no id".
            let id = member.whole(0..=u32::MAX - 1)?;
            if id == overflow && !map_is_full {
                member.problem(
                    format!("{id} is what every user from outside our user namespace looks like"),
                    "give the workload an id of its own (runAsUser, runAsGroup)",
                );
                return None;
            }
            Some(id)
        })
        .collect();
    read.into_iter().collect()
}

fn warn_of_our_own(leaf: &Leaf<'_>, uids: &[u32], environment: &Environment, sandbox: Mode) {
    if !uids.contains(&environment.uid) {
        return;
    }
    let memory = if environment.dumpable { ", and our memory if it attaches while we start" } else { "" };
    let found = format!(
        "{} is our own uid: such a process can read our credential files and journal{memory}",
        environment.uid
    );
    if environment.dumpable && sandbox == Mode::Required {
        leaf.problem(
            found,
            "give the workload another uid (runAsUser), or ship the binary with mode 0111 and run as another user than root, or \
             write sandbox: on",
        );
    } else {
        leaf.warn(found, "give the workload another uid (runAsUser)");
    }
}

fn level(leaf: &Leaf<'_>, environment: &Environment) -> Option<Level> {
    let level = leaf.word(&[
        ("auto", None),
        ("reach", Some(Level::Reach)),
        ("user", Some(Level::User)),
        ("process", Some(Level::Process)),
        ("container", Some(Level::Container)),
        ("program", Some(Level::Program)),
    ])?;
    match level {
        None => auto(leaf, environment),
        Some(level @ (Level::Reach | Level::User)) => Some(level),
        Some(level @ Level::Process) => {
            let remedy = "run on Linux 6.9 or later, or write level: user if that is enough";
            supported(leaf, level, &environment.process, remedy)
        }
        Some(level @ Level::Container) => {
            let remedy = "run on Linux 6.13 or later with cgroups of version 2, or write level: process if that is enough";
            supported(leaf, level, &environment.container, remedy)
        }
        // It includes level container.
        Some(level @ Level::Program) => {
            let remedy = "run on Linux 6.13 or later with cgroups of version 2, or write level: process if that is enough";
            supported(leaf, level, &environment.container, remedy)
        }
    }
}

/// The level, if this kernel can prove it; what is asked for is never quietly a weaker one.
fn supported(leaf: &Leaf<'_>, level: Level, support: &Support, remedy: &str) -> Option<Level> {
    let why = match support {
        Support::Given => return Some(level),
        Support::Lacking(what) => format!("this kernel cannot prove level {level}: it lacks {what}"),
        Support::Unknown(why) => format!("whether this kernel can prove level {level} is unknown: {why}"),
    };
    leaf.problem(why, remedy);
    None
}

/// The strongest level that this kernel can prove without further settings: said, if it is a weak one.
fn auto(leaf: &Leaf<'_>, environment: &Environment) -> Option<Level> {
    match &environment.process {
        Support::Given => Some(Level::Process),
        Support::Lacking(what) => {
            leaf.warn(
                format!("level auto is user here: this kernel lacks {what}"),
                "run on Linux 6.9 or later, or write level: user if that is enough",
            );
            Some(Level::User)
        }
        Support::Unknown(why) => {
            leaf.problem(
                format!("whether this kernel can prove level process is unknown: {why}"),
                "start again, or write level: user if that is enough",
            );
            None
        }
    }
}

fn limits(leaf: &Leaf<'_>) -> Option<Limits> {
    let default = Limits::default();
    let mut map = leaf.map()?;
    let connections = map.or("connections", default.connections, |leaf| leaf.whole(1..=100_000));
    let requests =
        map.or("requests_per_second", default.requests_per_second, |leaf| leaf.whole(1..=1_000_000));
    // 4 MiB is what one workload may have buffered at a time.
    let body = map.or("body", default.body, |leaf| leaf.size(1024..=4 * 1024 * 1024));
    map.finish();
    Some(Limits { connections: connections?, requests_per_second: requests?, body: body? })
}
