//! The section `packagekit`.

use crate::{
    desired::{
        fault::code,
        names,
        node::Node,
        packages::{PackageEnsure, PackageSpec, Refresh},
        place::{At, Faults, quoted},
    },
    model::ResourceId,
};

use super::{
    Decoded, common,
    fields::{Fields, entries},
    value::{Word, boolean, good_name, name, text},
};

/// Reads the section.
pub(super) fn section(node: &Node<'_>, at: &At<'_>, faults: &mut Faults, decoded: &mut Decoded) -> Option<()> {
    decoded.names_lost |= !matches!(node, Node::Object(_));
    let mut fields = Fields::open(node, at, faults)?;
    decoded.document.package_settings.refresh = fields.read("refresh", refresh).unwrap_or_default();
    decoded.document.package_settings.allow_untrusted = fields.read("allow_untrusted", boolean).unwrap_or_default();
    fields.read("packages", |node, at, faults| {
        let packages = entries(node, at, faults);
        decoded.names_lost |= packages.is_none();
        for (name, node) in packages? {
            let at = at.key(name);
            let good = good_name(name, names::package, &at, faults);
            let who = ResourceId::package(name);
            let spec = package(good.then_some(&who), name, node, &at, faults, decoded).unwrap_or_default();
            if good {
                decoded.document.packages.insert(who.name, spec);
            } else {
                decoded.refused.insert(who);
            }
        }
        Some(())
    });
    fields.close();
    Some(())
}

/// Reads a package's entry.
fn package(
    who: Option<&ResourceId>,
    key: &str,
    node: &Node<'_>,
    at: &At<'_>,
    faults: &mut Faults,
    decoded: &mut Decoded,
) -> Option<PackageSpec> {
    let before = faults.count();
    let mut fields = Fields::open(node, at, faults)?;
    let spec = PackageSpec {
        ensure: fields.read("ensure", PackageEnsure::read),
        version: fields.read("version", |node, at, faults| name(node, names::version, at, faults)).map(str::to_owned),
        allow_downgrade: fields.read("allow_downgrade", boolean).unwrap_or_default(),
        allow_remove_others: fields.read("allow_remove_others", boolean).unwrap_or_default(),
        arch: fields.read("arch", |node, at, faults| name(node, names::arch, at, faults)).map(str::to_owned),
        common: common(&mut fields, who, decoded),
    };
    fields.close();
    if faults.count() == before {
        check(key, &spec, at, faults);
    }
    Some(spec)
}

/// Checks an entry by itself.
fn check(key: &str, spec: &PackageSpec, at: &At<'_>, faults: &mut Faults) {
    if spec.version.is_some() && spec.ensure != Some(PackageEnsure::Installed) {
        faults.add(&at.key("version"), code::CONTRADICTION, || {
            "a version is wanted only of what shall be installed: say \"ensure\": \"installed\", or take version away"
                .to_owned()
        });
    }
    if spec.allow_downgrade && spec.version.is_none() {
        faults.add(&at.key("allow_downgrade"), code::CONTRADICTION, || {
            "only a wanted version can be an older one: say which version, or take allow_downgrade away".to_owned()
        });
    }
    if spec.allow_remove_others && spec.ensure.is_none() {
        faults.add(&at.key("allow_remove_others"), code::CONTRADICTION, || {
            "a package that is only looked at takes none with it: say ensure, or take allow_remove_others away"
                .to_owned()
        });
    }
    if spec.arch.is_some() && key.contains(':') {
        faults.add(&at.key("arch"), code::CONTRADICTION, || {
            format!("{} names the architecture already: take arch away", quoted(key))
        });
    }
}

/// Reads when lists are fetched anew.
fn refresh(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Refresh> {
    let given = text(node, at, faults)?;
    let read = Refresh::read(given);
    if read.is_none() {
        faults.add(at, code::OUT_OF_RANGE, || {
            format!(
                "{} is not \"never\", \"before-apply\", or an age such as \"30min\", \"12h\", \"7d\"",
                quoted(given)
            )
        });
    }
    read
}
