//! Calls that are wrong: each gets its error, and nothing else suffers.

use std::collections::BTreeMap;

use op_dbus::model::{ResourceId, Snapshot};
use zbus::{ObjectPath, Variant, message::Flags};

use crate::{
    fixture::{self, BRIDGE, CONTAINER, JOB, PORT},
    hub::{Bed, Builder as _, Client, INTROSPECTABLE, MANAGER, PEER, PROPERTIES, Refused, STATE, until_reply},
};

const ERROR: &str = "org.freedesktop.DBus.Error.";

async fn refused<B>(client: &Client, path: &str, interface: &str, member: &str, body: &B) -> Refused
where
    B: serde::Serialize + zbus::DynamicType,
{
    client.call(path, interface, member, body).await.expect_err(&format!("{path} {interface}.{member}"))
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    for (path, interface, member, error, named) in [
        ("/org/opdbus/port/nope", PROPERTIES, "Introspect", "UnknownObject", "/org/opdbus/port/nope"),
        ("/org/opdbus/job/8", INTROSPECTABLE, "Introspect", "UnknownObject", "/org/opdbus/job/8"),
        ("/org/opdbus/nothing", INTROSPECTABLE, "Introspect", "UnknownObject", "/org/opdbus/nothing"),
        ("/com", "", "Introspect", "UnknownObject", "/com"),
        (STATE, "org.opdbus.Job", "Wait", "UnknownInterface", "org.opdbus.Job"),
        (PORT, "org.opdbus.Container", "Start", "UnknownInterface", "org.opdbus.Container"),
        ("/", MANAGER, "GetManagedObjects", "UnknownInterface", MANAGER),
        (STATE, MANAGER, "GetManagedObjects", "UnknownInterface", MANAGER),
        (STATE, "org.opdbus.State", "Pause", "UnknownMethod", "Pause"),
        (STATE, "org.opdbus.State", "Generation", "UnknownMethod", "Generation"),
        (STATE, PEER, "Pong", "UnknownMethod", "Pong"),
        (STATE, "", "Rollback", "UnknownMethod", "Rollback"),
        (BRIDGE, "", "Start", "UnknownMethod", "Start"),
    ] {
        let Refused(name, text) = refused(&client, path, interface, member, &()).await;
        assert_eq!((name, true), (format!("{ERROR}{error}"), text.contains(named)), "{path} {member}: {text}");
    }
}

#[tokio::test]
async fn properties_that_are_not_there_are_named() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    for (path, interface, property, error) in [
        (STATE, "org.opdbus.State", "Paused", "UnknownProperty"),
        (STATE, "", "Paused", "UnknownProperty"),
        (STATE, PEER, "Paused", "UnknownProperty"),
        (STATE, "org.opdbus.Job", "State", "UnknownInterface"),
        ("/org/opdbus", "org.opdbus.State", "Version", "UnknownInterface"),
        ("/org/opdbus/port/nope", "org.opdbus.Port", "Name", "UnknownObject"),
    ] {
        let value = Variant::from("x");
        let got = refused(&client, path, PROPERTIES, "Get", &(interface, property)).await;
        assert_eq!(got.0, format!("{ERROR}{error}"), "Get {path} {property}: {}", got.1);
        let set = refused(&client, path, PROPERTIES, "Set", &(interface, property, value)).await;
        assert_eq!(set.0, format!("{ERROR}{error}"), "Set {path} {property}: {}", set.1);
    }
    let all = refused(&client, STATE, PROPERTIES, "GetAll", &"org.opdbus.Nope").await;
    assert_eq!(all.0, format!("{ERROR}UnknownInterface"));
    let set = refused(&client, STATE, PROPERTIES, "Set", &("org.opdbus.State", "Version", Variant::from("9"))).await;
    assert_eq!(set.0, format!("{ERROR}PropertyReadOnly"));
    assert!(set.1.contains("Version"), "{}", set.1);
}

#[tokio::test]
async fn an_empty_interface_name_means_all_of_the_object() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let all = client.get_all(PORT, "").await.unwrap();
    assert!(all.contains_key("OfPort") && all.contains_key("Status"));
    assert_eq!(*client.get(PORT, "", "Status").await.unwrap(), Variant::from("drifted"));
    assert!(client.get_all(PORT, PEER).await.unwrap().is_empty());
    assert!(client.get_all("/org/opdbus", MANAGER).await.unwrap().is_empty());
}

#[tokio::test]
async fn calls_without_interface_find_their_method() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    client.call("/anything/at/all", PEER, "Ping", &()).await.unwrap();
    client.call(STATE, "", "Ping", &()).await.unwrap();
    client.call(STATE, "", "Introspect", &()).await.unwrap();
    client.call("/org/opdbus", "", "GetManagedObjects", &()).await.unwrap();
    let all = client.call(JOB, "", "GetAll", &"org.opdbus.Job").await.unwrap();
    assert_eq!(all.body().signature().to_string(), "a{sv}");
    let result = client.call(JOB, "", "Wait", &()).await.unwrap();
    assert_eq!(result.body().deserialize::<String>().unwrap(), "done");
}

#[tokio::test]
async fn the_machine_id_is_told() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let answer = client.call(STATE, PEER, "GetMachineId", &()).await;
    match std::fs::read_to_string("/etc/machine-id").ok().filter(|text| !text.trim().is_empty()) {
        Some(id) => assert_eq!(answer.unwrap().body().deserialize::<String>().unwrap(), id.trim()),
        None => assert_eq!(answer.unwrap_err().0, format!("{ERROR}FileNotFound")),
    }
}

#[tokio::test]
async fn wrong_arguments_are_refused_with_the_right_signature() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    for (path, interface, member, signature) in [
        (STATE, PROPERTIES, "Get", "ss"),
        (STATE, PROPERTIES, "GetAll", "s"),
        (STATE, PROPERTIES, "Set", "ssv"),
        (STATE, "org.opdbus.State", "SetDesiredState", "s"),
        (CONTAINER, "org.opdbus.Container", "Start", "a{sv}"),
    ] {
        let Refused(name, text) = refused(&client, path, interface, member, &7_u32).await;
        assert_eq!(name, format!("{ERROR}InvalidArgs"));
        assert!(text.contains(&format!("signature {signature}, not u")), "{text}");
    }
    let Refused(name, text) = refused(&client, STATE, INTROSPECTABLE, "Introspect", &"x").await;
    assert_eq!(name, format!("{ERROR}InvalidArgs"));
    assert!(text.contains("signature none, not s"), "{text}");
}

#[tokio::test]
async fn unknown_options_are_refused_with_those_known() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let with = |key: &'static str| BTreeMap::from([(key, Variant::from(1_u64))]);
    let state = "org.opdbus.State";
    for key in ["confirm-timeout-usec", "bind-to-caller", "atomic", "Expected-Generation"] {
        let Refused(name, text) =
            refused(&client, STATE, state, "SetDesiredStateWithOptions", &("{}", with(key))).await;
        assert_eq!(name, format!("{ERROR}InvalidArgs"));
        assert!(text.contains(key) && text.contains("expected-generation, allow-empty"), "{text}");
    }
    for (path, interface, member) in [
        (STATE, state, "Reconcile"),
        (STATE, state, "ListGenerations"),
        (STATE, state, "AdoptStateFile"),
        (JOB, "org.opdbus.Job", "Cancel"),
        (PORT, "org.opdbus.Resource", "Reconcile"),
        (CONTAINER, "org.opdbus.Container", "Stop"),
    ] {
        let Refused(name, text) = refused(&client, path, interface, member, &with("force")).await;
        assert_eq!((name, text.contains("force")), (format!("{ERROR}InvalidArgs"), true), "{text}");
    }
    let Refused(name, text) = refused(&client, CONTAINER, "org.opdbus.Container", "Stop", &with("override")).await;
    assert_eq!(name, format!("{ERROR}InvalidArgs"));
    assert!(text.contains("of type b, not t"), "{text}");
}

#[tokio::test]
async fn names_that_differ_by_escaping_alone_are_two_objects() {
    let mut snapshot = Snapshot::default();
    for name in ["a-b.service", "a_2db.service", "a_2d_5f.service"] {
        snapshot.add(ResourceId::unit(name));
    }
    let bed = Bed::start(snapshot).await;
    let client = bed.client().await;
    let tree = client.managed_objects().await.unwrap();
    let names: BTreeMap<&str, String> = tree
        .iter()
        .filter_map(|(path, interfaces)| Some((path.as_str(), &interfaces.get("org.opdbus.Unit")?["Id"])))
        .map(|(path, id)| (path, <&str>::try_from(&**id).unwrap().to_owned()))
        .collect();
    assert_eq!(
        names,
        BTreeMap::from([
            ("/org/opdbus/unit/a_2db_2eservice", "a-b.service".to_owned()),
            ("/org/opdbus/unit/a_5f2db_2eservice", "a_2db.service".to_owned()),
            ("/org/opdbus/unit/a_5f2d_5f5f_2eservice", "a_2d_5f.service".to_owned()),
        ])
    );
    // The object of another spelling of the path is not there.
    let path = ObjectPath::try_from("/org/opdbus/unit/a_2Db_2eservice").unwrap();
    let Refused(name, _) = refused(&client, &path, PROPERTIES, "GetAll", &"org.opdbus.Unit").await;
    assert_eq!(name, format!("{ERROR}UnknownObject"));
}

#[tokio::test]
async fn who_expects_no_reply_gets_none() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    let quiet = Flags::NO_REPLY_EXPECTED;
    let mut silent = Vec::new();
    silent.push(client.send(STATE, PEER, "Ping", quiet, &()).await);
    silent.push(client.send(STATE, PEER, "Pong", quiet, &()).await);
    silent.push(client.send(JOB, "org.opdbus.Job", "Wait", quiet, &()).await);
    silent.push(client.send("/org/opdbus", MANAGER, "GetManagedObjects", quiet, &()).await);
    silent.push(client.send("/nope", PROPERTIES, "Get", quiet, &("a", "b")).await);
    let all = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let last = client.send(STATE, PEER, "Ping", Flags::empty(), &()).await;
    loop {
        let message = futures::StreamExt::next(&mut stream).await.unwrap().unwrap();
        let Some(serial) = message.header().reply_serial().map(std::num::NonZeroU32::get) else { continue };
        all.lock().unwrap().push(serial);
        if serial == last {
            break;
        }
    }
    assert!(all.lock().unwrap().iter().all(|serial| !silent.contains(serial)));
    // Another large answer comes after the quiet one was dealt with.
    let serial = client.send("/org/opdbus", MANAGER, "GetManagedObjects", Flags::empty(), &()).await;
    until_reply(&mut stream, serial).await;
}
