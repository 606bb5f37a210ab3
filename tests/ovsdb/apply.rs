//! Every step, carried out on a private Open vSwitch and looked at with another client.

use std::{collections::BTreeSet, time::Duration};

use op_dbus::{
    desired::{BondMode, BridgeSpec, FailMode, Lacp, PortSpec, VlanMode, Want},
    model::{BackendStatus, Reason, StepState},
    plan::{Action, BridgeOp, PortOp},
    plugins::{Plugin as _, ovsdb::Timing},
};

use op_dbus_testkit::{
    Ended,
    ovsdb::{MACHINE, PrivateSwitch, Watched, bridge, internal, port, timing},
};

/// A device of the system, as the dummy datapath makes one up.
fn device(bridge: &str) -> PortSpec {
    let options = [("ifindex".to_owned(), Some("7".to_owned()))].into();
    PortSpec { bridge: bridge.into(), options, ..PortSpec::default() }
}

async fn with_bridge() -> (PrivateSwitch, Watched) {
    let switch = PrivateSwitch::start();
    let mut watched = Watched::connected(&switch, timing()).await;
    assert!(watched.done(bridge("br0", BridgeOp::Add, BridgeSpec::default())).await);
    (switch, watched)
}

fn owner() -> String {
    format!("\"{MACHINE}\"")
}

#[tokio::test]
async fn makes_a_bridge_with_its_ports_in_one_transaction() {
    let switch = PrivateSwitch::start();
    let mut watched = Watched::connected(&switch, timing()).await;
    let before = switch.next_cfg();
    let spec = BridgeSpec {
        datapath_type: Some("netdev".into()),
        fail_mode: Want::Is(FailMode::Standalone),
        stp_enable: Some(true),
        mcast_snooping_enable: Some(true),
        external_ids: [("site".to_owned(), Some("north".to_owned()))].into(),
        other_config: [("mac-aging-time".to_owned(), Some("60".to_owned()))].into(),
        ..BridgeSpec::default()
    };
    let uplink = PortSpec {
        tag: Want::Is(10),
        trunks: Some(BTreeSet::from([10, 20])),
        vlan_mode: Want::Is(VlanMode::NativeUntagged),
        mtu_request: Want::Is(1400),
        external_ids: [("a".to_owned(), Some("b".to_owned()))].into(),
        ..internal("br0")
    };
    let bond = PortSpec {
        bridge: "br0".into(),
        interfaces: Some(BTreeSet::from(["e1".into(), "e2".into()])),
        bond_mode: Want::Is(BondMode::BalanceSlb),
        lacp: Want::Is(Lacp::Off),
        ..PortSpec::default()
    };
    let steps = vec![
        (bridge("br0", BridgeOp::Add, spec.clone()), vec![]),
        (port("uplink0", PortOp::Add, uplink.clone()), vec![1]),
        (port("br0", PortOp::Set, PortSpec { tag: Want::Is(3), bridge: "br0".into(), ..PortSpec::default() }), vec![1]),
    ];
    let ended = watched.apply_steps(steps.clone()).await;
    assert!(ended.iter().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:?}");
    assert_eq!(watched.states[&1], [StepState::Running, StepState::Verifying, StepState::Done]);
    assert_eq!(switch.next_cfg(), before + 1, "one transaction");
    assert!(
        switch.log().contains("op-dbus: job 1: add-bridge br0, add-port uplink0, set-port br0"),
        "{}",
        switch.log()
    );
    assert_eq!(
        switch.vsctl(&["get", "Bridge", "br0", "external_ids"]),
        format!("{{opdbus-owner={}, site=north}}", owner())
    );
    assert_eq!(
        switch.vsctl(&["get", "Bridge", "br0", "datapath_type", "stp_enable", "other_config"]),
        "netdev\ntrue\n{mac-aging-time=\"60\"}"
    );
    assert_eq!(
        switch.vsctl(&["get", "Port", "uplink0", "tag", "trunks", "vlan_mode"]),
        "10\n[10, 20]\nnative-untagged"
    );
    assert_eq!(switch.vsctl(&["get", "Port", "uplink0", "external_ids:opdbus-owner"]), owner());
    assert_eq!(switch.vsctl(&["get", "Interface", "uplink0", "mtu_request"]), "1400");
    assert_eq!(switch.vsctl(&["get", "Port", "br0", "tag"]), "3");

    // The facts were told before the step was.
    assert_eq!(watched.ports["uplink0"].tag, Some(10));
    assert!(watched.ports["uplink0"].interfaces[0].ofport > Some(0));

    // The dummy datapath's devices have no number of their own: a bond of system devices can only be written.
    let quick = Timing { applied: Duration::from_millis(300), ..timing() };
    let mut impatient = Watched::connected(&switch, quick).await;
    impatient.apply([port("bond0", PortOp::Add, bond)]).await;
    assert_eq!(switch.vsctl(&["get", "Port", "bond0", "bond_mode", "lacp"]), "balance-slb\noff");
    assert_eq!(switch.vsctl(&["list-ifaces", "br0"]), "e1\ne2\nuplink0");

    // The same again writes nothing.
    watched.until("the bond", |now| now.ports.contains_key("bond0")).await;
    let before = switch.next_cfg();
    let ended = watched.apply_steps(steps).await;
    assert!(ended.iter().all(|ended| ended.state == StepState::Done && !ended.wrote), "{ended:?}");
    assert_eq!(switch.next_cfg(), before);
}

#[tokio::test]
async fn changes_only_what_is_named() {
    let (switch, mut watched) = with_bridge().await;
    watched.done(port("p0", PortOp::Add, internal("br0"))).await;
    switch.vsctl(&["set", "Port", "p0", "tag=7", "external_ids:theirs=1", "external_ids:mine=2", "trunks=5"]);
    watched.until("the change", |now| now.ports["p0"].tag == Some(7)).await;
    let spec = PortSpec {
        tag: Want::Unset,
        external_ids: [("mine".to_owned(), Some("3".to_owned())), ("gone".to_owned(), None)].into(),
        ..internal("br0")
    };
    assert!(watched.done(port("p0", PortOp::Set, spec.clone())).await);
    assert!(!watched.done(port("p0", PortOp::Set, spec)).await, "it holds");
    assert_eq!(switch.vsctl(&["get", "Port", "p0", "tag", "trunks"]), "[]\n[5]");
    let ids = switch.vsctl(&["get", "Port", "p0", "external_ids"]);
    assert_eq!(ids, format!("{{mine=\"3\", opdbus-owner={}, theirs=\"1\"}}", owner()));

    let controllers = |targets: &[&str]| {
        let controllers = Some(targets.iter().map(|target| (*target).to_owned()).collect());
        bridge("br0", BridgeOp::Set, BridgeSpec { controllers, ..BridgeSpec::default() })
    };
    assert!(watched.done(controllers(&["ptcp:1", "ptcp:2"])).await);
    assert!(watched.done(controllers(&["ptcp:2", "ptcp:3"])).await);
    assert!(!watched.done(controllers(&["ptcp:3", "ptcp:2"])).await);
    assert_eq!(switch.vsctl(&["get-controller", "br0"]), "ptcp:2\nptcp:3");
    assert!(watched.done(controllers(&[])).await);
    assert_eq!(switch.vsctl(&["--columns=target", "list", "Controller"]), "");
    let secure = BridgeSpec { fail_mode: Want::Is(FailMode::Secure), ..BridgeSpec::default() };
    assert!(watched.done(bridge("br0", BridgeOp::Set, secure)).await);
    assert!(
        watched
            .done(bridge("br0", BridgeOp::Set, BridgeSpec { fail_mode: Want::Unset, ..BridgeSpec::default() }))
            .await
    );
    assert_eq!(switch.vsctl(&["get", "Bridge", "br0", "fail_mode"]), "[]");
}

#[tokio::test]
async fn moves_a_port_as_it_is() {
    let (switch, mut watched) = with_bridge().await;
    switch.vsctl(&[
        "add-br",
        "br1",
        "--",
        "add-port",
        "br1",
        "p0",
        "--",
        "set",
        "Interface",
        "p0",
        "type=internal",
        "--",
        "set",
        "Port",
        "p0",
        "external_ids:theirs=1",
    ]);
    watched.until("the port", |now| now.ports.contains_key("p0")).await;
    let uuid = watched.ports["p0"].uuid.clone();
    assert!(watched.done(port("p0", PortOp::Move, PortSpec { tag: Want::Is(4), ..internal("br0") })).await);
    assert_eq!(switch.vsctl(&["port-to-br", "p0"]), "br0");
    assert_eq!(
        switch.vsctl(&["get", "Port", "p0", "tag", "external_ids", "_uuid"]),
        format!("4\n{{theirs=\"1\"}}\n{uuid}")
    );
    assert_eq!((&*watched.ports["p0"].bridge, watched.bridges["br1"].ports.contains("p0")), ("br0", false));
}

#[tokio::test]
async fn makes_anew_in_one_transaction() {
    let (switch, mut watched) = with_bridge().await;
    assert!(watched.done(port("p0", PortOp::Add, internal("br0"))).await);
    let uuid = watched.ports["p0"].uuid.clone();
    assert!(!watched.done(port("p0", PortOp::Recreate, internal("br0"))).await, "nothing to make anew");
    watched.forget();
    let before = switch.next_cfg();
    assert!(
        watched.done(port("p0", PortOp::Recreate, PortSpec { kind: Some("system".into()), ..device("br0") })).await
    );
    assert_eq!(switch.next_cfg(), before + 1);
    assert_ne!(watched.ports["p0"].uuid, uuid);
    assert_eq!(watched.ports["p0"].interfaces[0].kind, "");
}

/// The userspace datapath opens a device only if ovs-vswitchd has seen the port before go.
#[tokio::test]
async fn plugs_anew_in_two_transactions() {
    let (switch, mut watched) = with_bridge().await;
    assert!(watched.done(port("p0", PortOp::Add, internal("br0"))).await);
    let uuid = watched.ports["p0"].uuid.clone();
    let (before, applied) = (switch.next_cfg(), switch.vsctl(&["get", "Open_vSwitch", ".", "cur_cfg"]));
    assert_eq!(applied, before.to_string());
    assert!(watched.done(port("p0", PortOp::Replug, PortSpec { tag: Want::Is(4), ..internal("br0") })).await);
    assert_eq!(switch.next_cfg(), before + 2);
    assert_ne!(watched.ports["p0"].uuid, uuid);
    assert_eq!(watched.ports["p0"].tag, Some(4));
    assert_eq!(watched.ended[&1].state, StepState::Done);
}

#[tokio::test]
async fn a_bond_and_a_single_port_turn_into_each_other() {
    let (switch, mut watched) = with_bridge().await;
    let bond = |names: [&str; 2]| {
        let interfaces = Some(names.map(str::to_owned).into());
        PortSpec { bridge: "br0".into(), interfaces, ..PortSpec::default() }
    };
    // The members are devices that other clients describe: without a number they could only be written.
    let number = |names: [&str; 2]| {
        for name in names {
            switch.vsctl(&["set", "Interface", name, "options:ifindex=7"]);
        }
    };
    switch.vsctl(&["add-bond", "br0", "bond0", "e1", "e2"]);
    number(["e1", "e2"]);
    let uuid_of = |name: &str| switch.vsctl(&["get", "Interface", name, "_uuid"]);
    let kept = uuid_of("e2");
    watched
        .until("the bond", |now| {
            now.ports.get("bond0").is_some_and(|bond| bond.interfaces.iter().all(|own| own.ifindex == Some(7)))
        })
        .await;
    assert!(!watched.done(port("bond0", PortOp::Set, bond(["e1", "e2"]))).await);

    let work = watched.work(vec![(port("bond0", PortOp::Set, bond(["e2", "e3"])), vec![])]);
    let applied = watched.plugin.apply(work);
    watched.until("the new member", |now| now.ports["bond0"].interfaces.iter().any(|own| own.name == "e3")).await;
    number(["e2", "e3"]);
    watched.end_of(applied).await;
    assert_eq!(watched.ended[&1].state, StepState::Done, "{:?}", watched.ended[&1]);
    assert_eq!(switch.vsctl(&["list-ifaces", "br0"]), "e2\ne3");
    assert_eq!(uuid_of("e2"), kept, "what remains is kept");

    for op in [PortOp::Set, PortOp::Recreate] {
        assert!(watched.done(port("bond0", op, internal("br0"))).await);
        assert_eq!(switch.vsctl(&["list-ifaces", "br0"]), "bond0");
        let quick = Timing { applied: Duration::from_millis(300), ..timing() };
        let mut impatient = Watched::connected(&switch, quick).await;
        impatient.apply([port("bond0", op, bond(["e1", "e2"]))]).await;
        assert_eq!(switch.vsctl(&["list-ifaces", "br0"]), "e1\ne2");
        watched.until("the bond", |now| now.ports["bond0"].interfaces.len() == 2).await;
    }
}

/// As prune does it: its removals stand behind what the document names.
#[tokio::test]
async fn ports_become_a_bond_and_a_bond_ports_in_one_transaction_whatever_the_order() {
    let (switch, mut watched) = with_bridge().await;
    let bond = PortSpec {
        bridge: "br0".into(),
        interfaces: Some(BTreeSet::from(["e1".into(), "e2".into()])),
        ..PortSpec::default()
    };
    for name in ["e1", "e2"] {
        assert!(watched.done(port(name, PortOp::Add, internal("br0"))).await);
    }
    let before = switch.next_cfg();
    let steps = vec![
        (port("bond0", PortOp::Add, bond), vec![]),
        (Action::Port("e1".into(), PortOp::Delete), vec![]),
        (Action::Port("e2".into(), PortOp::Delete), vec![]),
    ];
    // Whether the bond's devices work is not what this is about: the dummy datapath has none.
    let quick = Timing { applied: Duration::from_millis(300), ..timing() };
    Watched::connected(&switch, quick).await.apply_steps(steps).await;
    assert_eq!(switch.next_cfg(), before + 1, "one transaction");
    assert_eq!(switch.vsctl(&["list-ports", "br0"]), "bond0");
    assert_eq!(switch.vsctl(&["list-ifaces", "br0"]), "e1\ne2");
    watched.until("the bond", |now| now.ports.contains_key("bond0") && !now.ports.contains_key("e1")).await;
    let steps = vec![
        (port("e1", PortOp::Add, internal("br0")), vec![]),
        (port("e2", PortOp::Add, internal("br0")), vec![]),
        (Action::Port("bond0".into(), PortOp::Delete), vec![]),
    ];
    let ended = watched.apply_steps(steps).await;
    assert!(ended.iter().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:?}");
    assert_eq!(switch.vsctl(&["list-ports", "br0"]), "e1\ne2");
}

#[tokio::test]
async fn removes() {
    let (switch, mut watched) = with_bridge().await;
    assert!(watched.done(port("p0", PortOp::Add, internal("br0"))).await);
    assert!(watched.done(Action::Port("p0".into(), PortOp::Delete)).await);
    assert!(!watched.done(Action::Port("p0".into(), PortOp::Delete)).await);
    assert_eq!(switch.vsctl(&["list-ports", "br0"]), "");
    assert!(watched.done(port("p1", PortOp::Add, internal("br0"))).await);
    let both = [Action::Port("p1".into(), PortOp::Delete), Action::Bridge("br0".into(), BridgeOp::Delete)];
    let ended = watched.apply(both).await;
    assert!(ended.iter().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:?}");
    assert_eq!(switch.vsctl(&["list-br"]), "");
    assert_eq!(switch.vsctl(&["--columns=name", "list", "Port"]), "");
    assert!(!watched.done(Action::Bridge("br0".into(), BridgeOp::Delete)).await);
    assert!(watched.bridges.is_empty() && watched.ports.is_empty());
}

#[tokio::test]
async fn refusals_fail_their_step_and_block_what_builds_on_it() {
    let (switch, mut watched) = with_bridge().await;
    switch.vsctl(&["add-br", "vlan9", "br0", "9"]);
    watched.until("the fake bridge", |now| now.ports.contains_key("vlan9")).await;
    let before = switch.next_cfg();
    let steps = vec![
        (bridge("vlan9", BridgeOp::Add, BridgeSpec::default()), vec![]),
        (port("p0", PortOp::Add, internal("br0")), vec![1]),
        (port("p1", PortOp::Add, internal("br0")), vec![]),
        (port("p2", PortOp::Add, internal("brx")), vec![]),
        (port("p3", PortOp::Set, internal("br0")), vec![]),
        (port("p4", PortOp::Add, internal("br0")), vec![2]),
    ];
    let ended = watched.apply_steps(steps).await;
    let brief: Vec<(StepState, Reason, bool)> = ended.iter().map(|own| (own.state, own.reason, own.retry)).collect();
    assert_eq!(
        brief,
        [
            (StepState::Failed, Reason::FakeBridge, false),
            (StepState::Blocked, Reason::DependencyFailed, false),
            (StepState::Done, Reason::None, false),
            (StepState::Failed, Reason::BridgeMissing, false),
            (StepState::Failed, Reason::Missing, true),
            (StepState::Blocked, Reason::DependencyFailed, false),
        ]
    );
    assert!(ended.iter().enumerate().all(|(at, own)| own.wrote == (at == 2)));
    assert_eq!(switch.next_cfg(), before + 1);
    assert_eq!(switch.vsctl(&["list-ports", "br0"]), "p1");
}

#[tokio::test]
async fn a_step_that_the_server_refuses_fails_alone() {
    let (switch, mut watched) = with_bridge().await;
    let steps = vec![
        (port("p0", PortOp::Add, internal("br0")), vec![]),
        (port("bad", PortOp::Add, PortSpec { tag: Want::Is(5000), ..internal("br0") }), vec![]),
        (port("p1", PortOp::Add, internal("br0")), vec![2]),
        (port("p2", PortOp::Add, internal("br0")), vec![]),
    ];
    let ended = watched.apply_steps(steps).await;
    let Ended { state, reason, message, retry, wrote } = &ended[1];
    assert_eq!((*state, *reason, *retry, *wrote), (StepState::Failed, Reason::Refused, false, false));
    assert!(message.contains("5000"), "{message}");
    assert_eq!(ended[2].state, StepState::Blocked);
    assert_eq!(switch.vsctl(&["list-ports", "br0"]), "p0\np2");
}

/// Neither can go first, so both go at once.
#[tokio::test]
async fn bonds_exchange_their_members() {
    let (switch, mut watched) = with_bridge().await;
    switch.vsctl(&["add-bond", "br0", "b1", "e1", "e2", "--", "add-bond", "br0", "b2", "e3", "e4"]);
    watched.until("the bonds", |now| now.ports.contains_key("b1") && now.ports.contains_key("b2")).await;
    let before = switch.next_cfg();
    let bond = |name: &str, members: [&str; 2]| {
        let interfaces = Some(members.map(str::to_owned).into());
        (port(name, PortOp::Set, PortSpec { bridge: "br0".into(), interfaces, ..PortSpec::default() }), vec![])
    };
    let work = watched.work(vec![bond("b1", ["e1", "e3"]), bond("b2", ["e2", "e4"])]);
    let applied = watched.plugin.apply(work);
    let has = |now: &Watched, bond: &str, member: &str| now.ports[bond].interfaces.iter().any(|own| own.name == member);
    watched.until("the exchange", |now| has(now, "b1", "e3") && has(now, "b2", "e2")).await;
    assert_eq!(switch.next_cfg(), before + 1, "one transaction");
    // The members are devices that other clients describe: without a number they could only be written.
    for name in ["e1", "e2", "e3", "e4"] {
        switch.vsctl(&["set", "Interface", name, "options:ifindex=7"]);
    }
    watched.end_of(applied).await;
    assert!(watched.ended.values().all(|ended| ended.state == StepState::Done && ended.wrote), "{:?}", watched.ended);
    for (bond, gone) in [("b1", "e2"), ("b2", "e3")] {
        assert!(watched.ports[bond].interfaces.len() == 2 && !has(&watched, bond, gone), "{bond}");
    }
}

#[tokio::test]
async fn a_silent_switch_is_told_from_a_refusal() {
    let mut switch = PrivateSwitch::start();
    let quick = Timing { applied: Duration::from_millis(200), ..timing() };
    let mut watched = Watched::connected(&switch, quick).await;
    switch.stop_switch();
    let ended = watched.apply([bridge("br0", BridgeOp::Add, BridgeSpec::default())]).await.remove(0);
    assert_eq!((ended.state, ended.reason), (StepState::Failed, Reason::SwitchNotAnswering));
    assert!(ended.retry && ended.wrote && ended.message.contains("committed"), "{ended:?}");
    assert_eq!(switch.vsctl(&["--no-wait", "list-br"]), "br0");
}

#[tokio::test]
async fn a_bridge_that_the_switch_cannot_make_is_no_success() {
    let switch = PrivateSwitch::start();
    let mut watched = Watched::connected(&switch, Timing { applied: Duration::from_millis(500), ..timing() }).await;
    let spec = BridgeSpec { datapath_type: Some("nonsense".into()), ..BridgeSpec::default() };
    let ended = watched.apply([bridge("br0", BridgeOp::Add, spec)]).await.remove(0);
    assert_eq!((ended.state, ended.reason, ended.wrote), (StepState::Failed, Reason::PortError, true));
}

#[tokio::test]
async fn away_is_said_at_once() {
    let mut switch = PrivateSwitch::database_only();
    let mut watched = Watched::connected(&switch, timing()).await;
    switch.stop_server();
    watched.until_status(BackendStatus::Unavailable).await;
    let ended = watched.apply([bridge("br0", BridgeOp::Add, BridgeSpec::default())]).await.remove(0);
    assert_eq!(
        (ended.state, ended.reason, ended.retry, ended.wrote),
        (StepState::Failed, Reason::BackendAway, true, false)
    );
}

#[tokio::test]
async fn a_port_that_somebody_plugs_is_waited_for_and_put_right() {
    let (switch, watched) = with_bridge().await;
    switch.vsctl(&["add-br", "br1"]);
    let long = Timing { settle: Duration::from_secs(600), ..timing() };
    let mut patient = Watched::connected(&switch, long).await;
    let spec = PortSpec { kind: None, tag: Want::Is(6), ..internal("br0") };
    let work = patient.work(vec![
        (port("veth100", PortOp::Plug, spec.clone()), vec![]),
        (port("p0", PortOp::Add, internal("br0")), vec![]),
        (port("p1", PortOp::Add, internal("br0")), vec![1]),
    ]);
    let applied = patient.plugin.apply(work);
    // What does not wait for the hook is written at once, what does is not.
    patient.until("the other port", |now| now.ended.contains_key(&2)).await;
    assert_eq!(switch.vsctl(&["list-ports", "br0"]), "p0");
    // The hook plugs under Proxmox's spelling, into another bridge.
    switch.vsctl(&["add-port", "br1", "veth100i0", "--", "set", "Interface", "veth100i0", "type=internal"]);
    patient.end_of(applied).await;
    assert!(patient.ended.values().all(|ended| ended.state == StepState::Done && ended.wrote), "{:?}", patient.ended);
    assert_eq!(switch.vsctl(&["port-to-br", "veth100i0"]), "br0");
    assert_eq!(switch.vsctl(&["get", "Port", "veth100i0", "tag", "external_ids"]), "6\n{}");

    // Nobody plugs: after the settle time it is made, with our mark.
    let short = Timing { settle: Duration::from_millis(50), ..timing() };
    let mut hasty = Watched::connected(&switch, short).await;
    let spec = PortSpec { kind: Some("internal".into()), ..spec };
    assert!(hasty.done(port("veth7", PortOp::Plug, spec)).await);
    assert_eq!(switch.vsctl(&["get", "Port", "veth7", "external_ids:opdbus-owner"]), owner());
    drop(watched);
}

#[tokio::test]
async fn a_stale_row_is_not_taken_for_a_plug() {
    let (switch, mut watched) = with_bridge().await;
    // On the dummy datapath a system device without a number looks as one that has vanished.
    switch.vsctl(&["add-port", "br0", "veth100"]);
    watched
        .until("the stale row", |now| now.ports.get("veth100").is_some_and(op_dbus::model::PortFacts::device_gone))
        .await;
    let mut patient = Watched::connected(&switch, Timing { settle: Duration::from_secs(600), ..timing() }).await;
    let spec = PortSpec { kind: None, tag: Want::Is(6), ..internal("br0") };
    let other = port("p0", PortOp::Add, internal("br0"));
    let work = patient.work(vec![(port("veth100", PortOp::Plug, spec), vec![]), (other, vec![])]);
    let applied = patient.plugin.apply(work);
    patient.until("the other port", |now| now.ended.contains_key(&2)).await;
    assert_eq!(switch.vsctl(&["get", "Port", "veth100", "tag"]), "[]", "the stale row is left alone");
    // The hook plugs anew, as Proxmox does.
    switch.vsctl(&[
        "del-port",
        "veth100",
        "--",
        "add-port",
        "br0",
        "veth100",
        "--",
        "set",
        "Interface",
        "veth100",
        "type=internal",
    ]);
    patient.end_of(applied).await;
    assert_eq!(patient.ended[&1].state, StepState::Done, "{:?}", patient.ended[&1]);
    assert_eq!(switch.vsctl(&["get", "Port", "veth100", "tag"]), "6");
}

#[tokio::test]
async fn many_ports_go_in_chunks_each_applied_before_the_next() {
    let mut switch = PrivateSwitch::database_only();
    switch.vsctl(&["--no-wait", "add-br", "br0"]);
    let mut watched = Watched::connected(&switch, timing()).await;
    let before = switch.next_cfg();
    let step = |number| (port(&format!("p{number}"), PortOp::Add, internal("br0")), vec![]);
    let work = watched.work((0..1100).map(step).collect());
    let applied = watched.plugin.apply(work);
    watched
        .until("the first chunk", |now| now.states.get(&500).is_some_and(|s| s.contains(&StepState::Verifying)))
        .await;
    watched.drain();
    assert!(!watched.states.contains_key(&501), "nobody has applied the first chunk yet");
    switch.start_switch();
    watched.end_of(applied).await;
    assert!(watched.ended.values().all(|ended| ended.state == StepState::Done && ended.wrote));
    // One for the switch's own start in this test.
    assert_eq!((watched.ended.len(), switch.next_cfg()), (1100, before + 1 + 3));
    assert_eq!(watched.bridges["br0"].ports.len(), 1101);
}
