//! How long to wait before the next attempt.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// After the first failure.
const FIRST: Duration = Duration::from_millis(250);

/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Doubling waits.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next wait: somewhere between half of its bound and its bound, so that those who lost the same backend do
    /// not come back all at once.
    pub(crate) fn wait(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(LONGEST);
        // A hasher's keys are random; nothing here needs better.
        let thousandths = u32::try_from(RandomState::new().hash_one(()) % 500).unwrap_or(0);
        bound / 2 + bound * thousandths / 1000
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let mut bound = FIRST;
        for _ in 0..12 {
            let wait = backoff.wait();
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(LONGEST);
        }
        assert_eq!(bound, LONGEST);
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }
}
