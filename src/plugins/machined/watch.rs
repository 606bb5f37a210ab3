//! Folders that systemd-machined tells no changes of: images and settings files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use futures::{FutureExt as _, StreamExt as _};
use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::mpsc;

/// Room for events of one read: some hundreds of them.
const BUFFER: usize = 16 * 1024;

/// Tells that something in these folders may have changed, until nobody listens. A folder that is not there is waited
/// for by the one above it.
pub(super) async fn watch(folders: Vec<PathBuf>, news: mpsc::UnboundedSender<()>) {
    let mut stream = match Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER])) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "images and settings of containers cannot be watched: changes by hand show late");
            return;
        }
    };
    let mut watches = stream.watches();
    let mut watched = BTreeMap::new();
    loop {
        for folder in &folders {
            arm(&mut watches, &mut watched, folder);
        }
        // What came while no watch was there has no event: the folders were just armed, and may hold anything.
        if news.send(()).is_err() {
            return;
        }
        let event = tokio::select! {
            event = stream.next() => event,
            () = news.closed() => return,
        };
        if !matches!(event, Some(Ok(_))) {
            return;
        }
        while let Some(Some(Ok(_))) = stream.next().now_or_never() {}
    }
}

/// Watches the folder, or what is there above it.
fn arm(watches: &mut Watches, watched: &mut BTreeMap<PathBuf, WatchDescriptor>, folder: &Path) {
    let mask = WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::CLOSE_WRITE
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    for path in folder.ancestors() {
        // Of a folder that is watched, this is the same watch again.
        if let Ok(watch) = watches.add(path, mask) {
            let before = watched.insert(folder.to_owned(), watch.clone());
            // The one above it, which is of no concern once the folder is there.
            if let Some(before) = before.filter(|before| *before != watch)
                && !watched.values().any(|other| *other == before)
            {
                // Gone already where the folder was taken away.
                let _ = watches.remove(before);
            }
            return;
        }
    }
}
