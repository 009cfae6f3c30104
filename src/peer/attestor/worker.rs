//! The attestor's worker: takes requests from the agent, looks, answers.
//!
//! Several threads, each of which takes a request and does it, so that a process which makes one of them wait (its files may lie
//! where it decides how long a look takes) does not make the others wait. Ends when the agent has ended, or when all threads
//! have waited for too long: then it is started anew, and holds nothing.

use super::{
    digest::{self, Cache, Stamp, Worth},
    harden,
    image::{self, Candidate, Permitted},
    open,
    wire::{Answer, Depth, Id, LONGEST, Request},
};
use crate::{
    clock,
    crypto::Hash,
    peer::{kernel, program::Refusal},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{MsgFlags, send},
    },
};
use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How many requests are done at a time.
const THREADS: usize = 8;
/// How many files are hashed at a time.
const HASHERS: usize = 2;
/// The most files that wait to be hashed, and the most processes that wait for one.
const QUEUE: usize = 64;
/// The most processes that are held.
const MOST: u64 = 1024;
/// Descriptors a held process takes: its pidfd, four files of `/proc`, and one for its executable while that is hashed.
const DESCRIPTORS: u64 = 6;
/// After how long without a step a thread is taken for stuck.
const STUCK: Duration = Duration::from_secs(5);
/// How often that is looked at, in milliseconds.
const WATCH: u16 = 500;

struct Worker {
    socket: OwnedFd,
    /// Whoever holds it takes the next request, without waiting. So each request is known to `held` before the one after it.
    turn: Mutex<Box<[u8]>>,
    held: Mutex<HashMap<Id, Slot>>,
    most: usize,
    hashing: Mutex<Hashing>,
    hashable: Condvar,
    /// When each thread took its last step, if it is not idle.
    steps: Mutex<HashMap<usize, Instant>>,
    failed: AtomicBool,
}

/// What a thread that serves finds.
enum Next {
    Request(Request, Option<OwnedFd>),
    Nothing,
    /// The agent has ended.
    Ended,
}

enum Slot {
    /// It is being looked at.
    Pending,
    Permitted(Arc<Permitted>),
}

#[derive(Default)]
struct Hashing {
    cache: Cache,
    /// Who waits for which file; the first of them needs nobody else's word.
    waiting: HashMap<Stamp, Vec<(Id, Candidate)>>,
    queue: VecDeque<(Stamp, File)>,
}

/// Which file is hashed next. Strangers may have many large ones hashed: by the one order a small one does not wait for them, by
/// the other none waits forever.
#[derive(Clone, Copy)]
enum Order {
    Smallest,
    Oldest,
}

impl Hashing {
    fn next(&mut self, order: Order) -> Option<(Stamp, File)> {
        let at = match order {
            Order::Oldest => 0,
            Order::Smallest => {
                let sizes = self.queue.iter().map(|(stamp, _)| stamp.size());
                sizes.enumerate().min_by_key(|(_, size)| *size)?.0
            }
        };
        self.queue.remove(at)
    }

    /// Whether one more may wait for this file, if need be in the place of a larger one: then those who waited for that.
    fn make_room(&mut self, stamp: &Stamp) -> Option<Vec<(Id, Candidate)>> {
        let waiting: usize = self.waiting.values().map(Vec::len).sum();
        let asked = self.waiting.contains_key(stamp);
        if waiting < QUEUE && (asked || self.queue.len() < QUEUE) {
            return Some(Vec::new());
        }
        let sizes = self.queue.iter().map(|(queued, _)| queued.size());
        let (at, _) =
            sizes.enumerate().max_by_key(|(_, size)| *size).filter(|(_, size)| *size > stamp.size())?;
        let (larger, _) = self.queue.remove(at)?;
        Some(self.waiting.remove(&larger).unwrap_or_default())
    }
}

/// Serves the agent at the other end of `socket` until it ends.
///
/// # Errors
/// Why it could not be begun: it is not begun unhardened.
pub(super) fn run(socket: OwnedFd) -> io::Result<()> {
    let descriptors = harden::raise_descriptors()?;
    if std::fs::read_link("/proc/self")?.to_str() != Some(&std::process::id().to_string()) {
        return Err(io::Error::other("/proc is another PID namespace's"));
    }
    harden::confine()?;
    let most = (descriptors.saturating_sub(64) / DESCRIPTORS).min(MOST);
    let worker = Arc::new(Worker {
        socket,
        turn: Mutex::new(vec![0; LONGEST].into()),
        held: Mutex::default(),
        most: usize::try_from(most).unwrap_or(0),
        hashing: Mutex::default(),
        hashable: Condvar::new(),
        steps: Mutex::default(),
        failed: AtomicBool::new(false),
    });
    for number in 0..THREADS + HASHERS {
        let worker = Arc::clone(&worker);
        let work = move || {
            // A panic unwinds through this.
            let _ended = Ended(&worker.failed);
            if number < THREADS { worker.serve(number) } else { worker.hash(number) }
        };
        // Whoever returns from here ends the process and all its threads.
        drop(thread::Builder::new().stack_size(512 << 10).spawn(work)?);
    }
    worker.watch();
    Ok(())
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Worker {
    /// Waits until the agent, or a thread of ours, has ended or is stuck.
    fn watch(&self) {
        loop {
            // Without events asked for, this is about the other end only.
            let mut asked = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
            let ended = !matches!(poll(&mut asked, PollTimeout::from(WATCH)), Ok(0) | Err(nix::Error::EINTR));
            if ended || self.is_stuck() || self.failed.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Whether no thread is left that could take a request, or hash.
    fn is_stuck(&self) -> bool {
        let steps = lock(&self.steps);
        let stuck = steps.iter().filter(|(_, step)| step.elapsed() > STUCK).map(|(thread, _)| *thread);
        let (serving, hashing): (Vec<_>, Vec<_>) = stuck.partition(|thread| *thread < THREADS);
        serving.len() == THREADS || hashing.len() == HASHERS
    }

    fn step(&self, thread: usize) {
        lock(&self.steps).insert(thread, Instant::now());
    }

    fn rest(&self, thread: usize) {
        lock(&self.steps).remove(&thread);
    }

    fn serve(&self, thread: usize) {
        // One each, of which a packet wakes one that waits (EPOLLEXCLUSIVE): the others sleep on.
        let Ok(waiting) = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC) else { return };
        let wanted = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, 0);
        if waiting.add(self.socket.as_fd(), wanted).is_err() {
            return;
        }
        loop {
            match self.next() {
                Next::Request(request, passed) => {
                    self.step(thread);
                    self.answer(request, passed);
                    self.rest(thread);
                }
                Next::Nothing => match waiting.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE) {
                    Ok(_) | Err(nix::Error::EINTR) => {}
                    Err(_) => return,
                },
                Next::Ended => return,
            }
        }
    }

    /// What the agent asks next, with what was passed. Does not wait.
    fn next(&self) -> Next {
        let mut room = lock(&self.turn);
        loop {
            let (length, passed) = match kernel::receive_passed(self.socket.as_fd(), &mut room) {
                Ok((0, _)) => return Next::Ended,
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // One that did not fit is not answered.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                Err(_) => return Next::Ended,
            };
            match room.get(..length).and_then(Request::decode) {
                Some(Request::Drop(ids)) => {
                    let mut held = lock(&self.held);
                    let dropped: Vec<_> = ids.iter().filter_map(|id| held.remove(id)).collect();
                    drop(held);
                    drop(dropped);
                }
                Some(Request::Pin(id, settings)) => {
                    let mut held = lock(&self.held);
                    if held.len() < self.most {
                        held.insert(id, Slot::Pending);
                        return Next::Request(Request::Pin(id, settings), passed.into_iter().next());
                    }
                    drop(held);
                    self.send(id, Err(Refusal::AttestorFailed));
                }
                Some(request) => return Next::Request(request, passed.into_iter().next()),
                None => {}
            }
        }
    }

    fn answer(&self, request: Request, passed: Option<OwnedFd>) {
        match (request, passed) {
            (Request::Pin(id, settings), Some(pidfd)) => match Candidate::new(pidfd, settings) {
                Ok(candidate) => self.digest(id, candidate),
                Err(refusal) => self.settle(id, Err(refusal)),
            },
            (Request::Again(id, image, depth), _) => self.send(id, self.again(image, depth)),
            (Request::MountNamespace(id), Some(pidfd)) => self.send(id, image::mount_namespace(&pidfd)),
            (Request::Open(id), Some(pidfd)) => self.open(id, &pidfd),
            (Request::Pin(id, _), None) => self.settle(id, Err(Refusal::AttestorFailed)),
            (Request::MountNamespace(id) | Request::Open(id), None) => {
                self.send(id, Err(Refusal::AttestorFailed));
            }
            (Request::Drop(_), _) => {}
        }
    }

    fn again(&self, image: Id, depth: Depth) -> Result<u64, Refusal> {
        let permitted = match lock(&self.held).get(&image) {
            Some(Slot::Permitted(permitted)) => Arc::clone(permitted),
            Some(Slot::Pending) | None => return Err(Refusal::AttestorFailed),
        };
        permitted.check(depth).map(|()| 0)
    }

    /// Judges a candidate whose digest is known, or has it hashed by a thread that does nothing else.
    fn digest(&self, id: Id, candidate: Candidate) {
        let stamp = candidate.stamp.clone();
        let mut hashing = lock(&self.hashing);
        if let Some(digest) = hashing.cache.find(&stamp, Instant::now()) {
            drop(hashing);
            return self.settle(id, candidate.judge(digest));
        }
        let Some(displaced) = hashing.make_room(&stamp) else {
            drop(hashing);
            return self.settle(id, Err(Refusal::Timeout));
        };
        let asked = hashing.waiting.contains_key(&stamp);
        match candidate.executable.try_clone() {
            Ok(file) => {
                if !asked {
                    hashing.queue.push_back((stamp.clone(), file));
                }
                hashing.waiting.entry(stamp).or_default().push((id, candidate));
                drop(hashing);
                self.hashable.notify_one();
            }
            Err(_) => {
                drop(hashing);
                self.settle(id, Err(Refusal::AttestorFailed));
            }
        }
        for (id, _) in displaced {
            self.settle(id, Err(Refusal::Timeout));
        }
    }

    /// Keeps or forgets a process, and says so, unless nobody wants to know any more.
    fn settle(&self, id: Id, judged: Result<Permitted, Refusal>) {
        let mut held = lock(&self.held);
        let Some(slot) = held.get_mut(&id) else { return };
        let answer = match judged {
            Ok(permitted) => {
                let which = permitted.which();
                *slot = Slot::Permitted(Arc::new(permitted));
                Ok(which)
            }
            Err(refusal) => {
                held.remove(&id);
                Err(refusal)
            }
        };
        drop(held);
        self.send(id, answer);
    }

    fn hash(&self, thread: usize) {
        let order = if thread == THREADS { Order::Smallest } else { Order::Oldest };
        loop {
            let mut hashing = lock(&self.hashing);
            let (stamp, file) = loop {
                match hashing.next(order) {
                    Some(next) => break next,
                    None => hashing = self.hashable.wait(hashing).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(hashing);
            self.step(thread);
            // As of before the first byte is read.
            let settled = stamp.is_settled(clock::now());
            let digest = digest::hash(&file, &stamp, || self.step(thread));
            self.hashed(&stamp, settled, digest, thread);
            self.rest(thread);
        }
    }

    /// Remembers a digest and judges those who waited for it. Of a file that changed too recently, the digest is good for the
    /// first of them only: another may execute what it was changed into.
    fn hashed(&self, stamp: &Stamp, settled: bool, digest: Result<Hash, Refusal>, thread: usize) {
        let mut hashing = lock(&self.hashing);
        let mut waiting = hashing.waiting.remove(stamp).unwrap_or_default();
        match digest {
            Ok(digest) if settled => {
                let permits = waiting.iter().any(|(_, one)| one.settings.exe_sha256.contains(&digest));
                let worth = if permits { Worth::Permitted } else { Worth::Other };
                hashing.cache.keep(stamp.clone(), digest, worth, Instant::now());
            }
            Ok(_) if waiting.len() > 1 => {
                let others = waiting.split_off(1);
                if let Some(Ok(file)) = others.first().map(|(_, one)| one.executable.try_clone()) {
                    hashing.queue.push_back((stamp.clone(), file));
                    hashing.waiting.insert(stamp.clone(), others);
                    self.hashable.notify_one();
                }
            }
            _ => {}
        }
        drop(hashing);
        for (id, candidate) in waiting {
            self.step(thread);
            match digest {
                Ok(digest) => self.settle(id, candidate.check().and_then(|()| candidate.judge(digest))),
                Err(refusal) => self.settle(id, Err(refusal)),
            }
        }
    }

    fn open(&self, id: Id, pidfd: &OwnedFd) {
        match open::open(pidfd) {
            Ok((bits, opened)) => {
                open::send(self.socket.as_fd(), &Answer::To(id, Ok(bits)).encode(), &opened);
            }
            Err(refusal) => self.send(id, Err(refusal)),
        }
    }

    fn send(&self, id: Id, answer: Result<u64, Refusal>) {
        // If the agent is gone, `watch` sees it.
        let _ = send(self.socket.as_raw_fd(), &Answer::To(id, answer).encode(), MsgFlags::MSG_NOSIGNAL);
    }
}

/// No value behind these locks is left half changed by a panic; and after one the process ends anyway.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of files of these sizes.
    fn queue(sizes: impl IntoIterator<Item = u64>) -> Hashing {
        let mut hashing = Hashing::default();
        for size in sizes {
            let file = tempfile::tempfile().unwrap();
            file.set_len(size).unwrap();
            let stamp = Stamp::of(&file.metadata().unwrap());
            hashing.waiting.insert(stamp.clone(), Vec::new());
            hashing.queue.push_back((stamp, file));
        }
        hashing
    }

    fn sizes(hashing: &Hashing) -> Vec<u64> {
        hashing.queue.iter().map(|(stamp, _)| stamp.size()).collect()
    }

    #[test]
    fn a_small_file_waits_for_no_large_one_and_a_large_one_not_forever() {
        let mut hashing = queue([5, 3, 9, 3]);
        let mut next = |order| hashing.next(order).map(|(stamp, _)| stamp.size());
        assert_eq!(next(Order::Smallest), Some(3));
        assert_eq!(next(Order::Oldest), Some(5));
        assert_eq!(next(Order::Smallest), Some(3));
        assert_eq!(next(Order::Smallest), Some(9));
        assert_eq!((next(Order::Smallest), next(Order::Oldest)), (None, None));
    }

    #[test]
    fn where_there_is_no_room_a_smaller_file_takes_the_place_of_the_largest() {
        let most = u64::try_from(QUEUE).unwrap();
        let stamp = |size| queue([size]).queue.pop_front().unwrap().0;
        let mut hashing = queue(1..most);
        assert!(hashing.make_room(&stamp(1000)).is_some(), "there is room");
        assert_eq!(sizes(&hashing).len() as u64, most - 1);
        let mut hashing = queue(1..=most);
        assert!(hashing.make_room(&stamp(most)).is_none(), "as large is not smaller");
        assert_eq!(sizes(&hashing).len() as u64, most);
        assert!(hashing.make_room(&stamp(2)).is_some());
        assert_eq!(sizes(&hashing), (1..most).collect::<Vec<_>>());
        assert_eq!(hashing.waiting.len() as u64, most - 1);
    }
}
