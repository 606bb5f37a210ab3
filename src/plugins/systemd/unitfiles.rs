//! systemd's folders of unit files, watched: a link that somebody removes by hand changes what is enabled, and
//! systemd tells nobody.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{FutureExt as _, StreamExt as _};
use inotify::{EventMask, EventOwned, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::{Notify, mpsc};

/// Room for events of one read: some hundreds of them.
const BUFFER: usize = 16 * 1024;

/// Ends of the names of folders with links to units.
const LINK_FOLDERS: [&str; 3] = [".wants", ".requires", ".upholds"];

/// End of the name of a unit's folder of drop-ins.
const DROP_INS: &str = ".d";

/// Where units are configured (systemd.unit(5), "Unit File Load Path").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFolders {
    /// What is there after a reboot, too.
    pub lasting: Vec<PathBuf>,
    /// What is gone then.
    pub passing: Vec<PathBuf>,
}

impl UnitFolders {
    /// Those of the system's manager.
    #[must_use]
    pub fn system() -> Self {
        Self {
            lasting: vec!["/etc/systemd/system".into(), "/etc/systemd/system.control".into()],
            passing: vec!["/run/systemd/system".into(), "/run/systemd/system.control".into()],
        }
    }

    /// Those of a user's manager, by `XDG_CONFIG_HOME` (or `HOME`) and `XDG_RUNTIME_DIR`.
    #[must_use]
    pub fn user() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
        let of = |base: Option<PathBuf>| {
            let folders = ["user", "user.control"];
            base.into_iter().flat_map(move |base| folders.map(|folder| base.join("systemd").join(folder)))
        };
        Self {
            lasting: of(config).chain([PathBuf::from("/etc/systemd/user")]).collect(),
            passing: of(variable("XDG_RUNTIME_DIR")).chain([PathBuf::from("/run/systemd/user")]).collect(),
        }
    }
}

/// Units that links in the folders of configuration point to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// Of links that are there after a reboot, too.
    pub(super) wanted: BTreeSet<String>,
    /// Of all links.
    pub(super) all: BTreeSet<String>,
}

/// Units whose files or links somebody touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Any may have been: events were lost.
    pub(super) all: bool,
    /// These.
    pub(super) units: BTreeSet<String>,
}

impl Touched {
    /// Whether that unit, or that template, is among them.
    pub(super) fn holds(&self, unit: &str) -> bool {
        self.all || self.units.contains(unit)
    }
}

/// News from the folders.
pub(super) type FilesNews = (Links, Touched);

/// Watches the folders until nobody listens. The first news is what is there now; `look_again` arms the watches anew,
/// for folders that were swapped behind a link.
pub(super) async fn watch(folders: UnitFolders, look_again: Arc<Notify>, news: mpsc::UnboundedSender<FilesNews>) {
    let mut before = Links::default();
    let mut drop_ins_before = BTreeSet::new();
    let mut stream = match Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER])) {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::warn!(
                "unit files cannot be watched: links removed by hand show at the next daemon-reload: {error}"
            );
            None
        }
    };
    let mut watched = HashMap::new();
    let mut events: Vec<EventOwned> = Vec::new();
    loop {
        let mut touched = Touched::default();
        for event in events.drain(..) {
            note(&event, &mut watched, &mut touched);
        }
        let mut scan = Scan {
            watches: stream.as_ref().map(inotify::EventStream::watches),
            watched: std::mem::take(&mut watched),
            links: Links::default(),
            drop_ins: BTreeSet::new(),
        };
        let all = folders.clone();
        // Some dozens of small folders: a millisecond, but of the disk's.
        let Ok(scan) = tokio::task::spawn_blocking(move || {
            scan.read(&all);
            scan
        })
        .await
        else {
            return;
        };
        watched = scan.watched;
        touched.units.extend(before.all.symmetric_difference(&scan.links.all).cloned());
        touched.units.extend(before.wanted.symmetric_difference(&scan.links.wanted).cloned());
        // What a new folder holds came without an event of its own.
        touched.units.extend(drop_ins_before.symmetric_difference(&scan.drop_ins).cloned());
        before.clone_from(&scan.links);
        drop_ins_before = scan.drop_ins;
        if news.send((scan.links, touched)).is_err() {
            return;
        }
        let next = async {
            match &mut stream {
                Some(stream) => stream.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = next => match event {
                Some(Ok(event)) => events.push(event),
                // The descriptor is beyond use: no more than what `look_again` asks for is seen from here on.
                Some(Err(_)) | None => stream = None,
            },
            () = look_again.notified() => {}
            () = news.closed() => return,
        }
        while let Some(Some(Some(Ok(event)))) = stream.as_mut().map(|stream| stream.next().now_or_never()) {
            events.push(event);
        }
    }
}

/// What a watched folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Folder {
    /// One of unit files.
    Units,
    /// One of links to units.
    Links,
    /// The drop-ins of that unit.
    DropIns(String),
    /// One above a folder that does not exist yet.
    Above,
}

/// Works out what an event is about.
fn note(event: &EventOwned, watched: &mut HashMap<WatchDescriptor, Folder>, touched: &mut Touched) {
    if event.mask.contains(EventMask::Q_OVERFLOW) {
        touched.all = true;
        return;
    }
    let folder = if event.mask.contains(EventMask::IGNORED) {
        watched.remove(&event.wd)
    } else {
        watched.get(&event.wd).cloned()
    };
    let name = event.name.as_deref().and_then(OsStr::to_str);
    match (folder, name) {
        (Some(Folder::DropIns(unit)), _) => {
            touched.units.insert(unit);
        }
        (Some(Folder::Units), Some(name)) => {
            let unit = LINK_FOLDERS.iter().chain([&DROP_INS]).find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            touched.units.insert(unit.to_owned());
        }
        (Some(Folder::Links), Some(name)) => {
            touched.units.insert(name.to_owned());
        }
        _ => {}
    }
}

/// One look at the folders, arming watches on the way: first the watch, then the look, so that nothing is missed.
struct Scan {
    watches: Option<Watches>,
    watched: HashMap<WatchDescriptor, Folder>,
    links: Links,
    /// Units with a folder of drop-ins.
    drop_ins: BTreeSet<String>,
}

impl Scan {
    fn read(&mut self, folders: &UnitFolders) {
        for (folder, lasts) in folders
            .lasting
            .iter()
            .map(|folder| (folder, true))
            .chain(folders.passing.iter().map(|folder| (folder, false)))
        {
            // A folder that cannot be read has no links; the watch above it tells when that changes.
            if self.read_units(folder, lasts).is_err() {
                let above = folder.ancestors().skip(1).find(|above| above.is_dir());
                if let Some(above) = above {
                    self.watch(above, Folder::Above);
                }
            }
        }
    }

    fn read_units(&mut self, folder: &Path, lasts: bool) -> io::Result<()> {
        if !folder.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.watch(folder, Folder::Units);
        for entry in fs::read_dir(folder)?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if LINK_FOLDERS.iter().any(|end| name.ends_with(end)) {
                self.watch(&entry.path(), Folder::Links);
                self.read_links(&entry.path(), lasts);
            } else if let Some(unit) = name.strip_suffix(DROP_INS) {
                self.watch(&entry.path(), Folder::DropIns(unit.to_owned()));
                self.drop_ins.insert(unit.to_owned());
            }
        }
        Ok(())
    }

    fn read_links(&mut self, folder: &Path, lasts: bool) {
        let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        for name in names.filter_map(|name| name.into_string().ok()) {
            if lasts {
                self.links.wanted.insert(name.clone());
            }
            self.links.all.insert(name);
        }
    }

    fn watch(&mut self, path: &Path, folder: Folder) {
        let mask = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::CLOSE_WRITE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        // What vanished since it was listed has told so to the watch of its own folder.
        if let Some(watches) = &mut self.watches
            && let Ok(descriptor) = watches.add(path, mask)
        {
            self.watched.insert(descriptor, folder);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folders {
        _root: tempfile::TempDir,
        lasting: PathBuf,
        news: mpsc::UnboundedReceiver<FilesNews>,
        again: Arc<Notify>,
    }

    fn start(make: bool) -> Folders {
        let root = tempfile::tempdir().unwrap();
        let lasting = root.path().join("etc/system");
        if make {
            fs::create_dir_all(&lasting).unwrap();
        }
        let passing = root.path().join("run");
        fs::create_dir_all(passing.join("a.target.wants")).unwrap();
        symlink("/x", passing.join("a.target.wants/fleeting.service")).unwrap();
        let (sender, news) = mpsc::unbounded_channel();
        let again = Arc::new(Notify::new());
        let folders = UnitFolders { lasting: vec![lasting.clone()], passing: vec![passing] };
        tokio::spawn(watch(folders, again.clone(), sender));
        Folders { _root: root, lasting, news, again }
    }

    impl Folders {
        /// Waits until the links are as wanted, and returns all that was touched on the way.
        async fn until(&mut self, wanted: impl Fn(&Links) -> bool) -> BTreeSet<String> {
            let mut units = BTreeSet::new();
            loop {
                let (links, touched) = self.news.recv().await.unwrap();
                units.extend(touched.units);
                if wanted(&links) {
                    return units;
                }
            }
        }
    }

    #[tokio::test]
    async fn links_come_and_go() {
        let mut folders = start(true);
        let touched = folders.until(|links| links.all.contains("fleeting.service")).await;
        assert!(touched.contains("fleeting.service"));

        // The folder and the link in it, as systemd makes them.
        let wants = folders.lasting.join("multi-user.target.wants");
        fs::create_dir(&wants).unwrap();
        symlink("/x", wants.join("b.service")).unwrap();
        let touched = folders.until(|links| links.wanted.contains("b.service")).await;
        assert!(touched.contains("b.service"));

        fs::remove_file(wants.join("b.service")).unwrap();
        let touched = folders.until(|links| !links.all.contains("b.service")).await;
        assert!(touched.contains("b.service"));
    }

    #[tokio::test]
    async fn files_and_drop_ins_are_noticed() {
        let mut folders = start(true);
        folders.until(|_| true).await;
        fs::write(folders.lasting.join("c@.service"), "[Service]\n").unwrap();
        fs::create_dir(folders.lasting.join("d.service.d")).unwrap();
        let mut touched = BTreeSet::new();
        while !(touched.contains("c@.service") && touched.contains("d.service")) {
            touched.extend(folders.until(|_| true).await);
        }
        fs::write(folders.lasting.join("d.service.d/x.conf"), "").unwrap();
        let mut touched = BTreeSet::new();
        while !touched.contains("d.service") {
            touched.extend(folders.until(|_| true).await);
        }
    }

    #[tokio::test]
    async fn a_folder_may_come_later_or_be_swapped() {
        let mut folders = start(false);
        folders.until(|_| true).await;
        fs::create_dir_all(folders.lasting.join("x.target.requires")).unwrap();
        symlink("/x", folders.lasting.join("x.target.requires/e.service")).unwrap();
        folders.again.notify_one();
        folders.until(|links| links.wanted.contains("e.service")).await;
    }
}
