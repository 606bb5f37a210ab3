//! Objects of other D-Bus services: on the real hostnamed, timedated and localed, on systemd, and on a service of this
//! test's own that misbehaves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    unreachable_pub,
    missing_docs
)]

#[path = "common/odd_service.rs"]
mod odd_service;

use std::collections::HashMap;

use odd_service::{NAME as ODD, Odd, PATH as ODD_PATH, value};
use op_dbus_testkit::{Lab, STATE, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const TIMEDATE: &str = "org.freedesktop.timedate1";
const LOCALE: &str = "org.freedesktop.locale1";

fn objects(objects: Value) -> Value {
    json!({ "dbus": { "objects": objects } })
}

/// A document with the misbehaving service's object, `x`.
fn odd(more: Value) -> Value {
    let mut entry = json!({ "service": ODD, "path": ODD_PATH, "interface": ODD });
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    objects(json!({ "x": entry }))
}

fn text(to: &str) -> Value {
    odd(json!({ "properties": { "Text": to } }))
}

/// The summaries of a plan, with the reasons of what is blocked.
fn plan(lab: &Lab, document: &Value) -> Vec<(String, Option<String>)> {
    let reply = lab.call(STATE, "org.opdbus.State", "Plan", &["sa{sv}", &document.to_string(), "0"]);
    let steps = reply[0].as_array().unwrap().iter();
    steps
        .map(|step| (step[3].as_str().unwrap().to_owned(), step[7]["reason"]["data"].as_str().map(str::to_owned)))
        .collect()
}

fn resource(lab: &Lab, name: &str, property: &str) -> Value {
    lab.get(&path("object", name), "org.opdbus.Resource", property)
}

fn until_status(lab: &Lab, name: &str, status: &str) {
    lab.until(&path("object", name), "org.opdbus.Resource", "Status", |is| is == status);
}

/// What is shown of the object's properties, without their types.
fn shown(lab: &Lab, name: &str) -> Value {
    let all = lab.get(&path("object", name), "org.opdbus.Object", "Properties");
    let plain = all.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value["data"].clone()));
    Value::Object(plain.collect())
}

fn until_shown(lab: &Lab, name: &str, property: &str, is: &Value) {
    lab.until(&path("object", name), "org.opdbus.Object", "Properties", |all| all[property]["data"] == *is);
}

fn install(lab: &Lab) {
    lab.install_afresh(BINARY, None);
    lab.until("/org/opdbus/plugin/dbus", "org.opdbus.Plugin", "Status", |is| is == "connected");
}

mod real {
    use super::*;

    #[test]
    fn a_preset_is_set_kept_and_shown_as_it_is_called() {
        let Some(lab) = Lab::enter() else { return };
        install(&lab);
        lab.run(&["timedatectl", "set-timezone", "UTC"]);
        let clock = objects(json!({ "clock": { "preset": "timezone", "with": { "timezone": "Europe/Vienna" } } }));
        let call = "busctl call org.freedesktop.timedate1 /org/freedesktop/timedate1 org.freedesktop.timedate1 \
                    SetTimezone sb Europe/Vienna false";
        assert_eq!(plan(&lab, &clock), [(format!("set object clock: {call}"), None)]);
        // Nothing was touched by that, and the command that is shown does just this.
        assert!(lab.run(&["readlink", "/etc/localtime"]).ends_with("/UTC"));
        lab.run(&["bash", "-c", call]);
        assert!(lab.run(&["readlink", "/etc/localtime"]).ends_with("/Europe/Vienna"));
        assert_eq!(plan(&lab, &clock), []);
        lab.run(&["timedatectl", "set-timezone", "UTC"]);

        assert_eq!(lab.set_desired_state(&clock).1, "done");
        assert!(lab.run(&["readlink", "/etc/localtime"]).ends_with("/Europe/Vienna"));
        assert_eq!(shown(&lab, "clock"), json!({ "Timezone": "Europe/Vienna" }));
        assert_eq!(lab.get(&path("object", "clock"), "org.opdbus.Object", "DriftVisible"), true);
        assert_eq!(lab.set_desired_state(&clock).1, "unchanged");

        // By anybody else: it is seen, and by policy put back.
        lab.run(&["timedatectl", "set-timezone", "Asia/Tokyo"]);
        until_status(&lab, "clock", "drifted");
        let mut enforced = clock;
        enforced["dbus"]["objects"]["clock"]["drift"] = "enforce".into();
        assert_eq!(lab.set_desired_state(&enforced).1, "done");
        let mut signals = lab.signals();
        lab.run(&["timedatectl", "set-timezone", "Asia/Tokyo"]);
        signals.until("a drift", |signal| signal.member == "DriftDetected");
        until_status(&lab, "clock", "in-sync");
        until_shown(&lab, "clock", "Timezone", &json!("Europe/Vienna"));
        assert!(lab.run(&["readlink", "/etc/localtime"]).ends_with("/Europe/Vienna"));
    }

    /// Whatever of a preset's own file writes is in the plan of its example.
    fn plans_the_calls_of(lab: &Lab, preset: &str, document: &Value) {
        let planned = plan(lab, document);
        let preset = op_dbus::desired::presets().iter().find(|known| known.name == preset).unwrap();
        for call in preset.busctl.iter().filter(|call| call.contains(" Set")) {
            assert!(planned.iter().any(|(summary, _)| summary.ends_with(call.as_str())), "{call} in {planned:?}");
        }
    }

    /// Calls localed by hand.
    fn localed(lab: &Lab, arguments: &[&str]) {
        lab.run(&[&["busctl", "call", LOCALE, "/org/freedesktop/locale1", LOCALE], arguments].concat());
    }

    fn file(path: &str) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn hostname() {
        let Some(lab) = Lab::enter() else { return };
        install(&lab);
        let document = objects(json!({
            "name": { "preset": "hostname", "with": { "hostname": "web-1", "pretty": "Web server in the cellar",
                                                       "deployment": "production", "location": "cellar" } },
        }));
        plans_the_calls_of(&lab, "hostname", &document);
        assert_eq!(lab.set_desired_state(&document).1, "done");
        assert_eq!(lab.run(&["hostname"]), "web-1");
        assert_eq!(file("/etc/hostname").trim(), "web-1");
        assert!(file("/etc/machine-info").contains("DEPLOYMENT=production"));
        assert_eq!(lab.set_desired_state(&document).1, "unchanged");
        lab.run(&["hostnamectl", "set-hostname", "lab"]);
    }

    #[test]
    fn locale() {
        let Some(lab) = Lab::enter() else { return };
        install(&lab);
        let locale = |assignments: Value| {
            objects(json!({ "locale": { "preset": "locale", "with": { "locale": assignments } } }))
        };
        localed(&lab, &["SetLocale", "asb", "1", "LANG=POSIX", "false"]);
        let document = locale(json!(["LANG=C.UTF-8"]));
        plans_the_calls_of(&lab, "locale", &document);
        assert_eq!(lab.set_desired_state(&document).1, "done");
        assert_eq!(file("/etc/default/locale"), "LANG=C.UTF-8\n");

        // Another one: in Debian's file, in localed, and in the environment of what systemd starts from now on.
        let document = locale(json!(["LANG=POSIX", "LC_TIME=C.UTF-8"]));
        assert_eq!(lab.set_desired_state(&document).1, "done");
        assert_eq!(file("/etc/default/locale"), "LANG=POSIX\nLC_TIME=C.UTF-8\n");
        let environment = lab.run(&["systemctl", "show-environment"]);
        assert!(environment.contains("LANG=POSIX") && environment.contains("LC_TIME=C.UTF-8"), "{environment}");
        assert_eq!(shown(&lab, "locale"), json!({ "Locale": ["LANG=POSIX", "LC_TIME=C.UTF-8"] }));
        assert_eq!(lab.get(&path("object", "locale"), "org.opdbus.Object", "DriftVisible"), true);
        assert_eq!(lab.set_desired_state(&document).1, "unchanged");
        // By anybody else: it is seen, and put back.
        localed(&lab, &["SetLocale", "asb", "1", "LANG=C.UTF-8", "false"]);
        until_status(&lab, "locale", "drifted");
        let job = lab.call(&path("object", "locale"), "org.opdbus.Resource", "Reconcile", &["a{sv}", "0"]);
        assert_eq!(lab.wait(job[0].as_str().unwrap()), "done");
        assert_eq!(file("/etc/default/locale"), "LANG=POSIX\nLC_TIME=C.UTF-8\n");

        // One that the machine does not have is refused in localed's words.
        assert_eq!(lab.set_desired_state(&locale(json!(["LANG=xx_YY.UTF-8"]))).1, "failed");
        assert_eq!(resource(&lab, "locale", "Reason"), "Refused");
        let message = resource(&lab, "locale", "Message");
        assert!(message.as_str().unwrap().contains("Locale xx_YY.UTF-8 not installed"), "{message}");
        assert_eq!(file("/etc/default/locale"), "LANG=POSIX\nLC_TIME=C.UTF-8\n");
    }

    #[test]
    fn keymap() {
        let Some(lab) = Lab::enter() else { return };
        install(&lab);
        localed(&lab, &["SetX11Keyboard", "ssssbb", "us", "", "", "", "true", "false"]);
        assert_eq!(
            (file("/etc/default/keyboard").as_str(), file("/etc/vconsole.conf").as_str()),
            ("XKBLAYOUT=us\n", "KEYMAP=us\n")
        );
        let document = objects(json!({
            "keys": { "preset": "keymap",
                      "with": { "layout": "de", "model": "pc105", "variant": "nodeadkeys", "options": "compose:ralt" } },
        }));
        plans_the_calls_of(&lab, "keymap", &document);
        assert_eq!(lab.set_desired_state(&document).1, "done");
        let keyboard = "XKBLAYOUT=de\nXKBMODEL=pc105\nXKBVARIANT=nodeadkeys\nXKBOPTIONS=compose:ralt\n";
        assert_eq!(file("/etc/default/keyboard"), keyboard);
        // localed has found the console's keymap that fits.
        assert_eq!(file("/etc/vconsole.conf"), "KEYMAP=de-latin1-nodeadkeys\n");
        assert_eq!(lab.set_desired_state(&document).1, "unchanged");
        // One of the four that one call sets: the others are repeated.
        let mut other = document;
        other["dbus"]["objects"]["keys"]["with"]["variant"] = "neo".into();
        assert_eq!(lab.set_desired_state(&other).1, "done");
        assert_eq!(file("/etc/default/keyboard"), keyboard.replace("nodeadkeys", "neo"));
        // By anybody else: it is seen.
        localed(&lab, &["SetX11Keyboard", "ssssbb", "us", "", "", "", "true", "false"]);
        until_status(&lab, "keys", "drifted");
    }

    /// localed of Debian 12 knows keymaps by files that end in `.map`, and Debian's console-data has them in `.kmap`: the
    /// console's keymap alone can be declared, and set where somebody brings such a file.
    #[test]
    fn keymap_of_the_console_alone() {
        let Some(lab) = Lab::enter() else { return };
        install(&lab);
        localed(&lab, &["SetX11Keyboard", "ssssbb", "us", "", "", "", "true", "false"]);
        let console = objects(json!({ "console": {
            "service": LOCALE, "path": "/org/freedesktop/locale1", "interface": LOCALE, "activate": true,
            "properties": { "VConsoleKeymap": { "value": "lab",
                "set": { "method": "SetVConsoleKeyboard", "args": ["$value", "", false, false] } } } } }));
        assert_eq!(lab.set_desired_state(&console).1, "failed");
        assert_eq!(resource(&lab, "console", "Reason"), "Refused");
        let message = resource(&lab, "console", "Message");
        assert!(message.as_str().unwrap().contains("Keymap lab is not installed"), "{message}");
        assert_eq!(file("/etc/vconsole.conf"), "KEYMAP=us\n");
        let keymaps = "/usr/share/keymaps";
        std::fs::create_dir_all(keymaps).unwrap();
        std::fs::write(format!("{keymaps}/lab.kmap"), "keymaps 0-127\n").unwrap();
        assert_eq!(lab.set_desired_state(&console).1, "failed");
        std::fs::rename(format!("{keymaps}/lab.kmap"), format!("{keymaps}/lab.map")).unwrap();
        assert_eq!(lab.set_desired_state(&console).1, "done");
        assert_eq!(file("/etc/vconsole.conf"), "KEYMAP=lab\n");
        assert_eq!(shown(&lab, "console"), json!({ "VConsoleKeymap": "lab" }));
    }

    #[test]
    fn network_time_which_holds_later() {
        let Some(lab) = Lab::enter() else { return };
        install(&lab);
        lab.units(&[(
            "lab-ntp.service",
            "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
        )]);
        std::fs::create_dir_all("/usr/lib/systemd/ntp-units.d").unwrap();
        std::fs::write("/usr/lib/systemd/ntp-units.d/10-lab.list", "lab-ntp.service\n").unwrap();
        let _ = lab.outcome(&["systemctl", "stop", "systemd-timedated.service"]);
        let clock = |ntp: bool| objects(json!({ "clock": { "preset": "timezone", "with": { "ntp": ntp } } }));
        assert_eq!(lab.set_desired_state(&clock(true)).1, "done");
        assert_eq!(lab.show("lab-ntp.service", "ActiveState"), "active");
        assert_eq!(lab.set_desired_state(&clock(false)).1, "done");
        lab.until_shown("lab-ntp.service", "ActiveState", |is| is == "inactive");
        lab.remove_units(&["lab-ntp.service"]);
    }

    #[test]
    fn a_property_of_a_unit_and_a_job_that_is_waited_for() {
        let Some(lab) = Lab::enter() else { return };
        install(&lab);
        lab.units(&[("lab-weight.service", "[Service]\nExecStart=sleep infinity\n")]);
        let with = json!({ "unit": "lab-weight.service", "property": "CPUWeight", "value": 200 });
        let weight = objects(json!({ "weight": { "preset": "unit-property", "with": with } }));
        assert_eq!(lab.set_desired_state(&weight).1, "done");
        assert_eq!(lab.show("lab-weight.service", "CPUWeight"), "200");

        let manager = json!({ "path": "/org/freedesktop/systemd1", "interface": "org.freedesktop.systemd1.Manager",
                              "method": "StartUnit", "args": ["lab-weight.service", "replace"], "wait_for": "job" });
        let unit = objects(json!({ "unit": {
            "service": "org.freedesktop.systemd1", "path": "/org/freedesktop/systemd1/unit/lab_2dweight_2eservice",
            "interface": "org.freedesktop.systemd1.Unit",
            "properties": { "ActiveState": { "value": "active", "set": manager } } } }));
        assert_eq!(lab.set_desired_state(&unit).1, "done");
        assert_eq!(lab.show("lab-weight.service", "ActiveState"), "active");
        lab.remove_units(&["lab-weight.service"]);
    }

    #[test]
    fn a_service_is_not_started_only_to_be_looked_at() {
        let Some(lab) = Lab::enter() else { return };
        install(&lab);
        let _ = lab.outcome(&["systemctl", "stop", "systemd-timedated.service"]);
        lab.until_shown("systemd-timedated.service", "ActiveState", |is| is == "inactive");
        let entry = |activate: bool| {
            objects(
                json!({ "clock": { "service": TIMEDATE, "path": "/org/freedesktop/timedate1", "interface": TIMEDATE,
                            "activate": activate, "properties": { "Timezone": { "value": "UTC",
                            "set": { "method": "SetTimezone", "args": ["$value", false] } } } } }),
            )
        };
        assert_eq!(plan(&lab, &entry(false))[0].1.as_deref(), Some("ServiceAway"));
        assert_eq!(lab.set_desired_state(&entry(false)).1, "failed");
        assert_eq!(resource(&lab, "clock", "Status"), "unknown");
        assert_eq!(resource(&lab, "clock", "Reason"), "ServiceAway");
        assert_eq!(lab.show("systemd-timedated.service", "ActiveState"), "inactive");
        // Somebody else starts it: it is read, and what was pending is taken up.
        lab.run(&["timedatectl", "set-timezone", "Asia/Tokyo"]);
        until_status(&lab, "clock", "in-sync");
        assert!(lab.run(&["readlink", "/etc/localtime"]).ends_with("/UTC"));

        let _ = lab.outcome(&["systemctl", "stop", "systemd-timedated.service"]);
        until_status(&lab, "clock", "unknown");
        assert_ne!(lab.set_desired_state(&entry(true)).1, "failed");
        assert_eq!(resource(&lab, "clock", "Status"), "in-sync");
        // One that may be started and has ended changes nothing.
        let mut signals = lab.signals();
        lab.run(&["systemctl", "stop", "systemd-timedated.service"]);
        lab.until_shown("systemd-timedated.service", "ActiveState", |is| is == "inactive");
        assert!(!signals.seen().iter().any(|signal| signal.path == path("object", "clock")));
        assert_eq!(resource(&lab, "clock", "Status"), "in-sync");
    }

    #[test]
    fn what_would_end_the_machine_is_not_called() {
        let Some(lab) = Lab::enter() else { return };
        install(&lab);
        let manager = |method: &str, args: Value| {
            objects(json!({ "end": {
                "service": "org.freedesktop.systemd1", "path": "/org/freedesktop/systemd1",
                "interface": "org.freedesktop.systemd1.Manager",
                "properties": { "Version": { "value": "0", "set": { "method": method, "args": args } } } } }))
        };
        for document in [manager("PowerOff", json!([])), manager("StopUnit", json!(["op-dbus.service", "replace"]))] {
            assert_eq!(plan(&lab, &document)[0].1.as_deref(), Some("Protected"), "{document}");
            assert_eq!(lab.set_desired_state(&document).1, "failed");
        }
        let own = objects(
            json!({ "self": { "service": "org.opdbus", "path": "/org/opdbus/state", "interface": "org.opdbus.State" } }),
        );
        let faults = lab.call(STATE, "org.opdbus.State", "Validate", &["sa{sv}", &own.to_string(), "0"]);
        assert_eq!(faults[0][0][0], "/dbus/objects/self/service");
    }
}

mod misbehaving {
    use super::*;

    fn start(lab: &Lab) -> Odd {
        Odd::allow();
        install(lab);
        Odd::plain()
    }

    #[test]
    fn one_that_behaves() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        let document = odd(json!({ "properties": {
            "Text": "b", "Count": 7, "Fixed": { "value": "new", "set": { "method": "SetFixed", "args": ["$value", false], "wait_for": "signal" } } } }));
        assert_eq!(lab.set_desired_state(&document).1, "done");
        assert_eq!(shown(&lab, "x"), json!({ "Text": "b", "Count": 7, "Fixed": "new" }));
        assert_eq!(service.called("SetFixed"), 1);
        // Whatever the signals of the job's own changes had read again, has been read when the next job has looked.
        assert_eq!(lab.set_desired_state(&document).1, "unchanged");
        // A signal alone brings the new value: nothing is read.
        let read = service.called("GetAll");
        service.set("Text", value("c"));
        until_shown(&lab, "x", "Text", &json!("c"));
        assert_eq!(service.called("GetAll"), read);
        // What a signal only invalidates is read once.
        service.behaviour().properties.insert("Text".to_owned(), value("d"));
        service.changed(vec![(ODD.to_owned(), HashMap::new(), vec!["Text".to_owned()])]);
        until_shown(&lab, "x", "Text", &json!("d"));
        assert_eq!(service.called("GetAll"), read + 1);
    }

    #[test]
    fn one_that_lies_about_its_types() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        service.behaviour().properties.insert("Text".to_owned(), value(5_u32));
        assert_eq!(lab.set_desired_state(&text("b")).1, "failed");
        assert_eq!(resource(&lab, "x", "Reason"), "WrongType");
        let message = resource(&lab, "x", "Message");
        assert!(message.as_str().unwrap().contains("its D-Bus type is s, and shows one of type u"), "{message}");
        assert_eq!(service.called("Set"), 0);
        // It comes to its senses, and says so.
        service.set("Text", value("a"));
        until_status(&lab, "x", "in-sync");
        assert_eq!(service.called("Set"), 1);
    }

    #[test]
    fn a_wrong_type_in_the_document_is_found_at_planning() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        let document = odd(json!({ "properties": { "Count": "7" } }));
        let planned = plan(&lab, &document);
        assert_eq!(planned[0].1.as_deref(), Some("WrongType"));
        assert!(
            planned[0].0.contains("/dbus/objects/x/properties/Count: must be a whole number of 32 bits"),
            "{planned:?}"
        );
        assert_eq!(lab.set_desired_state(&document).1, "failed");
        assert_eq!(service.called("Set"), 0);
    }

    #[test]
    fn one_that_never_answers_and_then_does() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        service.behaviour().mute = true;
        let mut both = text("b");
        both["dbus"]["objects"]["clock"] = json!({ "preset": "timezone", "with": { "timezone": "UTC" } });
        let (_, result) = lab.set_desired_state(&both);
        // The other service is looked after meanwhile.
        assert_eq!(result, "partial");
        assert_eq!(
            (resource(&lab, "x", "Status"), resource(&lab, "x", "Reason")),
            ("unknown".into(), "ServiceAway".into())
        );
        assert_eq!(resource(&lab, "clock", "Status"), "in-sync");
        assert_eq!(lab.get(STATE, "org.opdbus.State", "InSync"), false);
        // It answers, late: what was pending is taken up by itself.
        service.answer();
        until_status(&lab, "x", "in-sync");
        assert_eq!(shown(&lab, "x"), json!({ "Text": "b" }));
    }

    /// A step that reads what a newer document declares otherwise ends at once, and keeps that document waiting for
    /// nothing.
    #[test]
    fn one_that_is_declared_otherwise_while_it_is_being_set() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        let clock = json!({ "preset": "timezone", "with": { "timezone": "UTC" } });
        for newer in [text("c"), objects(json!({ "clock": clock }))] {
            assert_eq!(lab.set_desired_state(&text("a")).1, "unchanged");
            service.behaviour().mute_after_set = true;
            let send = |document: &Value| {
                lab.call(STATE, "org.opdbus.State", "SetDesiredState", &["s", &document.to_string()])[1].clone()
            };
            let older = send(&text("b"));
            lab.until(older.as_str().unwrap(), "org.opdbus.Job", "State", |is| is == "verifying");
            let newer = send(&newer);
            service.answer();
            assert_eq!(lab.wait(older.as_str().unwrap()), "superseded");
            // The clock may have been right before.
            assert!(["done", "unchanged"].contains(&lab.wait(newer.as_str().unwrap()).as_str()));
            service.set("Text", value("a"));
        }
    }

    #[test]
    fn one_that_says_done_and_does_nothing() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        service.behaviour().lazy = true;
        assert_eq!(lab.set_desired_state(&text("b")).1, "failed");
        let message = resource(&lab, "x", "Message");
        assert!(message.as_str().unwrap().contains("does not show it"), "{message}");
        service.behaviour().lazy = false;
        let job = lab.call(&path("object", "x"), "org.opdbus.Resource", "Reconcile", &["a{sv}", "0"]);
        assert_eq!(lab.wait(job[0].as_str().unwrap()), "done");
    }

    #[test]
    fn one_that_signals_wrongly() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        assert_eq!(lab.set_desired_state(&text("a")).1, "unchanged");
        // Of another type, of another interface, of what is not there: the service itself is believed.
        let wrong = |interface: &str, name: &str, to| {
            (interface.to_owned(), HashMap::from([(name.to_owned(), to)]), Vec::new())
        };
        service.changed(vec![
            wrong(ODD, "Text", value(5_u32)),
            wrong("org.example.Other", "Text", value("lie")),
            wrong(ODD, "Nonsense", value("lie")),
        ]);
        service.behaviour().properties.insert("Text".to_owned(), value("true"));
        service.changed(vec![wrong(ODD, "Text", value(7_u64))]);
        until_shown(&lab, "x", "Text", &json!("true"));
        until_status(&lab, "x", "drifted");
    }

    #[test]
    fn one_that_signals_nothing() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        let document = odd(json!({ "properties": { "Silent": "quiet" } }));
        assert_eq!(lab.set_desired_state(&document).1, "unchanged");
        assert_eq!(lab.get(&path("object", "x"), "org.opdbus.Object", "DriftVisible"), false);
        service.behaviour().properties.insert("Silent".to_owned(), value("changed"));
        assert_eq!(shown(&lab, "x"), json!({ "Silent": "quiet" }));
        let job = lab.call(STATE, "org.opdbus.State", "Reconcile", &["a{sv}", "0"]);
        assert_eq!(lab.wait(job[0].as_str().unwrap()), "done");
        assert_eq!(shown(&lab, "x"), json!({ "Silent": "quiet" }));
        assert_eq!(service.called("Set"), 1);
    }

    /// What its introspection promises is believed: nobody can tell a service that does not signal from one that does not
    /// change.
    #[test]
    fn one_that_promises_signals_and_sends_none() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        let mut document = text("a");
        document["dbus"]["objects"]["x"]["drift"] = "enforce".into();
        assert_eq!(lab.set_desired_state(&document).1, "unchanged");
        service.behaviour().properties.insert("Text".to_owned(), value("changed"));
        assert_eq!(lab.get(&path("object", "x"), "org.opdbus.Object", "DriftVisible"), true);
        assert_eq!(resource(&lab, "x", "Status"), "in-sync");
        assert_eq!(shown(&lab, "x"), json!({ "Text": "a" }));
        // The next Reconcile or document looks at the object itself.
        let job = lab.call(STATE, "org.opdbus.State", "Reconcile", &["a{sv}", "0"]);
        assert_eq!(lab.wait(job[0].as_str().unwrap()), "done");
        assert_eq!(service.called("Set"), 1);
        // What it is told to do it does, and it is read, not believed.
        service.behaviour().properties.insert("Text".to_owned(), value("changed"));
        assert_eq!(lab.set_desired_state(&text("b")).1, "done");
        assert_eq!(shown(&lab, "x"), json!({ "Text": "b" }));
    }

    #[test]
    fn one_that_vanishes_in_the_middle() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        service.behaviour().vanish = true;
        assert_eq!(lab.set_desired_state(&text("b")).1, "failed");
        until_status(&lab, "x", "unknown");
        assert_eq!(resource(&lab, "x", "Reason"), "ServiceAway");
        drop(service);
        // Back again: read, and what was pending is taken up.
        let service = Odd::plain();
        until_status(&lab, "x", "in-sync");
        assert_eq!(shown(&lab, "x"), json!({ "Text": "b" }));
        // Gone with nothing to do: unknown, with its last known values.
        drop(service);
        until_status(&lab, "x", "unknown");
        assert_eq!(shown(&lab, "x"), json!({ "Text": "b" }));
    }

    #[test]
    fn one_that_sends_a_hundred_thousand_signals() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        assert_eq!(lab.set_desired_state(&text("a")).1, "unchanged");
        let changes = (0..100_000).map(|count| {
            let changed = HashMap::from([("Text".to_owned(), value(format!("t{count}").as_str()))]);
            (ODD.to_owned(), changed, Vec::new())
        });
        let read = service.called("GetAll");
        service.behaviour().properties.insert("Text".to_owned(), value("t99999"));
        service.changed(changes.collect());
        // Others are answered meanwhile, and the last word counts.
        assert_eq!(lab.get(STATE, "org.opdbus.State", "Managed"), 1);
        until_shown(&lab, "x", "Text", &json!("t99999"));
        assert_eq!(service.called("GetAll"), read, "values that are told are not read");
        // Those that only invalidate: one reading serves many.
        let invalid = (0..100_000).map(|_| (ODD.to_owned(), HashMap::new(), vec!["Text".to_owned()]));
        service.behaviour().properties.insert("Text".to_owned(), value("end"));
        service.changed(invalid.collect());
        until_shown(&lab, "x", "Text", &json!("end"));
        let job = lab.call(STATE, "org.opdbus.State", "Reconcile", &["a{sv}", "0"]);
        assert_eq!(lab.wait(job[0].as_str().unwrap()), "done");
        let read = service.called("GetAll") - read;
        assert!(read < 50_000, "{read} readings for 100000 signals");
    }

    #[test]
    fn what_is_made_and_removed_and_waited_for() {
        let Some(lab) = Lab::enter() else { return };
        let service = start(&lab);
        let entry = |ensure: &str| {
            odd(
                json!({ "ensure": ensure, "exists": { "method": "isMade" }, "create": { "method": "Make", "args": ["one"] },
                        "remove": { "method": "Remove" } }),
            )
        };
        assert_eq!(lab.set_desired_state(&entry("present")).1, "done");
        assert!(service.behaviour().made);
        assert_eq!(resource(&lab, "x", "Present"), true);
        assert_eq!(lab.set_desired_state(&entry("absent")).1, "done");
        assert!(!service.behaviour().made);
        // Somebody makes it again, and the service says that something happened.
        service.behaviour().made = true;
        service.poke();
        until_status(&lab, "x", "drifted");
        assert_eq!(resource(&lab, "x", "Reason"), "NotAbsent");
        // Made with properties: these are set once it is there.
        service.behaviour().made = false;
        let mut with = entry("present");
        with["dbus"]["objects"]["x"]["properties"] = json!({ "Text": "z" });
        assert_eq!(lab.set_desired_state(&with).1, "done");
        assert_eq!(shown(&lab, "x"), json!({ "Text": "z" }));
    }
}
