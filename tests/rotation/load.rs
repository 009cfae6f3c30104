//! Consumers: each reads what Vault has, opens a session with it, asks 50 queries a second through it, and begins anew.

use crate::scene::{Scene, Way};
use lab::{Postgres, Session};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// From one query of a consumer to its next: 50 a second.
const PACE: Duration = Duration::from_millis(20);
/// So many queries are asked in one session.
const QUERIES: usize = 20;

/// How logins went.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Count {
    pub(crate) good: usize,
    pub(crate) bad: usize,
    /// In sessions that were open; each is answered.
    pub(crate) queries: usize,
}

/// The consumers at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    /// The versions whose grace is over.
    over: Arc<Mutex<u64>>,
    threads: Vec<JoinHandle<Count>>,
}

impl Load {
    pub(crate) fn start(scene: &Scene, count: usize) -> Load {
        let (stop, over) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
        let thread = |_| {
            let (stop, over, way) = (Arc::clone(&stop), Arc::clone(&over), scene.way());
            let postgres = Arc::clone(&scene.postgres);
            thread::spawn(move || consume(&way, &postgres, &stop, &over))
        };
        let threads = (0..count).map(thread).collect();
        Load { stop, over, threads }
    }

    /// What was read as `version` or before may no longer work.
    pub(crate) fn over(&self, version: u64) {
        let mut over = self.over.lock().unwrap();
        *over = version.max(*over);
    }

    pub(crate) fn end(self) -> Count {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.threads.into_iter().map(|thread| thread.join().unwrap());
        counts.fold(Count::default(), |all, one| Count {
            good: all.good + one.good,
            bad: all.bad + one.bad,
            queries: all.queries + one.queries,
        })
    }
}

fn consume(way: &Way, postgres: &Postgres, stop: &AtomicBool, over: &Mutex<u64>) -> Count {
    let mut count = Count::default();
    while !stop.load(Ordering::Relaxed) {
        let (version, user, password) = way.read();
        let Some(mut session) = Session::open(postgres, &user, &password) else {
            if version > *over.lock().unwrap() {
                // Told of it before we looked: it is ours to complain.
                count.bad += 1;
            }
            continue;
        };
        count.good += 1;
        for _ in 0..QUERIES {
            let begun = Instant::now();
            assert!(session.query(), "a session that is open stays open");
            count.queries += 1;
            rest(PACE.saturating_sub(begun.elapsed()));
        }
    }
    count
}

#[expect(clippy::disallowed_methods, reason = "the pace of the load; nothing is asserted about it")]
fn rest(time: Duration) {
    thread::sleep(time);
}
