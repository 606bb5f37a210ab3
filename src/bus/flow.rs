//! Clients that do not read.
//!
//! What a client has not read the bus keeps, and counts against whoever sent it: dbus-daemon stops taking messages
//! from a connection once 127 MiB of them lie with others (`max_incoming_bytes`), for as long as they lie there. One
//! client that asks and never reads would so silence op-dbus for all. Therefore, after every few megabytes sent, the
//! bus is asked how much of it still lies there; where that is much, clients that do not read are not answered, and
//! nobody gets large answers, until it is less.

use std::collections::{HashMap, HashSet};

use tracing::{info, warn};
use zbus::{Connection, Message, OwnedVariant};

/// Before so much more is answered, the bus is asked.
const CREDIT: usize = 16 * 1024 * 1024;

/// The same while much lies unread.
const CONGESTED_CREDIT: usize = 1024 * 1024;

/// So much unread is much: half of what dbus-daemon takes, the other half being for what is on its way when it is
/// noticed ([`CREDIT`] and one largest message) and for signals, which cannot be held back.
const CONGESTED: usize = 64 * 1024 * 1024;

/// A client with so much unread does not read: nothing small adds up to that.
const DEAF: usize = 1024 * 1024;

/// An answer of more is large.
pub(crate) const LARGE: usize = 64 * 1024;

/// What the bus says of what lies unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Little.
    Little,
    /// Much, with those that do not read.
    Much(HashSet<String>),
    /// It does not say: it has no statistics, or does not show them to us.
    Unknown,
}

/// How much may be answered.
#[derive(Debug)]
pub(crate) struct Flow {
    credit: usize,
    checking: bool,
    knowable: bool,
    deaf: Option<HashSet<String>>,
    sent_to: HashMap<String, usize>,
}

impl Flow {
    /// Nothing was sent yet.
    pub(crate) fn new() -> Self {
        Self { credit: CREDIT, checking: false, knowable: true, deaf: None, sent_to: HashMap::new() }
    }

    /// Whether calls may be answered now; otherwise once the bus has said how much lies unread.
    pub(crate) const fn is_open(&self) -> bool {
        self.credit > 0 || !self.knowable
    }

    /// Whether much lies unread.
    pub(crate) const fn is_congested(&self) -> bool {
        self.deaf.is_some()
    }

    /// Whether that client does not read.
    pub(crate) fn is_deaf(&self, client: &str) -> bool {
        self.deaf.as_ref().is_some_and(|deaf| deaf.contains(client))
    }

    /// A message goes out.
    pub(crate) fn sends(&mut self, message: &Message) {
        if !self.knowable {
            return;
        }
        let bytes = message.data().len();
        self.credit = self.credit.saturating_sub(bytes);
        if let Some(client) = message.header().destination() {
            match self.sent_to.get_mut(client.as_str()) {
                Some(sent) => *sent += bytes,
                None => drop(self.sent_to.insert(client.as_str().to_owned(), bytes)),
            }
        }
    }

    /// Whether the bus is being asked.
    pub(crate) const fn is_checking(&self) -> bool {
        self.checking
    }

    /// If the bus must be asked now: the clients that may have much unread. `again`: even where credit is left.
    pub(crate) fn check(&mut self, again: bool) -> Option<Vec<String>> {
        if self.checking || !self.knowable || (self.credit > 0 && !again) {
            return None;
        }
        self.checking = true;
        let suspects = self.sent_to.iter().filter(|(_, sent)| **sent >= DEAF);
        let mut clients: HashSet<String> = suspects.map(|(client, _)| client.clone()).collect();
        clients.extend(self.deaf.iter().flatten().cloned());
        Some(clients.into_iter().collect())
    }

    /// The bus has answered.
    pub(crate) fn checked(&mut self, unread: Unread) {
        self.checking = false;
        match unread {
            Unread::Little => {
                if self.deaf.take().is_some() {
                    info!("clients read again, or have gone: answers of any size are given");
                }
                self.sent_to.clear();
                self.credit = CREDIT;
            }
            Unread::Much(deaf) => {
                if self.deaf.as_ref() != Some(&deaf) {
                    warn!(clients = ?deaf, "clients do not read what they asked for: large answers are refused");
                }
                self.deaf = Some(deaf);
                self.credit = CONGESTED_CREDIT;
            }
            Unread::Unknown => {
                info!("the bus has no statistics for us: clients that do not read go unnoticed");
                *self = Self { knowable: false, ..Self::new() };
            }
        }
    }

    /// The client has left the bus, and with it what it did not read. Whether that may end a congestion.
    pub(crate) fn forget(&mut self, client: &str) -> bool {
        self.sent_to.remove(client);
        self.deaf.as_mut().is_some_and(|deaf| deaf.remove(client))
    }
}

/// Asks the bus how much of what `sender` sent lies unread, and if it is much, with which of the clients.
pub(crate) async fn unread(helper: &Connection, sender: &str, clients: Vec<String>) -> Unread {
    match statistic(helper, sender, "IncomingBytes").await {
        None => Unread::Unknown,
        Some(bytes) if bytes < CONGESTED => Unread::Little,
        Some(_) => {
            let mut deaf = HashSet::new();
            for client in clients {
                // One that has gone meanwhile has nothing unread.
                if statistic(helper, &client, "OutgoingBytes").await.is_some_and(|bytes| bytes >= DEAF) {
                    deaf.insert(client);
                }
            }
            Unread::Much(deaf)
        }
    }
}

/// One of the bus's figures of a connection.
async fn statistic(helper: &Connection, of: &str, key: &str) -> Option<usize> {
    let reply = helper
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus.Debug.Stats"),
            "GetConnectionStats",
            &of,
        )
        .await
        .ok()?;
    let figures: HashMap<String, OwnedVariant> = reply.body().deserialize().ok()?;
    figures.get(key).and_then(|value| u32::try_from(&**value).ok()).and_then(|bytes| usize::try_from(bytes).ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(client: &str, bytes: usize) -> Message {
        Message::method_call("/", "X").destination(client.to_owned()).build(&"x".repeat(bytes)).unwrap()
    }

    #[test]
    fn the_bus_is_asked_before_more_is_answered() {
        let mut flow = Flow::new();
        assert!(flow.is_open() && flow.check(false).is_none());
        flow.sends(&message(":1.1", CREDIT));
        flow.sends(&message(":1.2", 10));
        assert!(!flow.is_open());
        assert_eq!(flow.check(false), Some(vec![":1.1".to_owned()]));
        assert_eq!(flow.check(true), None, "it is being asked");
        flow.checked(Unread::Little);
        assert!(flow.is_open() && !flow.is_congested());
    }

    #[test]
    fn who_does_not_read_is_known_until_it_leaves() {
        let mut flow = Flow::new();
        flow.sends(&message(":1.1", CREDIT));
        flow.check(false);
        flow.checked(Unread::Much(HashSet::from([":1.1".to_owned()])));
        assert!(flow.is_deaf(":1.1") && !flow.is_deaf(":1.2") && flow.is_congested() && flow.is_open());
        assert!(flow.forget(":1.1") && !flow.forget(":1.2"));
        assert_eq!(flow.check(true), Some(vec![]));
        flow.checked(Unread::Little);
        assert!(!flow.is_congested());
    }

    #[test]
    fn a_bus_without_statistics_is_not_asked_again() {
        let mut flow = Flow::new();
        flow.sends(&message(":1.1", CREDIT));
        flow.check(false);
        flow.checked(Unread::Unknown);
        flow.sends(&message(":1.1", CREDIT));
        assert!(flow.is_open() && flow.check(true).is_none());
    }
}
