//! The order in which everything stops, and the signals that ask for it.
//!
//! Does not know what the parts do: each part watches the token of its own phase, and each phase is given what it waits for.

use std::{future::Future, io, time::Duration};
use tokio::{
    signal::unix::{Signal as Unix, SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How long revoking what we own may take: Kubernetes may leave no more than 2 s after SIGTERM.
pub const REVOKE_WITHIN: Duration = Duration::from_millis(1500);

/// What a call that is under way may still take once a stop was asked for.
const LAST_TURN: Duration = Duration::from_millis(400);

/// How long stopping may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From SIGTERM until requests that still run are cut off.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace: Duration::from_secs(5) }
    }
}

/// What stops, in this order. One phase begins only after the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No new connections, and no new requests on the old ones.
    Accept,
    /// Requests that run are finished, up to the deadline.
    Requests,
    /// Renewal ends, and what we own in Vault is revoked.
    Revoke,
    /// The journal is flushed.
    Audit,
}

impl Phase {
    /// The word of the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Requests => "requests",
            Self::Revoke => "revoke",
            Self::Audit => "audit",
        }
    }
}

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<T> {
    /// In time, with this.
    Finished(T),
    /// Cut off at its limit.
    CutOff,
}

/// Says to every part when its phase begins. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    accept: CancellationToken,
    requests: CancellationToken,
    revoke: CancellationToken,
    audit: CancellationToken,
}

impl Stop {
    /// Nothing has begun to stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when `phase` begins.
    #[must_use]
    pub fn token(&self, phase: Phase) -> &CancellationToken {
        match phase {
            Phase::Accept => &self.accept,
            Phase::Requests => &self.requests,
            Phase::Revoke => &self.revoke,
            Phase::Audit => &self.audit,
        }
    }

    /// Whether stopping was asked for: a task that ends before that ends the process.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.accept.is_cancelled()
    }

    /// Begins `phase`, and every phase before it that did not begin yet.
    pub fn begin(&self, phase: Phase) {
        for earlier in [Phase::Accept, Phase::Requests, Phase::Revoke, Phase::Audit] {
            if earlier <= phase {
                self.token(earlier).cancel();
            }
        }
    }

    /// Begins `phase` and waits up to `limit` for `work`, which is what the phase is about.
    pub async fn run<T>(&self, phase: Phase, limit: Duration, work: impl Future<Output = T>) -> Ended<T> {
        self.begin(phase);
        self::phase(phase.word(), limit, work).await
    }
}

/// Waits up to `limit` for `work`, and logs under `name` how long it took and whether it was cut off.
pub async fn phase<T>(name: &'static str, limit: Duration, work: impl Future<Output = T>) -> Ended<T> {
    let begun = Instant::now();
    let ended = match tokio::time::timeout(limit, work).await {
        Ok(value) => Ended::Finished(value),
        Err(_) => Ended::CutOff,
    };
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match ended {
        Ended::Finished(_) => tracing::info!(phase = name, ms, "stopping: phase done"),
        Ended::CutOff => tracing::warn!(phase = name, ms, "stopping: phase cut off at its limit"),
    }
    ended
}

/// Does `turn` to its end. If `stop` comes meanwhile it gets a moment, not more: what is on its way from Vault would be left
/// to nobody, and a slow Vault must not hold up the end.
pub(crate) async fn last_turn(turn: impl Future<Output = ()>, stop: &CancellationToken) {
    tokio::pin!(turn);
    tokio::select! {
        () = &mut turn => {}
        () = stop.cancelled() => drop(tokio::time::timeout(LAST_TURN, turn).await),
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop in order.
    Terminate,
    /// SIGHUP: read the config again.
    Reload,
}

/// The signals of this process. While one lives, none of them ends the process by itself.
#[derive(Debug)]
pub struct Signals {
    term: Unix,
    int: Unix,
    hup: Unix,
}

/// Takes over SIGTERM, SIGINT and SIGHUP; for good, since tokio never puts the default action back.
///
/// # Errors
/// When the system refuses a signal handler.
pub fn signals() -> io::Result<Signals> {
    Ok(Signals {
        term: signal(SignalKind::terminate())?,
        int: signal(SignalKind::interrupt())?,
        hup: signal(SignalKind::hangup())?,
    })
}

impl Signals {
    /// Waits for the next one. Cancel safe; equal signals that come before they are heard count once.
    pub async fn next(&mut self) -> Signal {
        // `recv` gives `None` only when the runtime's signal driver is gone: then stopping is all that is left.
        tokio::select! {
            biased;
            _ = self.term.recv() => Signal::Terminate,
            _ = self.int.recv() => Signal::Terminate,
            _ = self.hup.recv() => Signal::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal as Sent, raise};

    #[test]
    fn a_phase_begins_the_ones_before_it_and_none_after() {
        let stop = Stop::new();
        assert!(!stop.asked());
        stop.begin(Phase::Requests);
        assert!(stop.asked() && stop.clone().token(Phase::Requests).is_cancelled());
        assert!(!stop.token(Phase::Revoke).is_cancelled() && !stop.token(Phase::Audit).is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_phase_that_hangs_is_cut_off_at_its_limit() {
        let stop = Stop::new();
        let begun = Instant::now();
        let ended = stop.run(Phase::Revoke, REVOKE_WITHIN, std::future::pending::<()>()).await;
        assert_eq!((ended, begun.elapsed()), (Ended::CutOff, REVOKE_WITHIN));
        assert_eq!(stop.run(Phase::Audit, REVOKE_WITHIN, async { 7 }).await, Ended::Finished(7));
    }

    #[tokio::test]
    async fn term_and_int_ask_to_stop_and_hup_to_read_the_config_again() {
        let mut signals = signals().unwrap();
        for (sent, expected) in [
            (Sent::SIGHUP, Signal::Reload),
            (Sent::SIGTERM, Signal::Terminate),
            (Sent::SIGINT, Signal::Terminate),
        ] {
            raise(sent).unwrap();
            let heard = tokio::time::timeout(Duration::from_secs(10), signals.next()).await;
            assert_eq!(heard, Ok(expected), "{sent}");
        }
    }
}
