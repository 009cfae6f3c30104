//! A request on its way to Vault, which goes on when its client hangs up: what Vault makes by it is not lost.
//!
//! Does not decide, and puts nothing on record but by the leases that it binds.

use super::{Access, Answer, NotForwarded, Peer};
use crate::{
    forward::{Sending, cache::Flight, lease},
    policy::forward::Own,
};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::runtime::Handle;

type Answered = Result<Answer, NotForwarded>;

/// Ends with the answer, and the hash of the lease that came back in it, if it is a new one.
type Sent = Pin<Box<dyn Future<Output = (Answered, Option<String>)> + Send>>;

/// Ends with the answer. Dropped before that, it runs to its end all the same, and what comes back to nobody is ended in Vault.
pub(super) struct Passing {
    access: Arc<Access>,
    sent: Option<Sent>,
}

impl Access {
    /// Sends a request, and binds the lease or the token that comes back to the peer's process; tells those who wait for the same.
    pub(super) fn pass(self: &Arc<Self>, peer: &Peer, sending: Sending, flight: Option<Flight>) -> Passing {
        let (access, process) = (Arc::clone(self), peer.process().cloned());
        let sent = async move {
            let answered = sending.send().await;
            if let Some(upload) = sending.upload() {
                // An answer may come before its end.
                upload.close();
            }
            let mut made = None;
            if let Ok(Answer { status: 0..300, lease, .. }) = &answered {
                if let Some(lease) = lease {
                    let path = sending.forwarding().path.as_str();
                    let is_new = access.bind(process.as_ref(), path, Arc::clone(lease));
                    made = is_new.then(|| lease.id_hash.clone());
                }
                access.ended_by(&sending);
            }
            let forwarding = sending.forwarding();
            if forwarding.operation.changes() {
                access.cache.written(forwarding.namespace.as_deref(), forwarding.path.as_str());
            }
            // What is held is for the next one who asks.
            let is_held = flight.is_some_and(|flight| flight.land(&sending, &answered));
            (answered, made.filter(|_| !is_held))
        };
        Passing { access: Arc::clone(self), sent: Some(Box::pin(sent)) }
    }

    /// Forgets what a successful request has ended in Vault.
    fn ended_by(&self, sending: &Sending) {
        let path = sending.forwarding().path.as_str();
        let ended = match sending.forwarding().own {
            Some(Own::Lease) if path.ends_with("/revoke") => lease::named(sending.body()),
            Some(Own::Child) if path.starts_with("auth/token/revoke") => {
                lease::named_child(sending.body()).and_then(|hash| self.leases.child(&hash))
            }
            _ => None,
        };
        if let Some(ended) = ended {
            self.released(&ended);
        }
    }
}

impl Future for Passing {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        let Some(sent) = &mut self.sent else { return Poll::Pending };
        let Poll::Ready((answered, _)) = sent.as_mut().poll(context) else { return Poll::Pending };
        self.sent = None;
        Poll::Ready(answered)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let (Some(sent), Ok(runtime)) = (self.sent.take(), Handle::try_current()) {
            let access = Arc::clone(&self.access);
            let stopping = self.access.parts.stopping.clone();
            let finishing = async move {
                tokio::select! {
                    biased;
                    // Then nothing waits for Vault, and what it makes falls with the token.
                    () = stopping.cancelled() => {}
                    (_, made) = sent => if let Some(made) = made { access.abandon(&made) },
                }
            };
            self.access.parts.unfinished.spawn_on(finishing, &runtime);
        }
    }
}
