//! Large trees, many callers, callers that do not read: the service stays on the bus and others are served.

use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use op_dbus::{
    bus::{Access, Limits},
    model::{ResourceId, Snapshot},
};
use zbus::{Message, MessageStream, Variant, message::Flags};

use crate::hub::{Bed, Builder as _, INTROSPECTABLE, MANAGER, PROPERTIES, Refused, STATE, many_ports};

/// More than the bus lets one connection have in flight, less than it lets one user connect.
const CONNECTIONS: usize = 20;

#[tokio::test]
async fn a_thousand_calls_in_flight_are_all_answered() {
    let bed = Bed::start(many_ports(100)).await;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(bed.client().await);
    }
    let mut calls = FuturesUnordered::new();
    for number in 0..1000 {
        let client = &clients[number % CONNECTIONS];
        calls.push(async move {
            let path = format!("/org/opdbus/port/port{}", number % 100);
            match number % 4 {
                0 => drop(client.get(&path, "org.opdbus.Port", "OfPort").await.unwrap()),
                1 => drop(client.introspect(&path).await.unwrap()),
                2 => drop(client.managed_objects().await.unwrap()),
                // Asks the bus who calls.
                _ => {
                    let none: std::collections::HashMap<&str, Variant<'_>> = Default::default();
                    let validated = client.call(STATE, "org.opdbus.State", "Validate", &("{}", none)).await;
                    if let Err(Refused(name, _)) = validated {
                        assert_eq!(name, "org.opdbus.Error.Busy");
                    }
                }
            }
        });
    }
    let mut answered = 0;
    while calls.next().await.is_some() {
        answered += 1;
    }
    assert_eq!(answered, 1000);
}

#[tokio::test]
async fn a_tree_of_twenty_thousand_objects_is_read_whole_and_shallowly_described() {
    let bed = Bed::start(many_ports(20_000)).await;
    let client = bed.client().await;
    let top = client.introspect("/").await.unwrap();
    assert!(top.len() < 4096, "only the children's names: {}", top.len());
    let folder = client.introspect("/org/opdbus/port").await.unwrap();
    assert_eq!(folder.matches("<node name=").count(), 20_000);
    let bridge = client.get("/org/opdbus/bridge/ovsbr0", "org.opdbus.Bridge", "Ports").await.unwrap();
    assert_eq!(Vec::<zbus::OwnedObjectPath>::try_from(bridge).unwrap().len(), 20_000);
    let Ok(all) = client.call("/org/opdbus", MANAGER, "GetManagedObjects", &()).await else { panic!("it fits") };
    assert!(all.data().len() < 32 * 1024 * 1024);
}

#[tokio::test]
async fn a_tree_that_fits_no_message_is_refused_and_paged() {
    let limits = Limits { managed_objects_bytes: 1024 * 1024, ..Limits::default() };
    let bed = Bed::with(many_ports(2000), Access::SameUser, limits).await;
    let client = bed.client().await;
    // Once found out by writing it, once remembered.
    for _ in 0..2 {
        let Refused(name, text) = client.managed_objects().await.unwrap_err();
        assert_eq!(name, "org.opdbus.Error.TooLarge");
        assert!(text.contains("ListResources"), "{text}");
    }
    let none: std::collections::HashMap<&str, Variant<'_>> = Default::default();
    let (mut after, mut seen) = (String::new(), 0);
    loop {
        let page = (&none, after.as_str(), 300_u32, &none);
        let reply = client.call(STATE, "org.opdbus.State", "ListResources", &page).await.unwrap();
        type Rows = Vec<(
            zbus::OwnedObjectPath,
            String,
            String,
            String,
            String,
            std::collections::HashMap<String, zbus::OwnedVariant>,
        )>;
        let (rows, next): (Rows, String) = reply.body().deserialize().unwrap();
        seen += rows.len();
        if next.is_empty() {
            break;
        }
        assert_eq!(rows.len(), 300);
        after = next;
    }
    assert_eq!(seen, 2001);
    // Smaller again: written again.
    bed.publisher.publish(many_ports(10));
    assert_eq!(client.managed_objects().await.unwrap().len(), 12);
}

#[tokio::test]
async fn small_calls_go_between_large_ones() {
    let bed = Bed::start(many_ports(5000)).await;
    let (large, small) = (bed.client().await, bed.client().await);
    let mut answers = large.listen().await;
    let mut last = 0;
    for _ in 0..4 {
        last = large.send("/org/opdbus", MANAGER, "GetManagedObjects", Flags::empty(), &()).await;
    }
    // Not after all four: each of these is answered although large answers are still to be written.
    let before = async { join_all((0..20).map(|_| small.get(STATE, "org.opdbus.State", "Generation"))).await };
    let after = async {
        loop {
            let message = answers.next().await.unwrap().unwrap();
            if message.header().reply_serial().is_some_and(|serial| serial.get() == last) {
                return message;
            }
        }
    };
    futures::pin_mut!(before, after);
    match futures::future::select(before, after).await {
        futures::future::Either::Left((answers, _)) => assert!(answers.into_iter().all(|answer| answer.is_ok())),
        futures::future::Either::Right(_) => panic!("the small calls waited for all the large ones"),
    }
}

#[tokio::test]
async fn clients_that_never_read_hinder_nobody() {
    let bed = Bed::start(many_ports(20_000)).await;
    let client = bed.client().await;
    let mut gone = leavers(&client).await;
    let mut deaf = Vec::new();
    for _ in 0..2 {
        let mut one = Deaf::connect(&bed).await;
        for _ in 0..10 {
            one.call("/org/opdbus", MANAGER, "GetManagedObjects", &()).await;
        }
        for _ in 0..200 {
            one.call("/org/opdbus/port", INTROSPECTABLE, "Introspect", &()).await;
            one.call("/org/opdbus/port/port1", PROPERTIES, "GetAll", &"org.opdbus.Port").await;
        }
        deaf.push(one);
    }
    // All that was asked for is twice what the bus takes from one sender. Large answers are given until too much lies
    // unread; from then on each is refused.
    let refused = loop {
        if let Err(refused) = client.managed_objects().await {
            break refused;
        }
    };
    assert_eq!(refused.0, "org.opdbus.Error.Busy");
    for number in 0..100 {
        let path = format!("/org/opdbus/port/port{number}");
        assert!(client.get(&path, "org.opdbus.Port", "OfPort").await.is_ok());
    }
    assert!(!bed.served.is_finished());

    // They leave, and all is as before.
    drop(deaf);
    for _ in 0..2 {
        gone.next().await.unwrap().unwrap();
    }
    while let Err(refused) = client.managed_objects().await {
        assert_eq!(refused.0, "org.opdbus.Error.Busy");
    }
}

/// News of connections that leave.
async fn leavers(client: &crate::hub::Client) -> MessageStream {
    let rule = zbus::MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .interface("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .arg(2, "")
        .build()
        .unwrap();
    MessageStream::for_match_rule(rule, &client.connection, None).await.unwrap()
}

/// A connection that sends and never reads.
struct Deaf {
    stream: tokio::net::UnixStream,
}

impl Deaf {
    async fn connect(bed: &Bed) -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let path = bed.bus.address.strip_prefix("unix:path=").unwrap().split(',').next().unwrap();
        let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 256];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"OK "));
        stream.write_all(b"BEGIN\r\n").await.unwrap();
        let hello = Message::method_call("/org/freedesktop/DBus", "Hello")
            .destination("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .build(&())
            .unwrap();
        stream.write_all(hello.data()).await.unwrap();
        Self { stream }
    }

    async fn call<B>(&mut self, path: &str, interface: &str, member: &str, body: &B)
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        use tokio::io::AsyncWriteExt as _;
        let call =
            Message::method_call(path, member).destination("org.opdbus").interface(interface).build(body).unwrap();
        self.stream.write_all(call.data()).await.unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_objects_that_appear_at_once_are_all_told() {
    let bed = Bed::start(Snapshot::default()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    let mut snapshot = many_ports(10_000);
    snapshot.add(ResourceId::unit("last.service"));
    bed.publisher.publish(snapshot);
    let serial = client.send(STATE, "org.freedesktop.DBus.Peer", "Ping", Flags::empty(), &()).await;
    let messages = crate::hub::until_reply(&mut stream, serial).await;
    assert_eq!(messages.len(), 10_002 + 1);
}
