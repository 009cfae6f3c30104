//! `claviger report keys`: what it says of the record that real agents left, and by which exit code.

use crate::support::{Line, Scene, finish};
use serde_json::Value;
use std::{fs, path::Path, process::Output};
use tokio::process::Command;

/// Two runs with three reads each; the config's file is there, and what the agents printed in two files.
async fn recorded() -> Scene {
    let scene = Scene::new().await;
    for run in ["one.jsonl", "two.jsonl"] {
        let mut agent = scene.start(&scene.config()).await;
        let mut line = Line::open(&scene.socket("job")).await.unwrap();
        for _ in 0..3 {
            assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
        }
        assert_eq!(line.ask("/secrets/nope").await.unwrap().status, 403);
        drop(line);
        assert_eq!(agent.stop().await, Some(0));
        fs::write(scene.path(run), agent.stdout()).unwrap();
    }
    scene
}

async fn report(scene: &Scene, line: &[&str]) -> Output {
    let config = scene.path("config.yaml").display().to_string();
    scene.claviger(&[&["report", "keys", "--config", &config], line].concat()).await
}

async fn judged(scene: &Scene, line: &[&str]) -> Value {
    let ran = report(scene, &[line, &["--format", "json"]].concat()).await;
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The last snapshot of each start, whole: without any event of a read.
fn snapshots(scene: &Scene, name: &str) -> String {
    let text = fs::read_to_string(scene.path(name)).unwrap();
    text.lines().filter(|line| line.contains("usage.snapshot.v1")).map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_outlives_a_restart_and_the_events_that_it_was_counted_from() {
    let scene = recorded().await;
    let at = |name: &str| scene.path(name).display().to_string();
    let by_journal = judged(&scene, &[]).await;
    assert_eq!(by_journal["record"]["starts"], 2);
    assert_eq!((&by_journal["rules"][0]["used"], &by_journal["rules"][0]["granted"]), (&1.into(), &1.into()));
    assert!(by_journal["secrets"][0]["last_used"].is_string(), "{by_journal:#}");
    // The journal, and what its sinks printed: each event counts once.
    let both =
        judged(&scene, &[&scene.journal().display().to_string(), &at("two.jsonl"), &at("one.jsonl")]).await;
    assert_eq!(both["record"]["events"], by_journal["record"]["events"]);
    // Nothing is left but the snapshots, of one start in a file and of the other on standard input.
    fs::write(scene.path("left.jsonl"), snapshots(&scene, "one.jsonl")).unwrap();
    let left = judged(&scene, &[&at("left.jsonl")]).await;
    assert_eq!((&left["rules"], &left["record"]["starts"]), (&one_of(&by_journal, &left), &1.into()));
}

/// The rules of the whole record, with the last use of the part of it.
fn one_of(whole: &Value, part: &Value) -> Value {
    let mut rules = whole["rules"].clone();
    rules[0]["last_used"] = part["rules"][0]["last_used"].clone();
    assert!(rules[0]["last_used"].is_string(), "{part:#}");
    rules
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_as_bad_as_asked_about_is_exit_14_and_what_cannot_be_read_is_1_and_says_what_to_do() {
    let scene = recorded().await;
    // The record of this scene is on one machine, and nobody signs it: KA012.
    for (line, code) in [
        (&["--fail-on", "medium"][..], 14),
        (&["--fail-on", "critical"], 0),
        (&["--since", "soon"], 2),
        (&["--format", "pdf"], 2),
        (&["/nowhere"], 1),
    ] {
        let ran = report(&scene, line).await;
        assert_eq!(ran.status.code(), Some(code), "{line:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    let nothing = report(&scene, &["/nowhere"]).await;
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("audit.journal.dir"));
}

/// Debian's Chromium, which `tests/run long` installs.
#[tokio::test]
#[ignore = "a browser is 400 MB; `tests/run long` runs it"]
async fn the_page_is_drawn_and_printed_by_a_real_browser_which_finds_nothing_wrong_with_it() {
    let scene = recorded().await;
    let page = scene.path("keys.html");
    fs::write(&page, report(&scene, &["--format", "html"]).await.stdout).unwrap();
    let (shot, pdf) = (scene.path("keys.png"), scene.path("keys.pdf"));
    let browse = async |what: String| chromium(&scene, &page, &[&what]).await;
    let drawn = browse(format!("--screenshot={}", shot.display())).await;
    let said = String::from_utf8_lossy(&drawn.stderr).into_owned();
    assert!(drawn.status.success() && !said.contains("CONSOLE"), "{said}");
    browse(format!("--print-to-pdf={}", pdf.display())).await;
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    assert!(size(&shot) > 10_000 && size(&pdf) > 10_000, "{} {}", size(&shot), size(&pdf));
    let narrow = scene.path("keys-on-a-telephone.png");
    for more in [&["--window-size=390,2400"][..], &["--window-size=390,2400", "--force-dark-mode"]] {
        let drawn =
            chromium(&scene, &page, &[more, &[&format!("--screenshot={}", narrow.display())]].concat()).await;
        assert!(drawn.status.success() && size(&narrow) > 10_000);
    }
    // As a telephone shows it: nothing is wider than the screen, and in each plot everything is within it and no text on another.
    let around = scene.path("around.html");
    fs::write(&around, AROUND).unwrap();
    let measured = chromium(
        &scene,
        &around,
        &["--allow-file-access-from-files", "--virtual-time-budget=10000", "--dump-dom"],
    )
    .await;
    let text = String::from_utf8_lossy(&measured.stdout).into_owned();
    let found =
        text.split("<pre id=\"o\">").nth(1).and_then(|rest| rest.split("</pre>").next()).unwrap_or_default();
    let found: Value = serde_json::from_str(found).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(found["width"].as_u64() <= Some(390), "{found:#}");
    let plots = found["plots"].as_array().unwrap();
    assert_eq!(plots.len(), 3, "{found:#}");
    for plot in plots {
        assert!(plot["named"] == true && plot["marks"].as_u64() >= Some(1), "{plot:#}");
        assert_eq!((&plot["clashes"], &plot["outside"]), (&0.into(), &0.into()), "{plot:#}");
    }
}

/// A page around the page, which measures what it looks like: the page itself may run no script.
const AROUND: &str = r#"<!doctype html><iframe id=f src="keys.html" style="width:390px;height:800px;border:0"></iframe><pre id="o"></pre><script>
f.onload = () => {
  const page = f.contentDocument, box = one => one.getBoundingClientRect();
  const plots = [...page.querySelectorAll("svg")].map(svg => {
    const all = box(svg), of = what => [...svg.querySelectorAll(what)];
    const named = svg.getAttribute("aria-labelledby").split(" ").every(id => page.getElementById(id).textContent);
    const clashes = of("text.value").filter(one => box(one.previousElementSibling).right + 4 > box(one).left).length;
    const outside = of("rect,circle,text").filter(one => box(one).left < all.left - 1 || box(one).right > all.right + 1
      || box(one).top < all.top - 1 || box(one).bottom > all.bottom + 1).length;
    return {named, marks: of("rect:not(.track),circle").length, clashes, outside};
  });
  document.getElementById("o").textContent = JSON.stringify({width: page.documentElement.scrollWidth, plots});
}
</script>"#;

/// Chromium, once, with nobody before it.
async fn chromium(scene: &Scene, page: &Path, more: &[&str]) -> Output {
    let mut command = Command::new("chromium");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--window-size=900,2400",
    ]);
    command.arg(format!("--user-data-dir={}", scene.path("browser").display()));
    command.args(more).arg(format!("file://{}", page.display()));
    finish(command).await
}
