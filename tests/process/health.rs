//! The health port: why not, and when again.

use crate::support::{Agent, LIMIT, Scene, until};
use devvault::{Fault, Matcher, Times};

#[tokio::test(flavor = "multi_thread")]
async fn readyz_says_why_not_from_the_start_to_the_end() {
    let scene = Scene::new().await;
    let gate = devvault::Gate::new();
    scene.vault.script(Matcher::login(), Fault::Hold(gate.clone()), Times::Always);
    let mut config = scene.config();
    config.health = "{listen: \"127.0.0.1:0\", names: true}".into();
    // Not of our own uid, which would be a note on the page.
    let stranger = nix::unistd::geteuid().as_raw() + 20001;
    config.workloads = format!("\n{}", scene.workload("job", stranger, "[{name: keys, secrets: [stripe]}]"));
    let mut agent = Agent::spawn(scene.run(&config)).await;
    scene.vault.wait_for_call(&Matcher::login(), LIMIT).await.unwrap();
    let page = agent.page("/readyz").await;
    let body = r#"{"ready":false,"reasons":[{"code":"starting","count":1},{"code":"no_token","count":1,"names":["reports"]},{"code":"secret_not_ready","count":1,"names":["stripe"]}]}"#;
    assert_eq!((page.status, page.body.as_str()), (503, body));
    assert_eq!((agent.page("/startupz").await.status, agent.page("/livez").await.status), (503, 200));
    gate.open();
    agent.until_ready().await;
    assert_eq!(agent.page("/startupz").await.status, 200);
    // Lost, and found again by itself.
    scene.vault.seal();
    scene.vault.revoke_role("reports");
    assert_eq!(agent.page("/livez").await.status, 200);
    scene.vault.unseal();
    agent.until_ready().await;
    assert_eq!(agent.page("/startupz").await.status, 200, "once started, always started");
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    let scene = Scene::new().await;
    let mut config = scene.config();
    // Whatever the kernel of the machine can prove.
    config.workloads = config.workloads.replace("peer: {", "peer: {level: user, ");
    let mut agent = scene.start(&config).await;
    let mut line = crate::support::Line::open(&scene.socket("job")).await.unwrap();
    for target in ["/secrets/stripe", "/secrets/stripe", "/secrets/nothing"] {
        line.ask(target).await.unwrap();
    }
    let wanted = [
        "claviger_build_info{version=",
        "claviger_requests_total{workload=\"job\",outcome=\"allow\",reason=\"\",rule=\"keys\",level=\"user\"} 2",
        "claviger_requests_total{workload=\"job\",outcome=\"deny\",reason=\"no_rule\",rule=\"\",level=\"user\"} 1",
        "claviger_logins_total{identity=\"reports\",outcome=\"allow\"} 1",
        "claviger_token_seconds_left{identity=\"reports\"} 3",
        "claviger_secret_ready{secret=\"stripe\"} 1",
        "claviger_connections{workload=\"job\"} 1",
        "audit_events_total{type=\"agent.started.v1\",outcome=\"allow\"} 1",
        "audit_commit_seconds_count ",
    ];
    let missing = until("the metrics", || async {
        let text = agent.page("/metrics").await.body;
        let missing: Vec<&str> = wanted.iter().filter(|wanted| !text.contains(**wanted)).copied().collect();
        (missing.is_empty() || !missing.contains(&wanted[7])).then_some((missing, text))
    })
    .await;
    assert!(missing.0.is_empty(), "{:?} are missing from\n{}", missing.0, missing.1);
    // Every access event is counted, not only the agent's own.
    assert!(
        missing.1.contains("audit_events_total{type=\"secret.read.v1\",outcome=\"allow\"} 2"),
        "reads are not among the events on disk:\n{}",
        missing.1
    );
    assert_eq!(agent.stop().await, Some(0));
}
