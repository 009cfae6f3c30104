//! The ways to systems outside of Vault, as this process has them: one runner for each program, and the broker's upstreams.
//!
//! Runners are started before the sandbox is entered, and none after.

use super::{Answered, Ask, Order, System, Unknown, exec};
use crate::{
    broker::Broker,
    keeper::Keeper,
    name::RotationName,
    rotation::runner::{Runner, Started},
};
use std::{collections::BTreeMap, io};

/// The runners that were started, by the rotations that they are for.
pub type Programs = BTreeMap<RotationName, Started>;

/// The ways.
pub struct Outside {
    runners: BTreeMap<RotationName, Runner>,
    broker: Broker,
    keeper: Keeper,
}

impl Outside {
    /// Takes over the runners that were started; the keys of upstreams come from `keeper`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(programs: Programs, broker: Broker, keeper: Keeper) -> io::Result<Self> {
        let joined = programs.into_iter().map(|(name, started)| Ok((name, Runner::of(started)?)));
        Ok(Self { runners: joined.collect::<io::Result<_>>()?, broker, keeper })
    }
}

impl Ask for Outside {
    fn ask<'a>(&'a self, system: &'a System, order: Order<'a>) -> Answered<'a> {
        Box::pin(async move {
            match system {
                System::Exec(exec) => match self.runners.get(order.rotation) {
                    Some(runner) => exec::ask(exec, runner, &order).await,
                    None => Err(Unknown::of(
                        &order,
                        "its program came after the start: only a restart can run it",
                    )),
                },
                System::Http(http) => {
                    let left = order.until.saturating_sub(crate::clock::since_boot());
                    let asked =
                        tokio::time::timeout(left, http.ask(&self.broker, &self.keeper, &order)).await;
                    asked.unwrap_or_else(|_| Err(Unknown::of(&order, "no answer in time")))
                }
                System::Vault(_) => Err(Unknown::of(&order, "Vault is asked by the rotation itself")),
            }
        })
    }
}
