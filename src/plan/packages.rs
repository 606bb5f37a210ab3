//! A package against what is known of it, and the steps that follow.

use std::{collections::BTreeSet, sync::Arc};

use super::{Action, Assessment, Desired, Inventory, PackageChange, PackageOp, graph::Dependencies};
use crate::{
    desired::{ActiveState, PackageEnsure, PackageSpec, UnitSpec, version_matches},
    model::{Difference, Kind, Name, Observed, Offer, Outlook, PackageFacts, Reason, ResourceId, Value},
};

/// What op-dbus is made of and stands on: without these it could not even say what it did.
const VITAL: [&str; 6] = ["op-dbus", "packagekit", "systemd", "dbus", "dbus-broker", "dbus-daemon"];

/// Whether op-dbus cannot do without that package.
#[must_use]
pub fn is_vital_package(name: &str) -> bool {
    VITAL.contains(&plain_name(name))
}

/// A package's name without its architecture.
fn plain_name(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// Holds a package against its entry.
pub(super) fn assess_package(doc: &Desired, name: &Name, spec: &PackageSpec, observed: &Observed) -> Assessment {
    let unseen = Arc::new(PackageFacts::default());
    let facts = observed.packages.get(name).unwrap_or(&unseen);
    let mut out = Assessment {
        present: !facts.installed.is_empty() || !facts.halfway.is_empty(),
        differences: package_differences(spec, facts),
        settling: !facts.halfway.is_empty() && facts.busy,
        ..Assessment::default()
    };
    if out.differences.is_empty() {
        return out;
    }
    if facts.interrupted {
        let text = "dpkg was interrupted in the middle of its work: run dpkg --configure -a";
        out.block(Reason::PackageDatabaseBroken, text);
    }
    if spec.ensure == Some(PackageEnsure::Removed) {
        if facts.essential || is_vital_package(name) {
            out.block(Reason::Protected, format!("{name} is never removed: the machine, or op-dbus, stands on it"));
        }
    } else {
        block_without_offer(&mut out, name, spec, facts);
    }
    if !facts.refresh_error.is_empty() {
        let text = format!("the lists of repositories are old, they could not be fetched: {}", facts.refresh_error);
        if let Some((_, message)) = &mut out.blocked {
            *message = format!("{message} ({text})");
        }
        out.warnings.push(text);
    }
    if let Some(outlook) = &facts.outlook {
        weigh(&mut out, doc, name, spec, outlook);
    }
    out
}

/// Whether a package is not as its entry says.
#[must_use]
pub fn package_differs(spec: &PackageSpec, facts: &PackageFacts) -> bool {
    !package_differences(spec, facts).is_empty()
}

/// What of a package is not as its entry says.
fn package_differences(spec: &PackageSpec, facts: &PackageFacts) -> Vec<Difference> {
    let Some(ensure) = spec.ensure else { return Vec::new() };
    let stands = match (facts.halfway.as_str(), facts.installed.is_empty()) {
        ("", true) => PackageEnsure::Removed.as_str(),
        ("", false) => PackageEnsure::Installed.as_str(),
        (halfway, _) => halfway,
    };
    let gone = facts.installed.is_empty() && facts.halfway.is_empty();
    match ensure {
        PackageEnsure::Removed if gone => Vec::new(),
        PackageEnsure::Installed | PackageEnsure::Latest if facts.is_installed() => {
            let version = |desired: &str| Difference::new("version", desired, facts.installed.as_str());
            let pinned = spec.version.as_deref().filter(|wanted| !version_matches(wanted, &facts.installed));
            let newer = (ensure == PackageEnsure::Latest && facts.update_available).then_some(facts.candidate.as_str());
            pinned.or(newer).map(version).into_iter().collect()
        }
        _ => {
            let mut differences = vec![Difference::new("ensure", ensure.as_str(), stands)];
            if let Some(version) = spec.version.as_deref().filter(|_| gone) {
                differences.push(Difference {
                    field: "version".to_owned(),
                    desired: version.into(),
                    observed: Value::Absent,
                });
            }
            differences
        }
    }
}

/// Where nothing that is offered satisfies the entry.
fn block_without_offer(out: &mut Assessment, name: &Name, spec: &PackageSpec, facts: &PackageFacts) {
    match &facts.offer {
        Offer::Unknown if facts.busy => {
            let text = "another program is at work in the package database, and PackageKit waits for it";
            out.block(Reason::WaitingForPackageLock, text);
        }
        Offer::Unknown => {
            out.block(Reason::BackendAway, format!("PackageKit has not said yet what it offers of {name}"));
        }
        Offer::NoPackage => {
            out.block(
                Reason::PackageNotFound,
                format!("no repository offers a package {name}: see its spelling, and the sources"),
            );
        }
        Offer::Virtual(providers) => {
            let text =
                format!("{name} is only a name that other packages provide: name one of {}", providers.join(", "));
            out.block(Reason::PackageVirtual, text);
        }
        Offer::NoVersion(newest) => {
            let wanted = spec.version.as_deref().unwrap_or("*");
            let text = format!("no repository offers {name} in version {wanted}; the newest is {newest}");
            out.block(Reason::VersionNotAvailable, text);
        }
        Offer::Version { version, downgrade: true, .. } if !spec.allow_downgrade => {
            let installed = &facts.installed;
            let text =
                format!("{version} is older than {installed}, which is installed: say \"allow_downgrade\": true");
            out.block(Reason::WouldDowngrade, text);
        }
        Offer::Version { .. } => {}
    }
}

/// What the simulation said.
fn weigh(out: &mut Assessment, doc: &Desired, name: &Name, spec: &PackageSpec, outlook: &Outlook) {
    if !outlook.vital.is_empty() {
        let text =
            format!("it would take {} with it, which the machine, or op-dbus, stands on", outlook.vital.join(", "));
        out.block(Reason::Protected, text);
    }
    let kept: Vec<&str> = outlook.removes.iter().filter(|other| is_kept(doc, other)).map(|other| &**other).collect();
    if !kept.is_empty() {
        let text = format!("{} would be removed, and the document wants it there", kept.join(", "));
        out.block(Reason::PackageConflict, text);
    }
    let others: Vec<&str> =
        outlook.removes.iter().filter(|other| !is_removed(doc, other)).map(|other| &**other).collect();
    if !others.is_empty() && !spec.allow_remove_others {
        let text = format!(
            "{} would be removed too: declare it removed, or say \"allow_remove_others\": true for {name}",
            others.join(", ")
        );
        out.block(Reason::WouldRemoveOthers, text);
    }
    if let Some((reason, text)) = &outlook.refused {
        out.block(*reason, text.clone());
    }
    for (what, names) in [("installs", &outlook.installs), ("removes", &outlook.removes)] {
        if !names.is_empty() {
            out.warnings.push(format!("also {what} {}", names.join(", ")));
        }
    }
}

/// What the document says of a package that a simulation names, however the key spells its architecture.
fn declared<'a>(doc: &'a Desired, name: &str) -> Option<&'a PackageSpec> {
    let plain = plain_name(name);
    doc.packages.get(name).or_else(|| doc.packages.get(plain))
}

fn is_removed(doc: &Desired, name: &str) -> bool {
    declared(doc, name).is_some_and(|spec| spec.ensure == Some(PackageEnsure::Removed))
}

fn is_kept(doc: &Desired, name: &str) -> bool {
    declared(doc, name)
        .is_some_and(|spec| matches!(spec.ensure, Some(PackageEnsure::Installed | PackageEnsure::Latest)))
}

/// The step that a package's differences ask for.
pub(super) fn package_action(doc: &Desired, name: &Name, spec: &PackageSpec, observed: &Observed) -> Action {
    let facts = observed.packages.get(name);
    let offer = facts.map(|facts| &facts.offer);
    let (version, id, downgrade) = match offer {
        Some(Offer::Version { version, id, downgrade }) => (version.clone(), id.clone(), *downgrade),
        _ => (String::new(), String::new(), false),
    };
    let removes = spec.ensure == Some(PackageEnsure::Removed);
    let foreseen = facts.and_then(|facts| facts.outlook.as_ref()).map(|outlook| outlook.removes.iter().cloned());
    let change = Arc::new(PackageChange {
        spec: Arc::new(spec.clone()),
        version: if removes { String::new() } else { version },
        id: if removes { String::new() } else { id },
        allow_untrusted: doc.package_settings.allow_untrusted,
        may_remove: foreseen.into_iter().flatten().collect(),
    });
    let there = facts.is_some_and(|facts| facts.is_installed());
    let op = match (removes, there, downgrade) {
        (true, ..) => PackageOp::Remove(change),
        (_, false, _) => PackageOp::Install(change),
        (_, true, true) => PackageOp::Downgrade(change),
        (_, true, false) => PackageOp::Update(change),
    };
    Action::Package(name.clone(), op)
}

/// The packages that a unit waits for, whether its entry names them or not: it is not there, and they may bring it.
#[must_use]
pub fn awaited_packages(
    doc: &Desired,
    id: &ResourceId,
    assessment: &Assessment,
    observed: &Observed,
    inventory: &Inventory,
) -> BTreeSet<ResourceId> {
    let missing = id.kind == Kind::Unit && !assessment.present && assessment.blocked.is_none();
    let spec = doc.units.get(&id.name).filter(|_| missing && inventory.proxmox_unit(&id.name).is_none());
    let bringers = spec.map(|spec| bringers_of_unit(doc, spec, observed)).unwrap_or_default();
    bringers.into_iter().map(ResourceId::package).collect()
}

/// The packages of the document that may bring the file of a unit that is not there: those that it comes after, or any
/// where its entry names none, as far as they are yet to be installed and nothing stands in their way. A unit that shall
/// neither run nor start at boot needs no file.
pub(super) fn bringers_of_unit(doc: &Desired, spec: &UnitSpec, observed: &Observed) -> BTreeSet<Name> {
    let wanted =
        spec.active_state == Some(ActiveState::Active) || spec.enabled == Some(true) || !spec.properties.is_empty();
    if !wanted || doc.packages.is_empty() {
        return BTreeSet::new();
    }
    let named: BTreeSet<&Name> =
        spec.common.after.iter().filter(|id| id.kind == Kind::Package).map(|id| &id.name).collect();
    let candidates = doc.packages.iter().filter(|(name, _)| named.is_empty() || named.contains(name));
    candidates
        .filter(|(name, package)| {
            let assessment = assess_package(doc, name, package, observed);
            package.ensure != Some(PackageEnsure::Removed)
                && !assessment.differences.is_empty()
                && assessment.blocked.is_none()
                && observed.is_connected("packagekit")
        })
        .map(|(name, _)| name.clone())
        .collect()
}

/// What is done before systemd reads its unit files again: packages, and whatever they wait for; but not those that
/// wait for a unit or a container themselves, whose start may need that reading.
pub(super) fn before_reload(dependencies: &Dependencies) -> BTreeSet<ResourceId> {
    let mut out = BTreeSet::new();
    for id in dependencies.keys().filter(|id| id.kind == Kind::Package) {
        let all = all_before(dependencies, id);
        if all.iter().all(|before| !matches!(before.kind, Kind::Unit | Kind::Container)) {
            out.insert(id.clone());
            out.extend(all.into_iter().cloned());
        }
    }
    out
}

/// All that a resource waits for, by however many others between.
fn all_before<'d>(dependencies: &'d Dependencies, id: &ResourceId) -> BTreeSet<&'d ResourceId> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&ResourceId> = dependencies.get(id).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if seen.insert(next) {
            open.extend(dependencies.get(next).into_iter().flatten());
        }
    }
    seen
}
