//! What the backends say, one struct per kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::{OrdMap, OrdSet};

use super::{ClusterFacts, GuestFacts, Name, ObjectFacts, PackageFacts, ResourceId};

/// A map of texts, as OVSDB's `external_ids`.
pub type StringMap = BTreeMap<String, String>;

/// A systemd unit, as `org.freedesktop.systemd1` shows it (org.freedesktop.systemd1(5)).
///
/// A unit that was asked for and does not exist has `load_state` `not-found`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFacts {
    /// The unit's own name; differs from the name asked for where that is an alias.
    pub id: String,
    /// `Description`.
    pub description: String,
    /// `LoadState`: loaded, not-found, masked, error, bad-setting, ...
    pub load_state: String,
    /// `ActiveState`: active, reloading, inactive, failed, activating, deactivating, ...
    pub active_state: String,
    /// `SubState`: running, exited, auto-restart, ...
    pub sub_state: String,
    /// What `Manager.GetUnitFileState` says (never the unit's own property, which goes stale); empty where there is
    /// no unit file.
    pub unit_file_state: String,
    /// For `unit_file_state` `linked` or `static`: a .wants or .requires link for it exists all the same.
    pub has_wants_link: bool,
    /// A service's `Result`; `success` for other kinds of unit.
    pub result: String,
    /// systemd's object path of the unit; empty while it is not loaded.
    pub unit_path: String,
    /// `ActiveEnterTimestamp`, CLOCK_REALTIME microseconds; 0 = never in this boot.
    pub active_enter_usec: u64,
    /// A service's `NRestarts`.
    pub restarts: u32,
    /// `NeedDaemonReload`.
    pub need_daemon_reload: bool,
    /// The job in systemd's queue for it.
    pub job: Option<UnitJob>,
    /// A service of `Type=oneshot`.
    pub oneshot: bool,
    /// A oneshot ran to its end with success in this boot (`Result` success, `ExecMainExitTimestamp` set).
    pub oneshot_succeeded: bool,
    /// The last start was skipped: a condition or an assert was not met (counts only with its timestamp above 0).
    pub condition_unmet: bool,
    /// `FragmentPath`; a unit whose file lies in /etc cannot be masked.
    pub fragment_path: String,
    /// The unit file has an `[Install]` section that enables it (false for `static`).
    pub has_install: bool,
    /// Active units that would start it again: sockets, timers, paths (`TriggeredBy`, those that are active).
    pub active_triggers: Vec<String>,
    /// Bound of one start: `TimeoutStartUSec`, microseconds; `u64::MAX` = infinity.
    pub start_timeout_usec: u64,
    /// Current values of the properties that the document declares for it, in the JSON form of the document, read
    /// back from systemd; a property the unit does not have is missing here.
    pub properties: BTreeMap<String, serde_json::Value>,
    /// D-Bus signature of each declared property that exists and can be set live; the planner refuses the others.
    pub property_signatures: BTreeMap<String, String>,
}

/// A job in systemd's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitJob {
    /// Its number.
    pub id: u32,
    /// Its type: start, stop, restart, ... Empty where the mirror knows only the number.
    pub kind: String,
}

/// A row of OVSDB's Bridge table (ovs-vswitchd.conf.db(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BridgeFacts {
    /// `_uuid`.
    pub uuid: String,
    /// `datapath_type`; empty = system.
    pub datapath_type: String,
    /// `datapath_id`; empty until ovs-vswitchd has made it.
    pub datapath_id: String,
    /// `fail_mode`; empty = not set.
    pub fail_mode: String,
    /// `stp_enable`.
    pub stp_enable: bool,
    /// `rstp_enable`.
    pub rstp_enable: bool,
    /// `mcast_snooping_enable`.
    pub mcast_snooping_enable: bool,
    /// Names of its ports, its local port included.
    pub ports: OrdSet<Name>,
    /// Targets of its controllers.
    pub controllers: BTreeSet<String>,
    /// `external_ids`.
    pub external_ids: StringMap,
    /// `other_config`.
    pub other_config: StringMap,
}

/// A row of OVSDB's Port table with its interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortFacts {
    /// `_uuid`: changes when somebody deletes and adds the port (a re-plug).
    pub uuid: String,
    /// The bridge that holds it.
    pub bridge: Name,
    /// `tag`.
    pub tag: Option<u16>,
    /// `trunks`, ordered.
    pub trunks: BTreeSet<u16>,
    /// `vlan_mode`; empty = not set.
    pub vlan_mode: String,
    /// `bond_mode`; empty = not set.
    pub bond_mode: String,
    /// `lacp`; empty = not set.
    pub lacp: String,
    /// `external_ids` of the Port row.
    pub external_ids: StringMap,
    /// `other_config` of the Port row.
    pub other_config: StringMap,
    /// A fake bridge (`fake_bridge`): a VLAN bridge of old, shown and never written.
    pub fake_bridge: bool,
    /// Its interfaces, by name: one, or a bond's.
    pub interfaces: Vec<InterfaceFacts>,
}

/// A row of OVSDB's Interface table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// `name`.
    pub name: String,
    /// `type`; empty = a device of the system.
    pub kind: String,
    /// `ofport`; `None` until ovs-vswitchd has looked at it, -1 = failed.
    pub ofport: Option<i32>,
    /// `link_state`; empty = unknown.
    pub link_state: String,
    /// `admin_state`; empty = unknown.
    pub admin_state: String,
    /// `mac_in_use`; empty = unknown.
    pub mac_in_use: String,
    /// `mtu`.
    pub mtu: Option<i32>,
    /// `mtu_request`.
    pub mtu_request: Option<u32>,
    /// `ifindex`; 0 once a system device has vanished.
    pub ifindex: Option<i64>,
    /// Another device has taken the name of the one that Open vSwitch opened. The userspace datapath stays with that
    /// one, which is gone, whatever the other columns say.
    pub replaced: bool,
    /// `error`; empty = none.
    pub error: String,
    /// `options`, secrets redacted only where they are shown.
    pub options: StringMap,
    /// `external_ids` of the Interface row.
    pub external_ids: StringMap,
}

impl InterfaceFacts {
    /// Whether the device behind it is gone. The userspace datapath keeps `ofport` when a device vanishes; `ifindex` 0
    /// tells, for a device of the system. What ovs-vswitchd has not looked at yet is not gone.
    #[must_use]
    pub fn device_gone(&self) -> bool {
        self.ofport.is_some_and(|ofport| ofport <= 0)
            || !self.error.is_empty()
            || self.replaced
            || (self.is_system_device() && self.ifindex == Some(0))
    }

    /// A device of the system, not one that Open vSwitch makes (`type` empty or `system`).
    #[must_use]
    pub fn is_system_device(&self) -> bool {
        self.kind.is_empty() || self.kind == "system"
    }
}

impl PortFacts {
    /// Whether it is in the database and carries nothing: the devices of all its interfaces are gone.
    #[must_use]
    pub fn device_gone(&self) -> bool {
        !self.interfaces.is_empty() && self.interfaces.iter().all(InterfaceFacts::device_gone)
    }

    /// Whether Open vSwitch stays with a device that is gone, while another bears its name.
    #[must_use]
    pub fn device_replaced(&self) -> bool {
        self.interfaces.iter().any(|interface| interface.replaced)
    }
}

/// Who runs a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Runtime {
    /// A unit of systemd's.
    #[default]
    Systemd,
    /// systemd-machined: an image of its own under a unit of systemd's.
    Machined,
    /// Proxmox VE.
    Proxmox,
}

impl Runtime {
    /// The word on the bus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Machined => "machined",
            Self::Proxmox => "proxmox",
        }
    }
}

/// A container, joined from its unit, its ports and their bridges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Its name for people; the id where nothing tells more.
    pub name: String,
    /// Who runs it.
    pub runtime: Runtime,
    /// Its unit; empty where none was found.
    pub unit: String,
    /// Further units that claim the same id: more than one hand (`AmbiguousContainer`).
    pub rival_units: Vec<String>,
    /// systemd's object path of its unit; empty = not loaded.
    pub unit_path: String,
    /// `ActiveState` of its unit; empty where it has none.
    pub active_state: String,
    /// `SubState` of its unit.
    pub sub_state: String,
    /// It runs.
    pub running: bool,
    /// It starts at boot.
    pub on_boot: bool,
    /// Names of its OVS ports.
    pub ports: BTreeSet<Name>,
    /// Names of the bridges these are on.
    pub bridges: BTreeSet<Name>,
    /// Ports that outlived it: it does not run, or their device is gone.
    pub stale_ports: BTreeSet<Name>,
    /// What a runtime with an API says of it; `None` where none knows it.
    pub guest: Option<Arc<GuestFacts>>,
}

/// Relations that the join finds and that belong to neither row.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// Port to the container it serves.
    pub port_container: OrdMap<Name, Name>,
    /// Bridge to the containers on it.
    pub bridge_containers: OrdMap<Name, BTreeSet<Name>>,
}

/// How a plugin's backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendStatus {
    /// Its mirror is complete and follows.
    Connected,
    /// Trying.
    Connecting,
    /// Not there, or it refused us.
    Unavailable,
    /// Switched off by the configuration.
    Disabled,
}

impl BackendStatus {
    /// The word on the bus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Connecting => "connecting",
            Self::Unavailable => "unavailable",
            Self::Disabled => "disabled",
        }
    }
}

/// What a plugin says of its backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// How it is.
    pub status: BackendStatus,
    /// Why, for people; empty when connected.
    pub message: String,
    /// The backend's own version; empty = unknown.
    pub version: String,
    /// How often the connection was made anew.
    pub reconnects: u32,
}

/// A plugin's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFacts {
    /// How its backend is.
    pub backend: Backend,
    /// Resources it mirrors.
    pub resources: u32,
    /// When its backend last told something, CLOCK_REALTIME microseconds; 0 = never.
    pub last_event_usec: u64,
    /// Updates that its backend has for this machine, as it last said; 0 where it has no such notion.
    pub updates_available: u32,
}

/// How far ovs-vswitchd is with what its database says: the rows are what is wanted, not what it works by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwitchFacts {
    /// Bridges and ports whose last change, be it that they went, it has not taken over yet.
    pub unapplied: OrdSet<ResourceId>,
    /// It has not moved for so long that it counts as hanging.
    pub hangs: bool,
}

/// One change of what is observed, from a plugin to the model's writer.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A unit is so now. Keyed by the name that was asked for, not by its id.
    Unit(Name, UnitFacts),
    /// The unit is not mirrored any more.
    UnitGone(Name),
    /// A bridge is so now.
    Bridge(Name, BridgeFacts),
    /// The bridge is gone.
    BridgeGone(Name),
    /// A port is so now.
    Port(Name, PortFacts),
    /// The port is gone.
    PortGone(Name),
    /// How far Open vSwitch is with its bridges and ports, whole.
    Switch(SwitchFacts),
    /// A guest of a runtime with an API is so now.
    Guest(Name, GuestFacts),
    /// The guest is gone.
    GuestGone(Name),
    /// What planning must know of that runtime besides, whole.
    Cluster(Arc<ClusterFacts>),
    /// A container is so now (made by the join).
    Container(Name, ContainerFacts),
    /// The container is gone.
    ContainerGone(Name),
    /// A package is so now. Keyed as the document spells it: `NAME` or `NAME:ARCH`.
    Package(Name, PackageFacts),
    /// The package is not mirrored any more.
    PackageGone(Name),
    /// A declared object is so now.
    Object(Name, ObjectFacts),
    /// The object is not mirrored any more.
    ObjectGone(Name),
}

impl Change {
    /// The resource that the change is about; `None` where it is about no single one.
    #[must_use]
    pub fn id(&self) -> Option<ResourceId> {
        Some(match self {
            Self::Unit(name, _) | Self::UnitGone(name) => ResourceId::unit(name.clone()),
            Self::Bridge(name, _) | Self::BridgeGone(name) => ResourceId::bridge(name.clone()),
            Self::Port(name, _) | Self::PortGone(name) => ResourceId::port(name.clone()),
            Self::Package(name, _) | Self::PackageGone(name) => ResourceId::package(name.clone()),
            Self::Object(name, _) | Self::ObjectGone(name) => ResourceId::object(name.clone()),
            Self::Container(name, _) | Self::ContainerGone(name) | Self::Guest(name, _) | Self::GuestGone(name) => {
                ResourceId::container(name.clone())
            }
            Self::Switch(_) | Self::Cluster(_) => return None,
        })
    }
}
