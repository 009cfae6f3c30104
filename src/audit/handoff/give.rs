//! At exit: what the sinks do not have is written to Vault, part by part, in order.

use super::{Error, Handoff, part};
use crate::{
    audit::{
        chain::Position,
        journal::{
            Name,
            walk::{Walk, list},
        },
        queue::lock,
        sink,
    },
    vault::{
        error::{Class, Error as VaultError},
        kv2::{Place, Written},
    },
};
use std::{io, time::Duration};
use tokio::{task::spawn_blocking, time::sleep};

/// Before a part that was not taken is written again.
const REST: Duration = Duration::from_millis(250);

/// What was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Given {
    /// Events.
    pub events: u64,
    /// Parts that they make.
    pub parts: u64,
}

/// The journal behind the slowest sink.
struct Source {
    walk: Walk,
    names: Vec<Name>,
    end: Position,
    /// What Vault has already, from an earlier handoff: behind the first place, up to the second.
    known: Vec<(Position, Position)>,
}

impl Handoff {
    /// Hands over what the ones of `sinks` that count are not known to have. `given` grows as parts are taken, so that it
    /// is right even if this is cut off.
    ///
    /// # Errors
    /// Vault refuses a part, or the journal cannot be read: what was given before it stays.
    pub async fn give(&self, sinks: &[sink::Settings], given: &mut Given) -> Result<(), Error> {
        if let Err(error) = self.audit.flush().await {
            tracing::warn!(%error, "what is not on disk cannot be handed over");
        }
        let end = self.audit.0.tail.end().position;
        let (dir, delivered) = (self.audit.0.dir.clone(), self.delivered(sinks)?);
        let known = lock(&self.held.0).iter().flat_map(|part| part.runs.clone()).collect();
        let mut source = Source { walk: Walk::new(&dir, delivered), names: list(&dir)?, end, known };
        loop {
            let read = spawn_blocking(move || source.next().map(|part| (source, part))).await;
            let (rest, (lines, events)) = read.map_err(io::Error::other)??;
            source = rest;
            if events == 0 {
                return Ok(());
            }
            let number = given.parts.saturating_add(1);
            let place = self.own.below(&format!("{}/{number:05}", self.audit.chain()));
            self.write(&place, &lines).await?;
            given.parts = given.parts.saturating_add(1);
            given.events = given.events.saturating_add(events);
        }
    }

    async fn write(&self, place: &Place, lines: &[u8]) -> Result<(), VaultError> {
        let document = part::document(lines);
        let mut tries = 0_u32;
        loop {
            match self.remote.kv2().write(place, &document, 0).await {
                Ok(Written::As(_)) => return Ok(()),
                // The answer to our own write was lost: nobody else writes under our chain.
                Ok(Written::Overtaken) if tries > 0 => return Ok(()),
                Ok(Written::Overtaken) => {
                    let doing = format!("writing a part of the handoff to {place}");
                    return Err(VaultError::new(Class::Invalid, doing, "there is one already"));
                }
                Err(error) if matches!(error.class(), Class::Invalid | Class::Denied | Class::Missing) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(%error, %place, "a part of the handoff is tried again");
                    tries = tries.saturating_add(1);
                    sleep(error.retry_after().unwrap_or(REST).max(REST)).await;
                }
            }
        }
    }
}

impl Source {
    /// The lines of the next part, and how many; none at the end.
    fn next(&mut self) -> io::Result<(Vec<u8>, u64)> {
        let (mut lines, mut events) = (Vec::new(), 0_u64);
        while lines.len() < part::FULL {
            let before = self.walk.last();
            let Some(event) = self.walk.next(&self.names, Some(self.end))? else { break };
            let event = event.to_vec();
            let Some(place) = self.walk.last() else { break };
            if self.known.iter().any(|(from, to)| place > *from && place <= *to) {
                continue;
            }
            if events > 0 && lines.len().saturating_add(event.len()) >= part::FULL {
                // It begins the next part.
                self.walk = Walk::new(self.walk.dir(), before);
                break;
            }
            lines.extend_from_slice(&event);
            lines.push(b'\n');
            events = events.saturating_add(1);
        }
        Ok((lines, events))
    }
}
