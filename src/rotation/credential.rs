//! Kinds `two-slot` and `single`: the credential of users of another system, whose consumers read user and value in KV 2.
//!
//! Of two users the one that consumers do not read is changed, so that there is no moment without a login; of one there is
//! such a moment, and it is kept short. Does not decide what comes next: `phase` does.

use super::{
    document::Document,
    driver::Former,
    generate::Generate,
    object::{self, Field},
    store::{Place, Store, Written},
    system::System,
};
use crate::{secret::SecretValue, vault::error::Error};
use std::time::Duration;

/// Whose credential is rotated, where, and where consumers read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Where consumers read the value, and how values are made.
    pub consumer: Generate,
    /// The field of the secret that has the user.
    pub user_field: String,
    /// One, or two that take turns.
    pub users: Users,
    /// What has the users.
    pub system: System,
    /// How long the system may take until it lets in who has the new value.
    pub propagation: Duration,
    /// As many values are tried, and as often is a value that was taken and then refused given again.
    pub cycles: usize,
    /// How long after its grace the user before can be had back; zero: not.
    pub quarantine: Duration,
    /// How often the system is asked, between runs, whether it accepts what consumers read; zero: never.
    pub probe: Duration,
    /// As long does a read wait while the old value of a single user is dead and the new one not yet promoted.
    pub hold: Duration,
}

/// Whose credential is rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// There is a gap.
    One(String),
    /// There is none.
    Two([String; 2]),
}

impl Credential {
    /// Whose credential the next run changes, by what consumers read now: never that of the user whom they read of two.
    pub(super) fn next_user(&self, fields: &[Field]) -> String {
        match &self.users {
            Users::One(user) => user.clone(),
            Users::Two([first, second]) => {
                let reads_first = self.user_of(fields).is_some_and(|user| user == *first);
                if reads_first { second.clone() } else { first.clone() }
            }
        }
    }

    fn user_of(&self, fields: &[Field]) -> Option<String> {
        object::field(fields, &self.user_field).map(|text| text.as_str().to_owned())
    }

    /// Whose credential consumers read, if it is one of ours.
    pub(super) fn current_user(&self, fields: &[Field]) -> Option<String> {
        let read = self.user_of(fields);
        match &self.users {
            Users::One(user) => read.or_else(|| Some(user.clone())).filter(|read| read == user),
            Users::Two(users) => read.filter(|read| users.contains(read)),
        }
    }

    /// The user and the value that consumers read before the run of `document`, if the user is another one than the run's.
    pub(super) async fn former(
        &self,
        store: &Store,
        place: &Place,
        document: &Document,
    ) -> Result<Option<Former>, Error> {
        let Users::Two([first, second]) = &self.users else { return Ok(None) };
        let changed = document.aim.user.as_ref();
        let other = if changed == Some(first) { second } else { first };
        if document.state.before == 0 {
            return Ok(Some(Former { user: other.clone(), value: None }));
        }
        let fields = store.version(place, document.state.before).await?.unwrap_or_default();
        let value = fields.iter().find(|(name, _)| *name == self.consumer.field);
        let value = value
            .and_then(|(_, text)| object::text(text))
            .map(|mut text| SecretValue::new(std::mem::take(&mut *text)));
        // What a person wrote there may name somebody who is not ours to touch.
        let is_other = self.user_of(&fields).is_none_or(|user| user == *other);
        Ok(is_other.then(|| Former { user: other.clone(), value }))
    }

    /// Lets consumers read `value` and whose it is, if nobody wrote since the run began.
    pub(super) async fn promote(
        &self,
        store: &Store,
        place: &Place,
        document: &Document,
        (value, before): (&SecretValue, Option<&[Field]>),
    ) -> Result<Written, Error> {
        let user = SecretValue::new(document.aim.user.clone().unwrap_or_default());
        let others = [(self.user_field.as_str(), &user)];
        self.consumer.promote_with(store, place, document, (value, &others), before).await
    }
}
