//! `dbus-interfaces/*.xml` is the contract: the running daemon is held against it, member by member.

use std::collections::{BTreeMap, BTreeSet};

use op_dbus::{
    model::Snapshot,
    plan::Plan,
    reconcile::{Command, GenerationInfo},
};
use zbus::{OwnedVariant, Variant, message::Flags};
use zbus_xml::{ArgDirection, Interface, Node};

use crate::{
    fixture::{self, SHOWN_AT},
    hub::{Bed, Client, PROPERTIES, Refused, STATE, until_reply},
};

const EMITS: &str = "org.freedesktop.DBus.Property.EmitsChangedSignal";

/// The contract, by interface.
fn contract() -> BTreeMap<String, Interface<'static>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dbus-interfaces");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let node = Node::try_from(text.as_str()).unwrap();
        let [interface] = node.interfaces() else { panic!("{} holds one interface", path.display()) };
        let name = interface.name().to_string();
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), name, "a file is called as its interface");
        found.insert(name, interface.to_owned());
    }
    found
}

fn emits(property: &zbus_xml::Property<'_>) -> String {
    let annotation = property.annotations().iter().find(|entry| entry.name() == EMITS);
    annotation.unwrap_or_else(|| panic!("{} says how its changes are told", property.name())).value().to_owned()
}

fn arguments(method: &zbus_xml::Method<'_>, direction: ArgDirection) -> String {
    let wanted = method.args().iter().filter(|arg| arg.direction() == Some(direction));
    wanted.map(|arg| arg.ty().to_string()).collect()
}

async fn live(client: &Client, path: &str) -> Node<'static> {
    let xml = client.introspect(path).await.unwrap();
    assert!(!xml.contains("<!--"), "comments are stripped: {path}");
    Node::from_reader(xml.as_bytes()).unwrap()
}

#[tokio::test]
async fn every_interface_is_served_as_it_is_written_down() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let contract = contract();
    let shown: BTreeSet<&str> = SHOWN_AT.iter().map(|(interface, _)| *interface).collect();
    assert_eq!(contract.keys().map(String::as_str).collect::<BTreeSet<_>>(), shown);
    for (name, path) in SHOWN_AT {
        let node = live(&client, path).await;
        let served = node.interfaces().iter().find(|interface| interface.name().as_str() == name);
        assert_eq!(served, Some(&contract[name]), "{name}");
    }
}

#[tokio::test]
async fn an_object_has_its_own_interfaces_and_the_standard_ones_and_no_others() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let standard = ["org.freedesktop.DBus.Introspectable", "org.freedesktop.DBus.Peer", PROPERTIES];
    for (path, own) in [
        ("/", vec![]),
        ("/org/opdbus", vec!["org.freedesktop.DBus.ObjectManager"]),
        ("/org/opdbus/port", vec![]),
        (STATE, vec!["org.opdbus.State"]),
        (fixture::JOB, vec!["org.opdbus.Job"]),
        (fixture::PLUGIN, vec!["org.opdbus.Plugin"]),
        (fixture::UNIT, vec!["org.opdbus.Unit", "org.opdbus.Resource"]),
        (fixture::BRIDGE, vec!["org.opdbus.Bridge", "org.opdbus.Resource"]),
        (fixture::PORT, vec!["org.opdbus.Port", "org.opdbus.Resource"]),
        (fixture::CONTAINER, vec!["org.opdbus.Container", "org.opdbus.Resource"]),
        (fixture::OBJECT, vec!["org.opdbus.Object", "org.opdbus.Resource"]),
    ] {
        let node = live(&client, path).await;
        let found: BTreeSet<String> = node.interfaces().iter().map(|interface| interface.name().to_string()).collect();
        assert_eq!(found, standard.into_iter().chain(own).map(str::to_owned).collect(), "{path}");
    }
}

#[tokio::test]
async fn every_property_is_there_with_its_type_and_cannot_be_set() {
    let contract = contract();
    for snapshot in [fixture::before(), fixture::after()] {
        let bed = Bed::start(snapshot).await;
        let client = bed.client().await;
        for (name, path) in SHOWN_AT {
            let all = client.get_all(path, name).await.unwrap();
            let wanted: BTreeMap<String, String> = contract[name]
                .properties()
                .map(|property| (property.name().to_string(), property.ty().to_string()))
                .collect();
            let found: BTreeMap<String, String> =
                all.iter().map(|(key, value)| (key.clone(), value.value_signature().to_string())).collect();
            assert_eq!(found, wanted, "{name}");
            for property in contract[name].properties() {
                let key = property.name().to_string();
                assert_eq!(client.get(path, name, &key).await.unwrap(), all[&key], "{name}.{key}");
                assert!(property.access().read() && !property.access().write(), "{name}.{key}");
                let set = client.call(path, PROPERTIES, "Set", &(name, &key, &all[&key])).await;
                let Err(Refused(error, _)) = set else { panic!("{name}.{key} was set") };
                assert_eq!(error, "org.freedesktop.DBus.Error.PropertyReadOnly");
            }
        }
    }
}

/// Every property changes; those announced come with their value, those invalidated by name, the others not at all.
#[tokio::test]
async fn every_change_is_told_as_its_annotation_says() {
    let contract = contract();
    let bed = Bed::start(fixture::before()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    bed.publisher.publish(fixture::after());
    let serial = client.send(STATE, "org.freedesktop.DBus.Peer", "Ping", Flags::empty(), &()).await;
    let messages = until_reply(&mut stream, serial).await;
    for (name, path) in SHOWN_AT {
        let mut told: BTreeMap<String, &str> = BTreeMap::new();
        let mut signals = 0;
        for message in &messages {
            let header = message.header();
            if header.path().map(zbus::ObjectPath::as_str) != Some(path)
                || header.member().map(zbus::names::MemberName::as_str) != Some("PropertiesChanged")
            {
                continue;
            }
            let body = message.body();
            let (interface, changed, invalidated): (String, BTreeMap<String, OwnedVariant>, Vec<String>) =
                body.deserialize().unwrap();
            if interface == name {
                signals += 1;
                told.extend(changed.into_keys().map(|key| (key, "true")));
                told.extend(invalidated.into_iter().map(|key| (key, "invalidates")));
            }
        }
        let wanted: BTreeMap<String, String> = contract[name]
            .properties()
            .map(|property| (property.name().to_string(), emits(property)))
            .filter(|(_, emits)| emits == "true" || emits == "invalidates")
            .collect();
        assert_eq!(signals, 1, "one signal for all changes of {name}");
        assert_eq!(told, wanted.iter().map(|(key, emits)| (key.clone(), emits.as_str())).collect(), "{name}");
    }
}

/// A value of that signature, good enough to be taken.
fn value(signature: &str) -> Variant<'static> {
    match signature {
        "s" => Variant::from("{}"),
        "t" => Variant::from(1_u64),
        _ => panic!("no value of {signature} is needed"),
    }
}

/// Calls a method with arguments that are right.
async fn call(
    client: &Client,
    path: &str,
    interface: &str,
    member: &str,
    input: &str,
) -> Result<zbus::Message, Refused> {
    let none: BTreeMap<&str, Variant<'_>> = BTreeMap::new();
    let text = "{}";
    match input {
        "" => client.call(path, interface, member, &()).await,
        "s" => client.call(path, interface, member, &text).await,
        "a{sv}" => client.call(path, interface, member, &none).await,
        "sa{sv}" => client.call(path, interface, member, &(text, none)).await,
        "ta{sv}" => client.call(path, interface, member, &(1_u64, none)).await,
        "asa{sv}" => client.call(path, interface, member, &(vec!["ovsdb"], none)).await,
        "a{sv}sua{sv}" => client.call(path, interface, member, &(&none, "", 0_u32, &none)).await,
        _ => panic!("{member} takes {input}: add it here"),
    }
}

/// Says yes to everything.
fn agree(command: Command) {
    match command {
        Command::SetDesiredState { reply, .. } | Command::AdoptStateFile { reply, .. } => {
            reply.send(Ok((2, 7))).unwrap();
        }
        Command::Plan(request) => request.reply.send(Ok(Plan::default().into())).unwrap(),
        Command::Reconcile { reply, .. } | Command::Lifecycle { reply, .. } => reply.send(Ok(7)).unwrap(),
        Command::Cancel { reply, .. } => reply.send(Ok(())).unwrap(),
        Command::ListGenerations { reply } => reply
            .send(vec![GenerationInfo {
                number: 1,
                time_usec: 1,
                source: "bus",
                uid: 0,
                sha256: "00".to_owned(),
                result: String::new(),
            }])
            .unwrap(),
        Command::GetDesiredState { reply, .. } | Command::ExportState { reply, .. } => {
            reply.send(Ok("{}".to_owned())).unwrap();
        }
    }
}

#[tokio::test]
async fn every_method_takes_and_gives_what_is_written_down() {
    let contract = contract();
    let Bed { bus, publisher: _publisher, mut commands, served: _served, notices: _notices, shutdown: _shutdown } =
        Bed::start(fixture::after()).await;
    let client = Client { connection: bus.connect().await };
    let core = tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            agree(command);
        }
    });
    for (name, path) in SHOWN_AT {
        for method in contract[name].methods() {
            let member = method.name().to_string();
            let input = arguments(method, ArgDirection::In);
            let reply = call(&client, path, name, &member, &input).await;
            let reply = reply.unwrap_or_else(|why| panic!("{name}.{member}: {why:?}"));
            let given = reply.body().signature().to_string_no_parens();
            assert_eq!(given, arguments(method, ArgDirection::Out), "{name}.{member}");
            // Another signature than that is refused, and the right one named.
            let Err(Refused(error, text)) = client.call(path, name, &member, &(1_u8, value("s"))).await else {
                panic!("{name}.{member} takes what it should not")
            };
            assert_eq!(error, "org.freedesktop.DBus.Error.InvalidArgs", "{name}.{member}");
            assert!(text.contains(if input.is_empty() { "none" } else { &input }), "{name}.{member}: {text}");
        }
    }
    core.abort();
}

#[tokio::test]
async fn a_declared_resource_that_is_missing_is_on_the_tree_with_its_name() {
    let mut snapshot = Snapshot::default();
    for id in ["unit:a.service", "bridge:br", "port:p", "container:100"] {
        crate::hub::Builder::add(&mut snapshot, id.parse().unwrap());
    }
    let bed = Bed::start(snapshot).await;
    let client = bed.client().await;
    for (path, interface, property, name) in [
        ("/org/opdbus/unit/a_2eservice", "org.opdbus.Unit", "Id", "a.service"),
        ("/org/opdbus/bridge/br", "org.opdbus.Bridge", "Name", "br"),
        ("/org/opdbus/port/p", "org.opdbus.Port", "Name", "p"),
        ("/org/opdbus/container/_3100", "org.opdbus.Container", "Name", "100"),
    ] {
        assert_eq!(*client.get(path, interface, property).await.unwrap(), Variant::from(name));
        assert_eq!(
            *client.get(path, "org.opdbus.Resource", "Name").await.unwrap(),
            Variant::from(interface_name(path))
        );
    }
    let nothing = client.get("/org/opdbus/port/p", "org.opdbus.Port", "Bridge").await.unwrap();
    assert_eq!(*nothing, Variant::from(zbus::ObjectPath::try_from("/").unwrap()));
}

fn interface_name(path: &str) -> &'static str {
    match path.split('/').nth(3) {
        Some("unit") => "a.service",
        Some("bridge") => "br",
        Some("port") => "p",
        _ => "100",
    }
}

#[tokio::test]
async fn no_secret_leaves() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let tree = format!("{:?}", client.managed_objects().await.unwrap());
    assert!(tree.contains("192.0.2.9") && tree.contains("[redacted]"));
    assert!(!tree.contains("swordfish"));
}
