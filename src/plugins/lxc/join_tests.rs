#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::model::InterfaceFacts;

fn unit(active_state: &str, unit_file_state: &str) -> UnitFacts {
    UnitFacts {
        load_state: "loaded".into(),
        active_state: active_state.into(),
        unit_file_state: unit_file_state.into(),
        ..UnitFacts::default()
    }
}

fn port(bridge: &str, ifindex: i64) -> PortFacts {
    let interface = InterfaceFacts { ofport: Some(1), ifindex: Some(ifindex), ..InterfaceFacts::default() };
    PortFacts { bridge: bridge.into(), interfaces: vec![interface], ..PortFacts::default() }
}

fn observed<'a>(
    units: impl IntoIterator<Item = (&'a str, UnitFacts)>,
    ports: impl IntoIterator<Item = (&'a str, PortFacts)>,
) -> Observed {
    Observed {
        units: units.into_iter().map(|(name, facts)| (Name::from(name), Arc::new(facts))).collect(),
        ports: ports.into_iter().map(|(name, facts)| (Name::from(name), Arc::new(facts))).collect(),
        ..Observed::default()
    }
}

fn found(observed: &Observed) -> OrdMap<Name, Arc<ContainerFacts>> {
    join(observed, &Patterns::default(), &Declared::new()).0
}

fn names(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|name| Name::from(*name)).collect()
}

#[test]
fn a_running_container_has_its_unit_port_and_bridge() {
    let observed =
        observed([("pve-container@100.service", unit("active", "static"))], [("veth100i0", port("ovsbr0", 5))]);
    let (containers, links) = join(&observed, &Patterns::default(), &Declared::new());
    let facts = &containers["100"];
    assert_eq!(facts.unit, "pve-container@100.service");
    assert!(facts.running && !facts.on_boot);
    assert_eq!((&facts.ports, &facts.bridges), (&names(&["veth100i0"]), &names(&["ovsbr0"])));
    assert!(facts.stale_ports.is_empty());
    assert_eq!(links.port_container["veth100i0"], "100".into());
    assert_eq!(links.bridge_containers["ovsbr0"], names(&["100"]));
}

#[test]
fn each_odd_case_is_told_apart() {
    let containers = found(&observed(
        [
            ("pve-container@1.service", unit("active", "enabled")),
            ("pve-container@2.service", unit("inactive", "static")),
            ("pve-container@3.service", unit("active", "static")),
            ("pve-container@4.service", UnitFacts { load_state: "not-found".into(), ..UnitFacts::default() }),
        ],
        [
            ("veth2i0", port("br", 5)),
            ("veth3i0", port("br", 0)),
            ("veth5i0", port("br", 5)),
            ("tap6i0", port("br", 5)),
            ("veth7", port("veth7", 5)),
        ],
    ));
    assert_eq!(containers.keys().map(|id| &**id).collect::<Vec<_>>(), ["1", "2", "3", "5"]);
    assert!(containers["1"].running && containers["1"].on_boot && containers["1"].ports.is_empty(), "no port");
    assert!(!containers["2"].running && containers["2"].stale_ports == names(&["veth2i0"]), "stopped");
    assert!(containers["3"].running && containers["3"].stale_ports == names(&["veth3i0"]), "device vanished");
    assert!(containers["5"].unit.is_empty() && containers["5"].stale_ports == names(&["veth5i0"]), "no unit");
}

#[test]
fn a_static_unit_starts_at_boot_by_its_link() {
    let linked = UnitFacts { has_wants_link: true, ..unit("inactive", "static") };
    assert!(found(&observed([("lxc@a.service", linked)], []))["a"].on_boot);
}

#[test]
fn the_unit_that_runs_counts_and_a_second_hand_is_named() {
    let idle = |name| (name, unit("inactive", "disabled"));
    let containers = found(&observed(
        [
            idle("pve-container@1.service"),
            ("lxc@1.service", unit("active", "disabled")),
            ("pve-container@2.service", unit("active", "static")),
            ("lxc@2.service", unit("inactive", "enabled")),
            idle("systemd-nspawn@2.service"),
        ],
        [],
    ));
    assert_eq!((containers["1"].unit.as_str(), containers["1"].rival_units.len()), ("lxc@1.service", 0));
    assert_eq!(containers["2"].unit, "pve-container@2.service");
    assert_eq!(containers["2"].rival_units, ["lxc@2.service"]);
}

#[test]
fn a_declared_name_goes_before_the_patterns() {
    let observed = observed(
        [("lxc@web.service", unit("active", "static"))],
        [("uplink", port("br", 5)), ("veth9i0", port("br", 5))],
    );
    let declared = [("web", "uplink"), ("9", "veth9")].map(|(id, veth)| (Name::from(id), Name::from(veth)));
    let (containers, _) = join(&observed, &Patterns::default(), &declared.into());
    assert_eq!(containers["web"].ports, names(&["uplink"]));
    assert_eq!(containers["9"].ports, names(&["veth9i0"]));
    // Another spelling gives way to what another entry says outright.
    let declared = [("9", "veth9"), ("web", "veth9i0")].map(|(id, veth)| (Name::from(id), Name::from(veth)));
    let (containers, links) = join(&observed, &Patterns::default(), &declared.into());
    assert_eq!(containers["web"].ports, names(&["veth9i0"]));
    assert!(!links.port_container.contains_key("uplink") && !containers.contains_key("9"));
}

#[test]
fn discoveries_are_told_once() {
    let mut join = Join::new(Patterns::default());
    let running = || ("pve-container@100.service", unit("active", "static"));
    let first = observed([running()], [("veth100", port("ovsbr0", 5))]);
    join.refresh(&first);
    let lines: Vec<String> = join.take_discoveries().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["Discovered container 100 on bridge ovsbr0 via port veth100"]);
    join.refresh(&first);
    let stale = observed([running()], [("veth100", port("ovsbr0", 0))]);
    join.update(&stale, [&ResourceId::port("veth100")]);
    assert_eq!(join.take_discoveries(), []);
    let moved = observed([running()], [("veth100", port("ovsbr1", 5))]);
    join.update(&moved, [&ResourceId::port("veth100")]);
    assert_eq!(join.take_discoveries().len(), 1);
}

/// A step of the world: a unit or a port is so now, or gone, or the document declares.
#[derive(Debug, Clone)]
enum Event {
    Unit(String, Option<UnitFacts>),
    Port(String, Option<PortFacts>),
    Declare(Declared),
}

fn event() -> impl Strategy<Value = Event> {
    let id = prop::sample::select(vec!["1", "2", "a"]);
    let template = prop::sample::select(vec!["pve-container@", "lxc@", "other@"]);
    let state = prop::sample::select(vec!["active", "inactive", "reloading"]);
    let file = prop::sample::select(vec!["enabled", "static", "disabled"]);
    let loaded = prop::sample::select(vec!["loaded", "not-found"]);
    let facts = (state, file, loaded, any::<bool>()).prop_map(|(state, file, loaded, link)| UnitFacts {
        load_state: loaded.into(),
        has_wants_link: link,
        ..unit(state, file)
    });
    let units = (template, id.clone(), prop::option::weighted(0.8, facts))
        .prop_map(|(template, id, facts)| Event::Unit(format!("{template}{id}.service"), facts));
    let port_name = prop::sample::select(vec!["veth1", "veth1i0", "fwln1o0", "veth2i1", "ve-a", "tap1i0", "up", "b1"]);
    let port_facts = (prop::sample::select(vec!["b1", "b2"]), 0_i64..2).prop_map(|(bridge, index)| port(bridge, index));
    let ports = (port_name.clone(), prop::option::weighted(0.8, port_facts))
        .prop_map(|(name, facts)| Event::Port(name.into(), facts));
    let declares = prop::collection::btree_map(id, port_name, 0..3).prop_map(|declared| {
        Event::Declare(declared.into_iter().map(|(id, veth)| (Name::from(id), Name::from(veth))).collect())
    });
    prop_oneof![4 => units, 4 => ports, 1 => declares]
}

proptest! {
    #[test]
    fn following_finds_what_looking_anew_does(bursts in prop::collection::vec(prop::collection::vec(event(), 1..4), 1..12)) {
        let mut join = Join::new(Patterns::default());
        let (mut observed, mut declared, mut shown) = (Observed::default(), Declared::new(), BTreeMap::new());
        for burst in bursts {
            let mut touched = Vec::new();
            let mut changes = Vec::new();
            for event in burst {
                match event {
                    Event::Unit(name, facts) => {
                        touched.push(ResourceId::unit(name.as_str()));
                        match facts {
                            Some(facts) => observed.units.insert(name.as_str().into(), Arc::new(facts)),
                            None => observed.units.remove(name.as_str()),
                        };
                    }
                    Event::Port(name, facts) => {
                        touched.push(ResourceId::port(name.as_str()));
                        match facts {
                            Some(facts) => observed.ports.insert(name.as_str().into(), Arc::new(facts)),
                            None => observed.ports.remove(name.as_str()),
                        };
                    }
                    Event::Declare(new) => {
                        declared = new.clone();
                        changes.extend(join.declare(new, &observed));
                    }
                }
            }
            changes.extend(join.update(&observed, &touched));
            for change in changes {
                match change {
                    Change::Container(id, facts) => prop_assert_ne!(shown.insert(id, facts.clone()), Some(facts)),
                    Change::ContainerGone(id) => prop_assert!(shown.remove(&id).is_some()),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            let (containers, links) = super::join(&observed, &Patterns::default(), &declared);
            prop_assert_eq!(&shown, &containers.iter().map(|(id, facts)| (id.clone(), (**facts).clone())).collect());
            prop_assert_eq!(join.containers(), &containers);
            prop_assert_eq!(&join.links().port_container, &links.port_container);
            prop_assert_eq!(&join.links().bridge_containers, &links.bridge_containers);
        }
    }
}
