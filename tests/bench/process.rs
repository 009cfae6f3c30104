//! A process that is measured: on which core it runs, how much memory and processor time it takes.
//!
//! Reads /proc and calls `taskset` (util-linux); without it, or with one core only, nothing is pinned and the table says so.

use super::Outcome;
use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Waits. The one place of the bench that does.
#[expect(clippy::disallowed_methods, reason = "the bench has a thread of its own and no runtime")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Which core the measured process has to itself, and which one everything else has.
pub(super) struct Cores(Option<(u32, u32)>);

impl Cores {
    /// The first two that this process may use.
    pub(super) fn choose() -> Outcome<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let allowed: Vec<u32> = field(&status, "Cpus_allowed_list").map(ranges).unwrap_or_default();
        let taskset = Command::new("taskset").arg("--version").stdout(Stdio::null()).status();
        match allowed.as_slice() {
            [measured, other, ..] if taskset.is_ok_and(|status| status.success()) => {
                Ok(Self(Some((*measured, *other))))
            }
            _ => Ok(Self(None)),
        }
    }

    /// A command that runs on the measured core.
    pub(super) fn measured(&self, program: &Path) -> Command {
        let Some((measured, _)) = self.0 else { return Command::new(program) };
        let mut command = Command::new("taskset");
        command.args(["-c", &measured.to_string()]).arg(program);
        command
    }

    /// Moves a process, with all its threads, to the other core.
    pub(super) fn put_load(&self, pid: u32) -> Outcome<()> {
        let Some((_, other)) = self.0 else { return Ok(()) };
        let arguments = ["-a", "-p", "-c", &other.to_string(), &pid.to_string()];
        let status = Command::new("taskset").args(arguments).stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err("taskset could not move a process".into()) }
    }

    pub(super) fn describe(&self) -> String {
        match self.0 {
            Some((measured, other)) => {
                format!("measured process on core {measured}, load and Vault on core {other}")
            }
            None => "nothing pinned: no taskset, or one core only".to_owned(),
        }
    }
}

fn ranges(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.trim().parse().ok().zip(last.trim().parse().ok())
    };
    list.split(',').filter_map(range).flat_map(|(first, last): (u32, u32)| first..=last).collect()
}

/// The rest of the line that starts with `name:`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Resident memory in bytes.
pub(super) struct Rss {
    /// All of it, the program's own file included.
    pub(super) all: u64,
    /// What is of no file.
    pub(super) anonymous: u64,
}

/// A process of ours. Dropping it ends it.
pub(super) struct Process(Child);

impl Process {
    /// Its stdout goes nowhere: the copy of each event there is read and thrown away by somebody else, as a container's
    /// runtime does, and must not write to the disk below the journal.
    pub(super) fn start(mut command: Command, log: &Path) -> Outcome<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(log)?);
        Ok(Self(command.spawn()?))
    }

    /// Waits until `done` gives something; asks again at once at first, so that what it measures is not rounded up.
    pub(super) fn wait_for<T>(&mut self, what: &str, mut done: impl FnMut() -> Option<T>) -> Outcome<T> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            if let Some(found) = done() {
                return Ok(found);
            }
            if let Some(status) = self.0.try_wait()? {
                return Err(format!("{what}: the process ended, {status}").into());
            }
            pause(Duration::from_micros(200));
        }
        Err(format!("{what}: not within 30 s").into())
    }

    pub(super) fn rss(&self) -> Outcome<Rss> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let bytes = |name: &str| {
            let kib = field(&status, name).and_then(|text| text.trim_end_matches(" kB").parse().ok());
            kib.map(|kib: u64| kib * 1024).ok_or_else(|| format!("no {name} in /proc/PID/status"))
        };
        Ok(Rss { all: bytes("VmRSS")?, anonymous: bytes("RssAnon")? })
    }

    /// Processor time so far, user and system, of all its threads, and of the processes that it has started and that live.
    pub(super) fn cpu(&self) -> Outcome<Duration> {
        let (mut sum, mut processes) = (0, vec![self.0.id()]);
        while let Some(process) = processes.pop() {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?.path();
                let read = |name: &str| match fs::read_to_string(thread.join(name)) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
                    other => other,
                };
                let text = read("schedstat")?;
                sum += text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0_u64);
                processes
                    .extend(read("children")?.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Waits until it has fewer than so many descriptors open.
    pub(super) fn wait_for_descriptors(&self, fewer_than: usize) -> Outcome<()> {
        let started = Instant::now();
        let open = || -> io::Result<usize> { Ok(fs::read_dir(format!("/proc/{}/fd", self.0.id()))?.count()) };
        while open()? >= fewer_than {
            if started.elapsed() > Duration::from_secs(20) {
                return Err("connections stay open in the agent".into());
            }
            pause(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).map(nix::unistd::Pid::from_raw);
        if let Ok(pid) = pid {
            // One that has ended already needs no signal.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(5) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            pause(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
