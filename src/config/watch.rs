//! Says when the content of a file has changed. Watches directories, since Kubernetes swaps a symlink there (`..data`) and a
//! watch on the file itself is blind from the second swap on.
//!
//! Does not judge the content: who waits reads the file anew. Events only hasten the look that happens every minute anyway.

use crate::crypto::{Hash, sha256};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::{
    collections::BTreeSet,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

/// How long a directory must be quiet before its files are read: a swap is several events.
const QUIET: Duration = Duration::from_millis(250);
/// The longest that a restless directory can put off the look.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the files are read without any event.
const POLL: Duration = Duration::from_secs(60);
/// How much of a file counts.
const CAP: u64 = 1024 * 1024;

/// The hash of what was last seen; `None`: there was nothing to read.
type Seen = Option<Hash>;

/// Watches the content of some files. They need not exist.
#[derive(Debug)]
pub struct Watch {
    files: Vec<(PathBuf, Seen)>,
    directories: BTreeSet<PathBuf>,
    // Without one (no inotify instance left), the look of every minute remains.
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
    // When the event came whose look is still to be made. Here, so that a caller who gives up waiting loses neither this
    // nor the time of the next poll, and cannot put off the look by asking again.
    stirred: Option<Instant>,
    poll: Instant,
}

impl Watch {
    /// Starts from the content of now. Needs a tokio runtime only from [`Watch::changed`] on.
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let files: Vec<PathBuf> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        // One place is enough: a waiting event says all that ten would.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
                // Full means that a look is due already.
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "no file events: changes are seen within a minute");
        });
        let directories = files.iter().map(|path| directory(path).to_owned()).collect();
        let mut watch = Self {
            files: Vec::new(),
            directories,
            watcher: watcher.ok(),
            events,
            stirred: None,
            poll: Instant::now() + POLL,
        };
        watch.attach();
        // Read after the watch stands, so that no change falls between the two.
        watch.files = files.into_iter().map(|path| (path.clone(), hash(&path))).collect();
        watch
    }

    /// Watches these files from now on. What was seen of one that stays still counts: it may have changed since.
    pub fn follow<P: AsRef<Path>>(&mut self, paths: impl IntoIterator<Item = P>) {
        let seen = std::mem::take(&mut self.files);
        let files: Vec<PathBuf> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        let directories = files.iter().map(|path| directory(path).to_owned()).collect();
        let before = std::mem::replace(&mut self.directories, directories);
        for gone in before.difference(&self.directories) {
            // What is watched too much only costs a look.
            let _ = self.watcher.as_mut().map(|watcher| watcher.unwatch(gone));
        }
        self.attach();
        let known = |path: &PathBuf| seen.iter().find(|(other, _)| other == path).map(|(_, seen)| *seen);
        self.files = files
            .into_iter()
            .map(|path| {
                let seen = known(&path).unwrap_or_else(|| hash(&path));
                (path, seen)
            })
            .collect();
    }

    /// Waits until the content of a file differs from what was last seen, and gives those that do. A file that goes away
    /// or cannot be read has changed, too. Loses nothing when it is dropped and called again.
    pub async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            if self.stirred.is_none() {
                tokio::select! {
                    Some(()) = self.events.recv() => self.stirred = Some(Instant::now()),
                    () = time::sleep_until(self.poll) => self.attach(),
                }
            }
            if let Some(since) = self.stirred {
                self.settle(since).await;
            }
            self.stirred = None;
            self.poll = Instant::now() + POLL;
            let changed = self.look();
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    async fn settle(&mut self, since: Instant) {
        let quiet = async { while let Ok(Some(())) = time::timeout(QUIET, self.events.recv()).await {} };
        // Out of patience is quiet enough.
        let _ = time::timeout_at(since + PATIENCE, quiet).await;
    }

    /// A directory that was made anew has to be watched anew; for one that is watched already, nothing changes.
    fn attach(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        for directory in &self.directories {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                let directory = directory.display();
                tracing::debug!(%directory, %error, "not watched: changes are seen within a minute");
            }
        }
    }

    fn look(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (path, seen) in &mut self.files {
            let now = hash(path);
            if *seen != now {
                *seen = now;
                changed.push(path.clone());
            }
        }
        changed
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn hash(path: &Path) -> Seen {
    // Opening a pipe would wait for its other end.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    File::open(path).ok()?.take(CAP).read_to_end(&mut bytes).ok()?;
    Some(sha256(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    /// Long enough for any machine: a test that waits for it has failed.
    const LIMIT: Duration = Duration::from_secs(30);

    /// A directory as the kubelet makes it: `FILE -> ..data/FILE`, `..data -> ..N`.
    struct Volume(tempfile::TempDir);

    impl Volume {
        fn new(content: &str) -> Self {
            let volume = Self(tempfile::tempdir().unwrap());
            volume.swap(0, content);
            symlink("..data/config.yaml", volume.file()).unwrap();
            volume
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("config.yaml")
        }

        fn swap(&self, n: u32, content: &str) {
            let fresh = self.0.path().join(format!("..{n}"));
            fs::create_dir(&fresh).unwrap();
            fs::write(fresh.join("config.yaml"), content).unwrap();
            symlink(format!("..{n}"), self.0.path().join("..data_tmp")).unwrap();
            let old = fs::read_link(self.0.path().join("..data"));
            fs::rename(self.0.path().join("..data_tmp"), self.0.path().join("..data")).unwrap();
            if let Ok(old) = old {
                fs::remove_dir_all(self.0.path().join(old)).unwrap();
            }
        }
    }

    async fn next(watch: &mut Watch) -> Vec<PathBuf> {
        time::timeout(LIMIT, watch.changed()).await.expect("no change was seen")
    }

    #[tokio::test]
    async fn every_swap_of_a_config_map_is_seen() {
        let volume = Volume::new("one");
        let mut watch = Watch::new([volume.file()]);
        for (n, content) in [(1, "two"), (2, "three"), (3, "four")] {
            volume.swap(n, content);
            assert_eq!(next(&mut watch).await, [volume.file()]);
            assert_eq!(fs::read_to_string(volume.file()).unwrap(), content);
        }
    }

    #[tokio::test]
    async fn a_swap_to_the_same_content_is_no_change() {
        let volume = Volume::new("one");
        let mut watch = Watch::new([volume.file()]);
        volume.swap(1, "one");
        volume.swap(2, "two");
        assert_eq!(next(&mut watch).await, [volume.file()]);
        assert!(watch.look().is_empty(), "the two swaps were one change");
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_by_an_editor_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let mut watch = Watch::new([&file]);
        fs::write(&file, "one").unwrap();
        assert_eq!(next(&mut watch).await, std::slice::from_ref(&file));
        fs::write(folder.path().join("ca.pem~"), "two").unwrap();
        fs::rename(folder.path().join("ca.pem~"), &file).unwrap();
        assert_eq!(next(&mut watch).await, std::slice::from_ref(&file));
        fs::remove_file(&file).unwrap();
        assert_eq!(next(&mut watch).await, [file]);
    }

    #[tokio::test]
    async fn only_what_changed_is_named() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (cert, key) = (one.path().join("tls.crt"), two.path().join("tls.key"));
        fs::write(&cert, "one").unwrap();
        fs::write(&key, "one").unwrap();
        let mut watch = Watch::new([&cert, &key]);
        fs::write(&key, "two").unwrap();
        assert_eq!(next(&mut watch).await, [key]);
    }

    #[tokio::test]
    async fn a_change_before_other_files_are_watched_too_is_seen_all_the_same() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (config, cert) = (one.path().join("config.yaml"), two.path().join("tls.crt"));
        fs::write(&config, "one").unwrap();
        let mut watch = Watch::new([&config]);
        fs::write(&config, "two").unwrap();
        watch.follow([&config, &cert]);
        assert_eq!(next(&mut watch).await, std::slice::from_ref(&config));
        fs::write(&cert, "one").unwrap();
        assert_eq!(next(&mut watch).await, std::slice::from_ref(&cert));
        watch.follow([&config]);
        fs::write(&cert, "two").unwrap();
        fs::write(&config, "three").unwrap();
        assert_eq!(next(&mut watch).await, [config]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restless_directory_does_not_hide_a_change_from_a_caller_who_asks_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new([&file]);
        let (sender, events) = mpsc::channel(1);
        watch.events = events;
        let mut restless = tokio::task::JoinSet::new();
        restless.spawn(async move {
            while sender.send(()).await.is_ok() {
                time::sleep(QUIET / 2).await;
            }
        });
        fs::write(&file, "two").unwrap();
        // The agent looks up from the watch once a second.
        let asked = async {
            loop {
                if let Ok(changed) = time::timeout(Duration::from_secs(1), watch.changed()).await {
                    return changed;
                }
            }
        };
        let seen = time::timeout(LIMIT, asked).await.expect("the change was never seen");
        assert_eq!(seen, [file]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_event_tells_is_seen_within_a_minute() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, target) = (here.path().join("config.yaml"), there.path().join("config.yaml"));
        fs::write(&target, "one").unwrap();
        symlink(&target, &link).unwrap();
        let mut watch = Watch::new([&link]);
        // The target's directory is not watched.
        fs::write(&target, "two").unwrap();
        let start = time::Instant::now();
        assert_eq!(watch.changed().await, [link]);
        assert_eq!(start.elapsed(), POLL);
    }
}
