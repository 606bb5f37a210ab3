//! The files in `dist/` against the contract in `dbus-interfaces/`: a method that is missing in the bus policy would be
//! refused by the bus before op-dbus hears of it, and one too many would be let through unseen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeSet, fs, path::Path};

use op_dbus::config::Config;
use zbus_xml::Node;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

/// What of D-Bus's own interfaces is published: all but `Properties.Set`, for nothing is writable.
const STANDARD: [(&str, &str); 6] = [
    ("org.freedesktop.DBus.Introspectable", "Introspect"),
    ("org.freedesktop.DBus.ObjectManager", "GetManagedObjects"),
    ("org.freedesktop.DBus.Peer", "GetMachineId"),
    ("org.freedesktop.DBus.Peer", "Ping"),
    ("org.freedesktop.DBus.Properties", "Get"),
    ("org.freedesktop.DBus.Properties", "GetAll"),
];

/// Every method of the contract, as interface and member.
fn published() -> BTreeSet<(String, String)> {
    let mut methods: BTreeSet<_> =
        STANDARD.iter().map(|(interface, member)| ((*interface).to_owned(), (*member).to_owned())).collect();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus-interfaces")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for interface in Node::try_from(text.as_str()).unwrap().interfaces() {
            for method in interface.methods() {
                methods.insert((interface.name().to_string(), method.name().to_string()));
            }
        }
    }
    methods
}

/// The value of an attribute of an element.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split_once(&format!("{name}=\""))?.1.split_once('"').map(|(value, _)| value)
}

#[test]
fn the_bus_policy_lists_every_published_method_and_no_other() {
    let policy = read("dist/org.opdbus.conf");
    let everybody = policy.split_once("<policy context=\"default\">").expect("a policy for everybody").1;
    let (denied, allowed) = everybody.split_once("<allow").expect("something allowed");
    assert!(denied.contains("<deny send_destination=\"org.opdbus\"/>"), "everything else is denied, first: {denied}");
    let listed: BTreeSet<_> = allowed
        .split("<allow")
        .filter(|element| element.contains("send_destination"))
        .map(|element| {
            let of = |name| attribute(element, name).unwrap_or_else(|| panic!("{name} is missing in {element}"));
            (of("send_interface").to_owned(), of("send_member").to_owned())
        })
        .collect();
    assert_eq!(listed, published());
}

#[test]
fn every_polkit_action_asks_an_administrator() {
    let actions = read("dist/org.opdbus.policy");
    let ids: BTreeSet<_> = actions.split("<action").skip(1).filter_map(|action| attribute(action, "id")).collect();
    let expected = ["manage-containers", "read-desired-state", "reconcile", "set-desired-state"];
    assert_eq!(
        ids,
        expected
            .iter()
            .map(|verb| format!("org.opdbus.{verb}"))
            .collect::<BTreeSet<_>>()
            .iter()
            .map(String::as_str)
            .collect()
    );
    for action in actions.split("<action").skip(1) {
        for (who, answer) in [("any", "auth_admin"), ("inactive", "auth_admin"), ("active", "auth_admin_keep")] {
            assert!(action.contains(&format!("<allow_{who}>{answer}</allow_{who}>")), "allow_{who} of {action}");
        }
    }
}

#[test]
fn the_example_configuration_shows_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let load = |text: &str| {
        let file = folder.path().join("op-dbus.toml");
        fs::write(&file, text).unwrap();
        Config::load(&file, true).unwrap()
    };
    let example = read("dist/op-dbus.toml");
    assert_eq!(load(&example), Config::default(), "nothing is set as it stands");

    // With what is commented out set, it is still the defaults; what has none is shown as what it comes to.
    let is_default = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let uncommented: String = example
        .lines()
        .map(|line| if is_default(line) { &line[1..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut shown = load(&uncommented);
    let defaults = Config::default();
    let plugins = [
        &mut shown.systemd.enabled,
        &mut shown.ovsdb.enabled,
        &mut shown.lxc.enabled,
        &mut shown.packagekit.enabled,
        &mut shown.dbus.enabled,
    ];
    for enabled in plugins {
        assert_eq!(enabled.take(), Some(true));
    }
    assert_eq!(shown.lxc.unit_template.take().as_ref(), defaults.systemd.container_patterns.first());
    assert_eq!(shown, defaults);

    // Every key there is, is shown.
    let debug = format!("{shown:?}");
    for key in debug.split(['{', ',', ' ']).filter_map(|word| word.strip_suffix(':')) {
        assert!(
            uncommented.contains(&format!("{key} =")) || uncommented.contains(&format!("[{key}]")),
            "{key} is not shown"
        );
    }
}

/// All of src/, as one text.
fn sources() -> String {
    fn collect(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut text = String::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    text
}

/// An entry of the journal leads to its text in the catalog by its MESSAGE_ID, and the text shows fields of the entry.
#[test]
fn the_catalog_has_a_text_for_each_message_id_and_shows_fields_that_there_are() {
    let catalog = read("dist/op-dbus.catalog");
    let sources = sources();
    let ids: BTreeSet<&str> = sources
        .split("MESSAGE_ID: &str = \"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"').map(|(id, _)| id))
        .filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    assert!(ids.len() >= 2, "{ids:?}");
    let listed: BTreeSet<&str> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    assert_eq!(listed, ids);

    let audit = read("src/reconcile/audit.rs");
    let is_field = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let shown: BTreeSet<&str> = catalog.split('@').skip(1).step_by(2).filter(is_field).collect();
    assert!(shown.contains("RESOURCE"), "{shown:?}");
    for field in shown {
        let name = field.to_lowercase();
        let given = [format!(" {name},"), format!(" {name} =")].iter().any(|text| audit.contains(text.as_str()));
        assert!(given, "no entry has the field {field}");
    }
}
