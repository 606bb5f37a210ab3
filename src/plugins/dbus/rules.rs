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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::desired::parse;

    fn of(entry: &serde_json::Value) -> Vec<String> {
        let mut full = serde_json::json!({"service": "a.b", "path": "/a", "interface": "a.b.C"});
        full.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
        let document = parse(&serde_json::json!({"dbus": {"objects": {"x": full}}}).to_string()).unwrap();
        rules(document.objects.values().next().unwrap()).into_iter().collect()
    }

    #[test]
    fn one_rule_per_service_and_interface_however_many_properties() {
        let one = of(&serde_json::json!({"properties": {"A": 1}}));
        let many = of(&serde_json::json!({"properties": {"A": 1, "B": 2, "C": 3, "D": 4}}));
        assert_eq!(one, many);
        assert_eq!(one.len(), 2, "{one:?}");
    }

    #[test]
    fn signals_of_its_own_are_asked_for_where_they_tell_something() {
        let own = "type='signal',sender='a.b',interface='a.b.C'".to_owned();
        assert!(of(&serde_json::json!({"exists": {"method": "isThere"}})).contains(&own));
        let set =
            serde_json::json!({"properties": {"A": {"value": 1, "set": {"method": "Set", "wait_for": "signal"}}}});
        assert!(of(&set).contains(&own));
        assert!(!of(&serde_json::json!({"properties": {"A": 1}})).contains(&own));
        let job = serde_json::json!({"properties": {"A": {"value": 1, "set": {"method": "Set", "wait_for": "job"}}}});
        assert!(of(&job).iter().any(|rule| rule.contains("JobRemoved")));
    }
}
