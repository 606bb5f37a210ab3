//! Which signals are asked for: one rule per service and interface, never one per property.

use std::collections::BTreeSet;

use super::call::{DBUS, PROPERTIES};
use crate::desired::{ObjectSpec, Source, WaitFor};

/// The standard interface of services that tell their objects.
pub(super) const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

/// The rule by which the bus tells who owns a service's name.
fn owner(service: &str) -> String {
    format!("type='signal',sender='{DBUS}',interface='{DBUS}',member='NameOwnerChanged',arg0='{service}'")
}

/// The rules that tell of an object's changes.
pub(super) fn rules(spec: &ObjectSpec) -> BTreeSet<String> {
    let service = &spec.service;
    let properties = |interface: &str| {
        format!(
            "type='signal',sender='{service}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{interface}'"
        )
    };
    let own = |interface: &str| format!("type='signal',sender='{service}',interface='{interface}'");
    let mut rules = BTreeSet::from([owner(service), properties(&spec.interface)]);
    if spec.exists.is_some() || spec.calls().any(|call| call.wait_for == WaitFor::Signal) {
        rules.insert(own(&spec.interface));
    }
    if spec.ensure.is_some() || !spec.lookups.is_empty() {
        rules.insert(own(OBJECT_MANAGER));
    }
    for lookup in spec.lookups.values() {
        rules.insert(match lookup.source {
            Source::Property(_) => properties(&lookup.interface),
            Source::Method { .. } => own(&lookup.interface),
        });
    }
    if spec.calls().any(|call| call.wait_for == WaitFor::Job) {
        rules.insert(format!("type='signal',sender='{service}',member='JobRemoved'"));
    }
    rules
}
