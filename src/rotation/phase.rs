//! The phases of one rotation, and what comes next in each: one function of what the journal says and of what was seen since.
//! Pure.
//!
//! ```text
//! idle -> pending -> set -> tested -> promoted -> grace -> [quarantine ->] idle
//!                 a value is in the journal before anything else changes
//! ```
//!
//! Whoever has the lease asks [`next`] again after each step, and after a crash somebody else does: every row of the crash table
//! is an answer of this function, and `model_tests` explores all of them. What cannot be known is never guessed: then the rotation is
//! [`Phase::Orphaned`].

/// How far a rotation is, as the journal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// None runs.
    Idle,
    /// Its value is recorded; the target may have it or not.
    Pending,
    /// The target has it.
    Set,
    /// A login with it works.
    Tested,
    /// Whoever reads the secret gets it.
    Promoted,
    /// The one before it is still valid.
    Grace,
    /// The one before it is out of use, and a person can have it back.
    Quarantine,
    /// What is true cannot be known: a person must look.
    Orphaned,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Pending,
        Self::Set,
        Self::Tested,
        Self::Promoted,
        Self::Grace,
        Self::Quarantine,
        Self::Orphaned,
    ];

    /// The word of the journal, the events and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Pending => "pending",
            Self::Set => "set",
            Self::Tested => "tested",
            Self::Promoted => "promoted",
            Self::Grace => "grace",
            Self::Quarantine => "quarantine",
            Self::Orphaned => "orphaned",
        }
    }
}

/// What must be changed beside the place that consumers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Nothing: the value is its own proof.
    Nothing,
    /// Vault changes target and value alike when it is told to; its own record says whether it did.
    Vault,
    /// A system that accepts or refuses the value, and can be asked which.
    Credential,
}

/// A value that was made for this rotation. All are kept until the rotation ends: the target may have any of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate {
    /// Tells it from the others of its rotation.
    pub number: u32,
    /// The target said that it will not have it.
    pub refused: bool,
}

/// What the journal says of the rotation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// How far it is.
    pub phase: Phase,
    /// Oldest first; empty where Vault makes the value.
    pub candidates: Vec<Candidate>,
    /// The one that the target was seen to accept.
    pub chosen: Option<u32>,
    /// The version that consumers read before.
    pub before: u64,
    /// The version that they read now.
    pub after: Option<u64>,
}

/// What the holder of the lease has seen since it took the journal up; gone with a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Facts {
    /// Which candidate the target accepts: asked newest first.
    pub probe: Option<Probe>,
    /// What came of the last attempt to change the target.
    pub applied: Option<Applied>,
    /// Whether the chosen candidate was seen to work.
    pub tested: Option<Works>,
    /// What consumers read.
    pub place: Option<Place>,
    /// The target accepts the chosen candidate, and so no longer what consumers read: they must get it at once.
    pub dead: Option<()>,
    /// Whether the grace is over.
    pub grace: Option<Over>,
    /// The old value is no longer to be had.
    pub revoked: Option<Revoked>,
}

/// Whether the old value can be had back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revoked {
    /// By a person, for a while.
    ForNow,
    /// By nobody.
    ForGood,
}

/// Which candidate the target accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// This one.
    Accepts(u32),
    /// None that is recorded.
    AcceptsNone,
}

/// What came of an attempt to change the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Applied {
    /// It said that it did.
    Done,
    /// It said that it will not have this value: it is as it was.
    Refused,
    /// No answer came: it may have changed.
    Unknown,
}

/// Whether something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Works {
    Yes,
    No,
}

/// Whether something is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Over {
    Yes,
    NotYet,
}

/// What consumers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The version from before the rotation.
    Before,
    /// This version, which holds the chosen candidate, or what Vault made.
    New(u64),
    /// A version that somebody else wrote.
    Stranger(u64),
    /// Nothing says.
    Unknown,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask the target which candidate it accepts, newest first.
    Probe,
    /// Change the target to this candidate; of [`Target::Vault`], tell Vault to rotate. Changes something outside.
    Apply(u32),
    /// See whether this candidate works.
    Test(u32),
    /// See what consumers read.
    Look,
    /// Let consumers read this candidate, if nobody wrote since. Changes something outside.
    Promote(u32),
    /// Make the value that was before unusable. Changes something outside.
    Revoke,
    /// Write this to the journal, if nobody wrote since; go on only then.
    Record(State),
    /// Record one more candidate: the target refused the last one.
    Regenerate,
    /// Nothing before the grace is over; nobody needs to hold the lease.
    Rest,
    /// What was tried did not work, and may later.
    Retry,
    /// Somebody else wrote what consumers read: their value stays, and this rotation ends here.
    GiveUp,
    /// Stop for a person, for this reason.
    Orphan(Orphaned),
    /// There is nothing to do.
    Nothing,
}

/// Why a rotation waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Orphaned {
    /// The target refused as many values as are tried.
    Refused,
    /// Somebody wrote what consumers read after the target was changed.
    Conflict,
    /// The journal says what cannot be.
    Journal,
}

impl Orphaned {
    /// The word of the journal, the events and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Journal => "journal",
        }
    }
}

/// As many values are tried.
pub const CANDIDATES: usize = 3;

impl State {
    /// No rotation.
    #[must_use]
    pub fn idle() -> Self {
        Self { phase: Phase::Idle, candidates: Vec::new(), chosen: None, before: 0, after: None }
    }

    /// A rotation that begins, with the version that consumers read; of [`Target::Vault`] there is no candidate.
    #[must_use]
    pub fn begun(candidate: Option<u32>, before: u64) -> Self {
        let candidates = candidate.map(|number| Candidate { number, refused: false });
        Self { phase: Phase::Pending, candidates: candidates.into_iter().collect(), before, ..Self::idle() }
    }

    /// The same with one more candidate; the last one was refused.
    #[must_use]
    pub fn with_another(&self, number: u32) -> Self {
        let mut state = self.clone();
        if let Some(last) = state.candidates.last_mut() {
            last.refused = true;
        }
        state.candidates.push(Candidate { number, refused: false });
        state
    }

    fn at(&self, phase: Phase) -> Self {
        Self { phase, ..self.clone() }
    }

    fn newest(&self) -> Option<u32> {
        self.candidates.iter().rev().find(|candidate| !candidate.refused).map(|candidate| candidate.number)
    }
}

/// What comes next of a rotation that the journal says is in `state`, for whoever has the lease and has seen `facts`.
#[must_use]
pub fn next(target: Target, state: &State, facts: &Facts) -> Step {
    match state.phase {
        Phase::Idle | Phase::Orphaned => Step::Nothing,
        Phase::Pending => match target {
            Target::Nothing => promote(target, state, facts, state.newest()),
            Target::Vault => tell_vault(state, facts),
            Target::Credential => set(state, facts),
        },
        Phase::Set => test(state, facts, |_| Step::Record(state.at(Phase::Tested))),
        // A login that worked for another holder, long ago perhaps, proves nothing: it is tried again.
        Phase::Tested => test(state, facts, |number| promote(target, state, facts, Some(number))),
        Phase::Promoted => Step::Record(state.at(Phase::Grace)),
        Phase::Grace => match (facts.grace, facts.revoked) {
            (Some(Over::Yes), Some(Revoked::ForNow)) => Step::Record(state.at(Phase::Quarantine)),
            (Some(Over::Yes), Some(Revoked::ForGood)) => Step::Record(State::idle()),
            (Some(Over::Yes), None) => Step::Revoke,
            _ => Step::Rest,
        },
        Phase::Quarantine => match (facts.grace, facts.revoked) {
            (Some(Over::Yes), Some(_)) => Step::Record(State::idle()),
            (Some(Over::Yes), None) => Step::Revoke,
            _ => Step::Rest,
        },
    }
}

fn set(state: &State, facts: &Facts) -> Step {
    match (facts.probe, facts.applied, state.newest()) {
        (None, ..) => Step::Probe,
        // The journal can wait: whoever finds it here asks the target, and finds the same.
        (Some(Probe::Accepts(number)), ..) if facts.dead.is_some() && facts.tested == Some(Works::Yes) => {
            promote(Target::Credential, state, facts, Some(number))
        }
        (Some(Probe::Accepts(number)), ..) => {
            Step::Record(State { chosen: Some(number), ..state.at(Phase::Set) })
        }
        (_, Some(Applied::Refused), _) if state.candidates.len() < CANDIDATES => Step::Regenerate,
        (_, Some(Applied::Refused), _) => Step::Orphan(Orphaned::Refused),
        (_, None, Some(number)) => Step::Apply(number),
        (_, None, None) => Step::Orphan(Orphaned::Journal),
        (_, Some(Applied::Done | Applied::Unknown), _) => Step::Retry,
    }
}

fn test(state: &State, facts: &Facts, works: impl FnOnce(u32) -> Step) -> Step {
    match (state.chosen, facts.tested) {
        (None, _) => Step::Orphan(Orphaned::Journal),
        (Some(number), None) => Step::Test(number),
        (Some(number), Some(Works::Yes)) => works(number),
        // The target has another one, or none: look which.
        (Some(_), Some(Works::No)) => Step::Record(State { chosen: None, ..state.at(Phase::Pending) }),
    }
}

fn promote(target: Target, state: &State, facts: &Facts, candidate: Option<u32>) -> Step {
    let Some(number) = candidate else { return Step::Orphan(Orphaned::Journal) };
    match (facts.place, target) {
        // The check-and-set is look enough.
        (None, _) if facts.dead.is_some() => Step::Promote(number),
        (None, _) => Step::Look,
        (Some(Place::Before), _) => Step::Promote(number),
        // Also where the write was done and the journal does not know.
        (Some(Place::New(version)), _) => {
            Step::Record(State { chosen: Some(number), after: Some(version), ..state.at(Phase::Promoted) })
        }
        (Some(Place::Stranger(_)), Target::Credential) => Step::Orphan(Orphaned::Conflict),
        (Some(Place::Stranger(_)), _) => Step::GiveUp,
        (Some(Place::Unknown), _) => Step::Retry,
    }
}

fn tell_vault(state: &State, facts: &Facts) -> Step {
    let promoted = |after| Step::Record(State { after, ..state.at(Phase::Promoted) });
    match (facts.place, facts.applied) {
        (None, _) => Step::Look,
        (Some(Place::New(version)), _) => promoted(Some(version)),
        (Some(Place::Unknown), Some(Applied::Done)) => promoted(None),
        (Some(Place::Before | Place::Unknown | Place::Stranger(_)), None) => Step::Apply(0),
        (Some(_), Some(_)) => Step::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes next in the phase `state`, on the facts `facts`: a row of the crash table each.
    fn check(target: Target, state: &State, facts: Facts, expected: &Step) {
        assert_eq!(next(target, state, &facts), *expected, "{state:?} {facts:?}");
    }

    fn at(phase: Phase) -> State {
        State { chosen: Some(1), ..State::begun(Some(1), 17).at(phase) }
    }

    #[test]
    fn each_row_of_the_crash_table_has_its_answer() {
        let credential = Target::Credential;
        let facts = Facts::default();
        let pending = State::begun(Some(1), 17);
        check(credential, &State::idle(), facts, &Step::Nothing);
        check(credential, &pending, facts, &Step::Probe);
        let none = Facts { probe: Some(Probe::AcceptsNone), ..facts };
        check(credential, &pending, none, &Step::Apply(1));
        let accepted = Facts { probe: Some(Probe::Accepts(1)), ..facts };
        check(credential, &pending, accepted, &Step::Record(at(Phase::Set)));
        check(credential, &at(Phase::Set), facts, &Step::Test(1));
        let works = Facts { tested: Some(Works::Yes), ..facts };
        check(credential, &at(Phase::Set), works, &Step::Record(at(Phase::Tested)));
        check(credential, &at(Phase::Tested), facts, &Step::Test(1));
        check(credential, &at(Phase::Tested), works, &Step::Look);
        let before = Facts { place: Some(Place::Before), ..works };
        check(credential, &at(Phase::Tested), before, &Step::Promote(1));
        let written = Facts { place: Some(Place::New(18)), ..works };
        let promoted = State { after: Some(18), ..at(Phase::Promoted) };
        check(credential, &at(Phase::Tested), written, &Step::Record(promoted.clone()));
        check(credential, &promoted, facts, &Step::Record(promoted.at(Phase::Grace)));
        check(credential, &promoted.at(Phase::Grace), facts, &Step::Rest);
        let over = Facts { grace: Some(Over::Yes), ..facts };
        check(credential, &promoted.at(Phase::Grace), over, &Step::Revoke);
        let revoked = Facts { revoked: Some(Revoked::ForGood), ..over };
        check(credential, &promoted.at(Phase::Grace), revoked, &Step::Record(State::idle()));
        let (disabled, quarantine) =
            (Facts { revoked: Some(Revoked::ForNow), ..over }, promoted.at(Phase::Quarantine));
        check(credential, &promoted.at(Phase::Grace), disabled, &Step::Record(quarantine.clone()));
        check(credential, &quarantine, facts, &Step::Rest);
        check(credential, &quarantine, over, &Step::Revoke);
        check(credential, &quarantine, revoked, &Step::Record(State::idle()));
    }

    #[test]
    fn where_consumers_read_a_dead_value_nothing_is_written_before_they_get_the_new_one() {
        let (credential, pending) = (Target::Credential, State::begun(Some(1), 17));
        let works = Facts {
            probe: Some(Probe::Accepts(1)),
            tested: Some(Works::Yes),
            dead: Some(()),
            ..Facts::default()
        };
        check(credential, &pending, works, &Step::Promote(1));
        let written = Facts { place: Some(Place::New(18)), ..works };
        let promoted = State { after: Some(18), ..at(Phase::Promoted) };
        check(credential, &pending, written, &Step::Record(promoted));
        let stranger = Facts { place: Some(Place::Stranger(18)), ..works };
        check(credential, &pending, stranger, &Step::Orphan(Orphaned::Conflict));
        // A successor that finds it later.
        check(credential, &at(Phase::Tested), Facts { probe: None, ..works }, &Step::Promote(1));
    }

    #[test]
    fn a_lost_reply_makes_no_second_value_and_a_refusal_does() {
        let pending = State::begun(Some(1), 17);
        let none = Facts { probe: Some(Probe::AcceptsNone), ..Facts::default() };
        let lost = Facts { applied: Some(Applied::Unknown), ..none };
        check(Target::Credential, &pending, lost, &Step::Retry);
        let refused = Facts { applied: Some(Applied::Refused), ..none };
        check(Target::Credential, &pending, refused, &Step::Regenerate);
        let third = pending.with_another(2).with_another(3);
        check(Target::Credential, &third, none, &Step::Apply(3));
        check(Target::Credential, &third, refused, &Step::Orphan(Orphaned::Refused));
        // It was applied after all.
        let accepts = Facts { probe: Some(Probe::Accepts(2)), ..Facts::default() };
        let set = State { chosen: Some(2), ..third.at(Phase::Set) };
        check(Target::Credential, &third, accepts, &Step::Record(set));
    }

    #[test]
    fn what_somebody_else_wrote_stays() {
        let works = Facts { tested: Some(Works::Yes), place: Some(Place::Stranger(18)), ..Facts::default() };
        check(Target::Credential, &at(Phase::Tested), works, &Step::Orphan(Orphaned::Conflict));
        check(Target::Nothing, &State::begun(Some(1), 17), works, &Step::GiveUp);
    }

    #[test]
    fn vault_is_told_once_where_its_own_record_says_that_it_did() {
        let begun = State::begun(None, 17);
        let facts = Facts::default();
        check(Target::Vault, &begun, facts, &Step::Look);
        let before = Facts { place: Some(Place::Before), ..facts };
        check(Target::Vault, &begun, before, &Step::Apply(0));
        let lost = Facts { applied: Some(Applied::Unknown), ..before };
        check(Target::Vault, &begun, lost, &Step::Retry);
        let promoted = |after| Step::Record(State { after, ..begun.at(Phase::Promoted) });
        check(Target::Vault, &begun, Facts { place: Some(Place::New(18)), ..facts }, &promoted(Some(18)));
        let unknown = Facts { place: Some(Place::Unknown), ..facts };
        check(Target::Vault, &begun, unknown, &Step::Apply(0));
        check(Target::Vault, &begun, Facts { applied: Some(Applied::Done), ..unknown }, &promoted(None));
    }
}
