//! When a checkpoint is due, and what becomes of it: signed, recorded as an event, anchored in Vault.
//!
//! One task. What it cannot do now (Vault away, disk full) it tries again, and nobody waits for it.

use super::{
    AFTER, EVENTS, Key, REST, Settings,
    anchored::Anchored,
    follow::{Grown, follow},
    own,
    remote::Remote,
    signer::Signer,
    text::Checkpoint,
};
use crate::{
    audit::{
        Audit,
        event::{AgentFacts, Event, Outcome, Signed, Type},
    },
    clock,
    crypto::Hash,
    shutdown::last_turn,
    vault::{Vault, kv2::Place, session::Identity},
};
use std::{collections::VecDeque, io, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Checkpoints of ours that an anchor is compared with.
const REMEMBERED: usize = 256;
/// How long the tree may take to come up with the journal before a last checkpoint.
const CATCH_UP: Duration = Duration::from_millis(300);
/// What the last calls to Vault may take: the identity is revoked after them, and Kubernetes may leave 2 s for all.
const WITH_VAULT: Duration = Duration::from_millis(300);
/// Far away: nothing is due.
const NEVER: Duration = Duration::from_secs(86_400);

/// What the agent asks of the task.
enum Ask {
    /// A checkpoint and the anchor now, while Vault may still be called.
    Now(oneshot::Sender<()>),
    /// The last checkpoint, without Vault.
    Last(oneshot::Sender<()>),
}

/// The agent's handle on the task.
#[derive(Debug)]
pub struct Checkpoints {
    asks: mpsc::UnboundedSender<Ask>,
}

/// The task, not running yet.
pub struct Task {
    pub(super) audit: Audit,
    pub(super) signer: Signer,
    pub(super) remote: Option<Remote>,
    /// Where the anchor is.
    pub(super) place: Option<Place>,
    origin: String,
    grown: watch::Receiver<Grown>,
    asks: mpsc::UnboundedReceiver<Ask>,
    observe: Box<dyn Fn(Type, Outcome) + Send + Sync>,
    stop: CancellationToken,
    /// What was signed last.
    done: Done,
    /// When the first event came that is not signed.
    waiting: Option<Instant>,
    not_before: Instant,
    pub(super) newest: Option<Signed>,
    pub(super) signed: VecDeque<(u64, Hash)>,
    pub(super) anchored: Anchored,
}

#[derive(Clone, Copy)]
struct Done {
    others: u64,
    segments: usize,
}

impl Checkpoints {
    /// Prepares checkpoints of the chain of `audit`. `vault` must be there with a key or an anchor; `stop` begins when
    /// calls must not hold up an end any more; `observe` hears of each event.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn prepare(
        audit: &Audit,
        (settings, source): (&Settings, &str),
        key: Key,
        vault: Option<(Vault, Identity)>,
        stop: CancellationToken,
        observe: impl Fn(Type, Outcome) + Send + Sync + 'static,
    ) -> io::Result<(Self, Task)> {
        let origin = format!("{source}/{}", audit.chain());
        audit.0.stats.signed_at(clock::since_boot());
        let (sender, asks) = mpsc::unbounded_channel();
        let now = Instant::now();
        let place = settings.anchor.as_ref().map(|place| own(place, source));
        let anchored = Anchored { version: None, is_behind: false, next: now, said: None, refused: false };
        let task = Task {
            grown: follow(audit)?,
            audit: audit.clone(),
            signer: Signer::new(key, settings.key.clone(), origin.clone()),
            remote: vault.map(|(vault, identity)| Remote::new(vault, identity)),
            place,
            origin,
            asks,
            observe: Box::new(observe),
            stop,
            // The first segment begins with the chain; the next one means that it was sealed.
            done: Done { others: 0, segments: 1 },
            waiting: None,
            not_before: now,
            newest: None,
            signed: VecDeque::new(),
            anchored,
        };
        Ok((Self { asks: sender }, task))
    }

    /// Signs and anchors what there is, while the identity's token still lives. Ends when that is done, or cannot be.
    pub async fn now(&self) {
        self.ask(Ask::Now).await;
    }

    /// Signs what came since, if that needs no Vault, and ends the task.
    pub async fn last(self) {
        self.ask(Ask::Last).await;
    }

    async fn ask(&self, ask: fn(oneshot::Sender<()>) -> Ask) {
        let (done, ended) = oneshot::channel();
        // A task that has ended has nothing more to sign.
        let _ = self.asks.send(ask(done));
        let _ = ended.await;
    }
}

impl Task {
    /// Works until it is asked for the last checkpoint, or the journal is closed.
    pub async fn run(mut self) {
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                ask = self.asks.recv() => match ask {
                    Some(Ask::Now(done)) => {
                        // A Vault that hangs must not keep the last checkpoint waiting.
                        if timeout(WITH_VAULT, self.now()).await.is_err() {
                            tracing::warn!("Vault was too slow for a last checkpoint");
                        }
                        let _ = done.send(());
                    }
                    Some(Ask::Last(done)) => {
                        self.catch_up().await;
                        self.turn(Vaulted::No).await;
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
                grown = self.grown.changed() => {
                    if grown.is_err() {
                        return;
                    }
                    self.look();
                }
                () = sleep_until(due) => self.work().await,
            }
        }
    }

    async fn now(&mut self) {
        self.catch_up().await;
        self.turn(Vaulted::Yes).await;
        self.write_anchor().await;
    }

    /// When there is something to do.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let anchor = (self.place.is_some()
            && (self.anchored.refused || self.anchored.version.is_none() || self.anchored.is_behind))
            .then_some(self.anchored.next);
        let grown = self.grown.borrow();
        let fresh = grown.others.saturating_sub(self.done.others);
        let sign = match self.waiting {
            _ if grown.is_broken || self.anchored.refused => None,
            Some(_) if fresh >= EVENTS || grown.segments > self.done.segments => Some(now),
            Some(since) => Some(since + AFTER),
            None => None,
        };
        let sign = sign.map(|at| at.max(self.not_before));
        [anchor, sign].into_iter().flatten().min().unwrap_or(now + NEVER)
    }

    /// Whether there are unsigned events now.
    pub(super) fn look(&mut self) {
        let grown = self.grown.borrow_and_update();
        if grown.others <= self.done.others {
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.waiting = Some(Instant::now());
        }
        if grown.is_broken {
            tracing::error!(
                "events were gone before they could be signed: no more checkpoints until the next start"
            );
        }
    }

    async fn work(&mut self) {
        let stop = self.stop.clone();
        last_turn(
            async {
                let anchor_first = self.place.is_some()
                    && (self.anchored.version.is_none() || self.anchored.refused)
                    && self.anchored.next <= Instant::now();
                if anchor_first {
                    self.read_anchor().await;
                }
                self.turn(Vaulted::Yes).await;
                if self.anchored.is_behind && self.anchored.next <= Instant::now() {
                    self.write_anchor().await;
                }
            },
            &stop,
        )
        .await;
    }

    /// Signs and records what is unsigned, if there is any and it is due.
    async fn turn(&mut self, vaulted: Vaulted) {
        self.look();
        let grown = self.grown.borrow().clone();
        let wanted = self.waiting.is_some() && !grown.is_broken && !self.anchored.refused;
        let is_now = vaulted == Vaulted::No || self.stop.is_cancelled() || self.is_due(&grown);
        if !wanted || !is_now {
            return;
        }
        match self.checkpoint(&grown, vaulted).await {
            Ok(()) => {
                self.done = Done { others: grown.others, segments: grown.segments.max(1) };
                self.waiting = None;
                self.look();
            }
            Err(said) => {
                self.not_before = Instant::now() + REST;
                tracing::warn!(error = %said, "a checkpoint of the audit journal has to wait");
            }
        }
    }

    fn is_due(&self, grown: &Grown) -> bool {
        let fresh = grown.others.saturating_sub(self.done.others);
        let old = self.waiting.is_some_and(|since| since.elapsed() >= AFTER);
        Instant::now() >= self.not_before && (old || fresh >= EVENTS || grown.segments > self.done.segments)
    }

    async fn checkpoint(&mut self, grown: &Grown, vaulted: Vaulted) -> Result<(), String> {
        let remote = self.remote.as_mut().filter(|_| vaulted == Vaulted::Yes);
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size: grown.tree.size(),
            root: grown.tree.root(),
            head: grown.head,
        };
        let signed = match remote {
            Some(remote) => {
                if self.signer.lacks_certificate()
                    && remote.is_live()
                    && let Err(error) = self.signer.certify(remote).await
                {
                    tracing::warn!(%error, "the key of this start is not certified yet");
                }
                self.signer.sign(&checkpoint, Some(remote)).await
            }
            None if !self.signer.is_local() => return Ok(()),
            None => self.signer.sign(&checkpoint, None).await,
        };
        let signed = signed.map_err(|error| error.to_string())?;
        let event = Event::new(Type::AuditCheckpoint, Outcome::Allow, clock::now());
        let facts = AgentFacts { signed: Some(Box::new(signed.clone())), ..AgentFacts::default() };
        self.record(Event { agent: Some(facts), ..event }).await?;
        self.audit.0.stats.signed_at(clock::since_boot());
        self.signed.push_back((checkpoint.size, checkpoint.head));
        if self.signed.len() > REMEMBERED {
            self.signed.pop_front();
        }
        self.newest = Some(signed);
        self.anchored.is_behind = self.place.is_some();
        Ok(())
    }

    pub(super) async fn record(&self, event: Event) -> Result<(), String> {
        let (kind, outcome) = (event.kind, event.outcome);
        self.audit.record(event, self.audit.mode()).await.map_err(|error| error.to_string())?;
        (self.observe)(kind, outcome);
        Ok(())
    }

    /// Waits until the tree holds all that is on disk now.
    async fn catch_up(&mut self) {
        if self.audit.flush().await.is_err() {
            return;
        }
        let wanted = self.audit.0.tail.end().position.seq;
        let caught = self.grown.wait_for(|grown| grown.tree.size() >= wanted || grown.is_broken);
        if timeout(CATCH_UP, caught).await.is_err() {
            tracing::warn!("the last checkpoint does not cover the last events");
        }
    }
}

/// Whether Vault may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vaulted {
    Yes,
    No,
}
