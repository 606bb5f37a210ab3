//! op-dbus's own methods: what reaches the core, and how its answers come back.

use std::{collections::HashMap, sync::Arc};

use op_dbus::{
    bus::{Access, Limits, ParseDocument},
    desired::{BridgeSpec, PortSpec},
    model::{Difference, JobFacts, JobResult, JobState, Reason, ResourceId, Snapshot, Status, Subject, Value},
    plan::{Action, BridgeOp, Plan, PortOp, Step, UnitOp},
    reconcile::{ApplyOptions, Command, CoreError, GenerationInfo, LifecycleVerb},
};
use zbus::{OwnedObjectPath, OwnedVariant, Variant, message::Flags};

use crate::{
    fixture::{self, CONTAINER, JOB, PORT},
    hub::{Bed, Builder as _, Client, Refused, STATE, job, unmanaged, until_reply},
};

const STATE_IFACE: &str = "org.opdbus.State";

type Dict = HashMap<&'static str, Variant<'static>>;

fn none() -> Dict {
    Dict::new()
}

/// Calls, and meanwhile has the core answer one command.
async fn with_core<B, T>(
    bed: &mut Bed,
    client: &Client,
    (path, interface, member): (&str, &str, &str),
    body: &B,
    core: impl FnOnce(Command) -> T,
) -> (Result<zbus::Message, Refused>, T)
where
    B: serde::Serialize + zbus::DynamicType,
{
    let commands = &mut bed.commands;
    let core = async move { core(commands.recv().await.expect("a command")) };
    futures::join!(client.call(path, interface, member, body), core)
}

#[tokio::test]
async fn set_desired_state_carries_the_document_as_received_and_who_sent_it() {
    let mut bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let core = |command| {
        let Command::SetDesiredState { text, document, options, caller, reply } = command else {
            panic!("{command:?}")
        };
        assert_eq!(&*text, "{}");
        assert!(document.is_empty());
        assert_eq!(options, ApplyOptions::default());
        assert_eq!((caller.uid, caller.pid), (rustix::process::geteuid().as_raw(), Some(std::process::id())));
        reply.send(Ok((3, 7))).unwrap();
    };
    let (reply, ()) = with_core(&mut bed, &client, (STATE, STATE_IFACE, "SetDesiredState"), &"{}", core).await;
    let (generation, job): (u64, OwnedObjectPath) = reply.unwrap().body().deserialize().unwrap();
    assert_eq!((generation, job.as_str()), (3, JOB));

    let options = Dict::from([("expected-generation", Variant::from(2_u64)), ("allow-empty", Variant::from(true))]);
    let core = |command| {
        let Command::SetDesiredState { options, reply, .. } = command else { panic!("{command:?}") };
        assert_eq!(options, ApplyOptions { expected_generation: Some(2), allow_empty: true });
        reply.send(Err(CoreError::Conflict("generation 3 is current, not 2".to_owned()))).unwrap();
    };
    let place = (STATE, STATE_IFACE, "SetDesiredStateWithOptions");
    let (reply, ()) = with_core(&mut bed, &client, place, &("{}", options), core).await;
    let why = Refused("org.opdbus.Error.Conflict".to_owned(), "generation 3 is current, not 2".to_owned());
    assert_eq!(reply.unwrap_err(), why);
}

#[tokio::test]
async fn a_bad_document_never_reaches_the_core() {
    let mut bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    for (member, body) in [("Plan", ("bad", none())), ("SetDesiredStateWithOptions", ("bad", none()))] {
        let Refused(name, text) = client.call(STATE, STATE_IFACE, member, &body).await.unwrap_err();
        assert_eq!(name, "org.opdbus.Error.InvalidDocument");
        assert_eq!(text, "/a: no field a\n/b/c: c is a\u{fffd}number");
    }
    assert!(bed.commands.try_recv().is_err());
    let reply = client.call(STATE, STATE_IFACE, "Validate", &("bad", none())).await.unwrap();
    let faults: Vec<(String, String, String)> = reply.body().deserialize().unwrap();
    let fault = |pointer: &str, code: &str, text: &str| (pointer.to_owned(), code.to_owned(), text.to_owned());
    assert_eq!(faults, [fault("/a", "UnknownField", "no field a"), fault("/b/c", "WrongType", "c is a\u{fffd}number")]);
    let reply = client.call(STATE, STATE_IFACE, "Validate", &("{}", none())).await.unwrap();
    assert!(reply.body().deserialize::<Vec<(String, String, String)>>().unwrap().is_empty());
}

#[tokio::test]
async fn a_document_over_the_limit_is_too_large() {
    let bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let large = " ".repeat(5 * 1024 * 1024);
    for member in ["Validate", "Plan", "SetDesiredStateWithOptions"] {
        let Refused(name, text) = client.call(STATE, STATE_IFACE, member, &(&large, none())).await.unwrap_err();
        assert_eq!(name, "org.opdbus.Error.TooLarge");
        assert!(text.contains("5242880") && text.contains("4194304"), "{text}");
    }
}

#[tokio::test]
async fn a_plan_tells_everything_of_each_step() {
    let mut bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let step = |id: u32, subject: ResourceId, action: Action| Step {
        id,
        subject: subject.into(),
        action,
        changes: vec![],
        after: vec![],
        blocked: None,
        warnings: vec![],
    };
    let mut add =
        step(1, ResourceId::bridge("br"), Action::Bridge("br".into(), BridgeOp::Add(BridgeSpec::default().into())));
    add.changes = vec![Difference::new("fail_mode", "secure", Value::Absent)];
    add.warnings = vec!["no controller".to_owned()];
    let mut set = step(2, ResourceId::port("p"), Action::Port("p".into(), PortOp::Set(PortSpec::default().into())));
    set.changes = vec![
        Difference::new("tag", Value::Int(10), Value::Int(20)),
        Difference::new("trunks", Value::Ints(vec![1]), Value::Ints(vec![])),
        Difference::new("x", Value::Strs(vec!["a".to_owned()]), Value::UInt(1)),
        Difference::new("y", true, Value::Absent),
    ];
    set.after = vec![1];
    let restart = step(3, ResourceId::unit("a.service"), Action::Unit("a.service".into(), UnitOp::Restart));
    let mut blocked = step(4, ResourceId::container("100"), Action::Nothing);
    blocked.blocked = Some((Reason::ContainerNotFound, "no runtime has container 100".to_owned()));
    let plan = Plan { steps: [add, set, restart, blocked].into_iter().map(Arc::new).collect() };
    let core = |command| {
        let Command::Plan(request) = command else { panic!("{command:?}") };
        request.reply.send(Ok(Arc::new(plan))).unwrap();
    };
    let (reply, ()) = with_core(&mut bed, &client, (STATE, STATE_IFACE, "Plan"), &("{}", none()), core).await;
    type Change = (String, OwnedVariant, OwnedVariant);
    type Row = (u32, OwnedObjectPath, String, String, Vec<Change>, Vec<u32>, bool, HashMap<String, OwnedVariant>);
    let rows: Vec<Row> = reply.unwrap().body().deserialize().unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.0, row.1.as_str(), row.2.as_str(), row.3.as_str(), row.5.as_slice(), row.6))
        .collect();
    assert_eq!(
        told,
        [
            (1, "/org/opdbus/bridge/br", "add-bridge", "add bridge br", &[][..], true),
            (2, "/org/opdbus/port/p", "set-port", "set port p", &[1], true),
            (3, "/org/opdbus/unit/a_2eservice", "restart", "restart unit a.service", &[], false),
            (4, CONTAINER, "none", "container 100: no runtime has container 100", &[], true),
        ]
    );
    let changes: Vec<_> =
        rows[0].4.iter().chain(&rows[1].4).map(|row| (row.0.as_str(), row.1.to_string(), row.2.to_string())).collect();
    let text = |value: &str| value.to_owned();
    assert_eq!(
        changes,
        [
            ("fail_mode", text("@av []"), text("\"secure\"")),
            ("tag", text("int64 20"), text("int64 10")),
            ("trunks", text("@ax []"), text("[int64 1]")),
            ("x", text("uint64 1"), text("[\"a\"]")),
            ("y", text("@av []"), text("true")),
        ]
    );
    assert_eq!(Vec::<String>::try_from(rows[0].7["warnings"].clone()).unwrap(), ["no controller"]);
    assert_eq!(*rows[3].7["reason"], Variant::from("ContainerNotFound"));
    assert_eq!(*rows[3].7["message"], Variant::from("no runtime has container 100"));
    assert!(rows[1].7.is_empty() && rows[2].7.is_empty());
}

#[tokio::test]
async fn methods_of_objects_carry_the_object() {
    let mut bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let core = |command| {
        let Command::Reconcile { target, reply, .. } = command else { panic!("{command:?}") };
        assert_eq!(target, Some(ResourceId::port("veth100")));
        reply.send(Ok(7)).unwrap();
    };
    let (reply, ()) = with_core(&mut bed, &client, (PORT, "org.opdbus.Resource", "Reconcile"), &none(), core).await;
    assert_eq!(reply.unwrap().body().deserialize::<OwnedObjectPath>().unwrap().as_str(), JOB);

    let core = |command| {
        let Command::Cancel { job, reply, .. } = command else { panic!("{command:?}") };
        assert_eq!(job, 7);
        reply.send(Err(CoreError::Conflict("job 7 is finished".to_owned()))).unwrap();
    };
    let (reply, ()) = with_core(&mut bed, &client, (JOB, "org.opdbus.Job", "Cancel"), &none(), core).await;
    assert_eq!(reply.unwrap_err().0, "org.opdbus.Error.Conflict");

    for (member, wanted, over) in [
        ("Start", LifecycleVerb::Start, false),
        ("Stop", LifecycleVerb::Stop, true),
        ("Restart", LifecycleVerb::Restart, false),
    ] {
        let options = if over { Dict::from([("override", Variant::from(true))]) } else { none() };
        let core = |command| {
            let Command::Lifecycle { container, verb, against_document, reply, .. } = command else {
                panic!("{command:?}")
            };
            assert_eq!((container, verb, against_document), (ResourceId::container("100"), wanted, over));
            reply.send(Ok(7)).unwrap();
        };
        let (reply, ()) =
            with_core(&mut bed, &client, (CONTAINER, "org.opdbus.Container", member), &options, core).await;
        assert!(reply.is_ok());
    }
}

#[tokio::test]
async fn documents_and_generations_come_back() {
    let mut bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let core = |command| {
        let Command::ListGenerations { reply } = command else { panic!("{command:?}") };
        let info = GenerationInfo {
            number: 1,
            time_usec: 5,
            source: "file",
            uid: u32::MAX,
            sha256: "ab".to_owned(),
            result: "done".to_owned(),
        };
        reply.send(vec![info]).unwrap();
    };
    let (reply, ()) = with_core(&mut bed, &client, (STATE, STATE_IFACE, "ListGenerations"), &none(), core).await;
    type Row = (u64, u64, String, u32, String, String, HashMap<String, OwnedVariant>);
    let rows: Vec<Row> = reply.unwrap().body().deserialize().unwrap();
    let wanted = (1, 5, "file".to_owned(), u32::MAX, "ab".to_owned(), "done".to_owned(), HashMap::new());
    assert_eq!(rows, [wanted]);

    let core = |command| {
        let Command::GetDesiredState { generation: 0, reply } = command else { panic!("{command:?}") };
        reply.send(Err(CoreError::NotFound("there is no generation".to_owned()))).unwrap();
    };
    let place = (STATE, STATE_IFACE, "GetDesiredState");
    let (reply, ()) = with_core(&mut bed, &client, place, &(0_u64, none()), core).await;
    assert_eq!(reply.unwrap_err().0, "org.opdbus.Error.NotFound");

    let core = |command| {
        let Command::ExportState { plugins, all_units, reply } = command else { panic!("{command:?}") };
        assert_eq!((plugins.as_slice(), all_units), (&["ovsdb".to_owned()][..], true));
        reply.send(Ok("{}".to_owned())).unwrap();
    };
    let options = Dict::from([("all-units", Variant::from(true))]);
    let place = (STATE, STATE_IFACE, "ExportState");
    let (reply, ()) = with_core(&mut bed, &client, place, &(["ovsdb"].as_slice(), options), core).await;
    assert_eq!(reply.unwrap().body().deserialize::<String>().unwrap(), "{}");
    let Refused(name, text) =
        client.call(STATE, STATE_IFACE, "ExportState", &(["nope"].as_slice(), none())).await.unwrap_err();
    assert_eq!((name.as_str(), text.as_str()), ("org.opdbus.Error.NotFound", "no plugin nope; there are: ovsdb"));
}

fn over(result: JobResult) -> JobFacts {
    JobFacts { state: JobState::Finished, result: Some(result), ..job(Subject::State) }
}

#[tokio::test]
async fn wait_answers_when_the_job_is_finished() {
    let mut snapshot = fixture::before();
    let bed = Bed::start(snapshot.clone()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    let waiting = client.send(JOB, "org.opdbus.Job", "Wait", Flags::empty(), &()).await;
    // Not finished: others are answered and this is not.
    client.ping().await;
    snapshot.jobs.insert(7, Arc::new(over(JobResult::Partial)));
    bed.publisher.publish(snapshot);
    let mut messages = until_reply(&mut stream, waiting).await;
    let reply = messages.pop().unwrap();
    assert_eq!(reply.body().deserialize::<String>().unwrap(), "partial");
    // What it waited for was told before.
    assert_eq!(messages.iter().map(crate::hub::label).collect::<Vec<_>>(), [format!("{JOB} PropertiesChanged")]);
    // It is finished.
    let reply = client.call(JOB, "org.opdbus.Job", "Wait", &()).await.unwrap();
    assert_eq!(reply.body().deserialize::<String>().unwrap(), "partial");
    // There is none.
    let Refused(name, _) = client.call("/org/opdbus/job/99", "org.opdbus.Job", "Wait", &()).await.unwrap_err();
    assert_eq!(name, "org.freedesktop.DBus.Error.UnknownObject");
}

#[tokio::test]
async fn who_waits_for_a_job_that_vanishes_is_told() {
    let mut snapshot = fixture::before();
    let bed = Bed::start(snapshot.clone()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    let waiting = client.send(JOB, "org.opdbus.Job", "Wait", Flags::empty(), &()).await;
    client.ping().await;
    snapshot.jobs.remove(&7);
    bed.publisher.publish(snapshot);
    let reply = until_reply(&mut stream, waiting).await.pop().unwrap();
    assert_eq!(reply.header().error_name().unwrap().as_str(), "org.opdbus.Error.NotFound");
}

#[tokio::test]
async fn one_caller_waits_so_often_and_no_more() {
    let limits = Limits { waits_per_caller: 2, ..Limits::default() };
    let mut snapshot = fixture::before();
    let bed = Bed::with(snapshot.clone(), Access::SameUser, limits).await;
    let (client, other) = (bed.client().await, bed.client().await);
    let mut stream = client.listen().await;
    let first = client.send(JOB, "org.opdbus.Job", "Wait", Flags::empty(), &()).await;
    client.send(JOB, "org.opdbus.Job", "Wait", Flags::empty(), &()).await;
    let third = client.send(JOB, "org.opdbus.Job", "Wait", Flags::empty(), &()).await;
    let busy = until_reply(&mut stream, third).await.pop().unwrap();
    assert_eq!(busy.header().error_name().unwrap().as_str(), "org.opdbus.Error.Busy");
    // Another is not hindered; both are answered.
    let waits = other.call(JOB, "org.opdbus.Job", "Wait", &());
    let finish = async {
        other.ping().await;
        snapshot.jobs.insert(7, Arc::new(over(JobResult::Done)));
        bed.publisher.publish(snapshot);
    };
    assert!(futures::join!(waits, finish).0.is_ok());
    until_reply(&mut stream, first).await;
    assert!(client.call(JOB, "org.opdbus.Job", "Wait", &()).await.is_ok());
}

/// Counts who parses at the same time; released by the test.
static GATE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn slow_parse(text: &str) -> Result<op_dbus::desired::Document, CoreError> {
    let _gate = GATE.lock().unwrap();
    crate::hub::parse(text)
}

#[tokio::test]
async fn one_caller_parses_so_much_and_no_more() {
    let limits = Limits { heavy_per_caller: 2, ..Limits::default() };
    let bed = Bed::parsing(fixture::before(), limits, ParseDocument::new(slow_parse)).await;
    let (client, other) = (bed.client().await, bed.client().await);
    let mut stream = client.listen().await;
    let held = GATE.lock().unwrap();
    let mut serials = Vec::new();
    for _ in 0..3 {
        serials.push(client.send(STATE, STATE_IFACE, "Validate", Flags::empty(), &("{}", none())).await);
    }
    let busy = until_reply(&mut stream, serials[2]).await.pop().unwrap();
    assert_eq!(busy.header().error_name().unwrap().as_str(), "org.opdbus.Error.Busy");
    // Reads, also of the same caller, go on while documents are parsed.
    other.ping().await;
    client.ping().await;
    drop(held);
    until_reply(&mut stream, serials[1]).await;
    assert!(client.call(STATE, STATE_IFACE, "Validate", &("{}", none())).await.is_ok());
}

/// The first document of a call takes long, the second none.
fn parse_in_reverse(text: &str) -> Result<op_dbus::desired::Document, CoreError> {
    match text {
        "first" => drop(GATE_OF_FIRST.lock().unwrap()),
        "refused" => return Err(CoreError::TooLarge("refused".to_owned())),
        _ => {}
    }
    Ok(op_dbus::desired::Document::default())
}

static GATE_OF_FIRST: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[tokio::test]
async fn commands_of_one_caller_reach_the_core_in_their_order() {
    let mut bed = Bed::parsing(fixture::before(), Limits::default(), ParseDocument::new(parse_in_reverse)).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    let held = GATE_OF_FIRST.lock().unwrap();
    // One that is refused on its way holds its place: what comes after it does not come before the first.
    for text in ["first", "second", "refused"] {
        client.send(STATE, STATE_IFACE, "SetDesiredState", Flags::empty(), &text).await;
    }
    // This has nothing to parse and is a command: it waits as well. A read does not.
    client.send(STATE, STATE_IFACE, "Reconcile", Flags::empty(), &none()).await;
    let read = client.send(STATE, STATE_IFACE, "ListGenerations", Flags::empty(), &none()).await;
    let Some(Command::ListGenerations { reply }) = bed.commands.recv().await else { panic!("the read comes first") };
    reply.send(vec![]).unwrap();
    until_reply(&mut stream, read).await;
    assert!(bed.commands.try_recv().is_err());
    drop(held);
    for wanted in ["first", "second"] {
        let Some(Command::SetDesiredState { text, .. }) = bed.commands.recv().await else { panic!("{wanted}") };
        assert_eq!(&*text, wanted);
    }
    assert!(matches!(bed.commands.recv().await, Some(Command::Reconcile { target: None, .. })));
}

#[tokio::test]
async fn resources_are_listed_by_filter() {
    let mut snapshot = Snapshot::default();
    for id in ["bridge:br0", "port:a1", "port:a2", "port:b1", "unit:a.service"] {
        snapshot.add(id.parse().unwrap());
    }
    let mut drifted = unmanaged();
    drifted.managed = true;
    drifted.status = Status::Drifted;
    drifted.reason = Reason::Differs;
    snapshot.resources.insert(ResourceId::port("a2"), Arc::new(drifted));
    let bed = Bed::start(snapshot).await;
    let client = bed.client().await;
    let list = async |filter: Dict, after: &str, limit: u32| {
        let reply = client.call(STATE, STATE_IFACE, "ListResources", &(filter, after, limit, none())).await?;
        type Row = (OwnedObjectPath, String, String, String, String, HashMap<String, OwnedVariant>);
        let (rows, next): (Vec<Row>, String) = reply.body().deserialize().unwrap();
        let names: Vec<_> = rows.iter().map(|row| row.2.clone()).collect();
        Ok::<_, Refused>((names.join(" "), next, rows.into_iter().map(|row| (row.1, row.3, row.4)).next()))
    };
    let word = |key, value: &'static str| Dict::from([(key, Variant::from(value))]);
    assert_eq!(list(none(), "", 0).await.unwrap().0, "br0 a1 a2 b1 a.service");
    assert_eq!(list(word("kind", "port"), "", 0).await.unwrap().0, "a1 a2 b1");
    assert_eq!(list(word("name-prefix", "a"), "", 0).await.unwrap().0, "a1 a2 a.service");
    assert_eq!(list(Dict::from([("managed", Variant::from(false))]), "", 0).await.unwrap().0, "br0 a1 b1 a.service");
    let (names, next, row) = list(word("status", "drifted"), "", 0).await.unwrap();
    assert_eq!((names.as_str(), next.as_str()), ("a2", ""));
    assert_eq!(row, Some(("port".to_owned(), "drifted".to_owned(), "Differs".to_owned())));
    // Pages; what they start after may be gone.
    let (names, next, _) = list(word("kind", "port"), "", 2).await.unwrap();
    assert_eq!((names.as_str(), next.as_str()), ("a1 a2", "/org/opdbus/port/a2"));
    assert_eq!(list(word("kind", "port"), &next, 2).await.unwrap().0, "b1");
    assert_eq!(list(none(), "/org/opdbus/port/a15", 1).await.unwrap().0, "a2");
    assert_eq!(list(none(), "", 5).await.unwrap().1, "");

    for (filter, after, named) in [
        (word("colour", "red"), "", "known: kind, status, managed, name-prefix"),
        (word("kind", "vm"), "", "there are: package, bridge, port, container, unit, object"),
        (word("status", "fine"), "", "in-sync"),
        (word("managed", "yes"), "", "of type b, not s"),
        (none(), "/org/opdbus/state", "/org/opdbus/state"),
        (none(), "nonsense", "nonsense"),
    ] {
        let Refused(name, text) = list(filter, after, 0).await.unwrap_err();
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs");
        assert!(text.contains(named), "{text}");
    }
}

#[tokio::test]
async fn a_core_that_has_ended_is_told_as_such() {
    let mut bed = Bed::start(fixture::after()).await;
    let client = bed.client().await;
    let (reply, ()) = with_core(&mut bed, &client, (STATE, STATE_IFACE, "Reconcile"), &none(), drop).await;
    assert_eq!(reply.unwrap_err().0, "org.opdbus.Error.Unavailable");
    bed.commands.close();
    let Refused(name, _) = client.call(STATE, STATE_IFACE, "Reconcile", &none()).await.unwrap_err();
    assert_eq!(name, "org.opdbus.Error.Unavailable");
    // The tree is still read.
    client.ping().await;
}
