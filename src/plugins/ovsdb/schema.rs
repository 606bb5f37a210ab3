//! What is mirrored of the database `Open_vSwitch` (ovs-vswitchd.conf.db(5)): only what the facts need. Statistics
//! are left out on purpose: they would be most of the traffic.

use serde_json::{Map, Value, json};

use super::value::Shape;

/// The database.
pub(super) const DATABASE: &str = "Open_vSwitch";

/// A mirrored table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    /// The root: one row.
    Root,
    /// Bridges.
    Bridge,
    /// Ports.
    Port,
    /// Interfaces.
    Interface,
    /// OpenFlow controllers.
    Controller,
}

/// A mirrored column.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: &'static str,
    /// How many values it holds.
    pub(super) shape: Shape,
}

const fn column(name: &'static str, shape: Shape) -> Column {
    Column { name, shape }
}

const ROOT: &[Column] = &[
    column("cur_cfg", Shape::One),
    column("next_cfg", Shape::One),
    column("ovs_version", Shape::Optional),
    column("db_version", Shape::Optional),
];

const BRIDGE: &[Column] = &[
    column("name", Shape::One),
    column("datapath_type", Shape::One),
    column("datapath_id", Shape::Optional),
    column("fail_mode", Shape::Optional),
    column("stp_enable", Shape::One),
    column("rstp_enable", Shape::One),
    column("mcast_snooping_enable", Shape::One),
    column("ports", Shape::Set),
    column("controller", Shape::Set),
    column("external_ids", Shape::Map),
    column("other_config", Shape::Map),
];

const PORT: &[Column] = &[
    column("name", Shape::One),
    column("interfaces", Shape::Set),
    column("tag", Shape::Optional),
    column("trunks", Shape::Set),
    column("vlan_mode", Shape::Optional),
    column("bond_mode", Shape::Optional),
    column("lacp", Shape::Optional),
    column("external_ids", Shape::Map),
    column("other_config", Shape::Map),
    column("fake_bridge", Shape::One),
];

const INTERFACE: &[Column] = &[
    column("name", Shape::One),
    column("type", Shape::One),
    column("ofport", Shape::Optional),
    column("link_state", Shape::Optional),
    column("admin_state", Shape::Optional),
    column("mac_in_use", Shape::Optional),
    column("mtu", Shape::Optional),
    column("mtu_request", Shape::Optional),
    column("ifindex", Shape::Optional),
    column("error", Shape::Optional),
    column("options", Shape::Map),
    column("external_ids", Shape::Map),
];

const CONTROLLER: &[Column] = &[column("target", Shape::One)];

impl Table {
    /// All tables, children before their parents: a row that is held by another is known before it.
    pub(super) const ALL: [Self; 5] = [Self::Controller, Self::Interface, Self::Port, Self::Bridge, Self::Root];

    /// Its name in the database.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Root => "Open_vSwitch",
            Self::Bridge => "Bridge",
            Self::Port => "Port",
            Self::Interface => "Interface",
            Self::Controller => "Controller",
        }
    }

    /// Its mirrored columns.
    #[must_use]
    pub(super) const fn columns(self) -> &'static [Column] {
        match self {
            Self::Root => ROOT,
            Self::Bridge => BRIDGE,
            Self::Port => PORT,
            Self::Interface => INTERFACE,
            Self::Controller => CONTROLLER,
        }
    }

    /// The mirrored column of that name.
    #[must_use]
    pub(super) fn column(self, name: &str) -> Option<&'static Column> {
        self.columns().iter().find(|column| column.name == name)
    }

    /// The column that holds rows of another table, and that table.
    #[must_use]
    pub(super) const fn holds(self) -> &'static [(&'static str, Self)] {
        match self {
            Self::Bridge => &[("ports", Self::Port), ("controller", Self::Controller)],
            Self::Port => &[("interfaces", Self::Interface)],
            Self::Root | Self::Interface | Self::Controller => &[],
        }
    }

    /// Whether its rows have a name of their own, unique in the table.
    #[must_use]
    pub(super) const fn has_names(self) -> bool {
        matches!(self, Self::Bridge | Self::Port | Self::Interface)
    }
}

/// What is asked of `monitor`, `monitor_cond` and `monitor_cond_since`.
#[must_use]
pub(super) fn monitor_requests() -> Value {
    let tables = Table::ALL.into_iter().map(|table| {
        let columns: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
        (table.name().to_owned(), json!([{ "columns": columns }]))
    });
    Value::Object(tables.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// The schema that Open vSwitch installs, where it is installed.
    const INSTALLED: &str = "/usr/share/openvswitch/vswitch.ovsschema";

    #[test]
    fn shapes_are_those_of_the_installed_schema() {
        let Ok(text) = std::fs::read_to_string(INSTALLED) else {
            println!("left out: {INSTALLED} is not there");
            return;
        };
        let schema: Value = serde_json::from_str(&text).unwrap();
        for table in Table::ALL {
            for column in table.columns() {
                let kind = schema
                    .pointer(&format!("/tables/{}/columns/{}/type", table.name(), column.name))
                    .unwrap_or_else(|| panic!("{}.{} is not there", table.name(), column.name));
                let (min, max) = (kind.get("min"), kind.get("max"));
                let many = max.is_some_and(|max| max != 1);
                let expected = match (kind.get("value").is_some(), many, min.is_some_and(|min| min == 0)) {
                    (true, ..) => Shape::Map,
                    (false, true, _) => Shape::Set,
                    (false, false, true) => Shape::Optional,
                    (false, false, false) => Shape::One,
                };
                assert_eq!(column.shape, expected, "{}.{}", table.name(), column.name);
            }
        }
    }
}
