//! What is signalled, once each, and in which order.

use std::sync::Arc;

use op_dbus::{
    model::{BridgeFacts, Difference, JobResult, JobState, ResourceId, StepState, Subject, Value},
    reconcile::{Command, Notice},
};
use zbus::message::Flags;

use crate::{
    fixture::{self, BRIDGE, JOB, PORT},
    hub::{Bed, Builder as _, PEER, STATE, job, label, port, unmanaged, until_reply},
};

/// Signals up to the reply of a call made now.
async fn told(client: &crate::hub::Client, stream: &mut zbus::MessageStream) -> Vec<String> {
    let serial = client.send(STATE, PEER, "Ping", Flags::empty(), &()).await;
    until_reply(stream, serial).await.iter().map(label).collect()
}

#[tokio::test]
async fn a_change_is_told_once_and_nothing_else_is() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;

    // The same facts anew: nothing changed.
    bed.publisher.publish(fixture::after());
    assert_eq!(told(&client, &mut stream).await, ["reply"]);

    // Facts that are not shown.
    let mut snapshot = fixture::after();
    let mut facts = (*snapshot.observed.ports["veth100"]).clone();
    facts.other_config.insert("x".to_owned(), "y".to_owned());
    facts.interfaces[0].options.insert("psk".to_owned(), "another".to_owned());
    snapshot.observed.ports.insert("veth100".into(), Arc::new(facts.clone()));
    bed.publisher.publish(snapshot.clone());
    assert_eq!(told(&client, &mut stream).await, ["reply"]);

    // One that is.
    facts.interfaces[0].link_state = "down".to_owned();
    snapshot.observed.ports.insert("veth100".into(), Arc::new(facts));
    bed.publisher.publish(snapshot.clone());
    let serial = client.send(STATE, PEER, "Ping", Flags::empty(), &()).await;
    let messages = until_reply(&mut stream, serial).await;
    let labels: Vec<_> = messages.iter().map(label).collect();
    assert_eq!(labels, [format!("{PORT} PropertiesChanged"), "reply".to_owned()]);
    let body = messages[0].body();
    let (interface, changed, invalidated): (
        String,
        std::collections::BTreeMap<String, zbus::OwnedVariant>,
        Vec<String>,
    ) = body.deserialize().unwrap();
    assert_eq!(interface, "org.opdbus.Port");
    // The interface's list shows it as well.
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["Interfaces", "LinkState"]);
    assert!(invalidated.is_empty());
}

#[tokio::test]
async fn what_is_of_no_resource_is_not_told() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    let mut snapshot = fixture::after();
    // Observed and not on the tree: the list of objects is `resources`.
    snapshot.observed.bridges.insert("ghost".into(), Arc::new(BridgeFacts::default()));
    bed.publisher.publish(snapshot);
    assert_eq!(told(&client, &mut stream).await, ["reply"]);
}

#[tokio::test]
async fn relations_are_told_at_both_ends() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    let mut snapshot = fixture::after();
    snapshot.observed.links.port_container.remove("veth100");
    snapshot.observed.links.bridge_containers.remove("ovsbr0");
    bed.publisher.publish(snapshot.clone());
    let signals = told(&client, &mut stream).await;
    assert_eq!(
        signals,
        [format!("{BRIDGE} PropertiesChanged"), format!("{PORT} PropertiesChanged"), "reply".to_owned()]
    );

    // A container says that a port outlived it: that is the port's.
    let mut snapshot = fixture::after();
    let mut facts = (*snapshot.observed.ports["veth100"]).clone();
    facts.interfaces[0].ofport = Some(1);
    facts.interfaces[0].error = String::new();
    snapshot.observed.ports.insert("veth100".into(), Arc::new(facts));
    bed.publisher.publish(snapshot.clone());
    told(&client, &mut stream).await;
    let stale = async || client.get(PORT, "org.opdbus.Port", "Stale").await.unwrap();
    assert_eq!(*stale().await, zbus::Variant::from(false));
    let mut container = (*snapshot.observed.containers["100"]).clone();
    container.stale_ports.insert("veth100".into());
    snapshot.observed.containers.insert("100".into(), Arc::new(container));
    bed.publisher.publish(snapshot);
    assert_eq!(told(&client, &mut stream).await, [format!("{PORT} PropertiesChanged"), "reply".to_owned()]);
    assert_eq!(*stale().await, zbus::Variant::from(true));
}

#[tokio::test]
async fn an_object_comes_with_all_it_shows_and_goes_with_all_it_had() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    let mut snapshot = fixture::after();
    snapshot.add_port("new", port("new", "ovsbr0"));
    bed.publisher.publish(snapshot);
    let serial = client.send(STATE, PEER, "Ping", Flags::empty(), &()).await;
    let messages = until_reply(&mut stream, serial).await;
    let labels: Vec<_> = messages.iter().map(label).collect();
    assert_eq!(labels, ["/org/opdbus InterfacesAdded", "reply"]);
    type Added = (
        zbus::OwnedObjectPath,
        std::collections::HashMap<String, std::collections::HashMap<String, zbus::OwnedVariant>>,
    );
    let (path, interfaces): Added = messages[0].body().deserialize().unwrap();
    assert_eq!(path.as_str(), "/org/opdbus/port/new");
    for name in ["org.opdbus.Port", "org.opdbus.Resource"] {
        assert_eq!(interfaces[name], client.get_all(path.as_str(), name).await.unwrap(), "{name}");
    }
    assert_eq!(interfaces.len(), 2);

    bed.publisher.publish(fixture::after());
    let serial = client.send(STATE, PEER, "Ping", Flags::empty(), &()).await;
    let messages = until_reply(&mut stream, serial).await;
    let labels: Vec<_> = messages.iter().map(label).collect();
    assert_eq!(labels, ["/org/opdbus InterfacesRemoved", "reply"]);
    let (gone, interfaces): (zbus::OwnedObjectPath, Vec<String>) = messages[0].body().deserialize().unwrap();
    assert_eq!((gone, interfaces), (path, vec!["org.opdbus.Port".to_owned(), "org.opdbus.Resource".to_owned()]));
}

#[tokio::test]
async fn resources_precede_their_job_and_the_whole_comes_last() {
    let bed = Bed::start(fixture::before()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    // Sent before the snapshot is looked at, in the order of the core: a new job with one step that is done at once.
    let mut snapshot = fixture::after();
    let mut facts = job(Subject::State);
    facts.state = JobState::Finished;
    facts.result = Some(JobResult::Done);
    snapshot.jobs.insert(8, Arc::new(facts));
    bed.publisher.publish(snapshot);
    for notice in [
        Notice::StepChanged { job: 8, step: 1, state: StepState::Done, message: "a\0b".to_owned() },
        Notice::JobFinished { generation: 2, job: 8, result: JobResult::Done },
        Notice::DriftDetected {
            resource: ResourceId::port("veth100"),
            differences: vec![Difference::new("tag", Value::Int(10), Value::Absent)],
        },
    ] {
        bed.notices.send(notice).unwrap();
    }
    let labels = told(&client, &mut stream).await;
    let at = |wanted: &str| {
        let found: Vec<usize> =
            labels.iter().enumerate().filter(|(_, label)| *label == wanted).map(|(at, _)| at).collect();
        assert!(!found.is_empty(), "{wanted} is in {labels:?}");
        (found[0], found[found.len() - 1])
    };
    let order = [
        at("/org/opdbus InterfacesAdded"),
        at(&format!("{BRIDGE} PropertiesChanged")),
        at(&format!("{PORT} PropertiesChanged")),
        at("/org/opdbus/job/8 StepChanged"),
        at(&format!("{JOB} PropertiesChanged")),
        at("/org/opdbus/plugin/ovsdb PropertiesChanged"),
        at(&format!("{STATE} DriftDetected")),
        at(&format!("{STATE} PropertiesChanged")),
        at(&format!("{STATE} JobFinished")),
        at("reply"),
    ];
    for pair in order.windows(2) {
        assert!(pair[0].1 < pair[1].0, "{labels:?}");
    }
}

#[tokio::test]
async fn the_changes_a_call_caused_precede_its_reply() {
    let Bed { bus, publisher, mut commands, notices, served: _served, shutdown: _shutdown } =
        Bed::start(fixture::before()).await;
    let client = crate::hub::Client { connection: bus.connect().await };
    let mut stream = client.listen().await;
    let core = tokio::spawn(async move {
        let Some(Command::Reconcile { reply, .. }) = commands.recv().await else { panic!("a reconcile") };
        let mut snapshot = fixture::before();
        snapshot.jobs.insert(9, Arc::new(job(Subject::State)));
        let mut changed = unmanaged();
        changed.managed = true;
        snapshot.resources.insert(ResourceId::port("veth100"), Arc::new(changed));
        publisher.publish(snapshot);
        notices
            .send(Notice::StepChanged { job: 9, step: 1, state: StepState::Running, message: String::new() })
            .unwrap();
        reply.send(Ok(9)).unwrap();
        (publisher, notices, commands)
    });
    let none: std::collections::HashMap<&str, zbus::Variant<'_>> = Default::default();
    let serial = client.send(STATE, "org.opdbus.State", "Reconcile", Flags::empty(), &none).await;
    let labels: Vec<_> = until_reply(&mut stream, serial).await.iter().map(label).collect();
    assert_eq!(
        labels,
        [
            "/org/opdbus InterfacesAdded".to_owned(),
            format!("{PORT} PropertiesChanged"),
            "/org/opdbus/job/9 StepChanged".to_owned(),
            "reply".to_owned(),
        ]
    );
    core.await.unwrap();
}
