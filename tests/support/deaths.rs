//! A process that dies at a call, and at which of all: a fault at one call, the process gone when it is made, and each call in turn.

use devvault::{DevVault, Fault, Matcher, Times};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{sync::Notify, task::JoinSet};

/// More calls than any run makes.
const MOST: usize = 100;

/// Does `fault` to call number `at` from now of those that `calls` is about, and tells when it is made.
pub(crate) fn fault_at(dev: &DevVault, at: usize, calls: Matcher, fault: Fault) -> Arc<Notify> {
    let (seen, hit) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let told = Arc::clone(&hit);
    let is_it = move |call: &devvault::Call| {
        let is_it = calls.fits(call) && seen.fetch_add(1, Ordering::Relaxed) == at;
        if is_it {
            told.notify_one();
        }
        is_it
    };
    dev.script(Matcher::any().when(is_it), fault, Times::Always);
    hit
}

/// Has `process` work until `hit`, or until it has `rested` without; then it is gone. Gives whether it was hit.
pub(crate) async fn dies(
    process: &mut JoinSet<()>,
    hit: impl Future<Output = ()>,
    rested: impl Future<Output = ()>,
) -> bool {
    let died = tokio::select! {
        biased;
        () = hit => true,
        () = rested => false,
    };
    if died {
        // Its own part of the call goes on as far as it can.
        tokio::task::yield_now().await;
    }
    process.shutdown().await;
    died
}

/// The first of two hits.
pub(crate) async fn either(one: &Notify, other: &Notify) {
    tokio::select! {
        biased;
        () = one.notified() => {}
        () = other.notified() => {}
    }
}

/// Has a process die at each call in turn, until there is none to die at; gives how many there were.
pub(crate) async fn at_each_call(mut survives: impl AsyncFnMut(usize) -> bool) -> usize {
    let mut at = 0;
    while survives(at).await {
        at += 1;
        assert!(at < MOST, "it never comes to rest");
    }
    at
}
