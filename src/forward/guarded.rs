//! A request behind a control group of Vault's policy: sent, and answered with a token behind which it waits; unwrapped, and then done.
//!
//! Decides nothing: `approval` says when it may be unwrapped. The token is in no answer.

use super::{Answer, Error, Forward, Sending, passage, says_unknown_token};
use crate::{
    approval::group::{self, Wrapped},
    policy::{Permit, forward::Forwarding, wish::Call},
    vault::{
        group::Wrapping,
        passage::{Passed, Repeats},
        rest::Size,
        session::Session,
    },
};
use http::Method;
use tokio::time::Instant;

/// What Vault said to a request that persons should be asked about.
pub enum Asked {
    /// It asks them.
    Waits(Wrapped),
    /// It asked nobody.
    Answered(Answer),
}

/// One request that may be sent to have persons asked about it: what comes of it may not be given to anybody before they were.
pub struct Asking(Sending);

impl Forward {
    /// What of `call` the permit lets be asked for.
    #[must_use]
    pub fn asking(&self, permit: &Permit<Forwarding>, call: &Call) -> Asking {
        let forwarding = permit.subject().clone();
        let mut passage = passage(&forwarding, call);
        passage.size = Size::Whole;
        if passage.method == Method::HEAD {
            // What waits is in the body.
            passage.method = Method::GET;
        }
        Asking(Sending { forward: self.clone(), forwarding, passage, key: None, unwraps: None })
    }
}

impl Asking {
    /// What it is for.
    #[must_use]
    pub fn forwarding(&self) -> &Forwarding {
        &self.0.forwarding
    }

    /// Sends it. What changes nothing is sent once more after a new login if Vault no longer knew the token.
    ///
    /// # Errors
    /// As for [`Sending::send`].
    pub async fn ask(&self) -> Result<Asked, Error> {
        let Sending { forward, forwarding, passage, .. } = &self.0;
        let session = forward.session(&forwarding.identity, None).await?;
        match self.ask_by(&session).await? {
            Asked::Answered(answer) if says_unknown_token(&answer) => {
                forward.doubt(&forwarding.identity, &session);
                if passage.repeats == Repeats::Never {
                    return Ok(Asked::Answered(answer));
                }
                let before = session.number();
                drop(session);
                match forward.session(&forwarding.identity, Some(before)).await {
                    Ok(session) => self.ask_by(&session).await,
                    Err(_) => Ok(Asked::Answered(answer)),
                }
            }
            asked => Ok(asked),
        }
    }

    async fn ask_by(&self, session: &Session) -> Result<Asked, Error> {
        let Sending { forward, forwarding, passage, .. } = &self.0;
        // Vault's own time begins later.
        let begun = Instant::now();
        let passed = forward.vault.pass(session, passage).await.map_err(Error::Vault)?;
        let reply = match passed {
            Passed::Answer(reply) => reply,
            Passed::Tainted => return Err(Error::Tainted),
            Passed::Cut(cut) => return Err(Error::Upload(cut)),
        };
        match Wrapping::of(&reply) {
            Some(wrapping) => {
                let (until, namespace) = (begun + wrapping.ttl, forwarding.namespace.clone());
                Ok(Asked::Waits(Wrapped { wrapping, session: session.clone(), namespace, until }))
            }
            None => self.0.answered(session, reply).await.map(Asked::Answered),
        }
    }
}

impl Sending {
    /// Has Vault do what waits behind a token, once, and ends the token: some servers would do it again.
    pub(super) async fn unwrap(&self, wrapped: &Wrapped) -> Result<Answer, Error> {
        let (vault, session) = (&self.forward.vault, &wrapped.session);
        let namespace = wrapped.namespace.clone();
        let passed = vault.unwrap((session, &wrapped.wrapping.token), namespace).await;
        group::revoke(vault, wrapped).await;
        match passed.map_err(Error::Vault)? {
            Passed::Tainted => Err(Error::Tainted),
            Passed::Cut(cut) => Err(Error::Upload(cut)),
            Passed::Answer(reply) => self.answered(session, reply).await,
        }
    }
}
