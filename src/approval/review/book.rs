//! What stands in the store of one rule for emergencies: which of them wait for their review, and whether the rule holds at all.
//!
//! Pure. Whoever can write there can have a rule again: nobody but the agents should.

use super::super::{Id, want::Ended};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// All of it. What another version of claviger wrote beside that is lost with the next write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Book {
    /// For people.
    pub(super) workload: String,
    /// For people.
    pub(super) rule: String,
    /// Requests that wait for persons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) waiting: Vec<Waiting>,
    /// The rule does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disabled: Option<Disabled>,
    /// When somebody last tried, by a drill, whether this can be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drilled: Option<Timestamp>,
}

/// What persons are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum About {
    /// An emergency.
    Review,
    /// To have a rule again that is disabled.
    Enable,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// Its id.
    pub(super) id: String,
    /// What it asks.
    pub(super) about: About,
    /// Until when persons may answer.
    pub(super) until: Timestamp,
    /// The reason and the ticket that were given, as the request says them.
    pub(super) said: String,
    /// The user.
    pub(super) uid: u32,
    /// The pod.
    pub(super) place: String,
}

/// Why a rule does not hold any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Disabled {
    /// Since when.
    pub(super) since: Timestamp,
    /// The review that it lacks.
    pub(super) request: String,
    /// What became of that: a word of [`Ended`].
    pub(super) why: String,
}

impl About {
    /// What a ticket calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Enable => "enable",
        }
    }
}

impl Waiting {
    /// Its id, if it is one.
    pub(super) fn id(&self) -> Option<Id> {
        Id::parse(&self.id)
    }

    fn is_late(&self, now: Timestamp) -> bool {
        self.about == About::Review && now > self.until
    }
}

impl Book {
    /// Whether the rule holds: it is not disabled, and no review is late, which comes to the same as soon as somebody looks.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        self.disabled.is_none() && !self.waiting.iter().any(|waiting| waiting.is_late(now))
    }

    /// One request is granted.
    pub(super) fn grant(&mut self, id: &str) {
        if self.take(id) == Some(About::Enable) {
            self.disabled = None;
            // What nobody looked at in time was looked at now.
            self.waiting.retain(|waiting| waiting.about != About::Enable);
        }
    }

    /// One request will not be granted; whether that disabled the rule.
    pub(super) fn refuse(&mut self, id: &str, why: Ended, now: Timestamp) -> bool {
        let is_review = self.take(id) == Some(About::Review);
        let disables = is_review && self.disabled.is_none();
        if disables {
            let (request, why) = (id.to_owned(), why.word().to_owned());
            self.disabled = Some(Disabled { since: now, request, why });
        }
        disables
    }

    /// How many emergencies wait for their review.
    pub(super) fn unreviewed(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.about == About::Review).count()
    }

    fn take(&mut self, id: &str) -> Option<About> {
        let place = self.waiting.iter().position(|waiting| waiting.id == id)?;
        Some(self.waiting.remove(place).about)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn book(waiting: &[(&str, About, i64)]) -> Book {
        let waiting = waiting.iter().map(|(id, about, until)| Waiting {
            id: (*id).into(),
            about: *about,
            until: at(*until),
            said: "both are away (INC-7)".into(),
            uid: 1,
            place: "pod-1".into(),
        });
        Book { waiting: waiting.collect(), ..Book::default() }
    }

    #[test]
    fn a_rule_holds_until_a_review_is_late_or_refused_and_again_once_persons_say_so() {
        let mut book = book(&[("a", About::Review, 100), ("b", About::Review, 200)]);
        assert!(book.holds(at(100)) && !book.holds(at(101)));
        book.grant("a");
        assert!(book.holds(at(101)) && book.unreviewed() == 1);
        assert!(book.refuse("b", Ended::Refused, at(150)));
        assert!(!book.holds(at(150)));
        let disabled = book.disabled.clone().unwrap();
        assert_eq!((disabled.request.as_str(), disabled.why.as_str()), ("b", "approval_refused"));
        // A no to having it again changes nothing; a yes does.
        book.waiting = self::book(&[("c", About::Enable, 300), ("d", About::Enable, 300)]).waiting;
        assert!(!book.refuse("c", Ended::Refused, at(160)) && !book.holds(at(160)));
        book.grant("d");
        assert!(book.holds(at(160)) && book.waiting.is_empty());
    }

    #[test]
    fn only_the_first_lack_of_a_review_disables_it() {
        let mut book = book(&[("a", About::Review, 100), ("b", About::Review, 100)]);
        assert!(book.refuse("a", Ended::Expired, at(101)));
        assert!(!book.refuse("b", Ended::Expired, at(102)));
        assert!(!book.refuse("b", Ended::Expired, at(103)), "it is settled");
        assert_eq!(book.disabled.unwrap().request, "a");
    }

    #[test]
    fn what_stands_in_the_store_reads_back() {
        let mut one = book(&[("a", About::Review, 100)]);
        one.refuse("a", Ended::Expired, at(101));
        one.waiting = book(&[("c", About::Enable, 300)]).waiting;
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Book>(&text).unwrap(), one);
        assert_eq!(serde_json::from_str::<Book>("{}").unwrap(), Book::default());
    }
}
