//! Introspection: this node's interfaces and its children's names, nothing deeper.

use std::sync::LazyLock;

use super::{
    interfaces::{Interface, Method, Object},
    path::Node,
};
use crate::model::Snapshot;

const DOCTYPE: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n\
    \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n";

/// `org.freedesktop.DBus.Peer`.
pub(crate) const PEER: &str = "org.freedesktop.DBus.Peer";
/// `org.freedesktop.DBus.Introspectable`.
pub(crate) const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
/// `org.freedesktop.DBus.Properties`.
pub(crate) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// `org.freedesktop.DBus.ObjectManager`.
pub(crate) const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

/// What every node has.
static EVERYWHERE: [Interface; 3] = [
    Interface {
        name: PEER,
        xml: LazyLock::new(|| {
            " <interface name=\"org.freedesktop.DBus.Peer\">\n  <method name=\"Ping\"/>\n  \
             <method name=\"GetMachineId\">\n   <arg name=\"machine_uuid\" type=\"s\" direction=\"out\"/>\n  </method>\n \
             </interface>\n"
                .to_owned()
        }),
        properties: &[],
        methods: &[Method { name: "Ping", input: "" }, Method { name: "GetMachineId", input: "" }],
    },
    Interface {
        name: INTROSPECTABLE,
        xml: LazyLock::new(|| {
            " <interface name=\"org.freedesktop.DBus.Introspectable\">\n  <method name=\"Introspect\">\n   \
             <arg name=\"xml_data\" type=\"s\" direction=\"out\"/>\n  </method>\n </interface>\n"
                .to_owned()
        }),
        properties: &[],
        methods: &[Method { name: "Introspect", input: "" }],
    },
    Interface {
        name: PROPERTIES,
        xml: LazyLock::new(|| {
            " <interface name=\"org.freedesktop.DBus.Properties\">\n  <method name=\"Get\">\n   \
             <arg name=\"interface_name\" type=\"s\" direction=\"in\"/>\n   \
             <arg name=\"property_name\" type=\"s\" direction=\"in\"/>\n   \
             <arg name=\"value\" type=\"v\" direction=\"out\"/>\n  </method>\n  <method name=\"GetAll\">\n   \
             <arg name=\"interface_name\" type=\"s\" direction=\"in\"/>\n   \
             <arg name=\"props\" type=\"a{sv}\" direction=\"out\"/>\n  </method>\n  <method name=\"Set\">\n   \
             <arg name=\"interface_name\" type=\"s\" direction=\"in\"/>\n   \
             <arg name=\"property_name\" type=\"s\" direction=\"in\"/>\n   \
             <arg name=\"value\" type=\"v\" direction=\"in\"/>\n  </method>\n  <signal name=\"PropertiesChanged\">\n   \
             <arg name=\"interface_name\" type=\"s\"/>\n   <arg name=\"changed_properties\" type=\"a{sv}\"/>\n   \
             <arg name=\"invalidated_properties\" type=\"as\"/>\n  </signal>\n </interface>\n"
                .to_owned()
        }),
        properties: &[],
        methods: &[
            Method { name: "Get", input: "ss" },
            Method { name: "GetAll", input: "s" },
            Method { name: "Set", input: "ssv" },
        ],
    },
];

/// What the root of the tree has besides.
static ROOT_ONLY: [Interface; 1] = [Interface {
    name: OBJECT_MANAGER,
    xml: LazyLock::new(|| {
        " <interface name=\"org.freedesktop.DBus.ObjectManager\">\n  <method name=\"GetManagedObjects\">\n   \
         <arg name=\"object_paths_interfaces_and_properties\" type=\"a{oa{sa{sv}}}\" direction=\"out\"/>\n  </method>\n  \
         <signal name=\"InterfacesAdded\">\n   <arg name=\"object_path\" type=\"o\"/>\n   \
         <arg name=\"interfaces_and_properties\" type=\"a{sa{sv}}\"/>\n  </signal>\n  \
         <signal name=\"InterfacesRemoved\">\n   <arg name=\"object_path\" type=\"o\"/>\n   \
         <arg name=\"interfaces\" type=\"as\"/>\n  </signal>\n </interface>\n"
            .to_owned()
    }),
    properties: &[],
    methods: &[Method { name: "GetManagedObjects", input: "" }],
}];

/// The standard interfaces of a node.
pub(crate) fn standard(node: &Node) -> impl Iterator<Item = &'static Interface> + use<> {
    let root: &[Interface] = if *node == Node::Root { &ROOT_ONLY } else { &[] };
    EVERYWHERE.iter().chain(root)
}

/// The part of a contract file that is served: the interface, without comments and empty lines.
pub(crate) fn served(file: &str) -> String {
    let mut rest = file;
    let mut bare = String::with_capacity(file.len());
    while let Some((before, comment)) = rest.split_once("<!--") {
        bare.push_str(before);
        rest = comment.split_once("-->").map_or("", |(_, after)| after);
    }
    bare.push_str(rest);
    let mut out = String::with_capacity(bare.len());
    let inside = bare.lines().skip_while(|line| !line.trim_start().starts_with("<interface"));
    for line in inside.filter(|line| !line.trim().is_empty() && line.trim() != "</node>") {
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The answer of Introspect.
pub(crate) fn describe(snapshot: &Snapshot, node: &Node) -> String {
    let mut xml = String::from(DOCTYPE);
    xml.push_str("<node>\n");
    for face in Object::at(snapshot, node).iter().flat_map(Object::faces) {
        xml.push_str(&face.interface().xml);
    }
    for interface in standard(node) {
        xml.push_str(&interface.xml);
    }
    node.children(snapshot, |name| {
        // Path elements need no escaping in XML: letters, digits and `_` are all they can hold.
        xml.push_str(" <node name=\"");
        xml.push_str(name);
        xml.push_str("\"/>\n");
    });
    xml.push_str("</node>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_annotations_stay() {
        let file = "<!DOCTYPE node>\n<node>\n  <!-- One\n  two -->\n  <interface name=\"a.b\">\n\n    <!-- P -->\n    \
                    <property name=\"P\" type=\"s\" access=\"read\">\n      <annotation name=\"x\" value=\"const\"/>\n    \
                    </property>\n  </interface>\n</node>\n";
        assert_eq!(
            served(file),
            "  <interface name=\"a.b\">\n    <property name=\"P\" type=\"s\" access=\"read\">\n      \
             <annotation name=\"x\" value=\"const\"/>\n    </property>\n  </interface>\n"
        );
    }
}
