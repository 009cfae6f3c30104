//! What a peer must prove beyond its process, before its first byte is read and again before each act.
//!
//! Does not read from the connection. The level that is required is proved whole or not at all.

use super::{
    Cause, Peer, Settings,
    container::{Container, Containers, Facts, Pinned},
    level::Level,
};

/// What proves the levels above `process` on one workload's socket.
#[derive(Debug, Default)]
pub struct Provers {
    /// Whose the socket is.
    pub containers: Containers,
}

/// A socket went over to another container, since every process of the one before has ended: write `peer.repinned`.
#[derive(Debug, PartialEq, Eq)]
pub struct Repinned {
    /// Whose it was.
    pub before: Container,
}

impl Peer {
    /// Proves what `settings` require beyond its process.
    ///
    /// # Errors
    /// The first [`Cause`] against it.
    pub async fn admit(&mut self, settings: &Settings, provers: &Provers) -> Result<Option<Repinned>, Cause> {
        if settings.level < Level::Container {
            return Ok(None);
        }
        // Last, since a peer that is refused for something else must keep nobody out.
        let repinned = self.take_in(&provers.containers)?;
        self.level = settings.level;
        self.check(settings)?;
        self.watch.check_now()?;
        Ok(repinned)
    }

    fn take_in(&mut self, containers: &Containers) -> Result<Option<Repinned>, Cause> {
        let process = self.process().ok_or(Cause::Hidden)?;
        let (container, pinned) = containers.attest(process, Facts::default())?;
        self.container = Some(container);
        Ok(match pinned {
            Pinned::First | Pinned::Same => None,
            Pinned::Anew { before, .. } => Some(Repinned { before }),
        })
    }

    /// Asks everything that can have changed since it connected: whether it still may use the socket under these settings, and
    /// whether what was proved of it still holds. Asked for each request before anything is given, and again after each wait.
    ///
    /// # Errors
    /// The first [`Cause`] against it.
    pub async fn attest(&self, settings: &Settings) -> Result<(), Cause> {
        self.check(settings)?;
        if settings.level >= Level::Program {
            self.challenge.check()?;
        }
        if let (Some(container), Some(process)) = (&self.container, self.process()) {
            container.check_holds(process)?;
        }
        self.watch.check_now()
    }
}
