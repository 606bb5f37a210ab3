//! What changes would bring with them, by PackageKit's own simulation.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    client::{Call, Client, TransactionError},
    database::Installed,
    wire::{self, Found, Info},
};
use crate::{
    model::{Name, Outlook, Reason},
    plan::is_vital_package,
};

/// Changes that are simulated each alone, to tell which of them brings what. Of more, each bears what all bring.
const MOST_ALONE: usize = 64;

/// Whether packages come or go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Installed, updated or downgraded.
    In,
    /// Removed.
    Out,
}

/// A change: the entry's key, and PackageKit's id of what comes or goes.
pub(super) type Wanted = BTreeMap<Name, String>;

/// Simulates changes of one direction.
///
/// # Errors
/// Where PackageKit could not be asked. That it says no is an answer.
pub(super) async fn foresee(
    client: &Client,
    direction: Direction,
    wanted: &Wanted,
    installed: &Installed,
    allow_untrusted: bool,
) -> Result<BTreeMap<Name, Outlook>, TransactionError> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let all = wanted.values().cloned().collect::<Vec<_>>();
    let joint = simulate(client, direction, &all, installed, allow_untrusted).await?;
    let plain = joint.installs.is_empty() && joint.removes.is_empty() && joint.refused.is_none();
    if wanted.len() == 1 || plain || wanted.len() > MOST_ALONE {
        return Ok(wanted.keys().map(|key| (key.clone(), joint.clone())).collect());
    }
    let mut out = BTreeMap::new();
    for (key, id) in wanted {
        let mut alone = simulate(client, direction, std::slice::from_ref(id), installed, allow_untrusted).await?;
        // What is wanted anyway comes or goes by itself.
        let named: BTreeSet<&str> = wanted.values().map(|id| name_of(id)).collect();
        alone.removes.retain(|name| direction == Direction::In || !named.contains(&**name));
        alone.installs.retain(|name| direction == Direction::Out || !named.contains(&**name));
        out.insert(key.clone(), alone);
    }
    // What cannot be done at all is out of it: the rest may still stand in each other's way.
    let feasible: Wanted = wanted
        .iter()
        .filter(|(key, _)| out.get(*key).is_some_and(|alone: &Outlook| alone.refused.is_none()))
        .map(|(key, id)| (key.clone(), id.clone()))
        .collect();
    let rest = match feasible.len() {
        0 | 1 => Outlook::default(),
        all if all == wanted.len() => joint,
        _ => {
            let ids: Vec<String> = feasible.values().cloned().collect();
            simulate(client, direction, &ids, installed, allow_untrusted).await?
        }
    };
    if let Some((reason, message)) = &rest.refused {
        // Each could be done, and not all of them: those that PackageKit names, or any, stand in each other's way.
        let is_named = |id: &str| message.split(|letter: char| !is_name(letter)).any(|word| word == name_of(id));
        let any_named = feasible.values().any(|id| is_named(id));
        for (key, id) in &feasible {
            if let Some(alone) = out.get_mut(key).filter(|_| !any_named || is_named(id)) {
                alone.refused = Some((*reason, message.clone()));
            }
        }
    }
    Ok(out)
}

/// Simulates these changes together.
pub(super) async fn simulate(
    client: &Client,
    direction: Direction,
    ids: &[String],
    installed: &Installed,
    allow_untrusted: bool,
) -> Result<Outlook, TransactionError> {
    let call = match direction {
        Direction::In => Call::Install(ids, wire::FLAG_SIMULATE | wire::FLAG_ALLOW_DOWNGRADE),
        Direction::Out => Call::Remove(ids, wire::FLAG_SIMULATE),
    };
    match client.ask(call).await {
        Ok(told) => Ok(read(&told.packages, ids, installed, allow_untrusted)),
        Err(TransactionError::Failed { reason, message, .. }) => {
            Ok(Outlook { refused: Some((reason, message)), ..Outlook::default() })
        }
        Err(error) => Err(error),
    }
}

/// Reads what a simulation told.
fn read(told: &[Found], ids: &[String], installed: &Installed, allow_untrusted: bool) -> Outlook {
    let named: BTreeSet<&str> = ids.iter().map(|id| name_of(id)).collect();
    let others = |info: Info| {
        let all: BTreeSet<&str> =
            told.iter().filter(|found| found.info == info).map(|found| found.name.as_str()).collect();
        all.into_iter().filter(|name| !named.contains(name)).map(Name::from).collect::<Vec<_>>()
    };
    let removes = others(Info::Removing);
    let is_vital =
        |name: &&Name| is_vital_package(name) || installed.find(name, None).is_some_and(|entry| entry.essential);
    let untrusted: BTreeSet<&str> =
        told.iter().filter(|found| found.info == Info::Untrusted).map(|found| found.name.as_str()).collect();
    let refused = (!untrusted.is_empty() && !allow_untrusted).then(|| {
        let list = untrusted.into_iter().collect::<Vec<_>>().join(", ");
        let text =
            format!("the origin of {list} cannot be verified: sign the repository, or say \"allow_untrusted\": true");
        (Reason::UntrustedPackage, text)
    });
    Outlook {
        vital: removes.iter().filter(is_vital).cloned().collect(),
        installs: others(Info::Installing),
        removes,
        refused,
    }
}

/// The name in an id.
pub(super) fn name_of(id: &str) -> &str {
    id.split(';').next().unwrap_or(id)
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '+' | '.' | '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::packagekit::database::Entry;

    #[test]
    fn what_a_simulation_tells_is_sorted() {
        let told = [
            (12, "needs;1.0;all;+manual:local"),
            (12, "alpha;2.0;all;+auto:local"),
            (13, "old;1.0;all;manual:local"),
            (13, "bash;5.2;amd64;manual:local"),
            (13, "dbus-broker;33;amd64;manual:local"),
            (23, "alpha;2.0;all;+auto:local"),
        ];
        let told: Vec<Found> = told.iter().map(|(info, id)| Found::read(*info, id, "").unwrap()).collect();
        let bash = Entry { essential: true, ..Entry::default() };
        let installed = Installed { packages: [("bash".to_owned(), vec![bash])].into(), ..Installed::default() };
        let ids = ["needs;1.0;all;".to_owned()];
        let outlook = read(&told, &ids, &installed, true);
        assert_eq!(outlook.installs, [Name::from("alpha")]);
        assert_eq!(outlook.removes, ["bash", "dbus-broker", "old"].map(Name::from));
        assert_eq!(outlook.vital, ["bash", "dbus-broker"].map(Name::from));
        assert_eq!(outlook.refused, None);
        let outlook = read(&told, &ids, &installed, false);
        assert!(matches!(outlook.refused, Some((Reason::UntrustedPackage, text)) if text.contains("alpha")));
    }
}
