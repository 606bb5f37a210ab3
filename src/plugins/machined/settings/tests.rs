#![allow(clippy::unwrap_used)]

use std::fs;

use proptest::prelude::*;

use super::{
    store::{Store, StoreError},
    *,
};

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

fn settings() -> Settings {
    Settings {
        hostname: Some("web".to_owned()),
        private_users: Some(true),
        links: Some([("eth0".to_owned(), "ve-web".to_owned())].into()),
        binds: [("/data".to_owned(), Bind { source: "/srv/a:b".to_owned(), ..Bind::default() })].into(),
        ..Settings::default()
    }
}

#[test]
fn the_text_is_what_systemd_nspawn_reads() {
    let text = settings().text(MACHINE);
    let body: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(
        body.join("\n"),
        "\n[Exec]\nHostname=web\nPrivateUsers=pick\n\n[Files]\nBind=/srv/a\\:b:/data\n\n[Network]\nVirtualEthernet=no\n\
         VirtualEthernetExtra=ve-web:eth0"
    );
}

#[test]
fn only_the_mark_of_this_machine_counts() {
    let text = settings().text(MACHINE);
    assert_eq!(Settings::parse(&text, MACHINE), Some(settings()));
    assert_eq!(Settings::parse(&text, "fedcba98765432100123456789abcdef"), None);
    assert_eq!(Settings::parse("[Exec]\nHostname=web\n", MACHINE), None);
    assert_eq!(Settings::parse("", MACHINE), None);
}

#[test]
fn what_others_put_there_is_kept() {
    let text = format!(
        "{MARK}{MACHINE}\n; a note\n[Exec]\nCapability=CAP_NET_ADMIN\nHostname = web\nPrivateUsers=yes\n[Files]\n\
         Bind=/a:/b:norbind\nVolatile=\\\n  state\n"
    );
    let mut read = Settings::parse(&text, MACHINE).unwrap();
    assert_eq!((read.hostname.as_deref(), read.private_users), (Some("web"), None));
    assert_eq!(read.binds["/b"], Bind { source: "/a".to_owned(), read_only: false, options: "norbind".to_owned() });
    read.hostname = Some("other".to_owned());
    let written = read.text(MACHINE);
    for line in ["Capability=CAP_NET_ADMIN", "Hostname=other", "PrivateUsers=yes", "Bind=/a:/b:norbind"] {
        assert!(written.lines().any(|found| found == line), "{line} is not in {written}");
    }
    assert_eq!(Settings::parse(&written, MACHINE), Some(read));
}

#[test]
fn a_file_of_another_is_never_written_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path(), MACHINE);
    fs::write(store.path("web"), "[Exec]\nHostname=mine\n").unwrap();
    assert!(matches!(store.write("web", &settings()), Err(StoreError::Foreign(_))));
    assert!(matches!(store.write("web", &Settings::default()), Err(StoreError::Foreign(_))));
    assert!(!store.remove("web").unwrap());
    assert_eq!(fs::read_to_string(store.path("web")).unwrap(), "[Exec]\nHostname=mine\n");
    // Nor what a link leads to.
    let target = folder.path().join("elsewhere");
    fs::write(&target, settings().text(MACHINE)).unwrap();
    std::os::unix::fs::symlink(&target, store.path("linked")).unwrap();
    assert!(matches!(store.write("linked", &Settings::default()), Err(StoreError::Foreign(_))));
    assert_eq!(store.read_all()["linked"], Found::Foreign);
}

#[test]
fn a_file_comes_and_goes_with_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(&folder.path().join("nspawn"), MACHINE);
    assert_eq!(store.read_all(), BTreeMap::new());
    assert!(!store.write("web", &Settings::default()).unwrap(), "nothing to say, nothing written");
    assert!(store.write("web", &settings()).unwrap());
    assert!(!store.write("web", &settings()).unwrap(), "it stood there already");
    assert!(matches!(store.read("web"), Found::Ours { settings, .. } if settings == super::tests::settings()));
    assert_eq!(store.read_all().keys().collect::<Vec<_>>(), ["web"]);
    let names: Vec<_> = fs::read_dir(folder.path().join("nspawn")).unwrap().collect();
    assert_eq!(names.len(), 1, "no draft is left");
    assert!(store.write("web", &Settings::default()).unwrap());
    assert_eq!(store.read("web"), Found::None);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        hostname in prop::option::of("[a-z][a-z0-9-]{0,10}"),
        private_users in prop::option::of(any::<bool>()),
        links in prop::option::of(prop::collection::btree_map("[a-z]{1,5}", "[a-z0-9-]{1,15}", 0..3)),
        binds in prop::collection::btree_map("/[ -Z^-~]{0,9}[!-~]", ("/[ -Z^-~]{0,9}[!-~]", any::<bool>()), 0..3),
        unfinished in any::<bool>(),
    ) {
        let binds = binds
            .into_iter()
            .map(|(inside, (source, read_only))| (inside, Bind { source, read_only, options: String::new() }))
            .collect();
        let settings = Settings { hostname, private_users, links, binds, unfinished, rest: Vec::new() };
        prop_assert_eq!(Settings::parse(&settings.text(MACHINE), MACHINE), Some(settings));
    }
}
