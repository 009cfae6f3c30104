//! The journal of one rotation, as it lies in Vault: what was decided and made, before anything else changed.
//!
//! It holds secrets: whoever may read it has them. Pure. Does not speak to Vault.

use super::{
    asked::Asked,
    coordination::{self, Coordination},
    phase::{Candidate, Phase, State},
    rollback::Rolled,
    suspend::{Said, Suspended},
};
use crate::{clock::Timestamp, secret::SecretValue};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use zeroize::Zeroizing;

/// The form of the document; another one is not read.
const FORM: u32 = 1;

/// One rotation, and the slots before it.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// How far it is.
    pub(super) state: State,
    /// The values of its candidates.
    pub(super) values: Vec<(u32, Arc<SecretValue>)>,
    /// Those that are still ciphertext.
    pub(super) sealed: Vec<(u32, String)>,
    /// Which run it is; none while idle.
    pub(super) run: Option<Run>,
    /// Who works on it.
    pub(super) lease: Lease,
    /// Slots up to this one are settled.
    pub(super) settled: Timestamp,
    /// The last promotion, else when the document was made.
    pub(super) succeeded: Timestamp,
    /// When the old value is made unusable.
    pub(super) grace_until: Option<Timestamp>,
    /// Somebody asked for a run, for this reason.
    pub(super) asked: Option<String>,
    /// The newest request for a person's yes.
    pub(super) approval: Option<Asked>,
    /// Why it waits for a person.
    pub(super) orphaned: Option<String>,
    /// What the run changes in another system.
    pub(super) aim: Aim,
    /// Our own secret id between runs.
    pub(super) own: Option<Known>,
    /// A person went back to the value before, and no run began since.
    pub(super) rolled: Option<Rolled>,
    /// No run begins until a person says so.
    pub(super) suspended: Option<Suspended>,
    /// What persons did by commands, and no agent has put on record yet.
    pub(super) said: Vec<Said>,
}

/// What a run changes in another system; nothing between runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Aim {
    /// Whose credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// How often a value was taken and then refused.
    #[serde(default)]
    pub(super) attempts: u32,
    /// The system is given once more what consumers read already: nothing is promoted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) repairs: bool,
    /// A person wants back what is in quarantine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) reenable: bool,
    /// A person had it back: its grace ends by time alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) reenabled: bool,
    /// A person wants the system to be given what consumers read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) adopt: bool,
    /// That is what is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) adopted: bool,
    /// Of kind `bootstrap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ids: Option<Ids>,
}

/// The secret ids of a run of kind `bootstrap`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Ids {
    /// Names the one from before.
    pub(super) former: String,
    /// The SHA-256 of what its file held, in hex.
    pub(super) of: String,
    /// A new one was asked for: Vault may have one that nobody knows.
    pub(super) asked: bool,
    /// Names the new one.
    pub(super) accessor: Option<String>,
    /// When it was made, in seconds since 1970; 0: that is not known yet.
    pub(super) made: u64,
    /// When it must be replaced, if it has an end.
    pub(super) due: Option<Timestamp>,
    /// How many logins it is good for; 0: any number.
    pub(super) uses: u64,
}

/// The secret id that a file holds between runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The SHA-256 of what the file holds, in hex.
    pub(super) of: String,
    /// When it must be replaced, if it has an end.
    pub(super) due: Option<Timestamp>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Names it, in events too.
    pub(super) id: String,
    /// Which slot it is for.
    pub(super) slot: Timestamp,
    /// The slot as people read it.
    pub(super) spelled: String,
    /// Why a person asked for it, if one did.
    pub(super) reason: Option<String>,
}

/// Who works on a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lease {
    /// Counts the holders.
    pub(super) epoch: u64,
    /// The holder; none: whoever comes first.
    pub(super) holder: Option<String>,
    /// Counts the renewals of this holder.
    pub(super) beat: u64,
}

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// It is no object, or a field is missing.
    #[error("the journal is malformed")]
    Malformed,
    /// Another version of claviger wrote it.
    #[error("the journal has another form than this version of claviger reads")]
    Form,
    /// What it keeps is ciphertext, and the config names no key.
    #[error(
        "the journal has ciphertext, and the config has no `wrap`: replicas must not differ; write wrap: {{transit: MOUNT/KEY}}"
    )]
    Sealed,
    /// Replicas must not differ in this.
    #[error(
        "the journal says coordination: {theirs}, and the config says {ours}: replicas must not differ; to change it, stop every \
         agent that has the other, then run: claviger rotation coordinate NAME --config FILE"
    )]
    Coordination {
        /// What stands there.
        theirs: String,
        /// What our config says.
        ours: String,
    },
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    coordination: String,
    /// Of Kubernetes, which Lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    phase: String,
    rotation_id: Option<String>,
    slot: Option<Timestamp>,
    slot_time: Option<String>,
    reason: Option<String>,
    epoch: u64,
    holder: Option<String>,
    beat: u64,
    candidates: Vec<WrittenCandidate>,
    chosen: Option<u32>,
    before: u64,
    after: Option<u64>,
    settled: Timestamp,
    succeeded: Timestamp,
    grace_until: Option<Timestamp>,
    asked: Option<String>,
    orphaned: Option<String>,
    #[serde(default)]
    aim: Aim,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own: Option<Known>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rolled: Option<Rolled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approval: Option<Asked>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspended: Option<Suspended>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    said: Vec<Said>,
}

#[derive(Serialize, Deserialize)]
struct WrittenCandidate {
    n: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Zeroizing<String>>,
    /// The same as ciphertext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    refused: bool,
}

impl Document {
    /// The first one: slots from `now` on count.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            state: State::idle(),
            values: Vec::new(),
            sealed: Vec::new(),
            run: None,
            lease: Lease::default(),
            settled: now,
            succeeded: now,
            grace_until: None,
            asked: None,
            approval: None,
            orphaned: None,
            aim: Aim::default(),
            own: None,
            rolled: None,
            suspended: None,
            said: Vec::new(),
        }
    }

    /// The value of candidate `number`.
    pub(super) fn value(&self, number: u32) -> Option<&Arc<SecretValue>> {
        self.values.iter().find(|(known, _)| *known == number).map(|(_, value)| value)
    }

    /// Its JSON text, of a rotation that is coordinated so; where there is a ciphertext of a value, with that instead.
    pub(super) fn encode(
        &self,
        coordination: &Coordination,
        sealed: &BTreeMap<u32, String>,
    ) -> Zeroizing<Vec<u8>> {
        let candidate = |candidate: &Candidate| {
            let sealed = sealed.get(&candidate.number).cloned();
            let value = || {
                let value = self.value(candidate.number).map(|value| value.expose().to_owned());
                Zeroizing::new(value.unwrap_or_default())
            };
            let value = sealed.is_none().then(value);
            WrittenCandidate { n: candidate.number, value, sealed, refused: candidate.refused }
        };
        let run = self.run.as_ref();
        let written = Written {
            v: FORM,
            coordination: coordination.word().to_owned(),
            lease: coordination.lease(),
            phase: self.state.phase.word().to_owned(),
            rotation_id: run.map(|run| run.id.clone()),
            slot: run.map(|run| run.slot),
            slot_time: run.map(|run| run.spelled.clone()),
            reason: run.and_then(|run| run.reason.clone()),
            epoch: self.lease.epoch,
            holder: self.lease.holder.clone(),
            beat: self.lease.beat,
            candidates: self.state.candidates.iter().map(candidate).collect(),
            chosen: self.state.chosen,
            before: self.state.before,
            after: self.state.after,
            settled: self.settled,
            succeeded: self.succeeded,
            grace_until: self.grace_until,
            asked: self.asked.clone(),
            orphaned: self.orphaned.clone(),
            aim: self.aim.clone(),
            own: self.own.clone(),
            rolled: self.rolled.clone(),
            approval: self.approval.clone(),
            suspended: self.suspended.clone(),
            said: self.said.clone(),
        };
        let values = self.values.iter().map(|(_, value)| 6 * value.expose().len() + 64).sum::<usize>();
        let mut out = Zeroizing::new(Vec::with_capacity(4_096 + values));
        // Into a buffer with room it cannot fail.
        let _ = serde_json::to_writer(&mut *out, &written);
        out
    }

    /// What `json` says, of a rotation that is coordinated so; `None`: however it is.
    ///
    /// # Errors
    /// It is none that we may go on with.
    pub(super) fn decode(json: &str, coordination: Option<&Coordination>) -> Result<Self, Unreadable> {
        let written: Written = serde_json::from_str(json).map_err(|_| Unreadable::Malformed)?;
        if written.v != FORM {
            return Err(Unreadable::Form);
        }
        if let Some(ours) = coordination
            && (written.coordination.as_str(), &written.lease) != (ours.word(), &ours.lease())
        {
            let theirs = coordination::spelled(&written.coordination, written.lease.as_deref());
            return Err(Unreadable::Coordination { theirs, ours: ours.to_string() });
        }
        let phase = Phase::ALL.into_iter().find(|phase| phase.word() == written.phase);
        let run = match (written.rotation_id, written.slot, written.slot_time) {
            (Some(id), Some(slot), Some(spelled)) => Some(Run { id, slot, spelled, reason: written.reason }),
            _ => None,
        };
        let phase = phase.ok_or(Unreadable::Malformed)?;
        if run.is_none() && phase != Phase::Idle {
            return Err(Unreadable::Malformed);
        }
        let candidates =
            written.candidates.iter().map(|it| Candidate { number: it.n, refused: it.refused }).collect();
        let ciphertext = |it: &WrittenCandidate| Some((it.n, it.sealed.clone()?));
        let sealed = written.candidates.iter().filter_map(ciphertext).collect();
        let value =
            |it: WrittenCandidate| Some((it.n, Arc::new(SecretValue::new(std::mem::take(&mut *it.value?)))));
        Ok(Self {
            state: State {
                phase,
                candidates,
                chosen: written.chosen,
                before: written.before,
                after: written.after,
            },
            values: written.candidates.into_iter().filter_map(value).collect(),
            sealed,
            run,
            lease: Lease { epoch: written.epoch, holder: written.holder, beat: written.beat },
            settled: written.settled,
            succeeded: written.succeeded,
            grace_until: written.grace_until,
            asked: written.asked,
            orphaned: written.orphaned,
            aim: written.aim,
            own: written.own,
            rolled: written.rolled,
            approval: written.approval,
            suspended: written.suspended,
            said: written.said,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_reads_back_as_it_was_written() {
        let at: Timestamp = "2026-11-29T08:00:00Z".parse().unwrap();
        let mut document = Document::new(at);
        let text = |document: &Document| {
            String::from_utf8(document.encode(&Coordination::Vault, &BTreeMap::new()).to_vec()).unwrap()
        };
        let decode = |text: &str| Document::decode(text, Some(&Coordination::Vault));
        assert!(decode(&text(&document)).unwrap().run.is_none());
        document.state =
            State { chosen: Some(2), after: Some(18), ..State::begun(Some(1), 17).with_another(2) };
        document.values =
            [(1, "a"), (2, "b\"\n")].map(|(n, v)| (n, Arc::new(SecretValue::new(v.into())))).into();
        let run = Run {
            id: "r".into(),
            slot: at,
            spelled: "2026-11-29T03:00:00-05:00".into(),
            reason: Some("leaked".into()),
        };
        document.run = Some(run.clone());
        document.lease = Lease { epoch: 42, holder: Some("api-7c9d".into()), beat: 3 };
        document.grace_until = Some(at);
        let read = decode(&text(&document)).unwrap();
        assert_eq!((&read.state, read.run.as_ref()), (&document.state, Some(&run)));
        assert_eq!((&read.lease, read.grace_until), (&document.lease, Some(at)));
        assert!(read.value(2) == document.value(2) && read.value(2).is_some());
        assert!(!format!("{read:?}").contains("b\\"));
    }

    fn kubernetes(lease: &str) -> Coordination {
        Coordination::Kubernetes(Box::new(crate::rotation::kubernetes::Settings {
            namespace: "team-a".into(),
            lease: lease.into(),
            server: "https://kubernetes.default.svc".parse().unwrap(),
            ca_file: "/ca".into(),
            token_file: "/token".into(),
        }))
    }

    #[test]
    fn what_cannot_be_gone_on_with_is_refused() {
        let document = Document::new(Timestamp::UNIX_EPOCH);
        let text =
            String::from_utf8(document.encode(&Coordination::Vault, &BTreeMap::new()).to_vec()).unwrap();
        for (from, to, expected) in [
            (r#""v":1"#, r#""v":2"#, Unreadable::Form),
            (r#":"idle""#, r#":"pending""#, Unreadable::Malformed),
            (r#":"idle""#, r#":"dancing""#, Unreadable::Malformed),
            ("{", "", Unreadable::Malformed),
        ] {
            let text = text.replacen(from, to, 1);
            assert_eq!(Document::decode(&text, Some(&Coordination::Vault)).unwrap_err(), expected, "{to}");
        }
    }

    #[test]
    fn replicas_that_are_coordinated_otherwise_refuse_each_others_journals() {
        let (vault, one, other) = (Coordination::Vault, kubernetes("one"), kubernetes("other"));
        let document = Document::new(Timestamp::UNIX_EPOCH);
        for (written, ours, expected) in [
            (&vault, &vault, None),
            (&one, &one, None),
            (&vault, &one, Some(("vault", "kubernetes (team-a/one)"))),
            (&one, &vault, Some(("kubernetes (team-a/one)", "vault"))),
            (&one, &other, Some(("kubernetes (team-a/one)", "kubernetes (team-a/other)"))),
        ] {
            let text = String::from_utf8(document.encode(written, &BTreeMap::new()).to_vec()).unwrap();
            let expected = expected.map(|(theirs, ours)| Unreadable::Coordination {
                theirs: theirs.to_owned(),
                ours: ours.to_owned(),
            });
            assert_eq!(Document::decode(&text, Some(ours)).err(), expected, "{text}");
            // A person may say that it is to be another one.
            assert!(Document::decode(&text, None).is_ok());
        }
    }
}
