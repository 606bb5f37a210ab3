//! The document's typed form, defaults filled: what it means, whatever its spelling.
//!
//! Two documents that are equal here are the same generation. Maps and sets are ordered, so that order of keys and of
//! sets does not count.

use std::collections::{BTreeMap, BTreeSet};

use super::container::{ContainerSpec, TemplateSpec};
use super::object::ObjectSpec;
use super::packages::{PackageSettings, PackageSpec};
use crate::model::{DriftPolicy, Name, ResourceId, words::document_words};

/// What a document says of one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Want<T> {
    /// Absent: never read for drift, never written.
    #[default]
    Unmanaged,
    /// `null`: must be unset.
    Unset,
    /// Must be so.
    Is(T),
}

/// A map that is owned key by key; `None` = the key must not be there.
pub type OptionalMap = BTreeMap<String, Option<String>>;

/// A whole document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// What to do about drift, where a resource does not say.
    pub drift: DriftPolicy,
    /// Also remove bridges and ports that bear this machine's mark and are not named.
    pub prune: bool,
    /// An empty document is meant so.
    pub allow_empty: bool,
    /// `systemd.units`.
    pub units: BTreeMap<Name, UnitSpec>,
    /// `ovsdb.bridges`.
    pub bridges: BTreeMap<Name, BridgeSpec>,
    /// `ovsdb.bridges.*.ports`, by the port's name: a name is one port on the whole switch.
    pub ports: BTreeMap<Name, PortSpec>,
    /// `lxc.containers`, by id.
    pub containers: BTreeMap<Name, ContainerSpec>,
    /// `packagekit.packages`, by name or `NAME:ARCH`.
    pub packages: BTreeMap<Name, PackageSpec>,
    /// What the section `packagekit` says of all of them.
    pub package_settings: PackageSettings,
    /// `dbus.objects`.
    pub objects: BTreeMap<Name, ObjectSpec>,
    /// `lxc.templates`, by name: a file's under Proxmox VE, an image's under systemd-machined.
    pub templates: BTreeMap<Name, TemplateSpec>,
}

/// What every resource's entry can say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Common {
    /// What must hold first.
    pub after: BTreeSet<ResourceId>,
    /// Its own drift policy.
    pub drift: Option<DriftPolicy>,
}

document_words! {
    /// Whether a thing shall exist.
    #[derive(Default)]
    Ensure {
        /// It shall.
        #[default]
        Present = "present",
        /// It shall not.
        Absent = "absent",
    }
}

document_words! {
    /// A unit's wanted activity.
    ActiveState {
        /// Running.
        Active = "active",
        /// Not running.
        Inactive = "inactive",
    }
}

/// `systemd.units.NAME`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnitSpec {
    /// Starts at boot; judged by `Manager.GetUnitFileState`.
    pub enabled: Option<bool>,
    /// Masked; `true` implies not enabled and inactive.
    pub masked: Option<bool>,
    /// Runs now.
    pub active_state: Option<ActiveState>,
    /// Properties for `SetUnitProperties`, key by key, in JSON form.
    pub properties: BTreeMap<String, serde_json::Value>,
    /// May be touched although it is on the never-touch list.
    pub allow_protected: bool,
    /// What every entry can say.
    pub common: Common,
}

document_words! {
    /// `Bridge.fail_mode` (ovs-vswitchd.conf.db(5)).
    FailMode {
        /// Forward as a learning switch when no controller answers.
        Standalone = "standalone",
        /// Forward nothing but what flows say.
        Secure = "secure",
    }
}

/// `ovsdb.bridges.NAME`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BridgeSpec {
    /// Whether it shall exist.
    pub ensure: Ensure,
    /// Remove ports that the document does not name, but for the local port and containers' ports.
    pub exclusive: bool,
    /// `datapath_type`: `system` (the kernel's, stored as the empty text) or `netdev`.
    pub datapath_type: Option<String>,
    /// `fail_mode`.
    pub fail_mode: Want<FailMode>,
    /// `stp_enable`.
    pub stp_enable: Option<bool>,
    /// `rstp_enable`.
    pub rstp_enable: Option<bool>,
    /// `mcast_snooping_enable`.
    pub mcast_snooping_enable: Option<bool>,
    /// Targets of its controllers, whole; `Unset` and the empty set are the same and read as the empty set.
    pub controllers: Option<BTreeSet<String>>,
    /// `external_ids`, key by key.
    pub external_ids: OptionalMap,
    /// `other_config`, key by key.
    pub other_config: OptionalMap,
    /// What every entry can say.
    pub common: Common,
}

document_words! {
    /// `Port.vlan_mode` (ovs-vswitchd.conf.db(5)).
    VlanMode {
        /// One VLAN, untagged.
        Access = "access",
        /// 802.1ad.
        Dot1qTunnel = "dot1q-tunnel",
        /// Trunk with a tagged native VLAN.
        NativeTagged = "native-tagged",
        /// Trunk with an untagged native VLAN.
        NativeUntagged = "native-untagged",
        /// All of `trunks`, tagged.
        Trunk = "trunk",
    }
}

document_words! {
    /// `Port.bond_mode`.
    BondMode {
        /// One interface at a time.
        ActiveBackup = "active-backup",
        /// By source MAC and VLAN.
        BalanceSlb = "balance-slb",
        /// By flow; needs LACP.
        BalanceTcp = "balance-tcp",
    }
}

document_words! {
    /// `Port.lacp`.
    Lacp {
        /// Speaks first.
        Active = "active",
        /// Answers.
        Passive = "passive",
        /// None.
        Off = "off",
    }
}

/// `ovsdb.bridges.BRIDGE.ports.NAME`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortSpec {
    /// The bridge it shall be on (for an absent one: the bridge under which the document says so).
    pub bridge: Name,
    /// Whether it shall exist.
    pub ensure: Ensure,
    /// `Interface.type`: `system` (stored as the empty text), internal, patch, vxlan, geneve, gre, tap, ...
    /// Not with `interfaces`.
    pub kind: Option<String>,
    /// `tag`, 0..4095.
    pub tag: Want<u16>,
    /// `trunks`, 0..4095, whole.
    pub trunks: Option<BTreeSet<u16>>,
    /// `vlan_mode`.
    pub vlan_mode: Want<VlanMode>,
    /// `Interface.options`, key by key. Not with `interfaces`.
    pub options: OptionalMap,
    /// `Interface.mtu_request`, 68..65535.
    pub mtu_request: Want<u32>,
    /// `Port.external_ids`, key by key.
    pub external_ids: OptionalMap,
    /// `Port.other_config`, key by key.
    pub other_config: OptionalMap,
    /// A bond's devices, whole, at least two.
    pub interfaces: Option<BTreeSet<String>>,
    /// `bond_mode`.
    pub bond_mode: Want<BondMode>,
    /// `lacp`.
    pub lacp: Want<Lacp>,
    /// What every entry can say.
    pub common: Common,
}

impl Document {
    /// Names no resource at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources().next().is_none() && self.templates.is_empty()
    }

    /// What an entry of that resource says for every kind; `None` where the document does not name it.
    #[must_use]
    pub fn common(&self, id: &ResourceId) -> Option<&Common> {
        use crate::model::Kind;
        match id.kind {
            Kind::Package => self.packages.get(&id.name).map(|spec| &spec.common),
            Kind::Unit => self.units.get(&id.name).map(|spec| &spec.common),
            Kind::Bridge => self.bridges.get(&id.name).map(|spec| &spec.common),
            Kind::Port => self.ports.get(&id.name).map(|spec| &spec.common),
            Kind::Container => self.containers.get(&id.name).map(|spec| &spec.common),
            Kind::Object => self.objects.get(&id.name).map(|spec| &spec.common),
        }
    }

    /// The resources that the document names.
    pub fn resources(&self) -> impl Iterator<Item = ResourceId> + '_ {
        let units = self.units.keys().cloned().map(ResourceId::unit);
        let bridges = self.bridges.keys().cloned().map(ResourceId::bridge);
        let ports = self.ports.keys().cloned().map(ResourceId::port);
        let containers = self.containers.keys().cloned().map(ResourceId::container);
        let packages = self.packages.keys().cloned().map(ResourceId::package);
        let objects = self.objects.keys().cloned().map(ResourceId::object);
        packages.chain(bridges).chain(ports).chain(containers).chain(units).chain(objects)
    }

    /// The policy in force for that resource.
    #[must_use]
    pub fn drift_policy(&self, id: &ResourceId) -> DriftPolicy {
        self.common(id).and_then(|common| common.drift).unwrap_or(self.drift)
    }
}
