//! What sinks have not delivered when the agent ends: counted, and handed over in Vault if the config asks for it.
//!
//! Does not read the journal or call Vault itself: `audit::handoff` does.

use crate::audit::sink::{Lags, Settings, counted};
use std::time::Duration;
use tokio::time::{interval, timeout};

/// How long sinks may take to deliver what was just recorded before it counts as undelivered.
const SETTLE: Duration = Duration::from_millis(200);
/// How often their lag is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// How many events the slowest of the `sinks` that count has not delivered; waits a moment for none.
pub(super) async fn undelivered(lags: &Lags, sinks: &[Settings]) -> u64 {
    let count = || {
        let lags = lags.read();
        let counted = counted(sinks);
        lags.iter().filter(|(name, _)| counted.contains(name)).map(|(_, lag)| *lag).max().unwrap_or(0)
    };
    let all = async {
        let mut looks = interval(LOOK);
        while count() > 0 {
            looks.tick().await;
        }
    };
    if timeout(SETTLE, all).await.is_ok() { 0 } else { count() }
}
