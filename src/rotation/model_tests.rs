//! Every interleaving of replicas that crash at any step, run against `phase::next` itself: does any lose the key?
//!
//! Breadth first over all states; replicas are interchangeable, so of states that differ by their order one is looked at.
//! The lease is modelled by what it rests on: it may run out at any moment; its holder looks at its own clock before each
//! call that changes something; a successor comes only when no call that was begun before can still arrive. Not modelled:
//! clocks themselves, and a call that a target delays for longer than it may take.

use super::phase::{
    Applied, Candidate, Facts, Over, Phase, Place, Probe, Revoked, State, Step, Target, Works, next,
};
use std::collections::{HashSet, VecDeque};

/// The number of a value; `START` is the one from before.
type Value = u32;
const START: Value = 0;

/// What of the recipe is left out, or put in its place.
#[derive(Clone, Copy, PartialEq)]
enum Recipe {
    /// As it is built.
    Whole,
    /// Nobody looks at a lease.
    NoFence,
    /// A new value after any failure, where only the newest is kept.
    NewestOnly,
    /// A new value after any failure, all kept, and nobody looks at a lease.
    NoFenceAndNewValues,
    /// A new value after any failure, all kept, under the lease.
    NewValues,
}

#[derive(Clone, Copy)]
struct Setting {
    recipe: Recipe,
    target: Target,
    /// Alternating users, or one.
    slots: usize,
    replicas: usize,
    crashes: u8,
    rotations: u8,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct World {
    journal: State,
    /// Which slot of the target the rotation changes.
    side: u8,
    done: u8,
    /// The time of the lease is over.
    expired: bool,
    place: (u64, u8, Value),
    target: [Value; 2],
    now: u8,
    crashes: u8,
    made: Value,
    promotes: u8,
    replicas: Vec<Replica>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Replica {
    Out,
    In {
        claim: Claim,
        state: State,
        side: u8,
        facts: Facts,
        call: Option<Call>,
    },
    /// It is gone, and its call is still on the way.
    Ghost(Call),
}

/// What a replica at work has of the journal. That it was overtaken never ends, so no number is needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Claim {
    /// It wrote the journal last.
    Newest,
    /// Somebody else wrote since.
    Overtaken,
}

/// A call that changes something, with all that it says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Call {
    Apply(u8, Value),
    Promote(u64, u8, Value),
}

impl Setting {
    fn fenced(&self) -> bool {
        !matches!(self.recipe, Recipe::NoFence | Recipe::NoFenceAndNewValues)
    }

    fn start(&self) -> World {
        World {
            journal: State::idle(),
            side: 0,
            done: 0,
            expired: true,
            place: (1, 0, START),
            target: [START, 1_000],
            now: 0,
            crashes: self.crashes,
            made: 0,
            promotes: 0,
            replicas: vec![Replica::Out; self.replicas],
        }
    }

    /// What must hold in every state.
    fn fault(&self, world: &World) -> Option<&'static str> {
        let (_, side, current) = world.place;
        let accepted = world.target[usize::from(side)];
        if world.promotes > world.now {
            return Some("more promotes than slots");
        }
        if self.target != Target::Credential {
            return None;
        }
        if self.slots == 2 {
            return (accepted != current).then_some("the current credential is refused");
        }
        let known = world.journal.candidates.iter().any(|candidate| candidate.number == accepted);
        (accepted != current && !known).then_some("the target accepts a value that nobody recorded")
    }

    /// What must hold where nothing more can happen.
    fn fault_at_rest(&self, world: &World) -> Option<&'static str> {
        let (_, side, current) = world.place;
        let works = self.target != Target::Credential || world.target[usize::from(side)] == current;
        let rests = world.journal.phase == Phase::Idle && world.done == world.now && works;
        (!rests).then_some("it comes to rest with a rotation undone")
    }

    fn successors(&self, world: &World) -> Vec<World> {
        let mut found = Vec::new();
        if world.now < self.rotations && world.journal.phase == Phase::Idle && world.done == world.now {
            found.push(World { now: world.now + 1, ..world.clone() });
        }
        if !world.expired {
            found.push(World { expired: true, ..world.clone() });
        }
        for (at, replica) in world.replicas.iter().enumerate() {
            let with = |changed: World, replica: Replica| {
                let mut changed = changed;
                changed.replicas[at] = replica;
                changed
            };
            match replica {
                Replica::Out => {
                    found.extend(self.take(world).into_iter().map(|(world, replica)| with(world, replica)))
                }
                Replica::Ghost(call) => {
                    found.push(with(land(world, *call).0, Replica::Out));
                    // A call may also be lost.
                    found.push(with(world.clone(), Replica::Out));
                }
                Replica::In { claim, state, side, facts, call } => {
                    if world.crashes > 0 {
                        let gone = World { crashes: world.crashes - 1, ..world.clone() };
                        let left = call.map_or(Replica::Out, Replica::Ghost);
                        found.push(with(gone, left));
                    }
                    let me = Me { claim: *claim, state, side: *side, facts: *facts };
                    let steps = match call {
                        Some(call) => self.answered(world, &me, *call),
                        None => self.step(world, &me),
                    };
                    found.extend(steps.into_iter().map(|(world, replica)| with(world, replica)));
                }
            }
        }
        for world in &mut found {
            if self.fenced() {
                // Who was overtaken can do nothing any more but find out.
                for replica in &mut world.replicas {
                    if matches!(replica, Replica::In { claim: Claim::Overtaken, call: None, .. }) {
                        *replica = Replica::Out;
                    }
                }
            }
            world.replicas.sort_unstable();
        }
        found
    }

    /// A replica that does nothing takes the lease, if it may.
    fn take(&self, world: &World) -> Option<(World, Replica)> {
        let mut world = world.clone();
        let in_flight =
            |replica: &Replica| matches!(replica, Replica::Ghost(..) | Replica::In { call: Some(_), .. });
        let blocked = self.fenced() && world.replicas.iter().any(in_flight);
        if world.journal.phase == Phase::Idle {
            if world.done >= world.now {
                return None;
            }
            world.made += 1;
            world.side = if self.slots == 2 { 1 - world.place.1 } else { 0 };
            let candidate = (self.target != Target::Vault).then_some(world.made);
            world.journal = State::begun(candidate, world.place.0);
        } else if blocked || (self.fenced() && !world.expired) {
            return None;
        }
        world.expired = false;
        world.overtake();
        let me = Replica::In {
            claim: Claim::Newest,
            state: world.journal.clone(),
            side: world.side,
            facts: Facts::default(),
            call: None,
        };
        Some((world, me))
    }

    fn step(&self, world: &World, me: &Me<'_>) -> Vec<(World, Replica)> {
        let may_call = !self.fenced() || (me.claim == Claim::Newest && !world.expired);
        let keep = |facts: Facts| vec![(world.clone(), me.with(facts, None))];
        let leave = || vec![(world.clone(), Replica::Out)];
        let call = |call: Call| {
            if may_call { vec![(world.clone(), me.with(me.facts, Some(call)))] } else { leave() }
        };
        let accepts = |number: Value| world.target[usize::from(me.side)] == number;
        match next(self.target, me.state, &me.facts) {
            Step::Probe => {
                let found = me.state.candidates.iter().rev().find(|candidate| accepts(candidate.number));
                let probe = found.map_or(Probe::AcceptsNone, |found| Probe::Accepts(found.number));
                let (tested, dead) = self.seen_to_work(found.is_some());
                keep(Facts { probe: Some(probe), tested, dead, ..me.facts })
            }
            Step::Test(number) => {
                let works = if accepts(number) { Works::Yes } else { Works::No };
                let (_, dead) = self.seen_to_work(works == Works::Yes);
                keep(Facts { tested: Some(works), dead, ..me.facts })
            }
            Step::Look => keep(Facts { place: Some(self.look(world, me.state)), ..me.facts }),
            Step::Apply(number) => call(Call::Apply(me.side, number)),
            Step::Promote(number) => call(Call::Promote(me.state.before, me.side, number)),
            Step::Revoke => {
                // Each may come: nothing of it depends on which.
                let after = if me.side == 0 { Revoked::ForGood } else { Revoked::ForNow };
                keep(Facts { revoked: Some(after), ..me.facts })
            }
            Step::Rest => keep(Facts { grace: Some(Over::Yes), ..me.facts }),
            Step::Record(state) => self.record(world, me, state),
            Step::Regenerate => self.regenerate(world, me),
            Step::Retry => {
                let again = keep(Facts::default());
                if self.recipe == Recipe::Whole
                    || me.state.candidates.len() > 1
                    || self.target != Target::Credential
                {
                    return again;
                }
                // What the recipe forbids: another value on a mere doubt.
                again.into_iter().chain(self.regenerate(world, me)).collect()
            }
            Step::GiveUp | Step::Orphan(_) | Step::Nothing => leave(),
        }
    }

    /// What a login that worked proves: of one user also that no other value does.
    fn seen_to_work(&self, works: bool) -> (Option<Works>, Option<()>) {
        (works.then_some(Works::Yes), (works && self.slots == 1).then_some(()))
    }

    fn look(&self, world: &World, state: &State) -> Place {
        let (version, _, value) = world.place;
        let is_ours = |candidate: &Candidate| candidate.number == value;
        if version == state.before {
            Place::Before
        } else if self.target == Target::Vault || state.candidates.iter().any(is_ours) {
            Place::New(version)
        } else {
            Place::Stranger(version)
        }
    }

    fn regenerate(&self, world: &World, me: &Me<'_>) -> Vec<(World, Replica)> {
        let mut world = world.clone();
        world.made += 1;
        let mut state = me.state.with_another(world.made);
        if self.recipe == Recipe::NewestOnly {
            state.candidates.remove(0);
        }
        self.record(&world, me, state)
    }

    /// The journal, if nobody wrote since.
    fn record(&self, world: &World, me: &Me<'_>, state: State) -> Vec<(World, Replica)> {
        let mut world = world.clone();
        if me.claim == Claim::Overtaken {
            return vec![(world, Replica::Out)];
        }
        world.overtake();
        if state.phase == Phase::Idle {
            world.done = world.now;
            world.expired = true;
        }
        let ended = state.phase == Phase::Idle;
        world.journal = state.clone();
        let me = Replica::In {
            claim: Claim::Newest,
            state,
            side: me.side,
            facts: Facts { tested: me.facts.tested, place: None, ..Facts::default() },
            call: None,
        };
        vec![(world, if ended { Replica::Out } else { me })]
    }

    /// A call arrives; its answer may be lost, and a target may refuse.
    fn answered(&self, world: &World, me: &Me<'_>, call: Call) -> Vec<(World, Replica)> {
        let (landed, arrived) = land(world, call);
        match call {
            Call::Apply(..) => {
                let facts = |applied| Facts { applied: Some(applied), probe: None, place: None, ..me.facts };
                let mut found = vec![
                    (landed.clone(), me.with(facts(Applied::Done), None)),
                    (landed.clone(), me.with(facts(Applied::Unknown), None)),
                    (world.clone(), me.with(facts(Applied::Unknown), None)),
                ];
                if self.target == Target::Credential && me.state.candidates.len() == 1 {
                    found.push((
                        world.clone(),
                        me.with(Facts { applied: Some(Applied::Refused), ..me.facts }, None),
                    ));
                }
                if self.recipe != Recipe::Whole && self.recipe != Recipe::NoFence {
                    // Done, and not answered, and taken for not done.
                    found
                        .push((landed, me.with(Facts { applied: Some(Applied::Unknown), ..me.facts }, None)));
                }
                found
            }
            Call::Promote(..) => {
                // The answer says which version it is, or that somebody else wrote: then it is looked at. Or it is lost.
                let place = if arrived { Place::New(landed.place.0) } else { self.look(&landed, me.state) };
                let with = |place| me.with(Facts { place, ..me.facts }, None);
                vec![(landed.clone(), with(Some(place))), (landed, with(None)), (world.clone(), with(None))]
            }
        }
    }

    /// Looks at every state; gives how many there are, and the first fault.
    fn explore(&self) -> (usize, Option<&'static str>) {
        let mut seen: HashSet<World> = HashSet::new();
        let mut queue = VecDeque::from([self.start()]);
        seen.insert(self.start());
        while let Some(world) = queue.pop_front() {
            if let Some(fault) = self.fault(&world) {
                return (seen.len(), Some(fault));
            }
            let successors = self.successors(&world);
            if successors.is_empty()
                && let Some(fault) = self.fault_at_rest(&world)
            {
                return (seen.len(), Some(fault));
            }
            for world in successors {
                if seen.insert(world.clone()) {
                    queue.push_back(world);
                }
            }
        }
        (seen.len(), None)
    }
}

/// One replica at work.
struct Me<'a> {
    claim: Claim,
    state: &'a State,
    side: u8,
    facts: Facts,
}

impl Me<'_> {
    fn with(&self, facts: Facts, call: Option<Call>) -> Replica {
        let Self { claim, state, side, .. } = *self;
        Replica::In { claim, state: state.clone(), side, facts, call }
    }
}

impl World {
    /// Somebody writes the journal: nobody else wrote it last.
    fn overtake(&mut self) {
        for replica in &mut self.replicas {
            if let Replica::In { claim, .. } = replica {
                *claim = Claim::Overtaken;
            }
        }
    }
}

/// What `call` changes when it arrives, and whether it did.
fn land(world: &World, call: Call) -> (World, bool) {
    let mut world = world.clone();
    match call {
        // Number 0: Vault itself makes the value, and consumers read it.
        Call::Apply(side, 0) => {
            world.made += 1;
            world.place = (world.place.0 + 1, side, world.made);
            world.promotes += 1;
        }
        Call::Apply(side, value) => world.target[usize::from(side)] = value,
        Call::Promote(before, side, value) if before == world.place.0 => {
            world.place = (before + 1, side, value);
            world.promotes += 1;
        }
        Call::Promote(..) => return (world, false),
    }
    (world, true)
}

const WHOLE: Setting = Setting {
    recipe: Recipe::Whole,
    target: Target::Credential,
    slots: 1,
    replicas: 3,
    crashes: 3,
    rotations: 2,
};

fn is_safe(setting: Setting) {
    let (states, fault) = setting.explore();
    assert_eq!(fault, None, "after {states} states");
    assert!(states > 100, "it explored {states} states only");
}

#[test]
fn no_interleaving_of_three_replicas_and_three_crashes_loses_the_key() {
    for target in [Target::Credential, Target::Nothing, Target::Vault] {
        is_safe(Setting { target, ..WHOLE });
    }
    is_safe(Setting { slots: 2, ..WHOLE });
    is_safe(Setting { rotations: 3, slots: 2, ..WHOLE });
}

#[test]
fn a_new_value_on_a_mere_doubt_is_safe_under_the_lease_where_all_are_kept() {
    is_safe(Setting { recipe: Recipe::NewValues, rotations: 1, ..WHOLE });
}

#[test]
fn bad_recipes_are_found_bad() {
    for (setting, expected) in [
        (
            Setting { recipe: Recipe::NoFence, replicas: 2, crashes: 0, ..WHOLE },
            "the target accepts a value that nobody recorded",
        ),
        (
            Setting { recipe: Recipe::NewestOnly, replicas: 2, rotations: 1, ..WHOLE },
            "the target accepts a value that nobody recorded",
        ),
        (
            Setting { recipe: Recipe::NoFenceAndNewValues, replicas: 2, crashes: 1, rotations: 1, ..WHOLE },
            "the target accepts a value that nobody recorded",
        ),
        (
            Setting { recipe: Recipe::NoFence, slots: 2, rotations: 3, replicas: 2, crashes: 0, ..WHOLE },
            "the current credential is refused",
        ),
    ] {
        assert_eq!(setting.explore().1, Some(expected));
    }
}

#[test]
fn no_interleaving_of_five_replicas_and_five_crashes_loses_the_key() {
    for (target, slots) in
        [(Target::Credential, 1), (Target::Credential, 2), (Target::Nothing, 1), (Target::Vault, 1)]
    {
        is_safe(Setting { target, slots, replicas: 5, crashes: 5, rotations: 4, ..WHOLE });
    }
}
