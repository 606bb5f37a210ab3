//! Open vSwitch on real devices: what only a real datapath shows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs
)]

use std::time::Duration;

use op_dbus::{
    desired::{BridgeSpec, PortSpec},
    model::{BackendStatus, PortFacts, Reason, StepState},
    plan::{Action, BridgeOp, PortOp},
    plugins::ovsdb::Timing,
};
use op_dbus_testkit::{
    Lab,
    ovsdb::{Watched, bridge, internal, port, timing},
};

/// `IFF_PROMISC` of a device's flags.
const IFF_PROMISC: u32 = 0x100;

/// Where Debian's Open vSwitch has its database.
const REMOTE: &str = "unix:/run/openvswitch/db.sock";

fn netdev() -> BridgeSpec {
    BridgeSpec { datapath_type: Some("netdev".into()), ..BridgeSpec::default() }
}

fn device(bridge: &str) -> PortSpec {
    PortSpec { bridge: bridge.into(), ..PortSpec::default() }
}

/// Runs a story with the plugin connected to the machine's own Open vSwitch.
fn story(told: impl AsyncFnOnce(&Lab, Watched)) {
    // The lab's own runtime must not end within ours.
    let Some(lab) = Lab::enter() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut watched = Watched::start(REMOTE.parse().unwrap(), timing());
        watched.until_status(BackendStatus::Connected).await;
        told(&lab, watched).await;
    });
}

#[test]
fn a_port_on_a_missing_device_is_told_and_one_that_vanishes_is_stale() {
    story(async |lab, mut watched| {
        assert!(watched.done(bridge("lab0", BridgeOp::Add, netdev())).await);
        assert!(watched.done(port("in0", PortOp::Add, internal("lab0"))).await);
        let ended = watched.apply([port("nodev0", PortOp::Add, device("lab0"))]).await.remove(0);
        assert_eq!(
            (ended.state, ended.reason, ended.wrote),
            (StepState::Failed, Reason::DeviceMissing, true),
            "{ended:?}"
        );
        assert!(ended.message.contains("No such device"), "{}", ended.message);
        assert!(watched.ports["nodev0"].device_gone());

        let veth = ["ip", "link", "add", "veth900", "type", "veth", "peer", "name", "vp900"];
        lab.run(&veth);
        assert!(watched.done(port("veth900", PortOp::Add, device("lab0"))).await);
        assert!(!watched.ports["veth900"].device_gone());
        lab.run(&["ip", "link", "del", "veth900"]);
        let gone = |port: Option<&PortFacts>| port.is_some_and(PortFacts::device_gone);
        watched.until("the device to go", |now| gone(now.ports.get("veth900"))).await;
        // The step that finds the row as wanted says all the same that nothing is behind it.
        let quick = Timing { applied: Duration::from_millis(300), ..timing() };
        let mut other = Watched::start(REMOTE.parse().unwrap(), quick);
        other.until_status(BackendStatus::Connected).await;
        let ended = other.apply([port("veth900", PortOp::Set, device("lab0"))]).await.remove(0);
        assert_eq!((ended.reason, ended.wrote), (Reason::DeviceMissing, false), "{ended:?}");
        // Another device of that name: all columns look right again, and the datapath stays with the one that is gone.
        // (What it opens it makes promiscuous.)
        let is_open = || {
            let flags = lab.run(&["cat", "/sys/class/net/veth900/flags"]);
            u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap() & IFF_PROMISC != 0
        };
        lab.run(&veth);
        watched.until("another device", |now| now.ports.get("veth900").is_some_and(PortFacts::device_replaced)).await;
        assert!(watched.ports["veth900"].device_gone() && !is_open());
        assert!(watched.done(port("veth900", PortOp::Replug, device("lab0"))).await);
        assert!(!watched.ports["veth900"].device_gone() && is_open());
        assert!(!watched.done(port("veth900", PortOp::Set, device("lab0"))).await);

        lab.run(&["ip", "link", "del", "veth900"]);
        assert!(watched.done(Action::Bridge("lab0".into(), BridgeOp::Delete)).await);
        assert!(!watched.ports.contains_key("in0"));
    });
}

#[test]
fn a_bond_of_real_devices_comes_up() {
    story(async |lab, mut watched| {
        let names = ["bo1", "bo2"];
        for name in names {
            lab.run(&["ip", "link", "add", name, "type", "veth", "peer", "name", &format!("{name}p")]);
        }
        let interfaces = Some(names.map(str::to_owned).into());
        let bond = PortSpec { interfaces, ..device("lab1") };
        let steps = vec![
            (bridge("lab1", BridgeOp::Add, netdev()), vec![]),
            (port("bond1", PortOp::Add, bond.clone()), vec![1]),
        ];
        let ended = watched.apply_steps(steps).await;
        assert!(ended.iter().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:?}");
        assert!(!watched.done(port("bond1", PortOp::Set, bond)).await);
        // From a bond to a port on one device, and away.
        assert!(watched.done(port("bond1", PortOp::Recreate, internal("lab1"))).await);
        assert!(watched.done(Action::Bridge("lab1".into(), BridgeOp::Delete)).await);
        for name in names {
            lab.run(&["ip", "link", "del", name]);
        }
    });
}

#[test]
fn a_restart_of_open_vswitch_is_come_back_from() {
    story(async |lab, mut watched| {
        assert!(watched.done(bridge("lab2", BridgeOp::Add, netdev())).await);
        watched.forget();
        lab.run(&["systemctl", "restart", "ovsdb-server.service", "ovs-vswitchd.service"]);
        watched.until("the connection anew", |now| now.resets > 0).await;
        watched.until_status(BackendStatus::Connected).await;
        assert!(watched.bridges.contains_key("lab2"));
        assert_ne!(watched.backend.as_ref().unwrap().version, "", "Debian's start script tells the version");
        assert!(watched.done(Action::Bridge("lab2".into(), BridgeOp::Delete)).await);
    });
}
