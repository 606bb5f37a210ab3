//! What a service says of itself: the answer to Introspect, taken apart.

use std::collections::BTreeMap;

use zbus_xml::{Annotation, ArgDirection, Interface, Node, PropertyAccess};

use crate::model::PropertyType;

/// Bytes of an Introspect answer that are read: systemd's longest has 100 KiB.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How a property's changes are signalled.
const EMITS: &str = "org.freedesktop.DBus.Property.EmitsChangedSignal";

/// An interface of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Described {
    /// Its properties.
    pub(super) properties: BTreeMap<String, PropertyType>,
    /// Properties that can be read, by whether their changes are signalled.
    pub(super) readable: BTreeMap<String, bool>,
    /// Signature of the arguments of its methods.
    pub(super) methods: BTreeMap<String, String>,
    /// It has signals of its own.
    pub(super) has_signals: bool,
}

/// All interfaces of an object, by name; an error is a text for people.
pub(super) fn describe(xml: &str) -> Result<BTreeMap<String, Described>, String> {
    if xml.len() > MAX_BYTES {
        return Err(format!("it describes itself in {} bytes, which nobody reads", xml.len()));
    }
    let node = Node::try_from(xml).map_err(|error| format!("it does not describe itself in D-Bus's XML: {error}"))?;
    Ok(node.interfaces().iter().map(|interface| (interface.name().to_string(), interface_of(interface))).collect())
}

fn emits<'a>(annotations: impl IntoIterator<Item = &'a Annotation<'a>>) -> Option<&'a str> {
    annotations.into_iter().find(|annotation| annotation.name() == EMITS).map(Annotation::value)
}

fn interface_of(interface: &Interface<'_>) -> Described {
    let mut out = Described { has_signals: interface.signals().next().is_some(), ..Described::default() };
    let of_all = emits(interface.annotations());
    for property in interface.properties() {
        let (readable, writable) = match property.access() {
            PropertyAccess::Read => (true, false),
            PropertyAccess::Write => (false, true),
            PropertyAccess::ReadWrite => (true, true),
        };
        let name = property.name().to_string();
        let signature = property.ty().to_string();
        if readable {
            let signalled = emits(property.annotations()).or(of_all) != Some("false");
            out.readable.insert(name.clone(), signalled);
        }
        out.properties.insert(name, PropertyType { signature, writable });
    }
    for method in interface.methods() {
        let takes = method.args().iter().filter(|arg| arg.direction() != Some(ArgDirection::Out));
        let signature = takes.map(|arg| arg.ty().to_string()).collect();
        out.methods.insert(method.name().to_string(), signature);
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_taken_apart() {
        let xml = r#"<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
            "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
            <node><interface name="a.b">
              <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>
              <property name="A" type="s" access="read"/>
              <property name="B" type="a{sv}" access="readwrite">
                <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="invalidates"/></property>
              <property name="C" type="t" access="write"/>
              <method name="Set"><arg type="s" direction="in"/><arg type="b"/><arg type="o" direction="out"/></method>
              <signal name="Done"/>
            </interface><interface name="c.d"/></node>"#;
        let all = describe(xml).unwrap();
        let one = &all["a.b"];
        assert_eq!(one.properties["A"], PropertyType { signature: "s".to_owned(), writable: false });
        assert_eq!(one.properties["B"], PropertyType { signature: "a{sv}".to_owned(), writable: true });
        assert_eq!(
            (one.readable.get("A"), one.readable.get("B"), one.readable.get("C")),
            (Some(&false), Some(&true), None)
        );
        assert_eq!(one.methods["Set"], "sb");
        assert!(one.has_signals && !all["c.d"].has_signals);
    }

    #[test]
    fn what_is_no_description_is_told() {
        for bad in [
            "",
            "nonsense",
            "<node><interface name='a.b'><property name='A' type='?' access='read'/></interface></node>",
        ] {
            describe(bad).unwrap_err();
        }
        assert!(describe(&" ".repeat(MAX_BYTES + 1)).unwrap_err().contains("nobody reads"));
    }
}
