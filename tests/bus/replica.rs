//! A client that reads the tree once and then only listens has the tree, whatever happens.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt as _;
use op_dbus::model::{
    BridgeFacts, ContainerFacts, JobState, Kind, Name, ObjectFacts, PackageFacts, ResourceId, Snapshot, StepFacts,
    StepState, Subject, TypedValue, UnitFacts,
};
use proptest::prelude::*;
use zbus::{Message, OwnedVariant, message::Flags};

use crate::hub::{Bed, Builder as _, Client, MANAGER, PEER, STATE, Tree, job, plugin, port, unmanaged, until_reply};

/// One change of the model.
#[derive(Debug, Clone)]
enum Change {
    Put(Kind, u8, u8),
    Declare(Kind, u8),
    Drop(Kind, u8),
    Forget(Kind, u8),
    Link(u8, u8),
    Unlink(u8),
    Resource(Kind, u8, u8),
    Job(u64, u8),
    JobGone(u64),
    Plugin(u8),
    State(u8),
    /// Clients may look now.
    Publish,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn change() -> impl Strategy<Value = Change> {
    let name = 0..4_u8;
    prop_oneof![
        4 => (kind(), name.clone(), 0..3_u8).prop_map(|(kind, name, value)| Change::Put(kind, name, value)),
        1 => (kind(), name.clone()).prop_map(|(kind, name)| Change::Declare(kind, name)),
        1 => (kind(), name.clone()).prop_map(|(kind, name)| Change::Drop(kind, name)),
        1 => (kind(), name.clone()).prop_map(|(kind, name)| Change::Forget(kind, name)),
        1 => (name.clone(), name.clone()).prop_map(|(port, container)| Change::Link(port, container)),
        1 => name.clone().prop_map(Change::Unlink),
        2 => (kind(), name, 0..3_u8).prop_map(|(kind, name, value)| Change::Resource(kind, name, value)),
        2 => (0..3_u64, 0..3_u8).prop_map(|(id, value)| Change::Job(id, value)),
        1 => (0..3_u64).prop_map(Change::JobGone),
        1 => (0..3_u8).prop_map(Change::Plugin),
        1 => (0..3_u8).prop_map(Change::State),
        3 => Just(Change::Publish),
    ]
}

fn name(number: u8) -> Name {
    // Two of them differ by escaping alone.
    ["a-b", "a_2db", "100", ""][usize::from(number)].into()
}

fn apply(snapshot: &mut Snapshot, change: &Change) {
    match change {
        Change::Put(kind, number, value) => {
            let name = name(*number);
            match kind {
                Kind::Unit => {
                    let restarts = u32::from(*value);
                    snapshot.add_unit(&name, UnitFacts { restarts, ..UnitFacts::default() });
                }
                Kind::Bridge => {
                    let ports = (0..*value).map(self::name).collect();
                    snapshot.add_bridge(&name, BridgeFacts { ports, ..BridgeFacts::default() });
                }
                Kind::Port => {
                    let mut facts = port(&name, "a-b");
                    facts.tag = Some(u16::from(*value));
                    snapshot.add_port(&name, facts);
                }
                Kind::Package => {
                    let installed = value.to_string();
                    snapshot.add_package(&name, PackageFacts { installed, ..PackageFacts::default() });
                }
                Kind::Container => {
                    let stale_ports = (0..*value).map(self::name).collect();
                    snapshot.add_container(&name, ContainerFacts { stale_ports, ..ContainerFacts::default() });
                }
                Kind::Object => {
                    let counted = TypedValue { signature: "y".to_owned(), value: (*value).into() };
                    let properties = [("Count".to_owned(), counted)].into();
                    snapshot.add_object(&name, ObjectFacts { properties, ..ObjectFacts::default() });
                }
            }
        }
        Change::Declare(kind, number) => snapshot.add(ResourceId::new(*kind, name(*number))),
        Change::Drop(kind, number) => {
            snapshot.resources.remove(&ResourceId::new(*kind, name(*number)));
        }
        // Declared and missing: the facts go and the object stays.
        Change::Forget(kind, number) => {
            let (name, observed) = (name(*number), &mut snapshot.observed);
            match kind {
                Kind::Package => drop(observed.packages.remove(&name)),
                Kind::Unit => drop(observed.units.remove(&name)),
                Kind::Bridge => drop(observed.bridges.remove(&name)),
                Kind::Port => drop(observed.ports.remove(&name)),
                Kind::Container => drop(observed.containers.remove(&name)),
                Kind::Object => drop(observed.objects.remove(&name)),
            }
        }
        Change::Link(port, container) => {
            let links = &mut snapshot.observed.links;
            links.port_container.insert(name(*port), name(*container));
            links.bridge_containers.insert(name(*port), [name(*container)].into());
        }
        Change::Unlink(port) => {
            snapshot.observed.links.port_container.remove(&name(*port));
            snapshot.observed.links.bridge_containers.remove(&name(*port));
        }
        Change::Resource(kind, number, value) => {
            let id = ResourceId::new(*kind, name(*number));
            if snapshot.resources.contains_key(&id) {
                let mut facts = unmanaged();
                facts.observed_generation = u64::from(*value);
                snapshot.resources.insert(id, Arc::new(facts));
            }
        }
        Change::Job(id, value) => {
            let mut facts = job(Subject::State);
            facts.state = [JobState::Queued, JobState::Running, JobState::Verifying][usize::from(*value)];
            for step in 0..u32::from(*value) {
                let subject = ResourceId::unit(name(0)).into();
                let facts_of =
                    StepFacts { subject, action: "start", state: StepState::Pending, message: String::new() };
                facts.steps.insert(step, Arc::new(facts_of));
            }
            snapshot.jobs.insert(*id, Arc::new(facts));
        }
        Change::JobGone(id) => drop(snapshot.jobs.remove(id)),
        Change::Plugin(value) => {
            let mut facts = plugin();
            facts.resources = u32::from(*value);
            snapshot.plugins.insert("ovsdb", Arc::new(facts));
        }
        Change::State(value) => Arc::make_mut(&mut snapshot.state).managed = u32::from(*value),
        Change::Publish => {}
    }
}

/// Takes a signal in. Nothing is told that the copy knows already; what is invalidated is `None` until read again.
fn follow(copy: &mut BTreeMap<String, BTreeMap<String, BTreeMap<String, Option<OwnedVariant>>>>, message: &Message) {
    let header = message.header();
    let body = message.body();
    match header.member().unwrap().as_str() {
        "InterfacesAdded" => {
            type Added = (zbus::OwnedObjectPath, BTreeMap<String, BTreeMap<String, OwnedVariant>>);
            let (path, interfaces): Added = body.deserialize().unwrap();
            assert!(copy.insert(path.to_string(), known(interfaces)).is_none(), "{path} was there");
        }
        "InterfacesRemoved" => {
            let (path, interfaces): (zbus::OwnedObjectPath, Vec<String>) = body.deserialize().unwrap();
            let gone = copy.remove(path.as_str()).unwrap_or_else(|| panic!("{path} was not there"));
            let mut interfaces = interfaces;
            interfaces.sort();
            assert_eq!(gone.into_keys().collect::<Vec<_>>(), interfaces);
        }
        "PropertiesChanged" => {
            let (interface, changed, invalidated): (String, BTreeMap<String, OwnedVariant>, Vec<String>) =
                body.deserialize().unwrap();
            let path = header.path().unwrap().to_string();
            let face = copy.get_mut(&path).and_then(|object| object.get_mut(&interface));
            let face = face.unwrap_or_else(|| panic!("{path} {interface} was not there"));
            for (key, value) in changed {
                let old = face.insert(key.clone(), Some(value.clone()));
                assert_ne!(old, Some(Some(value)), "{path} {interface}.{key} did not change");
            }
            for key in invalidated {
                *face.get_mut(&key).unwrap() = None;
            }
        }
        other => panic!("nobody sent {other}"),
    }
}

fn known<V>(interfaces: BTreeMap<String, BTreeMap<String, V>>) -> BTreeMap<String, BTreeMap<String, Option<V>>> {
    let known = |properties: BTreeMap<String, V>| properties.into_iter().map(|(key, value)| (key, Some(value)));
    interfaces.into_iter().map(|(name, properties)| (name, known(properties).collect())).collect()
}

fn tree(message: &Message) -> Tree {
    type Objects = std::collections::HashMap<
        zbus::OwnedObjectPath,
        std::collections::HashMap<String, std::collections::HashMap<String, OwnedVariant>>,
    >;
    let objects: Objects = message.body().deserialize().unwrap();
    objects.into_iter().map(|(path, interfaces)| (path.to_string(), interfaces)).collect()
}

async fn check(changes: &[Change]) {
    let mut snapshot = Snapshot::default();
    let bed = Bed::start(snapshot.clone()).await;
    let client: Client = bed.client().await;
    let mut stream = client.listen().await;
    let read = async |stream: &mut zbus::MessageStream| {
        let serial = client.send("/org/opdbus", MANAGER, "GetManagedObjects", Flags::empty(), &()).await;
        until_reply(stream, serial).await
    };
    let first = read(&mut stream).await;
    let mut copy = BTreeMap::new();
    for (path, interfaces) in tree(first.last().unwrap()) {
        copy.insert(path, known(interfaces.into_iter().map(|(name, all)| (name, all.into_iter().collect())).collect()));
    }
    for change in changes {
        apply(&mut snapshot, change);
        if matches!(change, Change::Publish) {
            bed.publisher.publish(snapshot.clone());
            // Some are seen one by one, some together with the next.
            let serial = client.send(STATE, PEER, "Ping", Flags::empty(), &()).await;
            let messages = until_reply(&mut stream, serial).await;
            messages[..messages.len() - 1].iter().for_each(|message| follow(&mut copy, message));
        }
    }
    bed.publisher.publish(snapshot);
    let mut messages = read(&mut stream).await;
    let last = tree(&messages.pop().unwrap());
    messages.iter().for_each(|message| follow(&mut copy, message));
    assert_eq!(
        copy.keys().collect::<Vec<_>>(),
        last.keys().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    for (path, interfaces) in &copy {
        for (interface, properties) in interfaces {
            for (key, value) in properties {
                let now = &last[path][interface][key];
                if let Some(value) = value {
                    // The one property whose changes are not told.
                    assert!(value == now || key == "LastEventUSec", "{path} {interface}.{key}");
                }
            }
            assert_eq!(properties.len(), last[path][interface].len());
        }
    }
    // Nothing came after.
    drop(bed);
    while let Some(Ok(message)) = stream.next().await {
        assert!(message.header().path().is_none_or(|path| !path.starts_with("/org/opdbus")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(op_dbus_testkit::cases(48)))]

    #[test]
    fn whoever_listens_knows_the_tree(changes in prop::collection::vec(change(), 0..60)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(&changes));
    }
}
