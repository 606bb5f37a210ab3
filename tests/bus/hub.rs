//! A core played by the test: it publishes snapshots, sends notices and answers commands; the bus is the real one.

use std::{collections::HashMap, sync::Arc};

use futures::StreamExt as _;
use op_dbus::{
    bus::{self, Access, BusAddress, BusConfig, BusError, Limits, ParseDocument},
    desired::Document,
    model::{
        Backend, BackendStatus, BridgeFacts, ContainerFacts, DriftPolicy, InterfaceFacts, JobFacts, JobKind, JobState,
        ObjectFacts, PackageFacts, PluginFacts, PortFacts, Publisher, Reason, ResourceFacts, ResourceId, Snapshot,
        Status, Subject, UnitFacts,
    },
    reconcile::{Command, CoreError, Fault, Hub, Notice},
};
use op_dbus_testkit::PrivateBus;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use zbus::{Connection, DynamicType, Message, MessageStream, OwnedVariant, message::Flags};

pub const MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
pub const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
pub const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
pub const PEER: &str = "org.freedesktop.DBus.Peer";
pub const STATE: &str = "/org/opdbus/state";

/// The bus under test with a core behind it.
#[derive(Debug)]
pub struct Bed {
    pub bus: PrivateBus,
    pub publisher: Publisher,
    pub commands: mpsc::UnboundedReceiver<Command>,
    pub notices: mpsc::UnboundedSender<Notice>,
    pub shutdown: Option<oneshot::Sender<()>>,
    pub served: JoinHandle<Result<(), BusError>>,
}

/// Takes `{}` and refuses all else, naming two faults.
pub fn parse(text: &str) -> Result<Document, CoreError> {
    match text {
        "{}" => Ok(Document::default()),
        _ => Err(CoreError::InvalidDocument(vec![
            Fault { pointer: "/a".to_owned(), code: "UnknownField", message: "no field a".to_owned() },
            Fault { pointer: "/b/c".to_owned(), code: "WrongType", message: "c is a\0number".to_owned() },
        ])),
    }
}

impl Bed {
    pub async fn start(first: Snapshot) -> Self {
        Self::with(first, Access::SameUser, Limits::default()).await
    }

    pub async fn with(first: Snapshot, access: Access, limits: Limits) -> Self {
        Self::on(PrivateBus::start(), first, access, limits).await
    }

    pub async fn on(bus: PrivateBus, first: Snapshot, access: Access, limits: Limits) -> Self {
        Self::whole(bus, first, access, limits, ParseDocument::new(parse)).await
    }

    pub async fn parsing(first: Snapshot, limits: Limits, parse: ParseDocument) -> Self {
        Self::whole(PrivateBus::start(), first, Access::SameUser, limits, parse).await
    }

    async fn whole(bus: PrivateBus, first: Snapshot, access: Access, limits: Limits, parse: ParseDocument) -> Self {
        let publisher = Publisher::new(first);
        let (sender, commands) = mpsc::unbounded_channel();
        let (notices, told) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        let (shutdown, stop) = oneshot::channel::<()>();
        let config =
            BusConfig { address: BusAddress::Address(bus.address.clone()), access, limits, parse, ready: Some(ready) };
        let hub = Hub { commands: sender, reader: publisher.reader() };
        let served = tokio::spawn(bus::serve(config, hub, told, async move {
            // Dropped: the test is over, and so is the runtime.
            if stop.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        is_ready.await.expect("the name is owned");
        Self { bus, publisher, commands, notices, shutdown: Some(shutdown), served }
    }

    pub async fn client(&self) -> Client {
        Client { connection: self.bus.connect().await }
    }
}

/// An error reply: name and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String, pub String);

#[derive(Debug, Clone)]
pub struct Client {
    pub connection: Connection,
}

impl Client {
    pub async fn call<B>(&self, path: &str, interface: &str, member: &str, body: &B) -> Result<Message, Refused>
    where
        B: serde::Serialize + DynamicType,
    {
        let interface = (!interface.is_empty()).then_some(interface);
        match self.connection.call_method(Some("org.opdbus"), path, interface, member, body).await {
            Ok(reply) => Ok(reply),
            Err(zbus::Error::MethodError(name, text, _)) => Err(Refused(name.to_string(), text.unwrap_or_default())),
            Err(zbus::Error::FDO(why)) => {
                use zbus::DBusError as _;
                Err(Refused(why.name().to_string(), why.description().unwrap_or_default().to_owned()))
            }
            Err(why) => panic!("{path} {member}: {why}"),
        }
    }

    pub async fn get(&self, path: &str, interface: &str, property: &str) -> Result<OwnedVariant, Refused> {
        let reply = self.call(path, PROPERTIES, "Get", &(interface, property)).await?;
        Ok(reply.body().deserialize().unwrap())
    }

    pub async fn get_all(&self, path: &str, interface: &str) -> Result<HashMap<String, OwnedVariant>, Refused> {
        let reply = self.call(path, PROPERTIES, "GetAll", &interface).await?;
        Ok(reply.body().deserialize().unwrap())
    }

    pub async fn introspect(&self, path: &str) -> Result<String, Refused> {
        let reply = self.call(path, INTROSPECTABLE, "Introspect", &()).await?;
        Ok(reply.body().deserialize().unwrap())
    }

    pub async fn managed_objects(&self) -> Result<Tree, Refused> {
        let reply = self.call("/org/opdbus", MANAGER, "GetManagedObjects", &()).await?;
        let tree: HashMap<zbus::OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>> =
            reply.body().deserialize().unwrap();
        Ok(tree.into_iter().map(|(path, interfaces)| (path.to_string(), interfaces)).collect())
    }

    pub async fn ping(&self) {
        self.call(STATE, PEER, "Ping", &()).await.unwrap();
    }

    /// Everything that the bed's bus sends from here on, in order.
    pub async fn listen(&self) -> MessageStream {
        let rule = "type='signal',sender='org.opdbus',path_namespace='/org/opdbus'";
        self.connection
            .call_method(
                Some("org.freedesktop.DBus"),
                "/org/freedesktop/DBus",
                Some("org.freedesktop.DBus"),
                "AddMatch",
                &rule,
            )
            .await
            .unwrap();
        let mut stream = MessageStream::from(&self.connection);
        stream.set_max_queued(std::num::NonZeroUsize::new(100_000).unwrap());
        stream
    }

    /// Sends a call and gives its serial: the reply is to be found in a stream.
    pub async fn send<B>(&self, path: &str, interface: &str, member: &str, flags: Flags, body: &B) -> u32
    where
        B: serde::Serialize + DynamicType,
    {
        let call = Message::method_call(path, member)
            .destination("org.opdbus")
            .interface(interface)
            .with_flags(flags)
            .build(body)
            .unwrap();
        self.connection.send(&call).await.unwrap();
        call.primary_header().serial_num().get()
    }
}

/// Objects, their interfaces, their properties.
pub type Tree = HashMap<String, HashMap<String, HashMap<String, OwnedVariant>>>;

/// Messages of a stream up to and with the reply to that serial; other replies are left out.
pub async fn until_reply(stream: &mut MessageStream, serial: u32) -> Vec<Message> {
    let mut seen = Vec::new();
    loop {
        let message = stream.next().await.unwrap().unwrap();
        let reply = message.header().reply_serial().map(std::num::NonZeroU32::get);
        match message.message_type() {
            zbus::message::Type::Signal
                if message.header().path().is_some_and(|path| path.starts_with("/org/opdbus")) =>
            {
                seen.push(message);
            }
            _ if reply == Some(serial) => {
                seen.push(message);
                return seen;
            }
            _ => {}
        }
    }
}

/// `path member` of a signal, or `reply`.
pub fn label(message: &Message) -> String {
    let header = message.header();
    match header.path() {
        Some(path) => format!("{path} {}", header.member().unwrap()),
        None => "reply".to_owned(),
    }
}

pub fn unmanaged() -> ResourceFacts {
    ResourceFacts {
        managed: false,
        present: true,
        in_sync: true,
        owned: false,
        status: Status::Unmanaged,
        reason: Reason::None,
        message: String::new(),
        differences: vec![],
        drift_policy: DriftPolicy::Report,
        observed_generation: 0,
        last_transition_usec: 0,
    }
}

pub fn job(target: impl Into<Subject>) -> JobFacts {
    JobFacts {
        generation: 1,
        kind: JobKind::Apply,
        target: target.into(),
        state: JobState::Running,
        result: None,
        message: String::new(),
        progress: 0.0,
        steps: Default::default(),
        started_usec: 1,
        finished_usec: 0,
        caller_uid: 0,
    }
}

pub fn plugin() -> PluginFacts {
    PluginFacts {
        backend: Backend {
            status: BackendStatus::Connected,
            message: String::new(),
            version: "1".to_owned(),
            reconnects: 0,
        },
        resources: 0,
        last_event_usec: 0,
        updates_available: 0,
    }
}

/// Adds resources to a snapshot.
pub trait Builder {
    fn add_port(&mut self, name: &str, facts: PortFacts);
    fn add_bridge(&mut self, name: &str, facts: BridgeFacts);
    fn add_unit(&mut self, name: &str, facts: UnitFacts);
    fn add_package(&mut self, name: &str, facts: PackageFacts);
    fn add_container(&mut self, id: &str, facts: ContainerFacts);
    fn add_object(&mut self, name: &str, facts: ObjectFacts);
    fn add(&mut self, id: ResourceId);
}

impl Builder for Snapshot {
    fn add_port(&mut self, name: &str, facts: PortFacts) {
        self.observed.ports.insert(name.into(), Arc::new(facts));
        self.add(ResourceId::port(name));
    }

    fn add_bridge(&mut self, name: &str, facts: BridgeFacts) {
        self.observed.bridges.insert(name.into(), Arc::new(facts));
        self.add(ResourceId::bridge(name));
    }

    fn add_package(&mut self, name: &str, facts: PackageFacts) {
        self.observed.packages.insert(name.into(), Arc::new(facts));
        self.add(ResourceId::package(name));
    }

    fn add_unit(&mut self, name: &str, facts: UnitFacts) {
        self.observed.units.insert(name.into(), Arc::new(facts));
        self.add(ResourceId::unit(name));
    }

    fn add_container(&mut self, id: &str, facts: ContainerFacts) {
        self.observed.containers.insert(id.into(), Arc::new(facts));
        self.add(ResourceId::container(id));
    }

    fn add_object(&mut self, name: &str, facts: ObjectFacts) {
        self.observed.objects.insert(name.into(), Arc::new(facts));
        self.add(ResourceId::object(name));
    }

    fn add(&mut self, id: ResourceId) {
        self.resources.insert(id, Arc::new(unmanaged()));
    }
}

/// A port as a busy switch has it.
pub fn port(name: &str, bridge: &str) -> PortFacts {
    PortFacts {
        uuid: "6f2f4f5e-8a34-4d59-a2d7-3c1a0f2b9d11".to_owned(),
        bridge: bridge.into(),
        interfaces: vec![InterfaceFacts {
            name: name.to_owned(),
            ofport: Some(1),
            link_state: "up".to_owned(),
            admin_state: "up".to_owned(),
            mac_in_use: "02:00:00:00:00:01".to_owned(),
            mtu: Some(1500),
            ifindex: Some(7),
            ..InterfaceFacts::default()
        }],
        ..PortFacts::default()
    }
}

/// A tree of so many ports on one bridge.
pub fn many_ports(count: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut bridge = BridgeFacts::default();
    for number in 0..count {
        let name = format!("port{number}");
        bridge.ports.insert(name.as_str().into());
        snapshot.add_port(&name, port(&name, "ovsbr0"));
    }
    snapshot.add_bridge("ovsbr0", bridge);
    snapshot
}
