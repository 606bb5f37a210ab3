//! A D-Bus service that misbehaves on demand: lies about its types, never answers, answers late, signals wrongly, vanishes in
//! the middle, floods. Served by hand, in a thread of its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use futures::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use zbus::{Connection, Message, MessageStream, OwnedVariant, Variant, connection::Builder, message::Type};

/// Its name on the bus.
pub const NAME: &str = "org.example.Odd";
/// Its object.
pub const PATH: &str = "/org/example/odd";

/// What it says of itself.
const XML: &str = r#"<node><interface name="org.example.Odd">
  <property name="Text" type="s" access="readwrite"/>
  <property name="Count" type="u" access="readwrite"/>
  <property name="Silent" type="s" access="readwrite">
    <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/></property>
  <property name="Fixed" type="s" access="read"/>
  <method name="SetFixed"><arg type="s" direction="in"/><arg type="b" direction="in"/></method>
  <method name="Make"><arg type="s" direction="in"/></method>
  <method name="Remove"/>
  <method name="isMade"><arg type="b" direction="out"/></method>
  <signal name="Poked"/>
</interface></node>"#;

/// How it behaves.
#[derive(Debug, Default)]
pub struct Behaviour {
    /// Values of its properties, of whatever types.
    pub properties: BTreeMap<String, OwnedVariant>,
    /// `isMade` answers so.
    pub made: bool,
    /// Calls are not answered, but kept until [`Odd::answer`].
    pub mute: bool,
    /// It is [`mute`](Self::mute) from its answer to the next `Set` on.
    pub mute_after_set: bool,
    /// `SetFixed` and `Set` answer, and change nothing.
    pub lazy: bool,
    /// The next call that changes something is not answered: the service leaves the bus instead.
    pub vanish: bool,
    /// Members that were called, in order.
    pub calls: Vec<String>,
}

enum Order {
    /// Signals with those bodies: of PropertiesChanged for the interface.
    Changed(Vec<(String, HashMap<String, OwnedVariant>, Vec<String>)>),
    /// A signal of its own.
    Poke,
    /// Answer what was kept.
    Answer,
    /// Leave the bus.
    Leave,
}

/// The handle of the service. It leaves the bus with it.
pub struct Odd {
    behaviour: Arc<Mutex<Behaviour>>,
    orders: mpsc::UnboundedSender<(Order, oneshot::Sender<()>)>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A value of a property.
pub fn value<'a>(value: impl Into<Variant<'a>>) -> OwnedVariant {
    value.into().try_into_owned().unwrap()
}

impl Odd {
    /// Lets anybody on the system bus have that name; once for a machine.
    pub fn allow() {
        let policy = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><policy context=\"default\">\
             <allow own=\"{NAME}\"/><allow send_destination=\"{NAME}\"/></policy></busconfig>\n"
        );
        std::fs::create_dir_all("/etc/dbus-1/system.d").unwrap();
        std::fs::write("/etc/dbus-1/system.d/org.example.Odd.conf", policy).unwrap();
        let reload = ["call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ReloadConfig"];
        assert!(std::process::Command::new("busctl").args(reload).status().unwrap().success());
    }

    /// Starts it, with those values.
    pub fn start(behaviour: Behaviour) -> Self {
        let behaviour = Arc::new(Mutex::new(behaviour));
        let (orders, receiver) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        let shared = behaviour.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(shared, receiver, ready));
        });
        is_ready.blocking_recv().unwrap();
        Self { behaviour, orders, thread: Some(thread) }
    }

    /// With the values that most tests begin with.
    pub fn plain() -> Self {
        let properties =
            [("Text", value("a")), ("Count", value(1_u32)), ("Silent", value("quiet")), ("Fixed", value("old"))];
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self::start(Behaviour { properties, ..Behaviour::default() })
    }

    /// Its behaviour from now on.
    pub fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    /// How often that member was called.
    pub fn called(&self, member: &str) -> usize {
        self.behaviour().calls.iter().filter(|call| *call == member).count()
    }

    fn order(&self, order: Order) {
        let (done, is_done) = oneshot::channel();
        self.orders.send((order, done)).ok().unwrap();
        is_done.blocking_recv().unwrap();
    }

    /// Signals changes, whatever is true.
    pub fn changed(&self, all: Vec<(String, HashMap<String, OwnedVariant>, Vec<String>)>) {
        self.order(Order::Changed(all));
    }

    /// Changes a property, and signals that.
    pub fn set(&self, name: &str, to: OwnedVariant) {
        self.behaviour().properties.insert(name.to_owned(), to.try_clone().unwrap());
        self.changed(vec![(NAME.to_owned(), HashMap::from([(name.to_owned(), to)]), Vec::new())]);
    }

    /// Sends its own signal.
    pub fn poke(&self) {
        self.order(Order::Poke);
    }

    /// Answers what was kept, and all that comes.
    pub fn answer(&self) {
        self.behaviour().mute = false;
        self.order(Order::Answer);
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        // One that vanished is not there to be told.
        let _ = self.orders.send((Order::Leave, done));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn serve(
    behaviour: Arc<Mutex<Behaviour>>,
    mut orders: mpsc::UnboundedReceiver<(Order, oneshot::Sender<()>)>,
    ready: oneshot::Sender<()>,
) {
    let connection = Builder::system().max_queued(std::num::NonZeroUsize::new(4096).unwrap()).build().await.unwrap();
    let mut stream = MessageStream::from(&connection);
    connection.request_name(NAME).await.unwrap();
    ready.send(()).unwrap();
    let mut kept = Vec::new();
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(Ok(message)) = message else { return };
                if message.message_type() != Type::MethodCall {
                    continue;
                }
                if behaviour.lock().unwrap().mute {
                    kept.push(message);
                } else if !answer(&connection, &behaviour, &message).await {
                    return;
                }
            }
            order = orders.recv() => match order {
                Some((Order::Changed(all), done)) => {
                    for chunk in all.chunks(1000) {
                        let signals: Vec<Message> = chunk
                            .iter()
                            .map(|body| {
                                Message::signal(PATH, "org.freedesktop.DBus.Properties", "PropertiesChanged")
                                    .build(body)
                                    .unwrap()
                            })
                            .collect();
                        connection.send_all(&signals).await.unwrap();
                    }
                    let _ = done.send(());
                }
                Some((Order::Poke, done)) => {
                    connection.send(&Message::signal(PATH, NAME, "Poked").build(&()).unwrap()).await.unwrap();
                    let _ = done.send(());
                }
                Some((Order::Answer, done)) => {
                    for message in std::mem::take(&mut kept) {
                        answer(&connection, &behaviour, &message).await;
                    }
                    let _ = done.send(());
                }
                Some((Order::Leave, _)) | None => return,
            }
        }
    }
}

/// Answers a call; `false` where it is the service's last.
async fn answer(connection: &Connection, behaviour: &Mutex<Behaviour>, message: &Message) -> bool {
    let header = message.header();
    let member = header.member().map(ToString::to_string).unwrap_or_default();
    let body = message.body();
    let reply = {
        let mut is = behaviour.lock().unwrap();
        is.calls.push(member.clone());
        if matches!(member.as_str(), "Set" | "SetFixed" | "Make" | "Remove") && std::mem::take(&mut is.vanish) {
            return false;
        }
        let signal = |name: &str, value: &OwnedVariant| {
            let changed = HashMap::from([(name.to_owned(), value.try_clone().unwrap())]);
            Message::signal(PATH, "org.freedesktop.DBus.Properties", "PropertiesChanged")
                .build(&(NAME, changed, Vec::<String>::new()))
                .unwrap()
        };
        let mut out = Vec::new();
        let reply = Message::method_return(&header);
        match member.as_str() {
            "Introspect" => out.push(reply.build(&XML).unwrap()),
            "GetAll" => {
                let all: HashMap<&String, &OwnedVariant> = is.properties.iter().collect();
                out.push(reply.build(&all).unwrap());
            }
            "Get" => {
                let (_, name): (String, String) = body.deserialize().unwrap();
                out.push(reply.build(is.properties.get(&name).unwrap()).unwrap());
            }
            "Set" => {
                let (_, name, value): (String, String, OwnedVariant) = body.deserialize().unwrap();
                if !is.lazy {
                    if name != "Silent" {
                        out.push(signal(&name, &value));
                    }
                    is.properties.insert(name, value);
                }
                is.mute = std::mem::take(&mut is.mute_after_set);
                out.push(reply.build(&()).unwrap());
            }
            "SetFixed" => {
                let (text, _): (String, bool) = body.deserialize().unwrap();
                if !is.lazy {
                    out.push(signal("Fixed", &value(text.as_str())));
                    is.properties.insert("Fixed".to_owned(), value(text.as_str()));
                }
                out.push(reply.build(&()).unwrap());
            }
            "Make" | "Remove" => {
                is.made = member == "Make";
                out.push(reply.build(&()).unwrap());
            }
            "isMade" => out.push(reply.build(&is.made).unwrap()),
            _ => out.push(Message::error(&header, "org.freedesktop.DBus.Error.UnknownMethod").build(&"no").unwrap()),
        }
        out
    };
    connection.send_all(&reply).await.unwrap();
    true
}
