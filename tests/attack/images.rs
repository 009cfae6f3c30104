//! Attacks on what the permitted program executes: its file, its code, and code that is brought into it.

use crate::{
    cgroups::under,
    part::{Part, quiet},
    program::{Programs, counts, in_time, record},
    scene::{finished, permitted},
};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

/// The attack got no nonce for this reason, which is on record beside nothing that was allowed.
async fn is_refused(programs: &Programs, words: &[&str], reason: &str) {
    let attacked = programs.attacked_where(&["legit", "other"]).await;
    programs.tell(&attacked, words).await.got_no_nonce(reason);
    assert_eq!(record(attacked).await, [format!("peer.rejected.v1 deny {reason} process")], "{words:?}");
}

/// A second permitted program, of that name, with `options`.
async fn with_another(options: &[&str]) -> Option<Programs> {
    let programs = Programs::new().await?;
    assert!(programs.compile("other", "tests/attack/legit.c", options).await);
    Some(programs)
}

/// Attack 17.
#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_the_permitted_program_is_made_to_load_is_refused() {
    let Some(programs) = with_another(&[]).await else { return };
    assert!(programs.compile("preload.so", "tests/attack/preload.c", &["-shared", "-fPIC"]).await);
    let variable = format!("LD_PRELOAD={}", programs.path("preload.so").display());
    let line = ["/usr/bin/env", &variable, "legit", "SOCKET", "SECRET"];
    is_refused(&programs, &line, "mapping_not_allowed").await;
}

/// Attack 18: by `/proc/PID/mem`, while it waits for its nonce.
#[tokio::test(flavor = "multi_thread")]
async fn code_of_the_permitted_program_that_another_process_changed_is_seen() {
    let Some(programs) = Programs::new().await else { return };
    let attacked = programs.attacked().await;
    let line = ["hostile", "patch", "SOCKET", "legit", "SECRET", "file"];
    in_time(|| programs.tell_late(&attacked, &line)).await.got_no_nonce("text_modified");
    assert_eq!(record(attacked).await, ["peer.rejected.v1 deny text_modified process"]);
}

/// Attack 19: changed by a tracer that is gone, and a tracer that stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_tracer_is_seen_and_so_is_what_it_changed_before_it_went() {
    let Some(programs) = with_another(&[]).await else { return };
    let line = |how| ["hostile", "patch", "SOCKET", "legit", "SECRET", how];
    is_refused(&programs, &line("trace"), "traced").await;
    is_refused(&programs, &line("poke"), "text_modified").await;
}

/// Attack 18 from within: the program changes its own code.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_the_permitted_program_changed_itself_is_seen() {
    let Some(programs) = with_another(&["-DPATCHED"]).await else { return };
    is_refused(&programs, &["other", "SOCKET", "SECRET"], "text_modified").await;
}

/// Attack 18, a known miss: what was changed, was executed, and is as it was when the agent looks. `madvise(MADV_DONTNEED)`
/// throws the changed page away, and the file's own is read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_miss_is_code_that_was_changed_and_put_back_before_anybody_looked() {
    let Some(programs) = with_another(&["-DHIDDEN"]).await else { return };
    let attacked = programs.attacked_where(&["other"]).await;
    programs.run(&attacked, "other").await.got_the_secret();
    assert_eq!(record(attacked).await, ["secret.read.v1 allow - program"]);
}

/// Attack 20: code that no file backs, in the permitted program; and the permitted program without a file.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_no_file_backs_is_refused_also_where_it_is_the_permitted_program() {
    let Some(programs) = with_another(&["-DANONYMOUS"]).await else { return };
    is_refused(&programs, &["other", "SOCKET", "SECRET"], "anon_exec").await;
    is_refused(&programs, &["hostile", "nameless", "legit", "SOCKET", "SECRET"], "exe_deleted").await;
}

/// Attack 21: in a mount namespace of its own, another program has the permitted one's path.
#[tokio::test(flavor = "multi_thread")]
async fn another_program_by_the_permitted_ones_path_is_refused() {
    let Some(programs) = with_another(&["-DOTHER", "-O2"]).await else { return };
    let attacked = programs.attacked().await;
    let [legit, other] = ["legit", "other"].map(|name| programs.path(name).display().to_string());
    let script = format!("mount --bind {other} {legit} && exec \"$@\"");
    let part = Part::BecomeAs(permitted(), programs.line(&attacked, &["legit", "SOCKET", "SECRET"]));
    let mut command =
        under(&["unshare", "--mount", "sh", "-c", &script, "sh"], &programs.cgroup().part(part));
    quiet(&mut command);
    finished(command.into()).await.got_no_nonce("digest");
    // By its own path it is there all the while.
    programs.run(&attacked, "legit").await.got_the_secret();
    let expected = ["peer.rejected.v1 deny digest process", "secret.read.v1 allow - program"];
    assert_eq!(record(attacked).await, expected);
}

/// Makes `to` hold what `from` holds, with the size and the time that it had.
fn rewrite(from: &Path, to: &Path) {
    let before = fs::metadata(to).unwrap();
    let mut bytes = fs::read(from).unwrap();
    assert!(bytes.len() as u64 <= before.size(), "it cannot be made as small");
    // What comes after the end of a program is nothing to it.
    bytes.resize(before.size().try_into().unwrap(), 0);
    fs::write(to, bytes).unwrap();
    let file = fs::File::options().append(true).open(to).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    let after = fs::metadata(to).unwrap();
    assert_eq!((before.size(), before.mtime_nsec()), (after.size(), after.mtime_nsec()));
}

/// Attack 22: once the permitted program's digest is remembered, its file is replaced, and another time rewritten in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_digest_is_not_that_of_what_the_file_holds_now() {
    let Some(programs) = with_another(&["-DOTHER", "-O2", "-s"]).await else { return };
    let attacked = programs.attacked().await;
    let (legit, kept) = (programs.path("legit"), programs.path("kept"));
    fs::copy(&legit, &kept).unwrap();
    fs::copy(programs.path("other"), programs.path("new")).unwrap();
    fs::set_permissions(programs.path("new"), fs::Permissions::from_mode(0o755)).unwrap();
    rewrite(&programs.path("other"), &kept);
    programs.settle("legit").await;
    programs.run(&attacked, "legit").await.got_the_secret();
    programs.run(&attacked, "legit").await.got_the_secret();
    rewrite(&programs.path("other"), &legit);
    programs.run(&attacked, "legit").await.got_no_nonce("digest");
    // It is the permitted one again, and remembered; then another file has its name.
    assert!(programs.compile("again", "tests/attack/legit.c", &[]).await);
    fs::rename(programs.path("again"), &legit).unwrap();
    programs.settle("legit").await;
    programs.run(&attacked, "legit").await.got_the_secret();
    fs::rename(programs.path("new"), &legit).unwrap();
    programs.run(&attacked, "legit").await.got_no_nonce("digest");
    let record = record(attacked).await;
    let counts = counts(&record);
    assert_eq!(counts["secret.read.v1 allow -"], 3, "{counts:?}");
    assert_eq!(counts["peer.rejected.v1 deny digest"], 2, "{counts:?}");
    assert_eq!(record.len(), 5, "{counts:?}");
}
