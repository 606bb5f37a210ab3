//! One writer publishes snapshots; any number of readers take the newest, and sleep until the next.

use std::sync::Arc;

use arc_swap::ArcSwap;
use event_listener::{Event, EventListener};

use super::Snapshot;

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Snapshot>,
    changed: Event,
}

/// The one writer's end.
#[derive(Debug)]
pub struct Publisher(Arc<Shared>);

/// A reader's end.
#[derive(Debug, Clone)]
pub struct Reader(Arc<Shared>);

impl Publisher {
    /// A publisher of that first snapshot.
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        Self(Arc::new(Shared { current: ArcSwap::from_pointee(first), changed: Event::new() }))
    }

    /// A reader of what is published here.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader(self.0.clone())
    }

    /// Makes that snapshot the current one and wakes all who wait.
    pub fn publish(&self, snapshot: Snapshot) {
        self.0.current.store(Arc::new(snapshot));
        self.0.changed.notify(usize::MAX);
    }
}

impl Reader {
    /// The newest snapshot.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    /// Resolves at the next publication. Listen first, look at [`Reader::current`] next, then wait: nothing is missed.
    #[must_use]
    pub fn listen(&self) -> EventListener {
        self.0.changed.listen()
    }
}
