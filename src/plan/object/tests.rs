//! Objects of other services: what is planned for them, from facts made by hand.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::needless_pass_by_value)]

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    desired::{Document, parse},
    model::{Backend, BackendStatus, PropertyType, Value as Shown},
    plan::{Action, Desired, Hand, PROTECTED_CALLS, Plan, plan},
    typed::to_variant,
};

const PATH: &str = "/org/example/thing";

fn inventory() -> Inventory {
    Inventory {
        machine_id: String::new(),
        protected_units: vec!["op-dbus.service".to_owned()],
        protected_calls: PROTECTED_CALLS.map(str::to_owned).to_vec(),
        container_unit: String::new(),
        retry_unmet: false,
        reload_owed: false,
        hand: Hand::default(),
    }
}

/// A document with one object, `x`, of one service.
fn document(entry: Json) -> Document {
    let mut full = json!({"service": "org.example.Thing", "path": PATH, "interface": "org.example.Thing"});
    full.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    parse(&json!({"dbus": {"objects": {"x": full}}}).to_string()).unwrap()
}

/// What that service shows: `properties` as signature, value, writable.
fn facts(properties: &[(&str, &str, Json, bool)], methods: &[(&str, &str)]) -> ObjectFacts {
    let mut facts = ObjectFacts {
        service: "org.example.Thing".to_owned(),
        path: PATH.to_owned(),
        interface: "org.example.Thing".to_owned(),
        exists: true,
        drift_visible: true,
        ..ObjectFacts::default()
    };
    for (name, signature, value, writable) in properties {
        let known = PropertyType { signature: (*signature).to_owned(), writable: *writable };
        facts.property_types.insert((*name).to_owned(), known);
        let typed = TypedValue { signature: (*signature).to_owned(), value: value.clone() };
        // What a service shows is a value of its type.
        to_variant(value, &single(signature).unwrap()).unwrap();
        facts.properties.insert((*name).to_owned(), typed);
    }
    for (method, signature) in methods {
        let key = (PATH.to_owned(), "org.example.Thing".to_owned(), (*method).to_owned());
        facts.methods.insert(key, (*signature).to_owned());
    }
    facts
}

fn observe(facts: Option<ObjectFacts>) -> Observed {
    let mut observed = Observed::default();
    let connected =
        Backend { status: BackendStatus::Connected, message: String::new(), version: String::new(), reconnects: 0 };
    observed.backends.insert("dbus", connected);
    if let Some(facts) = facts {
        observed.objects.insert("x".into(), Arc::new(facts));
    }
    observed
}

fn planned(entry: Json, facts: ObjectFacts) -> Plan {
    plan(&Desired::new(Arc::new(document(entry))), &observe(Some(facts)), &inventory(), None)
}

fn summaries(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.summary()).collect()
}

/// The one step of a plan that can do nothing: its reason and text.
fn blocked(plan: &Plan) -> (Reason, String) {
    let [step] = plan.steps.as_slice() else { panic!("{:?}", summaries(plan)) };
    assert_eq!(step.action, Action::Nothing);
    step.blocked.clone().unwrap()
}

#[test]
fn a_setter_is_shown_exactly_as_it_will_be_called() {
    let entry = json!({"properties": {"Zone": {"value": "Europe/Vienna", "set": {"method": "SetZone", "args": ["$value", false]}}}});
    let is = facts(&[("Zone", "s", json!("UTC"), false)], &[("SetZone", "sb")]);
    let plan = planned(entry.clone(), is.clone());
    let call = "busctl call org.example.Thing /org/example/thing org.example.Thing SetZone sb Europe/Vienna false";
    assert_eq!(summaries(&plan), [format!("set object x: {call}")]);
    assert_eq!(plan.steps[0].changes, [Difference::new("properties.Zone", "Europe/Vienna", "UTC")]);
    let Action::Object(_, ObjectOp::Set { call, properties }) = &plan.steps[0].action else { panic!() };
    assert_eq!((call.signature.as_str(), call.args.as_slice()), ("sb", &[json!("Europe/Vienna"), json!(false)][..]));
    // What the call is for, done: nothing is left to do.
    let mut done = is;
    assert!(!has_values(&done, properties));
    done.properties.extend(properties.clone());
    assert!(has_values(&done, properties));
    assert_eq!(planned(entry, done), Plan::default());
}

#[test]
fn a_property_that_can_be_set_is_set() {
    let is = facts(
        &[
            ("Level", "u", json!(1), true),
            ("Names", "as", json!([]), true),
            ("Any", "v", json!({"type": "s", "value": "a"}), true),
        ],
        &[],
    );
    let entry = json!({"properties": {"Level": 7, "Names": ["a b", "c"], "Any": {"type": "t", "value": 5}}});
    let base = "busctl set-property org.example.Thing /org/example/thing org.example.Thing";
    assert_eq!(
        summaries(&planned(entry, is)),
        [
            format!("set object x: {base} Any v t 5"),
            format!("set object x: {base} Level u 7"),
            format!("set object x: {base} Names as 2 'a b' c"),
        ]
    );
}

#[test]
fn a_wrong_type_is_an_error_with_its_place_and_the_type_expected() {
    let is = || {
        let known =
            [("Level", "u", json!(1), true), ("Fixed", "s", json!("a"), false), ("Map", "a{sas}", json!({}), true)];
        facts(&known, &[("SetFixed", "sb")])
    };
    let set =
        |args: Json| json!({"properties": {"Fixed": {"value": "b", "set": {"method": "SetFixed", "args": args}}}});
    for (entry, reason, says) in [
        (
            json!({"properties": {"Level": "7"}}),
            Reason::WrongType,
            "/dbus/objects/x/properties/Level: must be a whole number of 32 bits, not negative (D-Bus type u), but is \"7\"",
        ),
        (
            json!({"properties": {"Map": {"a": ["b", 1]}}}),
            Reason::WrongType,
            "/dbus/objects/x/properties/Map/a/1: must be a text (D-Bus type s), but is 1",
        ),
        (json!({"properties": {"Fixed": "b"}}), Reason::ReadOnly, "lets nobody set Fixed"),
        (json!({"properties": {"Missing": "b"}}), Reason::PropertyNotSettable, "no property Missing"),
        (set(json!(["$value"])), Reason::WrongType, "takes 2 arguments (D-Bus signature \"sb\"), and 1 are given"),
        (
            set(json!(["$value", "no"])),
            Reason::WrongType,
            "/dbus/objects/x/properties/Fixed/set/args/1: must be true or false",
        ),
        (set(json!(["$property:Missing", true])), Reason::PropertyNotSettable, "no property Missing to repeat"),
        (
            json!({"properties": {"Fixed": {"value": "b", "set": {"method": "Nonsense"}}}}),
            Reason::WrongType,
            "has no method org.example.Thing.Nonsense",
        ),
    ] {
        let (why, text) = blocked(&planned(entry.clone(), is()));
        assert!(why == reason && text.contains(says), "{entry}: {why} {text}");
    }
    let mut lies = is();
    lies.odd.insert("Level".to_owned(), "the service says u, and shows s".to_owned());
    lies.properties.remove("Level");
    let (why, text) = blocked(&planned(json!({"properties": {"Level": 1}}), lies));
    assert!(why == Reason::WrongType && text.contains("shows s"), "{text}");
}

#[test]
fn a_fault_of_a_preset_names_what_was_written() {
    let preset = |name: &str, with: Json| {
        let document = json!({"dbus": {"objects": {"x": {"preset": name, "with": with}}}});
        Desired::new(Arc::new(parse(&document.to_string()).unwrap()))
    };
    // A service that has another type than the preset thinks, takes other arguments, or lacks the property.
    let locale = preset("locale", json!({"locale": ["LANG=C"]}));
    let set = |signature: &str| {
        let mut is = facts(&[("Locale", "as", json!([]), false)], &[]);
        let key = (PATH.to_owned(), "org.freedesktop.locale1".to_owned(), "SetLocale".to_owned());
        is.methods.insert(key, signature.to_owned());
        is
    };
    let weight = preset("unit-property", json!({"unit": "a.service", "property": "CPUWeight", "value": "x"}));
    for (document, is, says) in [
        (
            &locale,
            facts(&[("Locale", "u", json!(1), false)], &[]),
            "/dbus/objects/x/with/locale: must be a whole number",
        ),
        (&locale, facts(&[("Locale", "au", json!([]), false)], &[]), "/dbus/objects/x/with/locale/0: must be a whole"),
        (&locale, set("as"), "/dbus/objects/x/preset: org.freedesktop.locale1.SetLocale takes 1 arguments"),
        (&locale, set("asu"), "/dbus/objects/x/preset: must be a whole number"),
        (&locale, set("aub"), "/dbus/objects/x/preset: must be a whole number"),
        (&weight, facts(&[("CPUWeight", "t", json!(1), false)], &[]), "/dbus/objects/x/with/value: must be a whole"),
        (&weight, facts(&[], &[]), "/dbus/objects/x/with/property: "),
    ] {
        let (_, text) = blocked(&plan(document, &observe(Some(is)), &inventory(), None));
        assert!(text.starts_with(says), "{says}: {text}");
    }
}

#[test]
fn a_call_repeats_what_other_properties_are_or_shall_be() {
    let set = |own: &str| {
        let args: Vec<String> = ["A", "B", "C"]
            .iter()
            .map(|name| if *name == own { "$value".to_owned() } else { format!("$property:{name}") })
            .collect();
        json!({"method": "SetAll", "args": args})
    };
    let entry = |properties: Json| json!({"properties": properties});
    let is = facts(
        &[("A", "s", json!("a"), false), ("B", "s", json!("b"), false), ("C", "s", json!("c"), false)],
        &[("SetAll", "sss")],
    );
    let call = |args: &str| {
        format!("set object x: busctl call org.example.Thing /org/example/thing org.example.Thing SetAll sss {args}")
    };
    let one = entry(json!({"B": {"value": "new", "set": set("B")}}));
    assert_eq!(summaries(&planned(one, is.clone())), [call("a new c")]);
    // Two that one call sets are set by one call.
    let two = entry(json!({"A": {"value": "x", "set": set("A")}, "B": {"value": "y", "set": set("B")}}));
    let plan = planned(two, is);
    assert_eq!(summaries(&plan), [call("x y c")]);
    assert_eq!(plan.steps[0].changes.len(), 2);
}

#[test]
fn values_go_into_variants_with_their_own_types_and_dollars_stand_for_themselves() {
    let entry = json!({"properties": {"Weight": {"value": 200, "set": {"method": "SetProperties",
                       "args": [false, [["Weight", "$value"]], "$$x", "$object"]}}}});
    let is = facts(&[("Weight", "t", json!(100), false)], &[("SetProperties", "ba(sv)so")]);
    assert_eq!(
        summaries(&planned(entry, is)),
        [
            "set object x: busctl call org.example.Thing /org/example/thing org.example.Thing SetProperties 'ba(sv)so' false 1 \
          Weight t 200 '$x' /org/example/thing"
        ]
    );
}

#[test]
fn what_is_made_and_removed() {
    let entry = |ensure: &str| json!({"ensure": ensure, "create": {"method": "Make", "args": ["n"]}, "remove": {"method": "Remove", "args": ["$object"]}});
    let methods = [("Make", "s"), ("Remove", "o")];
    let there = facts(&[], &methods);
    let missing = ObjectFacts { exists: false, ..there.clone() };
    let call = "busctl call org.example.Thing /org/example/thing org.example.Thing";
    assert_eq!(summaries(&planned(entry("present"), missing.clone())), [format!("create object x: {call} Make s n")]);
    assert_eq!(
        summaries(&planned(entry("absent"), there.clone())),
        [format!("remove object x: {call} Remove o {PATH}")]
    );
    assert_eq!(planned(entry("present"), there), Plan::default());
    assert_eq!(planned(entry("absent"), missing.clone()), Plan::default());
    // Properties of what is made are set once it is there.
    let mut with = entry("present");
    with["properties"] = json!({"A": 1});
    let plan = planned(with, missing.clone());
    assert_eq!(plan.steps.len(), 2);
    assert!(matches!(&plan.steps[1].action, Action::Object(_, ObjectOp::Settle)) && plan.steps[1].after == [1]);
    // Nobody says how it is made.
    let (reason, text) = blocked(&planned(json!({"properties": {"A": 1}}), missing));
    assert!(reason == Reason::ObjectMissing && text.contains(PATH), "{text}");
}

#[test]
fn what_is_on_its_way_is_waited_for_and_no_drift() {
    let entry = || json!({"properties": {"State": {"value": 2, "passing": [0, 1]}, "Text": "a"}});
    let known =
        |state: u32, text: &str| facts(&[("State", "u", json!(state), false), ("Text", "s", json!(text), true)], &[]);
    let settling = |is: ObjectFacts| {
        let document = Desired::new(Arc::new(document(entry())));
        crate::plan::assess(&document, &ResourceId::object("x"), &observe(Some(is)), &inventory()).settling
    };
    let plan = planned(entry(), known(1, "a"));
    assert_eq!(summaries(&plan), ["settle object x"]);
    assert!(plan.steps[0].blocked.is_none() && settling(known(1, "a")));
    let change = Difference { field: "properties.State".to_owned(), desired: Shown::UInt(2), observed: Shown::UInt(1) };
    assert_eq!(plan.steps[0].changes, [change]);
    assert_eq!(planned(entry(), known(2, "a")), Plan::default());
    assert!(!settling(known(2, "a")));
    // What else is wrong is mended first, and is drift.
    let plan = planned(entry(), known(1, "b"));
    assert_eq!(plan.steps.len(), 2);
    assert!(matches!(&plan.steps[1].action, Action::Object(_, ObjectOp::Settle)) && plan.steps[1].after == [1]);
    assert!(!settling(known(1, "b")));
    // Anything else is not on the way.
    assert_eq!(blocked(&planned(entry(), known(7, "a"))).0, Reason::ReadOnly);
    assert!(!settling(known(7, "a")));
    let wrong = json!({"properties": {"State": {"value": 2, "passing": [0, "x"]}}});
    let (reason, text) = blocked(&planned(wrong, known(1, "a")));
    let place = "/dbus/objects/x/properties/State/passing/1: must be a whole number of 32 bits";
    assert!(reason == Reason::WrongType && text.starts_with(place), "{text}");
}

#[test]
fn what_is_exported_plans_to_nothing() {
    let is = facts(&[("Level", "u", json!(3), true), ("Password", "s", json!("x"), true)], &[]);
    let declared = document(json!({"properties": {"Level": 7, "Password": "y"}}));
    let observed = observe(Some(is));
    let exported = crate::plan::export(&observed, &BTreeSet::new(), &declared.objects, &[]);
    assert_eq!(exported.objects["x"].properties.len(), 1, "secrets are left out");
    let again = parse(&crate::desired::spell(&exported)).unwrap();
    assert_eq!(again, exported);
    assert_eq!(plan(&Desired::new(Arc::new(again)), &observed, &inventory(), None), Plan::default());
    assert_eq!(
        crate::plan::export(&observed, &BTreeSet::new(), &declared.objects, &["ovsdb".to_owned()]),
        Document::default()
    );
}

#[test]
fn what_cannot_be_read_is_not_written() {
    let entry = json!({"properties": {"Level": 7}});
    let document = Desired::new(Arc::new(document(entry.clone())));
    let unread = plan(&document, &observe(None), &inventory(), None);
    assert_eq!(blocked(&unread).0, Reason::BackendAway);
    let mut away = facts(&[("Level", "u", json!(1), true)], &[]);
    away.away = Some((Reason::ServiceAway, "nobody answers".to_owned()));
    assert_eq!(blocked(&planned(entry, away.clone())), (Reason::ServiceAway, "nobody answers".to_owned()));
    // Nor is anything else said of it: of one that was never read, that its service has no such property.
    away.property_types.clear();
    let assessed = crate::plan::assess(&document, &ResourceId::object("x"), &observe(Some(away)), &inventory());
    assert_eq!(assessed.blocked, Some((Reason::ServiceAway, "nobody answers".to_owned())));
}

#[test]
fn the_never_touch_list_holds_for_calls() {
    let systemd = |more: Json| {
        let mut entry = json!({"service": "org.freedesktop.systemd1", "path": PATH, "interface": "org.example.Thing",
                               "ensure": "present"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    let manager = "org.freedesktop.systemd1.Manager";
    let call = |method: &str, args: Json| json!({"create": {"interface": manager, "method": method, "args": args}});
    let mut is = ObjectFacts { exists: false, ..facts(&[], &[]) };
    for (method, signature) in [("PowerOff", ""), ("StopUnit", "ss"), ("Subscribe", "")] {
        is.methods.insert((PATH.to_owned(), manager.to_owned(), method.to_owned()), signature.to_owned());
    }
    for (entry, is_protected) in [
        (systemd(call("PowerOff", json!([]))), true),
        (systemd(call("StopUnit", json!(["dbus.service", "replace"]))), true),
        (systemd(call("StopUnit", json!(["op-dbus.service", "replace"]))), true),
        (systemd(call("StopUnit", json!(["nginx.service", "replace"]))), false),
        (systemd(call("Subscribe", json!([]))), false),
    ] {
        let plan = planned(entry.clone(), is.clone());
        assert_eq!(
            plan.steps[0].blocked.as_ref().map(|(reason, _)| *reason),
            is_protected.then_some(Reason::Protected),
            "{entry}"
        );
        // Whoever says so means it.
        let mut entry = entry;
        entry["allow_protected"] = true.into();
        assert_eq!(planned(entry, is.clone()).steps[0].blocked, None);
    }
}

#[test]
fn secrets_are_not_shown() {
    let is = facts(
        &[
            ("Password", "s", json!("old"), true),
            ("Settings", "a{sv}", json!({"psk": {"type": "s", "value": "old"}}), true),
        ],
        &[],
    );
    let entry = json!({"properties": {"Password": "swordfish", "Settings": {"psk": "swordfish", "ssid": "a"}}});
    let plan = planned(entry, is);
    let shown = format!("{:?} {:?}", summaries(&plan), plan.steps.iter().map(|step| &step.changes).collect::<Vec<_>>());
    assert!(!shown.contains("swordfish") && !shown.contains("old"), "{shown}");
    assert!(shown.contains(REDACTED) && matches!(plan.steps[0].changes[0].desired, Shown::Str(_)));
    let Action::Object(_, ObjectOp::Set { call, .. }) = &plan.steps[0].action else { panic!() };
    assert_eq!(call.args[2], json!({"type": "s", "value": "swordfish"}));
}

#[test]
fn secrets_are_shown_neither_where_they_are_wrong_nor_where_a_call_repeats_them() {
    let is = facts(
        &[
            ("Password", "s", json!("swordfish"), true),
            ("Wifi", "a{sas}", json!({}), true),
            ("Name", "s", json!("a"), false),
        ],
        &[("SetName", "ss"), ("SetWrongly", "su")],
    );
    let name = |method: &str| json!({"properties": {"Name": {"value": "b", "set": {"method": method, "args": ["$value", "$property:Password"]}}}});
    for entry in [
        json!({"properties": {"Password": ["swordfish"]}}),
        json!({"properties": {"Wifi": {"psk": "swordfish"}}}),
        json!({"properties": {"Wifi": [{"psk": "swordfish"}]}}),
        name("SetName"),
        name("SetWrongly"),
    ] {
        let plan = planned(entry.clone(), is.clone());
        let shown = format!("{:?} {:?}", summaries(&plan), plan.steps[0].blocked);
        assert!(!shown.contains("swordfish") && shown.contains(REDACTED), "{entry}: {shown}");
    }
}
