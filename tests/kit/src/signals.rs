//! The signals of op-dbus, kept from the moment on at which they were asked for: none is missed, and none is invented.

use std::num::NonZeroUsize;

use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Map, Value};
use zbus::{Connection, MatchRule, MessageStream, message};

use crate::{Lab, NAME, PATIENCE, json};

/// More than any test waits to look at.
const QUEUE: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

/// One signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Of that object.
    pub path: String,
    /// ... and interface.
    pub interface: String,
    /// Its name.
    pub member: String,
    /// Its arguments; variants as what they hold.
    pub arguments: Vec<Value>,
}

impl Signal {
    /// Of a PropertiesChanged the interface that it is about, what changed with its values, and what became invalid.
    #[must_use]
    pub fn changed(&self) -> Option<(&str, &Map<String, Value>, Vec<&str>)> {
        if self.member != "PropertiesChanged" {
            return None;
        }
        let interface = self.arguments.first()?.as_str()?;
        let changed = self.arguments.get(1)?.as_object()?;
        let invalid = self.arguments.get(2)?.as_array()?.iter().filter_map(Value::as_str).collect();
        Some((interface, changed, invalid))
    }

    /// Whether it tells that this property of this object is so now.
    #[must_use]
    pub fn tells(&self, path: &str, interface: &str, property: &str, is: &Value) -> bool {
        self.path == path
            && self.changed().is_some_and(|(of, changed, _)| of == interface && changed.get(property) == Some(is))
    }

    /// Whether it tells of a bridge, a port, a container, a package or a unit: by PropertiesChanged, InterfacesAdded or -Removed.
    #[must_use]
    pub fn is_of_resource(&self) -> bool {
        let path = match self.member.as_str() {
            "InterfacesAdded" | "InterfacesRemoved" => self.arguments.first().and_then(Value::as_str),
            _ => Some(self.path.as_str()),
        };
        let kinds = ["bridge", "port", "container", "package", "unit"];
        path.is_some_and(|path| kinds.iter().any(|kind| path.starts_with(&format!("/org/opdbus/{kind}/"))))
    }
}

/// The signals of op-dbus since this was made or emptied, also of one that was started anew.
#[derive(Debug)]
pub struct Signals<'lab> {
    lab: &'lab Lab,
    connection: Connection,
    stream: MessageStream,
    seen: Vec<Signal>,
}

impl Lab {
    /// Listens to op-dbus from now on.
    #[must_use]
    pub fn signals(&self) -> Signals<'_> {
        self.runtime.block_on(async {
            let connection = Connection::system().await.expect("the system bus");
            let rule = MatchRule::builder().msg_type(message::Type::Signal);
            let rule = rule.path_namespace("/org/opdbus").build().expect("a rule");
            let stream = MessageStream::for_match_rule(rule, &connection, Some(QUEUE)).await.expect("a match");
            Signals { lab: self, connection, stream, seen: Vec::new() }
        })
    }
}

impl Signals<'_> {
    /// Waits for a signal that is so, and returns it. Those before it are kept too; those that were seen are not
    /// looked at again.
    ///
    /// # Panics
    ///
    /// If none comes; then it says what came.
    pub fn until(&mut self, what: &str, mut is: impl FnMut(&Signal) -> bool) -> Signal {
        let found = self.lab.runtime.block_on(async {
            let waiting = async {
                loop {
                    let message = self.stream.next().await.expect("the bus stays").expect("a whole message");
                    let signal = signal(&message);
                    self.seen.push(signal.clone());
                    if is(&signal) {
                        return signal;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, waiting).await.ok()
        });
        found.unwrap_or_else(|| panic!("no signal told {what}, but {:#?}", self.seen))
    }

    /// Waits for a PropertiesChanged that tells that this property is so now.
    pub fn until_told(&mut self, path: &str, interface: &str, property: &str, is: &Value) -> Signal {
        let what = format!("{interface}.{property} = {is} of {path}");
        self.until(&what, |signal| signal.tells(path, interface, property, is))
    }

    /// All seen so far, in order, with all that op-dbus has sent until now.
    pub fn seen(&mut self) -> &[Signal] {
        self.lab.runtime.block_on(async {
            // The answer comes after all that was sent before it.
            let peer = "org.freedesktop.DBus.Peer";
            let ping = self.connection.call_method(Some(NAME), "/org/opdbus", Some(peer), "Ping", &()).await;
            ping.expect("op-dbus answers");
            while let Some(message) = self.stream.next().now_or_never().flatten() {
                self.seen.push(signal(&message.expect("a whole message")));
            }
        });
        &self.seen
    }

    /// The PropertiesChanged seen so far of that object, those of `org.opdbus.INTERFACE`: what changed, what became
    /// invalid.
    pub fn changes(&mut self, path: &str, interface: &str) -> Vec<(Map<String, Value>, Vec<String>)> {
        let of_object = self.seen().iter().filter(|signal| signal.path == path);
        of_object
            .filter_map(Signal::changed)
            .filter(|(of, ..)| *of == format!("org.opdbus.{interface}"))
            .map(|(_, changed, invalid)| (changed.clone(), invalid.into_iter().map(str::to_owned).collect()))
            .collect()
    }

    /// Forgets all that was sent until now.
    pub fn forget(&mut self) {
        self.seen();
        self.seen.clear();
    }
}

fn signal(message: &zbus::Message) -> Signal {
    let header = message.header();
    let text = |part: Option<&dyn ToString>| part.map(ToString::to_string).unwrap_or_default();
    Signal {
        path: text(header.path().map(|part| part as &dyn ToString)),
        interface: text(header.interface().map(|part| part as &dyn ToString)),
        member: text(header.member().map(|part| part as &dyn ToString)),
        arguments: json::arguments(message),
    }
}
