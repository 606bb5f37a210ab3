//! What one caller may have under way.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::CallError;

/// Bounds of what callers may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a document.
    pub document_bytes: usize,
    /// Bytes of the answer of GetManagedObjects.
    pub managed_objects_bytes: usize,
    /// Calls that parse or plan, under way for one connection.
    pub heavy_per_caller: usize,
    /// The same, for all connections of one user.
    pub heavy_per_user: usize,
    /// Other calls handed to the core, under way for one connection.
    pub calls_per_caller: usize,
    /// Jobs that one connection waits for.
    pub waits_per_caller: usize,
    /// Documents parsed at the same time; others queue.
    pub parsers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 4 * 1024 * 1024,
            managed_objects_bytes: super::reply::MAX_MESSAGE_BYTES,
            heavy_per_caller: 4,
            heavy_per_user: 16,
            calls_per_caller: 64,
            waits_per_caller: 64,
            // One for whoever queues first, one so that a large document does not hold up a small one.
            parsers: 2,
        }
    }
}

/// Beyond so many callers remembered, those with nothing under way are forgotten: a call and the news that its
/// caller has gone come on different connections, so that one may be remembered after it went.
const REMEMBERED_CALLERS: usize = 1024;

/// What one caller has under way.
#[derive(Debug)]
struct Tally {
    heavy: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    waits: usize,
    /// Resolves when the caller's last command was handed to the core, or came to nothing.
    turn: Option<oneshot::Receiver<()>>,
}

impl Tally {
    fn is_idle(&self, limits: &Limits) -> bool {
        self.waits == 0
            && self.heavy.available_permits() == limits.heavy_per_caller
            && self.calls.available_permits() == limits.calls_per_caller
    }
}

/// Callers, by unique name.
#[derive(Debug)]
pub(crate) struct Callers {
    limits: Limits,
    tallies: HashMap<String, Tally>,
}

/// A place in the order of one caller's commands: they reach the core as they came, whatever each needs before.
#[derive(Debug)]
pub(crate) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    // Dropped when this turn is over.
    _over: oneshot::Sender<()>,
}

impl Turn {
    /// Resolves when all earlier commands of the caller were handed on.
    pub(crate) async fn comes(&mut self) {
        if let Some(before) = self.before.take() {
            // An error means that the sender is gone: that turn is over.
            let _ = before.await;
        }
    }
}

impl Callers {
    /// Nobody yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, tallies: HashMap::new() }
    }

    fn tally(&mut self, caller: &str) -> &mut Tally {
        let limits = self.limits;
        if self.tallies.len() >= REMEMBERED_CALLERS {
            self.tallies.retain(|_, tally| !tally.is_idle(&limits));
        }
        self.tallies.entry(caller.to_owned()).or_insert_with(|| Tally {
            heavy: Arc::new(Semaphore::new(limits.heavy_per_caller)),
            calls: Arc::new(Semaphore::new(limits.calls_per_caller)),
            waits: 0,
            turn: None,
        })
    }

    /// Leave for one more call of that caller; it ends when dropped.
    pub(crate) fn admit(&mut self, caller: &str, heavy: bool) -> Result<OwnedSemaphorePermit, CallError> {
        let limits = self.limits;
        let tally = self.tally(caller);
        let (semaphore, limit, what) = if heavy {
            (&tally.heavy, limits.heavy_per_caller, "documents to check or plan")
        } else {
            (&tally.calls, limits.calls_per_caller, "calls under way")
        };
        Arc::clone(semaphore).try_acquire_owned().map_err(|_| {
            CallError::busy(format!("this connection has {limit} {what} already; call again when one is answered"))
        })
    }

    /// One more wait of that caller.
    pub(crate) fn add_wait(&mut self, caller: &str) -> Result<(), CallError> {
        let limit = self.limits.waits_per_caller;
        let tally = self.tally(caller);
        if tally.waits >= limit {
            return Err(CallError::busy(format!(
                "this connection waits for {limit} jobs already; call again when one is finished"
            )));
        }
        tally.waits += 1;
        Ok(())
    }

    /// One wait of that caller was answered.
    pub(crate) fn end_wait(&mut self, caller: &str) {
        if let Some(tally) = self.tallies.get_mut(caller) {
            tally.waits = tally.waits.saturating_sub(1);
        }
    }

    /// The next place in the order of that caller's commands.
    pub(crate) fn turn(&mut self, caller: &str) -> Turn {
        let (over, next) = oneshot::channel();
        let before = self.tally(caller).turn.replace(next);
        Turn { before, _over: over }
    }

    /// The caller has left the bus.
    pub(crate) fn forget(&mut self, caller: &str) {
        self.tallies.remove(caller);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_too_many_calls_do_not_hinder_another() {
        let mut callers = Callers::new(Limits { heavy_per_caller: 1, ..Limits::default() });
        let first = callers.admit(":1.1", true).unwrap();
        assert!(matches!(callers.admit(":1.1", true), Err(CallError::Core(crate::reconcile::CoreError::Busy(_)))));
        assert!(callers.admit(":1.2", true).is_ok());
        drop(first);
        assert!(callers.admit(":1.1", true).is_ok());
    }

    #[test]
    fn waits_are_counted() {
        let mut callers = Callers::new(Limits { waits_per_caller: 1, ..Limits::default() });
        callers.add_wait(":1.1").unwrap();
        assert!(callers.add_wait(":1.1").is_err());
        callers.end_wait(":1.1");
        assert!(callers.add_wait(":1.1").is_ok());
    }

    #[test]
    fn idle_callers_are_forgotten_and_busy_ones_are_not() {
        let mut callers = Callers::new(Limits::default());
        callers.add_wait(":1.0").unwrap();
        for number in 1..=2 * REMEMBERED_CALLERS {
            drop(callers.admit(&format!(":1.{number}"), false).unwrap());
        }
        assert!(callers.tallies.len() <= REMEMBERED_CALLERS);
        assert!(callers.tallies.contains_key(":1.0"));
    }

    #[tokio::test]
    async fn commands_of_one_caller_keep_their_order() {
        let mut callers = Callers::new(Limits::default());
        let first = callers.turn(":1.1");
        let mut second = callers.turn(":1.1");
        {
            let mut coming = std::pin::pin!(second.comes());
            assert!(futures::poll!(coming.as_mut()).is_pending());
            drop(first);
            assert!(futures::poll!(coming.as_mut()).is_ready());
        }
    }
}
