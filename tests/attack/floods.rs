//! Attack 30, in part: one user takes so much of the socket that there is nothing left for another.

use crate::{
    can_attack,
    part::{Ids, Pace, Part},
    scene::{Attacked, Attacker, UID, attack, config, permitted},
    support::{Agent, Scene, VALUE, until},
};
use tokio::process::Command;

/// More than the workload's connections, and than those who are told why they are refused.
const MANY: usize = 100;
const OTHER: u32 = 20_002;

fn other() -> Ids {
    Ids { uid: OTHER, gid: OTHER, groups: vec![] }
}

fn ask(attacked: &Attacked) -> Part {
    Part::Ask(attacked.socket(), permitted(), "/secrets/stripe".into())
}

/// What metrics count under `reason`.
async fn counted(attacked: &Attacked, reason: &str) -> usize {
    let page = attacked.agent.page("/metrics").await.body;
    let requests = page.lines().filter(|line| line.starts_with("claviger_requests_total{"));
    let ours = requests.filter(|line| line.contains(&format!("reason=\"{reason}\"")));
    ours.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_of_another_user_takes_no_place_of_the_permitted_one() {
    if !can_attack() {
        return;
    }
    for pace in [Pace::Silent, Pace::ByByte] {
        let attacked = Attacked::with(&format!("uid: {UID}, level: process"), 4).await;
        let mut flood = Attacker::start(&Part::Flood(attacked.socket(), other(), MANY, pace));
        flood.tells("flooding").await;
        for _ in 0..20 {
            attack(&ask(&attacked)).await.got_the_secret();
        }
        // Most have been closed by now, and their places been taken by new ones.
        flood.tells("flooded").await;
        drop(flood);
        attack(&ask(&attacked)).await.got_the_secret();
        let refused = counted(&attacked, "uid").await;
        let record = attacked.record().await;
        assert_eq!(lines_of(&record, "secret.read.v1 allow - process"), 21);
        // Each of them is on record, if not each with an event of its own.
        let found = record.iter().filter(|line| line.starts_with("peer.rejected.v1 deny uid")).count();
        assert!(found == refused && refused > 9 * MANY, "{found} of {refused} on record");
    }
}

/// Both may connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_permitted_user_that_takes_all_its_connections_takes_none_of_another_permitted_one() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::with(&format!("uid: [{UID}, {OTHER}], level: process"), 4).await;
    let mut flood = Attacker::start(&Part::Flood(attacked.socket(), other(), MANY, Pace::Silent));
    flood.tells("heard connections").await;
    for _ in 0..20 {
        attack(&ask(&attacked)).await.got_the_secret();
    }
    let told = attack(&Part::Ask(attacked.socket(), other(), "/secrets/stripe".into())).await;
    told.got_nothing();
    drop(flood);
    let record = attacked.record().await;
    assert_eq!(lines_of(&record, "secret.read.v1 allow - process"), 20);
    assert!(record.contains(&"peer.rejected.v1 deny connections user".to_owned()), "{record:?}");
}

/// Slow ones are cut off one after the other, and so are idle ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_fills_its_own_places_with_slow_connections_is_cut_off_and_served_again() {
    if !can_attack() {
        return;
    }
    let attacked = Attacked::with(&format!("uid: {UID}, level: process"), 4).await;
    let mut flood = Attacker::start(&Part::Flood(attacked.socket(), permitted(), MANY, Pace::ByByte));
    flood.tells("heard connections").await;
    drop(flood);
    until("an answer", || async { attack(&ask(&attacked)).await.text.contains(VALUE).then_some(()) }).await;
    assert!(attacked.record().await.contains(&"peer.rejected.v1 deny connections user".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permitted_user_that_is_over_its_rate_leaves_another_one_s_as_it_is() {
    if !can_attack() {
        return;
    }
    let scene = Scene::new().await;
    let mut config = config(&scene, &format!("uid: [{UID}, {OTHER}], level: process"), 64);
    config.workloads = config.workloads.replace("requests_per_second: 1000000", "requests_per_second: 4");
    let agent = scene.start(&config).await;
    let attacked = Attacked { scene, agent };
    let mut flood = Attacker::start(&Part::Flood(attacked.socket(), other(), MANY, Pace::Silent));
    flood.tells("heard rate_limited").await;
    // Its own rate is four a second.
    for _ in 0..4 {
        attack(&ask(&attacked)).await.got_the_secret();
    }
    drop(flood);
    let record = attacked.record().await;
    assert_eq!(lines_of(&record, "secret.read.v1 allow - process"), 4);
    assert!(lines_of(&record, "peer.rejected.v1 deny rate_limited user") > 0, "{record:?}");
}

/// Attack 30, EMFILE: those who are refused never have so many descriptors open that there are none left.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_another_user_uses_up_no_descriptors_of_an_agent_that_may_have_few() {
    if !can_attack() {
        return;
    }
    let scene = Scene::new().await;
    let run = scene.run(&config(&scene, &format!("uid: {UID}, level: process"), 4));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).arg(run.as_std().get_program());
    command.args(run.as_std().get_args());
    let agent = Agent::spawn(command).await;
    agent.until_ready().await;
    let attacked = Attacked { scene, agent };
    let before = attacked.agent.descriptors();
    let mut flood = Attacker::start(&Part::Flood(attacked.socket(), other(), MANY, Pace::Silent));
    flood.tells("flooded").await;
    for _ in 0..5 {
        attack(&ask(&attacked)).await.got_the_secret();
    }
    drop(flood);
    until("the descriptors of before", || async { (attacked.agent.is_back_to(before)).then_some(()) }).await;
    assert!(
        !attacked.agent.stderr().contains("accepting a connection failed"),
        "{}",
        attacked.agent.stderr()
    );
}

fn lines_of(record: &[String], line: &str) -> usize {
    record.iter().filter(|found| *found == line).count()
}
