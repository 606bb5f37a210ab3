//! One declared object, as it is mirrored. Pure: what comes in is what the bus told, what comes out is what to read.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use zbus::OwnedVariant;

use super::read::{Read, Unread, take};
use crate::{
    desired::{ObjectPlace, ObjectSpec},
    model::{ObjectFacts, Reason},
};

/// First wait before an object that did not answer is read again; doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// A service that is away for less than this, as for a restart, changes nothing.
const GRACE: Duration = Duration::from_secs(2);

/// Longest such wait.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// A declared object.
#[derive(Debug)]
pub(super) struct Entry {
    /// What is declared.
    pub(super) spec: Arc<ObjectSpec>,
    /// The unique name of who answers for its service.
    pub(super) owner: Option<String>,
    /// How it is.
    pub(super) facts: Option<ObjectFacts>,
    /// What the model was told.
    pub(super) told: Option<ObjectFacts>,
    /// Number of the reading that was begun last.
    pub(super) round: u64,
    /// It is being read.
    pub(super) reading: bool,
    /// Something happened meanwhile: it is read once more.
    again: bool,
    /// When it is read although nothing was heard.
    pub(super) retry_at: Option<Instant>,
    wait: Duration,
    /// When its being away counts, and why it is.
    pub(super) gone: Option<(Instant, Reason, String)>,
}

impl Entry {
    pub(super) fn new(spec: Arc<ObjectSpec>) -> Self {
        Self {
            spec,
            owner: None,
            facts: None,
            told: None,
            round: 0,
            reading: false,
            again: false,
            retry_at: None,
            wait: FIRST_WAIT,
            gone: None,
        }
    }

    /// The same name, declared otherwise: nothing is known of that object. Its readings are counted on, so that one of
    /// before is never taken for one of now.
    pub(super) fn replaced(&self, spec: Arc<ObjectSpec>) -> Self {
        Self { round: self.round, ..Self::new(spec) }
    }

    /// It shall be read; the number of the reading that will have seen all up to now, and whether it is to be begun.
    pub(super) fn want(&mut self) -> (u64, bool) {
        if self.reading {
            // However many ask meanwhile, one more reading serves them all.
            self.again = true;
            return (self.round + 1, false);
        }
        self.reading = true;
        self.retry_at = None;
        self.round += 1;
        (self.round, true)
    }

    /// A reading ended; `true` where another must begin.
    pub(super) fn read(&mut self, read: Result<Read, Unread>, now: Instant) -> bool {
        self.reading = false;
        match read {
            Ok(Read { owner, facts }) => {
                self.gone = None;
                self.owner = owner;
                self.facts = Some(facts);
                self.wait = FIRST_WAIT;
            }
            Err((reason, why)) => {
                // A service that comes tells so itself; of one that hangs nothing is heard.
                if matches!(reason, Reason::TimedOut | Reason::Refused | Reason::WrongType) {
                    self.retry_at = Some(now + self.wait);
                    self.wait = (self.wait * 2).min(LAST_WAIT);
                }
                self.away(reason, why);
            }
        }
        std::mem::take(&mut self.again)
    }

    /// Whoever answers for it has gone: that counts only if it lasts.
    pub(super) fn leaves(&mut self, reason: Reason, why: String, now: Instant) {
        self.owner = None;
        if self.facts.as_ref().is_some_and(|facts| facts.away.is_none()) {
            self.gone = Some((now + GRACE, reason, why));
        } else {
            self.away(reason, why);
        }
    }

    /// It has been away for long enough for that to count; `true` where that is news.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        match self.gone.take() {
            Some((at, reason, why)) if at <= now => self.away(reason, why),
            other => {
                self.gone = other;
                return false;
            }
        }
        true
    }

    /// It cannot be read: what is known stays as the last known.
    pub(super) fn away(&mut self, reason: Reason, why: String) {
        self.gone = None;
        let spec = &self.spec;
        let facts = self.facts.get_or_insert_with(|| ObjectFacts {
            service: spec.service.clone(),
            path: if let ObjectPlace::Path(path) = &spec.path { path.clone() } else { String::new() },
            interface: spec.interface.clone(),
            ..ObjectFacts::default()
        });
        facts.away = Some((if reason == Reason::TimedOut { Reason::ServiceAway } else { reason }, why));
    }

    /// Its service has another owner; `true` where it is to be read.
    pub(super) fn owner_changed(&mut self, owner: Option<String>, now: Instant) -> bool {
        let came = owner.is_some();
        if came && owner == self.owner && !self.reading {
            return false;
        }
        self.owner = owner;
        if !came && !self.spec.activate {
            let why = format!("nobody answers for {} any more", self.spec.service);
            self.leaves(Reason::ServiceAway, why, now);
        }
        // One that the bus starts when it is needed may go when it is not: that changes nothing of what it looks after.
        came
    }

    /// Properties changed; `true` where it is to be read.
    pub(super) fn changed(&mut self, changed: &HashMap<String, OwnedVariant>, invalidated: &[String]) -> bool {
        let cares: BTreeSet<&str> =
            self.spec.properties.keys().map(String::as_str).chain(self.spec.repeated()).collect();
        let touched = changed.keys().chain(invalidated).any(|name| cares.contains(name.as_str()));
        if self.reading || !touched {
            // What is being read may be older than what was just told.
            return touched;
        }
        let Some(facts) = self.facts.as_mut().filter(|facts| facts.away.is_none() && facts.exists) else { return true };
        let mut again = invalidated.iter().any(|name| cares.contains(name.as_str()));
        for (name, value) in changed.iter().filter(|(name, _)| cares.contains(name.as_str())) {
            // A signal may say anything; where it contradicts the service's own types, the service is asked.
            let fits = facts
                .property_types
                .get(name)
                .is_some_and(|known| value.value_signature().to_string() == known.signature);
            if fits {
                take(facts, name, Some(value));
            } else {
                again = true;
            }
        }
        again
    }
}
