//! Ports that are taken away and plugged anew, as they were.

use super::Builder;
use crate::{
    desired::{ContainerSpec, Ensure, OptionalMap, PortSpec, Want},
    model::{Name, PortFacts, StringMap},
    plan::{
        OWNER_KEY,
        assess::{container_port, machined::machine_unit},
        export,
    },
};

impl Builder<'_> {
    /// The port of a container that only its unit runs, as it shall be when it is plugged anew.
    pub(super) fn container_port(&self, id: &Name, spec: &ContainerSpec) -> Option<(Name, PortSpec)> {
        let (name, facts) = container_port(id, spec, self.observed)?;
        let declared = self.doc.ports.get(&name).filter(|port| port.ensure == Ensure::Present).cloned();
        let wanted = PortSpec { bridge: spec.bridge.clone()?, ..declared.unwrap_or_default() };
        let spec = as_it_was(&name, &wanted, facts);
        Some((name, spec))
    }
}

/// Whether a unit makes the container's device anew at each start, and nobody plugs that: systemd-nspawn knows no Open
/// vSwitch, and has no hooks that could.
pub(super) fn is_plugged_by_nobody(unit: &Name, id: &Name) -> bool {
    *unit == machine_unit(id)
}

/// What a port shall be that is plugged anew: what the document says, and else what it was.
pub(super) fn as_it_was(name: &str, spec: &PortSpec, facts: &PortFacts) -> PortSpec {
    let (was, spec) = (export::port(name, facts), spec.clone());
    // A document that says of which devices it is leaves no room for what it was of.
    let says_devices = spec.kind.is_some() || spec.interfaces.is_some();
    // Maps are taken whole: an export is without secrets, and without the keys that are op-dbus's own.
    let (own, none) = (facts.interfaces.iter().find(|interface| interface.name == name), StringMap::new());
    PortSpec {
        kind: if says_devices { spec.kind } else { was.kind },
        interfaces: if says_devices { spec.interfaces } else { was.interfaces },
        tag: kept(spec.tag, was.tag),
        trunks: spec.trunks.or(was.trunks),
        vlan_mode: kept(spec.vlan_mode, was.vlan_mode),
        bond_mode: kept(spec.bond_mode, was.bond_mode),
        lacp: kept(spec.lacp, was.lacp),
        mtu_request: kept(spec.mtu_request, was.mtu_request),
        options: kept_keys(spec.options, own.map_or(&none, |own| &own.options)),
        external_ids: kept_keys(marked_as(spec.external_ids, facts), &facts.external_ids),
        other_config: kept_keys(spec.other_config, &facts.other_config),
        ..spec
    }
}

fn kept<T>(wanted: Want<T>, was: Want<T>) -> Want<T> {
    if matches!(wanted, Want::Unmanaged) { was } else { wanted }
}

fn kept_keys(wanted: OptionalMap, was: &StringMap) -> OptionalMap {
    let was = was.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    was.chain(wanted).collect()
}

/// One that another made does not become op-dbus's own by this.
fn marked_as(mut external_ids: OptionalMap, facts: &PortFacts) -> OptionalMap {
    if !facts.external_ids.contains_key(OWNER_KEY) {
        external_ids.insert(OWNER_KEY.to_owned(), None);
    }
    external_ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        desired::{BondMode, Lacp, VlanMode},
        model::InterfaceFacts,
    };

    fn map<const N: usize>(pairs: [(&str, &str); N]) -> StringMap {
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn what_the_document_says_goes_before_what_was() {
        let facts = PortFacts {
            bridge: "ovsbr0".into(),
            tag: Some(10),
            trunks: [1, 2].into(),
            vlan_mode: "trunk".to_owned(),
            external_ids: map([("site", "north"), ("rack", "7")]),
            other_config: map([("priority-tags", "always")]),
            interfaces: vec![InterfaceFacts {
                name: "ve-web".to_owned(),
                mtu_request: Some(1400),
                options: map([("n_rxq", "2")]),
                ..InterfaceFacts::default()
            }],
            ..PortFacts::default()
        };
        let spec = PortSpec {
            bridge: "ovsbr1".into(),
            tag: Want::Unset,
            trunks: Some([3].into()),
            external_ids: [("rack".to_owned(), None), ("row".to_owned(), Some("b".to_owned()))].into(),
            ..PortSpec::default()
        };
        let some = |text: &str| Some(text.to_owned());
        let wanted = PortSpec {
            kind: some("system"),
            vlan_mode: Want::Is(VlanMode::Trunk),
            mtu_request: Want::Is(1400),
            options: [("n_rxq".to_owned(), some("2"))].into(),
            other_config: [("priority-tags".to_owned(), some("always"))].into(),
            external_ids: [
                ("site".to_owned(), some("north")),
                ("rack".to_owned(), None),
                ("row".to_owned(), some("b")),
                // It bore no mark, and gets none.
                (OWNER_KEY.to_owned(), None),
            ]
            .into(),
            ..spec.clone()
        };
        assert_eq!(as_it_was("ve-web", &spec, &facts), wanted);
        let marked = PortFacts { external_ids: map([(OWNER_KEY, "m")]), ..facts };
        let ids = as_it_was("ve-web", &spec, &marked).external_ids;
        assert_eq!(ids.get(OWNER_KEY), Some(&some("m")));
    }

    #[test]
    fn a_bond_stays_one() {
        let device = |name: &str| InterfaceFacts { name: name.to_owned(), ..InterfaceFacts::default() };
        let facts = PortFacts {
            bond_mode: "balance-slb".to_owned(),
            lacp: "off".to_owned(),
            interfaces: vec![device("eno1"), device("eno2")],
            ..PortFacts::default()
        };
        let spec = as_it_was("bond0", &PortSpec::default(), &facts);
        assert_eq!(spec.interfaces, Some(["eno1".to_owned(), "eno2".to_owned()].into()));
        assert_eq!((spec.bond_mode, spec.lacp), (Want::Is(BondMode::BalanceSlb), Want::Is(Lacp::Off)));
        let single = PortSpec { kind: Some("tap".to_owned()), ..PortSpec::default() };
        assert_eq!(as_it_was("bond0", &single, &facts).interfaces, None);
    }
}
