//! The ways to systems outside of Vault, as this process has them: one runner for each program, and the broker's upstreams.
//!
//! Runners are started before the sandbox is entered, and none after.

use super::{
    Answered, Ask, Order, Provided, System, Unknown, exec,
    provider::{Call, Provider},
};
use crate::{
    broker::Broker,
    clock,
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
                System::Http(http) => in_time(&order, http.ask((&self.broker, &self.keeper), &order)).await,
                System::Provider(provider) => {
                    let ways = (&self.broker, &self.keeper);
                    in_time(&order, provider.test.ask(ways, &provider.upstream, &order)).await
                }
                System::Vault(_) => Err(Unknown::of(&order, "Vault is asked by the rotation itself")),
            }
        })
    }

    fn provide<'a>(&'a self, provider: &'a Provider, run: Order<'a>, call: Call<'a>) -> Provided<'a> {
        Box::pin(async move {
            let ways = (&self.broker, &self.keeper);
            in_time(&run, provider.call(ways, run.rotation, run.id, call)).await
        })
    }
}

async fn in_time<T>(
    order: &Order<'_>,
    asked: impl Future<Output = Result<T, Unknown>>,
) -> Result<T, Unknown> {
    let left = order.until.saturating_sub(clock::since_boot());
    let asked = tokio::time::timeout(left, asked).await;
    asked.unwrap_or_else(|_| Err(Unknown::of(order, "no answer in time")))
}
