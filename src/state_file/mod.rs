//! The state file: read at the start and whenever it may hold something else.
//!
//! By events alone. Each folder in which a part of the path is looked up is watched, those of links and of their
//! targets too, so that the swap of a link in the middle (NixOS swaps /etc/static) is noticed like a change of the
//! file; where a folder is missing, the nearest one above it tells when it comes. A file that is being written in
//! place is read once it is closed. One limit: a file system mounted over a folder of the path makes no event; SIGHUP
//! (see [`StateFile::reread`]) then helps.
//!
//! Looking is a few system calls and one read, done in place: a file of the greatest size (4 MiB) takes some
//! milliseconds.

#[cfg(test)]
mod tests;
mod walk;
mod watcher;

use std::{io, path::Path};

use tokio::sync::{mpsc, oneshot};

pub use walk::MAX_BYTES;
use watcher::Watcher;

/// What there is at the state file's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateFileEvent {
    /// A file; its bytes, [`MAX_BYTES`] at most.
    Content(Vec<u8>),
    /// Nothing.
    Missing,
    /// Something that cannot be read as a file, or is too large; a text for people.
    Unreadable(String),
}

/// The handle of the watching task; when it is dropped, the task ends.
#[derive(Debug, Clone)]
pub struct StateFile {
    rereads: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl StateFile {
    /// Looks again, also at a file that somebody still holds open for writing. When this answers, what was news was
    /// sent; where nothing is different, nothing was.
    pub async fn reread(&self) {
        let (done, answer) = oneshot::channel();
        if self.rereads.send(done).is_ok() {
            // An error is the task's end: there is nobody who could look.
            let _ = answer.await;
        }
    }
}

/// Starts a task that watches the path and sends what is there: once at the start, then whenever it differs from what
/// was sent last. It ends with its handle, or when the receiver is dropped. To be called in a tokio runtime.
///
/// # Errors
///
/// The kernel gives no inotify instance (`fs.inotify.max_user_instances`), or the path is relative and the working
/// directory is gone.
pub fn watch(path: &Path, events: mpsc::UnboundedSender<StateFileEvent>) -> io::Result<StateFile> {
    let watcher = Watcher::new(std::path::absolute(path)?)?;
    let (rereads, requests) = mpsc::unbounded_channel();
    tokio::spawn(run(watcher, events, requests));
    Ok(StateFile { rereads })
}

async fn run(
    mut watcher: Watcher,
    events: mpsc::UnboundedSender<StateFileEvent>,
    mut requests: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
    loop {
        while watcher.is_stale() || !waiting.is_empty() {
            match watcher.look(!waiting.is_empty()) {
                Ok(Some(event)) => _ = events.send(event),
                Ok(None) => {}
                Err(error) => return tracing::error!("the state file is not watched any more: {error}"),
            }
            for done in waiting.drain(..) {
                // Who asked may have gone.
                let _ = done.send(());
            }
            // A file that changes all the time must not keep others from their turn.
            tokio::task::yield_now().await;
        }
        tokio::select! {
            result = watcher.wait() => {
                if let Err(error) = result {
                    return tracing::error!("the state file is not watched any more: {error}");
                }
            }
            request = requests.recv() => match request {
                Some(done) => waiting.push(done),
                None => return,
            },
            () = events.closed() => return,
        }
    }
}
