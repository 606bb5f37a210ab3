//! The watch on the package database: dpkg renames its new status into place, whoever made it do so, before the command
//! ends; rpm writes its files.

use std::io::{self, ErrorKind};

use inotify::{EventMask, Inotify, WatchMask};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Database, LOCKS, STATUS};

/// Bytes for events of one read: some hundreds of them.
const EVENT_BYTES: usize = 16 * 1024;

/// What is asked about dpkg's folder: the rename of its status, and the closing of its locks, which lets them go.
const DPKG: WatchMask = WatchMask::MOVED_TO.union(WatchMask::CLOSE_WRITE).union(WatchMask::ONLYDIR);

/// What is asked about rpm's folder: its files are written in place, or made anew.
const RPM: WatchMask =
    WatchMask::MODIFY.union(WatchMask::CLOSE_WRITE).union(WatchMask::MOVED_TO).union(WatchMask::ONLYDIR);

/// What the folder told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::plugins::packagekit) struct News {
    /// What is installed may have changed.
    pub(in crate::plugins::packagekit) changed: bool,
    /// Somebody let a lock go.
    pub(in crate::plugins::packagekit) unlocked: bool,
    /// The watch has ended: the folder is gone.
    pub(in crate::plugins::packagekit) ended: bool,
}

/// A watch on a database's folder.
#[derive(Debug)]
pub(in crate::plugins::packagekit) struct Watch {
    inotify: AsyncFd<Inotify>,
    buffer: Box<[u8]>,
    dpkg: bool,
}

impl Watch {
    /// Watches from now on. To be called in a tokio runtime.
    pub(in crate::plugins::packagekit) fn new(database: &Database) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; Inotify's does not"
        )]
        let inotify = AsyncFd::with_interest(Inotify::init()?, Interest::READABLE)?;
        let dpkg = matches!(database, Database::Dpkg(_));
        inotify.get_ref().watches().add(database.folder(), if dpkg { DPKG } else { RPM })?;
        Ok(Self { inotify, buffer: vec![0; EVENT_BYTES].into(), dpkg })
    }

    /// Waits for events and takes all in that there are.
    pub(in crate::plugins::packagekit) async fn next(&mut self) -> io::Result<News> {
        loop {
            // First cleared, then read to the end: what comes in between sets it again.
            self.inotify.readable_mut().await?.clear_ready();
            let news = self.drain()?;
            if news != News::default() {
                return Ok(news);
            }
        }
    }

    fn drain(&mut self) -> io::Result<News> {
        let mut news = News::default();
        loop {
            match self.inotify.get_mut().read_events(&mut self.buffer) {
                Ok(events) => {
                    for event in events {
                        let name = event.name.and_then(|name| name.to_str()).unwrap_or_default();
                        news.ended |= event.mask.intersects(EventMask::IGNORED | EventMask::UNMOUNT);
                        if event.mask.contains(EventMask::Q_OVERFLOW) || !self.dpkg {
                            news.changed = true;
                        } else {
                            news.changed |= name == STATUS;
                            news.unlocked |= LOCKS.contains(&name);
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(news),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_rename_of_the_status_is_seen_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("status"), "").unwrap();
        let mut watch = Watch::new(&Database::Dpkg(folder.path().to_owned())).unwrap();
        fs::write(at("available"), "").unwrap();
        fs::write(at("lock"), "").unwrap();
        assert_eq!(watch.next().await.unwrap(), News { unlocked: true, ..News::default() });
        fs::write(at("status-new"), "").unwrap();
        fs::rename(at("status-new"), at("status")).unwrap();
        assert_eq!(watch.next().await.unwrap(), News { changed: true, ..News::default() });
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(watch.next().await.unwrap().ended);
    }
}
