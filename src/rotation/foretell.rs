//! Whoever keeps here what a run will change is told a while before, so that its watchers are.
//!
//! Each replica tells its own. Where persons must say yes first, nothing is told before they have. Does not begin the run.

use super::{
    asked::Stand,
    document::Document,
    schedule::minus,
    task::{Task, until_then},
};
use crate::clock::Timestamp;
use std::time::Duration;

impl Task {
    /// The next run begins at `until`, as far as `document` says: tells of it if it is near enough.
    pub(super) fn foretell(&self, document: &Document, until: Timestamp, now: Timestamp) {
        let is_near = minus(until, self.settings.notice) <= now;
        let at = Some(until).filter(|_| is_near && until < Timestamp::MAX && self.is_certain(document));
        self.say_soon(at);
    }

    /// Nothing is known of a next run.
    pub(super) fn say_soon(&self, at: Option<Timestamp>) {
        let at = at.filter(|_| !self.settings.notice.is_zero());
        self.settings.serves.iter().for_each(|name| self.keeper.foretell(name, at));
    }

    /// How long until the run at `until` is to be told of, if that is still to come.
    pub(super) fn until_notice(&self, until: Timestamp, now: Timestamp) -> Duration {
        let notice = minus(until, self.settings.notice);
        if notice > now { until_then(notice, now) } else { Duration::MAX }
    }

    fn is_certain(&self, document: &Document) -> bool {
        let granted = || document.approval.as_ref().is_some_and(|asked| asked.state == Stand::Granted);
        document.suspended.is_none() && (self.consent().is_none() || granted())
    }
}
