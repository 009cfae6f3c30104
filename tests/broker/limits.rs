//! How much a workload may call.

use crate::{
    rig::{Plan, Reply, Rig},
    server::say,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_has_a_number_of_calls_a_day() {
    let plan = Plan { rule: "methods: [GET], paths: [\"*\"], calls_per_day: 3", ..Plan::default() };
    let rig = Rig::with(plan, |_| say(200, &[], "fine")).await;
    for _ in 0..3 {
        assert_eq!(rig.get("/").await.status, 200);
    }
    let reply = rig.get("/").await;
    assert_eq!((reply.status, reply.reason().as_str()), (429, "budget_exhausted"));
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=24 * 3600).contains(&wait));
    assert_eq!(rig.server.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_its_turn_where_that_is_soon_and_is_refused_where_it_is_not() {
    let plan = Plan { rule: "methods: [GET], paths: [\"*\"], requests_per_second: 1", ..Plan::default() };
    let rig = Rig::with(plan, |_| say(200, &[], "fine")).await;
    let mut lines = Vec::new();
    for _ in 0..20 {
        let mut line = rig.own().await;
        line.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        lines.push(line);
    }
    let (mut done, mut refused) = (0, 0);
    for line in &mut lines {
        let (status, head) = line.head().await.unwrap();
        let mut reply = Reply { status, head, body: Vec::new() };
        line.body(&mut reply).await.unwrap();
        match status {
            200 => done += 1,
            _ => {
                assert_eq!((status, reply.reason().as_str()), (429, "rate_limited"));
                assert!(reply.header("retry-after").is_some());
                refused += 1;
            }
        }
    }
    // The bucket has one, and the next one is worth waiting for.
    assert!(done >= 2 && refused > 0, "{done} done, {refused} refused");
    assert_eq!(rig.server.seen().len(), done);
}
