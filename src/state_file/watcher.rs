//! The watches, what their events mean, and what is seen at the end of the path.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io::{self, ErrorKind},
    mem,
    path::{Path, PathBuf},
};

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    StateFileEvent,
    walk::{End, read, walk},
};

/// Bytes for events: some fifty at a time, of at most 16 + 256 bytes each (inotify(7)).
const EVENT_BYTES: usize = 16 * 1024;

/// What is asked about every folder: names that come, go, or change their permissions, and its own end. Not about
/// names that were unlinked: whoever still writes to such a file does not write to the one that has its name now.
const FOLDER: WatchMask = WatchMask::CREATE
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::EXCL_UNLINK)
    .union(WatchMask::ONLYDIR)
    .union(WatchMask::DONT_FOLLOW)
    // One folder may be asked for twice, with and without `CONTENT`; asking again must not narrow it.
    .union(WatchMask::MASK_ADD);

/// What is asked besides about the last folder and about the file itself (which may be written through another name).
const CONTENT: WatchMask = WatchMask::MODIFY.union(WatchMask::CLOSE_WRITE);

/// What is asked about the file itself.
const FILE: WatchMask = CONTENT.union(WatchMask::ATTRIB).union(WatchMask::DONT_FOLLOW);

/// Names that come or go.
const NAMES: EventMask =
    EventMask::CREATE.union(EventMask::DELETE).union(EventMask::MOVED_FROM).union(EventMask::MOVED_TO);

/// The end of a watched folder, or of the watch on it.
const ENDS: EventMask = EventMask::DELETE_SELF
    .union(EventMask::MOVE_SELF)
    .union(EventMask::UNMOUNT)
    .union(EventMask::IGNORED)
    .union(EventMask::ATTRIB);

/// The last name of the path, in its folder.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    folder: WatchDescriptor,
    name: OsString,
    /// Somebody has written to the file of that name and not closed it since.
    writing: bool,
    /// The name has come up as a new file, which was not closed since.
    created: bool,
}

/// The file itself.
#[derive(Debug)]
struct Body {
    watch: WatchDescriptor,
    /// Somebody has written to it and not closed it since.
    writing: bool,
}

/// What is watched, and what the events have told since it was last looked at.
#[derive(Debug, Default)]
struct Tracks {
    /// Folders, with the names that are looked up in each.
    folders: HashMap<WatchDescriptor, HashSet<OsString>>,
    entry: Option<Entry>,
    body: Option<Body>,
    /// The path may lead elsewhere, or the file may hold something else.
    stale: bool,
    /// The file was written to: what was read meanwhile may be half old, half new.
    torn: bool,
}

impl Tracks {
    fn note(&mut self, event: &Event<&OsStr>) {
        let mask = event.mask;
        if mask.contains(EventMask::Q_OVERFLOW) {
            // Who writes and who has closed is not known any more: read it as it is.
            (self.stale, self.torn) = (true, true);
            self.forget_writers();
            return;
        }
        if let Some(body) = self.body.as_mut().filter(|body| body.watch == event.wd) {
            if mask.intersects(EventMask::MODIFY | EventMask::CLOSE_WRITE) {
                body.writing = mask.contains(EventMask::MODIFY);
                self.torn = true;
            }
            self.stale |= !mask.contains(EventMask::MODIFY);
        }
        // Events of watches that were given up may still be in the queue.
        let Some(names) = self.folders.get(&event.wd) else { return };
        let Some(name) = event.name else {
            self.stale |= mask.intersects(ENDS);
            return;
        };
        if !names.contains(name) {
            return;
        }
        if let Some(entry) = self.entry.as_mut().filter(|entry| entry.folder == event.wd && entry.name == name) {
            if mask.intersects(EventMask::MODIFY | EventMask::CLOSE_WRITE) {
                entry.writing = mask.contains(EventMask::MODIFY);
                entry.created &= entry.writing;
                self.torn = true;
            } else if mask.intersects(NAMES) {
                // The name stands for another file now.
                entry.writing = false;
                entry.created = mask.contains(EventMask::CREATE);
            }
        }
        self.stale |= !mask.contains(EventMask::MODIFY);
    }

    fn forget_writers(&mut self) {
        if let Some(entry) = &mut self.entry {
            (entry.writing, entry.created) = (false, false);
        }
        if let Some(body) = &mut self.body {
            body.writing = false;
        }
    }

    /// Whether somebody is at it; `size` and `links` are the file's. A new file that is empty is about to be written
    /// and closed, unless the name is a second one of a file that is there for long.
    fn is_being_written(&self, size: u64, links: u64) -> bool {
        self.body.as_ref().is_some_and(|body| body.writing)
            || self.entry.as_ref().is_some_and(|entry| entry.writing || (entry.created && size == 0 && links == 1))
    }
}

/// Watches one path. It does nothing by itself: [`Watcher::drain`] takes events in, [`Watcher::look`] looks.
#[derive(Debug)]
pub(super) struct Watcher {
    path: PathBuf,
    inotify: AsyncFd<Inotify>,
    buffer: Box<[u8]>,
    tracks: Tracks,
    /// What cannot be watched, told once.
    told: HashSet<PathBuf>,
    last: Option<StateFileEvent>,
}

impl Watcher {
    /// A watcher that has not looked yet. `path` must be absolute. To be called in a tokio runtime.
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; Inotify's does not"
        )]
        let inotify = AsyncFd::with_interest(Inotify::init()?, Interest::READABLE)?;
        Ok(Self {
            path,
            inotify,
            buffer: vec![0; EVENT_BYTES].into(),
            tracks: Tracks { stale: true, ..Tracks::default() },
            told: HashSet::new(),
            last: None,
        })
    }

    /// Whether [`Watcher::look`] has something to look at.
    pub(super) const fn is_stale(&self) -> bool {
        self.tracks.stale
    }

    /// Waits for events and takes them in.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        // First cleared, then read to the end: what comes in between sets it again.
        self.inotify.readable_mut().await?.clear_ready();
        self.drain()
    }

    /// Takes in all events that there are.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        loop {
            match self.inotify.get_mut().read_events(&mut self.buffer) {
                Ok(events) => events.for_each(|event| self.tracks.note(&event)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks where the path leads and what is there, and says it if it is news. Says nothing where the file is being
    /// written: its closing makes it stale again. `force` = read it all the same, as it
    /// is.
    pub(super) fn look(&mut self, force: bool) -> io::Result<Option<StateFileEvent>> {
        self.drain()?;
        (self.tracks.stale, self.tracks.torn) = (false, false);
        let seen = self.see(force);
        self.judge(seen, force)
    }

    /// What of the seen is news, and can be relied upon.
    pub(super) fn judge(&mut self, seen: Option<StateFileEvent>, force: bool) -> io::Result<Option<StateFileEvent>> {
        // Whatever happened while it was read is in the queue by now.
        self.drain()?;
        let seen = match seen {
            Some(seen) if force || !self.tracks.torn => seen,
            // At the first look there must be an answer: who holds the file open may do so for ever.
            _ if self.last.is_none() && !self.tracks.stale => {
                StateFileEvent::Unreadable(format!("{} is being written", self.path.display()))
            }
            _ => return Ok(None),
        };
        if self.last.as_ref() == Some(&seen) {
            return Ok(None);
        }
        self.last = Some(seen.clone());
        Ok(Some(seen))
    }

    /// What is at the end of the path; `None` = it is being written.
    pub(super) fn see(&mut self, force: bool) -> Option<StateFileEvent> {
        let end = match self.follow() {
            End::File { path, size, links } => {
                if !force && self.tracks.is_being_written(size, links) {
                    return None;
                }
                match read(&path) {
                    Ok(bytes) => return Some(StateFileEvent::Content(bytes)),
                    Err(end) => end,
                }
            }
            end => end,
        };
        Some(match end {
            End::Unreadable(why) => StateFileEvent::Unreadable(why),
            End::File { .. } | End::Missing => StateFileEvent::Missing,
        })
    }

    /// Follows the path and moves the watches to where it leads now.
    fn follow(&mut self) -> End {
        let Self { path, inotify, tracks, told, .. } = self;
        let mut kernel = inotify.get_ref().watches();
        let mut watch = |path: &Path, mask| match kernel.add(path, mask) {
            Ok(watch) => Some(watch),
            // Gone meanwhile: that has made an event in the folder above.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
            Err(error) => {
                if told.insert(path.to_owned()) {
                    tracing::warn!(path = %path.display(), "changes here are not noticed: {error}");
                }
                None
            }
        };
        let mut folders = HashMap::<WatchDescriptor, HashSet<OsString>>::new();
        let mut entry = None;
        let end = walk(path, |folder, name, last| {
            if let Some(watch) = watch(folder, if last { FOLDER | CONTENT } else { FOLDER }) {
                if last {
                    entry =
                        Some(Entry { folder: watch.clone(), name: name.to_owned(), writing: false, created: false });
                }
                folders.entry(watch).or_default().insert(name.to_owned());
            }
        });
        let body = match &end {
            End::File { path, .. } => watch(path, FILE).map(|watch| Body { watch, writing: false }),
            _ => None,
        };
        let old = mem::take(tracks);
        *tracks = Tracks { folders, entry, body, ..Tracks::default() };
        // What is still the same is still being written.
        if let (Some(entry), Some(old)) = (&mut tracks.entry, &old.entry)
            && (&entry.folder, &entry.name) == (&old.folder, &old.name)
        {
            (entry.writing, entry.created) = (old.writing, old.created);
        }
        if let (Some(body), Some(old)) = (&mut tracks.body, &old.body)
            && body.watch == old.watch
        {
            body.writing = old.writing;
        }
        let in_use = |watch: &WatchDescriptor| {
            tracks.folders.contains_key(watch) || tracks.body.as_ref().is_some_and(|body| body.watch == *watch)
        };
        for watch in old.folders.into_keys().chain(old.body.map(|body| body.watch)) {
            if !in_use(&watch) {
                // Fails where the kernel has removed it itself, with the folder.
                let _ = kernel.remove(watch);
            }
        }
        end
    }
}
