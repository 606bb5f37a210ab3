//! Who may: root, whom polkit lets, and on a session bus the same user. The fake polkit records what it is asked.
//!
//! Calls come from another user where the tests run as root, and from themselves where they do not: neither is root.

use std::{
    collections::HashMap,
    process::{Command as Process, Stdio},
    sync::Arc,
};

use futures::StreamExt as _;
use op_dbus::{
    bus::{Access, Limits},
    reconcile::Command,
};
use op_dbus_testkit::PrivateBus;
use tokio::sync::{Mutex, mpsc};
use zbus::{Connection, Message, MessageStream, OwnedVariant, message::Flags};

use crate::{
    fixture::{self, CONTAINER, JOB, PORT},
    hub::{Bed, STATE},
};

/// nobody, on every Linux.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn user() -> u32 {
    if is_root() { NOBODY } else { rustix::process::geteuid().as_raw() }
}

/// Runs a client as somebody who is not root; its output, or the error it printed.
async fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut process = if is_root() {
        let mut process = Process::new("setpriv");
        process.args([&format!("--reuid={NOBODY}"), "--clear-groups", "--", program]);
        process
    } else {
        Process::new(program)
    };
    process.args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || process.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Calls with gdbus, which prints an error's name and does not allow interaction.
async fn gdbus(bed: &Bed, path: &str, method: &str, arguments: &[&str]) -> Result<String, String> {
    let head =
        ["call", "--address", &bed.bus.address, "--dest", "org.opdbus", "--object-path", path, "--method", method];
    run("gdbus", &[&head, arguments].concat()).await
}

/// Calls with busctl, which allows interaction.
async fn busctl(bed: &Bed, path: &str, interface: &str, method: &str, arguments: &[&str]) -> Result<String, String> {
    let address = format!("--address={}", bed.bus.address);
    run("busctl", &[&[&address, "call", "org.opdbus", path, interface, method], arguments].concat()).await
}

/// What polkit was asked: kind of subject, its name, action, flags.
type Question = (String, String, String, u32);

/// What polkit answers: authorized, challenge.
type Verdict = (bool, bool);

/// A polkit that answers what it is told to.
struct Polkit {
    asked: mpsc::UnboundedReceiver<Question>,
    /// Held: polkit asks a person.
    verdict: Arc<Mutex<Verdict>>,
    _connection: Connection,
}

impl Polkit {
    async fn start(bus: &PrivateBus, verdict: Verdict) -> Self {
        let connection = bus.connect().await;
        let mut calls = MessageStream::from(&connection);
        connection.request_name("org.freedesktop.PolicyKit1").await.unwrap();
        let (told, asked) = mpsc::unbounded_channel();
        let verdict = Arc::new(Mutex::new(verdict));
        let (answers, answering) = (Arc::clone(&verdict), connection.clone());
        tokio::spawn(async move {
            while let Some(Ok(call)) = calls.next().await {
                if call.message_type() != zbus::message::Type::MethodCall {
                    continue;
                }
                assert_eq!(call.header().member().unwrap().as_str(), "CheckAuthorization");
                type Asked = ((String, HashMap<String, OwnedVariant>), String, HashMap<String, String>, u32, String);
                let ((kind, subject), action, _, flags, _): Asked = call.body().deserialize().unwrap();
                let name = <&str>::try_from(&*subject["name"]).unwrap().to_owned();
                told.send((kind, name, action, flags)).unwrap();
                let (authorized, challenge) = *answers.lock().await;
                let answer = (authorized, challenge, HashMap::<String, String>::new());
                let reply = Message::method_return(&call.header()).build(&(answer,)).unwrap();
                answering.send(&reply).await.unwrap();
            }
        });
        Self { asked, verdict, _connection: connection }
    }
}

async fn start() -> Bed {
    Bed::with(fixture::after(), Access::Polkit, Limits::default()).await
}

async fn start_with_polkit(verdict: Verdict) -> (Bed, Polkit) {
    let bus = PrivateBus::start();
    let polkit = Polkit::start(&bus, verdict).await;
    (Bed::on(bus, fixture::after(), Access::Polkit, Limits::default()).await, polkit)
}

const YES: Verdict = (true, false);
const NO: Verdict = (false, false);
const CHALLENGE: Verdict = (false, true);

/// Every method that is not free, with arguments, and what it needs.
const GUARDED: [(&str, &str, &[&str], &str); 12] = [
    (STATE, "org.opdbus.State.SetDesiredState", &["{}"], "set-desired-state"),
    (STATE, "org.opdbus.State.SetDesiredStateWithOptions", &["{}", "{}"], "set-desired-state"),
    (STATE, "org.opdbus.State.AdoptStateFile", &["{}"], "set-desired-state"),
    (JOB, "org.opdbus.Job.Cancel", &["{}"], "set-desired-state"),
    (STATE, "org.opdbus.State.Plan", &["{}", "{}"], "read-desired-state"),
    (STATE, "org.opdbus.State.GetDesiredState", &["1", "{}"], "read-desired-state"),
    (STATE, "org.opdbus.State.ExportState", &["[]", "{}"], "read-desired-state"),
    (STATE, "org.opdbus.State.Reconcile", &["{}"], "reconcile"),
    (PORT, "org.opdbus.Resource.Reconcile", &["{}"], "reconcile"),
    (CONTAINER, "org.opdbus.Container.Start", &["{}"], "manage-containers"),
    (CONTAINER, "org.opdbus.Container.Stop", &["{}"], "manage-containers"),
    (CONTAINER, "org.opdbus.Container.Restart", &["{}"], "manage-containers"),
];

#[tokio::test]
async fn without_polkit_only_root_may_and_all_may_read() {
    let mut bed = start().await;
    for (path, method, arguments, action) in GUARDED {
        let why = gdbus(&bed, path, method, arguments).await.unwrap_err();
        assert!(why.contains("org.opdbus.Error.NotAuthorized"), "{method}: {why}");
        assert!(why.contains(action) && why.contains(&user().to_string()) && why.contains("only root may"), "{why}");
    }
    assert!(bed.commands.try_recv().is_err(), "nothing reached the core");

    for (path, method, arguments) in [
        (STATE, "org.opdbus.State.Validate", &["{}", "{}"][..]),
        (STATE, "org.opdbus.State.ListResources", &["{}", "", "0", "{}"]),
        (JOB, "org.opdbus.Job.Wait", &[]),
        (PORT, "org.freedesktop.DBus.Properties.GetAll", &["org.opdbus.Port"]),
        ("/org/opdbus", "org.freedesktop.DBus.ObjectManager.GetManagedObjects", &[]),
    ] {
        gdbus(&bed, path, method, arguments).await.unwrap();
    }
    let listed = async {
        let Some(Command::ListGenerations { reply }) = bed.commands.recv().await else { panic!("a list") };
        reply.send(vec![]).unwrap();
    };
    let address = bed.bus.address.clone();
    let arguments = ["--address", &address, "--dest", "org.opdbus", "--object-path", STATE];
    let method = ["--method", "org.opdbus.State.ListGenerations", "{}"];
    let arguments = [&["call"][..], &arguments, &method].concat();
    let (listed, ()) = futures::join!(run("gdbus", &arguments), listed);
    listed.unwrap();
}

#[tokio::test]
async fn root_may_without_asking_anybody() {
    if !is_root() {
        println!("left to a run as root: root may without asking polkit");
        return;
    }
    let (mut bed, mut polkit) = start_with_polkit(NO).await;
    let client = bed.client().await;
    let none: HashMap<&str, zbus::Variant<'_>> = HashMap::new();
    let core = async {
        let Some(Command::Reconcile { caller, reply, .. }) = bed.commands.recv().await else { panic!("a reconcile") };
        assert_eq!(caller.uid, 0);
        reply.send(Ok(7)).unwrap();
    };
    let (reply, ()) = futures::join!(client.call(STATE, "org.opdbus.State", "Reconcile", &none), core);
    reply.unwrap();
    assert!(polkit.asked.try_recv().is_err());
}

#[tokio::test]
async fn whom_polkit_lets_may_and_each_method_needs_its_action() {
    let (bed, mut polkit) = start_with_polkit(YES).await;
    let Bed { mut commands, bus, publisher, notices, shutdown, served } = bed;
    let core = tokio::spawn(async move {
        let mut uids = Vec::new();
        for _ in GUARDED {
            let (uid, document) = match commands.recv().await.unwrap() {
                Command::SetDesiredState { caller, .. } => (Some(caller.uid), true),
                Command::AdoptStateFile { caller, .. }
                | Command::Reconcile { caller, .. }
                | Command::Lifecycle { caller, .. }
                | Command::Cancel { caller, .. } => (Some(caller.uid), false),
                Command::Plan(request) => (Some(request.caller.uid), true),
                // Dropped as the others: the core is about to end.
                _ => (None, false),
            };
            uids.push((uid, document));
        }
        uids
    });
    let (_sender, commands) = mpsc::unbounded_channel();
    let bed = Bed { bus, publisher, commands, notices, shutdown, served };
    for (path, method, arguments, action) in GUARDED {
        let why = gdbus(&bed, path, method, arguments).await.unwrap_err();
        assert!(why.contains("org.opdbus.Error.Unavailable"), "{method}: {why}");
        let (kind, name, asked, flags) = polkit.asked.recv().await.unwrap();
        assert_eq!((kind.as_str(), asked, flags), ("system-bus-name", format!("org.opdbus.{action}"), 0), "{method}");
        assert!(name.starts_with(':'), "{name}");
    }
    let uids = core.await.unwrap();
    assert!(uids.iter().all(|(uid, _)| uid.is_none_or(|uid| uid == user())), "{uids:?}");
    assert_eq!(uids.iter().filter(|(_, document)| *document).count(), 3);
}

#[tokio::test]
async fn whom_polkit_does_not_let_may_not() {
    let (mut bed, _polkit) = start_with_polkit(NO).await;
    let why = gdbus(&bed, STATE, "org.opdbus.State.Reconcile", &["{}"]).await.unwrap_err();
    assert!(why.contains("org.opdbus.Error.NotAuthorized"), "{why}");
    assert!(why.contains("org.opdbus.reconcile") && why.contains("does not grant"), "{why}");
    assert!(bed.commands.try_recv().is_err());
}

#[tokio::test]
async fn a_challenge_needs_a_caller_who_allows_it() {
    let (mut bed, mut polkit) = start_with_polkit(CHALLENGE).await;
    let why = gdbus(&bed, STATE, "org.opdbus.State.Reconcile", &["{}"]).await.unwrap_err();
    assert!(why.contains("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"), "{why}");
    assert_eq!(polkit.asked.recv().await.unwrap().3, 0);
    // busctl allows it: polkit may ask, and finds nobody to ask.
    let why = busctl(&bed, STATE, "org.opdbus.State", "Reconcile", &["a{sv}", "0"]).await.unwrap_err();
    assert!(why.contains("polkit does not grant it"), "{why}");
    assert_eq!(polkit.asked.recv().await.unwrap().3, 1);
    assert!(bed.commands.try_recv().is_err());
}

#[tokio::test]
async fn while_polkit_asks_a_person_all_others_are_served() {
    let (mut bed, mut polkit) = start_with_polkit(NO).await;
    let verdict = Arc::clone(&polkit.verdict);
    let mut asking = verdict.lock().await;
    let address = bed.bus.address.clone();
    let waiting = tokio::spawn(async move {
        let address = format!("--address={address}");
        run("busctl", &[&address, "call", "org.opdbus", STATE, "org.opdbus.State", "Reconcile", "a{sv}", "0"]).await
    });
    polkit.asked.recv().await.unwrap();
    let client = bed.client().await;
    client.ping().await;
    client.managed_objects().await.unwrap();
    *asking = YES;
    drop(asking);
    let Some(Command::Reconcile { caller, reply, .. }) = bed.commands.recv().await else { panic!("a reconcile") };
    assert_eq!(caller.uid, user());
    reply.send(Ok(7)).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().trim(), "o \"/org/opdbus/job/7\"");
}

#[tokio::test]
async fn a_bad_call_is_refused_before_anybody_is_asked() {
    let (bed, mut polkit) = start_with_polkit(YES).await;
    let why = gdbus(&bed, STATE, "org.opdbus.State.Reconcile", &["{'force': <true>}"]).await.unwrap_err();
    assert!(why.contains("org.freedesktop.DBus.Error.InvalidArgs"), "{why}");
    assert!(polkit.asked.try_recv().is_err());
}

#[tokio::test]
async fn on_a_session_bus_the_same_user_may_and_no_other() {
    if !is_root() {
        println!("left to a run as root: another user on a session bus");
        return;
    }
    let mut bed = Bed::start(fixture::after()).await;
    let why = gdbus(&bed, STATE, "org.opdbus.State.Reconcile", &["{}"]).await.unwrap_err();
    assert!(why.contains("org.opdbus.Error.NotAuthorized") && why.contains("serves user 0 alone"), "{why}");
    gdbus(&bed, STATE, "org.freedesktop.DBus.Properties.GetAll", &["org.opdbus.State"]).await.unwrap();
    assert!(bed.commands.try_recv().is_err());
}

#[tokio::test]
async fn callers_who_leave_at_once_do_no_harm() {
    let bed = start().await;
    // Many come, ask, and go, some before the bus is asked who they are.
    for _ in 0..100 {
        let client = bed.client().await;
        let none: HashMap<&str, zbus::Variant<'_>> = HashMap::new();
        let serial = client.send(STATE, "org.opdbus.State", "Validate", Flags::empty(), &("{}", none)).await;
        assert!(serial > 0);
    }
    bed.client().await.ping().await;
    assert!(!bed.served.is_finished());
}
