//! Packages in plans: what is in the way, and what comes before what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use super::{Desired, Inventory, Plan, Step, assess, plan, tests::observe};
use crate::{
    desired::{ActiveState, Document, PackageEnsure, PackageSpec, UnitSpec},
    model::{Observed, Offer, Outlook, PackageFacts, Reason, ResourceId},
    plugins::simulated::World,
};

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

fn inventory() -> Inventory {
    Inventory {
        machine_id: MACHINE.to_owned(),
        protected_units: vec![],
        protected_calls: Vec::new(),
        container_unit: "pve-container@%.service".to_owned(),
        retry_unmet: false,
        reload_owed: false,
        hand: super::Hand::default(),
    }
}

fn spec(ensure: PackageEnsure) -> PackageSpec {
    PackageSpec { ensure: Some(ensure), ..PackageSpec::default() }
}

/// A world where pk0 is not installed, pk1 is in version 1, pk2 in version 2, which is the newest of all of them.
fn world() -> World {
    let mut world = World::new(MACHINE);
    for (name, installed) in [("pk0", ""), ("pk1", "1"), ("pk2", "2")] {
        world.add_package(name, installed);
    }
    world
}

fn plan_of(doc: &Document, observed: &Observed) -> Plan {
    plan(&Desired::new(Arc::new(doc.clone())), observed, &inventory(), None)
}

/// Each step: what it does, and what it waits for.
fn said(plan: &Plan) -> Vec<(String, Vec<u32>)> {
    let of = |step: &Arc<Step>| (format!("{} {}", step.action.as_str(), step.subject), step.after.clone());
    plan.steps.iter().map(of).collect()
}

/// Why a package is blocked, with these facts.
fn why(spec: &PackageSpec, facts: PackageFacts) -> Option<Reason> {
    let mut observed = observe(&world());
    observed.packages.insert("pk0".into(), Arc::new(facts));
    let doc = Document { packages: [("pk0".into(), spec.clone())].into(), ..Document::default() };
    let assessment = assess(&Desired::new(Arc::new(doc)), &ResourceId::package("pk0"), &observed, &inventory());
    assessment.blocked.map(|(reason, _)| reason)
}

fn offered(installed: &str, version: &str, downgrade: bool) -> PackageFacts {
    let offer = Offer::Version { version: version.to_owned(), id: format!("pk0;{version};all;"), downgrade };
    PackageFacts { installed: installed.to_owned(), offer, ..PackageFacts::default() }
}

#[test]
fn each_difference_has_its_step() {
    let observed = observe(&world());
    for (name, ensure, action) in [
        ("pk0", PackageEnsure::Installed, Some("install-package")),
        ("pk0", PackageEnsure::Latest, Some("install-package")),
        ("pk0", PackageEnsure::Removed, None),
        ("pk1", PackageEnsure::Installed, None),
        ("pk1", PackageEnsure::Latest, Some("update-package")),
        ("pk1", PackageEnsure::Removed, Some("remove-package")),
        ("pk2", PackageEnsure::Latest, None),
    ] {
        let doc = Document { packages: [(name.into(), spec(ensure))].into(), ..Document::default() };
        let plan = plan_of(&doc, &observed);
        let actions: Vec<&str> = plan.steps.iter().map(|step| step.action.as_str()).collect();
        let wanted: Vec<&str> = action.into_iter().flat_map(|action| [action, "daemon-reload"]).collect();
        assert_eq!(actions, wanted, "{name} {ensure:?}");
        assert!(plan.steps.iter().all(|step| !step.is_reversible()));
    }
}

#[test]
fn what_is_in_the_way_is_said() {
    let install = spec(PackageEnsure::Installed);
    let facts = |offer: Offer| PackageFacts { offer, ..PackageFacts::default() };
    assert_eq!(why(&install, facts(Offer::Unknown)), Some(Reason::BackendAway));
    let busy = PackageFacts { busy: true, ..facts(Offer::Unknown) };
    assert_eq!(why(&install, busy), Some(Reason::WaitingForPackageLock));
    assert_eq!(why(&install, facts(Offer::NoPackage)), Some(Reason::PackageNotFound));
    assert_eq!(why(&install, facts(Offer::Virtual(vec!["a".to_owned()]))), Some(Reason::PackageVirtual));
    assert_eq!(why(&install, facts(Offer::NoVersion("2".to_owned()))), Some(Reason::VersionNotAvailable));
    assert_eq!(why(&install, offered("", "2", false)), None);
    let interrupted = PackageFacts { interrupted: true, ..offered("", "2", false) };
    assert_eq!(why(&install, interrupted), Some(Reason::PackageDatabaseBroken));

    let mut pinned = PackageSpec { version: Some("1".to_owned()), ..install.clone() };
    assert_eq!(why(&pinned, offered("2", "1", true)), Some(Reason::WouldDowngrade));
    pinned.allow_downgrade = true;
    assert_eq!(why(&pinned, offered("2", "1", true)), None);

    let mut remove = spec(PackageEnsure::Removed);
    let taking = |removes: &[&str], vital: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let outlook = Outlook { removes: names(removes), vital: names(vital), ..Outlook::default() };
        PackageFacts { outlook: Some(outlook), ..offered("1", "2", false) }
    };
    assert_eq!(why(&remove, taking(&[], &[])), None);
    assert_eq!(why(&remove, taking(&["other"], &[])), Some(Reason::WouldRemoveOthers));
    assert_eq!(
        why(&install, PackageFacts { installed: String::new(), ..taking(&["other"], &[]) }),
        Some(Reason::WouldRemoveOthers)
    );
    remove.allow_remove_others = true;
    assert_eq!(why(&remove, taking(&["other"], &[])), None);
    assert_eq!(why(&remove, taking(&["bash"], &["bash"])), Some(Reason::Protected), "whatever the entry says");
    assert_eq!(why(&remove, PackageFacts { essential: true, ..offered("1", "2", false) }), Some(Reason::Protected));
}

#[test]
fn what_the_document_wants_there_is_not_removed_for_another() {
    let mut observed = observe(&world());
    let outlook = Outlook { removes: vec!["pk2".into()], ..Outlook::default() };
    observed
        .packages
        .insert("pk0".into(), Arc::new(PackageFacts { outlook: Some(outlook), ..offered("", "2", false) }));
    let install = PackageSpec { allow_remove_others: true, ..spec(PackageEnsure::Installed) };
    let mut doc = Document { packages: [("pk0".into(), install)].into(), ..Document::default() };
    doc.packages.insert("pk2".into(), spec(PackageEnsure::Installed));
    let reason = |doc: &Document| plan_of(doc, &observed).steps[0].blocked.as_ref().map(|(reason, _)| *reason);
    assert_eq!(reason(&doc), Some(Reason::PackageConflict));
    doc.packages.insert("pk2".into(), spec(PackageEnsure::Removed));
    assert_eq!(reason(&doc), None);
}

fn service(after: &[&str]) -> UnitSpec {
    let mut unit = UnitSpec { enabled: Some(true), active_state: Some(ActiveState::Active), ..UnitSpec::default() };
    unit.common.after = after.iter().map(|name| ResourceId::package(*name)).collect();
    unit
}

#[test]
fn a_unit_that_a_package_may_bring_is_planned() {
    let observed = observe(&world());
    let mut doc = Document { packages: [("pk0".into(), spec(PackageEnsure::Installed))].into(), ..Document::default() };
    doc.units.insert("new.service".into(), service(&[]));
    let all = [
        ("install-package package:pk0".to_owned(), vec![]),
        ("set-unit-file unit:new.service".to_owned(), vec![1]),
        ("daemon-reload plugin:systemd".to_owned(), vec![1, 2]),
        ("start unit:new.service".to_owned(), vec![1, 2, 3]),
    ];
    assert_eq!(said(&plan_of(&doc, &observed)), all);
    // Said outright it is the same.
    doc.units.insert("new.service".into(), service(&["pk0"]));
    assert_eq!(said(&plan_of(&doc, &observed)), all);
    // A package that is there already brings nothing any more.
    doc.packages.insert("pk2".into(), spec(PackageEnsure::Installed));
    doc.units.insert("new.service".into(), service(&["pk2"]));
    let plan = plan_of(&doc, &observed);
    let blocked = plan.steps.iter().find_map(|step| step.blocked.as_ref()).map(|(reason, _)| *reason);
    assert_eq!(blocked, Some(Reason::UnitNotFound));
    // Nor does one that cannot come.
    let mut observed = observed;
    observed
        .packages
        .insert("pk0".into(), Arc::new(PackageFacts { offer: Offer::NoPackage, ..PackageFacts::default() }));
    doc.units.insert("new.service".into(), service(&["pk0"]));
    let plan = plan_of(&doc, &observed);
    assert_eq!(plan.steps.iter().filter(|step| step.blocked.is_some()).count(), 2, "{plan:#?}");
}

#[test]
fn a_package_that_waits_for_a_unit_has_a_reload_of_its_own() {
    let mut world = world();
    world.add_unit("first.service", "enabled", "inactive");
    let mut late = spec(PackageEnsure::Installed);
    late.common.after.insert(ResourceId::unit("first.service"));
    let mut doc = Document { packages: [("pk0".into(), late)].into(), ..Document::default() };
    doc.packages.insert("pk1".into(), spec(PackageEnsure::Latest));
    doc.units
        .insert("first.service".into(), UnitSpec { active_state: Some(ActiveState::Active), ..UnitSpec::default() });
    doc.units.insert("new.service".into(), service(&["pk0"]));
    let plan = said(&plan_of(&doc, &observe(&world)));
    let all = [
        ("update-package package:pk1".to_owned(), vec![]),
        ("daemon-reload plugin:systemd".to_owned(), vec![1]),
        ("start unit:first.service".to_owned(), vec![2]),
        ("install-package package:pk0".to_owned(), vec![2, 3]),
        ("daemon-reload plugin:systemd".to_owned(), vec![4]),
        ("set-unit-file unit:new.service".to_owned(), vec![2, 4, 5]),
        ("daemon-reload plugin:systemd".to_owned(), vec![6]),
        ("start unit:new.service".to_owned(), vec![2, 4, 5, 6, 7]),
    ];
    assert_eq!(plan, all);
}

#[test]
fn a_unit_whose_package_is_held_up_waits_with_it() {
    let after = |package: &str| {
        let common = crate::desired::Common { after: [ResourceId::package(package)].into(), ..Default::default() };
        PackageSpec { common, ..spec(PackageEnsure::Installed) }
    };
    let mut world = World::new(MACHINE);
    world.add_package("pk2", "");
    // PackageKit knows nothing of pk0.
    let packages = [("pk0".into(), spec(PackageEnsure::Installed)), ("pk2".into(), after("pk0"))].into();
    let unit = UnitSpec { enabled: Some(true), ..UnitSpec::default() };
    let doc = Document { packages, units: [("a.service".into(), unit)].into(), ..Document::default() };
    let plan = plan_of(&doc, &observe(&world));
    let blocked: Vec<_> = plan.steps.iter().map(|step| step.blocked.as_ref().map(|(reason, _)| *reason)).collect();
    let held = Some(Reason::DependencyFailed);
    assert_eq!(blocked, [Some(Reason::BackendAway), held, held], "{plan:?}");
}
