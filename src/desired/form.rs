//! The document as it is written: what [`super::spell()`] writes and [`super::schema()`] describes.
//!
//! The texts on the fields are the texts of the schema, and so of the document's reference.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value, json};

use crate::model::{DriftPolicy, Kind};

use super::{
    decode::{DATAPATH_TYPES, MAX_TYPE, MAX_VLAN, MIN_BOND, MTU, RESERVED_PREFIX, VERSION},
    document::{ActiveState, BondMode, Common, Ensure, FailMode, Lacp, OptionalMap, VlanMode, Want},
    form_lxc::LxcForm,
    names,
    object_form::DbusForm,
    packages::{PackageEnsure, REFRESH_PATTERN},
};

/// The desired state of a host. A field that is absent is not managed: never read for drift, never written. `null`
/// means: must be unset. What the document does not name is left alone.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Document")]
pub(super) struct DocumentForm<'d> {
    /// Version of this format.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "version")]
    pub(super) version: Option<u32>,
    /// What to do about drift, where a resource does not say: `report` (the default) shows and tells it, `enforce`
    /// puts it back at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "drift")]
    pub(super) drift: Option<&'static str>,
    /// Also remove bridges and ports that op-dbus made on this machine and that the document no longer names.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) prune: bool,
    /// An empty document is meant so.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) allow_empty: bool,
    /// What systemd manages.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) systemd: SystemdForm<'d>,
    /// What Open vSwitch manages.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) ovsdb: OvsdbForm<'d>,
    /// Containers, whatever runs them.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) lxc: LxcForm<'d>,
    /// Packages of the distribution, by PackageKit.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) packagekit: PackagekitForm<'d>,
    /// Objects of other D-Bus services.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) dbus: DbusForm<'d>,
}

/// What systemd manages.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Systemd")]
pub(super) struct SystemdForm<'d> {
    /// Units, by name: plain units and instances of templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = {"pattern": names::UNIT_PATTERN, "maxLength": names::MAX_UNIT}))]
    pub(super) units: BTreeMap<&'d str, UnitForm<'d>>,
}

/// A systemd unit.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Unit")]
pub(super) struct UnitForm<'d> {
    /// Starts at boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) enabled: Option<bool>,
    /// Cannot be started by anybody: implies not enabled and inactive.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) masked: Option<bool>,
    /// Runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ActiveState")]
    pub(super) active_state: Option<ActiveState>,
    /// Properties that systemd can set while the unit is loaded (systemd.resource-control(5)), spelt as on D-Bus:
    /// `CPUWeight`. Owned key by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "properties")]
    pub(super) properties: Option<&'d BTreeMap<String, Value>>,
    /// The unit may be touched although it is one of those that op-dbus never touches by itself.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) allow_protected: bool,
    #[serde(flatten)]
    pub(super) common: CommonForm,
}

/// What Open vSwitch manages.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Ovsdb")]
pub(super) struct OvsdbForm<'d> {
    /// Bridges, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = network_name(names::MAX_DEVICE)))]
    pub(super) bridges: BTreeMap<&'d str, BridgeForm<'d>>,
}

/// An Open vSwitch bridge (ovs-vswitchd.conf.db(5), Bridge).
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Bridge")]
pub(super) struct BridgeForm<'d> {
    /// Whether it shall exist; `present` where it is not said.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) ensure: Ensure,
    /// Remove all other ports, but for the bridge's local port and ports of containers.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) exclusive: bool,
    /// `system`: the kernel's datapath; `netdev`: in user space.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "datapath_type")]
    pub(super) datapath_type: Option<&'d str>,
    /// What it does while no controller answers; `null` = Open vSwitch's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FailMode>")]
    pub(super) fail_mode: Field<FailMode>,
    /// Spanning tree protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) stp_enable: Option<bool>,
    /// Rapid spanning tree protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) rstp_enable: Option<bool>,
    /// Multicast snooping.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) mcast_snooping_enable: Option<bool>,
    /// Targets of its controllers, the whole set: `tcp:192.0.2.1:6653`; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "controllers")]
    pub(super) controllers: Option<&'d BTreeSet<String>>,
    /// `external_ids`, owned key by key; `null` = the key must not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "string_map")]
    pub(super) external_ids: Option<&'d OptionalMap>,
    /// `other_config`, owned key by key; `null` = the key must not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "string_map")]
    pub(super) other_config: Option<&'d OptionalMap>,
    /// Its ports, by name. A name is one port on the whole switch.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = network_name(names::MAX_PORT)))]
    pub(super) ports: BTreeMap<&'d str, PortForm<'d>>,
    #[serde(flatten)]
    pub(super) common: CommonForm,
}

/// An Open vSwitch port with its interface, or a bond (ovs-vswitchd.conf.db(5), Port and Interface).
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Port")]
pub(super) struct PortForm<'d> {
    /// Whether it shall exist; `present` where it is not said.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) ensure: Ensure,
    /// Type of its interface: `system` (a device of Linux), `internal`, `tap`, `patch`, `vxlan`, `geneve`, `gre`, ...
    /// Not with `interfaces`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "interface_type")]
    pub(super) kind: Option<&'d str>,
    /// Its VLAN; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "tag")]
    pub(super) tag: Field<u16>,
    /// VLANs it trunks, the whole set; `null` = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "trunks")]
    pub(super) trunks: Option<&'d BTreeSet<u16>>,
    /// How it treats VLANs; `null` = by `tag` and `trunks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<VlanMode>")]
    pub(super) vlan_mode: Field<VlanMode>,
    /// Options of its interface, owned key by key; `null` = the key must not be there. Not with `interfaces`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "string_map")]
    pub(super) options: Option<&'d OptionalMap>,
    /// MTU that Open vSwitch shall set, in bytes; `null` = its default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "mtu")]
    pub(super) mtu_request: Field<u32>,
    /// `external_ids` of the port, owned key by key; `null` = the key must not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "string_map")]
    pub(super) external_ids: Option<&'d OptionalMap>,
    /// `other_config` of the port, owned key by key; `null` = the key must not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "string_map")]
    pub(super) other_config: Option<&'d OptionalMap>,
    /// A bond's devices, the whole set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "interfaces")]
    pub(super) interfaces: Option<&'d BTreeSet<String>>,
    /// How a bond shares its load; `null` = Open vSwitch's default. Only with `interfaces`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BondMode>")]
    pub(super) bond_mode: Field<BondMode>,
    /// Link aggregation control protocol; `null` = Open vSwitch's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Lacp>")]
    pub(super) lacp: Field<Lacp>,
    #[serde(flatten)]
    pub(super) common: CommonForm,
}

/// Packages of the distribution, by PackageKit.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Packagekit")]
pub(super) struct PackagekitForm<'d> {
    /// When op-dbus has the lists of what repositories offer fetched anew: `never` (the default), `before-apply` (of
    /// every job that has a package to change, or to look for a newer version of), or an age: before such a job, where
    /// they are older than that (`30min`, `12h`, `7d`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "refresh")]
    pub(super) refresh: Option<String>,
    /// Packages whose origin cannot be verified may be installed.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) allow_untrusted: bool,
    /// Packages, by name: `NAME`, or `NAME:ARCH` where the machine has several architectures.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = {"pattern": names::PACKAGE_PATTERN, "maxLength": names::MAX_PACKAGE}))]
    pub(super) packages: BTreeMap<&'d str, PackageForm<'d>>,
}

/// A package. An entry that says nothing is looked at: its object shows its versions.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Package")]
pub(super) struct PackageForm<'d> {
    /// `installed`: there, in the wanted version if one is said. `removed`: not there; its configuration files may stay.
    /// `latest`: there, in the newest version that the repositories offer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PackageEnsure")]
    pub(super) ensure: Option<PackageEnsure>,
    /// The version it shall have, as the distribution spells it; `*` stands for any text and `?` for any character.
    /// Only with `installed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "package_version")]
    pub(super) version: Option<&'d str>,
    /// An older version may take the place of the one that is there. Only with `version`.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) allow_downgrade: bool,
    /// Packages that the document does not name may be removed for it, or with it. Only with `ensure`.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) allow_remove_others: bool,
    /// Its architecture, where the machine has several; a key `NAME:ARCH` says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "package_arch")]
    pub(super) arch: Option<&'d str>,
    #[serde(flatten)]
    pub(super) common: CommonForm,
}

/// What every resource's entry can say.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(super) struct CommonForm {
    /// What must hold first: `unit:NAME`, `bridge:NAME`, `port:NAME`, `container:ID`, `package:NAME`, `object:NAME` of
    /// this document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "after")]
    pub(super) after: Vec<String>,
    /// What to do about its drift; the document's policy where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "drift")]
    pub(super) drift: Option<&'static str>,
}

/// A field that can be left out (`None`), `null` (`Some(None)`), or have a value.
pub(super) type Field<T> = Option<Option<T>>;

/// A [`Want`] as it is written.
pub(super) fn field<T: Copy>(want: &Want<T>) -> Field<T> {
    match want {
        Want::Unmanaged => None,
        Want::Unset => Some(None),
        Want::Is(value) => Some(Some(*value)),
    }
}

/// What every entry can say, as it is written.
pub(super) fn common(common: &Common) -> CommonForm {
    CommonForm {
        after: common.after.iter().map(ToString::to_string).collect(),
        drift: common.drift.map(DriftPolicy::as_str),
    }
}

/// What need not be written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A text without NUL, as a pattern: neither D-Bus nor OVSDB carries one.
pub(super) const TEXT_PATTERN: &str = r"^[^\u0000]*$";

fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": VERSION })
}

fn drift(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["report", "enforce"] })
}

fn datapath_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": DATAPATH_TYPES })
}

fn interface_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[a-z0-9_-]+$", "maxLength": MAX_TYPE })
}

fn tag(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "null"], "minimum": 0, "maximum": MAX_VLAN })
}

fn trunks(_: &mut SchemaGenerator) -> Schema {
    let vlan = json!({ "type": "integer", "minimum": 0, "maximum": MAX_VLAN });
    json_schema!({ "type": ["array", "null"], "items": vlan, "uniqueItems": true })
}

fn mtu(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "null"], "minimum": MTU.0, "maximum": MTU.1 })
}

fn controllers(_: &mut SchemaGenerator) -> Schema {
    let target = json!({ "type": "string", "minLength": 1, "pattern": TEXT_PATTERN });
    json_schema!({ "type": ["array", "null"], "items": target, "uniqueItems": true })
}

fn string_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": TEXT_PATTERN, "not": { "pattern": format!("^{RESERVED_PREFIX}") } },
        "additionalProperties": { "type": ["string", "null"], "pattern": TEXT_PATTERN },
    })
}

fn properties(_: &mut SchemaGenerator) -> Schema {
    let text = json!({ "type": "string", "pattern": TEXT_PATTERN });
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": names::PROPERTY_PATTERN, "maxLength": names::MAX_PROPERTY },
        "additionalProperties": {
            "type": ["boolean", "integer", "string", "array"],
            "minimum": i64::MIN,
            "maximum": u64::MAX,
            "pattern": TEXT_PATTERN,
            "items": text,
        },
    })
}

/// A bridge's, port's or device's name. Its length is limited in bytes; the schema can count characters only.
fn network_name(max: usize) -> Value {
    json!({ "pattern": names::NETWORK_PATTERN, "maxLength": max, "not": { "enum": [".", ".."] } })
}

pub(super) fn device(_: &mut SchemaGenerator) -> Schema {
    let mut schema = json_schema!({ "type": "string" });
    if let Value::Object(name) = network_name(names::MAX_DEVICE) {
        schema.ensure_object().extend(name);
    }
    schema
}

fn interfaces(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": device(generator), "uniqueItems": true, "minItems": MIN_BOND })
}

pub(super) fn container_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": names::CONTAINER_PATTERN, "maxLength": names::MAX_CONTAINER })
}

fn refresh(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": REFRESH_PATTERN })
}

fn package_version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": names::VERSION_PATTERN, "maxLength": names::MAX_VERSION })
}

fn package_arch(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": names::ARCH_PATTERN, "maxLength": names::MAX_ARCH })
}

fn after(_: &mut SchemaGenerator) -> Schema {
    let kinds = Kind::ALL.map(Kind::as_str).join("|");
    let item = json!({ "type": "string", "pattern": format!(r"^({kinds}):[^\u0000]+$") });
    json_schema!({ "type": "array", "items": item, "uniqueItems": true })
}
