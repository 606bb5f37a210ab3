//! From the typed form back to JSON.

use std::collections::BTreeMap;

use crate::model::DriftPolicy;

use super::{
    document::{BridgeSpec, Document, OptionalMap, PortSpec, UnitSpec},
    form::{
        BridgeForm, DocumentForm, OvsdbForm, PackageForm, PackagekitForm, PortForm, SystemdForm, UnitForm, common,
        field,
    },
    form_lxc::{self, LxcForm},
    node::MAX_BYTES,
    object_form::{DbusForm, object},
    packages::{PackageSpec, Refresh},
};

/// The canonical text of a document: keys and sets in order, defaults left out, a line break at its end; indented, if it
/// is short enough then to be read again. [`super::parse`] makes the same document of it, if every port's bridge is
/// declared.
#[must_use]
pub fn spell(document: &Document) -> String {
    let units = document.units.iter().map(|(name, spec)| (name.as_ref(), unit(spec)));
    let mut bridges: BTreeMap<&str, BridgeForm<'_>> =
        document.bridges.iter().map(|(name, spec)| (name.as_ref(), bridge(spec))).collect();
    for (name, spec) in &document.ports {
        bridges.entry(&spec.bridge).or_default().ports.insert(name, port(spec));
    }
    let refresh = document.package_settings.refresh;
    let form = DocumentForm {
        version: Some(super::decode::VERSION),
        drift: Some(document.drift).filter(|drift| *drift != DriftPolicy::default()).map(DriftPolicy::as_str),
        prune: document.prune,
        allow_empty: document.allow_empty,
        systemd: SystemdForm { units: units.collect() },
        ovsdb: OvsdbForm { bridges },
        lxc: LxcForm {
            containers: document
                .containers
                .iter()
                .map(|(id, spec)| form_lxc::container(id, spec, common(&spec.common)))
                .collect(),
            templates: document.templates.iter().map(|(name, spec)| form_lxc::template(name, spec)).collect(),
        },
        dbus: DbusForm { objects: document.objects.iter().map(|(name, spec)| (name.as_ref(), object(spec))).collect() },
        packagekit: PackagekitForm {
            refresh: Some(refresh).filter(|refresh| *refresh != Refresh::default()).map(|refresh| refresh.to_string()),
            allow_untrusted: document.package_settings.allow_untrusted,
            packages: document.packages.iter().map(|(name, spec)| (name.as_ref(), package(spec))).collect(),
        },
    };
    // Serialising fails for maps whose keys are no texts; there are none.
    let mut text = serde_json::to_string_pretty(&form).unwrap_or_default();
    if text.len() >= MAX_BYTES {
        text = serde_json::to_string(&form).unwrap_or_default();
    }
    text.push('\n');
    text
}

fn map(map: &OptionalMap) -> Option<&OptionalMap> {
    Some(map).filter(|map| !map.is_empty())
}

fn unit(spec: &UnitSpec) -> UnitForm<'_> {
    UnitForm {
        enabled: spec.enabled,
        masked: spec.masked,
        active_state: spec.active_state,
        properties: Some(&spec.properties).filter(|properties| !properties.is_empty()),
        allow_protected: spec.allow_protected,
        common: common(&spec.common),
    }
}

fn bridge(spec: &BridgeSpec) -> BridgeForm<'_> {
    BridgeForm {
        ensure: spec.ensure,
        exclusive: spec.exclusive,
        datapath_type: spec.datapath_type.as_deref(),
        fail_mode: field(&spec.fail_mode),
        stp_enable: spec.stp_enable,
        rstp_enable: spec.rstp_enable,
        mcast_snooping_enable: spec.mcast_snooping_enable,
        controllers: spec.controllers.as_ref(),
        external_ids: map(&spec.external_ids),
        other_config: map(&spec.other_config),
        ports: BTreeMap::new(),
        common: common(&spec.common),
    }
}

fn port(spec: &PortSpec) -> PortForm<'_> {
    PortForm {
        ensure: spec.ensure,
        kind: spec.kind.as_deref(),
        tag: field(&spec.tag),
        trunks: spec.trunks.as_ref(),
        vlan_mode: field(&spec.vlan_mode),
        options: map(&spec.options),
        mtu_request: field(&spec.mtu_request),
        external_ids: map(&spec.external_ids),
        other_config: map(&spec.other_config),
        interfaces: spec.interfaces.as_ref(),
        bond_mode: field(&spec.bond_mode),
        lacp: field(&spec.lacp),
        common: common(&spec.common),
    }
}

fn package(spec: &PackageSpec) -> PackageForm<'_> {
    PackageForm {
        ensure: spec.ensure,
        version: spec.version.as_deref(),
        allow_downgrade: spec.allow_downgrade,
        allow_remove_others: spec.allow_remove_others,
        arch: spec.arch.as_deref(),
        common: common(&spec.common),
    }
}
