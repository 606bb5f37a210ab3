//! Several who write at once.

use std::sync::Arc;

use op_dbus::{
    desired::{PortSpec, Want},
    model::{Reason, StepState},
    plan::PortOp,
};

use op_dbus_testkit::ovsdb::{PrivateSwitch, Watched, internal, port, timing};

#[tokio::test]
async fn two_who_want_the_same_make_it_once() {
    let switch = PrivateSwitch::start();
    switch.vsctl(&["add-br", "br0"]);
    let (mut one, mut other) =
        tokio::join!(Watched::connected(&switch, timing()), Watched::connected(&switch, timing()));
    let steps = || (0..20).map(|number| port(&format!("p{number}"), PortOp::Add, internal("br0")));
    let (ended, others) = tokio::join!(one.apply(steps()), other.apply(steps()));
    for (mine, theirs) in ended.iter().zip(&others) {
        assert_eq!((mine.state, theirs.state), (StepState::Done, StepState::Done), "{mine:?} {theirs:?}");
        assert!(mine.wrote ^ theirs.wrote, "one of them made it: {mine:?} {theirs:?}");
    }
    assert_eq!(switch.vsctl(&["list-ports", "br0"]).lines().count(), 20);
}

#[tokio::test]
async fn a_client_that_changes_the_same_row_loses_or_is_named() {
    let switch = Arc::new(PrivateSwitch::start());
    switch.vsctl(&["add-br", "br0", "--", "add-port", "br0", "p0", "--", "set", "Interface", "p0", "type=internal"]);
    let mut watched = Watched::connected(&switch, timing()).await;
    let tagged = |tag| port("p0", PortOp::Set, PortSpec { tag: Want::Is(tag), ..internal("br0") });
    for round in 0..5 {
        let rival = std::thread::spawn({
            let switch = switch.clone();
            move || {
                for tag in 100..110 {
                    switch.vsctl(&["--no-wait", "set", "Port", "p0", &format!("tag={tag}")]);
                }
            }
        });
        let ended = watched.apply([tagged(round)]).await.remove(0);
        assert!(ended.state == StepState::Done || ended.reason == Reason::Contended, "{ended:?}");
        rival.join().unwrap();
    }
    watched.done(tagged(9)).await;
    assert_eq!(switch.vsctl(&["get", "Port", "p0", "tag"]), "9");
}

/// Proxmox's hook, at the very moment at which the port is written.
#[tokio::test]
async fn a_port_plugged_anew_at_the_same_moment_is_written_in_the_end() {
    let switch = Arc::new(PrivateSwitch::start());
    switch.vsctl(&["add-br", "br0", "--", "add-br", "br1"]);
    let mut watched = Watched::connected(&switch, timing()).await;
    let wanted = PortSpec { tag: Want::Is(6), kind: None, ..internal("br0") };
    for round in 0..5 {
        let name = format!("veth{round}");
        let hook = std::thread::spawn({
            let (switch, name) = (switch.clone(), name.clone());
            move || {
                for bridge in ["br0", "br1", "br0"] {
                    let kind = "type=internal";
                    let plug = ["add-port", bridge, &name, "--", "set", "Interface", &name, kind];
                    let replug = [&["--no-wait", "--if-exists", "del-port", &name, "--"][..], &plug[..]].concat();
                    switch.vsctl(&replug);
                }
            }
        });
        let action = || port(&name, PortOp::Plug, wanted.clone());
        let ended = watched.apply([action()]).await.remove(0);
        assert!(ended.state == StepState::Done || ended.reason == Reason::Contended, "{ended:?}");
        hook.join().unwrap();
        let uuid = switch.vsctl(&["get", "Port", &name, "_uuid"]);
        watched.until("the last plug", |now| now.ports.get(&*name).is_some_and(|port| port.uuid == uuid)).await;
        watched.done(action()).await;
        assert_eq!(switch.vsctl(&["get", "Port", &name, "tag"]), "6");
        assert_eq!(switch.vsctl(&["port-to-br", &name]), "br0");
    }
}
