//! Level `program` as it is in a pod: by an agent that is not root, but the workload's own user, and sees its processes.
//!
//! Also attack 24, of what such an agent may not look at, and attack 30 where `/proc` hides it.

use crate::{
    agent::agent_of,
    cgroups::under,
    part::quiet,
    program::{Programs, record},
    scene::{Attacked, UID, config, finished},
    skip,
    support::{Agent, Scene, finish},
};
use std::{fs, os::unix::fs::PermissionsExt as _};
use tokio::process::Command;

/// An agent of this uid that serves the permitted program only.
async fn attacked(programs: &Programs, names: &[&str], id: u32, around: &[&str]) -> Attacked {
    let scene = Scene::new().await;
    let mut config = config(&scene, &programs.peer(names), 64);
    config.rest = "sandbox: required\n".into();
    let part = agent_of(&scene, id, 0o111, &config).await;
    let command = if around.is_empty() { part.command() } else { under(around, &part) };
    let agent = Agent::spawn(command.into()).await;
    agent.until_ready().await;
    Attacked { scene, agent }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_workloads_own_user_proves_its_program() {
    let Some(programs) = Programs::new().await else { return };
    assert!(programs.compile("other", "tests/attack/legit.c", &["-DOTHER", "-O2"]).await);
    assert!(programs.compile("patched", "tests/attack/legit.c", &["-DPATCHED"]).await);
    let attacked = attacked(&programs, &["legit", "patched"], UID, &[]).await;
    for _ in 0..10 {
        programs.run(&attacked, "legit").await.got_the_secret();
    }
    programs.run(&attacked, "other").await.got_no_nonce("digest");
    // What is in its memory is looked at when it has sent its nonce back.
    let told = programs.run(&attacked, "patched").await;
    told.got_nothing();
    assert!(told.text.contains("text_modified"), "{}", told.text);
    let late = ["hostile", "become", "SOCKET", "legit", "5", "0", "bare"];
    programs.tell_late(&attacked, &late).await.got_nothing();
    let mut expected = vec!["secret.read.v1 allow - program"; 10];
    expected.push("peer.rejected.v1 deny digest process");
    expected.push("peer.rejected.v1 deny text_modified program");
    expected.extend(["peer.rejected.v1 deny no_nonce program"; 5]);
    assert_eq!(record(attacked).await, expected);
}

/// Attack 24: the permitted program where it may not be looked at is nobody, and not just one of its user.
#[tokio::test(flavor = "multi_thread")]
async fn the_permitted_program_that_may_not_be_looked_at_is_refused() {
    let Some(programs) = Programs::new().await else { return };
    let closed = programs.path("closed");
    fs::copy(programs.path("legit"), &closed).unwrap();
    let attacked = attacked(&programs, &["legit"], UID, &[]).await;
    programs.run(&attacked, "legit").await.got_the_secret();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o111)).unwrap();
    programs.run(&attacked, "closed").await.got_no_nonce("exe_unreadable");
    // The permitted program with a right that the agent has not.
    let (id, legit) = (UID.to_string(), programs.path("legit"));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps", "+net_bind_service"]);
    command.args(["--ambient-caps", "+net_bind_service"]).arg(legit);
    command.args(programs.line(&attacked, &["SOCKET", "SECRET"]));
    quiet(command.as_std_mut());
    finished(command).await.got_no_nonce("exe_unreadable");
    let refused = "peer.rejected.v1 deny exe_unreadable process";
    assert_eq!(record(attacked).await, ["secret.read.v1 allow - program", refused, refused]);
}

/// Attack 24 and 30: of another user's processes such an agent may not see what they execute, and with `hidepid` none at all.
#[tokio::test(flavor = "multi_thread")]
async fn to_an_agent_of_another_user_the_permitted_program_is_unreadable_and_by_hidepid_hidden() {
    let Some(programs) = Programs::new().await else { return };
    const SCRIPT: &str = "mount -t proc -o hidepid=2 proc /proc && exec \"$@\"";
    let hiding = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh"];
    let mut tried = Command::new(hiding[0]);
    tried.args(&hiding[1..]).arg("true");
    if !finish(tried).await.status.success() {
        return skip("needs a /proc of its own with hidepid=2");
    }
    for (around, reason) in [(&[][..], "exe_unreadable"), (&hiding[..], "pid_not_visible")] {
        let attacked = attacked(&programs, &["legit"], 30_001, around).await;
        programs.run(&attacked, "legit").await.got_no_nonce(reason);
        assert_eq!(record(attacked).await, [format!("peer.rejected.v1 deny {reason} process")]);
    }
}
