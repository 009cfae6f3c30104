//! Glasses that were broken: until when each counts, for whom, and what was taken by it.
//!
//! Kept in memory: whoever starts anew finds every glass whole. Puts nothing on record, and asks nobody.

use super::{Approvals, Approved, Grant, Id, review::Opened};
use crate::{
    clock::Timestamp,
    name::{RuleName, SecretName, WorkloadName},
    policy::Permit,
};
use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The longest that a glass may be broken.
pub const LONGEST: Duration = Duration::from_secs(30 * 60);
/// How many of one workload may be broken at once.
const MOST: usize = 8;

/// One that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its id, by which the record finds together what belongs to it.
    pub id: Id,
    /// Which rule holds by it.
    pub rule: RuleName,
    /// Whose.
    pub workload: WorkloadName,
    /// The user who broke it: it is broken for no other.
    pub uid: u32,
    /// Why.
    pub reason: String,
    /// Where that is written down.
    pub ticket: String,
    /// Until when.
    pub until: Timestamp,
    /// What persons are asked about it, where the rule wants a review.
    pub review: Option<Opened>,
}

/// One thing that was taken by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taken {
    /// The key in `secrets`.
    Secret(SecretName),
    /// Where Vault's own API was asked for it.
    Path(String),
}

/// One whose time is over.
#[derive(Debug)]
pub struct Mended {
    /// Which.
    pub broken: Arc<Broken>,
    /// What was taken by it.
    pub touched: BTreeSet<Taken>,
}

struct Window {
    broken: Arc<Broken>,
    end: Instant,
    touched: BTreeSet<Taken>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Glasses(Mutex<Vec<Window>>);

impl Glasses {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Window>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Approvals {
    /// An id for one that is to be broken.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn glass_id(&self, now: Timestamp) -> io::Result<Id> {
        Id::new(now).map_err(|error| io::Error::other(error.to_string()))
    }

    /// Whether as many of the workload are broken as may be.
    #[must_use]
    pub fn are_glasses_many(&self, workload: &WorkloadName) -> bool {
        self.inner().glasses.lock().iter().filter(|one| one.broken.workload == *workload).count() >= MOST
    }

    /// From now on it is broken, for `window`. Whoever calls has put that on record.
    pub fn break_glass(&self, broken: Broken, window: Duration) {
        let end = Instant::now() + window.min(LONGEST);
        let (broken, touched) = (Arc::new(broken), BTreeSet::new());
        self.inner().glasses.lock().push(Window { broken, end, touched });
    }

    /// The rules whose glass is broken for a user of the workload.
    #[must_use]
    pub fn broken(&self, workload: &WorkloadName, uid: u32) -> Vec<RuleName> {
        let (glasses, now) = (self.inner().glasses.lock(), Instant::now());
        let is_its =
            |one: &&Window| one.broken.workload == *workload && one.broken.uid == uid && now < one.end;
        glasses.iter().filter(is_its).map(|one| one.broken.rule.clone()).collect()
    }

    /// A grant of a permit by a rule whose glass is broken; what is `taken` is known from now on as that.
    ///
    /// # Errors
    /// The permit: the glass is whole.
    pub fn by_glass<T>(
        &self,
        permit: Permit<T>,
        uid: u32,
        taken: Option<Taken>,
    ) -> Result<Grant<T>, Permit<T>> {
        let now = Instant::now();
        let mut glasses = self.inner().glasses.lock();
        let is_its = |one: &&mut Window| {
            let Broken { rule, workload, uid: by, .. } = &*one.broken;
            rule == permit.rule() && workload == permit.workload() && *by == uid && now < one.end
        };
        // The newest says why.
        let Some(window) = glasses.iter_mut().rev().find(is_its) else { return Err(permit) };
        window.touched.extend(taken);
        let approved = Approved::Broken(Arc::clone(&window.broken));
        Ok(Grant { permit, approved })
    }

    /// Whether a glass of the rule is broken for somebody.
    #[must_use]
    pub fn is_broken(&self, workload: &WorkloadName, rule: &RuleName) -> bool {
        let is_of = |one: &Window| one.broken.workload == *workload && one.broken.rule == *rule;
        self.inner().glasses.lock().iter().any(is_of)
    }

    /// From now on no glass of the rule is broken for anybody.
    pub fn mend(&self, workload: &WorkloadName, rule: &RuleName) {
        let now = Instant::now();
        for one in self.inner().glasses.lock().iter_mut() {
            if one.broken.workload == *workload && one.broken.rule == *rule {
                one.end = one.end.min(now);
            }
        }
    }

    /// Those whose time is over; each is told once.
    #[must_use]
    pub fn mended(&self) -> Vec<Mended> {
        let (mut glasses, now) = (self.inner().glasses.lock(), Instant::now());
        let over = glasses.extract_if(.., |one| one.end <= now);
        over.map(|Window { broken, touched, .. }| Mended { broken, touched }).collect()
    }

    /// How many are broken.
    #[must_use]
    pub fn glasses(&self) -> u64 {
        self.inner().glasses.lock().len() as u64
    }
}
