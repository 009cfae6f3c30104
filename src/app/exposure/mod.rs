//! Looks for the values in hand where they must not be: in the arguments and the environments of permitted processes, and in files that
//! the config names. Says what was seen as events, and what could not be looked at too.
//!
//! The attestor opens what the agent's own sandbox would not let it open. Does not judge: `report` does.

mod search;
mod text;

use crate::{
    access::Access,
    audit::event::{Event, ExposureRef, Outcome, Resource, Type},
    broker::scrub::Masks,
    clock,
    keeper::{
        Keeper,
        worth::{Worth, Worths},
    },
    name::WorkloadName,
    peer::{attestor::Attestor, program::Refusal, roster::Admitted},
    report::exposure::Settings,
};
use search::{Found, Needle, Process, Seen, search};
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};

/// How long one look may take: files may lie where somebody else decides that.
const LIMIT: Duration = Duration::from_secs(30);
/// Places of one look that are events of their own.
const FOUND: usize = 100;
/// What could not be looked at is told of so many.
const UNSEEN: usize = 40;

/// Who looks. Clones are the same.
#[derive(Clone)]
pub(super) struct Looker(Arc<Inner>);

struct Inner {
    keeper: Keeper,
    attestor: Option<Attestor>,
    workloads: Vec<(WorkloadName, Weak<Access>)>,
    /// A look that takes for ever is the last one.
    is_busy: Arc<AtomicBool>,
    /// Processes may have been admitted before anybody wanted to know.
    is_late: AtomicBool,
}

impl Looker {
    pub(super) fn new(
        keeper: Keeper,
        attestor: Option<Attestor>,
        workloads: Vec<(WorkloadName, Weak<Access>)>,
    ) -> Self {
        let (is_busy, is_late) = (Arc::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { keeper, attestor, workloads, is_busy, is_late }))
    }

    /// Has processes held from now on, or no longer.
    pub(super) fn set(&self, settings: Option<&Settings>) {
        let looks = settings.is_some_and(|settings| settings.has_processes);
        for access in self.0.workloads.iter().filter_map(|(_, access)| access.upgrade()) {
            if looks && !access.roster().is_on() {
                self.0.is_late.store(true, Ordering::Relaxed);
            }
            if looks != access.roster().is_on() {
                access.roster().set(looks);
            }
        }
    }

    /// Looks once: an event for each place, and one for the look as a whole.
    pub(super) async fn look(&self, settings: &Settings) -> Vec<Event> {
        let Worths { all, short, missing } = self.0.keeper.worths();
        let mut seen = Seen::default();
        seen.unseen.extend(
            short.iter().map(|name| format!("secrets.{name}: shorter than 16 bytes, so found anywhere")),
        );
        seen.unseen.extend(missing.iter().map(|name| format!("secrets.{name}: no value is in hand")));
        let processes =
            if settings.has_processes { self.processes(&mut seen.unseen).await } else { Vec::new() };
        let needles = all.into_iter().map(needle).collect();
        match self.0.search(needles, processes, settings.clone()).await {
            Some(found) => {
                (seen.found, seen.processes, seen.files) = (found.found, found.processes, found.files);
                seen.unseen.extend(found.unseen);
            }
            None => seen.unseen.push(format!("anything: a look takes longer than {} s", LIMIT.as_secs())),
        }
        events(seen)
    }

    /// The processes that were admitted and live, as far as they may be looked into.
    async fn processes(&self, unseen: &mut Vec<String>) -> Vec<Process> {
        if self.0.is_late.load(Ordering::Relaxed) {
            unseen.push("processes that connected before report.exposure stood in the config, until they connect again".to_owned());
        }
        let Some(attestor) = &self.0.attestor else {
            unseen.push("processes: there is no attestor; restart the agent".to_owned());
            return Vec::new();
        };
        let mut opened = Vec::new();
        for (workload, access) in &self.0.workloads {
            let Some(access) = access.upgrade() else { continue };
            let Admitted { processes, left_out, unnamed } = access.roster().admitted();
            for (count, what) in [
                (unnamed, "peers are not known as processes: peer.level process names them"),
                (left_out, "processes beyond those that are held at a time"),
            ] {
                if count > 0 {
                    unseen.push(format!("workload {workload}: {count} {what}"));
                }
            }
            for (process, pid) in processes {
                match attestor.open(&process).await {
                    Ok(texts) => opened.push(Process { workload: workload.clone(), pid, opened: texts }),
                    // There is nothing of it any more.
                    Err(Refusal::PeerExited) => {}
                    Err(refusal) => {
                        let which =
                            pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
                        unseen.push(format!("{which} of workload {workload}: {}", why(refusal)));
                    }
                }
            }
        }
        opened
    }
}

impl Inner {
    async fn search(
        &self,
        needles: Vec<Needle>,
        processes: Vec<Process>,
        settings: Settings,
    ) -> Option<Seen> {
        if self.is_busy.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (told, seen) = oneshot::channel();
        let is_busy = Arc::clone(&self.is_busy);
        let work = move || {
            let found = search(&needles, processes, &settings);
            is_busy.store(false, Ordering::Relaxed);
            // Nobody may wait any more.
            let _ = told.send(found);
        };
        if thread::Builder::new().name("exposure".to_owned()).spawn(work).is_err() {
            self.is_busy.store(false, Ordering::Relaxed);
            return None;
        }
        timeout(LIMIT, seen).await.ok()?.ok()
    }
}

fn why(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::PidNotVisible => {
            "its PID namespace hides it: share it (shareProcessNamespace) or look from beside it"
        }
        Refusal::Timeout => "it could not be looked into within 250 ms",
        _ => "the attestor could not look into it",
    }
}

fn needle(worth: Worth) -> Needle {
    let Worth { value, field, bytes } = worth;
    Needle { masks: Masks::of(&[&bytes]), value, field }
}

fn events(seen: Seen) -> Vec<Event> {
    let Seen { found, processes, files, mut unseen } = seen;
    if found.len() > FOUND {
        unseen.push(format!("{} more places where values were seen", found.len().saturating_sub(FOUND)));
    }
    let more = unseen.len().saturating_sub(UNSEEN);
    if more > 0 {
        unseen.truncate(UNSEEN);
        unseen.push(format!("and {more} more"));
    }
    let whole =
        ExposureRef { processes: Some(processes), files: Some(files), unseen, ..ExposureRef::default() };
    let whole = Event {
        exposure: Some(Box::new(whole)),
        ..Event::new(Type::ExposureLooked, Outcome::Allow, clock::now())
    };
    found.into_iter().take(FOUND).map(event).chain([whole]).collect()
}

fn event(found: Found) -> Event {
    let Found { value, field, workload, place, exe, pid, spot } = found;
    let exposure = ExposureRef {
        place: Some(place),
        exe,
        pid: pid.and_then(|pid| u64::try_from(pid).ok()),
        name: spot.name,
        number: spot.number,
        form: Some(spot.form.word()),
        ..ExposureRef::default()
    };
    let resource = Resource {
        secret: Some(value.name().clone()),
        kind: Some(value.kind()),
        mount: value.mount().map(str::to_owned),
        path: value.path().map(str::to_owned),
        field,
        version: Some(value.generation()),
        fingerprint: value.fingerprint().map(str::to_owned),
        ..Resource::default()
    };
    Event {
        workload,
        resource: Some(resource),
        exposure: Some(Box::new(exposure)),
        ..Event::new(Type::ExposureFound, Outcome::Allow, clock::now())
    }
}
