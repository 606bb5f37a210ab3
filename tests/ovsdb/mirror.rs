//! The mirror follows what other clients do, and comes back by itself.

use std::time::Duration;

use op_dbus::{
    model::{BackendStatus, ResourceId},
    plugins::ovsdb::Timing,
};
use op_dbus_testkit::ovsdb::{PrivateSwitch, Watched, timing};

fn has_port(watched: &Watched, name: &str) -> bool {
    watched.ports.contains_key(name)
}

#[tokio::test]
async fn follows_another_client() {
    let switch = PrivateSwitch::start();
    switch.vsctl(&["add-br", "br0"]);
    let mut watched = Watched::connected(&switch, timing()).await;
    switch.vsctl(&["set", "Open_vSwitch", ".", "ovs_version=3.1.0"]);
    watched.until("the version", |now| now.backend.as_ref().unwrap().version == "3.1.0").await;
    assert_eq!(watched.bridges["br0"].ports.iter().map(|name| &**name).collect::<Vec<_>>(), ["br0"]);

    switch.vsctl(&["add-port", "br0", "p0", "tag=5", "--", "set", "Interface", "p0", "type=internal"]);
    watched
        .until("the port to work", |now| now.ports.get("p0").is_some_and(|port| port.interfaces[0].ofport > Some(0)))
        .await;
    let port = &watched.ports["p0"];
    assert_eq!((&*port.bridge, port.tag, port.interfaces[0].kind.as_str()), ("br0", Some(5), "internal"));
    assert!(watched.bridges["br0"].ports.contains("p0"));

    switch.vsctl(&[
        "set",
        "Port",
        "p0",
        "trunks=1,2",
        "vlan_mode=trunk",
        "external_ids:site=north",
        "--",
        "clear",
        "Port",
        "p0",
        "tag",
    ]);
    watched.until("the change", |now| now.ports["p0"].tag.is_none()).await;
    let port = &watched.ports["p0"];
    assert_eq!((port.trunks.len(), port.vlan_mode.as_str(), port.external_ids["site"].as_str()), (2, "trunk", "north"));

    switch.vsctl(&["set-controller", "br0", "tcp:192.0.2.1:6653", "--", "set-fail-mode", "br0", "secure"]);
    watched.until("the controller", |now| now.bridges["br0"].controllers.contains("tcp:192.0.2.1:6653")).await;
    assert_eq!(watched.bridges["br0"].fail_mode, "secure");

    switch.vsctl(&["add-bond", "br0", "bond0", "e1", "e2", "--", "del-port", "p0"]);
    watched.until("the bond", |now| has_port(now, "bond0") && !has_port(now, "p0")).await;
    let names: Vec<&str> = watched.ports["bond0"].interfaces.iter().map(|own| own.name.as_str()).collect();
    assert_eq!(names, ["e1", "e2"]);

    switch.vsctl(&["del-br", "br0"]);
    watched.until("the end of the bridge", |now| now.bridges.is_empty()).await;
    assert!(watched.ports.is_empty(), "its ports go with it, in the same batch");
}

#[tokio::test]
async fn one_burst_is_one_batch() {
    let switch = PrivateSwitch::database_only();
    switch.vsctl(&["--no-wait", "add-br", "br0"]);
    let mut watched = Watched::connected(&switch, timing()).await;
    watched.forget();
    let mut arguments = vec!["--no-wait".to_owned()];
    for number in 0..200 {
        arguments.extend(["--", "add-port", "br0", &format!("p{number}")].map(str::to_owned));
    }
    switch.vsctl(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    watched.until("the ports", |now| now.ports.len() == 201).await;
    assert_eq!(watched.batches, [201], "200 ports and their bridge");
}

#[tokio::test]
async fn a_restarted_server_is_followed_again_with_all_in_one_piece() {
    let mut switch = PrivateSwitch::database_only();
    switch.vsctl(&["--no-wait", "add-br", "br0"]);
    let mut watched = Watched::connected(&switch, timing()).await;
    watched.forget();
    switch.stop_server();
    watched.until_status(BackendStatus::Unavailable).await;
    assert_eq!(watched.backends[0].status, BackendStatus::Connecting);
    assert!(watched.backend.as_ref().unwrap().message.contains("db.sock"), "{:?}", watched.backend);
    assert!(watched.bridges.contains_key("br0"), "the last known values stay");
    assert_eq!(watched.resets, 0);
    switch.start_server();
    watched.until_status(BackendStatus::Connected).await;
    assert_eq!((watched.resets, watched.batches.len()), (1, 0));
    assert_eq!(watched.backend.as_ref().unwrap().reconnects, 1);
    switch.vsctl(&["--no-wait", "add-port", "br0", "p0"]);
    watched.until("the port", |now| has_port(now, "p0")).await;
}

#[tokio::test]
async fn a_server_that_comes_late_is_found() {
    let mut switch = PrivateSwitch::database_only();
    switch.stop_server();
    let mut watched = Watched::start(switch.remote(), timing());
    watched.until_status(BackendStatus::Unavailable).await;
    switch.start_server();
    watched.until_status(BackendStatus::Connected).await;
    assert_eq!(watched.backend.as_ref().unwrap().reconnects, 0);
}

#[tokio::test]
async fn a_fake_bridge_is_a_port() {
    let switch = PrivateSwitch::start();
    switch.vsctl(&["add-br", "br0", "--", "add-br", "vlan9", "br0", "9"]);
    let watched = Watched::connected(&switch, timing()).await;
    assert!(watched.ports["vlan9"].fake_bridge && !watched.bridges.contains_key("vlan9"));
}

/// The database is not the switch. Of each row that changes it is told until ovs-vswitchd works by it, of no other; and
/// after a while without a move, that it hangs.
#[tokio::test]
async fn what_a_hung_switch_has_not_applied_is_told() {
    let switch = PrivateSwitch::start();
    let internal = |name| ["--", "add-port", "br0", name, "--", "set", "Interface", name, "type=internal"];
    switch.vsctl(&[&["add-br", "br0"][..], &internal("p0"), &internal("p1"), &internal("p2")].concat());
    let hasty = Timing { applied: Duration::from_millis(200), ..timing() };
    let mut watched = Watched::connected(&switch, hasty).await;
    let all: Vec<ResourceId> =
        ["p0", "p1"].map(ResourceId::port).into_iter().chain([ResourceId::bridge("br0")]).collect();
    let ask = format!("next_cfg={}", switch.next_cfg() + 10);
    switch.signal_switch("STOP");
    let change = ["--no-wait", "set", "Port", "p0", "tag=7", "--", "del-port", "p1"];
    switch.vsctl(&[&change[..], &["--", "set", "Open_vSwitch", ".", &ask]].concat());
    watched.until("the word that it hangs", |now| now.switch.hangs).await;
    assert_eq!(watched.switch.unapplied.iter().cloned().collect::<Vec<_>>(), sorted(&all));
    assert_eq!(watched.switches.len(), 3, "none, some, and that it hangs: {:?}", watched.switches);

    // Somebody who comes later cannot know which of all rows it is.
    let mut late = Watched::connected(&switch, timing()).await;
    late.until("the word", |now| !now.switch.unapplied.is_empty()).await;
    assert_eq!(late.switch.unapplied.len(), 4, "the bridge, its local port, p0 and p2");
    assert!(!late.switch.hangs, "not yet");

    switch.signal_switch("CONT");
    for watched in [&mut watched, &mut late] {
        watched.until("that it has caught up", |now| now.switch.unapplied.is_empty() && !now.switch.hangs).await;
    }
    // What it is not asked to look at is not waited for, nor what it writes itself.
    watched.forget();
    switch.vsctl(&["--no-wait", "set", "Port", "p0", "external_ids:a=b"]);
    watched.until("the change", |now| now.ports["p0"].external_ids.contains_key("a")).await;
    assert_eq!(watched.switches, []);
}

fn sorted(ids: &[ResourceId]) -> Vec<ResourceId> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}
