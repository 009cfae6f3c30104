//! How much a workload may call.

use crate::{
    rig::{Plan, Rig},
    server::say,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_has_a_rate_and_a_number_of_calls_a_day() {
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
    let plan = Plan { rule: "methods: [GET], paths: [\"*\"], requests_per_second: 1", ..Plan::default() };
    let rig = Rig::with(plan, |_| say(200, &[], "fine")).await;
    let mut line = rig.own().await;
    let mut refused = 0;
    for _ in 0..50 {
        let reply = line.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        if reply.status == 429 {
            assert_eq!(reply.reason(), "rate_limited");
            refused += 1;
        }
    }
    assert_eq!(rig.server.seen().len() + refused, 50);
    assert!(refused > 0);
}
