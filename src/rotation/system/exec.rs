//! Driver `exec`: a program with fixed arguments, which reads on its standard input what is to be done.
//!
//! ```json
//! {"act":"set","id":"0123456789abcdef","rotation":"orders-db","user":"orders_b","value":"…"}
//! ```
//!
//! It ends with 0: done, or yes; with 10: refused; with any other code, by a signal or not in time: nobody knows. What it says on
//! its standard error is a line of our log, without the value; its standard output is not read.

use super::{Order, Said, Unknown, template::masked};
use crate::{
    clock,
    rotation::runner::{Ran, Runner},
};
use std::time::Duration;
use zeroize::Zeroizing;

/// Its code for: the value, or the login, is refused.
const REFUSED: i32 = 10;

/// The program with its arguments; the first is an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// At least one.
    pub command: Vec<String>,
    /// How long it may run, if less than any call of the rotation.
    pub timeout: Option<Duration>,
}

/// Has `runner` run it for `order`.
pub(super) async fn ask(exec: &Exec, runner: &Runner, order: &Order<'_>) -> Result<Said, Unknown> {
    let unknown = |said: String| Unknown::of(order, said);
    let own = exec.timeout.map(|timeout| clock::since_boot().saturating_add(timeout));
    let until = own.map_or(order.until, |own| own.min(order.until));
    let ran = runner.run(&input(order), until).await;
    let ran = ran.map_err(|error| unknown(format!("no answer of the runner: {error}")))?;
    if let Ran::Ended(code, said) = &ran
        && !said.is_empty()
    {
        let said = masked(said, order.value);
        tracing::warn!(rotation = %order.rotation, act = order.act.word(), code, said, "a program said");
    }
    match ran {
        Ran::Ended(0, _) => Ok(Said::Done),
        Ran::Ended(REFUSED, _) => Ok(Said::Refused),
        Ran::Ended(code, said) => {
            Err(unknown(format!("the program ended with {code}: {}", masked(&said, order.value))))
        }
        Ran::Killed => {
            Err(unknown("the program was ended by a signal, or by the end of its time".to_owned()))
        }
        Ran::NotStarted(why) => Err(unknown(format!("the program could not be started: {why}"))),
        Ran::Late => Err(unknown("its time was over before it began".to_owned())),
    }
}

/// One line of JSON.
fn input(order: &Order<'_>) -> Zeroizing<Vec<u8>> {
    let Order { act, rotation, id, user, value, .. } = order;
    let plain = serde_json::json!({
        "act": act.word(), "id": id, "rotation": rotation.as_str(), "user": user,
    });
    let mut line = super::template::with_value(&plain, value);
    line.push(b'\n');
    line
}
