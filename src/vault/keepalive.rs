//! One identity's life: log in, renew, move over to a new login before the old one ends, revoke at exit.
//!
//! ```text
//! Starting -> Live(session 1) -> Live(session 2) -> …        Down while there is no valid token
//!                    \-> retired: renewed until nobody holds it, then revoked
//! ```
//!
//! Does not keep secrets: `keeper` does.

use super::{
    Vault, backoff,
    endpoint::Request,
    error::{Class, Error},
    limiter::Account,
    login::{self, Fresh, Memory},
    renewal::{self, Due, Term},
    report::Reporter,
    session::{Act, Doubt, Fact, Identity, Login, Start, State, Terms},
};
use crate::{crypto, shutdown};
use std::{future::pending, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// The shortest time between two look-ups of one token that somebody doubts.
const DOUBT_PAUSE: Duration = Duration::from_secs(10);
/// The longest, after look-ups that changed nothing.
const LONGEST_DOUBT_PAUSE: Duration = Duration::from_secs(300);
/// A first login after a restart or a failure waits a random part of this, so that a fleet does not come at once.
const SPLAY: Duration = Duration::from_secs(2);

/// The task that keeps one identity alive.
pub struct Keepalive {
    settings: login::Settings,
    vault: Vault,
    terms: Arc<Terms>,
    state: watch::Sender<State>,
    doubt: watch::Receiver<Doubt>,
    reporter: Reporter,
    released: Arc<Notify>,
    memory: Memory,
    current: Option<Alive>,
    retired: Vec<Alive>,
    /// The login that a call is being made about.
    under_way: Option<Arc<Login>>,
    next_login: Instant,
    login_failures: u32,
    last_lookup: Option<Instant>,
    doubt_pause: Duration,
    /// How often the token had been doubted when it was last looked up.
    doubts_settled: u64,
    /// How often the credential had been another one at the last login for that reason.
    renewed: u64,
    logins: u64,
}

/// Whether Vault knows a token.
#[derive(PartialEq, Eq)]
enum Known {
    Yes,
    No,
    /// It may not even look itself up (without the policy `default`), or Vault does not say.
    Unsaid,
}

/// A token that is kept alive. It holds the login itself, which is no claim.
struct Alive {
    login: Arc<Login>,
    term: Term,
    due: Due,
    failures: u32,
}

/// An identity and the task behind it; nothing is sent before the task runs.
#[must_use]
pub fn identity(
    settings: login::Settings,
    vault: Vault,
    terms: Arc<Terms>,
    start: Start,
    facts: mpsc::UnboundedSender<Fact>,
) -> (Identity, Keepalive) {
    let (state, watched) = watch::channel(State::Starting);
    let (doubt, doubted) = watch::channel(Doubt::default());
    let splay = if start == Start::Again { SPLAY.mul_f64(crypto::chance()) } else { Duration::ZERO };
    let reporter = Reporter::new(&settings, facts);
    let keepalive = Keepalive {
        settings,
        vault,
        terms: Arc::clone(&terms),
        state,
        doubt: doubted,
        reporter,
        released: Arc::new(Notify::new()),
        memory: Memory::default(),
        current: None,
        retired: Vec::new(),
        under_way: None,
        next_login: Instant::now() + splay,
        login_failures: 0,
        last_lookup: None,
        doubt_pause: DOUBT_PAUSE,
        doubts_settled: 0,
        renewed: 0,
        logins: 0,
    };
    (Identity { state: watched, terms, doubt }, keepalive)
}

impl Keepalive {
    /// Runs until `stop`, then revokes every token that is ours to revoke: one call each, which ends its children and
    /// leases too.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let wake = self.wake();
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.revoke_all().await,
                () = self.released.notified() => {}
                Ok(()) = self.doubt.changed() => {}
                () = async { match wake { Some(at) => sleep_until(at).await, None => pending().await } } => {}
            }
            shutdown::last_turn(self.turn(), &stop).await;
        }
    }

    /// The next moment at which something is due.
    fn wake(&self) -> Option<Instant> {
        let current = match &self.current {
            None => Some(self.next_login),
            Some(alive) => match alive.due {
                Due::Renew(at) => renewal::earlier(at, alive.term.end()),
                Due::Replace(at) => renewal::earlier(at.max(self.next_login), alive.term.end()),
                Due::Never => None,
            },
        };
        let retired = self.retired.iter().filter_map(|alive| match alive.due {
            Due::Renew(at) => renewal::earlier(at, alive.term.end()),
            Due::Replace(_) | Due::Never => alive.term.end(),
        });
        let doubted = self.is_doubted().then(|| self.next_lookup());
        current.into_iter().chain(retired).chain(doubted).min()
    }

    /// Does whatever is due; running it twice does no harm.
    async fn turn(&mut self) {
        self.mind_credential();
        self.settle_doubt().await;
        self.drop_ended();
        if self.login_due() {
            self.log_in().await;
        }
        self.renew_due().await;
        self.revoke_released().await;
    }

    /// Another credential is a reason to log in now.
    fn mind_credential(&mut self) {
        let renewed = self.doubt.borrow().renewed;
        if std::mem::replace(&mut self.renewed, renewed) != renewed {
            self.next_login = Instant::now();
            self.current.iter_mut().for_each(|alive| alive.due = Due::Replace(self.next_login));
        }
    }

    fn login_due(&self) -> bool {
        let now = Instant::now();
        let wanted = match &self.current {
            None => true,
            Some(alive) => matches!(alive.due, Due::Replace(at) if at <= now),
        };
        wanted && self.next_login <= now
    }

    async fn log_in(&mut self) {
        if let Err(error) = self.vault.reload_certificates() {
            tracing::warn!(%error, "the old certificates stay in use");
        }
        match login::login(&self.vault, &self.settings, &mut self.memory).await {
            Ok(fresh) => self.take_over(fresh),
            Err(error) => {
                self.login_failures += 1;
                let wait = backoff::wait(&error, self.login_failures, crypto::chance());
                self.next_login = Instant::now() + wait;
                tracing::warn!(identity = %self.settings.name, %error, again_in_ms = backoff::ms(wait), "login failed");
                self.reporter.report(Act::Login, Some(error.clone()), None, None);
                if self.current.is_none() {
                    self.state.send_replace(State::Down(error));
                }
            }
        }
    }

    /// Makes the new login the one in use; the old one lives on for as long as anybody holds it.
    fn take_over(&mut self, fresh: Fresh) {
        let now = Instant::now();
        let term = Term::new(now, fresh.ttl, fresh.renewable);
        (self.logins, self.login_failures) = (self.logins + 1, 0);
        // A token that is replaced at once, whatever the server grants, must not be replaced in a loop.
        self.next_login = now + Duration::from_secs(1);
        let released = Arc::clone(&self.released);
        self.reporter.logged_in(&fresh);
        let made = (fresh.token, fresh.accessor, fresh.made_by);
        let login = Login::new(made, self.logins, fresh.origin, term.end(), released);
        let due = term.due(self.terms.overlap(), crypto::chance());
        self.retired.extend(self.current.take());
        self.state.send_replace(State::Live(login.claim()));
        self.current = Some(Alive { login, term, due, failures: 0 });
    }

    async fn renew_due(&mut self) {
        let now = Instant::now();
        let due = |alive: &Alive| matches!(alive.due, Due::Renew(at) if at <= now);
        if self.current.as_ref().is_some_and(due)
            && let Some(alive) = self.current.take()
        {
            let login = self.takes(&alive);
            self.current = self.renew(alive).await;
            if self.current.is_none() {
                self.token_is_dead(&login);
            }
        }
        while let Some(at) = self.retired.iter().position(due) {
            let alive = self.retired.swap_remove(at);
            self.takes(&alive);
            let kept = self.renew(alive).await;
            self.retired.extend(kept);
        }
        self.under_way = None;
    }

    /// Remembers the login that a call is made about, so that a stop in the middle of it still revokes the token.
    fn takes(&mut self, alive: &Alive) -> Arc<Login> {
        Arc::clone(self.under_way.insert(Arc::clone(&alive.login)))
    }

    /// Renews one token. `None`: Vault no longer knows it.
    async fn renew(&mut self, mut alive: Alive) -> Option<Alive> {
        let result = self.renewed(&alive.login).await;
        let now = Instant::now();
        match result {
            Ok((ttl, renewable, request_id)) => {
                alive.failures = 0;
                alive.term = alive.term.renewed(now, ttl, renewable);
                alive.login.ends.send_replace(alive.term.end());
                self.doubt_pause = DOUBT_PAUSE;
                self.reporter.report(Act::Renew, None, Some(ttl), request_id);
                tracing::debug!(identity = %self.settings.name, ttl_s = ttl.as_secs(), "token renewed");
            }
            Err(error) => {
                tracing::warn!(identity = %self.settings.name, %error, "renewal failed");
                let refused = matches!(error.class(), Class::Denied | Class::Invalid);
                self.reporter.report(Act::Renew, Some(error.clone()), None, None);
                if refused {
                    let known = self.look_up(&alive.login).await;
                    if known == Known::No {
                        return None;
                    }
                    alive.term = alive.term.unrenewable();
                    if known == Known::Unsaid {
                        alive.due = Due::Replace(now);
                        return Some(alive);
                    }
                } else {
                    alive.failures += 1;
                    let wait = backoff::wait(&error, alive.failures, crypto::chance());
                    alive.due = Due::Renew(now + wait);
                    return Some(alive);
                }
            }
        }
        alive.due = alive.term.due(self.terms.overlap(), crypto::chance());
        Some(alive)
    }

    async fn renewed(&self, login: &Login) -> Result<(Duration, bool, Option<String>), Error> {
        let answer =
            self.vault.send_as(&Account::Upkeep, Some(&login.token), &Request::renew_self(None)?).await?;
        let envelope = answer.envelope()?;
        let auth = envelope.auth.as_ref().ok_or_else(|| answer.nonsense("a renewal without a token"))?;
        let request_id = Some(envelope.request_id.clone()).filter(|id| !id.is_empty());
        Ok((Duration::from_secs(auth.lease_duration), auth.renewable, request_id))
    }

    fn is_doubted(&self) -> bool {
        let doubt = *self.doubt.borrow();
        doubt.times > self.doubts_settled
            && self.current.as_ref().is_some_and(|alive| doubt.login == alive.login.number)
    }

    fn next_lookup(&self) -> Instant {
        self.last_lookup.map_or_else(Instant::now, |last| last + self.doubt_pause)
    }

    /// Looks up a doubted token, once for all who doubt it; a dead one is replaced by one new login. A good one was
    /// refused because of the path: the next look-up waits longer.
    async fn settle_doubt(&mut self) {
        if !self.is_doubted() || self.next_lookup() > Instant::now() {
            return;
        }
        let Some(login) = self.current.as_ref().map(|alive| Arc::clone(&alive.login)) else { return };
        self.doubts_settled = self.doubt.borrow().times;
        match self.look_up(&login).await {
            Known::No => {
                self.current = None;
                self.token_is_dead(&login);
                return;
            }
            // It may be dead: one new login, and if it is not, what was made with it keeps its grace.
            Known::Unsaid => {
                if let Some(alive) = &mut self.current {
                    alive.due = Due::Replace(Instant::now());
                }
            }
            Known::Yes => {} // It was refused because of the path.
        }
        self.doubt_pause = (self.doubt_pause * 2).min(LONGEST_DOUBT_PAUSE);
    }

    /// Asks Vault whether it knows a token.
    async fn look_up(&mut self, login: &Login) -> Known {
        self.last_lookup = Some(Instant::now());
        let Ok(request) = Request::lookup_self() else { return Known::Yes };
        match self.vault.send_as(&Account::Upkeep, Some(&login.token), &request).await {
            Err(error) if error.says_unknown_token() => Known::No,
            Err(error) if error.class() == Class::Denied => Known::Unsaid,
            _ => Known::Yes,
        }
    }

    fn token_is_dead(&mut self, login: &Login) {
        tracing::warn!(identity = %self.settings.name, "the token was revoked behind our back; logging in again");
        let said = "Vault no longer knows the token";
        let error = Error::new(Class::Denied, format!("using the token of {}", self.settings.name), said);
        self.reporter.report(Act::Renew, Some(error.clone()), None, None);
        // Its children and leases fell with it: whoever holds a value that was made with it learns it here.
        login.ends.send_replace(Some(Instant::now()));
        self.state.send_replace(State::Down(error));
        self.doubt_pause = (self.doubt_pause * 2).min(LONGEST_DOUBT_PAUSE);
    }

    /// A token that reached its end is of no more use to anybody.
    fn drop_ended(&mut self) {
        let now = Instant::now();
        let ended = |alive: &Alive| alive.term.end().is_some_and(|end| end <= now);
        self.retired.retain(|alive| !ended(alive));
        if self.current.as_ref().is_some_and(ended) {
            self.current = None;
            let said = "the token reached its end before Vault gave a new one";
            let doing = format!("keeping the token of {} alive", self.settings.name);
            self.state.send_replace(State::Down(Error::new(Class::Away, doing, said)));
        }
    }

    async fn revoke_released(&mut self) {
        while let Some(at) = self.retired.iter().position(|alive| !alive.login.is_claimed()) {
            let alive = self.retired.swap_remove(at);
            if let Some(revocation) = self.revocation(&alive.login, &Account::Upkeep) {
                self.takes(&alive);
                self.reporter.revoked(revocation.await);
            }
        }
        self.under_way = None;
    }

    /// At exit: all at once, so that one slow answer does not cost another token its revocation.
    async fn revoke_all(&mut self) {
        self.state.send_replace(State::Starting);
        if !self.terms.revokes_on_exit() {
            return;
        }
        let held = self.current.take().into_iter().chain(self.retired.drain(..)).map(|alive| alive.login);
        let logins: Vec<_> = held.chain(self.under_way.take()).collect();
        let mut revocations = tokio::task::JoinSet::new();
        for login in &logins {
            if let Some(revocation) = self.revocation(login, &Account::Exit) {
                revocations.spawn(revocation);
            }
        }
        for result in revocations.join_all().await {
            self.reporter.revoked(result);
        }
    }

    /// The call that ends a token, unless it is not ours to end.
    fn revocation(
        &self,
        login: &Arc<Login>,
        account: &Account,
    ) -> Option<impl Future<Output = Result<(), Error>> + Send + use<>> {
        let mine = login.is_ours();
        let (vault, login, account) = (self.vault.clone(), Arc::clone(login), account.clone());
        mine.then_some(async move {
            vault.send_as(&account, Some(&login.token), &Request::revoke_self()?).await.map(|_| ())
        })
    }
}
