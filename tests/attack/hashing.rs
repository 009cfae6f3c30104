//! Attack 23: so much to be hashed that nobody else's turn would come.

use crate::{
    program::{Programs, counts},
    scene::finished,
    support::LIMIT,
};
use std::{
    fs::{self, File},
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::time::timeout;

/// How many processes at a time, each of which executes a file of its own.
const FLOOD: usize = 200;
/// How large each file is: all of it must be read. It is sparse.
const SIZE: u64 = 400 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn the_permitted_program_is_served_while_200_others_have_large_files_hashed() {
    let Some(programs) = Programs::new().await else { return };
    assert!(programs.compile("other", "tests/attack/legit.c", &["-DOTHER"]).await);
    assert!(programs.compile("new", "tests/attack/legit.c", &["-O2"]).await);
    let attacked = programs.attacked_where(&["legit", "new"]).await;
    for number in 0..FLOOD {
        let path = programs.path(&format!("large-{number}"));
        fs::copy(programs.path("other"), &path).unwrap();
        File::options().append(true).open(&path).unwrap().set_len(SIZE).unwrap();
    }
    programs.settle("legit").await;
    programs.run(&attacked, "legit").await.got_the_secret();
    let script = "for file in \"$0\"/large-*; do \"$file\" \"$@\" & done; wait";
    let mut line = ["sh", "-c", script].map(str::to_owned).to_vec();
    line.push(programs.folder().display().to_string());
    line.extend(programs.line(&attacked, &["SOCKET", "SECRET"]));
    let over = AtomicBool::new(false);
    let flood = async {
        let told = finished(programs.command(line)).await;
        over.store(true, Ordering::Relaxed);
        told
    };
    let served = async {
        let mut served = 0;
        while served < 20 || !over.load(Ordering::Relaxed) {
            programs.run(&attacked, "legit").await.got_the_secret();
            served += 1;
        }
        served
    };
    let (told, served) = tokio::join!(flood, served);
    assert!(!told.text.contains("nonce\":") && !told.text.contains("heard"), "{}", told.text);
    assert_eq!(told.text.matches("unchallenged").count(), FLOOD, "{}", told.text);
    // One that nobody has asked for yet does not wait until all of those are hashed, which takes most of a minute.
    timeout(LIMIT, programs.run(&attacked, "new")).await.expect("it waits").got_the_secret();
    let record = attacked.record().await;
    let counts = counts(&record);
    assert_eq!(counts["secret.read.v1 allow -"], served + 2, "{counts:?}");
    let refused = |reason: &str| {
        counts.get(format!("peer.rejected.v1 deny {reason}").as_str()).copied().unwrap_or_default()
    };
    assert!(refused("timeout") + refused("digest") >= FLOOD, "{counts:?}");
    assert!(refused("timeout") > 0, "vacuous: they were all hashed in time: {counts:?}");
}
