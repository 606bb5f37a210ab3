//! The planner and the plugin agree on what each field means: whatever the document, what was applied plans to
//! nothing, and a client that looks sees only what was named.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use op_dbus::{
    desired::{BondMode, BridgeSpec, Document, Ensure, FailMode, Lacp, OptionalMap, PortSpec, VlanMode, Want},
    model::{Name, Observed, PortFacts},
    plan::{Action, Desired, Inventory, Plan, plan},
    plugins::{Plugin as _, Work, ovsdb::Timing},
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

use op_dbus_testkit::ovsdb::{MACHINE, PrivateSwitch, Watched, timing};

/// Documents applied one after the other on the same database.
const DOCUMENTS: usize = 60;

fn want<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = Want<T>> + use<T> {
    prop_oneof![Just(Want::Unmanaged), Just(Want::Unset), prop::sample::select(values.to_vec()).prop_map(Want::Is)]
}

fn map(keys: &'static [&'static str], values: &'static [&'static str]) -> impl Strategy<Value = OptionalMap> {
    let pair = (
        prop::sample::select(keys).prop_map(str::to_owned),
        prop::option::of(prop::sample::select(values).prop_map(str::to_owned)),
    );
    prop::collection::btree_map(pair.0, pair.1, 0..3)
}

prop_compose! {
    fn bridge_spec(ensure: BoxedStrategy<Ensure>)(
        ensure in ensure,
        datapath_type in prop::option::of(prop::sample::select(vec!["system".to_owned(), "netdev".to_owned()])),
        fail_mode in want(&[FailMode::Secure, FailMode::Standalone]),
        (stp_enable, rstp_enable, mcast_snooping_enable) in any::<(Option<bool>, Option<bool>, Option<bool>)>(),
        controllers in prop::option::of(prop::collection::btree_set(
            prop::sample::select(vec!["tcp:192.0.2.1".to_owned(), "ptcp:1".to_owned(), "ptcp:2".to_owned()]), 0..3)),
        external_ids in map(&["a", "b", "c"], &["1", "2"]),
        other_config in map(&["mac-aging-time", "x"], &["60", "70"]),
    ) -> BridgeSpec {
        BridgeSpec {
            ensure, datapath_type, fail_mode, stp_enable, rstp_enable, mcast_snooping_enable, controllers, external_ids,
            other_config, ..BridgeSpec::default()
        }
    }
}

prop_compose! {
    fn port_spec(name: &'static str)(
        bridge in prop::sample::select(vec!["b1", "b2"]),
        ensure in prop_oneof![4 => Just(Ensure::Present), 1 => Just(Ensure::Absent)],
        kind in prop::option::of(prop::sample::select(vec!["system".to_owned(), "internal".to_owned(), "vxlan".to_owned()])),
        tag in want(&[0_u16, 5, 4095]),
        trunks in prop::option::of(prop::collection::btree_set(0_u16..4, 0..3)),
        vlan_mode in want(&[VlanMode::Access, VlanMode::Trunk, VlanMode::Dot1qTunnel]),
        options in map(&["remote_ip", "key"], &["192.0.2.1", "flow"]),
        mtu_request in want(&[1400_u32, 9000]),
        external_ids in map(&["a", "b"], &["1", "2"]),
        bond in prop::option::weighted(0.3, prop::sample::subsequence(vec!["x", "y", "z"], 2..=3)),
        bond_mode in want(&[BondMode::ActiveBackup, BondMode::BalanceSlb]),
        lacp in want(&[Lacp::Off, Lacp::Active]),
    ) -> PortSpec {
        let interfaces = bond.map(|names| names.iter().map(|own| format!("{name}{own}")).collect::<BTreeSet<_>>());
        let single = interfaces.is_none();
        PortSpec {
            bridge: bridge.into(), ensure, tag, trunks, vlan_mode, mtu_request, external_ids, bond_mode, lacp, interfaces,
            kind: kind.filter(|_| single), options: if single { options } else { OptionalMap::new() },
            ..PortSpec::default()
        }
    }
}

prop_compose! {
    /// b1 and b2 are always there, for the ports to be on.
    fn document()(
        b1 in bridge_spec(Just(Ensure::Present).boxed()),
        b2 in bridge_spec(Just(Ensure::Present).boxed()),
        b3 in prop::option::of(bridge_spec(prop_oneof![Just(Ensure::Present), Just(Ensure::Absent)].boxed())),
        p1 in prop::option::weighted(0.8, port_spec("p1")),
        p2 in prop::option::weighted(0.8, port_spec("p2")),
        p3 in prop::option::weighted(0.8, port_spec("p3")),
        prune in any::<bool>(),
    ) -> Document {
        let bridges = [("b1", Some(b1)), ("b2", Some(b2)), ("b3", b3)];
        let ports = [("p1", p1), ("p2", p2), ("p3", p3)];
        Document {
            prune,
            bridges: bridges.into_iter().filter_map(|(name, spec)| Some((name.into(), spec?))).collect(),
            ports: ports.into_iter().filter_map(|(name, spec)| Some((name.into(), spec?))).collect(),
            ..Document::default()
        }
    }
}

fn planned(document: &Document, watched: &Watched) -> Plan {
    let mut observed = Observed {
        bridges: watched.bridges.iter().map(|(name, facts)| (name.clone(), Arc::new(facts.clone()))).collect(),
        ports: watched.ports.iter().map(|(name, facts)| (name.clone(), Arc::new(facts.clone()))).collect(),
        ..Observed::default()
    };
    observed.backends.insert("ovsdb", watched.backend.clone().unwrap());
    let inventory = Inventory {
        machine_id: MACHINE.to_owned(),
        protected_units: Vec::new(),
        protected_calls: Vec::new(),
        container_unit: "lxc@%.service".to_owned(),
        retry_unmet: false,
        reload_owed: false,
        hand: op_dbus::plan::Hand::default(),
    };
    plan(&Desired::new(Arc::new(document.clone())), &observed, &inventory, None)
}

/// What nobody named in the port that another client made.
fn theirs(watched: &Watched) -> Option<PortFacts> {
    watched.ports.get(&Name::from("foreign")).cloned()
}

#[tokio::test]
async fn what_was_applied_plans_to_nothing() {
    let switch = PrivateSwitch::database_only();
    switch.vsctl(&["--no-wait", "add-br", "far", "--", "add-port", "far", "foreign", "tag=9", "trunks=1"]);
    // Nobody applies what is committed here: the rows are what this is about.
    let mut watched = Watched::connected(&switch, Timing { applied: Duration::from_millis(1), ..timing() }).await;
    let before = theirs(&watched);
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..DOCUMENTS {
        let document = document().new_tree(&mut runner).unwrap().current();
        let steps = planned(&document, &watched).steps;
        let actions: Vec<&Action> = steps.iter().map(|step| &step.action).collect();
        let work = Work { job: 1, steps: steps.clone() };
        watched.ended.clear();
        let applied = watched.plugin.apply(work);
        watched.end_of(applied).await;
        let after = planned(&document, &watched);
        assert!(after.steps.is_empty(), "{document:#?}\n{actions:#?}\n{:#?}\nleft: {after:#?}", watched.ended);
        assert_eq!(theirs(&watched), before);
    }
    assert!(switch.next_cfg() > 50, "nearly every document had something to write");
}
