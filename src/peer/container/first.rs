//! The container that used a workload's socket first: as long as one of its processes lives, no other container may.
//!
//! Does not find out which container a process is in, and writes no event. Knows the processes that connected, not their
//! children: a container of which only such a child is left is one that has ended.

use super::Container;
use crate::peer::{
    Cause,
    process::{Process, ProcessId},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// So many processes are looked at before the dead ones are first sorted out.
const FEW: usize = 16;

/// Which container uses one workload's socket; shared by its connections.
#[derive(Debug)]
pub struct Containers {
    most: usize,
    held: Mutex<Option<Held>>,
}

/// How a process was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// Its container is the first that uses the socket.
    First,
    /// Its container is the one that uses the socket.
    Same,
    /// Every process of the container before has ended, and this one's has taken its place: write `peer.repinned`.
    Anew {
        /// Whose the socket was.
        before: Container,
        /// Whose it is.
        now: Container,
    },
}

/// Says whether a process lives. What is not known counts as living: that keeps others out.
type Lives = Box<dyn Fn() -> bool + Send>;

struct Held {
    container: Container,
    /// By the process's own id, which is never used again; a PID is.
    processes: BTreeMap<ProcessId, Lives>,
    /// At so many the dead ones are sorted out.
    full: usize,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("container", &self.container.id())
            .field("processes", &self.processes.len())
            .finish_non_exhaustive()
    }
}

impl Default for Containers {
    fn default() -> Self {
        Self::new(Self::MOST)
    }
}

impl Containers {
    /// How many living processes are told apart, if nothing else is said. Each costs a descriptor until it ends, whether it is
    /// still connected or not.
    pub const MOST: usize = 4096;

    /// Nobody has used the socket yet. At most so many living processes will be told apart.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), held: Mutex::default() }
    }

    /// Takes in a process of `container`. To be asked last, when everything else that is required of the peer holds: a peer
    /// that is refused for something else must not keep others out. Asked again of a process that is in, it says whether it
    /// still may be.
    ///
    /// # Errors
    /// [`Cause::Container`] while a process of another container lives; [`Cause::Exited`]; [`Cause::Crowded`].
    pub fn admit(&self, container: &Container, process: &Process) -> Result<Pinned, Cause> {
        self.take_in(container, process.id(), lives(process))
    }

    /// The container that uses the socket, if this process was taken in for it: whether it still is in it is to be asked of
    /// [`Container::check_holds`].
    #[must_use]
    pub fn known(&self, process: &Process) -> Option<Container> {
        let held = self.lock();
        let held = held.as_ref().filter(|held| held.processes.contains_key(&process.id()))?;
        Some(held.container.clone())
    }

    /// Takes in a process of the container that uses the socket, and says whether `container` is that one. Nobody is kept out
    /// by this who was not before.
    ///
    /// # Errors
    /// [`Cause::Exited`]; [`Cause::Crowded`].
    pub fn join(&self, container: &Container, process: &Process) -> Result<bool, Cause> {
        let mut held = self.lock();
        let Some(held) = held.as_mut().filter(|held| held.container == *container) else { return Ok(false) };
        let lives = lives(process);
        if !lives() {
            return Err(Cause::Exited);
        }
        held.join(process.id(), Box::new(lives), self.most).map(|()| true)
    }

    fn take_in(
        &self,
        container: &Container,
        id: ProcessId,
        lives: impl Fn() -> bool + Send + 'static,
    ) -> Result<Pinned, Cause> {
        let mut held = self.lock();
        // Under the lock: whoever comes next finds a process that lived when it was taken in.
        if !lives() {
            return Err(Cause::Exited);
        }
        if let Some(held) = held.as_mut() {
            if held.container == *container {
                return held.join(id, Box::new(lives), self.most).map(|()| Pinned::Same);
            }
            if held.lives() {
                return Err(Cause::Container);
            }
        }
        let mut now = Held { container: container.clone(), processes: BTreeMap::new(), full: FEW };
        now.join(id, Box::new(lives), self.most)?;
        Ok(match held.replace(now) {
            Some(before) => Pinned::Anew { before: before.container, now: container.clone() },
            None => Pinned::First,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lives(process: &Process) -> impl Fn() -> bool + Send + 'static {
    let held = process.clone();
    move || !matches!(held.check_alive(), Err(Cause::Exited))
}

impl Held {
    /// Whether any process lives. The dead ones that are met on the way are forgotten, so that many of them cost once.
    fn lives(&mut self) -> bool {
        while let Some(entry) = self.processes.first_entry() {
            if entry.get()() {
                return true;
            }
            drop(entry.remove());
        }
        false
    }

    fn join(&mut self, id: ProcessId, lives: Lives, most: usize) -> Result<(), Cause> {
        if self.processes.contains_key(&id) {
            return Ok(());
        }
        if self.processes.len() >= self.full.min(most) {
            self.processes.retain(|_, lives| lives());
            // Twice as many: the work is shared out among those who cause it.
            self.full = (self.processes.len() * 2).max(FEW);
        }
        if self.processes.len() >= most {
            return Err(Cause::Crowded);
        }
        self.processes.insert(id, lives);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::container::ContainerId;
    use std::{
        collections::BTreeSet,
        sync::{Arc, Barrier},
    };

    fn cgroup(id: u64) -> Container {
        Container { id: ContainerId::Cgroup(id), places: Some(format!("0::/{id}\n").into()) }
    }

    fn hidden(id: u64) -> Container {
        Container { id: ContainerId::MountNamespace(id), places: None }
    }

    /// Processes that are dead, by number: all others live.
    type Dead = Arc<Mutex<BTreeSet<u64>>>;

    fn come(board: &Containers, dead: &Dead, container: &Container, process: u64) -> String {
        let dead = Arc::clone(dead);
        let lives = move || !dead.lock().unwrap().contains(&process);
        match board.take_in(container, ProcessId::for_test(process), lives) {
            Ok(Pinned::First) => "first".to_owned(),
            Ok(Pinned::Same) => "same".to_owned(),
            Ok(Pinned::Anew { before, now }) => format!("{}, then {}", before.id(), now.id()),
            Err(cause) => format!("{cause:?}"),
        }
    }

    enum Step {
        Comes(Container, u64, &'static str),
        Dies(u64),
    }
    use Step::{Comes, Dies};

    #[track_caller]
    fn check(most: usize, steps: Vec<Step>) {
        let (board, dead) = (Containers::new(most), Dead::default());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Comes(container, process, expected) => {
                    assert_eq!(come(&board, &dead, &container, process), expected, "step {number}");
                }
                Dies(process) => drop(dead.lock().unwrap().insert(process)),
            }
        }
    }

    #[test]
    fn no_other_container_comes_in_while_a_process_of_the_first_lives() {
        check(
            100,
            vec![
                Comes(cgroup(7), 1, "first"),
                Comes(cgroup(7), 2, "same"),
                Comes(cgroup(8), 3, "Container"),
                Comes(hidden(7), 4, "Container"),
                // It came again, over another connection: it is one process all the same.
                Comes(cgroup(7), 2, "same"),
                Dies(1),
                Comes(cgroup(8), 3, "Container"),
                Dies(2),
                Comes(cgroup(8), 3, "cgroup 7, then cgroup 8"),
                // Who was kept out before is no longer, and the other way round.
                Comes(cgroup(7), 5, "Container"),
                Comes(cgroup(8), 6, "same"),
                Comes(cgroup(8), 3, "same"),
            ],
        );
    }

    #[test]
    fn a_container_that_was_started_again_is_taken_in_once_all_of_the_old_one_is_dead() {
        check(
            100,
            vec![
                Comes(hidden(70), 1, "first"),
                Dies(1),
                Comes(hidden(71), 2, "mount namespace 70, then mount namespace 71"),
                Dies(2),
                // Idle, and the same container again: nothing has changed.
                Comes(hidden(71), 3, "same"),
                Comes(hidden(70), 4, "Container"),
            ],
        );
    }

    #[test]
    fn a_process_that_is_dead_takes_no_place() {
        check(
            100,
            vec![
                Dies(1),
                Comes(cgroup(7), 1, "Exited"),
                Comes(cgroup(8), 2, "first"),
                Dies(2),
                Comes(cgroup(8), 2, "Exited"),
            ],
        );
    }

    #[test]
    fn a_process_that_was_moved_is_refused_by_the_pin_that_it_holds_itself() {
        check(100, vec![Comes(cgroup(7), 1, "first"), Comes(cgroup(8), 1, "Container")]);
    }

    #[test]
    fn one_cgroup_in_another_place_of_another_hierarchy_is_another_container() {
        let elsewhere = Container { places: Some("4:memory:/x\n0::/7\n".into()), ..cgroup(7) };
        check(100, vec![Comes(cgroup(7), 1, "first"), Comes(elsewhere, 2, "Container")]);
    }

    #[test]
    fn no_process_is_forgotten_for_lack_of_room() {
        check(
            2,
            vec![
                Comes(cgroup(7), 1, "first"),
                Comes(cgroup(7), 2, "same"),
                Comes(cgroup(7), 3, "Crowded"),
                Comes(cgroup(7), 2, "same"),
                Comes(cgroup(8), 4, "Container"),
                Dies(1),
                Comes(cgroup(7), 3, "same"),
                Dies(2),
                Comes(cgroup(8), 4, "Container"),
            ],
        );
    }

    #[test]
    fn the_dead_are_sorted_out_and_give_back_what_they_cost() {
        let (board, dead) = (Containers::default(), Dead::default());
        for process in 0..10_000 {
            come(&board, &dead, &cgroup(7), process);
            // The first one stays.
            if process > 0 {
                dead.lock().unwrap().insert(process);
            }
            let held = board.lock().as_ref().unwrap().processes.len();
            assert!(held <= FEW + 1, "{held}");
        }
    }

    #[test]
    fn of_two_who_come_first_at_once_one_is() {
        for _ in 0..100 {
            let (board, dead, together) = (Containers::default(), Dead::default(), Barrier::new(2));
            let mut told = std::thread::scope(|scope| {
                let come = |id| {
                    let (board, dead, together) = (&board, &dead, &together);
                    scope.spawn(move || {
                        together.wait();
                        come(board, dead, &cgroup(id), id)
                    })
                };
                [come(7), come(8)].map(|thread| thread.join().unwrap())
            });
            told.sort();
            assert_eq!(told, ["Container", "first"]);
        }
    }
}
