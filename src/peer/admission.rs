//! What a peer must prove beyond its process, before its first byte is read and again before each act.
//!
//! Does not read from the connection. The level that is required is proved whole or not at all.

use super::{
    Cause, Peer, Settings,
    attestor::{Attestor, Depth, Image},
    challenge::Met,
    container::{Container, ContainerId, Containers, Facts, Pinned},
    level::Level,
    process::Process,
    program::{self, Refusal},
    roster::Roster,
};
use std::sync::Arc;

/// What proves the levels above `process` on one workload's socket.
#[derive(Debug, Default)]
pub struct Provers {
    /// Whose the socket is.
    pub containers: Containers,
    /// Looks at what other processes execute; `None` where no workload needed that at the start.
    pub attestor: Option<Attestor>,
    /// Who was admitted, where somebody wants to know.
    pub roster: Roster,
}

/// A socket went over to another container, since every process of the one before has ended: write `peer.repinned`.
#[derive(Debug, PartialEq, Eq)]
pub struct Repinned {
    /// Whose it was.
    pub before: Container,
}

/// What has happened since a peer was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// It has just sent a request.
    Asked,
    /// It has waited, for minutes perhaps: everything is looked at again.
    Waited,
}

/// The program that was proved.
#[derive(Debug)]
pub(super) struct Program {
    image: Image,
    required: Arc<program::Settings>,
}

impl Program {
    /// SHA-256 of its executable.
    pub(super) fn digest(&self) -> &crate::crypto::Hash {
        self.image.digest()
    }
}

impl Provers {
    fn attestor(&self) -> Result<&Attestor, Cause> {
        self.attestor.as_ref().ok_or(Cause::Program(Refusal::AttestorFailed))
    }

    /// The container that a process is in. One that has connected before is asked less.
    async fn container_of(&self, process: &Process) -> Result<Container, Cause> {
        match self.containers.known(process) {
            Some(known) if matches!(known.id(), ContainerId::Cgroup(_)) => {
                known.check_holds(process).map(|()| known)
            }
            _ => self.find_container_of(process).await,
        }
    }

    async fn find_container_of(&self, process: &Process) -> Result<Container, Cause> {
        match (Container::of(process, Facts::default()), &self.attestor) {
            (Err(Cause::Hidden), Some(attestor)) => {
                let mount_namespace = Some(attestor.mount_namespace(process.as_fd()).await?);
                Container::of(process, Facts { mount_namespace })
            }
            (found, _) => found,
        }
    }
}

impl Peer {
    /// Proves what `settings` require beyond its process; takes as long as the attestor may take.
    ///
    /// # Errors
    /// The first [`Cause`] against it.
    pub async fn admit(&mut self, settings: &Settings, provers: &Provers) -> Result<Option<Repinned>, Cause> {
        if settings.level < Level::Container {
            provers.roster.note(self);
            return Ok(None);
        }
        let process = self.process().ok_or(Cause::Hidden)?.clone();
        if let Some(required) = &settings.program {
            let image = provers.attestor()?.pin_process(&process, required).await?;
            self.program = Some(Program { image, required: Arc::clone(required) });
        }
        let container = provers.container_of(&process).await?;
        let pinned = self.pin(provers, &container, &process).await?;
        self.container = Some(container);
        self.level = if self.program.is_some() { Level::Program } else { Level::Container };
        self.check(settings)?;
        self.watch.check_now()?;
        provers.roster.note(self);
        Ok(match pinned {
            Pinned::First | Pinned::Same => None,
            Pinned::Anew { before, .. } => Some(Repinned { before }),
        })
    }

    /// Last, since a peer that is refused for something else must keep nobody out: before a program takes the socket for its
    /// container, all of it is looked at, and not only after its nonce has come back.
    async fn pin(
        &self,
        provers: &Provers,
        container: &Container,
        process: &Process,
    ) -> Result<Pinned, Cause> {
        if provers.containers.join(container, process)? {
            return Ok(Pinned::Same);
        }
        if let Some(program) = &self.program {
            program.image.check(Depth::Full).await?;
        }
        provers.containers.admit(container, process)
    }

    /// Asks everything that can have changed since it connected: whether it still may use the socket under these settings, and
    /// whether what was proved of it still holds. Asked for each request before anything is given, and again after each wait.
    ///
    /// # Errors
    /// The first [`Cause`] against it.
    pub async fn attest(&self, settings: &Settings, provers: &Provers, since: Since) -> Result<(), Cause> {
        self.check(settings)?;
        if let Some(required) = &settings.program {
            self.attest_program(required, since).await?;
        }
        if let (Some(container), Some(process)) = (&self.container, self.process()) {
            match container.id() {
                ContainerId::Cgroup(_) => container.check_holds(process)?,
                ContainerId::MountNamespace(_) if provers.find_container_of(process).await? == *container => {
                }
                ContainerId::MountNamespace(_) => return Err(Cause::Container),
            }
        }
        match since {
            Since::Asked => self.watch.check_of_late(),
            Since::Waited => self.watch.check_now(),
        }
    }

    async fn attest_program(&self, required: &program::Settings, since: Since) -> Result<(), Cause> {
        let Some(program) = &self.program else { return Err(Cause::Reloaded) };
        if *program.required != *required {
            return Err(Cause::Reloaded);
        }
        // The echo was written after the image was pinned: if it is the same image still, it is the one that wrote it.
        let depth = match (self.challenge.check()?, since) {
            (Met::Before, Since::Asked) => Depth::Light,
            (Met::JustNow, _) | (_, Since::Waited) => Depth::Full,
        };
        Ok(program.image.check(depth).await?)
    }
}
